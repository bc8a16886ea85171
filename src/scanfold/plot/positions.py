"""Positions of a scan: their coordinates, their labels, and which of them a query keeps."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from scanfold.conventions import DETECTOR_DIMS, SCAN_DIMS, InputError, InputTypeError, flags, unknown

#: Values of a further dim that are shown as maps of their own.
_MOST_MAPS = 32

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Axis:
    """One scan dim as it is drawn: numbers along it, words where it is named, what it is called."""

    values: np.ndarray
    words: list[str] | None
    label: str
    units: str | None


def plain(text: object) -> str:
    r"""Return text that matplotlib draws as it stands: no mathematics from the metadata of a file.

    Examples
    --------
    >>> print(plain("cost in $"))
    cost in \$
    """
    return str(text).replace("$", r"\$")


def scan_dims(fits: xr.Dataset) -> tuple[str, ...]:
    """Return the scan dims of some maps: those of ``status``, or of the first variable.

    Raises
    ------
    InputError, InputTypeError
        If `fits` is no Dataset, or holds no variable.
    """
    if not isinstance(fits, xr.Dataset):
        hint = "; pass its .fits" if hasattr(fits, "fits") else ""
        raise InputTypeError(f"fits is a {type(fits).__name__}; expected the Dataset that sf.fit returns{hint}")
    if not fits.data_vars:
        raise InputError("this Dataset holds no maps; expected the Dataset that sf.fit returns")
    first = fits["status"] if "status" in fits else fits[next(iter(fits.data_vars))]
    return tuple(map(str, first.dims))


def label_of(array: xr.DataArray, name: object = None) -> str:
    """Return what an axis or a colour bar says of an array: its long name, or `name`, and its units."""
    return titled(str(array.attrs.get("long_name", array.name if name is None else name)), array.attrs.get("units"))


def dot_size(count: int) -> float:
    """Return the area of a dot where so many positions are drawn."""
    return float(np.clip(8000 / count, 1, 24))


def drawable(fits: xr.Dataset) -> list[str]:
    """Return the names of the variables that hold one number at each position."""
    dims = set(scan_dims(fits))
    return [str(n) for n, v in fits.data_vars.items() if set(v.dims) == dims and v.dtype.kind in "iufb"]


def holds_maps(ds: xr.Dataset) -> bool:
    """Say whether these are maps, none of which is the scan."""
    return "status" in ds or ("primary" not in ds.attrs and len(ds.data_vars) > 1)


def maps_in(ds: xr.Dataset) -> xr.Dataset:
    """Return the variables over the scan dims, one for each value of a short further dim; parameters first.

    Raises
    ------
    InputError
        If there is none, or the scan dims are not one or two.

    Examples
    --------
    >>> ds = xr.Dataset({"com_x": (("detector", "y", "x"), np.ones((2, 3, 4)))}, coords={"detector": ["disc", "ring"]})
    >>> list(maps_in(ds))
    ['com_x [disc]', 'com_x [ring]']
    """
    if not isinstance(ds, xr.Dataset) or not ds.data_vars:
        raise InputError("there is no map in it; pass what sf.fit, sf.save or sf.open_scan returned")
    outer = {n: tuple(d for d in v.dims if d in SCAN_DIMS) for n, v in ds.data_vars.items()}
    bare = [dims for n, dims in outer.items() if dims and len(dims) == ds[n].ndim]
    counts = Counter(bare or [dims for n, dims in outer.items() if dims and not set(ds[n].dims) & set(DETECTOR_DIMS)])
    if "status" in ds:
        dims = ds["status"].dims
    elif counts:
        dims = counts.most_common(1)[0][0]
    else:
        raise InputError(f"no map over {', '.join(SCAN_DIMS)} among {', '.join(map(str, ds.data_vars))}")
    if not 1 <= len(dims) <= 2:
        raise InputError(f"a map has one or two scan dims; this one has {', '.join(map(str, dims)) or 'none'}")
    maps = dict(part for name, v in ds.data_vars.items() for part in _split(str(name), v, dims))
    coords = {n: c for n, c in ds.coords.items() if set(c.dims) <= set(dims)}
    # parameters first, their errors last: stores keep names in the order of the alphabet
    order = sorted(maps, key=lambda name: (name.endswith("_stderr"), f"{name}_stderr" not in maps))
    return xr.Dataset({name: maps[name] for name in order}, coords=coords, attrs=ds.attrs)


def _split(name: str, v: xr.DataArray, dims: tuple[Any, ...]) -> Iterator[tuple[str, xr.DataArray]]:
    if v.dtype.kind not in "iufb" or not set(dims) <= set(v.dims):
        return
    further = [d for d in v.dims if d not in dims]
    if not further:
        yield name, v.transpose(*dims).drop_vars([n for n, c in v.coords.items() if not set(c.dims) <= set(dims)])
    elif len(further) == 1 and v.sizes[further[0]] <= _MOST_MAPS and further[0] not in DETECTOR_DIMS:
        (dim,) = further
        for i in range(v.sizes[dim]):
            label = v[dim].values[i] if dim in v.coords else i
            yield f"{name} [{label}]", v.isel({dim: i}).reset_coords(drop=True).transpose(*dims)


def axis_of(fits: xr.Dataset, dim: str) -> Axis:
    """Return the coordinate of a scan dim: its own, ``position_<dim>``, or the index."""
    for name in (dim, f"position_{dim}"):
        if name in fits.coords and fits[name].dims == (dim,):
            coordinate = fits[name]
            units = coordinate.attrs.get("units")
            label = label_of(coordinate, name)
            if coordinate.dtype.kind in "iuf" and np.isfinite(coordinate.values).all():
                return Axis(coordinate.values.astype(np.float64), None, label, units)
            words = [plain(v) for v in coordinate.values]
            return Axis(np.arange(len(words), dtype=np.float64), words, label, units)
    return Axis(np.arange(fits.sizes[dim], dtype=np.float64), None, _index_label(dim), None)


def titled(long_name: str, units: object) -> str:
    """Return a name with its units, as an axis says it.

    Examples
    --------
    >>> titled("area", "(count)*(keV)"), titled("slope", "(count)/(1/cm)")
    ('area [count·keV]', 'slope [count/(1/cm)]')
    """
    return plain(f"{long_name} [{readable(units)}]" if units else long_name)


def readable(units: object) -> str:
    """Return units with no brackets around single words."""
    return re.sub(r"\((\w+)\)", r"\1", str(units)).replace("**", "^").replace("*", "·")


def thin(fits: xr.Dataset, most: int) -> xr.Dataset:
    """Return every n-th position of each scan dim, so that none has more than `most`."""
    steps = {d: -(-fits.sizes[d] // most) for d in scan_dims(fits)}
    bare = [d for d in steps if steps[d] > 1 and axis_of(fits, d).label == _index_label(d)]
    numbered = {d: (d, np.arange(fits.sizes[d]), {"long_name": _index_label(d)}) for d in bare}
    return fits.assign_coords(numbered).isel({d: slice(None, None, step) for d, step in steps.items()})


def _index_label(dim: str) -> str:
    return plain(f"{dim} (index)")


def words_of(status: xr.DataArray) -> np.ndarray:
    """Return a flag variable in words, an object array of its shape."""
    known = {value: word for word, value in flags(status).items()}
    codes, inverse = np.unique(status.values, return_inverse=True)
    names = np.array([known.get(int(c), str(c)) for c in codes], object)
    return names[inverse.reshape(status.shape)]


def used_in(query: str, fits: xr.Dataset) -> list[str]:
    """Return the variables, coordinates and dims of `fits` that a query names; ``_err`` is short for ``_stderr``."""
    names = [_as_fits(t) if t not in fits else t for t in _tokens(query)]
    return [n for n in names if n in fits.variables or n in fits.dims]


def _tokens(query: str) -> list[str]:
    text = re.sub(r"'[^']*'|\"[^\"]*\"", "", query)
    return list(dict.fromkeys(re.findall(r"[^\W\d]\w*", text)))


def _as_fits(name: str) -> str:
    """Return a name as fits spell it."""
    return re.sub("_err$", "_stderr", re.sub("^r_squared$", "rsquared", name))


def _as_tables(name: str) -> str:
    """Return a name as tables of fits spell it."""
    return re.sub("_stderr$", "_err", re.sub("^rsquared$", "r_squared", name))


def kept(fits: xr.Dataset, query: str | None) -> xr.DataArray:
    """Say which positions a pandas query keeps.

    Parameters
    ----------
    fits : Dataset
        Of `scanfold.fit`, in memory: lazy variables that the query names are computed.
    query : str or None
        On the variables and coordinates at each position; ``status`` is in words. None keeps all.

    Returns
    -------
    DataArray
        bool, over the scan dims.

    Raises
    ------
    InputError
        If the query names something that is not there, or is no condition.

    Examples
    --------
    >>> fits = xr.Dataset({"redchi": ("position", [0.9, 3.0]), "a": ("position", [1.0, 2.0])})
    >>> kept(fits, "redchi < 2 and a > 0").values.tolist()
    [True, False]
    """
    import pandas as pd

    dims = scan_dims(fits)
    shape = tuple(fits.sizes[d] for d in dims)
    if query is None:
        return xr.DataArray(np.ones(shape, bool), dims=dims)
    _check(query)
    frame = pd.DataFrame(_columns(fits, used_in(query, fits), dims, shape), index=pd.RangeIndex(int(np.prod(shape))))
    return xr.DataArray(_fulfilled(frame, query, [*dims, *drawable(fits)]).reshape(shape), dims=dims)


def rows_kept(table: pd.DataFrame, query: str | None) -> pd.DataFrame:
    """Return the rows of a table of fits that a pandas query keeps; it may spell names as fits or as tables do.

    Raises
    ------
    InputError
        As `kept`.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"r_squared": [0.95, 0.5], "rate_stderr": [0.1, 0.2]})
    >>> len(rows_kept(table, "rsquared > 0.9 and rate_err < 0.3"))
    1
    """
    import pandas as pd

    if query is None:
        return table
    _check(query)
    names = [str(c) for c in table.columns]
    known = {_as_fits(n): n for n in names} | {_as_tables(n): n for n in names} | {n: n for n in names}
    used = {t: table[known[t]] for t in _tokens(query) if t in known}
    return table[_fulfilled(pd.DataFrame(used, index=table.index), query, names)]


def _check(query: object) -> None:
    """Raise for what is no query, or would not mean what it says."""
    if not isinstance(query, str):
        raise InputTypeError(f"query is a {type(query).__name__}; expected a condition such as 'redchi < 2'")
    if "@" in query:
        raise InputError(f"query {query!r} uses @, a Python variable; write its value into the query")
    if re.search(r"\bstatus\b\s*[<>=!]=?\s*\d|\d\s*[<>=!]=?\s*\bstatus\b", query):
        raise InputError(f"query {query!r} compares status with a number; use its words, as in status == 'converged'")


def _fulfilled(frame: pd.DataFrame, query: str, names: Iterable[str]) -> np.ndarray:
    """Return in which rows a query holds, bool; `names` are those that it may use."""
    try:
        mask: Any = frame.eval(query, local_dict={}, global_dict={})
    except Exception as error:
        raise InputError(f"query {query!r}: {error}; it may use {', '.join(names)}") from None
    # whole numbers with gaps, such as fields of view, are neither more nor less where they are missing
    selected = mask.to_numpy(bool, na_value=False) if str(getattr(mask, "dtype", "")) == "boolean" else np.asarray(mask)
    if selected.shape != (len(frame),) or selected.dtype != np.bool_:
        raise InputError(f"query {query!r} is no condition; expected one such as \"status == 'converged'\"")
    return selected


def _columns(
    fits: xr.Dataset, names: Iterable[str], dims: tuple[str, ...], shape: tuple[int, ...]
) -> dict[str, np.ndarray]:
    """Return one column per name, one row per position."""
    everywhere = xr.DataArray(np.empty(shape, bool), dims=dims)
    columns: dict[str, np.ndarray] = {}
    for name in names:
        array = fits[name]
        if not set(map(str, array.dims)) <= set(dims):
            raise InputError(f"{name!r} has dims {array.dims}; a query takes what has one value at each position")
        values = words_of(array) if name == "status" and "flag_meanings" in array.attrs else array.values
        array = xr.DataArray(values, dims=array.dims)
        columns[name] = array.broadcast_like(everywhere).transpose(*dims).values.ravel()
        columns[_as_tables(name)] = columns[name]
    return columns


def indices(fits: xr.Dataset, position: Mapping[str, Any]) -> dict[str, int]:
    """Turn a position into indices: whole numbers count along the dim, anything else is looked up in its coordinate.

    Raises
    ------
    InputError
        If a scan dim is missing or unknown, an index is outside, or a label is not there.

    Examples
    --------
    >>> fits = xr.Dataset({"a": (("group", "x"), np.ones((2, 3)))}, coords={"group": ["Fe", "Cu"], "x": [0.0, 0.5, 1]})
    >>> indices(fits, {"group": "Cu", "x": 0.6}), indices(fits, {"group": 0, "x": -1})
    ({'group': 1, 'x': 1}, {'group': 0, 'x': 2})
    """
    dims = scan_dims(fits)
    for name in position:
        if name not in dims:
            raise unknown("scan dim", name, dims)
    missing = [d for d in dims if d not in position]
    if missing:
        example = ", ".join(f"{d}=0" for d in missing)
        raise InputError(f"the position leaves {', '.join(missing)} open; add {example}")
    return {d: _index(fits, d, value) for d, value in position.items()}


def _index(fits: xr.Dataset, dim: str, value: Any) -> int:
    size = fits.sizes[dim]
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        if not -size <= value < size:
            raise InputError(f"{dim}={value} is outside the scan, which has {size} positions along {dim!r}")
        return int(value) % size
    axis = axis_of(fits, dim)
    if isinstance(value, str):
        names: list[Hashable] = list(fits[dim].values) if dim in fits.coords else []
        if value not in names:
            raise unknown(dim, value, map(str, names))
        return names.index(value)
    if axis.words is not None or axis.label == _index_label(dim):
        raise InputError(f"{dim}={value!r}: {dim!r} has no numbers to look it up in; give an index or a name")
    try:
        return int(np.abs(axis.values - float(value)).argmin())
    except (TypeError, ValueError):
        raise InputTypeError(f"{dim}={value!r}; expected an index, or a label of {dim!r}") from None
