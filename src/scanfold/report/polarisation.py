"""`polarisation_report`: the folder of a polarisation map on one self-contained page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from scanfold._markup import Markup, element, image, page, section, table
from scanfold._paths import file_target, write_whole
from scanfold.conventions import InputError
from scanfold.report.figures import ROOM
from scanfold.runs import open_store

#: Figures in the order of the page, with what they show.
_FIGURES = {
    "montage_templates": "Mean pattern, template and gate of each cluster",
    "contrast_maps": "Contrasts, most likely cluster and confidence",
    "hsv_polarisation": "Direction (hue) and magnitude (brightness) of the field",
    "DPC_quiver": "Field of the chosen detector",
    "DPC_quiver_disc": "Field of the disc about the beam",
    "com_components": "Centre of mass of every detector, less its baseline",
    "confidence": "Confidence of the assignment",
    "split_half": "Templates of two disjoint halves, against shuffled labels",
    "derived": "What derives from the field of the disc",
}


def polarisation_report(folder: str | Path, path: str | Path | None = None) -> Path:
    """Write a page about a polarisation map: what was made, how, and what speaks for it.

    Parameters
    ----------
    folder : path
        The ``out`` of `scanfold.detectors.polarisation_map`.
    path : path, optional
        Of the page; ``report.html`` in the folder if not given.

    Returns
    -------
    Path
        Of the page; it is smaller than 5 MB and loads nothing.

    Raises
    ------
    InputError
        If the folder holds no finished polarisation map, or the page cannot be written there.
    """
    out = Path(folder)
    log = out / "logs/run.json"
    if not log.exists():
        raise InputError(f"{out} holds no polarisation map; pass the folder that was given as out")
    run = json.loads(log.read_text(encoding="utf-8"))
    target = file_target(out / "report.html" if path is None else path)
    if run.get("state") != "complete":
        raise InputError(f"the polarisation map in {out} is not finished; run the same lines again")
    maps = open_store(out / "polar_map.zarr")
    notes = [element("p", note) for note in run["notes"]] or [element("p", "None.")]
    content = [
        element("header", element("h1", "Polarisation map"), element("p", f"Made {run['timestamp']}.", class_="note")),
        section("What was noted", *notes),
        section("Clusters", _clusters(maps)),
        section("Detectors", *_detectors(maps)),
        section("Pictures", *_pictures(out)),
        section("How it was made", *_recipe(run)),
    ]
    write_whole(target, page(f"Polarisation map of {out.name}", *content).encode())
    return target


def _clusters(maps: xr.Dataset) -> Markup:
    head = ["cluster", "frames", "gate covers", "nominal"]
    kinds = ("", "_other", "_shuffled")
    names = [n + kind for n in ("correlation", "ssim") for kind in kinds if n + kind in maps]
    columns = maps[["frames", "coverage", "coverage_nominal", *names]].compute()
    rows = []
    for number, label in enumerate(maps["cluster"].values):
        one = columns.isel(cluster=number)
        covers = [f"{float(one[n]):.0%}" for n in ("coverage", "coverage_nominal")]
        rows.append([int(label), float(one["frames"].sum()), *covers, *(float(one[n]) for n in names)])
    return table([*head, *(n.replace("_", ", ") for n in names)], rows)


def _detectors(maps: xr.Dataset) -> list[Markup]:
    """Return how far the labels explain what each detector finds, and how it did on shifts that are known."""
    planted = [n for n in ("planted_rms_error", "planted_slope", "null_rms_error", "null_label_spread") if n in maps]
    columns = maps[["label_share", *planted]].compute()
    rows = [
        [str(name), *(float(columns[n].sel(detector=name)) for n in ("label_share", *planted))]
        for name in maps["detector"].values
    ]
    text = (
        "The labels explain this share of the variance of the centre of mass. A field need not know of the labels; "
        "a detector whose gate depends on them does: where adaptive has a large share and disc a small one, the "
        "adaptive map shows the labels. Planted shifts are 0.5 pixels, of the null test 0; errors are in pixels."
    )
    head = ("detector", "share of the labels", *(n.replace("_", " ") for n in planted))
    return [table(head, rows), element("p", text, class_="note")]


def _pictures(out: Path) -> list[Markup]:
    room, parts = ROOM, []
    for name, text in _FIGURES.items():
        path = out / f"figures/{name}.png"
        if not path.exists():
            continue
        data = path.read_bytes()
        if len(data) > room:
            parts.append(element("p", f"{text}: {path.name} is too large for this page", class_="note"))
            continue
        room -= len(data)
        parts += [element("h3", text), image(data, text)]
    return parts


def _recipe(run: Mapping[str, Any]) -> list[Markup]:
    source = run["scan"].get("source", {})
    rows = [["scan", source.get("path", "an array")], ["dimensions", " × ".join(map(str, run["scan"]["shape"]))],
            ["labels", run["labels"]], ["centre (ky, kx)", ", ".join(f"{v:.2f}" for v in run["center"])],
            ["mean confidence", f"{run['mean_confidence']:.3f}"], ["command", " ".join(run["command_line"])],
            *([name, f"{value:.1f} s"] for name, value in run["timings"].items()),
            *([name, value] for name, value in run["versions"].items())]  # fmt: skip
    keys = [[f"{section}.{name}", json.dumps(value)] for section, keys in run["config"].items()
            for name, value in keys.items()]  # fmt: skip
    return [table(("", ""), rows), element("details", element("summary", "The configuration"), table(("", ""), keys))]
