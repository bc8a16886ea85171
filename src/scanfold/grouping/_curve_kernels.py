"""A curve through the plane that visits near places one after the other (Hilbert 1891, doi:10.1007/BF01199431)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

#: Cells of a curve, at most, as a power of 4: its table has 16 MiB.
MOST = 11


def bits_for(count: int) -> int:
    """Return how fine a curve has 16 cells for each of `count` things, or as many as it may have."""
    return min(MOST, max(1, (16 * count - 1).bit_length() // 2 + 1))


def along_curve(
    points: npt.NDArray[np.float64], low: npt.NDArray[np.float64], extent: npt.NDArray[np.float64], bits: int
) -> npt.NDArray[np.int32]:
    """Return where on the curve the cell of each point is.

    Parameters
    ----------
    points : (n, 2) float64
    low, extent : (2,) float64
        The corner and the sides of the box that holds them all.
    bits : int
        The box has ``4**bits`` cells.
    """
    side = 1 << bits
    cells = []
    for axis in range(2):
        scale = side / extent[axis] if extent[axis] > 0 else 0.0
        cells.append(np.minimum(((points[:, axis] - low[axis]) * scale).astype(np.int32), side - 1))
    found: npt.NDArray[np.int32] = _table(bits)[cells[0], cells[1]]
    return found


@lru_cache(2)
def _table(bits: int) -> npt.NDArray[Any]:
    """Return the place of each cell (y, x) on the curve: four smaller curves, two of them turned, end to end."""
    table = np.zeros((1, 1), np.int32)
    for _ in range(bits):
        one = table.size
        table = np.block([[table.T, table + one], [table[::-1, ::-1].T + 3 * one, table + 2 * one]])
    return table
