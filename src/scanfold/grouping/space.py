"""Positions in memory as a plan asks them: where some are, and which are nearest to others."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from scanfold.grouping._neighbour_kernels import neighbours

Array = npt.NDArray[Any]


class Space(Protocol):
    """What a plan asks of positions, in memory or on disk."""

    def __len__(self) -> int:
        """Return how many positions there are."""

    def at(self, indices: Array) -> Array:
        """Return the positions (…, 2) of some indices."""

    def search(self, seeds: Array, k: int) -> tuple[Array, Array]:
        """Return the k nearest other positions of each seed, by distance and then index, and their distances.

        Where there are fewer, indices end with -1 and distances with inf.
        """


@dataclass(frozen=True)
class InMemory:
    """Positions (n, 2), and the partition that each is of."""

    points: Array
    labels: Array | None = None

    def __len__(self) -> int:
        """Return how many positions there are."""
        return len(self.points)

    def at(self, indices: Array) -> Array:
        """Return the positions of some indices."""
        found: Array = self.points[indices]
        return found

    def search(self, seeds: Array, k: int) -> tuple[Array, Array]:
        """Search neighbours, within each partition by itself."""
        with threads() as pool:
            if self.labels is None:
                return neighbours(self.points, seeds, k, each=pool.map)
            return _within(self.points, self.labels, seeds, k, pool.map)


def threads() -> ThreadPoolExecutor:
    """Return a pool with a thread for each core that this process may use; trees let go of the GIL."""
    return ThreadPoolExecutor(len(os.sched_getaffinity(0)))


def _within(
    points: Array, labels: Array, seeds: Array, k: int, each: Callable[..., Iterable[Any]]
) -> tuple[Array, Array]:
    near, apart = np.full((seeds.size, k), -1), np.full((seeds.size, k), np.inf)
    by_label = np.argsort(labels, kind="stable")
    edges = np.concatenate([[0], np.cumsum(np.bincount(labels))])
    rows_by_label = np.argsort(labels[seeds], kind="stable")
    row_edges = np.searchsorted(labels[seeds[rows_by_label]], np.arange(edges.size))
    place = np.empty(len(points), np.int64)
    for label in range(edges.size - 1):
        rows = rows_by_label[row_edges[label] : row_edges[label + 1]]
        if rows.size:
            inside = by_label[edges[label] : edges[label + 1]]
            place[inside] = np.arange(inside.size)
            most = min(k, inside.size - 1)
            found, apart[rows, :most] = neighbours(points[inside], place[seeds[rows]], most, each=each)
            near[rows, :most] = inside[found]
    return near, apart
