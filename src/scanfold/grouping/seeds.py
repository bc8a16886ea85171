"""In which order positions become seeds."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from scanfold.grouping._random_kernels import below, key, permuted

Array = npt.NDArray[Any]
#: From the numbers of groups to the seeds, indices into the points.
Order = Callable[[Array], Array]

SAMPLINGS = ("random", "sequential", "stratified", "poisson_disk", "local")
#: What numbers of one seed= are drawn for; different uses share none.
SEEDS, MEMBERS, SUBSAMPLE, STRATA = range(4)
#: Consecutive positions that "local" takes together: frames that lie in a few chunks of the file.
RUN = 64


def order_of(space: Any, sampling: str, nsamples: int, seed: int) -> Order:
    """Return what gives the seed of each group, for any number of groups.

    The first `nsamples` are chosen as `sampling` says; those after are the positions that are left, in random order,
    and when all have been seeds they are again, each time in another order.
    """
    count = len(space)
    wanted = min(nsamples, count)
    if sampling == "sequential":
        return lambda numbers: numbers % count
    if sampling == "random":
        return lambda numbers: _rounds(numbers, count, seed)
    chosen = {"stratified": _stratified, "poisson_disk": _poisson_disk, "local": _local}[sampling](
        space.points, wanted, seed
    )
    rest = _rounds(np.arange(count), count, seed)
    first = np.concatenate([chosen, rest[~np.isin(rest, chosen)]])
    return lambda numbers: np.where(numbers < count, first[numbers % count], _rounds(numbers, count, seed))


def _rounds(numbers: Array, count: int, seed: int) -> Array:
    """Permute the positions, once in each round of as many groups as there are positions."""
    out = np.empty(numbers.shape, np.int64)
    rounds = numbers // count
    for r in np.unique(rounds):
        some = rounds == r
        out[some] = permuted(numbers[some] % count, count, key(seed, SEEDS, int(r)))
    return out


def _stratified(points: Array, wanted: int, seed: int) -> Array:
    """Take one random position of each of as many parts of the scan, of equal numbers of neighbouring positions."""
    count = len(points)
    strips = max(1, round(np.sqrt(wanted)))
    parts = np.diff(np.linspace(0, wanted, strips + 1).astype(int))  # how many seeds each strip gives
    edges = (np.concatenate([[0], np.cumsum(parts)]) * count) // wanted
    by_y = np.argsort(points[:, 0], kind="stable")
    order = np.concatenate(
        [
            strip[np.argsort(points[strip, 1], kind="stable")]
            for strip in (by_y[a:b] for a, b in itertools.pairwise(edges))
        ]
    )
    starts = (np.arange(wanted + 1) * count) // wanted
    drawn = starts[:-1] + below(np.arange(wanted), 0, np.diff(starts), key(seed, STRATA))
    chosen: Array = order[drawn][permuted(np.arange(wanted), wanted, key(seed, SEEDS))]
    return chosen


def _local(points: Array, wanted: int, seed: int) -> Array:
    """Take runs of consecutive positions, the runs in random order."""
    runs = -(-len(points) // RUN)
    starts = permuted(np.arange(min(runs, -(-wanted // RUN) + 1)), runs, key(seed, SEEDS)) * RUN
    chosen = (starts[:, None] + np.arange(RUN)).ravel()
    return chosen[chosen < len(points)][:wanted]


def _poisson_disk(points: Array, wanted: int, seed: int) -> Array:
    """Take seeds in random order, each at least a distance from all before; the distance is the largest that does."""
    from scanfold.grouping._greedy_kernels import disk

    order = _rounds(np.arange(len(points)), len(points), seed)
    placed = points[order] - points.min(axis=0)
    extent = np.ptp(points, axis=0)
    low, high = 0.0, float(np.hypot(*extent))
    best = np.arange(wanted)
    for _ in range(30):
        radius = (low + high) / 2
        found = disk(placed, extent, radius, wanted)
        if found.size == wanted:
            low, best = radius, found
        else:
            high = radius
        if high - low < 1e-3 * high:
            break
    return order[best]
