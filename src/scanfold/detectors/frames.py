"""What a scan of detector frames is: its dimensions, the centre of its beam, and its valid pixels."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from scanfold import _folds
from scanfold.conventions import InputError, InputTypeError, primary

#: Detector dimensions, rows first.
AXES = ("ky", "kx")
Array = npt.NDArray[Any]


def frames_of(scan: xr.Dataset | xr.DataArray) -> tuple[xr.DataArray, tuple[Hashable, ...]]:
    """Return the frames with ``ky, kx`` last, and their scan dimensions.

    Raises
    ------
    InputError
        If there is no ``ky`` or ``kx``, or no scan dimension.
    InputTypeError
        If the frames are not of real numbers.
    """
    array = primary(scan)
    missing = [d for d in AXES if d not in array.dims]
    if missing:
        raise InputError(
            f"the scan has the dimensions {tuple(map(str, array.dims))}; expected detector dimensions ky and kx. "
            'Name them when it is opened: open_scan(path, dims=("y", "x", "ky", "kx"))'
        )
    dims = tuple(d for d in array.dims if d not in AXES)
    if not dims:
        raise InputError("this is one frame, without a scan dimension; pass the scan")
    if array.dtype.kind not in "iuf":
        raise InputTypeError(f"frames are of dtype {array.dtype}; expected integer or float counts")
    return array.transpose(*dims, *AXES), dims


def pair(value: Any, name: str) -> tuple[float, float]:
    """Return two finite numbers ``(ky, kx)``.

    Raises
    ------
    InputError
        If they are not.
    """
    numbers = np.asarray(value, np.float64)
    if numbers.shape != (2,) or not np.isfinite(numbers).all():
        raise InputError(f"{name}={value!r}; expected two numbers (ky, kx)")
    return float(numbers[0]), float(numbers[1])


def pixel_steps(array: xr.DataArray) -> tuple[tuple[float, float], str]:
    """Return the size of a pixel along ``ky, kx`` and its unit, from the coordinates; 1 pixel without any.

    Raises
    ------
    InputError
        If a coordinate is not evenly spaced, or the two have different units.
    """
    steps, units = [], []
    for dim in AXES:
        values = np.asarray(array[dim].values, np.float64) if dim in array.coords else np.arange(array.sizes[dim])
        step = float(values[-1] - values[0]) / max(values.size - 1, 1) if values.size > 1 else 1.0
        if values.size > 2 and not np.allclose(np.diff(values), step, rtol=1e-3, atol=0):
            raise InputError(f"coordinate {dim} is not evenly spaced; a centre of mass needs pixels of one size")
        steps.append(step)
        units.append(str(array[dim].attrs.get("units", "pixel")) if dim in array.coords else "pixel")
    if units[0] != units[1]:
        raise InputError(f"ky is in {units[0]!r} and kx in {units[1]!r}; give both the same unit with det.calibrate")
    return (steps[0], steps[1]), units[0]


def given_center(center: Any, array: xr.DataArray) -> xr.DataArray | None:
    """Return a given centre in pixels (axis), or the one that a calibrated scan carries, else None.

    Raises
    ------
    InputError
        If it lies off the detector.
    """
    if center is None:
        if "center_ky" not in array.coords or "center_kx" not in array.coords:
            return None
        center = (float(array["center_ky"]), float(array["center_kx"]))
    if isinstance(center, xr.DataArray) and center.dims == ("axis",) and center.chunks is not None:
        return center
    values = pair(center.values if isinstance(center, xr.DataArray) else center, "center")
    sizes = [array.sizes[d] for d in AXES]
    if any(not -0.5 <= v <= n - 0.5 for v, n in zip(values, sizes, strict=True)):
        raise InputError(
            f"center={values} is off the detector of {sizes[0]} × {sizes[1]} pixels; pass (ky, kx) in pixels"
        )
    return as_center(np.array(values))


def as_center(values: Any) -> xr.DataArray:
    """Label a centre."""
    return xr.DataArray(
        values,
        dims="axis",
        coords={"axis": np.array(AXES, object)},
        name="center",
        attrs={"long_name": "centre of the beam", "units": "pixel"},
    )


def given_pixels(mask: Any, array: xr.DataArray, name: str) -> npt.NDArray[np.bool_]:
    """Return a mask of detector pixels (ky, kx).

    Raises
    ------
    InputError
        If its shape is not that of the detector.
    """
    values = of_pixels(mask)
    shape = tuple(array.sizes[d] for d in AXES)
    if values.shape != shape:
        raise InputError(f"{name} has the shape {values.shape}, the detector {shape}")
    return values.astype(bool)


def of_pixels(values: Any) -> Array:
    """Return an array of detector pixels (ky, kx), in whatever order it names them."""
    named = isinstance(values, xr.DataArray) and set(values.dims) == set(AXES)
    return np.asarray(values.transpose(*AXES) if named else values)


def radius_map(shape: Sequence[int], center: npt.ArrayLike) -> Array:
    """Return the distance of every pixel from a centre, in pixels.

    Examples
    --------
    >>> radius_map((1, 3), (0, 1))
    array([[1., 0., 1.]])
    """
    cy, cx = np.asarray(center, np.float64)
    distance: Array = np.hypot(np.arange(shape[0])[:, None] - cy, np.arange(shape[1])[None] - cx)
    return distance


def pattern_sum(array: xr.DataArray) -> xr.DataArray:
    """Return the sum of all frames (ky, kx), where NaN counts for nothing; lazy, by one read, if the scan is."""
    bare = array.drop_vars(list(array.coords))
    return _folds.fold_scan(
        _sum_of_frames, _sum_of_parts, bare, core_dims=AXES, output={}, token="pattern-sum", dtype="float64"
    )


def _sum_of_frames(frames: Array) -> Array:
    return np.asarray(np.nansum(frames, axis=0, dtype=np.float64))


def _sum_of_parts(parts: list[Array]) -> Array:
    return np.asarray(sum(parts))


def beam_region(mean: Array, valid: Array) -> Array:
    """Return where the direct beam is in a mean pattern: the region round its maximum that is above half of it.

    The maximum is that of the 3 × 3 median, so that a hot pixel is not taken for the beam.
    """
    from scipy import ndimage

    usable = np.where(valid.astype(bool) & np.isfinite(mean), mean, 0.0)
    smooth = ndimage.median_filter(usable, size=3, mode="nearest")
    if smooth.max() <= 0:  # a beam of one or two pixels, or none
        smooth = usable
    peak = np.unravel_index(int(smooth.argmax()), smooth.shape)
    regions, _ = ndimage.label(smooth >= 0.5 * smooth[peak])
    return np.asarray((regions == regions[peak]) & (usable > 0))


def disc_center(mean: Array, valid: Array) -> Array:
    """Return the centroid of the direct beam (2,), in pixels; the middle of the detector if there is no beam."""
    disc = np.where(beam_region(mean, valid), mean, 0.0)
    if not disc.any():
        return np.array([(n - 1) / 2 for n in mean.shape])
    sums = (disc.sum(axis=1), disc.sum(axis=0))
    return np.array([(s * np.arange(s.size)).sum() / disc.sum() for s in sums])


def beam_radius(mean: Array, valid: Array) -> float:
    """Return the radius, in pixels, of a disc of the area of the direct beam; at least 1."""
    return max(1.0, float(np.sqrt(beam_region(mean, valid).sum() / np.pi)))


def find_bad_pixels(mean: Array, std: Array) -> npt.NDArray[np.bool_]:
    """Find dead and hot pixels in the statistics of a scan.

    Dead: never changes although its neighbours do. Hot: more than twice the largest of its eight neighbours,
    by more than ten times the deviation of those from their median.
    """
    from scipy import ndimage

    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    near = ndimage.median_filter(mean, footprint=ring, mode="mirror")
    largest = ndimage.maximum_filter(mean, footprint=ring, mode="mirror")
    spread = ndimage.median_filter(np.abs(mean - near), footprint=ring, mode="mirror")
    hot = (mean > 2 * largest) & (mean - near > 10 * spread) & (mean > 0)
    dead = (std == 0) & (ndimage.median_filter(std, footprint=ring, mode="mirror") > 0)
    found: npt.NDArray[np.bool_] = hot | dead | ~np.isfinite(mean)
    return found
