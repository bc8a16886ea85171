"""Which of a seed's neighbours make its group: pure functions of the candidates, nearest first."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from scanfold.grouping._random_kernels import below

Array = npt.NDArray[Any]
#: Rows whose distances between candidates are held at a time.
_ROWS = 2**14


def shuffled(valid: Array, count: int, width: int, numbers: Array, stream: np.uint64) -> Array:
    """Draw columns without replacement, uniformly and in random order (Fisher and Yates).

    Parameters
    ----------
    valid : (b,) int
        How many of the first columns may be drawn.
    count : int
        How many are drawn; where `valid` is less, the rest are columns that may not.
    width : int
        How many columns there are.
    numbers : (b,) int
        The number of each draw, which with the stream decides it.
    stream : uint64

    Returns
    -------
    (b, count) int64
    """
    columns = np.tile(np.arange(width), (len(valid), 1))
    rows = np.arange(len(valid))
    for c in range(count):
        j = c + below(numbers, c, np.maximum(valid - c, 1), stream)
        columns[rows, j], columns[:, c] = columns[:, c].copy(), columns[rows, j]
    return columns[:, :count]


def spread(points: Array, valid: Array, count: int) -> Array:
    """Choose columns that keep apart: the nearest, then always the one farthest from those chosen.

    `points` (b, K, 2) are the candidates' positions; of equally far ones the nearest to the seed is taken.
    """
    chosen = np.zeros((len(points), count), np.int64)
    for first in range(0, len(points), _ROWS):
        some = slice(first, first + _ROWS)
        apart = np.hypot(*np.moveaxis(points[some, :, None] - points[some, None], -1, 0))
        least = np.where(np.arange(points.shape[1]) < valid[some, None], apart[:, 0], -1.0)
        least[:, 0] = -1.0
        rows = np.arange(len(least))
        for c in range(1, count):
            best = least.argmax(axis=1)
            chosen[some, c] = best
            least = np.where(least < 0, -1.0, np.minimum(least, apart[rows, best]))
            least[rows, best] = -1.0
    return chosen


def quadrants(offsets: Array, valid: Array) -> tuple[Array, Array]:
    """Choose the nearest column in each quadrant about the seed: top left, top right, bottom left, bottom right.

    `offsets` (b, K, 2) are candidates minus seed, (y, x), y down. Each quadrant holds one of its two edges.

    Returns
    -------
    columns : (b, 4) int64
    found : (b,) bool
        Whether there is one in each.
    """
    dy, dx = np.moveaxis(offsets, -1, 0)
    inside = np.arange(offsets.shape[1]) < valid[:, None]
    sectors = [(dx < 0) & (dy <= 0), (dy < 0) & (dx >= 0), (dy > 0) & (dx <= 0), (dx > 0) & (dy >= 0)]
    masks = np.stack([s & inside for s in sectors], axis=1)
    return masks.argmax(axis=2), masks.any(axis=2).all(axis=1)
