"""Scans on disk, written chunk by chunk: counts of a Gaussian on a line, chunked HDF5 or zarr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import _problem

#: Positions of a chunk of the file, a side.
SIDE = 20
#: Different spectra that a scan is made of; larger scans repeat them, in another order in every row of chunks.
POOL = 40_000


def write(path: Path, rows: int, columns: int, points: int, dtype: str = "uint16") -> None:
    """Write a scan (y, x | energy): HDF5 with gzip, or zarr, by the end of the path."""
    energy = np.linspace(0, 10, points)
    if path.suffix == ".h5":
        _write_hdf5(path, rows, columns, energy, dtype)
    else:
        _write_zarr(path, rows, columns, energy, dtype)


def _slabs(rows: int, columns: int, points: int, dtype: str) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Yield the first row of each row of chunks, and its counts (≤ SIDE, columns, points)."""
    pool = _problem.scan(min(POOL, rows * columns), points)[0].values.astype(dtype)
    generator = np.random.default_rng(1)
    for first in range(0, rows, SIDE):
        height = min(SIDE, rows - first)
        chosen = (generator.integers(len(pool)) + np.arange(height * columns)) % len(pool)
        yield first, pool[chosen].reshape(height, columns, points)


def _write_hdf5(path: Path, rows: int, columns: int, energy: npt.NDArray[Any], dtype: str) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        entry = file.create_group("scan")
        file.attrs["default"] = "scan"
        entry.attrs.update({"NX_class": "NXdata", "signal": "counts", "axes": ["y", "x", "energy"]})
        entry["energy"] = energy
        chunks = (min(SIDE, rows), min(SIDE, columns), energy.size)
        counts = entry.create_dataset(
            "counts", (rows, columns, energy.size), dtype, chunks=chunks, compression="gzip", compression_opts=1
        )
        for first, slab in _slabs(rows, columns, energy.size, dtype):
            counts[first : first + len(slab)] = slab


def _write_zarr(path: Path, rows: int, columns: int, energy: npt.NDArray[Any], dtype: str) -> None:
    import zarr

    group = zarr.open_group(path, mode="w")
    axis = group.create_array("energy", shape=energy.shape, dtype="float64", dimension_names=["energy"])
    axis[:] = energy
    counts = group.create_array(
        "counts", shape=(rows, columns, energy.size), dtype=dtype, dimension_names=["y", "x", "energy"],
        chunks=(min(SIDE, rows), min(SIDE, columns), energy.size),
    )  # fmt: skip
    for first, slab in _slabs(rows, columns, energy.size, dtype):
        counts[first : first + len(slab)] = slab


@contextmanager
def read_only(path: str, threads: int = 2) -> Iterator[Callable[[], None]]:
    """Read a scan on threads and do nothing with it: the floor of whatever reads it."""
    import dask

    import scanfold as sf

    with dask.config.set(scheduler="threads", num_workers=threads):
        yield lambda: read_all(sf.open_scan(path))


def read_all(scan: Any) -> None:
    """Read every block of a scan, on the workers that there are; one value of each comes back."""
    data = scan[scan.attrs["primary"]].data
    first = (slice(1),) * data.ndim
    data.map_blocks(lambda b: b[first], dtype=data.dtype, chunks=tuple((1,) * n for n in data.numblocks)).compute()


def size(path: Path) -> int:
    """Return the bytes of a file or a folder."""
    return sum(p.stat().st_size for p in ([path] if path.is_file() else path.rglob("*")) if p.is_file())
