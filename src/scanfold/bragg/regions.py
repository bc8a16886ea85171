"""Parts of a scan and coarser ones: subsets, windows, regions, masks, rebinning; all lazy.

Counts add, errors add in quadrature, and the transmission is made again from the sums.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from scanfold.bragg.indices import PRESENT, indices_of, place_of, places_of, scan_dims
from scanfold.bragg.variables import (
    COUNTED,
    axis_of_tof,
    counted,
    counted_and_errors,
    replaced,
    require_counts,
    with_transmission,
)
from scanfold.conventions import InputError, InputTypeError, unknown


def subset(ds: xr.Dataset, indices: Sequence[Any]) -> xr.Dataset:
    """Return some groups; of a grid the rows and columns that hold them, without the others."""
    if isinstance(indices, str) or not len(indices):
        raise InputError(f"indices={indices!r}; expected a list such as ['(0,0)', '(1,1)']")
    places = [place_of(ds, i) for i in indices]
    dims = scan_dims(ds)
    if dims != ("y", "x"):
        return ds.isel({dims[0]: [p[dims[0]] for p in places]})
    keep = np.zeros((ds.sizes["y"], ds.sizes["x"]), bool)
    for place in places:
        keep[place["y"], place["x"]] = True
    return kept(ds, keep)


def where_query(ds: xr.Dataset, query: str) -> xr.Dataset:
    """Return the groups of a stack that a query on y and x, i, or name keeps."""
    from scanfold.plot.positions import kept as asked

    dims = scan_dims(ds)
    coords = {d: ds[d].values for d in dims}
    maps = xr.Dataset({"transmission": (dims, np.zeros([ds.sizes[d] for d in dims]))}, coords=coords)
    rename = {"position": "i", "group": "name"}
    maps = maps.assign({rename[d]: maps[d] for d in dims if d in rename})
    keep = asked(maps, query).values
    if not keep.any():
        raise InputError(f"query {query!r} leaves no group")
    return kept(ds, keep) if len(dims) == 2 else ds.isel({dims[0]: np.flatnonzero(keep)})


def kept(ds: xr.Dataset, keep: Any) -> xr.Dataset:
    """Return the positions of a grid where `keep` holds, in the smallest grid that has them all."""
    rows, columns = np.flatnonzero(keep.any(axis=1)), np.flatnonzero(keep.any(axis=0))
    box = {"y": slice(rows[0], rows[-1] + 1), "x": slice(columns[0], columns[-1] + 1)}
    return masked(ds.isel(box), keep[box["y"], box["x"]])


def masked(ds: xr.Dataset, keep: Any) -> xr.Dataset:
    """Return the Dataset with NaN where `keep` is False, and those positions marked as not measured."""
    dims = scan_dims(ds)
    wanted = keep if isinstance(keep, xr.DataArray) else xr.DataArray(np.asarray(keep, bool), dims=dims)
    there = wanted.transpose(*dims).values
    if PRESENT in ds.coords:
        there = there & ds[PRESENT].values
    if there.all():
        return ds
    where = xr.DataArray(there, dims=dims)
    spectra = [n for n in ds.data_vars if set(dims) & set(ds[n].dims)]
    out = ds.assign({n: ds[n].where(where).assign_attrs(ds[n].attrs) for n in spectra})
    if dims == ("y", "x"):
        return out.assign_coords({PRESENT: xr.Variable(dims, there, {"long_name": "measured"})})
    return out.isel({dims[0]: np.flatnonzero(there)})


def mask(ds: xr.Dataset, given: Any) -> xr.Dataset:
    """Return the Dataset without the positions where `given` is True."""
    dims = scan_dims(ds)
    shape = tuple(ds.sizes[d] for d in dims)
    array = given if isinstance(given, xr.DataArray) else xr.DataArray(np.asarray(given), dims=_dims_of(given, dims))
    if array.dtype != np.bool_ or set(array.dims) != set(dims) or tuple(array.sizes[d] for d in dims) != shape:
        raise InputError(
            f"the mask has shape {array.shape} and dtype {array.dtype}; expected bool {shape} over {dims}, "
            "True where a position is left out"
        )
    keep = ~array.transpose(*dims).compute()
    if not bool(keep.any()):
        raise InputError("the mask leaves no position")
    return masked(ds, keep.drop_vars(list(keep.coords)))


def _dims_of(given: Any, dims: tuple[str, ...]) -> Any:
    return dims if np.ndim(given) == len(dims) else [f"dim_{i}" for i in range(np.ndim(given))]


def crop(ds: xr.Dataset, wlmin: float | None, wlmax: float | None, box: Mapping[str, Any]) -> xr.Dataset:
    """Return a window of wavelengths and a box of positions, given by their labels, ends included."""
    wavelength = ds["wavelength"].values
    low, high = -np.inf if wlmin is None else wlmin, np.inf if wlmax is None else wlmax
    inside = (wavelength >= low) & (wavelength <= high)
    if not inside.any():
        raise InputError(
            f"no bin lies between wlmin={wlmin} and wlmax={wlmax} Å; the data run from {np.nanmin(wavelength):.4g} to "
            f"{np.nanmax(wavelength):.4g} Å"
        )
    places = np.flatnonzero(inside)
    out = ds.isel(tof=slice(int(places[0]), int(places[-1]) + 1))
    for dim, bounds in box.items():
        if bounds is None:
            continue
        if dim not in scan_dims(ds):
            raise unknown("scan dim", dim, scan_dims(ds))
        out = out.isel({dim: between(out, dim, bounds)})
        if not out.sizes[dim]:
            labels = ds[dim].values
            raise InputError(f"nothing lies in {dim}={bounds}; it runs from {labels[0]} to {labels[-1]}")
    return out


def between(ds: xr.Dataset, dim: str, bounds: Any) -> slice:
    """Return the places along a dim between two labels, ends included."""
    low, high = (bounds.start, bounds.stop) if isinstance(bounds, slice) else _pair(dim, bounds)
    labels = ds[dim].values
    if labels.dtype.kind not in "iuf":
        raise InputTypeError(f"{dim} has names, which have no order; use subset([…])")
    inside = (labels >= (-np.inf if low is None else low)) & (labels <= (np.inf if high is None else high))
    places = np.flatnonzero(inside)
    return slice(int(places[0]), int(places[-1]) + 1) if places.size else slice(0, 0)


def _pair(dim: str, bounds: Any) -> tuple[Any, Any]:
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        raise InputTypeError(f"{dim}={bounds!r}; expected the first and the last: {dim}=(10, 20)")
    return bounds[0], bounds[1]


def rebin(ds: xr.Dataset, factors: Mapping[str, int]) -> xr.Dataset:
    """Return sums over neighbouring bins and positions; what does not fill the last is left out."""
    for dim, factor in factors.items():
        if dim != "tof" and dim not in scan_dims(ds):
            raise unknown("dimension to rebin", dim, [*scan_dims(ds), "tof"])
        if not isinstance(factor, int | np.integer) or isinstance(factor, bool) or not 1 <= factor <= ds.sizes[dim]:
            raise InputError(f"{dim}={factor!r}; expected a whole number from 1 to {ds.sizes[dim]}")
        if dim == "group" and factor > 1:
            raise InputError("named groups have no neighbours; use roi or subset")
    scan = {d: f for d, f in factors.items() if d != "tof" and f > 1}
    out = _rebin_positions(ds, scan) if scan else ds
    return _rebin_tof(out, factors["tof"]) if factors.get("tof", 1) > 1 else out


def _rebin_tof(ds: xr.Dataset, factor: int) -> xr.Dataset:
    times = ds["tof"].values[: ds.sizes["tof"] // factor * factor].reshape(-1, factor).mean(axis=1)
    along = axis_of_tof(times, float(ds.attrs["L"]))
    arrays = {}
    names = counted_and_errors(ds) or ["transmission", "transmission_err"]
    for name in names:
        if "tof" not in ds[name].dims:
            arrays[name] = ds[name]
            continue
        terms = ds[name].astype("float64") ** (2 if name.endswith("_err") else 1)
        bins = terms.drop_vars(list(terms.coords)).isel(tof=slice(times.size * factor))
        total = bins.coarsen(tof=factor).construct(tof=("tof", "within")).sum("within", skipna=False)
        total = total**0.5 if name.endswith("_err") else total
        arrays[name] = total / factor if name.startswith("transmission") else total
    rest = {n: c.variable for n, c in ds.coords.items() if "tof" not in c.dims}
    bare = {n: a.drop_vars(list(a.coords)).assign_attrs(ds[n].attrs) for n, a in arrays.items()}
    out = xr.Dataset(bare, attrs=ds.attrs)
    return with_transmission(out.assign_coords({**rest, **along}))


def _rebin_positions(ds: xr.Dataset, factors: Mapping[str, int]) -> xr.Dataset:
    """Sum neighbouring positions: only those with all counts, and with each its exposure."""
    require_counts(ds, "rebinning positions")

    def total(array: xr.DataArray) -> xr.DataArray:
        return array.coarsen(factors, boundary="trim").sum()

    arrays = summed(ds, total)
    rest: dict[str, Any] = {}
    for dim in scan_dims(ds):
        values = ds[dim].values
        if dim in factors:
            factor = factors[dim]
            values = values[: values.size // factor * factor].reshape(-1, factor).mean(axis=1)
        rest[dim] = xr.Variable(dim, values, ds[dim].attrs)
    rest |= {n: ds[n].variable for n in ("tof", "wavelength")}
    return _with_new_positions(ds, arrays, rest)


def _with_new_positions(ds: xr.Dataset, arrays: Mapping[str, xr.DataArray], coords: Mapping[str, Any]) -> xr.Dataset:
    out = xr.Dataset({n: a.drop_vars(list(a.coords)) for n, a in arrays.items()}, attrs=ds.attrs)
    return replaced(out.assign_coords(coords), {n: out[n] for n in arrays})


def summed(ds: xr.Dataset, total: Any) -> dict[str, xr.DataArray]:
    """Return the counts of sums of positions, their errors by quadrature, and exposures where spectra are shared.

    `total` sums an array over positions, leaving NaN out; a position without counts of one kind counts for none.
    """
    names = counted(ds)
    dims = set(scan_dims(ds))
    own = [n for n in names if dims & set(ds[n].dims)]
    there = None
    for name in own:
        finite = ds[name].notnull().any("tof")
        there = finite if there is None else there & finite
    assert there is not None
    some = total(there.astype("float64"))
    some = some.where(some > 0)
    out: dict[str, xr.DataArray] = {}
    shared = len(own) < len(names)
    for name in names:
        exposure = ds.get(f"{name}_exposure")
        if name in own:
            # A sum without any term is 0, and no measurement.
            out[name] = total(ds[name].where(there).astype("float64")).where(some > 0)
            out[f"{name}_err"] = (total(ds[f"{name}_err"].where(there) ** 2) ** 0.5).where(some > 0)
        else:
            out[name], out[f"{name}_err"] = ds[name], ds[f"{name}_err"]
        if name in own and (exposure is not None or shared):
            each = xr.DataArray(1.0) if exposure is None else exposure
            out[f"{name}_exposure"] = total(each.where(there) if each.ndim else each * there.astype("float64"))
        elif exposure is not None or shared:
            out[f"{name}_exposure"] = xr.DataArray(1.0) if exposure is None else exposure
    return out


def smooth(ds: xr.Dataset, sizes: Mapping[str, int]) -> xr.Dataset:
    """Return for each position the sum over a window around it; windows overlap, and are cut off at the edges."""
    require_counts(ds, "overlapping windows")
    for dim, size in sizes.items():
        if dim not in scan_dims(ds) or dim == "group":
            raise unknown("dimension with neighbours", dim, [d for d in scan_dims(ds) if d != "group"])
        if not isinstance(size, int | np.integer) or size < 1 or size % 2 == 0:
            raise InputError(f"{dim}={size!r}; a window around a position has an odd size, such as {dim}=3")

    def total(array: xr.DataArray) -> xr.DataArray:
        array = array.drop_vars(list(array.coords))
        for dim, size in sizes.items():
            reach = int(size) // 2
            if reach and dim in array.dims:
                array = _window_sum(array.fillna(0.0), dim, reach)
        return array.fillna(0.0)

    arrays = summed(ds, total)
    return replaced(ds, arrays)


def _window_sum(array: xr.DataArray, dim: str, reach: int) -> xr.DataArray:
    """Return sums over 2·reach + 1 neighbours along a dim, fewer at the ends, in a fixed order."""
    size = array.sizes[dim]
    padded = array.pad({dim: reach}, constant_values=0.0)
    parts = [padded.isel({dim: slice(shift, shift + size)}) for shift in range(2 * reach + 1)]
    out = parts[0]
    for part in parts[1:]:
        out = out + part
    return out.chunk({dim: array.chunksizes[dim]}) if array.chunks is not None and dim in array.chunksizes else out


def roi(ds: xr.Dataset, regions: Mapping[str, Any]) -> xr.Dataset:
    """Return named groups: for each region the sum of its positions."""
    require_counts(ds, "regions")
    dims = scan_dims(ds)
    if not regions or not dims or dims == ("group",):
        raise InputError("roi takes regions of a grid or a line: roi(weld={'y': (10, 20), 'x': (0, 5)})")
    parts: list[dict[str, xr.DataArray]] = []
    for name, region in regions.items():
        part = _region(ds, name, region)
        parts.append(summed(part, lambda a, part=part: a.sum([d for d in dims if d in a.dims])))
    arrays = {}
    for key in parts[0]:
        columns = [p[key].drop_vars(list(p[key].coords)) for p in parts]
        own = any(dims_ in ds[key].dims for dims_ in dims) if key in ds else True
        arrays[key] = xr.concat(columns, "group") if own else columns[0]
    coords = {"group": xr.Variable("group", np.array(list(regions), object))}
    coords |= {n: ds[n].variable for n in ("tof", "wavelength")}
    return _with_new_positions(ds, arrays, coords)


def _region(ds: xr.Dataset, name: str, region: Any) -> xr.Dataset:
    if isinstance(region, Mapping):
        out = ds
        for dim, bounds in region.items():
            if dim not in scan_dims(ds):
                raise unknown(f"scan dim in the region {name!r}", dim, scan_dims(ds))
            out = out.isel({dim: between(out, dim, bounds)})
    elif isinstance(region, list | tuple) and region:
        out = subset(ds, region)
    else:
        out = mask(ds, ~np.asarray(region, bool) if not isinstance(region, xr.DataArray) else ~region)
    if 0 in out.sizes.values() or not places_of(out):
        raise InputError(f"the region {name!r} holds no position")
    return out


def same_counts(a: xr.Dataset, b: xr.Dataset) -> list[str]:
    """Return which counts two Datasets share; raise unless both have the same."""
    first, second = require_counts(a, "adding"), require_counts(b, "adding")
    if first != second:
        raise InputError(f"one has {', '.join(first)}, the other {', '.join(second)}; both must have the same counts")
    exposed = [{n for n in COUNTED if f"{n}_exposure" in ds} for ds in (a, b)]
    if exposed[0] != exposed[1]:
        raise InputError("one is normalised by its exposure (charge, or summed pixels) and the other is not")
    return first


def added(a: xr.Dataset, b: xr.Dataset) -> xr.Dataset:
    """Return the sum of two measurements of the same groups.

    Raises
    ------
    InputError
        If groups, flight path, bin width, wavelengths or the kinds of counts differ.
    """
    if indices_of(a) != indices_of(b) or scan_dims(a) != scan_dims(b):
        raise InputError(f"the groups differ: {_few(indices_of(a))} and {_few(indices_of(b))}")
    for name in ("L", "tstep"):
        if a.attrs.get(name) != b.attrs.get(name):
            raise InputError(f"{name} differs: {a.attrs.get(name)} and {b.attrs.get(name)}")
    first, second = a["wavelength"].values, b["wavelength"].values
    if first.shape != second.shape or not np.allclose(first, second, rtol=1e-9, atol=0, equal_nan=True):
        raise InputError(
            f"the wavelength grids differ: {first.size} bins {first[0]:.6g} … {first[-1]:.6g} Å and {second.size} bins "
            f"{second[0]:.6g} … {second[-1]:.6g} Å"
        )
    out: dict[str, xr.DataArray] = {}
    other = b.drop_vars(list(b.coords))
    for name in same_counts(a, b):
        out[name] = a[name] + other[name]
        out[f"{name}_err"] = (a[f"{name}_err"] ** 2 + other[f"{name}_err"] ** 2) ** 0.5
        if f"{name}_exposure" in a:
            out[f"{name}_exposure"] = a[f"{name}_exposure"] + other[f"{name}_exposure"]
    return replaced(a, out)


def _few(indices: Sequence[str]) -> str:
    return f"{len(indices)} from {indices[0]} to {indices[-1]}" if indices else "none"
