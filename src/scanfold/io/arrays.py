"""Arrays that live in a file: small picklable objects that read one region when indexed.

A `FileArray` holds a path, never a handle, so that it can be sent to any
worker; every read opens the file, reads one box and closes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scanfold._paths import persist
from scanfold.conventions import InputError, ReadError, ScanError, place

Region = tuple[slice, ...]


@contextmanager
def reading(path: str | Path, dataset: str | None = None) -> Iterator[None]:
    """Turn whatever a library raises while it reads into one `InputError` that names file and dataset."""
    try:
        yield
    except ScanError:
        raise
    except FileNotFoundError as exc:
        raise ReadError(
            f"there is no {str(path)!r}{place()}: it was moved or removed, or its file system is not seen there"
        ) from exc
    except MemoryError as exc:
        raise InputError(
            f"{_where(path, dataset)} does not fit in memory ({exc}); "
            "choose smaller chunks=, or the file's header is wrong"
        ) from exc
    except Exception as exc:
        kind = ReadError if isinstance(exc, OSError) else InputError
        raise kind(
            f"cannot read {_where(path, dataset)}{place()}: {type(exc).__name__}: {exc}. "
            f"The file may be truncated, damaged, or of another format than its name says"
        ) from exc


def _where(path: str | Path, dataset: str | None) -> str:
    return f"{str(path)!r}" if dataset is None else f"dataset {dataset!r} of {str(path)!r}"


@dataclass(frozen=True)
class FileArray:
    """An array in a file, read on indexing.

    Parameters
    ----------
    path : str
        The file.
    dataset : str
        The array's name in the file; empty for a file of one array.
    shape : tuple of int
    dtype : numpy dtype
    """

    path: str
    dataset: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def in_parts(self) -> bool:
        """Whether a part of it is read without reading all before it."""
        return True

    def read(self, region: Region) -> np.ndarray:
        """Read one box; `region` has one slice of step 1 for each dimension."""
        raise NotImplementedError

    def __getitem__(self, key: Any) -> np.ndarray:
        """Read a selection: integers, slices and index arrays, each along its own dimension."""
        region, inside = boxed(key, self.shape)
        with reading(self.path, self.dataset or None):
            box = np.asarray(persist(self.read, region))
            expected = tuple(s.stop - s.start for s in region)
            if box.shape != expected:
                raise InputError(
                    f"dataset {self.dataset!r} of {self.path!r} gave {box.shape} where {expected} was asked for; "
                    "the file changed since it was opened, or is damaged"
                )
        for axis in reversed(range(self.ndim)):
            if inside[axis] is not None:
                box = box[(slice(None),) * axis + (inside[axis],)]
        return box


def boxed(key: Any, shape: Sequence[int]) -> tuple[Region, list[Any]]:
    """Split an index into the box that covers it and, for each dimension, what to take from the box.

    Examples
    --------
    >>> boxed((3, slice(8, 2, -3)), (5, 10, 7))
    ((slice(3, 4, None), slice(5, 9, None), slice(0, 7, None)), [0, slice(None, None, -3), None])
    """
    keys = list(key) if isinstance(key, tuple) else [key]
    if Ellipsis in [k for k in keys if not isinstance(k, np.ndarray)]:
        at = next(i for i, k in enumerate(keys) if k is Ellipsis)
        keys[at : at + 1] = [slice(None)] * (len(shape) - len(keys) + 1)
    keys += [slice(None)] * (len(shape) - len(keys))
    pairs = [_box(k, n) for k, n in zip(keys, shape, strict=True)]
    return tuple(p[0] for p in pairs), [p[1] for p in pairs]


def _box(key: Any, size: int) -> tuple[slice, Any]:
    if isinstance(key, slice):
        start, stop, step = key.indices(size)
        count = len(range(start, stop, step))
        if count == 0:
            return slice(0, 0), None
        last = start + (count - 1) * step
        box = slice(min(start, last), max(start, last) + 1)
        return box, (None if step == 1 else slice(None, None, step))
    if isinstance(key, (int, np.integer)) or np.ndim(key) == 0:
        at = range(size)[int(key)]
        return slice(at, at + 1), 0
    indices = np.arange(size)[key]
    if indices.size == 0:
        return slice(0, 0), None
    first = int(indices.min())
    return slice(first, int(indices.max()) + 1), indices - first


@dataclass(frozen=True)
class Folded(FileArray):
    """A stack ``(N, …)`` seen as ``(ny, nx, …)``; a block of it still reads runs of consecutive frames."""

    stack: FileArray

    @classmethod
    def of(cls, stack: FileArray, scan_shape: tuple[int, int]) -> Folded:
        """Fold a stack of ``ny * nx`` frames."""
        return cls(stack.path, stack.dataset, (*scan_shape, *stack.shape[1:]), stack.dtype, stack)

    def read(self, region: Region) -> np.ndarray:
        """Read whole rows at once, or each row's run of frames."""
        y, x, *rest = region
        nx = self.shape[1]
        if x.stop - x.start == nx:
            frames = self.stack[(slice(y.start * nx, y.stop * nx), *rest)]
            return frames.reshape((y.stop - y.start, nx, *frames.shape[1:]))
        out = np.empty(tuple(s.stop - s.start for s in region), self.dtype)
        for i, row in enumerate(range(y.start, y.stop)):
            out[i] = self.stack[(slice(row * nx + x.start, row * nx + x.stop), *rest)]
        return out


@dataclass(frozen=True)
class Joined(FileArray):
    """Several arrays of equal frames, one after the other along the first dimension."""

    parts: tuple[FileArray, ...]

    @classmethod
    def of(cls, path: str, dataset: str, parts: Sequence[FileArray]) -> Joined:
        """Join parts that agree in dtype and in all but the first size.

        Raises
        ------
        InputError
            If they do not.
        """
        frame, dtype = parts[0].shape[1:], parts[0].dtype
        for part in parts:
            if part.shape[1:] != frame or part.dtype != dtype:
                raise InputError(
                    f"the parts of {dataset!r} in {path!r} do not fit together: {parts[0].dataset!r} has frames "
                    f"{frame} {dtype}, {part.dataset!r} {part.shape[1:]} {part.dtype}; name one of them with dataset="
                )
        return cls(path, dataset, (sum(p.shape[0] for p in parts), *frame), dtype, tuple(parts))

    def read(self, region: Region) -> np.ndarray:
        """Read from the parts that the region touches."""
        first, *rest = region
        out = np.empty(tuple(s.stop - s.start for s in region), self.dtype)
        offset = 0
        for part in self.parts:
            lo, hi = max(first.start, offset), min(first.stop, offset + part.shape[0])
            if lo < hi:
                out[lo - first.start : hi - first.start] = part[(slice(lo - offset, hi - offset), *rest)]
            offset += part.shape[0]
        return out
