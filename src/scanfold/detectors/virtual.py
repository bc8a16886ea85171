"""Pass B: contrast maps and centres of mass of every frame, from one more read of the scan."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import xarray as xr

from scanfold import _apply
from scanfold.conventions import InputError, Var, record, table
from scanfold.detectors.columns import BlockMaps, CountColumns, Layout, SignalColumns, constants_of
from scanfold.detectors.derive import require_device
from scanfold.detectors.frames import AXES, frames_of, pixel_steps
from scanfold.detectors.gates import ring_limits
from scanfold.detectors.labels import LabelsLike
from scanfold.detectors.parts import Finish, add_parts, like_scan, own_gate, scan_map, scan_shift
from scanfold.detectors.projection import Projection
from scanfold.detectors.templates import require

WHITEN = ("none", "diag")
_MAP, _DET, _CLU = ("...",), ("...", "detector"), ("...", "cluster")
VARIABLES = (
    Var("score", _CLU, "float32", "contrast: matched filter with the template of each cluster"),
    Var("total", _DET, "float64", "counts in the detector", "count"),
    Var("com_y", _DET, "float64", "centre of mass along ky, from the centre of the beam", ancillary=("com_y_stderr",)),
    Var("com_x", _DET, "float64", "centre of mass along kx, from the centre of the beam", ancillary=("com_x_stderr",)),
    Var("com_y_stderr", _DET, "float64", "standard error of com_y from counting statistics"),
    Var("com_x_stderr", _DET, "float64", "standard error of com_x from counting statistics"),
    Var("gate_total", _CLU, "float64", "counts in the gate of each cluster", "count"),
    Var("gate_com_y", _CLU, "float64", "centre of mass along ky in the gate of each cluster"),
    Var("gate_com_x", _CLU, "float64", "centre of mass along kx in the gate of each cluster"),
    Var("frame_valid", _MAP, "bool", "frame is finite and has counts"),
    Var("residual", _MAP, "float32", "mean square of the normalised frame that no template explains"),
)
_BY_NAME = {v.name: v for v in VARIABLES}


def virtual_maps(
    scan: xr.Dataset | xr.DataArray,
    tmpl: xr.Dataset,
    gates: xr.Dataset,
    *,
    labels: LabelsLike | None = None,
    whiten: str = "diag",
    roi: Sequence[float | None] | None = None,
    disc: float | Sequence[float] | None = None,
    dose: xr.DataArray | None = None,
    descan: xr.DataArray | None = None,
    residual: bool = False,
    device: str = "cpu",
) -> xr.Dataset:
    r"""Make contrast maps and centres of mass of every frame, in one read (pass B).

    .. math:: S_c(i) = \sum_k T_c(k) \frac{P_i(k) - \mu(k)}{\sigma(k) + \varepsilon}, \qquad
              C_a(i) = \frac{\sum_k k_a G(k) I_i(k)}{\sum_k G(k) I_i(k)}

    with the preprocessed frames :math:`P` in scores (without the denominator for ``whiten="none"``) and the plain
    counts :math:`I` in centres of mass, which are relative to the centre of the beam, in the units of ``ky, kx``.

    Parameters
    ----------
    scan : Dataset or DataArray
        Frames ``(*scan, ky, kx)``: the scan of the statistics, or another from the same detector.
    tmpl : Dataset
        Of `templates`; the preprocessing of its statistics is applied to the scan.
    gates : Dataset
        Of `gates`.
    labels : optional
        Cluster of each position. Given, the detectors ``adaptive`` are added: the gate of the position's own
        cluster, the union for noise and labels without a gate.
    whiten : {"diag", "none"}
        Divide by the deviation in scores.
    roi : (float, float), optional
        Ring about the beam that cuts the gates in centres of mass, in pixels.
    disc : float or (float, float), optional
        Radius, or inner and outer radius, of the detector ``disc`` in pixels; otherwise 1.25 times the radius of
        the beam, which is where the mean pattern is above half of its maximum.
    dose : DataArray, optional
        As in `cluster_statistics`, for this scan; needed if the statistics had one.
    descan : DataArray, optional
        Shift of the beam at each position in pixels, dims ``(*scan, axis)``, subtracted from centres of mass; see
        `scanfold.detectors.descan`.
    residual : bool
        Add the map ``residual``, about 1 where the templates explain all but noise like that of the whole scan.
    device : str
        "cpu", or "cuda:0" to multiply with CuPy (extra ``gpu``): tested against a stand-in, not yet on a GPU.

    Returns
    -------
    Dataset
        Over the scan dims. Along ``detector``: ``ungated``, ``disc``, ``union``, ``union_response`` and, with
        labels, ``adaptive``, ``adaptive_response``. In those with ``response``, what moves the gated centre of mass
        but is no shift of the pattern is taken back by the response of the gate (see `gates`).

    Raises
    ------
    InputError
        If templates, gates, labels, dose or descan do not fit the scan.

    Notes
    -----
    Do not trust ``adaptive`` alone. Each cluster is looked at through another gate, so that with no true shift at all
    its map reproduces the labels, as a field of about a pixel: compare it with ``disc``, which every map has.

    {table}

    Examples
    --------
    >>> from scanfold import detectors as det
    >>> rng = np.random.default_rng(0)
    >>> scan = xr.DataArray(rng.poisson(9, (4, 5, 9, 9)), dims=("y", "x", "ky", "kx")).chunk(y=2)
    >>> stats = det.cluster_statistics(scan, rng.integers(0, 2, (4, 5)), center=(4, 4)).compute()
    >>> tmpl = det.templates(stats)
    >>> maps = virtual_maps(scan, tmpl, det.gates(tmpl, top_percent=20), disc=3)
    >>> maps["score"].dims, list(maps["detector"].values)
    (('y', 'x', 'cluster'), ['ungated', 'disc', 'union', 'union_response'])
    """
    array, dims = frames_of(scan)
    require_device(device)
    _require_fit(array, tmpl, gates)
    options = json.loads(tmpl.attrs.get("preprocess", "{}"))
    if whiten not in WHITEN:
        raise InputError(f"whiten={whiten!r}; expected one of {', '.join(WHITEN)}")
    if residual and whiten != "diag":
        raise InputError('residual=True compares frames in units of their deviation; it needs whiten="diag"')
    if bool(options.get("dose")) != (dose is not None):
        raise InputError("the statistics were made with dose; pass that of this scan" if dose is None
                         else "the statistics were made without dose; make them with it too")  # fmt: skip
    layout = Layout(tmpl.sizes["cluster"], bool(labels is not None), residual, descan is not None)
    weights, constants = _prologue(tmpl, gates, layout, whiten, ring_limits(roi, "roi"), _disc(disc), options)
    given = _positions(array, dims, labels, dose, descan, gates)
    annulus = options.get("annulus")
    projection = Projection(
        bool(options.get("log")), dose is not None, tuple(annulus) if annulus else None, residual, device
    )
    second = _apply.read_again(array) if tmpl["template"].chunks is not None else array
    doses = [given["dose"]] if dose is not None else []
    steps, units = pixel_steps(array)
    arrays = (constants, *(given[n] for n in ("gate", "descan") if n in given))
    picked = tuple((columns, _BY_NAME[name].dtype) for name, columns in layout.cuts.items())
    finish = Finish(BlockMaps(layout, steps), arrays, layout.width, picked)
    maps = add_parts(
        lambda origin: projection, second, *weights, tmpl["valid"], positions=doses, finish=finish,
        width=sum(c.sizes["n"] for c in weights) - residual, token=json.dumps(asdict(projection)),
    )  # fmt: skip
    ds = _dataset(dict(zip(layout.cuts, maps, strict=True)), layout, array, tmpl, units)
    ds.attrs = {"provenance": record(
        "virtual_maps", {"scan": array, "template": tmpl["template"], "gate": gates["gate"]},
        {"whiten": whiten, "roi": roi, "disc": disc, "residual": residual, "device": device},
        preprocess=options,
    )}  # fmt: skip
    return ds


def _require_fit(array: xr.DataArray, tmpl: xr.Dataset, gates: xr.Dataset) -> None:
    require(tmpl, ("template", "scale", "used", "center", "mean"), "templates")
    require(gates, ("gate", "union", "response"), "gates")
    shape = tuple(array.sizes[d] for d in AXES)
    for name, made in (("templates", tmpl), ("gates", gates)):
        found = tuple(made.sizes[d] for d in AXES)
        if found != shape:
            raise InputError(f"{name} are of {found[0]} × {found[1]} pixels, the frames of {shape[0]} × {shape[1]}")
    if tmpl.sizes["cluster"] != gates.sizes["cluster"]:
        raise InputError(
            f"{tmpl.sizes['cluster']} templates and {gates.sizes['cluster']} gates; make both from the same"
        )


def _disc(disc: float | Sequence[float] | None) -> tuple[float, float] | None:
    """Return inner and outer radius; a negative inner one for a disc."""
    if disc is None:
        return None
    if isinstance(disc, Sequence | np.ndarray):
        inner, outer = ring_limits(tuple(disc), "disc")
        return (inner if inner > 0 else -1.0), outer
    if not (np.isfinite(disc) and disc > 0):
        raise InputError(f"disc={disc!r}; expected a radius in pixels, or (inner, outer)")
    return -1.0, float(disc)


def _prologue(
    tmpl: xr.Dataset, gates: xr.Dataset, layout: Layout, whiten: str, roi: tuple[float, float],
    disc: tuple[float, float] | None, options: dict[str, Any],
) -> tuple[tuple[xr.DataArray, xr.DataArray], xr.DataArray]:  # fmt: skip
    """Make the columns of weights for signal and counts, and the constants that finishing needs."""
    token = json.dumps([asdict(layout), whiten, roi, disc, options], default=float)
    sizes = {d: tmpl.sizes[d] for d in AXES}
    signal = _apply.apply_whole(
        SignalColumns(whiten == "diag", layout.residual), tmpl["template"], tmpl["scale"], tmpl["used"], tmpl["mean"],
        output={**sizes, "n": layout.clusters + 2 * layout.residual}, token="signal" + token, dtype="float32",
    )  # fmt: skip
    counts = _apply.apply_whole(
        CountColumns(roi, disc), gates["gate"], tmpl["valid"], tmpl["center"], tmpl["mean_counts"],
        output={**sizes, "n": layout.counts}, token="counts" + token, dtype="float32",
    )  # fmt: skip
    constants = _apply.apply_whole(
        constants_of, signal, tmpl["mean"], tmpl["used"], counts, tmpl["mean_counts"], tmpl["valid"], tmpl["template"],
        output={"row": layout.clusters + 1, "constant": 8 + layout.clusters}, token="constants" + token,
    )  # fmt: skip
    return (signal, counts), constants


def _positions(
    array: xr.DataArray, dims: tuple[Any, ...], labels: LabelsLike | None, dose: Any, descan: Any, gates: xr.Dataset
) -> dict[str, xr.DataArray]:
    """Return what goes with each position: the number of its gate, its dose, its descan."""
    given: dict[str, xr.DataArray] = {}
    if labels is not None:
        given["gate"] = own_gate(labels, gates, array, dims)
    if dose is not None:
        given["dose"] = scan_map(dose, array, dims, "dose")
    if descan is not None:
        given["descan"] = scan_shift(descan, array, dims)
    return {name: like_scan(values, array, dims) for name, values in given.items()}


def _dataset(
    maps: dict[str, xr.DataArray], layout: Layout, array: xr.DataArray, tmpl: xr.Dataset, units: str
) -> xr.Dataset:
    """Name the maps, and say what they are."""
    made: dict[str, xr.Variable] = {}
    for name, values in maps.items():
        spec = _BY_NAME[name]
        core = [d for d in spec.dims if d != "..."]
        if core:
            values = values.rename(column=core[0])
        made[name] = spec.make(values).variable
        if "com" in name:
            made[name].attrs["units"] = units
    ds = xr.Dataset(made).assign_coords({n: c for n, c in array.coords.items() if not set(c.dims) & set(AXES)})
    return ds.assign_coords(detector=("detector", np.array(layout.detectors, object)), cluster=tmpl["cluster"].variable)


virtual_maps.__doc__ = (virtual_maps.__doc__ or "").replace("{table}", table(VARIABLES).replace("\n", "\n    "))
