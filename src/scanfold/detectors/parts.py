"""Kernels over the frames of a scan: where chunks cut the detector, each part on its own, and added up."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from scanfold import _apply
from scanfold.conventions import InputError
from scanfold.detectors.frames import AXES
from scanfold.detectors.labels import LabelsLike, as_labels

Dims = tuple[Hashable, ...]


def add_parts(
    kernel: Callable[[tuple[int, int]], Callable[..., Any]],
    array: xr.DataArray,
    *weights: xr.DataArray,
    positions: Sequence[xr.DataArray] = (),
    width: int,
    token: str,
) -> xr.DataArray:
    """Apply a kernel whose results for parts of the detector add up.

    Parameters
    ----------
    kernel : callable
        ``kernel(origin)`` makes the kernel of the part that begins at these pixels.
    array : DataArray
        Frames ``(*scan, ky, kx)``.
    *weights : DataArray
        Of detector pixels, dims ``(ky, kx, ...)``, passed after the frames.
    positions : sequence of DataArray
        Of scan positions, dims ``(*scan, ...)``, passed last.
    width : int
        Columns of the result.
    token : str
        Identifies the kernel and its options.

    Returns
    -------
    DataArray
        Dims ``(*scan, column)``.
    """
    scan = [d for d in array.dims if d not in AXES]
    bare = array.drop_vars(list(array.coords))
    # Further dimensions of two arguments are not the same, whatever their names.
    pixels = [_renamed(w.drop_vars(list(w.coords)), AXES, i) for i, w in enumerate(weights)]
    rows = [_renamed(p, scan, len(weights) + i) for i, p in enumerate(positions)]
    core = [list(AXES), *([str(d) for d in a.dims if d not in scan] for a in (*pixels, *rows))]
    sizes = array.chunksizes if array.chunks is not None else {d: (array.sizes[d],) for d in AXES}
    cuts = [np.cumsum([0, *sizes[d]]) for d in AXES]
    out: xr.DataArray | None = None
    for top, bottom in zip(cuts[0], cuts[0][1:], strict=False):
        for left, right in zip(cuts[1], cuts[1][1:], strict=False):
            part = {"ky": slice(top, bottom), "kx": slice(left, right)}
            made = _apply.apply_kernel(
                kernel((int(top), int(left))), bare.isel(part), *(p.isel(part) for p in pixels), *rows,
                core_dims=core, output={"column": width}, token=f"{token} {top} {left}",
            )  # fmt: skip
            out = made if out is None else out + made
    assert out is not None
    return out


def _renamed(array: xr.DataArray, kept: Sequence[Hashable], number: int) -> xr.DataArray:
    return array.rename({d: f"{d}_{number}" for d in array.dims if d not in kept})


def like_scan(values: xr.DataArray, array: xr.DataArray, dims: Dims) -> xr.DataArray:
    """Return values of scan positions in the chunks of the scan, without coordinates."""
    values = values.drop_vars(list(values.coords))
    if array.chunks is None:
        return values
    return values.chunk({d: array.chunksizes.get(d, -1) for d in values.dims})


def scan_map(given: Any, array: xr.DataArray, dims: Dims, name: str) -> xr.DataArray:
    """Return a positive number for each position, in memory, as float64.

    Raises
    ------
    InputError
        If it does not fit the scan, or is not positive and finite everywhere.
    """
    found = given if isinstance(given, xr.DataArray) else xr.DataArray(np.asarray(given), dims=dims)
    expected = {d: array.sizes[d] for d in dims}
    if dict(found.sizes) != expected:
        raise InputError(f"{name} has the sizes {dict(found.sizes)}, the scan {expected}")
    values = found.transpose(*dims).compute().astype(np.float64).drop_vars(list(found.coords))
    if not (np.isfinite(values) & (values > 0)).all():
        raise InputError(f"{name} must be finite and positive everywhere")
    return values


def scan_shift(given: xr.DataArray, array: xr.DataArray, dims: Dims) -> xr.DataArray:
    """Return a shift of the beam at each position, dims ``(*scan, axis)``.

    Raises
    ------
    InputError
        If it does not fit the scan.
    """
    expected = {**{d: array.sizes[d] for d in dims}, "axis": 2}
    if not isinstance(given, xr.DataArray) or dict(given.sizes) != expected:
        found = dict(given.sizes) if isinstance(given, xr.DataArray) else type(given).__name__
        raise InputError(f"descan is {found}; expected a DataArray of {expected}, as det.descan makes it")
    return given.transpose(*dims, "axis")


def own_gate(labels: LabelsLike, gates: xr.Dataset, array: xr.DataArray, dims: Dims) -> xr.DataArray:
    """Return the number of the gate of each position; one more than the last for noise and unknown labels."""
    checked = as_labels(labels, array, dims)
    names = gates["cluster"].values
    if checked.index is None:
        assert checked.weights is not None
        own = checked.names[checked.weights.values.argmax(axis=-1)]
    else:
        own = np.where(checked.index.values < 0, -1, checked.names[checked.index.values])
    order = np.argsort(names, kind="stable")
    number = order[np.clip(np.searchsorted(names, own, sorter=order), 0, len(names) - 1)]
    return xr.DataArray(np.where(names[number] == own, number, len(names)).astype(np.int32), dims=dims)
