"""Sample, then group: choose seeds, search the neighbours of those seeds only, choose the members of their groups."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from scanfold.conventions import InputError, Var, record
from scanfold.grouping._member_kernels import quadrants, shuffled, spread
from scanfold.grouping._neighbour_kernels import neighbours
from scanfold.grouping._random_kernels import key, permuted
from scanfold.grouping.options import Options, check_partitions, labels_of, make_options
from scanfold.grouping.positions import positions_of
from scanfold.grouping.seeds import MEMBERS, SUBSAMPLE, order_of

Array = npt.NDArray[Any]
#: Members, seeds and distances of some groups.
Groups = tuple[Array, Array, Array]

VARIABLES = (
    Var("nn_indices", ("group", "channel"), "int32", "positions that make the group; int64 from 2^31 positions on"),
    Var("seed_index", ("group",), "int32", "position that the group was made around; int64 likewise"),
    Var("distance", ("group", "channel"), "float32", "distance of the member from the seed"),
    Var("coverage", (), "float64", "fraction of all positions that are in a group", "1"),
)


def plan_groups(
    positions: Any,
    *,
    nsamples: int,
    gridsize: int = 1,
    group_size: int | None = None,
    K: int | None = None,
    seed: int = 0,
    sampling: str = "random",
    include_seed: bool = False,
    policy: str = "random",
    disjoint: bool = False,
    max_radius: float | None = None,
    partition: Any = None,
    enable_oversampling: bool = False,
    n_subsample: int | None = None,
    subsample_seed: int | None = None,
) -> xr.Dataset:
    """Choose exactly `nsamples` groups of neighbouring positions: indices only, no frame is read.

    First the seeds are chosen, then the neighbours of those seeds are searched, and of the K nearest of each its
    group is drawn without replacement. The seed is not a member unless `include_seed`; a group of one is the seed.

    Parameters
    ----------
    positions : Dataset, DataArray or array
        A scan with the coordinates ``position_y`` and ``position_x``, or an (n, 2) array with columns y, x.
    nsamples : int
        How many groups.
    gridsize : int
        Groups have ``gridsize**2`` members, C.
    group_size : int, optional
        C itself, in place of `gridsize`.
    K : int, optional
        The nearest neighbours that a group is drawn from: ``max(7, 2C - 1)``, for "4_quadrant" 16, and all others
        where there are fewer.
    seed : int
        Equal seeds give equal plans, whatever the number of threads.
    sampling : {"random", "sequential", "stratified", "poisson_disk", "local"}
        How seeds are chosen: uniformly; as measured; one in each of `nsamples` parts of equal numbers of positions;
        as far apart as they go; runs of 64 consecutive positions, whose frames lie together in the file. With the
        first two a longer plan starts with the groups of a shorter one.
    include_seed : bool
        The seed is the first member; C - 1 neighbours are drawn.
    policy : {"random", "nearest", "min_dist", "4_quadrant"}
        Which of the K: any; the C nearest; the nearest and then always the one farthest from those chosen; the
        nearest in each quadrant about the seed (y down: top left, top right, bottom left, bottom right; C = 4).
    disjoint : bool
        No position is in two groups; seeds that find too few free neighbours are passed over.
    max_radius : float, optional
        Neighbours farther than this do not count; seeds with too few are passed over.
    partition : str or array, optional
        A label of each position (or the name of the scan's variable): groups never mix labels.
    enable_oversampling : bool
        Allow more groups than positions: every position is a seed again, with other members.
    n_subsample, subsample_seed : int, optional
        Plan on so many positions only, drawn first.

    Returns
    -------
    Dataset
        In memory: ``nn_indices (group, channel)``, ``seed_index (group)``, ``distance (group, channel)`` and
        ``coverage``; indices count the positions of the scan. ``attrs["n_positions"]`` is their number,
        ``attrs["provenance"]`` what the plan was made of (JSON).

    Raises
    ------
    InputError
        Before any search: fewer positions than a group needs, K less than C or not less than the number of
        positions, more groups than positions without `enable_oversampling`, positions that are not finite, labels of
        another length, a partition that is too small. After it: fewer groups than asked for are possible within
        `max_radius`, disjoint or in quadrants; it gives their number.

    Examples
    --------
    >>> y, x = np.divmod(np.arange(400), 20)
    >>> plan = plan_groups(np.stack([y, x], axis=1), nsamples=50, gridsize=2, K=8, seed=1)
    >>> dict(plan.sizes), plan.nn_indices.dtype.name
    ({'group': 50, 'channel': 4}, 'int32')
    >>> float(plan.distance.max()) < 3
    True
    """
    y, x = positions_of(positions)
    points = np.stack([y.values, x.values], axis=1)
    options = make_options(
        len(points), nsamples=nsamples, gridsize=gridsize, group_size=group_size, K=K, seed=seed, sampling=sampling,
        include_seed=include_seed, policy=policy, disjoint=disjoint, max_radius=max_radius,
        enable_oversampling=enable_oversampling, n_subsample=n_subsample, subsample_seed=subsample_seed,
    )  # fmt: skip
    inputs = {"position_y": y, "position_x": x}
    labels = labels_of(partition, positions, len(points))
    if labels is not None:
        inputs["partition"] = xr.DataArray(labels, dims="position", name="partition")
    if options.n_subsample is None:
        groups = _make(points, labels, options)
    else:
        pool = np.arange(len(points))
        pool = np.sort(permuted(pool[: options.n_subsample], pool.size, key(options.subsample_seed, SUBSAMPLE)))
        members, seeds, distances = _make(points[pool], None if labels is None else labels[pool], options)
        groups = pool[members], pool[seeds], distances
    return _dataset(groups, inputs, options)


def _make(points: Array, labels: Array | None, options: Options) -> Groups:
    """Make the groups, in the order of their seeds."""
    if labels is not None:
        check_partitions(labels, options)
    order = order_of(points, options.sampling, options.nsamples, options.seed)
    used = np.zeros(len(points), bool) if options.disjoint else None
    start, wanted, made = 0, options.nsamples, []
    while wanted:
        stop = start + (wanted if start == 0 else max(2 * wanted, 1024))
        if not options.enable_oversampling:
            stop = min(stop, len(points))
        numbers = np.arange(start, stop)
        found = _groups(points, labels, order(numbers), numbers, used, wanted, options)
        made.append(tuple(a[:wanted] for a in found))
        start, wanted = stop, wanted - len(made[-1][0])
        if wanted and start >= len(points) and (options.nsamples == wanted or not options.enable_oversampling):
            raise _infeasible(options, options.nsamples - wanted, len(points))
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


def _groups(
    points: Array, labels: Array | None, seeds: Array, numbers: Array, used: Array | None, wanted: int, options: Options
) -> Groups:
    """Make the groups of some seeds; those that cannot have one are left out."""
    if options.drawn == 0:
        kept = slice(None) if used is None else ~used[seeds]
        return seeds[kept, None], seeds[kept], np.zeros((seeds[kept].size, 1), np.float32)
    unique, place = _unique(seeds, len(points))
    near, apart = _search(points, labels, unique, options.K)
    if place is not None:
        near, apart = near[place], apart[place]
    valid = np.isfinite(apart) if options.max_radius is None else apart <= options.max_radius
    count = valid.sum(axis=1)
    rows = np.flatnonzero(count >= options.drawn)
    if rows.size < seeds.size:
        near, apart, count, seeds, numbers = (a[rows] for a in (near, apart, count, seeds, numbers))
    columns, kept = _columns(points, near, count, seeds, numbers, used, wanted, options)
    if not kept.all():
        near, apart, seeds, columns = near[kept], apart[kept], seeds[kept], columns[kept]
    members, distances = np.take_along_axis(near, columns, 1), np.take_along_axis(apart, columns, 1)
    if options.include_seed:
        members, distances = np.c_[seeds, members], np.c_[np.zeros(seeds.size), distances]
    return members, seeds, distances.astype(np.float32)


def _unique(seeds: Array, count: int) -> tuple[Array, Array | None]:
    """Return each seed once, and where it went; those that are unique stay as they are."""
    if seeds.size <= count:
        seen = np.zeros(count, bool)
        seen[seeds] = True
        if np.count_nonzero(seen) == seeds.size:
            return seeds, None
    unique, place = np.unique(seeds, return_inverse=True)
    return unique, place


def _search(points: Array, labels: Array | None, seeds: Array, k: int) -> tuple[Array, Array]:
    """Search the neighbours of seeds, within each partition by itself; trees let go of the GIL."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        if labels is None:
            return neighbours(points, seeds, k, each=pool.map)
        return _within(points, labels, seeds, k, pool.map)


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


def _columns(
    points: Array,
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
        return spread(points[near], count, options.drawn), everyone
    if options.policy == "4_quadrant":
        return quadrants(points[near] - points[seeds][:, None], count)
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


def _dataset(groups: Groups, inputs: dict[str, xr.DataArray], options: Options) -> xr.Dataset:
    members, seeds, distances = groups
    count = inputs["position_y"].size
    dtype = index_dtype(count)
    found = {
        "nn_indices": (("group", "channel"), members.astype(dtype, copy=False)),
        "seed_index": (("group",), seeds.astype(dtype, copy=False)),
        "distance": (("group", "channel"), distances),
        "coverage": ((), np.count_nonzero(np.bincount(members.ravel(), minlength=count)) / count),
    }
    plan = xr.Dataset({v.name: (*found[v.name], v.attrs()) for v in VARIABLES})
    units = inputs["position_y"].attrs.get("units")
    if units is not None:
        plan["distance"].attrs["units"] = units
    plan.attrs = {"n_positions": count, "provenance": record("plan_groups", inputs, asdict(options))}
    return plan


def index_dtype(count: int) -> type[np.int32] | type[np.int64]:
    """Return the smallest type that holds the indices of so many positions."""
    return np.int32 if count <= 2**31 else np.int64
