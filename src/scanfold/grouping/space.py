"""Positions in memory as a plan asks them: where some are, and which are nearest to others."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from scanfold.grouping._neighbour_kernels import neighbours

Array = npt.NDArray[Any]
#: Takes the neighbours of some seeds: their rows, indices and distances.
Done = Callable[[Array, Array, Array], Any]


class Space(Protocol):
    """What a plan asks of positions, in memory or on disk."""

    def __len__(self) -> int:
        """Return how many positions there are."""

    def at(self, indices: Array) -> Array:
        """Return the positions (…, 2) of some indices."""

    def parts(self) -> Iterator[Array]:
        """Yield all positions (n, 2) in the order of their indices, some at a time."""

    def search(self, seeds: Array, k: int, done: Done) -> None:
        """Search the k nearest other positions of each of some different seeds.

        ``done(rows, indices, distances)`` is called for some of the seeds at a time, by several threads: (r, k), by
        distance and then index. Where there are fewer, indices end with -1 and distances with inf.
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

    def parts(self) -> Iterator[Array]:
        """Yield all positions at once."""
        yield self.points

    def search(self, seeds: Array, k: int, done: Done) -> None:
        """Search neighbours, within each partition by itself."""
        with threads() as pool:
            if self.labels is None:
                neighbours(self.points, seeds, k, done, each=pool.map)
            else:
                _within(self.points, self.labels, seeds, k, done, pool.map)


def threads() -> ThreadPoolExecutor:
    """Return a pool with a thread for each core that this process may use; trees let go of the GIL."""
    return ThreadPoolExecutor(len(os.sched_getaffinity(0)))


def _within(points: Array, labels: Array, seeds: Array, k: int, done: Done, each: Callable[..., Iterable[Any]]) -> None:
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

            def within(some: Array, found: Array, apart: Array, rows: Array = rows, inside: Array = inside) -> None:
                short = ((0, 0), (0, k - found.shape[1]))
                near = np.pad(inside[found], short, constant_values=-1)
                done(rows[some], near, np.pad(apart, short, constant_values=np.inf))

            neighbours(points[inside], place[seeds[rows]], most, within, each=each)
