"""In which order positions become seeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from scanfold.grouping._curve_kernels import along_curve, bits_for
from scanfold.grouping._random_kernels import below, key, permuted, unpermuted
from scanfold.grouping.space import Space

Array = npt.NDArray[Any]
#: From the numbers of groups to the seeds, indices into the points.
Order = Callable[[Array], Array]

SAMPLINGS = ("random", "sequential", "stratified", "poisson_disk", "local")
#: What numbers of one seed= are drawn for; different uses share none.
SEEDS, MEMBERS, SUBSAMPLE, STRATA = range(4)
#: Consecutive positions that "local" takes together: frames that lie in a few chunks of the file.
RUN = 64
#: Positions that "poisson_disk" looks at for each seed.
CANDIDATES = 64


def order_of(space: Space, sampling: str, nsamples: int, seed: int) -> Order:
    """Return what gives the seed of each group, for any number of groups.

    The first `nsamples` are chosen as `sampling` says; those after are the positions that are left, in random order,
    and when all have been seeds they are again, each time in another order.
    """
    count = len(space)
    if sampling == "sequential":
        return lambda numbers: numbers % count
    if sampling == "random":
        return lambda numbers: _rounds(numbers, count, seed)
    chosen = {"stratified": _stratified, "poisson_disk": _poisson_disk, "local": _local}[sampling](
        space, min(nsamples, count), seed
    )
    # by how many of the chosen precede it, a place among the others gives one among all
    taken = np.sort(unpermuted(chosen, count, key(seed, SEEDS, 0))) - np.arange(chosen.size)

    def seeds(numbers: Array) -> Array:
        if numbers[-1] < chosen.size:
            return chosen[numbers]
        first, later = numbers < chosen.size, numbers - chosen.size
        rest = np.where(first, numbers, later + np.searchsorted(taken, later, side="right"))
        rest = np.where(numbers < count, rest, numbers)
        return np.where(first, chosen[np.minimum(numbers, chosen.size - 1)], _rounds(rest, count, seed))

    return seeds


def _rounds(numbers: Array, count: int, seed: int) -> Array:
    """Permute the positions, once in each round of as many groups as there are positions."""
    out = np.empty(numbers.shape, np.int64)
    rounds = numbers // count
    for r in np.unique(rounds):
        some = rounds == r
        out[some] = permuted(numbers[some] % count, count, key(seed, SEEDS, int(r)))
    return out


def _stratified(space: Space, wanted: int, seed: int) -> Array:
    """Take one random position of each of as many parts of the scan, of equal numbers of neighbouring positions.

    Parts are pieces of a curve through the scan; of the positions in one of its cells those of lower index come first.
    """
    count, bits = len(space), bits_for(wanted)
    starts = (np.arange(wanted + 1) * count) // wanted
    drawn = starts[:-1] + below(np.arange(wanted), 0, np.diff(starts), key(seed, STRATA))
    corners = np.array([[f(p[:, axis]) for f in (np.min, np.max) for axis in range(2)] for p in space.parts()])
    low = corners[:, :2].min(axis=0)
    box = low, corners[:, 2:].max(axis=0) - low
    inside = np.zeros(4**bits, np.int64)
    for points in space.parts():
        inside += np.bincount(along_curve(points, *box, bits), minlength=inside.size)
    before = np.cumsum(inside) - inside
    cell = np.searchsorted(before, drawn, side="right") - 1
    place = drawn - before[cell]  # among the positions in its cell
    chosen, first = np.empty(wanted, np.int64), 0
    for points in space.parts():
        cells = along_curve(points, *box, bits)
        order, here = np.argsort(cells, kind="stable"), np.bincount(cells, minlength=inside.size)
        found = np.flatnonzero((place >= 0) & (place < here[cell]))
        chosen[found] = first + order[(np.cumsum(here) - here)[cell[found]] + place[found]]
        place -= here[cell]
        first += len(points)
    mixed: Array = chosen[permuted(np.arange(wanted), wanted, key(seed, SEEDS))]
    return mixed


def _local(space: Space, wanted: int, seed: int) -> Array:
    """Take runs of consecutive positions, the runs in random order."""
    runs = -(-len(space) // RUN)
    starts = permuted(np.arange(min(runs, -(-wanted // RUN) + 1)), runs, key(seed, SEEDS)) * RUN
    chosen = (starts[:, None] + np.arange(RUN)).ravel()
    return chosen[chosen < len(space)][:wanted]


def _poisson_disk(space: Space, wanted: int, seed: int) -> Array:
    """Take seeds in random order, each at least a distance from all before; the distance is the largest that does."""
    from scanfold.grouping._greedy_kernels import disk

    count = len(space)
    order = _rounds(np.arange(min(CANDIDATES * wanted, count)), count, seed)
    points = space.at(order)
    extent = np.ptp(points, axis=0)
    low, high = 0.0, float(np.hypot(*extent))
    best = np.arange(wanted)
    for _ in range(30):
        radius = (low + high) / 2
        found = disk(points - points.min(axis=0), extent, radius, wanted)
        if found.size == wanted:
            low, best = radius, found
        else:
            high = radius
        if high - low < 1e-3 * high:
            break
    return order[best]
