"""Baselines of centre-of-mass maps: what drift, descan and a wrong centre leave behind."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from scanfold import _apply
from scanfold.conventions import InputError, record, unknown
from scanfold.detectors.frames import Array
from scanfold.detectors.templates import require

METHODS = ("none", "median", "rowcol", "roi", "plane", "robust")
#: Turns of the reweighting of a robust plane, and Tukey's constant in deviations.
TURNS, TUKEY = 30, 4.685


def subtract_baseline(maps: xr.Dataset, method: str = "median", *, region: Any = None) -> xr.Dataset:
    """Subtract a baseline from centre-of-mass maps; both axes are treated alike, the raw maps are kept.

    Parameters
    ----------
    maps : Dataset
        Of `virtual_maps` or `center_of_mass`.
    method : {"median", "rowcol", "roi", "plane", "robust", "none"}
        The median of the map; the median of each row, then of each column; the mean over a region without field,
        such as vacuum; a plane; a plane from which outliers (domains, particles) are left out, by Tukey's weights.
    region : (x0, y0, width, height) or array of bool, optional
        For "roi": in scan pixels, or a map that is True there. For planes: where they are fitted.

    Returns
    -------
    Dataset
        `maps` with ``com_y`` and ``com_x`` replaced, and ``com_y_raw`` and ``com_x_raw`` added.

    Raises
    ------
    InputError
        If the method is unknown, needs a region, or needs a grid and finds free positions.

    Examples
    --------
    >>> com = (("y", "x"), np.array([[1.0, 1.0, 4.0], [2.0, 2.0, 2.0]]))
    >>> subtract_baseline(xr.Dataset({"com_y": com, "com_x": com}), "median")["com_y"].values
    array([[-1., -1.,  2.],
           [ 0.,  0.,  0.]])
    """
    require(maps, ("com_y", "com_x"), "virtual_maps")
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    dims = [d for d in maps["com_y"].dims if d != "detector"]
    if method in ("rowcol",) and len(dims) != 2:
        raise InputError(
            f"method={method!r} needs rows and columns, found the scan dims {dims}; fold it with scan_shape="
        )
    shape = tuple(maps.sizes[d] for d in dims)
    mask = _region(region, shape)
    if method == "roi" and mask is None:
        raise InputError('method="roi" needs region=(x0, y0, width, height) in scan pixels, or a map of bool')
    positions = positions_of(maps, dims)
    out = maps.copy()
    for name in ("com_y", "com_x"):
        raw = maps[name].transpose(*dims, ...)
        output = {str(d): raw.sizes[d] for d in raw.dims}
        base = _apply.apply_whole(
            Baseline(method, mask, positions),
            raw,
            output=output,
            token=f"baseline {method} {_hash(mask)} {_hash(np.stack(positions))}",
        )
        out[name] = (raw - base).assign_attrs(maps[name].attrs)
        long_name = f"{maps[name].attrs.get('long_name', name)}, with its baseline"
        out[f"{name}_raw"] = maps[name].assign_attrs({**maps[name].attrs, "long_name": long_name})
    out.attrs = {"provenance": record(
        "subtract_baseline", {"com_y": maps["com_y"]}, {"method": method, "region": _hash(mask)},
        of=maps.attrs.get("provenance"),
    )}  # fmt: skip
    return out


def _hash(mask: Array | None) -> str | None:
    import hashlib

    return None if mask is None else hashlib.sha256(mask.tobytes()).hexdigest()[:16]


def _region(region: Any, shape: tuple[int, ...]) -> Array | None:
    """Return a mask of the scan."""
    if region is None:
        return None
    given = np.asarray(region)
    if given.shape == (4,) and given.dtype.kind in "iu":
        if len(shape) != 2:
            raise InputError(f"region={region!r} is a box, and the scan has free positions; pass a mask of {shape}")
        x, y, width, height = (int(v) for v in given)
        if not (0 <= x and 0 <= y and width > 0 and height > 0 and x + width <= shape[1] and y + height <= shape[0]):
            raise InputError(f"region={region!r} is not inside the scan of {shape[0]} rows and {shape[1]} columns")
        mask = np.zeros(shape, bool)
        mask[y : y + height, x : x + width] = True
        return mask
    if given.shape != shape or given.dtype != bool:
        raise InputError(f"region has the shape {given.shape} and dtype {given.dtype}; expected bool of {shape}")
    if not given.any():
        raise InputError("region is nowhere True")
    return given


def positions_of(maps: xr.Dataset, dims: Sequence[Any]) -> tuple[Array, ...]:
    """Return the coordinates of every position that a plane is fitted over."""
    names = [n for n in ("position_y", "position_x") if n in maps.coords]
    if len(names) == 2 and all(set(maps[n].dims) == set(dims) for n in names):
        return tuple(np.asarray(maps[n].transpose(*dims).values, float) for n in names)
    shape = tuple(maps.sizes[d] for d in dims)
    return tuple(np.asarray(i, float) for i in np.indices(shape))


@dataclass(frozen=True)
class Baseline:
    """The baseline of maps, by method, over a mask of the scan, with the coordinates of its positions."""

    method: str
    mask: Array | None
    positions: tuple[Array, ...]

    def __call__(self, com: Array) -> Array:
        """Return the baseline of maps (*scan, ...), in their shape."""
        ndim = self.positions[0].ndim
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # medians of rows without any valid frame
            if self.method == "none":
                return np.zeros_like(com)
            if self.method == "median":
                return np.broadcast_to(np.nanmedian(com, axis=tuple(range(ndim)), keepdims=True), com.shape)
            if self.method == "rowcol":
                rows = _finite(np.nanmedian(com, axis=1, keepdims=True))
                return rows + _finite(np.nanmedian(com - rows, axis=0, keepdims=True))
            if self.method == "roi":
                return np.broadcast_to(np.nanmean(com[self.mask], axis=0), com.shape)
        flat = com.reshape(*self.positions[0].shape, -1)
        planes = [self._plane(flat[..., i]) for i in range(flat.shape[-1])]
        return np.stack(planes, axis=-1).reshape(com.shape)

    def _plane(self, com: Array) -> Array:
        design = np.stack([np.ones(com.size), *(p.ravel() for p in self.positions)], axis=1)
        values = com.ravel()
        keep = np.isfinite(values) & (True if self.mask is None else self.mask.ravel())
        if keep.sum() < design.shape[1]:
            return np.full(com.shape, np.nan)
        weights = np.ones(int(keep.sum()))
        for _ in range(TURNS if self.method == "robust" else 1):
            root = np.sqrt(weights)
            found, *_ = np.linalg.lstsq(design[keep] * root[:, None], values[keep] * root, rcond=None)
            rest = values[keep] - design[keep] @ found
            spread = 1.4826 * np.median(np.abs(rest)) or 1.0
            weights = np.clip(1 - (rest / (TUKEY * spread)) ** 2, 0, 1) ** 2
        return np.asarray((design @ found).reshape(com.shape))


def _finite(values: Array) -> Array:
    return np.where(np.isfinite(values), values, 0.0)
