"""Sample, then group: choose seeds, search the neighbours of those seeds only, choose the members of their groups."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from scanfold.conventions import InputError, record
from scanfold.grouping._random_kernels import key, permuted
from scanfold.grouping.groups import Groups, dataset, make
from scanfold.grouping.index import PositionIndex
from scanfold.grouping.options import Options, check_partitions, make_options
from scanfold.grouping.positions import MOST, lazy_labels, positions_of
from scanfold.grouping.seeds import SUBSAMPLE
from scanfold.grouping.space import InMemory
from scanfold.grouping.streamed import plan_index

Array = npt.NDArray[Any]


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
    positions : Dataset, DataArray, array or PositionIndex
        A scan with the coordinates ``position_y`` and ``position_x`` (of a raster one over y, one over x, will do), or
        an (n, 2) array with columns y, x; for more positions than can be held an index of them (`index_positions`).
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
        as far apart as they go, of 64 random positions for each; runs of 64 consecutive positions, whose frames lie
        together in the file. With the first two a longer plan starts with the groups of a shorter one.
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
        A label of each position (or the name of the scan's variable): groups never mix labels. An index keeps those
        that it was made with.
    enable_oversampling : bool
        Allow more groups than positions: every position is a seed again, with other members.
    n_subsample, subsample_seed : int, optional
        Plan on so many positions only, drawn first.

    Returns
    -------
    Dataset
        In memory: ``nn_indices (group, channel)``, ``seed_index (group)``, ``distance (group, channel)`` and
        ``coverage``; indices count the positions of the scan. ``attrs["n_positions"]`` is their number,
        ``attrs["provenance"]`` what the plan was made of (JSON). Over an index, a plan of more than 4,194,304 groups
        is of all positions and lazy, for `scanfold.save`, its groups in the order of space; ``number`` says which
        each is in the order of sampling, so that those with a number below n are the plan of n groups.

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
    given: dict[str, Any] = dict(
        nsamples=nsamples, gridsize=gridsize, group_size=group_size, K=K, seed=seed, sampling=sampling,
        include_seed=include_seed, policy=policy, disjoint=disjoint, max_radius=max_radius,
        enable_oversampling=enable_oversampling, n_subsample=n_subsample, subsample_seed=subsample_seed,
    )  # fmt: skip
    if isinstance(positions, PositionIndex):
        return _of_index(positions, partition, make_options(len(positions), **given))
    y, x = positions_of(positions)
    points, inputs = np.stack([y.values, x.values], axis=1), {"position_y": y, "position_x": x}
    options = make_options(len(points), **given)
    labels, named = None, lazy_labels(partition, positions, len(points))
    if named is not None:
        labels = np.unique(named.values, return_inverse=True)[1]
        inputs["partition"] = xr.DataArray(labels, dims="position", name="partition")
    made_of = record("plan_groups", inputs, asdict(options))
    pool = _subsample(len(points), options)
    if pool is not None:
        points, labels = points[pool], labels if labels is None else labels[pool]
    return dataset(_held(points, labels, pool, options), y.size, y.attrs.get("units", ""), made_of)


def _of_index(index: PositionIndex, partition: Any, options: Options) -> xr.Dataset:
    if partition is not None and not (isinstance(partition, str) and partition == index.partition):
        held = f"partitions by {index.partition!r}" if index.partition else "no partitions"
        raise InputError(f"the index has {held}; make one with those: index_positions(scan, path, partition=…)")
    pool = _subsample(len(index), options)
    if pool is None:
        return plan_index(index, options)
    if pool.size > MOST:
        raise InputError(f"n_subsample={pool.size:,} positions are too many to hold; an index takes up to {MOST:,}")
    groups = _held(index.at(pool), index.labels(pool) if index.partition else None, pool, options)
    made_of = record("plan_groups", {}, asdict(options), index=index.identity)
    return dataset(groups, len(index), index.units, made_of)


def _held(points: Array, labels: Array | None, pool: Array | None, options: Options) -> Groups:
    """Make groups of positions in memory; those of a `pool` count as their numbers in it say."""
    if labels is not None:
        check_partitions(np.bincount(labels), options)
    members, seeds, distances = make(InMemory(points, labels), options)
    return (members, seeds, distances) if pool is None else (pool[members], pool[seeds], distances)


def _subsample(count: int, options: Options) -> Array | None:
    """Return the positions that are planned on, sorted; None for all."""
    if options.n_subsample is None:
        return None
    drawn = permuted(np.arange(options.n_subsample), count, key(options.subsample_seed, SUBSAMPLE))
    return np.sort(drawn)
