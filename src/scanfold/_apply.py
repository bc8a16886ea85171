"""The only bridge from kernels to Dask.

A kernel is a pure function of NumPy blocks, ``(positions, …) → (positions, …)``:
no xarray, no Dask, no files, no globals. `apply_kernel` lays it over the scan, and
`prologue` makes a small whole-scan step that every block shares; `scanfold._folds`
makes one small result of a whole scan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
from dask._task_spec import DataNode
from dask.base import tokenize
from dask.delayed import Delayed

#: Keys of graphs that start so are the prologue: `runs` computes each once and keeps it.
PROLOGUE = "prologue-"

_rows: ContextVar[slice | None] = ContextVar("rows", default=None)


@contextmanager
def only_rows(rows: slice) -> Iterator[None]:
    """Let kernels see only these rows (positions, flattened) of their block; the others become NaN or 0.

    This is how `runs` halves a block that kills its worker without rebuilding the graph.
    """
    token = _rows.set(rows)
    try:
        yield
    finally:
        _rows.reset(token)


class _Block:
    """A kernel as Dask calls it: leading axes flattened to rows, and put back."""

    #: Dask puts it into the names of the graph, which without it would hold the address of this object.
    __name__ = "apply_kernel"

    def __init__(
        self,
        kernel: Callable[..., Any],
        token: str,
        core: Sequence[int],
        out: tuple[int, ...],
        dtype: str,
        ones: int = 0,
    ):
        self.kernel, self.token, self.core, self.out, self.dtype = kernel, token, tuple(core), out, dtype
        self.ones = ones

    def kept(self) -> _Block:
        """Return the kernel whose results keep every core dimension of its inputs, of length 1."""
        return _Block(self.kernel, self.token, self.core, self.out, self.dtype, sum(self.core))

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return ("scanfold-kernel", self.token, self.core, self.out, self.dtype, self.ones)

    def __call__(self, *blocks: np.ndarray) -> np.ndarray:
        lead = np.broadcast_shapes(*(b.shape[: b.ndim - c] for b, c in zip(blocks, self.core, strict=True)))
        count = int(np.prod(lead))
        flat = [
            np.broadcast_to(b, lead + b.shape[b.ndim - c :]).reshape((count, *b.shape[b.ndim - c :]))
            for b, c in zip(blocks, self.core, strict=True)
        ]
        rows = _rows.get()
        if rows is None:
            result = np.asarray(self.kernel(*flat), self.dtype)
        else:
            fill = np.nan if np.dtype(self.dtype).kind == "f" else 0
            result = np.full((count, *self.out), fill, self.dtype)
            result[rows] = self.kernel(*(f[rows] for f in flat))
        return result.reshape(lead + (1,) * self.ones + self.out)


def apply_kernel(
    kernel: Callable[..., Any],
    *arrays: xr.DataArray,
    core_dims: Sequence[Sequence[str]],
    output: Mapping[str, int],
    token: str,
    dtype: str = "float64",
) -> xr.DataArray:
    """Lay a kernel over the scan.

    Parameters
    ----------
    kernel : callable
        ``kernel(*blocks)`` with blocks of shape ``(positions, *core)``; returns
        ``(positions, *output)``. It must pickle.
    *arrays : DataArray
        Inputs. Dimensions that are not core dimensions are scan dimensions and broadcast by name.
    core_dims : sequence of sequences of str
        For each array the dimensions that a kernel sees whole; they must be one chunk.
    output : mapping of str to int
        Core dimensions of the result and their sizes.
    token : str
        Identifies the kernel and all its options; equal tokens mean equal results.
    dtype : str
        Of the result.

    Returns
    -------
    DataArray
        Lazy if any input is lazy, dims ``(scan dims, *output)``, without attributes.

    Examples
    --------
    >>> a = xr.DataArray(np.arange(6.0).reshape(2, 3), dims=("y", "energy")).chunk(y=1)
    >>> double = apply_kernel(lambda b: 2 * b, a, core_dims=[["energy"]], output={"out": 3}, token="double")
    >>> double.dims, float(double.sum())
    (('y', 'out'), 30.0)
    """
    block = _Block(kernel, token, [len(c) for c in core_dims], tuple(output.values()), dtype)
    # One kernel makes one array, so that a Dataset of slices of it computes the kernel once.
    result: xr.DataArray = labelled(partial(_lay, block), arrays, core_dims, [list(output)])
    return result


def labelled(
    lay: Callable[..., Any], arrays: Sequence[xr.DataArray], core_dims: Sequence[Sequence[str]], dims: list[list[str]]
) -> Any:
    """Label what is made of the data of arrays: one DataArray, or several, with these dimensions after the scan's."""
    return xr.apply_ufunc(
        lay,
        *map(_without_attributes, arrays),
        input_core_dims=[list(c) for c in core_dims],
        output_core_dims=dims,
        dask="allowed",
        keep_attrs=False,
        join="exact",
    )


def _without_attributes(array: xr.DataArray) -> xr.DataArray:
    """Return an array without attributes, those of its coordinates too; xarray's own way takes 25 times as long."""
    out = array.copy(deep=False)
    for part in (out, *out.coords.values()):
        part.attrs = {}
    return out


def _lay(block: _Block, *arrays: Any) -> Any:
    laid, ndim, kept = lay_blocks(block, *arrays)
    return laid[(slice(None),) * ndim + (0,) * kept] if kept else laid


def lay_blocks(block: _Block, *arrays: Any) -> tuple[Any, int, int]:
    """Call a kernel on NumPy arrays, or lay it over the blocks of dask arrays; core dimensions are last.

    Returns the result, its scan dimensions, and how many of length 1 follow on them: core dimensions stay in the
    result, to be cut off after. Those that are contracted dask copies before each call, though they are one chunk,
    and that is the whole scan.
    """
    if not any(isinstance(a, da.Array) for a in arrays):
        made = block(*arrays)
        return made, made.ndim - len(block.out), 0
    leads = [a.ndim - c for a, c in zip(arrays, block.core, strict=True)]
    ndim, kept, pairs = max(leads), sum(block.core), []
    first = ndim
    for array, lead, core in zip(arrays, leads, block.core, strict=True):
        lazy = array if isinstance(array, da.Array) else da.from_array(array, chunks=-1)
        cut = [len(c) for c in lazy.chunks[lead:]]
        if any(n > 1 for n in cut):
            raise ValueError(
                f"a kernel sees its core dimensions whole, and they are in {cut} chunks; rechunk them to one"
            )
        pairs += [lazy, (*range(ndim - lead, ndim), *range(first, first + core))]
        first += core
    out = tuple(range(first, first + len(block.out)))
    laid = da.blockwise(
        block.kept(), (*range(first), *out), *pairs,
        dtype=np.dtype(block.dtype), meta=np.empty((0,) * (first + len(out)), block.dtype), concatenate=False,
        adjust_chunks=dict.fromkeys(range(ndim, first), 1), new_axes=dict(zip(out, block.out, strict=True)),
    )  # fmt: skip
    return laid, ndim, kept


def count_along(dim: str, size: int, chunk: int | None) -> xr.DataArray:
    """Return the numbers 0 … size − 1 along a dimension, lazily in chunks of `chunk`, or in memory if it is None.

    Examples
    --------
    >>> count_along("position", 5, 2).chunks, count_along("position", 3, None).values.tolist()
    (((2, 2, 1),), [0, 1, 2])
    """
    numbers = np.arange(size) if chunk is None else da.arange(size, chunks=chunk)
    return xr.DataArray(numbers, dims=dim)


def prologue(
    function: Callable[..., np.ndarray],
    *arrays: da.Array | np.ndarray,
    shape: tuple[int, ...],
    token: str,
    dtype: str = "float64",
) -> da.Array:
    """Make a small whole-scan step that every block depends on, as a lazy array in one chunk.

    Parameters
    ----------
    function : callable
        ``function(*arrays)`` of whole NumPy arrays: a sample of the scan, never the scan.
    *arrays : dask arrays or ndarrays
        Its inputs.
    shape, dtype
        Of its result.
    token : str
        Identifies the function and its options.

    Returns
    -------
    dask array
        Its key starts with ``prologue-``: a run computes it once and keeps it in the ledger.
    """
    name = PROLOGUE + tokenize(token, [getattr(a, "name", a) for a in arrays], shape, dtype)
    # As one block each, not as collections: those dask would optimise one by one, renaming tasks that they share, and
    # what two of them read would be read twice.
    whole = [a.rechunk(-1).to_delayed(optimize_graph=False).item() if isinstance(a, da.Array) else a for a in arrays]
    value = dask.delayed(function, pure=True)(*whole, dask_key_name=name)
    return da.from_delayed(value, shape=shape, dtype=np.dtype(dtype), name="shared-" + name)


def apply_whole(
    function: Callable[..., np.ndarray],
    *arrays: xr.DataArray,
    output: Mapping[str, int],
    token: str,
    dtype: str = "float64",
) -> xr.DataArray:
    """Apply a function to whole small arrays: now if they are in memory, as a `prologue` if any is lazy.

    Parameters
    ----------
    function : callable
        ``function(*values)`` of whole NumPy arrays, which returns an array of the shape of `output`.
    *arrays : DataArray
        Its inputs: maps, patterns, sums; never a scan.
    output : mapping of str to int
        Dimensions of the result and their sizes.
    token : str
        Identifies the function and its options.
    dtype : str
        Of the result.

    Returns
    -------
    DataArray
        Dims `output`, without coordinates and attributes.

    Examples
    --------
    >>> a = xr.DataArray(np.arange(4.0), dims="x")
    >>> float(apply_whole(np.median, a, output={}, token="median"))
    1.5
    """
    shape = tuple(output.values())
    if any(a.chunks is not None for a in arrays):
        data = prologue(function, *(a.data for a in arrays), shape=shape, token=token, dtype=dtype)
    else:
        data = np.asarray(function(*(a.values for a in arrays)), dtype)
    return xr.DataArray(data, dims=tuple(output))


def with_prologues(ds: xr.Dataset) -> xr.Dataset:
    """Return a lazy Dataset whose prologues are computed: parts of it that are computed one by one take their values.

    Parameters
    ----------
    ds : Dataset

    Returns
    -------
    Dataset
        Lazy where it was.
    """
    graph: Any = ds.__dask_graph__()  # type: ignore[no-untyped-call]
    keys = [k for k in graph or () if isinstance(k, str) and k.startswith(PROLOGUE)]
    if not keys:
        return ds
    known = dict(graph)
    values = dask.compute(*(Delayed(key, known) for key in keys))
    known |= {key: DataNode(key, value) for key, value in zip(keys, values, strict=True)}
    lazy = {n: v.data for n, v in ds.variables.items() if v.chunks is not None}
    made = {n: (ds[n].dims, da.Array(known, a.name, a.chunks, meta=a._meta), ds[n].attrs) for n, a in lazy.items()}
    return ds.assign(made).set_coords([n for n in lazy if n in ds.coords])


def read_again(array: xr.DataArray) -> xr.DataArray:
    """Return a lazy array under other names, so that a second pass in the same graph reads it again.

    Under the same names its blocks would be kept in memory from one pass to the next: the whole scan.
    """
    from dask.graph_manipulation import clone

    return array if array.chunks is None else array.copy(data=clone(array.data, seed="read again"))


def take_rows(source: da.Array, rows: np.ndarray, batch: int) -> da.Array:
    """Take rows of an array, lazily, a task for each batch that depends on the blocks it takes from.

    Parameters
    ----------
    source : dask array
    rows : (g, c) int
        Indices along its first dimension, in memory; each batch carries its own.
    batch : int
        Along g.

    Returns
    -------
    dask array
        ``(g, c, *frame)``.

    Examples
    --------
    >>> source = da.arange(10, chunks=4)
    >>> take_rows(source, np.array([[9, 1], [3, 4], [0, 8]]), 2).compute().tolist()
    [[9, 1], [3, 4], [0, 8]]
    """
    whole = source.rechunk({axis: -1 for axis in range(1, source.ndim)})
    # as they are: optimised, prologues lose the names by which they are known
    blocks, edges = whole.to_delayed(optimize_graph=False).ravel(), np.cumsum((0, *whole.chunks[0]))
    token = tokenize(source.name, rows, batch)
    parts = []
    for first in range(0, len(rows), batch):
        some = rows[first : first + batch]
        owners = np.unique(np.searchsorted(edges, some, side="right") - 1)
        key = f"rows-{token}-{first}"
        task = dask.delayed(_pick, pure=True)(
            some, [int(edges[o]) for o in owners], [blocks[o] for o in owners], dask_key_name=key
        )
        shape = (*some.shape, *source.shape[1:])
        parts.append(da.from_delayed(task, shape=shape, dtype=source.dtype, name=f"part-{key}"))
    return da.concatenate(parts) if len(parts) > 1 else parts[0]


def _pick(rows: np.ndarray, starts: Sequence[int], blocks: Sequence[np.ndarray]) -> np.ndarray:
    out = np.empty((*rows.shape, *blocks[0].shape[1:]), blocks[0].dtype)
    for start, block in zip(starts, blocks, strict=True):
        here = (rows >= start) & (rows < start + len(block))
        out[here] = block[rows[here] - start]
    return out
