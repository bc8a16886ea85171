"""The variables of bragg.Data, declared once, and how transmission follows from counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from scanfold import _apply
from scanfold.bragg import _counts_kernels as kernels
from scanfold.bragg import tof as flight
from scanfold.bragg.indices import scan_dims
from scanfold.conventions import InputError, Var

_SPECTRUM = ("...", "tof")
#: What is counted, with what it is.
COUNTED = {
    "signal": "counts behind the sample",
    "openbeam": "counts of the open beam",
    "empty_signal": "counts behind the empty sample holder",
    "empty_openbeam": "counts of the open beam of the empty holder",
}
VARIABLES = (
    *(Var(n, _SPECTRUM, "float64", text, "count", ancillary=(f"{n}_err",)) for n, text in COUNTED.items()),
    *(Var(f"{n}_err", _SPECTRUM, "float64", f"standard error of the {text}", "count") for n, text in COUNTED.items()),
    *(Var(f"{n}_exposure", ("...",), "float64", f"exposure of the {text}") for n, text in COUNTED.items()),
    Var("empty_ratio", _SPECTRUM, "float64", "open beam over signal of the empty holder"),
    Var("empty_ratio_err", _SPECTRUM, "float64", "standard error of empty_ratio"),
    Var("transmission", _SPECTRUM, "float64", "transmission", ancillary=("transmission_err",)),
    Var("transmission_err", _SPECTRUM, "float64", "standard error of the transmission"),
)
SPEC = {v.name: v for v in VARIABLES}
_DERIVED = ("transmission", "transmission_err", "empty_ratio", "empty_ratio_err")
#: Attributes of a Dataset of bragg.Data.
ATTRS = ("L", "L0", "t0", "tstep")


def dataset(
    variables: Mapping[str, xr.DataArray], axis: Mapping[str, Any], coords: Mapping[str, Any], attrs: Mapping[str, Any]
) -> xr.Dataset:
    """Make the Dataset of Data from its counts, or its transmission, and complete it.

    Parameters
    ----------
    variables : mapping
        By the names of `SPEC`.
    axis : mapping
        Coordinates along ``tof``.
    coords : mapping
        Coordinates along the scan dims.
    attrs : mapping
        L, L0, t0, tstep.
    """
    ds = xr.Dataset(attrs={k: attrs.get(k) for k in ATTRS if attrs.get(k) is not None})
    for name, array in variables.items():
        bare = array.drop_vars(list(array.coords))
        ds[name] = bare.assign_attrs(SPEC[name].attrs() | {k: v for k, v in array.attrs.items() if k == "source"})
    ds = ds.assign_coords({**coords, **axis})
    return with_transmission(ds)


def axis_of_tof(times: Any, L: float) -> dict[str, xr.Variable]:
    """Return the coordinates along tof for times of flight (s) over L metres."""
    values = np.asarray(times, np.float64)
    return _axis(values, flight.wavelength(values, L))


def axis_of_wavelength(wavelength: Any, L: float) -> dict[str, xr.Variable]:
    """Return the coordinates along tof for wavelengths (Å)."""
    values = np.asarray(wavelength, np.float64)
    return _axis(flight.tof(values, L), values)


def _axis(times: Any, wavelength: Any) -> dict[str, xr.Variable]:
    return {
        "tof": xr.Variable("tof", times, {"units": "s", "long_name": "time of flight"}),
        "wavelength": xr.Variable("tof", wavelength, {"units": "angstrom", "long_name": "wavelength"}),
    }


def with_transmission(ds: xr.Dataset) -> xr.Dataset:
    """Return the Dataset with its transmission made again from its counts, if it has counts."""
    if "signal" in ds and "openbeam" in ds:
        ds = ds.drop_vars([n for n in _DERIVED if n in ds])
        ratio, error = _divided(ds, "signal", "openbeam")
        if "empty_signal" in ds:
            empty, empty_err = _divided(ds, "empty_openbeam", "empty_signal")
            ds = _put(ds, empty_ratio=empty, empty_ratio_err=empty_err)
            packed = _apply.apply_kernel(
                kernels.corrected, ratio, error, empty, empty_err, core_dims=[["tof"]] * 4, output=_packed(ds),
                token="empty ratio",
            )  # fmt: skip
            ratio, error = packed.isel(column=0), packed.isel(column=1)
        ds = _put(ds, transmission=ratio, transmission_err=error)
    order = [n for n in SPEC if n in ds]
    ds = ds[order].transpose(*scan_dims(ds), "tof")
    return ds.assign_attrs(primary="transmission" if "transmission" in ds else order[0])


def _divided(ds: xr.Dataset, above: str, below: str) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the ratio of two counts, each over its exposure, and its error."""
    one = xr.DataArray(1.0)
    scale = ds.get(f"{below}_exposure", one) / ds.get(f"{above}_exposure", one)
    packed = _apply.apply_kernel(
        kernels.transmission, *(ds[n] for n in (above, f"{above}_err", below, f"{below}_err")), scale,
        core_dims=[["tof"]] * 4 + [[]], output=_packed(ds), token="transmission",
    )  # fmt: skip
    return packed.isel(column=0), packed.isel(column=1)


def _packed(ds: xr.Dataset) -> dict[str, int]:
    return {"column": 2, "tof": ds.sizes["tof"]}


def _put(ds: xr.Dataset, **arrays: xr.DataArray) -> xr.Dataset:
    return ds.assign({n: SPEC[n].make(a.drop_vars(list(a.coords))) for n, a in arrays.items()})


def counted(ds: xr.Dataset) -> list[str]:
    """Return which counts a Dataset has."""
    return [n for n in COUNTED if n in ds]


def require_counts(ds: xr.Dataset, what: str) -> list[str]:
    """Return which counts a Dataset has; raise if it has none.

    Raises
    ------
    InputError
        For data that were read as transmission.
    """
    names = counted(ds)
    if not names:
        raise InputError(f"{what} needs counts; these data were read as a transmission")
    return names


def replaced(ds: xr.Dataset, arrays: Mapping[str, xr.DataArray], keep: Iterable[str] = ()) -> xr.Dataset:
    """Return the Dataset with other counts, errors or exposures, and the transmission that follows from them."""
    out = ds.drop_vars([n for n in ds.data_vars if n not in arrays and n not in (*counted_and_errors(ds), *keep)])
    for name, array in arrays.items():
        bare = array.drop_vars([c for c in array.coords if c in ds.coords or c not in array.dims])
        out[name] = bare.assign_attrs(SPEC[name].attrs() | {k: v for k, v in ds[name].attrs.items() if k == "source"}
                                      if name in ds else SPEC[name].attrs())  # fmt: skip
    return with_transmission(out)


def counted_and_errors(ds: xr.Dataset) -> list[str]:
    """Return the names of the counts, their errors and exposures."""
    return [f"{n}{s}" for n in COUNTED for s in ("", "_err", "_exposure") if f"{n}{s}" in ds]
