"""Heaps of HDF5 files, where strings of variable length lie: looked through before the library reads them.

The library never returns from some damaged ones (HDFGroup/hdf5#1707): it steps from object to object by their sizes,
and a size of 0 keeps it where it is.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from scanfold.conventions import InputError

#: How a heap begins: signature, version, three zeros. Raw data that happen to hold this are one in 10¹⁹ bytes.
BEGINNING = b"GCOL\x01\0\0\0"
#: Bytes of its own header, and of that of an object.
HEADER = 16
#: Bytes at either end of a file that are looked through: attributes are written first, or last.
SEARCHED = 2**23


def require_sound(path: str) -> None:
    """Raise if the library would not return from a heap of this file.

    Raises
    ------
    InputError
        Naming the place.
    """
    stat = os.stat(path)
    place = _damaged(path, stat.st_size, stat.st_mtime_ns)
    if place is not None:
        raise InputError(
            f"{path!r} is damaged: the heap of its strings at byte {place:,} does not end, and HDF5 would read it "
            "for ever"
        )


@lru_cache(maxsize=256)
def _damaged(path: str, size: int, mtime_ns: int) -> int | None:
    """Return where a heap is that does not end, None if there is none."""
    if size == 0:
        return None
    with Path(path).open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return next((at for at in _heaps(content) if not _ends(content, at)), None)


def _heaps(content: mmap.mmap) -> Iterator[int]:
    size = len(content)
    parts = [(0, size)] if size <= 2 * SEARCHED else [(0, SEARCHED), (size - SEARCHED, size)]
    for first, last in parts:
        at = content.find(BEGINNING, first, last)
        while at >= 0:
            yield at
            at = content.find(BEGINNING, at + 1, last)


def _ends(content: mmap.mmap, at: int) -> bool:
    """Walk through a heap as the library does: by the sizes of its objects, 8 bytes each."""
    end = at + int.from_bytes(content[at + 8 : at + HEADER], "little")
    place = at + HEADER
    while place + HEADER <= end <= len(content):
        number = int.from_bytes(content[place : place + 2], "little")
        size = int.from_bytes(content[place + 8 : place + HEADER], "little")
        # the object 0 is the free space, whose size counts its header
        step = HEADER + -(-size // 8) * 8 if number else size
        if step <= 0 or step > end - place:
            return False
        place += step
    return True
