"""Gates: the pixels where a template is largest, symmetric about the beam, as virtual detectors."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence

import numpy as np
import xarray as xr

from scanfold import _apply
from scanfold.conventions import InputError, Var, record, unknown
from scanfold.detectors.frames import AXES, Array, radius_map
from scanfold.detectors.templates import require

TYPES = ("hard", "soft", "smooth_first")
#: A pixel counts as covered above this weight.
COVERED = 0.1
#: Coverage of a gate that tells clusters apart.
HEALTHY = (0.1, 0.4)
VARIABLES = (
    Var("gate", ("cluster", *AXES), "float64", "gate: weight of each pixel"),
    Var("union", AXES, "float64", "largest gate at each pixel"),
    Var("coverage_nominal", ("cluster",), "float64", "share of the usable pixels that were chosen"),
    Var("coverage", ("cluster",), "float64", "share of the usable pixels with a weight above 0.1"),
    Var("coverage_weight", ("cluster",), "float64", "mean weight of the usable pixels"),
    Var("gate_center", ("cluster", "axis"), "float64", "centre of mass of the mean pattern in the gate", "pixel"),
    Var("response", ("cluster", "axis", "axis_of_shift"), "float64", "shift in the gate for a unit shift"),
    Var("union_center", ("axis",), "float64", "centre of mass of the mean pattern in the union", "pixel"),
    Var("union_response", ("axis", "axis_of_shift"), "float64", "shift in the union for a unit shift of the pattern"),
)


def gates(
    tmpl: xr.Dataset,
    *,
    top_percent: float = 10.0,
    smooth_sigma: float = 1.5,
    roi_r: Sequence[float | None] | None = None,
    gate_type: str = "hard",
) -> xr.Dataset:
    r"""Make a gate from each template.

    In this order: threshold (exactly `top_percent` of the usable pixels are chosen), symmetrise about the centre of
    the beam :math:`c`, :math:`G(k) \leftarrow \tfrac12 (G(k) + G(2c - k))`, interpolated, where pixels without a
    partner on the detector drop out; smooth; cut with the ring.

    Parameters
    ----------
    tmpl : Dataset
        Of `templates`.
    top_percent : float
        Share of the usable pixels that a hard gate chooses, in percent.
    smooth_sigma : float
        Width of the Gaussian in pixels; 0 for none.
    roi_r : (float, float), optional
        Inner and outer radius of the ring about the beam, in pixels; None on either side is no limit. What
        reaches beyond the detector is clipped, with a warning.
    gate_type : {"hard", "soft", "smooth_first"}
        1 where chosen; the template from its least to its largest value as 0 to 1; or the template smoothed, then
        chosen from (and not smoothed again).

    Returns
    -------
    Dataset
        ``gate (cluster, ky, kx)``, ``union (ky, kx)`` and of each: its coverage; the centre of mass of the mean
        pattern in it, from the centre of the beam; and its response
        :math:`R_{ab} = -\sum (k_a - C_a) G \partial_b \mu / \sum G \mu` to a shift of the pattern, 1 if ideal.

    Raises
    ------
    InputError
        If an option is out of range.

    Warns
    -----
    UserWarning
        If a gate covers less than 10% or more than 40% of the usable pixels.

    Examples
    --------
    >>> from scanfold import detectors as det
    >>> frames = xr.DataArray(np.random.default_rng(0).poisson(9, (6, 9, 9)), dims=("position", "ky", "kx"))
    >>> tmpl = det.templates(det.cluster_statistics(frames, [0, 0, 0, 1, 1, 1], center=(4, 4)))
    >>> made = gates(tmpl, top_percent=20, smooth_sigma=0)
    >>> bool((made["gate"] == made["gate"].values[:, ::-1, ::-1]).all())
    True
    """
    require(tmpl, ("template", "used", "center", "mean_counts"), "templates")
    ring = _options(tmpl, top_percent, smooth_sigma, roi_r, gate_type)
    options = {"top_percent": top_percent, "smooth_sigma": smooth_sigma, "roi_r": roi_r, "gate_type": gate_type}
    count, sizes = tmpl.sizes["cluster"], {d: tmpl.sizes[d] for d in AXES}

    def make(template: Array, used: Array, center: Array) -> Array:
        used, limits = used.astype(bool), clipped_ring(ring, used.shape, center)
        return np.stack([gate_of(t, used, center, top_percent, smooth_sigma, limits, gate_type) for t in template])

    made = _apply.apply_whole(
        make, tmpl["template"], tmpl["used"], tmpl["center"],
        output={"cluster": count, **sizes}, token="gates" + json.dumps(options, default=float),
    )  # fmt: skip
    ds = tmpl[["used", "center"]].assign(gate=made, union=made.max("cluster"))
    usable = tmpl["used"].sum()
    share = xr.DataArray(1.0) if gate_type == "soft" else np.rint(top_percent / 100 * usable) / usable
    ds["coverage_nominal"] = share * xr.DataArray(np.ones(count), dims="cluster")
    ds["coverage"] = (made > COVERED).where(tmpl["used"], False).sum(AXES) / usable
    ds["coverage_weight"] = made.sum(AXES) / usable
    _responses(ds, tmpl)
    ds = ds.assign({spec.name: spec.make(ds[spec.name]).variable for spec in VARIABLES})
    ds = ds.assign_coords({n: tmpl[n].variable for n in ("cluster", "axis") if n in tmpl.coords})
    ds.attrs = {"provenance": record("gates", {"template": tmpl["template"]}, options, of=tmpl.attrs.get("provenance"))}
    if ds["coverage"].chunks is None:
        warn_of_coverage(ds)
    return ds


def _options(
    tmpl: xr.Dataset, top_percent: float, smooth_sigma: float, roi_r: Sequence[float | None] | None, gate_type: str
) -> tuple[float, float]:
    """Check the options, and return the ring."""
    if not 0 < top_percent <= 100:
        raise InputError(f"top_percent={top_percent}; expected more than 0, at most 100")
    if not (np.isfinite(smooth_sigma) and smooth_sigma >= 0):
        raise InputError(f"smooth_sigma={smooth_sigma}; expected a width in pixels, 0 for none")
    if gate_type not in TYPES:
        raise unknown("gate_type", gate_type, TYPES)
    return ring_limits(roi_r, "roi_r")


def ring_limits(given: Sequence[float | None] | None, name: str) -> tuple[float, float]:
    """Return the radii of a ring; without limits where None is given.

    Raises
    ------
    InputError
        If it is inside out.
    """
    if given is None:
        return 0.0, np.inf
    if len(given) != 2:
        raise InputError(f"{name}={given!r}; expected two radii in pixels, [inner, outer]")
    inner, outer = (fill if r is None else float(r) for r, fill in zip(given, (0.0, np.inf), strict=True))
    if not 0 <= inner < outer:
        raise InputError(f"{name}={list(given)} is inside out; expected 0 <= inner < outer, in pixels")
    return inner, outer


def clipped_ring(ring: tuple[float, float], shape: Sequence[int], center: Array) -> tuple[float, float]:
    """Clip the outer radius to the farthest pixel of the detector, with a warning.

    Raises
    ------
    InputError
        If nothing of the ring is on the detector.
    """
    inner, outer = ring
    farthest = float(radius_map(shape, center).max())
    if inner > farthest:
        raise InputError(f"the ring begins at {inner:g} pixels, and the detector ends {farthest:.1f} from the centre")
    if np.isfinite(outer) and outer > farthest:
        warnings.warn(f"the ring ends at {outer:g} pixels; clipped to the detector, {farthest:.1f}", stacklevel=3)
        outer = farthest
    return inner, outer


def gate_of(
    template: Array, used: Array, center: Array, percent: float, sigma: float, ring: tuple[float, float], kind: str
) -> Array:
    """Return the gate of one template (ky, kx)."""
    from scipy.ndimage import gaussian_filter

    if kind == "smooth_first" and sigma > 0:
        template = gaussian_filter(template, sigma, mode="constant")
    if kind == "soft":
        low, high = template[used].min(initial=np.inf), template[used].max(initial=-np.inf)
        gate = np.where(used, (template - low) / (high - low), 0.0) if high > low else np.zeros(template.shape)
    else:
        gate = top_pixels(template, used, percent)
    gate, paired = symmetrised(gate, used, center)
    if kind != "smooth_first" and sigma > 0:
        gate = np.clip(gaussian_filter(gate, sigma, mode="constant"), 0.0, 1.0)
    radius = radius_map(gate.shape, center)
    return np.where(paired & (radius >= ring[0]) & (radius <= ring[1]), gate, 0.0)


def top_pixels(template: Array, used: Array, percent: float) -> Array:
    """Choose exactly this share of the used pixels, those of the largest values; of equal ones the first."""
    where = np.flatnonzero(used)
    order = np.argsort(-template.ravel()[where], kind="stable")
    gate = np.zeros(template.size)
    gate[where[order[: int(np.rint(percent / 100 * where.size))]]] = 1.0
    return gate.reshape(template.shape)


def symmetrised(gate: Array, used: Array, center: Array) -> tuple[Array, Array]:
    """Average a gate with itself inverted about the beam; return it, and the pixels whose partner is used."""
    mirrored, paired = inverted(gate, center), inverted(used.astype(float), center) > 1 - 1e-9
    paired &= used
    return np.where(paired, 0.5 * (gate + mirrored), 0.0), paired


def inverted(image: Array, center: Array) -> Array:
    """Return an image inverted about a point, interpolated bilinearly, zero where it comes from off the detector."""
    from scipy.ndimage import affine_transform

    return np.asarray(affine_transform(image, [-1.0, -1.0], offset=2 * center, order=1, mode="constant", cval=0.0))


def warn_of_coverage(ds: xr.Dataset) -> None:
    """Warn of gates that cover too little or too much to tell clusters apart."""
    low, high = HEALTHY
    odd = {int(c): float(v) for c, v in zip(ds["cluster"], ds["coverage"], strict=True) if not low <= v <= high}
    if odd:
        listed = ", ".join(f"{c}: {v:.0%}" for c, v in list(odd.items())[:8])
        warnings.warn(
            f"gates cover {listed} of the usable pixels; 10–40% is healthy. Change top_percent, "
            "smooth_sigma or the ring",
            stacklevel=3,
        )


def _responses(ds: xr.Dataset, tmpl: xr.Dataset) -> None:
    """Add where the mean pattern is in each gate, and how that follows a shift of the pattern."""
    count = ds.sizes["cluster"]

    def make(gate: Array, mean: Array, valid: Array, center: Array) -> Array:
        every = np.concatenate([gate, gate.max(axis=0, keepdims=True)])
        return np.stack([response(g, np.where(valid.astype(bool), mean, 0.0), center) for g in every])

    made = _apply.apply_whole(
        make, ds["gate"], tmpl["mean_counts"], tmpl["valid"], tmpl["center"],
        output={"row": count + 1, "axis": 2, "column": 3}, token="gate-response",
    )  # fmt: skip
    each, union = made.isel(row=slice(count)).rename(row="cluster"), made.isel(row=count)
    ds["gate_center"], ds["union_center"] = each.isel(column=0), union.isel(column=0)
    shift = {"column": "axis_of_shift"}
    ds["response"] = each.isel(column=slice(1, 3)).rename(shift)
    ds["union_response"] = union.isel(column=slice(1, 3)).rename(shift)


def slopes(mean: Array) -> list[Array]:
    """Return the derivatives of a pattern along ky and kx: those of a cubic spline, true to steep edges."""
    from scipy.ndimage import spline_filter1d

    return [np.gradient(spline_filter1d(mean, 3, axis=axis, mode="mirror"), axis=axis) for axis in (0, 1)]


def response(gate: Array, mean: Array, center: Array) -> Array:
    """Return the centre of mass of a pattern in a gate, from the centre, and its 2 × 2 response: (axis, 3)."""
    total = (gate * mean).sum()
    if not total > 0:
        return np.full((2, 3), np.nan)
    k = [np.arange(n) - c for n, c in zip(gate.shape, center, strict=True)]
    k = [k[0][:, None] + np.zeros(gate.shape), k[1][None] + np.zeros(gate.shape)]
    com = [float((gate * mean * ka).sum() / total) for ka in k]
    slope = slopes(mean)
    matrix = [[-float(((ka - ca) * gate * s).sum() / total) for s in slope] for ka, ca in zip(k, com, strict=True)]
    return np.array([[c, *row] for c, row in zip(com, matrix, strict=True)])
