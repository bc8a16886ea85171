"""Columns of what a kernel packs into one array, each an array of its own."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import dask.array as da
import numpy as np
from dask._task_spec import Task, TaskRef
from dask.highlevelgraph import HighLevelGraph


def columns(packed: Any, picked: Sequence[tuple[int, str]]) -> list[Any]:
    """Return columns of an array (…, K) as arrays (…), lazy if it is.

    One task for each block and column, which dask makes two of, and takes several times as long to lay out.

    Parameters
    ----------
    packed : dask array or ndarray
        Its last dimension is one chunk.
    picked : sequence of (int, str)
        Which column, and the dtype it gets.

    Returns
    -------
    list of dask arrays or ndarrays

    Examples
    --------
    >>> first, last = columns(da.arange(12, chunks=12).reshape(4, 3).rechunk((2, 3)), [(0, "float64"), (2, "int8")])
    >>> first.compute().tolist(), last.chunks
    ([0.0, 3.0, 6.0, 9.0], ((2, 2),))
    """
    whole = (slice(None),) * (packed.ndim - 1)
    if not isinstance(packed, da.Array):
        return [cut_column(packed, (*whole, i), dtype) for i, dtype in picked]
    blocks = list(itertools.product(*map(range, packed.numblocks[:-1])))
    made = []
    for i, dtype in picked:
        name = f"column-{i}-{dtype}-{packed.name}"
        layer = {
            (name, *b): Task((name, *b), cut_column, TaskRef((packed.name, *b, 0)), (*whole, i), dtype) for b in blocks
        }
        graph = HighLevelGraph.from_collections(name, layer, dependencies=[packed])
        made.append(da.Array(graph, name, packed.chunks[:-1], meta=np.empty((0,) * len(whole), dtype)))
    return made


def cut_column(block: np.ndarray, index: tuple[Any, ...], dtype: str) -> np.ndarray:
    """Return a column of a block as an array of its own, which does not keep the block in memory."""
    return np.asarray(block[index]).astype(dtype)
