"""The groups of some seeds: their neighbours, and which of those are members."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from scanfold.conventions import InputError, Var
from scanfold.grouping._member_kernels import quadrants, shuffled, spread
from scanfold.grouping._random_kernels import key
from scanfold.grouping.options import Options
from scanfold.grouping.positions import index_dtype
from scanfold.grouping.seeds import MEMBERS, order_of
from scanfold.grouping.space import Space

Array = npt.NDArray[Any]
#: Members, seeds and distances of some groups.
Groups = tuple[Array, Array, Array]

VARIABLES = (
    Var("nn_indices", ("group", "channel"), "int32", "positions that make the group; int64 from 2^31 positions on"),
    Var("seed_index", ("group",), "int32", "position that the group was made around; int64 likewise"),
    Var("distance", ("group", "channel"), "float32", "distance of the member from the seed"),
    Var("coverage", (), "float64", "fraction of all positions that are in a group", "1"),
)


def make(space: Space, options: Options) -> Groups:
    """Make the groups, in the order of their seeds."""
    order = order_of(space, options.sampling, options.nsamples, options.seed)
    used = np.zeros(len(space), bool) if options.disjoint else None
    start, wanted, made = 0, options.nsamples, []
    while wanted:
        stop = start + (wanted if start == 0 else max(2 * wanted, 1024))
        stop = min(stop, (start // len(space) + 1) * len(space))  # in each round every position is a seed once
        numbers = np.arange(start, stop)
        found = groups_of(space, order(numbers), numbers, used, wanted, options)
        made.append(tuple(a[:wanted] for a in found))
        start, wanted = stop, wanted - len(made[-1][0])
        if wanted and start >= len(space) and (options.nsamples == wanted or not options.enable_oversampling):
            raise _infeasible(options, options.nsamples - wanted, len(space))
    members, seeds, distances = (np.concatenate(parts) for parts in zip(*made, strict=True))
    return members, seeds, distances


def _infeasible(options: Options, possible: int, count: int) -> InputError:
    limits = [f"max_radius={options.max_radius:g}"] if options.max_radius is not None else []
    limits += ["disjoint=True"] if options.disjoint else []
    limits += ["a neighbour in each quadrant"] if options.policy == "4_quadrant" else []
    return InputError(
        f"{options.nsamples} groups of {options.group_size} asked for; of the {count} positions, {possible} could be "
        f"seeds of one with {' and '.join(limits)} among K={options.K} neighbours. Pass nsamples={possible} or less, "
        "a larger K, or lift the limit"
    )


def groups_of(space: Space, seeds: Array, numbers: Array, used: Array | None, wanted: int, options: Options) -> Groups:
    """Make the groups of some different seeds; those that cannot have one are left out."""
    if options.drawn == 0:
        return seeds[:, None], seeds, np.zeros((seeds.size, 1), np.float32)
    if used is not None:
        near, apart = np.empty((seeds.size, options.K), np.int64), np.empty((seeds.size, options.K))

        def keep(rows: Array, found: Array, distances: Array) -> None:
            near[rows], apart[rows] = found, distances

        space.search(seeds, options.K, keep)
        members, distances, made = choose(space, near, apart, seeds, numbers, options, used, wanted)
    else:
        members = np.empty((seeds.size, options.group_size), index_dtype(len(space)))
        distances, made = np.empty(members.shape, np.float32), np.empty(seeds.size, bool)

        def chosen(rows: Array, found: Array, apart: Array) -> None:
            members[rows], distances[rows], made[rows] = choose(
                space, found, apart, seeds[rows], numbers[rows], options
            )

        space.search(seeds, options.K, chosen)
    return (members, seeds, distances) if made.all() else (members[made], seeds[made], distances[made])


def choose(
    space: Space,
    near: Array,
    apart: Array,
    seeds: Array,
    numbers: Array,
    options: Options,
    used: Array | None = None,
    wanted: int = 0,
) -> tuple[Array, Array, Array]:
    """Choose the members of groups among the nearest of their seeds.

    Parameters
    ----------
    space : Space
    near, apart : (b, K)
        The nearest positions of each seed and their distances; -1 and inf where there are none.
    seeds, numbers : (b,)
        The seeds, and the numbers that decide what is drawn for them.
    options : Options
    used : (n,) bool, optional
        Positions that are in a group, where groups are disjoint; written.
    wanted : int
        How many disjoint groups are wanted, at most.

    Returns
    -------
    members, distances : (b, c)
    made : (b,) bool
        Which seeds have a group; what the others have means nothing.
    """
    if options.max_radius is None and near[:, -1].min(initial=0) >= 0:
        count = np.full(seeds.size, near.shape[1])
    else:
        count = (apart <= (np.finfo(float).max if options.max_radius is None else options.max_radius)).sum(axis=1)
    columns, made = _columns(space, near, count, seeds, numbers, used, wanted, options)
    members, distances = np.take_along_axis(near, columns, 1), np.take_along_axis(apart, columns, 1)
    if options.include_seed:
        members, distances = np.c_[seeds, members], np.c_[np.zeros(seeds.size), distances]
    return members, distances, made & (count >= options.drawn)


def _columns(
    space: Space,
    near: Array,
    count: Array,
    seeds: Array,
    numbers: Array,
    used: Array | None,
    wanted: int,
    options: Options,
) -> tuple[Array, Array]:
    """Choose among the neighbours of each seed; return the columns, and which seeds have a group."""
    everyone = np.ones(seeds.size, bool)
    stream = key(options.seed, MEMBERS)
    if used is not None:
        return _disjoint(near, count, seeds, numbers, used, wanted, options)
    if options.policy == "nearest":
        return np.tile(np.arange(options.drawn), (seeds.size, 1)), everyone
    if options.policy == "min_dist":
        return spread(space.at(near), count, options.drawn), everyone
    if options.policy == "4_quadrant":
        return quadrants(space.at(near) - space.at(seeds)[:, None], count)
    return shuffled(count, options.drawn, near.shape[1], numbers, stream), everyone


def _disjoint(
    near: Array, count: Array, seeds: Array, numbers: Array, used: Array, wanted: int, options: Options
) -> tuple[Array, Array]:
    from scanfold.grouping._greedy_kernels import disjoint

    width = near.shape[1]
    if options.policy == "random":
        order = shuffled(count, width, width, numbers, key(options.seed, MEMBERS))
    else:
        order = np.tile(np.arange(width), (seeds.size, 1))
    chosen = np.zeros((seeds.size, options.drawn), np.int64)
    made = disjoint(np.take_along_axis(near, order, 1), count, seeds, options.include_seed, used, wanted, chosen)
    return np.take_along_axis(order, chosen, 1), made


def dataset(groups: Groups, count: int, units: str, provenance: str) -> xr.Dataset:
    """Put groups of so many positions into a plan."""
    members, seeds, distances = groups
    dtype = index_dtype(count)
    found = {
        "nn_indices": (("group", "channel"), members.astype(dtype, copy=False)),
        "seed_index": (("group",), seeds.astype(dtype, copy=False)),
        "distance": (("group", "channel"), distances),
        "coverage": ((), touched(members, count) / count),
    }
    plan = xr.Dataset({v.name: (*found[v.name], v.attrs()) for v in VARIABLES})
    if units:
        plan["distance"].attrs["units"] = units
    plan.attrs = {"primary": "nn_indices", "n_positions": count, "provenance": provenance}
    return plan


def touched(members: Array, count: int) -> int:
    """Return how many of `count` positions are in a group; without an array over all where groups are few."""
    if members.size * 8 < count:
        return int(np.unique(members).size)
    seen = np.zeros(count, bool)
    seen[members.ravel()] = True
    return int(np.count_nonzero(seen))
