"""Groups and their indices: "(1,2)" on a grid, "5" along a line, "center" among names."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from scanfold.bragg.naming import Named
from scanfold.conventions import SCAN_DIMS, InputError, unknown

#: Coordinate of sparse grids: which positions were measured.
PRESENT = "present"
#: Attribute of the coordinates of a grid: the order in which its indices are written.
ORDER = "index_order"


class NoSuchIndex(InputError, KeyError):
    """An index that no group has; a KeyError too, as of any mapping."""

    __str__ = Exception.__str__


def scan_coords(named: Named) -> tuple[dict[str, xr.Variable], npt.NDArray[np.int64]]:
    """Return the scan coordinates for some keys, and where each key is along them (keys, dims).

    A grid runs from the smallest to the largest row and column in steps of their common divisor.
    """
    if named.kind == "names":
        words = np.array(named.keys, object)
        return {"group": xr.Variable("group", words)}, np.arange(len(words))[:, None]
    if named.kind == "line":
        numbers = np.array(named.keys, np.int64)
        return {"position": xr.Variable("position", numbers)}, np.arange(len(numbers))[:, None]
    pairs = np.array(named.keys, np.int64)
    order = "x, y" if named.x_first else "y, x"
    coords, places = {}, []
    for axis, dim in enumerate(("y", "x")):
        values = pairs[:, axis]
        step = reduce(math.gcd, np.diff(np.unique(values)).tolist(), 0) or 1
        line = np.arange(values.min(), values.max() + 1, step)
        coords[dim] = xr.Variable(dim, line, {ORDER: order})
        places.append((values - values.min()) // step)
    where = np.stack(places, axis=1)
    present = np.zeros([v.size for v in coords.values()], bool)
    present[tuple(where.T)] = True
    if not present.all():
        coords[PRESENT] = xr.Variable(("y", "x"), present, {"long_name": "measured"})
    return coords, where


def scan_dims(ds: xr.Dataset) -> tuple[str, ...]:
    """Return the scan dims of a Dataset, in their order."""
    names = [str(d) for v in ds.variables.values() for d in v.dims]
    found = dict.fromkeys(d for d in names if d in SCAN_DIMS)
    return ("y", "x") if {"y", "x"} <= set(found) else tuple(found)


def labels(ds: xr.Dataset, dim: str) -> npt.NDArray[Any]:
    """Return the labels along a scan dim: its coordinate, or the numbers from 0."""
    return np.asarray(ds[dim].values if dim in ds.coords else np.arange(ds.sizes[dim]))


def _x_first(ds: xr.Dataset) -> bool:
    return "x" in ds.coords and str(ds["x"].attrs.get(ORDER, "")).startswith("x")


def indices_of(ds: xr.Dataset) -> list[str]:
    """Return the index of every group that was measured, row after row.

    Examples
    --------
    >>> ds = xr.Dataset({"a": (("y", "x"), np.zeros((1, 2)))})
    >>> indices_of(ds), indices_of(ds.isel(y=0, x=0))
    (['(0,0)', '(0,1)'], [])
    """
    dims = scan_dims(ds)
    if dims == ("y", "x"):
        rows, columns = labels(ds, "y"), labels(ds, "x")
        there = ds[PRESENT].values if PRESENT in ds.coords else np.ones((rows.size, columns.size), bool)
        swap = _x_first(ds)
        return [_pair(rows[i], columns[j], swap) for i, j in np.argwhere(there)]
    return [_word(v) for v in labels(ds, dims[0])] if dims else []


def places_of(ds: xr.Dataset) -> list[dict[str, int]]:
    """Return where each group that was measured is along the scan dims, in the order of `indices_of`."""
    dims = scan_dims(ds)
    if dims == ("y", "x"):
        there = ds[PRESENT].values if PRESENT in ds.coords else np.ones((ds.sizes["y"], ds.sizes["x"]), bool)
        return [{"y": int(i), "x": int(j)} for i, j in np.argwhere(there)]
    return [{dims[0]: i} for i in range(ds.sizes[dims[0]])] if dims else [{}]


def _pair(row: Any, column: Any, x_first: bool) -> str:
    return f"({_word(column)},{_word(row)})" if x_first else f"({_word(row)},{_word(column)})"


def _word(value: Any) -> str:
    return str(value.item() if isinstance(value, np.generic) else value)


def place_of(ds: xr.Dataset, index: Any) -> dict[str, int]:
    """Return where a group is: a tuple, "(1,2)", "(1, 2)", a whole number, "5" or a name to indices along scan dims.

    Raises
    ------
    NoSuchIndex
        If there is no such group; it gives names that are close.

    Examples
    --------
    >>> line = xr.Dataset({"a": ("position", np.zeros(3))}, coords={"position": [4, 5, 7]})
    >>> place_of(line, "5"), place_of(line, np.int64(7))
    ({'position': 1}, {'position': 2})
    """
    dims = scan_dims(ds)
    known = indices_of(ds)
    written = _written(index)
    if not dims:
        raise NoSuchIndex(f"index {index!r}: this is a single spectrum, which has no groups")
    if written not in known:
        raise NoSuchIndex(_not_found(index, written, known, dims))
    return places_of(ds)[known.index(written)]


def _written(index: Any) -> str:
    """Return an index as it is written in `indices_of`."""
    if isinstance(index, tuple | list | np.ndarray):
        return f"({','.join(_word(v) for v in index)})"
    text = _word(index)
    return re.sub(r"\s+", "", text) if re.fullmatch(r"\s*\(.*\)\s*", text) else text.strip()


def _not_found(index: Any, written: str, known: Sequence[str], dims: tuple[str, ...]) -> str:
    if dims == ("y", "x"):
        return (
            f"no group {index!r}: the grid has {len(known)} groups from {known[0]} to {known[-1]}"
            if known
            else f"no group {index!r}: the grid is empty"
        )
    if dims == ("position",):
        return f"no group {index!r}: the line has {len(known)} positions, {known[0]} to {known[-1]}"
    return str(unknown("group", written, known))
