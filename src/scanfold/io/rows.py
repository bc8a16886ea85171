"""Chosen rows of an array in a file: sorted, each read once, a few chunks at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr

from scanfold.io.arrays import FileArray

#: Bytes that are read at a time, unless one chunk of the file has more.
PIECE = 2**22

#: Arrays in files by the name of the dask array that reads them, with the rows in a chunk of the file; the latest KEPT.
#: The name is a hash of file and request: an array that anything was done to has another one.
_known: OrderedDict[str, tuple[FileArray, int]] = OrderedDict()
KEPT = 1024


def remember(name: str, data: FileArray, chunk: int) -> None:
    """Keep in mind which array of a file a dask array reads."""
    _known[name] = data, chunk
    _known.move_to_end(name)
    while len(_known) > KEPT:
        _known.popitem(last=False)


@dataclass(frozen=True)
class Rows:
    """Rows of an array in a file.

    Parameters
    ----------
    data : FileArray
    chunk : int
        Rows in a chunk of the file.
    """

    data: FileArray
    chunk: int

    @classmethod
    def of(cls, array: xr.DataArray) -> Rows | None:
        """Return the rows of what `open_scan` opened; None if it was changed since, or cannot be read in parts."""
        data, chunk = _known.get(getattr(array.data, "name", ""), (None, 1))
        return cls(data, chunk) if data is not None and data.in_parts else None

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Return these rows, in this order.

        Parameters
        ----------
        rows : (r,) int
            May repeat.
        """
        out = np.empty((rows.size, *self.data.shape[1:]), self.data.dtype)
        most = max(1, PIECE // max(1, self._row))
        order = np.argsort(rows, kind="stable")
        ordered = rows[order]
        for first, last in self._pieces(ordered):
            low = int(ordered[first])
            frames = self.data[low : int(ordered[last - 1]) + 1]
            for at in range(first, last, most):
                some = slice(at, min(at + most, last))
                out[order[some]] = frames[ordered[some] - low]
        return out

    @property
    def _row(self) -> int:
        return self.data.dtype.itemsize * int(np.prod(self.data.shape[1:]))

    def _pieces(self, ordered: np.ndarray) -> Iterator[tuple[int, int]]:
        """Yield runs of sorted rows that are read together: neighbouring chunks, up to PIECE bytes."""
        if not ordered.size:
            return
        most = max(1, PIECE // max(1, self._row * self.chunk))  # chunks in a piece
        chunks = ordered // self.chunk
        first = 0
        for last in range(1, ordered.size + 1):
            if last == ordered.size or chunks[last] > chunks[last - 1] + 1 or chunks[last] - chunks[first] >= most:
                yield first, last
                first = last
