"""Training and test groups that share nothing: cut apart in space, with a guard between them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from scanfold.conventions import InputError, unknown
from scanfold.grouping.positions import TRUE

Array = npt.NDArray[Any]


def split(
    groups: xr.Dataset, fraction: float, *, by: str = "space", guard: float = 0.0
) -> tuple[xr.Dataset, xr.Dataset]:
    """Split groups into two sets that share no position; every variable is split alike.

    Parameters
    ----------
    groups : Dataset
        From `gather`.
    fraction : float
        About the share of the groups that the first set gets, between 0 and 1.
    by : str
        "space" cuts across the longer side of the scan; else the name of a label over ``group``, such as
        ``object_index``, whose groups stay together.
    guard : float
        Least distance between positions of the two sets, in the units of the positions: the diameter of the probe,
        if nothing that was illuminated for one is to be seen by the other. Groups in between are left out.

    Returns
    -------
    first, second : Dataset
        Lazy if the groups are.

    Raises
    ------
    InputError
        If one of the sets would be empty.

    Examples
    --------
    >>> x = np.arange(40.0).reshape(10, 4)
    >>> dims = ("group", "channel")
    >>> groups = xr.Dataset(coords={"position_x": (dims, x), "position_y": (dims, 0 * x)})
    >>> train, test = split(groups, 0.5, guard=6.0)
    >>> float(train.position_x.max()), float(test.position_x.min())
    (15.0, 24.0)
    """
    if not 0 < fraction < 1:
        raise InputError(f"fraction={fraction!r}; expected a number between 0 and 1")
    if by != "space":
        chosen = _by_label(groups, fraction, by)
        if guard:
            raise InputError(f"guard= is a distance in space, and by={by!r} does not split in space; leave it out")
        return _two(groups, chosen, ~chosen)
    low, high, centre = _spans(groups)
    at = float(np.quantile(centre, fraction))
    return _two(groups, high <= at - guard / 2, (low > at) & (low >= at + guard / 2))


def kfold(groups: xr.Dataset, k: int, *, guard: float = 0.0) -> Iterator[tuple[xr.Dataset, xr.Dataset]]:
    """Yield k pairs of training and test groups that share no position; each slab of space is the test once.

    Parameters
    ----------
    groups : Dataset
        From `gather`.
    k : int
        How many slabs, of about equally many groups.
    guard : float
        As in `split`.

    Yields
    ------
    training, test : Dataset

    Raises
    ------
    InputError
        If a set would be empty.
    """
    if not 2 <= k <= groups.sizes["group"]:
        raise InputError(f"k={k} folds of {groups.sizes['group']} groups; expected 2 or more, and a group for each")
    low, high, centre = _spans(groups)
    edges = np.quantile(centre, np.linspace(0, 1, k + 1))
    edges[0], edges[-1] = -np.inf, np.inf
    for first, last in itertools.pairwise(edges):
        test = (low > first) & (high <= last)
        if not test.any():
            raise InputError(f"k={k} folds: no group lies in one slab alone; pass a smaller k")
        bottom, top = low[test].min(), high[test].max()
        outside = (high <= bottom - guard) & (high < bottom) | (low >= top + guard) & (low > top)
        yield _two(groups, outside, test)


def _spans(groups: xr.Dataset) -> tuple[Array, Array, Array]:
    """Return where each group begins, ends and has its centre, along the longer side of the scan."""
    missing = [n for n in TRUE if n not in groups.coords]
    if missing:
        raise InputError(f"the groups have no {' and '.join(missing)}; gather them from a scan with positions")
    held = [groups[n].values for n in TRUE]
    along = max(held, key=np.ptp)
    return along.min(axis=1), along.max(axis=1), along.mean(axis=1)


def _by_label(groups: xr.Dataset, fraction: float, by: str) -> Array:
    """Give whole labels to the first set, in their order, up to the share that was asked for."""
    if by not in groups.variables or groups[by].dims != ("group",):
        labels = [str(n) for n, v in groups.variables.items() if v.dims == ("group",)]
        raise unknown("way to split by", by, ["space", *labels])
    names, place = np.unique(groups[by].values, return_inverse=True)
    share = np.cumsum(np.bincount(place)) / place.size
    if names.size < 2:
        raise InputError(f"all groups have {by}={names[0]}; there is nothing to split by")
    chosen: Array = share[place] <= max(fraction, share[0])
    return chosen if not chosen.all() else place < names.size - 1


def _two(groups: xr.Dataset, first: Array, second: Array) -> tuple[xr.Dataset, xr.Dataset]:
    if not first.any() or not second.any():
        raise InputError(
            f"of {first.size} groups {int(first.sum())} and {int(second.sum())} are left for the two sets; pass "
            "another fraction or a smaller guard"
        )
    return groups.isel(group=np.flatnonzero(first)), groups.isel(group=np.flatnonzero(second))
