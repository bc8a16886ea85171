"""From a scan and labels to a folder of maps: the two passes, and everything made from them."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xarray as xr

from scanfold._paths import local
from scanfold.conventions import InputError, describe_input, record
from scanfold.detectors import derive, interactive, outputs
from scanfold.detectors.assignment import assign
from scanfold.detectors.baseline import subtract_baseline
from scanfold.detectors.calibration import descan
from scanfold.detectors.clustering import cluster
from scanfold.detectors.columns import DISC
from scanfold.detectors.com import center_of_mass
from scanfold.detectors.config import Config, check, resolve
from scanfold.detectors.field import electric_field
from scanfold.detectors.frames import AXES, beam_radius, frames_of, given_center
from scanfold.detectors.gates import gates
from scanfold.detectors.labels import LabelsLike
from scanfold.detectors.statistics import cluster_statistics
from scanfold.detectors.templates import templates
from scanfold.detectors.validation import planted_shifts, split_half
from scanfold.detectors.virtual import virtual_maps
from scanfold.runs import save, writing
from scanfold.runs.writers import only_writer


def polarisation_map(
    scan: xr.Dataset | xr.DataArray,
    labels: LabelsLike | int,
    config: Mapping[str, Any] | str | os.PathLike[str] | None,
    out: str | os.PathLike[str],
    *,
    device: str = "cpu",
    interactive_center: bool = False,
    interactive_kspace: bool = False,
    known_spacing: float | None = None,
    resume: bool = True,
    progress: bool = True,
) -> xr.Dataset:
    """Make templates, gates, contrast maps and fields of a scan, and write them to a folder.

    The scan is read twice (once more for descan, for labels that are made here, and to click with an annulus). Both
    passes are resumed where they were interrupted; workers are those of the current ``distributed.Client``.

    Parameters
    ----------
    scan : Dataset or DataArray
        Frames ``(*scan, ky, kx)``.
    labels : DataArray, array or path; or int
        Cluster of each position, -1 for noise; or in how many clusters to sort the frames with `cluster`.
    config : mapping, path or None
        Sections of keys, as in YAML; those left out have their defaults. ``scanfold polar-map --help-config`` prints
        them all, with what they mean.
    out : path
        Folder to write. What is there of the same run is resumed.
    device : str
        "cpu", or "cuda:0" for products with CuPy, which have not been tried on a GPU yet.
    interactive_center : bool
        Click the centre of the beam on the mean pattern, unless the configuration gives it.
    interactive_kspace : bool
        Click two opposite reflections or the boundaries of a ring, unless the configuration has a pixel_size.
    known_spacing : float, optional
        Of what is clicked, in Å; without it the clicked radius becomes 1.
    resume : bool
        False starts over, replacing what an earlier run left in `out`.
    progress : bool
        Show how far it is.

    Returns
    -------
    Dataset
        Everything, as in ``polar_map.zarr``: it can be passed as templates and as gates to `virtual_maps`.

    Raises
    ------
    InputError
        Before the first pass, if scan, labels or configuration cannot be used, the folder cannot be written, or
        holds another run.
    RunError
        If another run is writing to the folder.

    Notes
    -----
    The folder has ``kspace/``, ``realspace/``, ``figures/``, ``logs/`` and ``polar_map.zarr``. ``Ex, Ey, E_mag,
    E_angle`` and ``com_x, com_y`` (raw, with their baseline) are of ``dpc.gate_mode``; all detectors stand beside them
    under their names, such as ``Ex_disc.tif``. ``scanfold.report.polarisation.polarisation_report(out)`` writes a page
    about it all, as the command does. With ``adaptive`` each cluster is looked at through another gate, so
    that its map shows the labels as a field even where there is none: compare it with ``disc``.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> frames = np.random.default_rng(0).poisson(9, (4, 5, 16, 16)).astype("uint16")
    >>> frames[:2, :, 2:5] += 9
    >>> scan = xr.DataArray(frames, dims=("y", "x", "ky", "kx"))
    >>> small = {"templates": {"roi_r": [0, 7]}, "dpc": {"roi": [0, 7]}, "preprocess": {"central_mask_px": 0}}
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     maps = polarisation_map(scan, np.arange(20) // 10, small, tempfile.mkdtemp(), progress=False)
    >>> maps["Ex"].dims
    ('y', 'x', 'detector')
    """
    clicks = (interactive_center, interactive_kspace)
    run = _Run(scan, labels, resolve(config), local(out, "folders of maps"), device, known_spacing, resume, progress)
    run.check(clicks)
    run.folder.prepare()
    with only_writer(run.folder.path, run.folder.hidden / "lock"):
        return run.everything(clicks)


@dataclass
class _Run:
    scan: Any
    labels: Any
    options: Config
    out: Path
    device: str
    known_spacing: float | None
    resume: bool
    progress: bool
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.array, self.dims = frames_of(self.scan)
        self.shape = (self.array.sizes["ky"], self.array.sizes["kx"])
        self.folder = outputs.Folder(self.out)

    def check(self, clicks: tuple[bool, bool]) -> None:
        """Raise for all that can be known to be wrong before anything is read or written."""
        check(self.options, self.shape, tuple(self.array.sizes[d] for d in self.dims))
        derive.require_device(self.device)
        center = given_center(self.center, self.array)
        middle = [(n - 1) / 2 for n in self.shape]
        derive.require_units(derive.calibrated(self.array, self.options, middle if center is None else center.values),
                             self.options)  # fmt: skip
        if self.known_spacing is not None and not clicks[1]:
            raise InputError("known_spacing is that of what is clicked; add interactive_kspace (--interactive-kspace)")
        if any(clicks):
            interactive.require_display(waiting=True)
        if isinstance(self.labels, int):
            cluster(self.array, self.labels)
        else:
            self.statistics()

    @property
    def center(self) -> tuple[float, float] | None:
        """The centre that the configuration gives."""
        given = self.options["calibration"]
        return None if given["center_y"] is None else (given["center_y"], given["center_x"])

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add to the seconds of a stage, and note what it warns of."""
        start = time.perf_counter()
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", UserWarning)
                yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
        for warning in {str(w.message): w for w in caught if issubclass(w.category, UserWarning)}.values():
            if str(warning.message) in self.notes:  # two stages may say the same
                continue
            self.notes.append(str(warning.message))
            warnings.warn(warning.message, warning.category, stacklevel=4)

    def kept(self, lazy: xr.Dataset | xr.DataArray, name: str) -> xr.Dataset:
        """Compute through a store of this name, so that an interrupted run goes on; load it here."""
        store = self.folder.hidden / f"{name}.zarr"
        return save(lazy, store, resume=self.resume, progress=self.progress).compute(scheduler="threads")

    def everything(self, clicks: tuple[bool, bool]) -> xr.Dataset:
        """Do both passes, and write all that is made from them."""
        with self.timed("labels"):
            self.find_labels()
        lazy = self.statistics()
        if not any(clicks):
            self.folder.claim(self.options, self.resume)
        with self.timed("pass_a"):
            stats = self.kept(lazy, "pass_a")
        if any(clicks):
            with self.timed("clicks"):
                stats = self.click(stats, *clicks)
            self.folder.claim(self.options, self.resume)
        maps = self.maps(stats)
        with self.timed("saving"):
            saved = save(maps, self.folder.path / "polar_map.zarr", resume=False, progress=False)
            with writing(self.folder.hidden):
                self.folder.write(maps, self.options)
        with self.timed("figures"), writing(self.folder.hidden):
            self.folder.draw(maps, self.options)
        with writing(self.folder.hidden):
            self.folder.log(self.options, self.described(maps), self.seconds, self.notes)
        return saved

    def find_labels(self) -> None:
        """Make labels where only their number is given."""
        if isinstance(self.labels, int):
            found = self.kept(cluster(self.array, self.labels), "labels")
            self.labels = found["cluster_labels"]

    def statistics(self) -> xr.Dataset:
        """Return pass A, lazily; its sums depend on the centre only with an annulus."""
        given = self.options["preprocess"]
        ring = given["background_annulus"]
        background = ("annulus", *ring) if ring else "mean" if given["background_subtract"] else None
        return cluster_statistics(
            self.array, self.labels, log=given["log_transform"], dose=derive.dose(self.array, self.dims, given["dose"]),
            background=background, bad_pixels=derive.bad_pixels(given["bad_pixels"]),
            center=self.center if ring else None, count_noise=given["count_noise"],
            shuffled=self.options["validation"]["enable_split_half"],
        )  # fmt: skip

    def click(self, stats: xr.Dataset, center: bool, kspace: bool) -> xr.Dataset:
        """Put what is clicked on the mean pattern of pass A into the options."""
        given = self.options["calibration"]
        if center and self.center is not None:
            self.notes.append("the configuration gives the centre: it was not asked for")
        elif center:
            given["center_y"], given["center_x"] = interactive.interactive_center(stats).center
        if self.center is not None:
            stats = derive.centred(stats, self.center)
        if kspace and given["pixel_size"] is not None:
            self.notes.append("the configuration has a pixel_size, which goes before clicks in k-space")
        elif kspace:
            found = interactive.interactive_kspace(stats, known_spacing=self.known_spacing).calibration
            given["pixel_size_ky"], given["pixel_size_kx"] = found["pixel_size_ky"], found["pixel_size_kx"]
            given["pixel_size_k_units"] = "relative" if self.known_spacing is None else "1/angstrom"
        return stats

    def maps(self, stats: xr.Dataset) -> xr.Dataset:
        """Return everything that pass A leads to, in memory."""
        options = self.options
        if self.center is not None:
            stats = derive.centred(stats, self.center)
        center = stats["center"].values
        scan = derive.calibrated(self.array, options, center)
        stats = stats.assign_coords({d: scan[d].variable for d in AXES if d in scan.coords})
        with self.timed("templates"):
            tmpl = templates(stats, central_mask_px=options["preprocess"]["central_mask_px"])
            made = gates(tmpl, **options["templates"])
        radius = derive.disc_radius(options, scan)
        moved = self._descan(stats, radius)
        dpc, filtering = options["dpc"], options["matched_filter"]
        with self.timed("pass_b"):
            maps = self.kept(virtual_maps(
                scan, tmpl, made, labels=self.labels, whiten=options["preprocess"]["whiten"], roi=dpc["roi"],
                disc=radius, dose=derive.dose(self.array, self.dims, options["preprocess"]["dose"]), descan=moved,
                residual=filtering["residual"], device=self.device,
            ), "pass_b")  # fmt: skip
        with self.timed("fields"):
            assigned = assign(maps, temperature=filtering["softmax_temp"], units=filtering["softmax_units"],
                              tmpl=tmpl, prior=filtering["prior"])  # fmt: skip
            flat = subtract_baseline(maps, self._baseline(), region=dpc["baseline_region"])
            angle = derive.rotation(flat, options)
            field = electric_field(flat, **derive.field_options(options), rotation=float(angle["rotation"]),
                                   flip=bool(angle["flip"]))  # fmt: skip
            more = derive.derived(flat, field, angle, options) if len(self.dims) == 2 else xr.Dataset()
        with self.timed("validation"):
            proof = self._validation(stats, tmpl, made, radius)
            proof["label_share"] = derive.label_share(flat, self.labels, self.array, self.dims)
        parts = [stats, tmpl, made, flat, assigned, field, angle, more, proof]
        everything = xr.merge(parts, combine_attrs="override", compat="override", join="exact")
        everything.attrs = {
            "preprocess": tmpl.attrs["preprocess"], "detector": dpc["gate_mode"], "config": outputs.as_yaml(options),
            "provenance": record("polarisation_map", {"scan": self.array}, options, of=maps.attrs.get("provenance")),
        }  # fmt: skip
        return everything

    def _baseline(self) -> str:
        """Return the method; rows and columns need a grid."""
        method = str(self.options["dpc"]["baseline"])
        if method == "rowcol" and len(self.dims) != 2:
            warnings.warn("baseline rowcol needs rows and columns; the median is used", stacklevel=2)
            return "median"
        return method

    def _descan(self, stats: xr.Dataset, radius: float | None) -> xr.DataArray | None:
        method = self.options["dpc"]["descan"]
        if method is None:
            return None
        with self.timed("descan"):
            bare = self.array.drop_vars([d for d in AXES if d in self.array.coords])
            disc = radius or DISC * beam_radius(stats["mean_counts"].values, stats["valid"].values)
            center = tuple(float(v) for v in stats["center"].values)
            com = center_of_mass(bare, gate=("disc", disc), center=center, bad_pixels=~stats["valid"].values)
            return descan(self.kept(com, "descan"), method)

    def _validation(self, stats: xr.Dataset, tmpl: xr.Dataset, made: xr.Dataset, radius: float | None) -> xr.Dataset:
        wanted, proof = self.options["validation"], xr.Dataset()
        if wanted["enable_split_half"]:
            proof = split_half(stats, central_mask_px=self.options["preprocess"]["central_mask_px"])
        if wanted["planted_shifts"]:
            for prefix, shift in (("planted", 0.5), ("null", 0.0)):
                found = planted_shifts(tmpl, made, shift=shift, disc=radius)
                proof = proof.merge(found.rename({n: f"{prefix}_{n}" for n in found.data_vars}))
        return proof

    def described(self, everything: xr.Dataset) -> dict[str, Any]:
        """Return what a reader of the log wants to know of the run."""
        return {
            "scan": describe_input(self.array),
            "labels": str(self.labels) if isinstance(self.labels, str | Path) else "given as an array",
            "device": self.device, "known_spacing": self.known_spacing,
            "center": [float(v) for v in everything["center"].values],
            "rotation": float(everything["rotation"]), "flip": bool(everything["flip"]),
            "clusters": [int(c) for c in everything["cluster"].values],
            "coverage": [round(float(v), 4) for v in everything["coverage"].values],
            "mean_confidence": float(everything["confidence"].mean()),
            "label_share": dict(zip(everything["detector"].values.tolist(),
                                    everything["label_share"].values.round(4).tolist(), strict=True)),
        }  # fmt: skip
