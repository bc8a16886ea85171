"""The other half of the bridge to Dask: folds of a whole scan into one small result."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize

from scanfold._apply import prologue


def fold_scan(
    chunk: Callable[..., np.ndarray],
    combine: Callable[[list[np.ndarray]], np.ndarray],
    array: xr.DataArray,
    *others: xr.DataArray,
    core_dims: Sequence[str],
    output: Mapping[str, int],
    token: str,
    dtype: str,
    fan_in: int = 4,
) -> xr.DataArray:
    """Fold the scan dimensions away: one small array, by a tree over the blocks, kept as a `prologue`.

    Core dimensions may be cut into chunks: each chunk of the detector is folded on its own.

    Parameters
    ----------
    chunk : callable
        ``chunk(block, *others)`` with a block ``(positions, *core)`` and one row for each position of the
        others; returns ``(*output, *core)``.
    combine : callable
        Of a list of such partial results, one of the same kind.
    array : DataArray
        The scan, lazy or not.
    *others : DataArray
        In memory, with the scan dimensions of the array first.
    core_dims : sequence of str
        Dimensions that stay.
    output : mapping of str to int
        New leading dimensions.
    token, dtype : str
        Identifies the functions and their options; the dtype of the result.
    fan_in : int
        How many partial results are combined, and held, at a time.

    Returns
    -------
    DataArray
        Dims ``(*output, *core_dims)``; lazy, in one chunk, if the scan is lazy.

    Examples
    --------
    >>> scan = xr.DataArray(np.ones((4, 3)), dims=("y", "energy")).chunk(y=1, energy=2)
    >>> total = fold_scan(lambda b: b.sum(0), sum, scan, core_dims=["energy"], output={}, token="sum", dtype="float64")
    >>> total.values
    array([4., 4., 4.])
    """
    scan_dims = [d for d in array.dims if d not in core_dims]
    ndim, dims = len(scan_dims), (*output, *core_dims)
    array = array.transpose(*scan_dims, *core_dims)
    rows = [o.transpose(*scan_dims, ...).values for o in others]
    if array.chunks is None:
        return xr.DataArray(combine([_flattened(chunk, ndim, array.values, *rows)]), dims=dims)
    blocks = array.data.to_delayed(optimize_graph=False)
    name = "fold-" + tokenize(token, array.data.name, rows, dtype)
    cuts = [np.cumsum([0, *c]) for c in array.data.chunks]

    def fold(core: tuple[int, ...]) -> da.Array:
        parts = []
        for index in np.ndindex(*blocks.shape[:ndim]):
            where = tuple(slice(c[i], c[i + 1]) for c, i in zip(cuts, index, strict=False))
            key = "-".join(map(str, (name, *core, 0, *index)))
            cut = [r[where] for r in rows]
            parts.append(dask.delayed(_flattened)(chunk, ndim, blocks[(*index, *core)], *cut, dask_key_name=key))
        level = 0
        while len(parts) > 1 or level == 0:
            level += 1
            groups = [parts[i : i + fan_in] for i in range(0, len(parts), fan_in)]
            keys = ["-".join(map(str, (name, *core, level, i))) for i in range(len(groups))]
            parts = [dask.delayed(combine)(g, dask_key_name=k) for g, k in zip(groups, keys, strict=True)]
        sizes = tuple(array.data.chunks[ndim + a][i] for a, i in enumerate(core))
        return da.from_delayed(parts[0], shape=(*output.values(), *sizes), dtype=np.dtype(dtype), name=f"{name}-{core}")

    whole = _joined(fold, blocks.shape[ndim:], len(output))
    return xr.DataArray(prologue(np.asarray, whole, shape=whole.shape, token="fold", dtype=dtype), dims=dims)


def _flattened(chunk: Callable[..., np.ndarray], ndim: int, block: np.ndarray, *rows: np.ndarray) -> np.ndarray:
    """Call a chunk function with the scan dimensions of its blocks flattened."""
    count = math.prod(block.shape[:ndim])
    return chunk(*(b.reshape(count, *b.shape[ndim:]) for b in (block, *rows)))


def _joined(fold: Callable[[tuple[int, ...]], da.Array], counts: Sequence[int], lead: int) -> da.Array:
    """Put the folded chunks of the detector side by side."""

    def along(core: tuple[int, ...]) -> da.Array:
        if len(core) == len(counts):
            return fold(core)
        parts = [along((*core, i)) for i in range(counts[len(core)])]
        return parts[0] if len(parts) == 1 else da.concatenate(parts, axis=lead + len(core))

    return along(())


def reduce_blocks(
    array: xr.DataArray,
    chunk: Callable[[np.ndarray], Any],
    combine: Callable[[list[Any]], Any],
    finalize: Callable[[Any], Any],
    *,
    fan_in: int = 16,
) -> Any:
    """Fold the blocks of an array into one small result, as a tree.

    Parameters
    ----------
    array : DataArray
        Lazy or not.
    chunk, combine, finalize : callables
        ``chunk(block)`` gives a partial result, ``combine(list of partials)`` one of the same kind,
        ``finalize(partial)`` the answer.
    fan_in : int
        How many partials are combined at a time.

    Returns
    -------
    Delayed
        ``.compute()`` gives the answer.

    Examples
    --------
    >>> a = xr.DataArray(np.ones((4, 4)), dims=("y", "x")).chunk(y=1)
    >>> reduce_blocks(a, np.sum, sum, float).compute()
    16.0
    """
    lazy = array.data if array.chunks is not None else da.from_array(array.values, chunks=-1)
    parts = [dask.delayed(chunk)(b) for b in lazy.to_delayed().ravel()]
    while len(parts) > 1:
        parts = [dask.delayed(combine)(parts[i : i + fan_in]) for i in range(0, len(parts), fan_in)]
    return dask.delayed(finalize)(parts[0])
