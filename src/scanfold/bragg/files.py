"""Spectra in text files as lazy arrays: each file is read once, for its counts and errors together."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from scanfold import _apply
from scanfold.bragg import _counts_kernels as kernels
from scanfold.conventions import InputError
from scanfold.io.arrays import FileArray, Region
from scanfold.io.blocks import join_blocks
from scanfold.io.tables import read_table

Array = npt.NDArray[np.float64]

#: Names of the columns of a table of counts.
COLUMNS = {
    "tof": ("tof", "time", "t", "channel", "bin", "stack", "stacks"),
    "counts": ("counts", "count", "signal", "intensity", "cts"),
    "err": ("err", "error", "errors", "std", "std_dev", "uncertainty", "sigma"),
}
#: Files in a block: few enough to be small and to be many blocks, enough to be worth a task.
_MOST, _BYTES, _BLOCKS = 64, 2**23, 8


@dataclass(frozen=True)
class Channels:
    """The time-of-flight column that all files share, in short: enough to tell another one from it."""

    points: int
    first: float
    last: float
    digest: str

    @classmethod
    def of(cls, channels: Array) -> Channels:
        """Sum up an axis."""
        rounded = np.ascontiguousarray(channels, np.float64)
        return cls(rounded.size, float(rounded[0]), float(rounded[-1]), hashlib.sha256(rounded.tobytes()).hexdigest())

    def require(self, channels: Array, path: str, model: str) -> None:
        """Raise unless a file has this axis.

        Raises
        ------
        InputError
            With what both have.
        """
        if channels.size != self.points:
            raise InputError(f"{path!r} has {channels.size} bins and {model!r} has {self.points}; files go together")
        other = Channels.of(channels)
        if other.digest != self.digest:
            raise InputError(
                f"{path!r} has another time-of-flight column ({other.first:g} … {other.last:g}) than {model!r} "
                f"({self.first:g} … {self.last:g}); the files of one measurement share it"
            )


def read_counts(path: str) -> tuple[Array, Array]:
    """Read a table of counts.

    Parameters
    ----------
    path : str
        Columns by name (see `COLUMNS`), or in the order tof, counts, err.

    Returns
    -------
    channels : ndarray (n)
        1, 2, 3 … where the table has none.
    counts : ndarray (2, n)
        Counts and their standard errors, √counts where the table has none.

    Raises
    ------
    InputError
        If there are no counts, or negative ones without an error.
    """
    channels, counts, errors = read_table(path, COLUMNS)
    return _complete(channels, counts, errors, repr(path))


def counts_of_frame(frame: Any, what: str) -> tuple[Array, Array]:
    """Return what `read_counts` does, from a DataFrame."""
    lower = [str(c).strip().lower() for c in frame.columns]
    places = {k: next((lower.index(a) for a in known if a in lower), None) for k, known in COLUMNS.items()}
    if all(p is None for p in places.values()):
        places.update(zip(["counts"] if len(lower) == 1 else list(COLUMNS), range(len(lower)), strict=False))
    empty = np.full(len(frame), np.nan)
    try:
        columns = [empty if p is None else frame.iloc[:, p].to_numpy(np.float64) for p in places.values()]
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} holds what is no number: {error}") from None
    return _complete(columns[0], columns[1], columns[2], what)


def _complete(channels: Array, counts: Array, errors: Array, what: str) -> tuple[Array, Array]:
    if not np.isfinite(counts).any():
        raise InputError(f"{what} has no counts; expected a column named one of {', '.join(COLUMNS['counts'])}")
    if np.isnan(channels).all():
        channels = np.arange(1.0, counts.size + 1)
    elif not np.isfinite(channels).all() or not (np.diff(channels) > 0).all():
        raise InputError(f"the time-of-flight column of {what} does not grow from row to row")
    return channels, np.stack([counts, checked_errors(counts, errors, what)])


def checked_errors(counts: Array, errors: Array, what: str) -> Array:
    """Return errors, √counts where none are given.

    Raises
    ------
    InputError
        If counts are negative and have no errors, or errors are negative.
    """
    if np.isnan(errors).all() and (counts < 0).any():
        row = int(np.flatnonzero((counts < 0).reshape(-1))[0])
        raise InputError(
            f"{what} has negative counts ({counts.reshape(-1)[row]:g} in bin {row % counts.shape[-1]}) and no errors; "
            "counts from which something was subtracted need a column err"
        )
    if (errors < 0).any():
        raise InputError(f"{what} has negative errors")
    return np.asarray(kernels.with_poisson_errors(counts, errors) if np.isnan(errors).all() else errors)


@dataclass(frozen=True)
class CountFiles(FileArray):
    """A block of files: (scan dims, 2, n), counts and their errors; NaN where there is no file."""

    files: tuple[str | None, ...]
    channels: Channels
    model: str

    def read(self, region: Region) -> np.ndarray:
        """Read the files of a box, whole."""
        lead = len(self.shape) - 2
        names: Any = np.array(self.files, object).reshape(self.shape[:lead])[region[:lead]]
        out = np.full((*names.shape, *self.shape[lead:]), np.nan)
        for index in np.ndindex(*names.shape):
            if names[index] is not None:
                out[index] = self._checked(names[index])
        within: Any = (..., *region[lead:])
        return np.asarray(out[within])

    def _checked(self, path: str) -> Array:
        channels, counts = read_counts(path)
        self.channels.require(channels, path, self.model)
        return counts


def lazy_counts(paths: npt.NDArray[np.object_], dims: Sequence[str], channels: Array, model: str) -> xr.DataArray:
    """Return the counts and errors of files, lazily.

    Parameters
    ----------
    paths : ndarray of str or None
        Over the scan dims.
    dims : sequence of str
        The scan dims.
    channels : ndarray (n)
        What the first file has as time of flight; the others are checked when they are read.
    model : str
        The first file.

    Returns
    -------
    DataArray
        Dims ``(*dims, column, tof)``, column 0 the counts, column 1 their errors.
    """
    axis = Channels.of(channels)
    identity, total = _identity(paths)
    steps = _steps(paths.shape, axis.points)
    grid = [range(0, n, s) for n, s in zip(paths.shape, steps, strict=True)]
    blocks = np.empty([len(g) for g in grid], object)
    for index in np.ndindex(*blocks.shape):
        box = tuple(slice(g[i], g[i] + s) for g, i, s in zip(grid, index, steps, strict=True))
        part = paths[box]
        shape = (*part.shape, 2, axis.points)
        blocks[index] = CountFiles(model, "", shape, np.dtype("f8"), tuple(part.reshape(-1)), axis, model)
    packed = join_blocks(blocks, [*dims, "column", "tof"], identity)
    # Slices of a kernel's result are not pushed down into the readers: one read serves both columns.
    whole = _apply.apply_kernel(
        _as_read, packed, core_dims=[["column", "tof"]], output={"column": 2, "tof": axis.points}, token="as read"
    )
    return whole.assign_attrs(source=json.dumps(total))


def _as_read(block: Array) -> Array:
    return block


def _steps(shape: Sequence[int], points: int) -> list[int]:
    """Return how many files a block takes along each scan dim, the last dim first."""
    count = int(np.prod(shape))
    room = max(1, min(_MOST, _BYTES // (16 * points), -(-count // _BLOCKS)))
    steps = []
    for size in reversed(shape):
        steps.append(min(size, room))
        room = max(1, room // size)
    return steps[::-1]


def _identity(paths: npt.NDArray[np.object_]) -> tuple[str, dict[str, Any]]:
    """Return a hash of names, sizes and times of all files, and their sum for the record."""
    digest, files, size, latest = hashlib.sha256(), [p for p in paths.reshape(-1) if p is not None], 0, 0
    for path in paths.reshape(-1):
        if path is None:
            digest.update(b"-")
            continue
        stat = os.stat(path)
        digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
        size, latest = size + stat.st_size, max(latest, stat.st_mtime_ns)
    total = {"path": os.path.dirname(files[0]), "files": len(files), "size": size, "mtime_ns": latest}
    return digest.hexdigest(), total
