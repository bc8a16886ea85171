"""How much of a scan the groups see, and how far the illuminated discs overlap."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from scanfold.conventions import InputError, Var
from scanfold.grouping.positions import positions_of
from scanfold.grouping.space import InMemory

Array = npt.NDArray[Any]

COVERAGE = (
    Var("count", ("position",), "int32", "groups that the position is in"),
    Var("fraction", (), "float64", "fraction of all positions that are in a group", "1"),
    Var("duplicates", (), "int64", "groups whose members are those of an earlier one"),
)
#: Groups that are counted at a time.
_BLOCK = 2**20


def coverage(plan: xr.Dataset) -> xr.Dataset:
    """Count in how many groups each position is, a part of a stored plan at a time.

    Parameters
    ----------
    plan : Dataset
        From `plan_groups`, or a store of one.

    Returns
    -------
    Dataset
        ``count (position)``, ``fraction`` and ``duplicates``; for a lazy plan without `duplicates`, which needs all
        groups at once.

    Examples
    --------
    >>> from scanfold.grouping import plan_groups
    >>> y, x = np.divmod(np.arange(100), 10)
    >>> seen = coverage(plan_groups(np.stack([y, x], axis=1), nsamples=100, gridsize=2))
    >>> int(seen["count"].sum()), float(seen["fraction"]) > 0.9
    (400, True)
    """
    members = plan["nn_indices"]
    count = np.zeros(plan.attrs["n_positions"], np.int32)
    for first in range(0, members.sizes["group"], _BLOCK):
        some = members[first : first + _BLOCK].values.ravel()
        if some.size * 8 < count.size:
            np.add.at(count, some, 1)
        else:
            count += np.bincount(some, minlength=count.size).astype(np.int32)
    found: dict[str, Any] = {"count": (("position",), count), "fraction": ((), np.count_nonzero(count) / count.size)}
    if members.chunks is None:
        unique = np.unique(np.sort(members.values, axis=1), axis=0)
        found["duplicates"] = ((), members.sizes["group"] - len(unique))
    return xr.Dataset({v.name: (*found[v.name], v.attrs()) for v in COVERAGE if v.name in found})


def disc_overlap(distance: Any, diameter: float) -> Array:
    """Return which part of a disc another of the same size covers.

    f(d) = [2R² acos(d / 2R) − (d / 2) √(4R² − d²)] / (πR²) for d < 2R, else 0.

    Parameters
    ----------
    distance : array
        d, between the centres.
    diameter : float
        2R, in the same units.

    Returns
    -------
    array
        Between 0 and 1.

    Examples
    --------
    >>> disc_overlap([0, 5, 10], 10).round(4).tolist()
    [1.0, 0.391, 0.0]
    """
    if not diameter > 0:
        raise InputError(f"diameter={diameter!r}; expected a length greater than 0")
    radius = diameter / 2
    d = np.clip(np.abs(np.asarray(distance, float)), 0, diameter)
    area = 2 * radius**2 * np.arccos(d / diameter) - (d / 2) * np.sqrt(diameter**2 - d**2)
    return np.asarray(area / (np.pi * radius**2))


def overlap_metrics(plan: xr.Dataset, positions: Any, diameter: float, *, K: int = 6) -> dict[str, float]:
    """Return how far the discs of a plan overlap, on average.

    Parameters
    ----------
    plan : Dataset
        From `plan_groups`.
    positions : Dataset, DataArray or array
        What it was made for.
    diameter : float
        Of the probe, in the units of the positions.
    K : int
        Nearest neighbours that a position, or a group, is compared with.

    Returns
    -------
    dict
        ``seed_to_member``, over the members of all groups but the seeds themselves; ``position_to_nearest``, of each
        position with its K nearest; ``group_to_group``, of the centre of each group with the K nearest other centres.
    """
    y, x = positions_of(positions)
    points = np.stack([y.values, x.values], axis=1)
    if len(points) != plan.attrs["n_positions"]:
        raise InputError(f"the plan is of {plan.attrs['n_positions']} positions, and there are {len(points)}")
    members = plan["nn_indices"].values
    others = members != plan["seed_index"].values[:, None]
    found = {"seed_to_member": _mean(disc_overlap(plan["distance"].values[others], diameter))}
    for name, centres in (("position_to_nearest", points), ("group_to_group", points[members].mean(axis=1))):
        found[name] = _mean(disc_overlap(_nearest(centres, min(K, len(centres) - 1)), diameter))
    return found


def _nearest(points: Array, count: int) -> Array:
    """Return how far the nearest others of each point are."""
    distances = np.empty((len(points), count))

    def keep(rows: Array, _: Array, apart: Array) -> None:
        distances[rows] = apart

    if count:
        InMemory(points).search(np.arange(len(points)), count, keep)
    return distances


def _mean(values: Array) -> float:
    return float(values.mean()) if values.size else float("nan")
