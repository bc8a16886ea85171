"""Frames to spectra, or back: a bounded two-stage pass through tiles on disk.

A rechunk inside Dask's memory kills its workers at a few times their memory.
Here slabs of the scan are written as uncompressed tiles, each block once, and
the tiles are then read across, so that every step holds one block.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize

from scanfold import conventions
from scanfold._paths import persist, remove, zarr_options
from scanfold.conventions import InputError, InputTypeError
from scanfold.runs import ledger as ledgers
from scanfold.runs import plan
from scanfold.runs.store import compute_to, is_finished, open_store

#: Bytes of a slab, and of a chunk of the result.
BLOCK = 64 * 2**20


class _Tiles:
    """The tiles as an array, opened anew by each task that reads."""

    def __init__(self, path: str, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]):
        self.path, self.name, self.shape, self.dtype, self.ndim = path, name, shape, dtype, len(shape)

    def __getitem__(self, index: Any) -> np.ndarray:
        return persist(self._read, index)

    def _read(self, index: Any) -> np.ndarray:
        import zarr

        return np.asarray(zarr.open_array(f"{self.path}/{self.name}", mode="r", **zarr_options(self.path))[index])


def transpose_scan(
    scan: xr.DataArray,
    store: str | os.PathLike[str],
    *,
    dim: str | Sequence[str],
    resume: bool = True,
    progress: bool = True,
) -> xr.Dataset:
    """Rewrite a scan so that other dimensions are whole in each chunk, with bounded memory.

    A stack of energy frames is chunked by frame; fits need whole spectra:
    ``transpose_scan(frames, "spectra.zarr", dim="energy")``. Needs room on the disk for
    the scan, uncompressed, beside `store`; it is removed at the end. Resumes like `save`.

    Parameters
    ----------
    scan : DataArray
        Lazy; any dimensions, any chunks.
    store : path or URL
        A folder, or a URL as in `save`; new, empty, or written by an earlier run of the same work.
    dim : str or sequence of str
        The dimensions that become one chunk; the others are cut.
    resume, progress : bool
        As in `save`.

    Returns
    -------
    Dataset
        The store, opened lazily: the same dimensions, coordinates and values, chunked the other way.

    Raises
    ------
    InputError
        As `save`; or for a dimension that the scan lacks, or `dim` that leaves nothing to cut.
    RunError
        As `save`.

    Examples
    --------
    >>> import tempfile
    >>> frames = xr.DataArray(np.ones((4, 3, 2)), dims=("energy", "y", "x"), name="counts").chunk(energy=1)
    >>> path = tempfile.mkdtemp() + "/spectra.zarr"
    >>> spectra = transpose_scan(frames, path, dim="energy", progress=False)
    >>> spectra["counts"].chunksizes["energy"]
    (4,)
    """
    if not isinstance(scan, xr.DataArray):
        raise InputTypeError(f"expected an xarray DataArray, found {type(scan).__name__}; pass one variable of it")
    whole = (dim,) if isinstance(dim, str) else tuple(dim)
    for name in whole:
        conventions.require_dim(scan, name)
    if set(whole) >= set(scan.dims):
        raise InputError(f"dim={whole} leaves nothing to cut of {tuple(map(str, scan.dims))}; name fewer dimensions")
    path = ledgers.store_path(store)
    lazy = scan if scan.chunks is not None else scan.chunk()
    source = lazy.reset_coords(drop=True).drop_vars(lazy.coords).to_dataset(name="tiles")
    provenance = conventions.record("transpose_scan", {"scan": lazy}, {"dim": list(whole)})
    source.attrs["provenance"] = provenance
    slab, tile = _shapes(source, whole)
    tag = hashlib.sha256(json.dumps([ledgers.identity(source), str(path)]).encode()).hexdigest()[:8]
    tiles = path.with_name(f".{path.name}.{tag}.tiles")
    result = _read_across(lazy, str(tiles), tile, whole, provenance)
    if is_finished(ledgers.Ledger(path), ledgers.identity(result), resume):
        return open_store(path)
    dims = tuple(map(str, scan.dims))
    slabs = [plan.Group(dims, ("tiles",), slab, tile)]
    compute_to(source, tiles, resume=resume, progress=progress, groups=slabs, compress=False, label="transpose, 1 of 2")
    across = tuple(scan.sizes[d] if d in whole else t for d, t in zip(scan.dims, tile, strict=True))
    groups = [plan.Group(dims, (str(next(iter(result.data_vars))),), across, across)]
    saved = compute_to(result, path, resume=resume, progress=progress, groups=groups, label="transpose, 2 of 2")
    remove(tiles)
    return saved


def _read_across(
    scan: xr.DataArray, tiles: str, tile: Sequence[int], whole: Sequence[str], provenance: str
) -> xr.Dataset:
    """Return the scan as it will be read from its tiles, with the dimensions `whole` in one chunk."""
    chunks = tuple(scan.sizes[d] if d in whole else t for d, t in zip(scan.dims, tile, strict=True))
    name = "tiles-" + tokenize(provenance, chunks)
    data = da.from_array(
        _Tiles(tiles, "tiles", scan.shape, scan.dtype), chunks, name=name, meta=np.empty((0,) * scan.ndim, scan.dtype)
    )
    coords = {n: c.compute() for n, c in scan.coords.items()}
    array = xr.DataArray(data, dims=scan.dims, coords=coords, attrs=scan.attrs, name=scan.name or "data")
    ds = array.to_dataset()
    ds.attrs.update(provenance=provenance, primary=str(array.name))
    return ds


def _shapes(source: xr.Dataset, whole: Sequence[str]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shapes of a slab, which is read at once, and of the tiles that it is written as.

    A slab is cut from whole tiles; a row of tiles across the slabs is one chunk of the result.
    """
    array = source["tiles"]
    cell = {d: plan.step(source, ["tiles"], str(d)) for d in array.dims}
    cut = [d for d in array.dims if d not in whole]
    tile = {d: array.sizes[d] for d in array.dims}
    while array.dtype.itemsize * math.prod(tile.values()) > BLOCK and max(tile[d] for d in cut) > 1:
        longest = max(cut, key=lambda d: tile[d])
        tile[longest] = math.ceil(tile[longest] / 2)
    for d in cut:
        tile[d] = _fitting(tile[d], cell[d], array.sizes[d])
    slab = {d: cell[d] if d in whole else max(cell[d], tile[d]) for d in array.dims}
    for d in whole:
        room = BLOCK / (array.dtype.itemsize * math.prod(slab.values()))
        slab[d] = min(array.sizes[d], cell[d] * max(1, int(room)))
        tile[d] = slab[d]
    return _ordered(array, slab), _ordered(array, tile)


def _fitting(wanted: int, cell: int, size: int) -> int:
    """Return the length nearest below `wanted` that fits into the cells of the source, or holds whole ones."""
    if cell >= size:
        return wanted
    if wanted >= cell:
        return wanted // cell * cell
    return max(n for n in range(1, wanted + 1) if cell % n == 0)


def _ordered(array: xr.DataArray, lengths: Mapping[Any, int]) -> tuple[int, ...]:
    return tuple(lengths[d] for d in array.dims)
