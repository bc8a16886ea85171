"""Pass B: contrast maps and centres of mass of every frame, from one more read of the scan."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import xarray as xr

from scanfold import _apply
from scanfold.conventions import InputError, Var, record, table
from scanfold.detectors.frames import AXES, Array, beam_radius, frames_of, pixel_steps, radius_map
from scanfold.detectors.gates import clipped_ring, ring_limits, slopes
from scanfold.detectors.labels import LabelsLike
from scanfold.detectors.moments import centre_of_mass, corrected, shot_noise
from scanfold.detectors.parts import add_parts, like_scan, own_gate, scan_map, scan_shift
from scanfold.detectors.projection import Projection
from scanfold.detectors.templates import require

#: The disc about the beam reaches this many times its own radius.
DISC = 1.25
#: Estimators whose frames give moments of their own; the others are made from these.
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
        "cpu", or "cuda:0" to multiply with CuPy (extra ``gpu``).

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
    from scanfold.detectors.derive import require_device  # which needs this module

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
    layout = _Layout(tmpl.sizes["cluster"], bool(labels is not None), residual, descan is not None)
    columns, constants = _prologue(tmpl, gates, layout, whiten, ring_limits(roi, "roi"), _disc(disc), options)
    given = _positions(array, dims, labels, dose, descan, gates)
    annulus = options.get("annulus")
    projection = Projection(
        bool(options.get("log")), dose is not None, tuple(annulus) if annulus else None, residual, device
    )
    second = _apply.read_again(array) if tmpl["template"].chunks is not None else array
    doses = [given["dose"]] if dose is not None else []
    raw = add_parts(
        lambda origin: projection, second, *columns, tmpl["valid"], positions=doses,
        width=sum(c.sizes["n"] for c in columns) - residual, token=json.dumps(asdict(projection)),
    )  # fmt: skip
    more = [given[n] for n in ("gate", "descan") if n in given]
    out = _apply.apply_kernel(
        _Finish(layout), raw, constants, *more,
        core_dims=[["column"], ["row", "constant"], *([str(d) for d in m.dims if d not in dims] for m in more)],
        output={"map": layout.width}, token=f"finish {asdict(layout)}",
    )  # fmt: skip
    ds = _dataset(out, layout, array, tmpl)
    ds.attrs = {"provenance": record(
        "virtual_maps", {"scan": array, "template": tmpl["template"], "gate": gates["gate"]},
        {"whiten": whiten, "roi": roi, "disc": disc, "residual": residual, "device": device},
        preprocess=options,
    )}  # fmt: skip
    return ds


@dataclass(frozen=True)
class _Layout:
    """What the columns of pass B are: of signal, of counts, and of the finished maps."""

    clusters: int
    adaptive: bool
    residual: bool
    descan: bool

    @property
    def detectors(self) -> list[str]:
        """Names of the detectors."""
        more = ["adaptive", "adaptive_response"] if self.adaptive else []
        return ["ungated", "disc", "union", "union_response", *more]

    @property
    def counts(self) -> int:
        """Columns of the counts: ungated and disc 5, the union 8, each gate 3."""
        return 18 + 3 * self.clusters

    @property
    def parts(self) -> dict[str, slice]:
        """Columns of each finished variable."""
        n, c = len(self.detectors), self.clusters
        widths = {"score": c, "total": n, "com_y": n, "com_x": n, "com_y_stderr": n, "com_x_stderr": n,
                  "gate_total": c, "gate_com_y": c, "gate_com_x": c, "frame_valid": 1,
                  "residual": int(self.residual)}  # fmt: skip
        parts, first = {}, 0
        for name, width in widths.items():
            parts[name] = slice(first, first + width)
            first += width
        return {name: part for name, part in parts.items() if part.stop > part.start}

    @property
    def width(self) -> int:
        """Number of finished columns."""
        return max(int(part.stop) for part in self.parts.values())


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
    if isinstance(disc, Sequence):
        inner, outer = ring_limits(disc, "disc")
        return (inner if inner > 0 else -1.0), outer
    if not (np.isfinite(disc) and disc > 0):
        raise InputError(f"disc={disc!r}; expected a radius in pixels, or (inner, outer)")
    return -1.0, float(disc)


def _prologue(
    tmpl: xr.Dataset, gates: xr.Dataset, layout: _Layout, whiten: str, roi: tuple[float, float],
    disc: tuple[float, float] | None, options: dict[str, Any],
) -> tuple[tuple[xr.DataArray, xr.DataArray], xr.DataArray]:  # fmt: skip
    """Make the columns of weights for signal and counts, and the constants that finishing needs."""
    token = json.dumps([asdict(layout), whiten, roi, disc, options], default=float)
    sizes = {d: tmpl.sizes[d] for d in AXES}
    signal = _apply.apply_whole(
        _SignalColumns(whiten == "diag", layout.residual), tmpl["template"], tmpl["scale"], tmpl["used"], tmpl["mean"],
        output={**sizes, "n": layout.clusters + 2 * layout.residual}, token="signal" + token, dtype="float32",
    )  # fmt: skip
    counts = _apply.apply_whole(
        _CountColumns(roi, disc), gates["gate"], tmpl["valid"], tmpl["center"], tmpl["mean_counts"],
        output={**sizes, "n": layout.counts}, token="counts" + token, dtype="float32",
    )  # fmt: skip
    constants = _apply.apply_whole(
        _constants, signal, tmpl["mean"], tmpl["used"], counts, tmpl["mean_counts"], tmpl["valid"], tmpl["template"],
        output={"row": layout.clusters + 1, "constant": 8 + layout.clusters}, token="constants" + token,
    )  # fmt: skip
    return (signal, counts), constants


@dataclass(frozen=True)
class _SignalColumns:
    diag: bool
    residual: bool

    def __call__(self, template: Array, scale: Array, used: Array, mean: Array) -> Array:
        """Return the columns (ky, kx, C) of the matched filter; then mean and weights of the residual."""
        used = used.astype(bool)
        weights = np.moveaxis(np.where(used, template / (scale if self.diag else 1.0), 0.0), 0, -1)
        if not self.residual:
            return np.ascontiguousarray(weights)
        squares = np.where(used, 1.0 / scale**2, 0.0) / max(used.sum(), 1)
        return np.concatenate([weights, np.where(used, mean, 0.0)[..., None], squares[..., None]], axis=-1)


@dataclass(frozen=True)
class _CountColumns:
    roi: tuple[float, float]
    disc: tuple[float, float] | None

    def __call__(self, gate: Array, valid: Array, center: Array, mean: Array) -> Array:
        """Return the columns (ky, kx, n) of moments: ungated 5, disc 5, union 8, each gate 3."""
        valid = valid.astype(bool)
        limits = clipped_ring(self.roi, valid.shape, center)
        radius = radius_map(valid.shape, center)
        ring = valid & (radius >= limits[0]) & (radius <= limits[1])
        inner, outer = self.disc or (-1.0, DISC * beam_radius(mean, valid))
        disc = valid & (radius > inner) & (radius <= outer)
        gate = gate * ring
        union = gate.max(axis=0)
        ky, kx = (np.arange(n) - c for n, c in zip(valid.shape, center, strict=True))
        one, ky, kx = np.ones(valid.shape), np.broadcast_to(ky[:, None], valid.shape), np.broadcast_to(kx, valid.shape)
        five, three = [one, ky, kx, ky**2, kx**2], [one, ky, kx]
        columns = [valid * k for k in five] + [disc * k for k in five]
        columns += [union * k for k in three] + [union**2 * k for k in five] + [g * k for g in gate for k in three]
        return np.stack(columns, axis=-1)


def _constants(
    signal: Array, mean: Array, used: Array, counts: Array, mean_counts: Array, valid: Array, template: Array
) -> Array:
    """Return one row for each gate and one for the union: score offset, centre of the mean pattern, response, T Tᵀ."""
    clusters = len(template)
    out = np.zeros((clusters + 1, 8 + clusters))
    offsets = np.where(used.astype(bool), mean, 0.0).ravel() @ signal.reshape(-1, signal.shape[-1])[
        :, :clusters
    ].astype(float)
    out[:clusters, 0] = offsets
    pattern = np.where(valid.astype(bool) & np.isfinite(mean_counts), mean_counts, 0.0)
    firsts = [*range(18, 18 + 3 * clusters, 3), 10]
    slope = slopes(pattern)
    for row, first in enumerate(firsts):
        gate, *moments = (counts[..., first + i].astype(float) for i in range(3))
        total = (gate * pattern).sum()
        com = centre_of_mass(total, np.array([(m * pattern).sum() for m in moments]))
        out[row, 1:3] = com
        response = [[-((m - c * gate) * s).sum() / total for s in slope] if total > 0 else [np.nan] * 2
                    for m, c in zip(moments, com, strict=True)]  # fmt: skip
        out[row, 3:7] = np.ravel(response)
    out[clusters, 7] = used.sum()
    flat = template.reshape(clusters, -1)
    out[:clusters, 8:] = np.linalg.pinv(flat @ flat.T, hermitian=True)
    return out


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


@dataclass(frozen=True)
class _Finish:
    """Make maps from the sums of each frame (N, n), constants (N, C + 1, 8 + C), gate numbers (N,), descan (N, 2)."""

    layout: _Layout

    def __call__(self, raw: Array, constants: Array, *more: Array) -> Array:
        """Return (N, width)."""
        layout, rest = self.layout, list(more)
        number = rest.pop(0) if layout.adaptive else None
        moved = rest.pop(0) if layout.descan else np.zeros((len(raw), 2))
        out = np.full((len(raw), layout.width), np.nan)
        if not len(raw):
            return out
        finite = np.asarray(np.isfinite(raw).all(axis=1))
        raw = np.where(finite[:, None], raw, np.nan)
        maps = {name: out[:, part] for name, part in layout.parts.items()}
        clusters, known = layout.clusters, constants[0]
        maps["score"][:] = raw[:, :clusters] - known[:clusters, 0]
        counts = raw[:, clusters : clusters + layout.counts]
        each = counts[:, 18:].reshape(len(raw), clusters, 3)
        gate_com = centre_of_mass(each[..., 0], each[..., 1:])
        maps["gate_total"][:] = each[..., 0]
        for axis, name in enumerate(("gate_com_y", "gate_com_x")):
            maps[name][:] = gate_com[..., axis] - moved[:, axis, None]
        for place, (total, com, error) in enumerate(self._detectors(counts, each, gate_com, known, number, moved)):
            maps["total"][:, place] = total
            maps["com_y"][:, place], maps["com_x"][:, place] = (com - moved).T
            maps["com_y_stderr"][:, place], maps["com_x_stderr"][:, place] = error.T
        maps["frame_valid"][:, 0] = finite & (counts[:, 0] > 0)
        if layout.residual:
            score, inverse = maps["score"], known[:clusters, 8:]
            explained = np.einsum("nc,cd,nd->n", score, inverse, score)
            maps["residual"][:, 0] = raw[:, -1] - explained / known[clusters, 7]
        return out

    def _detectors(
        self, counts: Array, each: Array, gate_com: Array, known: Array, number: Array | None, moved: Array
    ) -> list[tuple[Array, Array, Array]]:
        """Return total, centre of mass and its error of each detector, in the layout's order."""
        found = []
        for five in (counts[:, 0:5], counts[:, 5:10]):
            com = centre_of_mass(five[:, 0], five[:, 1:3])
            found.append((five[:, 0], com, shot_noise(five[:, 0], com, five)))
        total, com = counts[:, 10], centre_of_mass(counts[:, 10], counts[:, 11:13])
        error = shot_noise(total, com, counts[:, 13:18])
        union = known[-1]
        shift, factor = corrected(com - moved, union[1:3], union[3:7].reshape(2, 2))
        found.append((total, com, error))
        found.append((total, shift + moved, np.sqrt(np.einsum("ab,nb->na", factor, error**2))))
        if number is None:
            return found
        rows = np.arange(len(counts))
        own = np.minimum(number, self.layout.clusters - 1)
        without = number == self.layout.clusters
        gated = np.where(without[:, None], com, gate_com[rows, own])
        gated_total = np.where(without, total, each[rows, own, 0])
        row = known[number]
        shift, _ = corrected(gated - moved, row[:, 1:3], row[:, 3:7].reshape(-1, 2, 2))
        unknown = np.full(com.shape, np.nan)
        return [*found, (gated_total, gated, unknown), (gated_total, shift + moved, unknown)]


def _dataset(out: xr.DataArray, layout: _Layout, array: xr.DataArray, tmpl: xr.Dataset) -> xr.Dataset:
    """Cut the finished columns into variables, in the units of the detector's coordinates."""
    steps, units = pixel_steps(array)
    made: dict[str, xr.Variable] = {}
    out = out.drop_vars(list(out.coords))
    for name, part in layout.parts.items():
        spec = _BY_NAME[name]
        core = [d for d in spec.dims if d != "..."]
        values = out.isel(map=part).rename(map=core[0]) if core else out.isel(map=part.start)
        if "com" in name:
            step = steps["_x" in name]
            if step != 1:
                values = values * (abs(step) if "stderr" in name else step)
        made[name] = spec.make(values == 1 if spec.dtype == "bool" else values).variable
        if "com" in name:
            made[name].attrs["units"] = units
    ds = xr.Dataset(made).assign_coords({n: c for n, c in array.coords.items() if not set(c.dims) & set(AXES)})
    return ds.assign_coords(detector=("detector", np.array(layout.detectors, object)), cluster=tmpl["cluster"].variable)


virtual_maps.__doc__ = (virtual_maps.__doc__ or "").replace("{table}", table(VARIABLES).replace("\n", "\n    "))
