"""Cutting a scan into blocks: along the file's own chunks, detector dimensions whole, of a size that suits workers."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from scanfold.conventions import InputError, InputTypeError, unknown

MiB = 2**20
#: Bytes of a block: what is aimed at in a large scan, what is not exceeded, and what is not worth cutting.
TARGET, MOST, LEAST = 64 * MiB, 128 * MiB, MiB // 4
#: A small scan is still cut into about this many blocks, so that a few workers all have some.
BLOCKS = 8
#: More blocks than any scheduler carries: a header that claims them is wrong.
TOO_MANY = 10**6

#: Bytes of a frame or spectrum that is not cut, up to which a header is believed.
WHOLE = 2**32

Chunks = str | int | Mapping[str, Any] | Sequence[Any]


def plan(
    chunks: Chunks,
    dims: Sequence[str],
    shape: Sequence[int],
    *,
    itemsize: int,
    native: Sequence[int] | None,
    detector: int,
    forced: Mapping[str, int] = MappingProxyType({}),
) -> tuple[int | tuple[int, ...], ...]:
    """Return the chunk size of every dimension.

    Parameters
    ----------
    chunks : "auto", int, mapping or sequence
        As in xarray: one size for all dimensions, or sizes by dimension (-1 is whole).
        Dimensions that a mapping leaves out are planned as for "auto".
    dims, shape
        Of the array.
    itemsize : int
        Bytes of one element.
    native : sequence of int, optional
        The file's own chunks.
    detector : int
        How many of the last dimensions stay whole.
    forced : mapping
        Sizes by dimension that the format dictates where `chunks` does not say otherwise.

    Raises
    ------
    InputError
        For an unknown dimension or size, for an array of more than a million blocks, or of blocks of more than 4 GiB.

    Examples
    --------
    >>> plan("auto", ("y", "x", "energy"), (512, 512, 1024), itemsize=4, native=(16, 16, 1024), detector=1)
    (32, 512, 1024)
    >>> plan({"y": 8}, ("y", "x", "energy"), (512, 512, 1024), itemsize=4, native=None, detector=1)
    (8, 512, 1024)
    """
    if 0 in shape:
        return tuple(shape)
    fixed = _fixed(forced, dims, shape) | _fixed(chunks, dims, shape)
    sizes = _auto(shape, itemsize, [max(1, n) for n in native or [1] * len(shape)], detector, fixed)
    count = math.prod(math.ceil(n / s) for n, s in zip(shape, sizes, strict=True))
    if count > TOO_MANY:
        raise InputError(
            f"an array of shape {tuple(shape)} ({math.prod(shape) * itemsize / 2**30:,.0f} GiB) makes {count:,} "
            f"blocks of {tuple(sizes)}, more than {TOO_MANY:,}: pass larger chunks=, or the file's header is wrong"
        )
    largest = math.prod(sizes) * itemsize
    if largest > WHOLE and not set(range(len(shape) - detector, len(shape))) & set(fixed):
        raise InputError(
            f"one frame or spectrum of an array of shape {tuple(shape)} has {largest / 2**30:,.0f} GiB: pass chunks= "
            "that cut it, or the file's header is wrong"
        )
    return tuple(fixed.get(i, s) for i, s in enumerate(sizes))


def _fixed(chunks: Chunks, dims: Sequence[str], shape: Sequence[int]) -> dict[int, int | tuple[int, ...]]:
    """Return the sizes that the caller decided, by axis."""
    if isinstance(chunks, str) and chunks == "auto":
        return {}
    if isinstance(chunks, Mapping):
        for name in chunks:
            if name not in dims:
                raise unknown("dimension in chunks=", name, dims)
        given = {dims.index(name): size for name, size in chunks.items()}
    elif isinstance(chunks, (int, np.integer)):
        given = dict.fromkeys(range(len(shape)), chunks)
    elif isinstance(chunks, Sequence) and not isinstance(chunks, str):
        if len(chunks) != len(shape):
            raise InputError(
                f"chunks={tuple(chunks)} has {len(chunks)} sizes for {len(shape)} dimensions {tuple(dims)}"
            )
        given = dict(enumerate(chunks))
    else:
        raise InputTypeError(f'chunks= takes "auto", a size, sizes by dimension or a tuple of sizes; found {chunks!r}')
    return {i: _size(c, dims[i], shape[i]) for i, c in given.items() if c is not None and str(c) != "auto"}


def _size(size: Any, dim: str, length: int) -> int | tuple[int, ...]:
    if isinstance(size, (int, np.integer)) and (size == -1 or size > 0):
        return length if size == -1 else min(int(size), length)
    if (
        isinstance(size, (tuple, list))
        and all(isinstance(s, (int, np.integer)) and s > 0 for s in size)
        and sum(size) == length
    ):
        return tuple(int(s) for s in size)
    raise InputError(
        f"chunk size {size!r} of dimension {dim!r}: expected -1, a positive size, or sizes that add up to {length}"
    )


def _auto(
    shape: Sequence[int],
    itemsize: int,
    native: Sequence[int],
    detector: int,
    fixed: Mapping[int, int | tuple[int, ...]],
) -> list[int]:
    """Grow the file's chunk to the target, the fastest scan dimension first; halve it where it is too large."""
    scan = [i for i in range(len(shape) - detector) if i not in fixed]
    block = [min(native[i], n) if i in scan else n for i, n in enumerate(shape)]
    for i, size in fixed.items():
        block[i] = size if isinstance(size, int) else max(size)
    nbytes = itemsize * math.prod(block)
    if nbytes > MOST and any(block[i] > 1 for i in scan):
        return _halved(block, scan, itemsize)
    target = min(max(math.prod(shape) * itemsize // BLOCKS, LEAST), TARGET)
    for i in reversed(scan):
        room = target // max(itemsize * math.prod(block), 1)
        if room <= 1:
            break
        cells = math.ceil(shape[i] / block[i])
        # Equal blocks rather than full ones and a rest.
        block[i] = min(shape[i], block[i] * math.ceil(cells / math.ceil(cells / min(room, cells))))
        if block[i] < shape[i]:
            break
    return block


def _halved(block: list[int], scan: Sequence[int], itemsize: int) -> list[int]:
    whole = math.prod(block)
    while itemsize * math.prod(block) > MOST and any(block[i] > 1 for i in scan):
        widest = max(scan, key=lambda i: block[i])
        block[widest] = math.ceil(block[widest] / 2)
    times = math.ceil(whole / math.prod(block))
    warnings.warn(
        f"the file's chunks cut the detector so finely that a block of whole ones is {itemsize * whole // MiB:,} MiB; "
        f"smaller blocks read each of the file's chunks about {times} times. "
        "sf.transpose_scan rewrites the file once, in the right order",
        UserWarning,
        stacklevel=2,
    )
    return block
