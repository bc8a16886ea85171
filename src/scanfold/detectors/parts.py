"""Kernels over the frames of a scan: where chunks cut the detector, each part on its own, and added up."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from scanfold import _apply
from scanfold._columns import Picked, apply_columns
from scanfold.conventions import InputError
from scanfold.detectors.frames import AXES
from scanfold.detectors.labels import LabelsLike, as_labels

Dims = tuple[Hashable, ...]


@dataclass(frozen=True)
class Finish:
    """What makes maps of the sums of each frame.

    Parameters
    ----------
    function : callable
        ``function(sums, *arrays)``: sums (N, n), one row of each array for each frame; returns (N, width).
    arrays : tuple of DataArray
        Dims ``(*scan, ...)``, or none of the scan's.
    width : int
        Columns of the result.
    picked : tuple of (int or slice, str)
        The columns of each map, and its dtype.
    """

    function: Callable[..., Any]
    arrays: tuple[xr.DataArray, ...]
    width: int
    picked: tuple[Picked, ...]


@dataclass(frozen=True)
class _Whole:
    """A kernel that sees whole frames, and what finishes its sums, in one."""

    kernel: Callable[..., Any]
    finish: Callable[..., Any]
    inputs: int

    def __call__(self, *blocks: Any) -> Any:
        """Return the finished columns (N, width)."""
        return self.finish(self.kernel(*blocks[: self.inputs]), *blocks[self.inputs :])


def add_parts(
    kernel: Callable[[tuple[int, int]], Callable[..., Any]],
    array: xr.DataArray,
    *weights: xr.DataArray,
    positions: Sequence[xr.DataArray] = (),
    finish: Finish,
    width: int,
    token: str,
) -> list[xr.DataArray]:
    """Apply a kernel whose results for parts of the detector add up, and make maps of the sums.

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
    finish : Finish
        From sums to maps.
    width : int
        Columns of the sums.
    token : str
        Identifies the kernel and its options.

    Returns
    -------
    list of DataArray
        The maps, dims ``(*scan)`` or ``(*scan, column)``.
    """
    scan = [d for d in array.dims if d not in AXES]
    bare = array.drop_vars(list(array.coords))
    # Further dimensions of two arguments are not the same, whatever their names.
    given = [*weights, *positions, *finish.arrays]
    kept = [AXES if i < len(weights) else scan for i in range(len(given))]
    named = [_renamed(g.drop_vars(list(g.coords)), k, i) for i, (g, k) in enumerate(zip(given, kept, strict=True))]
    pixels, more = named[: len(weights)], named[len(weights) :]
    rows, last = more[: len(positions)], more[len(positions) :]
    core = [[str(d) for d in a.dims if d not in scan] for a in (bare, *named)]
    inputs = 1 + len(pixels) + len(rows)

    def finished(function: Callable[..., Any], *blocks: xr.DataArray, core_dims: Any) -> list[xr.DataArray]:
        label = f"{token} {finish.function}"
        return apply_columns(
            function, *blocks, core_dims=core_dims, width=finish.width, picked=finish.picked, token=label
        )

    sizes = array.chunksizes if array.chunks is not None else {d: (array.sizes[d],) for d in AXES}
    cuts = [np.cumsum([0, *sizes[d]]) for d in AXES]
    if all(len(c) == 2 for c in cuts):
        whole = _Whole(kernel((0, 0)), finish.function, inputs)
        return finished(whole, bare, *named, core_dims=core)
    out: xr.DataArray | None = None
    for top, bottom in zip(cuts[0], cuts[0][1:], strict=False):
        for left, right in zip(cuts[1], cuts[1][1:], strict=False):
            part = {"ky": slice(top, bottom), "kx": slice(left, right)}
            sums = _apply.apply_kernel(
                kernel((int(top), int(left))), bare.isel(part), *(p.isel(part) for p in pixels), *rows,
                core_dims=core[:inputs], output={"sum": width}, token=f"{token} {top} {left}",
            )  # fmt: skip
            out = sums if out is None else out + sums
    assert out is not None
    return finished(finish.function, out, *last, core_dims=[["sum"], *core[inputs:]])


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
