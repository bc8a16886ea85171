"""Columns of what a kernel packs into one array, each an array of its own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask._task_spec import Task, TaskRef
from dask.highlevelgraph import HighLevelGraph

from scanfold import _apply

#: Which column, or which of them, and the dtype that they get.
Picked = tuple[int | slice, str]


def apply_columns(
    kernel: Callable[..., Any],
    *arrays: xr.DataArray,
    core_dims: Sequence[Sequence[str]],
    width: int,
    picked: Sequence[Picked],
    token: str,
) -> list[xr.DataArray]:
    """Lay a kernel over the scan that makes several maps at once.

    Parameters
    ----------
    kernel, arrays, core_dims, token
        As in `apply_kernel`; the kernel returns ``(positions, width)``.
    width : int
    picked : sequence of (int or slice, str)
        The columns of each map, and its dtype.

    Returns
    -------
    list of DataArray
        Dims ``(scan dims)``, or with ``column`` last for a slice. Computed together, they compute the kernel once.

    Examples
    --------
    >>> a = xr.DataArray(np.arange(6.0).reshape(2, 3), dims=("y", "energy")).chunk(y=1)
    >>> picked = [(0, "int8"), (slice(1, 3), "float64")]
    >>> first, rest = apply_columns(lambda b: b, a, core_dims=[["energy"]], width=3, picked=picked, token="same")
    >>> first.values.tolist(), rest.dims
    ([0, 3], ('y', 'column'))
    """
    block = _apply._Block(kernel, token, [len(c) for c in core_dims], (width,), "float64")
    dims = [["column"] if isinstance(index, slice) else [] for index, _ in picked]

    def lay(*data: Any) -> Any:
        packed, _, ones = _apply.lay_blocks(block, *data)
        made = columns(packed, picked, ones)
        return tuple(made) if len(made) > 1 else made[0]

    made = _apply.labelled(lay, arrays, core_dims, dims)
    return list(made) if len(dims) > 1 else [made]


def columns(packed: Any, picked: Sequence[Picked], ones: int = 0) -> list[Any]:
    """Return columns of an array (…, K), lazy if it is.

    One task for each block and column, which dask makes two of, and takes several times as long to lay out.

    Parameters
    ----------
    packed : dask array or ndarray
        Its last dimension is one chunk.
    picked : sequence of (int or slice, str)
        Which column, or which of them, and the dtype it gets.
    ones : int
        How many dimensions of length 1 there are before the last, to be left out.

    Returns
    -------
    list of dask arrays or ndarrays
        (…), or for a slice (…, columns).

    Examples
    --------
    >>> first, last = columns(da.arange(12, chunks=12).reshape(4, 3).rechunk((2, 3)), [(0, "float64"), (2, "int8")])
    >>> first.compute().tolist(), last.chunks
    ([0.0, 3.0, 6.0, 9.0], ((2, 2),))
    """
    lead = packed.ndim - 1 - ones
    before = (slice(None),) * lead + (0,) * ones
    if not isinstance(packed, da.Array):
        return [cut_column(packed, (*before, index), dtype) for index, dtype in picked]
    blocks = list(itertools.product(*map(range, packed.numblocks[:lead])))
    made = []
    for index, dtype in picked:
        few = isinstance(index, slice)
        label = f"{index.start}-{index.stop}" if isinstance(index, slice) else index
        name = f"column-{label}-{dtype}-{packed.name}"
        layer = {}
        for block in blocks:
            key, source = (name, *block, *[0] * few), TaskRef((packed.name, *block, *[0] * (ones + 1)))
            layer[key] = Task(key, cut_column, source, (*before, index), dtype)
        graph = HighLevelGraph.from_collections(name, layer, dependencies=[packed])
        width = ((len(range(packed.shape[-1])[index]),),) if isinstance(index, slice) else ()
        made.append(da.Array(graph, name, (*packed.chunks[:lead], *width), meta=np.empty((0,) * (lead + few), dtype)))
    return made


def cut_column(block: np.ndarray, index: tuple[Any, ...], dtype: str) -> np.ndarray:
    """Return a column of a block as an array of its own, which does not keep the block in memory."""
    values = np.asarray(block[index])
    # What is missing is not true.
    return values == 1 if dtype == "bool" else values.astype(dtype)
