"""One lazy array of many files: a grid of blocks, each of which reads its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr
from dask.base import tokenize


def join_blocks(blocks: npt.NDArray[np.object_], dims: Sequence[str], token: str) -> xr.DataArray:
    """Join arrays in files along the leading dimensions; each is one chunk, read in one piece.

    Parameters
    ----------
    blocks : ndarray of FileArray
        As many dimensions as scan dimensions; those in a row have the same height, and so on.
    dims : sequence of str
        Of the result.
    token : str
        Identifies what the files hold.

    Returns
    -------
    DataArray
        Lazy.
    """
    lazy = np.empty(blocks.shape, object)
    for index in np.ndindex(*blocks.shape):
        block: Any = blocks[index]
        meta = np.empty((0,) * block.ndim, block.dtype)
        # Each block has its own small reader: one for all files would be sent along with every task.
        lazy[index] = da.from_array(
            block, chunks=-1, name="files-" + tokenize(token, index, block.shape), meta=meta, asarray=False,
            inline_array=True,
        )  # fmt: skip
    return xr.DataArray(_concatenate(lazy, 0), dims=list(dims))


def _concatenate(parts: npt.NDArray[np.object_], axis: int) -> da.Array:
    if parts.ndim == 1:
        return da.concatenate(list(parts), axis=axis)
    return da.concatenate([_concatenate(part, axis + 1) for part in parts], axis=axis)
