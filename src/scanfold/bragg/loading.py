"""From what a user passes to the Dataset of bragg.Data: counts read lazily, labelled, on one axis."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from scanfold.bragg import tof as flight
from scanfold.bragg.files import Channels, checked_errors, counts_of_frame, lazy_counts, read_counts
from scanfold.bragg.indices import scan_coords
from scanfold.bragg.naming import Named
from scanfold.bragg.sources import Stack, Tables, chosen, paired, source_of
from scanfold.bragg.variables import COUNTED, axis_of_tof, axis_of_wavelength, dataset
from scanfold.conventions import InputError, InputTypeError
from scanfold.io.tables import read_table

Array = npt.NDArray[np.float64]
_TIME_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}
_LENGTH_UNITS = {"angstrom": 1.0, "å": 1.0, "a": 1.0, "nm": 10.0}
_TRANSMISSION = {
    "axis": ("wavelength", "wl", "lambda", "wave", "energy", "e"),
    "trans": ("trans", "transmission", "t", "tr"),
    "err": ("err", "error", "errors", "std", "std_dev", "uncertainty", "sigma", "terr", "trans_err"),
}


class Calibration:
    """From channels, or the axis a file has, to time of flight and wavelength."""

    def __init__(self, L: float, tstep: float, L0: float, t0: float):
        for name, value in (("L", L), ("tstep", tstep), ("L0", L0)):
            if not (isinstance(value, int | float | np.number) and np.isfinite(value) and value > 0):
                raise InputError(f"{name}={value!r}; expected a number above 0 ({_MEANING[name]})")
        if not (isinstance(t0, int | float | np.number) and abs(t0) < 1):
            raise InputError(f"t0={t0!r}; expected an offset in seconds, such as 1.4e-5 for 1.4 bins of 10 µs")
        self.L, self.tstep, self.L0, self.t0 = float(L), float(tstep), float(L0), float(t0)

    @property
    def attrs(self) -> dict[str, float]:
        """What the Dataset keeps of it."""
        return {"L": self.L, "L0": self.L0, "t0": self.t0, "tstep": self.tstep}

    def axis(self, channels: Array) -> dict[str, xr.Variable]:
        """Return the coordinates for channels."""
        return axis_of_tof(flight.calibrated(channels, self.tstep, self.L0, self.t0), self.L)

    def axis_of(self, array: xr.DataArray) -> dict[str, xr.Variable]:
        """Return the coordinates for a stack: from wavelengths, from times, or from channels from 1."""
        name = str(array.attrs.get("axis", "tof"))
        if "tof" not in array.coords:
            return self.axis(np.arange(1.0, array.sizes["tof"] + 1))
        values, units = array["tof"].values, str(array["tof"].attrs.get("units", "")).lower()
        if values.dtype.kind not in "iuf" or not np.isfinite(values).all() or not (np.diff(values) > 0).all():
            raise InputError(f"the axis {name!r} of the stack does not grow from bin to bin")
        if units in _LENGTH_UNITS or (not units and name in ("wavelength", "lambda", "wl")):
            return axis_of_wavelength(values * _LENGTH_UNITS.get(units, 1.0), self.L)
        if units in _TIME_UNITS:
            return axis_of_tof(flight.calibrated(values, _TIME_UNITS[units], self.L0, self.t0), self.L)
        if units == "pixel":
            values = np.arange(1.0, values.size + 1)
        return self.axis(values)


_MEANING = {"L": "flight path in m", "tstep": "width of a bin in s", "L0": "flight path over the nominal one"}


def grouped(
    given: Mapping[str, Any], calibration: Calibration, pattern: str, indices: Sequence[Any] | None, query: str | None
) -> xr.Dataset:
    """Make the Dataset of several groups; see `Data.from_grouped`."""
    sources = {role: source_of(item, role, pattern) for role, item in given.items() if item is not None}
    require_both(sources)
    signal = sources["signal"]
    if isinstance(signal, Stack):
        return _stacks(sources, calibration, indices, query)
    if signal.named is None:
        signal = Tables(signal.items, Named(["signal"]))
    signal = chosen(signal, indices, query)
    named = signal.named
    assert named is not None
    coords, where = scan_coords(named)
    dims = [d for d in coords if d != "present"]
    shape = tuple(coords[d].size for d in dims)
    reference, channels = _label(signal.items[0], "signal"), one(signal.items[0], "signal")[0]
    variables: dict[str, xr.DataArray] = {}
    for role, source in sources.items():
        if isinstance(source, Stack):
            raise InputError(f"{role} is a stack, and signal is a set of spectra; pass both in the same form")
        alone = role != "signal" and source.named is None
        items = signal.items if role == "signal" else source.items if alone else paired(signal, source, role)
        found, values = one(items[0], role)
        Channels.of(channels).require(found, _label(items[0], role), reference)
        shared = xr.DataArray(values, dims=("column", "tof"))
        packed = shared if alone else _many(items, role, channels, shape, where, dims)
        variables |= {role: packed.isel(column=0), f"{role}_err": packed.isel(column=1)}
    return dataset(variables, calibration.axis(channels), coords, calibration.attrs)


def require_both(sources: Mapping[str, Any]) -> None:
    """Raise unless there are signal and open beam, and both empties or none."""
    for role in ("signal", "openbeam"):
        if role not in sources:
            raise InputError(f"{role} is missing; counts need the signal and the open beam")
    if ("empty_signal" in sources) != ("empty_openbeam" in sources):
        missing = "empty_signal" if "empty_openbeam" in sources else "empty_openbeam"
        raise InputError(f"{missing} is missing; the empty holder counts with both its signal and its open beam")


def _label(item: Any, role: str) -> str:
    return item if isinstance(item, str) else role


def one(item: Any, role: str) -> tuple[Array, Array]:
    """Read one spectrum, from a file, a DataFrame or an array: channels (n), counts and errors (2, n)."""
    if isinstance(item, str | os.PathLike):
        return read_counts(os.fspath(item))
    if hasattr(item, "columns"):
        return counts_of_frame(item, role)
    if isinstance(item, np.ndarray | xr.DataArray) and item.ndim == 1 and item.dtype.kind in "iuf":
        values = np.asarray(item, np.float64)
        errors = checked_errors(values, np.full(values.shape, np.nan), role)
        return np.arange(1.0, values.size + 1), np.stack([values, errors])
    raise InputTypeError(f"{role} has a {type(item).__name__}; expected a file, a DataFrame or a 1-D array of counts")


def _many(
    items: Sequence[Any], role: str, channels: Array, shape: tuple[int, ...], where: Any, dims: Sequence[str]
) -> xr.DataArray:
    """Place spectra on the scan: files lazily, what is in memory at once; NaN where there is none."""
    if all(isinstance(i, str) for i in items):
        paths = np.full(shape, None, object)
        paths[tuple(where.T)] = items
        return lazy_counts(paths, dims, channels, items[0])
    out = np.full((*shape, 2, channels.size), np.nan)
    for item, place in zip(items, where, strict=True):
        found, values = one(item, role)
        Channels.of(channels).require(found, f"{role} at {tuple(place)}", f"{role} at {tuple(where[0])}")
        out[tuple(place)] = values
    return xr.DataArray(out, dims=[*dims, "column", "tof"])


def _stacks(
    sources: Mapping[str, Any], calibration: Calibration, indices: Sequence[Any] | None, query: str | None
) -> xr.Dataset:
    from scanfold.bragg.regions import subset, where_query

    signal = sources["signal"].array
    variables: dict[str, xr.DataArray] = {}
    for role, source in sources.items():
        array = source.array if isinstance(source, Stack) else _shared(source, role)
        if array.sizes["tof"] != signal.sizes["tof"]:
            raise InputError(f"{role} has {array.sizes['tof']} bins and signal has {signal.sizes['tof']}")
        for dim in array.dims:
            if dim not in signal.dims or array.sizes[dim] != signal.sizes[dim]:
                raise InputError(f"{role} has the shape {dict(array.sizes)} and signal {dict(signal.sizes)}")
        variables |= with_errors(array, role)
    coords = {d: signal[d].variable for d in signal.dims if d != "tof" and d in signal.coords}
    for dim in signal.dims:
        if dim != "tof" and dim not in coords:
            coords[dim] = xr.Variable(dim, np.arange(signal.sizes[dim]))
    ds = dataset(variables, calibration.axis_of(signal), coords, calibration.attrs)
    if indices is not None:
        ds = subset(ds, indices)
    return ds if query is None else where_query(ds, query)


def _shared(source: Tables, role: str) -> xr.DataArray:
    if len(source.items) != 1:
        raise InputError(f"{role} is {len(source.items)} spectra, and signal is a stack; pass one for all, or a stack")
    item = source.items[0]
    if isinstance(item, xr.DataArray):
        return item.drop_vars(list(item.coords)).rename({item.dims[0]: "tof"})
    return xr.DataArray(one(item, role)[1][0], dims="tof")


def with_errors(array: xr.DataArray, role: str, errors: xr.DataArray | None = None) -> dict[str, xr.DataArray]:
    """Return counts and their errors, √counts unless given."""
    if errors is None:
        if array.chunks is None:
            checked_errors(np.asarray(array.values, np.float64), np.full(array.shape, np.nan), role)
        with np.errstate(invalid="ignore"):
            errors = array.astype("float64") ** 0.5
    return {role: array, f"{role}_err": errors}


def single(given: Mapping[str, Any], calibration: Calibration) -> xr.Dataset:
    """Make the Dataset of one spectrum; see `Data.from_counts`."""
    there = {role: item for role, item in given.items() if item is not None}
    require_both(there)
    reference = _label(there["signal"], "signal")
    channels: Array | None = None
    variables: dict[str, xr.DataArray] = {}
    for role, item in there.items():
        found, values = one(_path(item), role)
        channels = found if channels is None else channels
        Channels.of(channels).require(found, _label(item, role), reference)
        packed = xr.DataArray(values, dims=("column", "tof"))
        variables |= {role: packed.isel(column=0), f"{role}_err": packed.isel(column=1)}
    assert channels is not None
    return dataset(variables, calibration.axis(channels), {}, calibration.attrs)


def _path(item: Any) -> Any:
    from scanfold.io.formats import existing

    return existing(os.fspath(item)) if isinstance(item, str | os.PathLike) else item


def transmission(source: Any, index: str, calibration: Calibration) -> xr.Dataset:
    """Make the Dataset of one spectrum that is a transmission already; see `Data.from_transmission`."""
    item = _path(source)
    if isinstance(item, str):
        axis, values, errors = read_table(item, _TRANSMISSION)
    elif hasattr(item, "columns"):
        lower = [str(c).strip().lower() for c in item.columns]
        named = [next((lower.index(a) for a in k if a in lower), None) for k in _TRANSMISSION.values()]
        places = named if any(p is not None for p in named) else [i if i < len(lower) else None for i in range(3)]
        empty = np.full(len(item), np.nan)
        axis, values, errors = (empty if p is None else item.iloc[:, p].to_numpy(np.float64) for p in places)
    else:
        raise InputTypeError(f"transmission is a {type(item).__name__}; expected a file or a DataFrame")
    if np.isnan(axis).all() or np.isnan(values).all():
        raise InputError(f"{_label(item, 'transmission')!r} lacks its axis or its values; expected 2 or 3 columns")
    wavelength = axis if index == "wavelength" else flight.wavelength_of_energy(axis)
    order = np.argsort(wavelength)
    if not (np.diff(wavelength[order]) > 0).all():
        raise InputError(f"the axis of {_label(item, 'transmission')!r} has missing or equal values")
    variables = {"transmission": xr.DataArray(values[order], dims="tof")}
    variables["transmission_err"] = xr.DataArray(errors[order], dims="tof")
    return dataset(variables, axis_of_wavelength(wavelength[order], calibration.L), {}, calibration.attrs)


def from_dataset(ds: xr.Dataset, calibration: Calibration) -> xr.Dataset:
    """Make the Dataset from a labelled one of the user's; see `Data.from_dataset`."""
    roles = [n for n in (*COUNTED, "transmission") if n in ds]
    if "transmission" not in roles and not {"signal", "openbeam"} <= set(roles):
        raise InputError(
            f"the Dataset has {', '.join(map(str, ds.data_vars)) or 'no variables'}; expected signal and openbeam, or "
            "transmission"
        )
    if {"signal", "openbeam"} <= set(roles):
        roles.remove("transmission") if "transmission" in roles else None
        require_both(dict.fromkeys(roles))
    stacks = {r: source_of(ds[r], r) for r in roles}
    variables: dict[str, xr.DataArray] = {}
    for role, source in stacks.items():
        array = _plain(source)
        errors = _plain(source_of(ds[f"{role}_err"], role)) if f"{role}_err" in ds else None
        if role == "transmission":
            variables |= {role: array, f"{role}_err": xr.full_like(array, np.nan, float) if errors is None else errors}
        else:
            variables |= with_errors(array, role, errors)
        if f"{role}_exposure" in ds:
            variables[f"{role}_exposure"] = ds[f"{role}_exposure"]
    first = _plain(stacks[roles[0]])
    axis = ds["wavelength"].variable if "wavelength" in ds.coords and first.attrs.get("axis", "tof") == "tof" else None
    along = calibration.axis_of(first) if axis is None else axis_of_wavelength(axis.values, calibration.L)
    if axis is not None and "tof" in first.coords:
        along["tof"] = xr.Variable("tof", first["tof"].values, along["tof"].attrs)
    coords: dict[str, Any] = {
        str(n): c.variable for n, c in ds.coords.items() if "tof" not in c.dims and set(c.dims) <= set(first.dims)
    }
    for dim in first.dims:
        if dim != "tof" and dim not in coords:
            coords[str(dim)] = xr.Variable(dim, np.arange(first.sizes[dim]))
    return dataset(variables, along, coords, calibration.attrs)


def _plain(source: Any) -> xr.DataArray:
    if isinstance(source, Stack):
        return source.array
    array: xr.DataArray = source.items[0]
    axis = str(array.dims[0])
    return array.rename({axis: "tof"}).assign_attrs(array.attrs | {"axis": axis}) if axis != "tof" else array
