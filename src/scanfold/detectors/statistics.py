"""Pass A: everything that templates, gates and their validation need, from one read of the scan."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import xarray as xr

from scanfold import _apply, _folds
from scanfold.conventions import InputError, Var, record, table
from scanfold.detectors._sum_kernels import FRACTION
from scanfold.detectors.frames import (
    AXES,
    Array,
    as_center,
    disc_center,
    find_bad_pixels,
    frames_of,
    given_center,
    given_pixels,
    pixel_steps,
)
from scanfold.detectors.labels import Labels, LabelsLike, as_labels, halves
from scanfold.detectors.parts import scan_map
from scanfold.detectors.sums import FrameSums

_K = AXES
_CLUSTER = ("cluster", *_K)
VARIABLES = (
    Var("frames", ("cluster", "half"), "float64", "frames (or weight) of each cluster in each random half"),
    Var("frames_total", ("half",), "float64", "frames that count in the mean of all, in each half"),
    Var("counts_sum", ("cluster", "half", *_K), "float64", "sum of the counts", "count"),
    Var("counts_total", ("half", *_K), "float64", "sum of the counts of all frames", "count"),
    Var("signal_sum", ("cluster", "half", *_K), "float64", "sum of the preprocessed frames"),
    Var("signal_total", ("half", *_K), "float64", "sum of all preprocessed frames"),
    Var("shuffled_sum", ("cluster", "half", *_K), "float64", "sum of the preprocessed frames, by shuffled labels"),
    Var("signal_squares", ("half", *_K), "float64", "sum of the squares of all preprocessed frames"),
    Var("mean_counts", _K, "float64", "mean counts", "count"),
    Var("cluster_counts", _CLUSTER, "float64", "mean counts of each cluster", "count"),
    Var("mean", _K, "float64", "mean of the preprocessed frames"),
    Var("std", _K, "float64", "standard deviation of the preprocessed frames"),
    Var("cluster_mean", _CLUSTER, "float64", "mean of the preprocessed frames of each cluster"),
    Var("valid", _K, "bool", "pixel is neither dead nor hot"),
    Var("center", ("axis",), "float64", "centre of the beam", "pixel"),
)
_BY_NAME = {v.name: v for v in VARIABLES}


def cluster_statistics(
    scan: xr.Dataset | xr.DataArray,
    labels: LabelsLike,
    *,
    log: bool = False,
    dose: xr.DataArray | None = None,
    background: Any = None,
    bad_pixels: Any = None,
    center: Any = None,
    count_noise: bool = True,
    shuffled: bool = False,
    seed: int = 0,
) -> xr.Dataset:
    r"""Sum the frames of every cluster, in one read (pass A).

    The preprocessed frame is :math:`P = L - b` with :math:`L = \log(1 + I/d)`, or :math:`I/d` without `log`.
    Sums of integer counts, and of their logarithms in fixed point, are exact: they do not depend on chunks.

    Parameters
    ----------
    scan : Dataset or DataArray
        Frames with dims ``(*scan, ky, kx)``, lazy or not; chunks may cut the detector.
    labels : DataArray, array or path
        A cluster for each position, -1 for noise; see `scanfold.detectors.labels.as_labels`.
    log : bool
        Take log1p of the counts, which must not be negative.
    dose : DataArray, optional
        Relative beam current of each frame, over the scan dims; counts are divided by it.
    background : optional
        ``("annulus", inner, outer)`` in pixels subtracts from each frame its mean there; it needs `center`, and
        frames that are not cut. "mean" or a pattern (ky, kx), the same for all frames, cancels in templates and
        scores, which are differences from the mean: it is recorded, and changes nothing else.
    bad_pixels : "auto" or array of bool, optional
        Dead and hot pixels (True), left out of everything; "auto" finds them in the statistics.
    center : (float, float), optional
        Centre of the beam in pixels ``(ky, kx)``; a calibrated scan carries it. Otherwise the centroid of the
        disc above half of the maximum of the mean pattern.
    count_noise : bool
        Count frames of label -1 in the mean and the deviation of all frames.
    shuffled : bool
        Sum the frames by shuffled labels too, within each half: the null that `split_half` is held against.
    seed : int
        Of the random halves, and of shuffled labels.

    Returns
    -------
    Dataset
        Lazy if the scan is. ``stats.compute()`` makes one small Dataset, from which everything else is quick.

    Raises
    ------
    InputError
        If labels, dose, mask or centre do not fit the scan.

    Notes
    -----
    Values that are not finite are left out pixel by pixel. The templates follow [1]_ in spirit: virtual detectors
    made from data.

    {table}

    References
    ----------
    .. [1] C. Ophus, Four-dimensional scanning transmission electron microscopy (4D-STEM), Microsc. Microanal. 25
       (2019) 563.

    Examples
    --------
    >>> frames = xr.DataArray(np.arange(48).reshape(4, 3, 4), dims=("position", "ky", "kx"))
    >>> stats = cluster_statistics(frames, [0, 0, 1, 1])
    >>> stats["cluster_mean"].sel(cluster=1).values[0]
    array([30., 31., 32., 33.])
    """
    array, dims = frames_of(scan)
    checked = as_labels(labels, array, dims)
    known = given_center(center, array)
    annulus = _annulus(background, array, known)
    if isinstance(bad_pixels, str) and bad_pixels != "auto":
        raise InputError(f'bad_pixels={bad_pixels!r}; expected "auto" or an array of bool (ky, kx)')
    mask = None if bad_pixels is None or isinstance(bad_pixels, str) else given_pixels(bad_pixels, array, "bad_pixels")
    sums = FrameSums(
        str(array.dtype), checked.count + 1, log=bool(log), dose=dose is not None, annulus=annulus,
        soft=checked.weights is not None, shuffled=bool(shuffled),
    )  # fmt: skip
    columns, frames, counted = _columns(checked, dims, count_noise, seed)
    if shuffled:
        columns.append(_shuffled(columns, seed))
    if dose is not None:
        columns.append(scan_map(dose, array, dims, "dose"))
    token = json.dumps(asdict(sums), sort_keys=True)
    packed = _folds.fold_scan(
        sums, sums.combine, array, *columns, core_dims=AXES, output={"row": sums.rows}, token=token, dtype="int64"
    )
    derive = _Derive(sums, tuple(map(tuple, frames.tolist())), (float(counted[0]), float(counted[1])))
    made = _derived(packed, derive)
    made["frames"] = xr.DataArray(frames, dims=("cluster", "half"))
    made["frames_total"] = xr.DataArray(counted, dims="half")
    made["valid"] = _valid(made, mask, isinstance(bad_pixels, str))
    made["center"] = (known if known is not None else _center(made)).drop_vars("axis", errors="ignore")
    return _labelled(made, array, checked, {
        "log": bool(log), "dose": dose is not None, "background": _described(background), "annulus": annulus,
        "bad_pixels": "auto" if isinstance(bad_pixels, str) else mask is not None, "count_noise": count_noise,
        "shuffled": bool(shuffled),
        "seed": seed, "center": None if known is None or known.chunks is not None else known.values.tolist(),
    })  # fmt: skip


def _annulus(
    background: Any, array: xr.DataArray, center: xr.DataArray | None
) -> tuple[float, float, float, float] | None:
    if background is None:
        return None
    if isinstance(background, str):
        if background != "mean":
            raise InputError(
                f'background={background!r}; expected "mean", ("annulus", inner, outer) or a pattern (ky, kx)'
            )
        return None
    if not (isinstance(background, tuple | list) and len(background) == 3 and background[0] == "annulus"):
        shape = tuple(array.sizes[d] for d in AXES)
        if np.shape(background) != shape:
            raise InputError(f"background has the shape {np.shape(background)}, the detector {shape}")
        return None
    inner, outer = float(background[1]), float(background[2])
    if not 0 <= inner < outer:
        raise InputError(f"background={tuple(background)!r}; expected 0 <= inner < outer, in pixels")
    if center is None:
        raise InputError('background=("annulus", …) needs the centre of the beam beforehand; pass center=(ky, kx)')
    if array.chunks is not None and any(len(array.chunksizes[d]) > 1 for d in AXES):
        raise InputError('background=("annulus", …) needs whole frames; pass scan.chunk(ky=-1, kx=-1)')
    cy, cx = center.values
    found = (float(cy), float(cx), inner, outer)
    from scanfold.detectors.sums import Signal

    if not Signal(False, found, (array.sizes["ky"], array.sizes["kx"])).ring().any():
        raise InputError(f"background={tuple(background)!r} has no pixel on the detector")
    return found


def _described(background: Any) -> Any:
    if background is None or isinstance(background, str | tuple | list):
        return background
    return "pattern"


def _columns(
    labels: Labels, dims: tuple[Any, ...], count_noise: bool, seed: int
) -> tuple[list[xr.DataArray], Array, Array]:
    """Return what the sums need of each position, the weight of each cluster and half, and that of all frames."""
    half = halves(labels, seed)
    if labels.index is None:
        assert labels.weights is not None
        weights = labels.weights.values
        by_half = np.stack([weights[half == h].sum(axis=0) for h in (0, 1)], axis=-1)
        columns = [xr.DataArray(half, dims=dims), labels.weights]
        return columns, by_half, np.array([(half == h).sum() for h in (0, 1)], float)
    index = labels.index.values
    rows = np.where(index < 0, labels.count if count_noise else -1, index)
    keys = np.where(rows < 0, -1, 2 * rows + half).astype(np.int64)
    counts = np.bincount(keys[keys >= 0], minlength=2 * labels.count + 2).reshape(-1, 2).astype(float)
    return [xr.DataArray(keys, dims=dims)], counts[:-1], counts.sum(axis=0)


def _shuffled(columns: list[xr.DataArray], seed: int) -> xr.DataArray:
    """Return keys or weights at random among the positions of each half, which keeps the size of every cluster."""
    given = columns[-1]
    values = given.values.copy()
    flat = values.reshape(columns[0].size, -1)
    first = columns[0].values.ravel()
    rng = np.random.default_rng(np.random.Philox(seed + 1))
    for half in (0, 1):
        own = np.flatnonzero((first >= 0) & (first % 2 == half))
        flat[own] = flat[rng.permutation(own)]
    return given.copy(data=values)


@dataclass(frozen=True)
class _Derive:
    """Make means and deviations of packed sums; all that is said of patterns, one below the other."""

    sums: FrameSums
    frames: tuple[tuple[float, float], ...]
    counted: tuple[float, float]

    def layout(self) -> dict[str, tuple[int, ...]]:
        """Return the leading shape of every variable, in order."""
        count = len(self.frames)
        null = {"shuffled_sum": (count, 2)} if self.sums.shuffled else {}
        return {"counts_sum": (count, 2), "counts_total": (2,), "signal_sum": (count, 2), "signal_total": (2,), **null,
                "signal_squares": (2,), "mean_counts": (), "cluster_counts": (count,), "mean": (),
                "cluster_mean": (count,), "std": ()}  # fmt: skip

    def __call__(self, packed: Array) -> Array:
        """Return float64 (rows, ky, kx)."""
        kinds = self._kinds(packed)
        counts, signal = (kinds[n].reshape(-1, 2, *packed.shape[1:]) for n in ("counts", "signal"))
        count = len(self.frames)
        of_all = slice(count, None) if self.sums.soft else slice(None)
        number = np.sum(self.frames, axis=1)[:, None, None] + np.zeros(packed.shape[1:])
        total = np.sum(self.counted) + np.zeros(packed.shape[1:])
        if "missing" in kinds:
            missing = kinds["missing"].reshape(counts.shape)
            number, total = number - missing[:count].sum(axis=1), total - missing[of_all].sum(axis=(0, 1))
        number, total = (np.where(n > 0, n, np.nan) for n in (number, total))
        counts_total, signal_total = (s[of_all].sum(axis=0) for s in (counts, signal))
        squares = kinds["squares"]
        spread = total * squares.sum(axis=0) - signal_total.sum(axis=0) ** 2
        made = {
            "counts_sum": counts[:count], "counts_total": counts_total, "signal_sum": signal[:count],
            "signal_total": signal_total, "signal_squares": squares, "mean_counts": counts_total.sum(axis=0) / total,
            "cluster_counts": counts[:count].sum(axis=1) / number, "mean": signal_total.sum(axis=0) / total,
            "cluster_mean": signal[:count].sum(axis=1) / number, "std": np.sqrt(np.maximum(spread, 0.0)) / total,
        }  # fmt: skip
        if self.sums.shuffled:
            made["shuffled_sum"] = kinds["shuffled"].reshape(counts.shape)[:count]
        return np.concatenate([made[n].reshape(-1, *packed.shape[1:]) for n in self.layout()])

    def _kinds(self, packed: Array) -> dict[str, Array]:
        """Return the kinds of sums as float64; fixed-point ones in their own scale."""
        out = {}
        for name, (where, dtype) in self.sums.kinds().items():
            scale = 2.0**-FRACTION if self.sums.fixed and name in ("signal", "shuffled", "squares") else 1.0
            out[name] = np.ascontiguousarray(packed[where]).view(dtype).astype(np.float64) * scale
        out.setdefault("signal", out["counts"])
        return out


def _derived(packed: xr.DataArray, derive: _Derive) -> dict[str, xr.DataArray]:
    """Return the variables made of sums."""
    layout = derive.layout()
    heights = {name: int(np.prod(shape)) for name, shape in layout.items()}
    sizes = {d: packed.sizes[d] for d in AXES}
    made = _apply.apply_whole(
        derive, packed, output={"row": sum(heights.values()), **sizes}, token="derive " + json.dumps(asdict(derive))
    )
    out, first = {}, 0
    for name, shape in layout.items():
        rows = made.data[first : first + heights[name]].reshape(*shape, *sizes.values())
        out[name] = xr.DataArray(rows, dims=_BY_NAME[name].dims)
        first += heights[name]
    return out


def _valid(ds: dict[str, xr.DataArray], mask: Any, auto: bool) -> xr.DataArray:
    sizes = {d: ds["mean"].sizes[d] for d in AXES}
    if not auto:
        good = np.ones(tuple(sizes.values()), bool) if mask is None else ~mask
        return xr.DataArray(good, dims=AXES)

    def find(mean: Array, std: Array) -> Any:
        return ~find_bad_pixels(mean, std)

    return _apply.apply_whole(find, ds["mean_counts"], ds["std"], output=sizes, token="bad-pixels", dtype="bool")


def _center(ds: dict[str, xr.DataArray]) -> xr.DataArray:
    found = _apply.apply_whole(disc_center, ds["mean_counts"], ds["valid"], output={"axis": 2}, token="disc-center")
    return as_center(found.data)


def _labelled(
    made: dict[str, xr.DataArray], array: xr.DataArray, labels: Labels, options: dict[str, Any]
) -> xr.Dataset:
    """Set names, attributes, coordinates and the record."""
    steps, units = pixel_steps(array)
    ds = xr.Dataset({s.name: s.make(made[s.name]).variable for s in VARIABLES if s.name in made}).assign_coords(
        cluster=("cluster", labels.names, {"long_name": "cluster"}),
        half=("half", [0, 1], {"long_name": "random half of the frames"}),
        axis=("axis", np.array(AXES, object)),
    )
    ds = ds.assign_coords({d: array[d].variable for d in AXES if d in array.coords})
    ds["center"].attrs["pixel_steps"], ds["center"].attrs["pixel_units"] = list(steps), units
    ds.attrs = {
        "preprocess": json.dumps(options),
        "provenance": record("cluster_statistics", {"scan": array}, options, labels=_hash(labels)),
    }
    return ds


def _hash(labels: Labels) -> str:
    import hashlib

    values = labels.index if labels.index is not None else labels.weights
    assert values is not None
    return hashlib.sha256(np.ascontiguousarray(values.values).tobytes()).hexdigest()[:16]


cluster_statistics.__doc__ = (cluster_statistics.__doc__ or "").replace(
    "{table}", table(VARIABLES).replace("\n", "\n    ")
)
