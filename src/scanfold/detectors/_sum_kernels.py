"""Sums of frames keyed by label and half: exact integers for counts, fixed point for their logarithms.

Fixed-point logarithms make their sums exact too: the order of the frames, and so the chunks, do not matter.
"""

import math

import numpy as np

from scanfold._jit_kernels import jit

_jit = jit()

#: Bits after the point of a logarithm; log1p of the largest 32-bit count is 22.2, which takes 5 bits before it.
FRACTION = 27
#: Pixels summed at a time: sums of all labels over them stay in cache.
TILE = 2048


def log_table(size=65536):
    """Return log1p of 0, 1, … as fixed-point uint32 (size,)."""
    return np.rint(np.log1p(np.arange(size, dtype=np.float64)) * 2.0**FRACTION).astype(np.uint32)


@_jit
def _fixed_log(value, table):
    """Return log1p of a count, in fixed point."""
    if value < table.size:
        return np.int64(table[value])
    return np.int64(math.floor(math.log1p(float(value)) * 134217728.0 + 0.5))


@_jit
def add_counts(frames, keys, sums, squares):
    """Add integer frames (N, P) to the sums (2L, P) and squares (2, P) of their keys (N,); a negative key skips.

    A key is twice the label, plus the half. Squares are int64, or float64 where they could overflow.
    """
    for first in range(0, frames.shape[1], TILE):
        last = min(first + TILE, frames.shape[1])
        for n in range(frames.shape[0]):
            key = keys[n]
            if key < 0:
                continue
            part = slice(first, last)
            frame, total, square = frames[n, part], sums[key, part], squares[key & 1, part]
            for p in range(last - first):
                value = np.int64(frame[p])
                total[p] += value
                wide = square.dtype.type(value)
                square[p] += wide * wide


@_jit
def add_only(frames, keys, sums):
    """Add integer frames (N, P) to the sums (2L, P) of their keys (N,)."""
    for first in range(0, frames.shape[1], TILE):
        last = min(first + TILE, frames.shape[1])
        for n in range(frames.shape[0]):
            if keys[n] >= 0:
                frame, total = frames[n, first:last], sums[keys[n], first:last]
                for p in range(last - first):
                    total[p] += np.int64(frame[p])


@_jit
def add_small_logs(frames, keys, table, sums, squares):
    """Do what `add_logs` does for uint8 and uint16 frames, whose logarithms are all in the table."""
    for first in range(0, frames.shape[1], TILE):
        last = min(first + TILE, frames.shape[1])
        for n in range(frames.shape[0]):
            key = keys[n]
            if key < 0:
                continue
            part = slice(first, last)
            frame, total, square = frames[n, part], sums[key, part], squares[key & 1, part]
            for p in range(last - first):
                value = np.int64(table[frame[p]])
                total[p] += value
                square[p] += (value * value + (1 << (FRACTION - 1))) >> FRACTION
    return 0


@_jit
def add_logs(frames, keys, table, sums, squares):
    """Add fixed-point log1p of integer frames (N, P) to sums (2L, P) and squares (2, P); return the least count."""
    least = np.int64(0)
    for first in range(0, frames.shape[1], TILE):
        last = min(first + TILE, frames.shape[1])
        for n in range(frames.shape[0]):
            key = keys[n]
            if key < 0:
                continue
            part = slice(first, last)
            frame, total, square = frames[n, part], sums[key, part], squares[key & 1, part]
            for p in range(last - first):
                count = np.int64(frame[p])
                if count < 0:
                    least = min(least, count)
                    continue
                value = _fixed_log(count, table)
                total[p] += value
                square[p] += (value * value + (1 << (FRACTION - 1))) >> FRACTION
    return least
