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
    arrays = {
        n: xr.Variable(a.dims, a.data, SPEC[n].attrs() | {k: v for k, v in a.attrs.items() if k == "source"})
        for n, a in variables.items()
    }
    kept = {k: attrs[k] for k in ATTRS if attrs.get(k) is not None}
    return with_transmission(xr.Dataset(arrays, coords={**coords, **axis}, attrs=kept))


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
    """Return the Dataset with its transmission made again from its counts, if it has counts and their errors."""
    variables: dict[str, xr.Variable] = {str(n): ds.variables[n] for n in ds.data_vars}
    if {"signal", "signal_err", "openbeam", "openbeam_err"} <= set(variables):
        counts = {n: xr.DataArray(v.data, dims=v.dims) for n, v in variables.items() if n not in _DERIVED}
        derived = _derived(counts, ds.sizes["tof"])
        variables |= {n: SPEC[n].make(a).variable for n, a in derived.items()}
    dims = (*scan_dims(ds), "tof")
    order = {n: variables[n].transpose(*(d for d in dims if d in variables[n].dims)) for n in SPEC if n in variables}
    primary = "transmission" if "transmission" in order else next(iter(order))
    return xr.Dataset(order, coords=ds.coords, attrs=ds.attrs | {"primary": primary})


def _derived(counts: Mapping[str, xr.DataArray], bins: int) -> dict[str, xr.DataArray]:
    """Return the transmission, and the ratio of the empties where they were counted."""
    ratio, error = _divided(counts, "signal", "openbeam", bins)
    if "empty_signal" not in counts:
        return {"transmission": ratio, "transmission_err": error}
    empty, empty_err = _divided(counts, "empty_openbeam", "empty_signal", bins)
    packed = _apply.apply_kernel(
        kernels.corrected, ratio, error, empty, empty_err, core_dims=[["tof"]] * 4, output={"column": 2, "tof": bins},
        token="empty ratio",
    )  # fmt: skip
    ratio, error = packed.isel(column=0), packed.isel(column=1)
    return {"empty_ratio": empty, "empty_ratio_err": empty_err, "transmission": ratio, "transmission_err": error}


def _divided(
    counts: Mapping[str, xr.DataArray], above: str, below: str, bins: int
) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the ratio of two counts, each over its exposure, and its error."""
    one = xr.DataArray(1.0)
    scale = counts.get(f"{below}_exposure", one) / counts.get(f"{above}_exposure", one)
    packed = _apply.apply_kernel(
        kernels.transmission, *(counts[n] for n in (above, f"{above}_err", below, f"{below}_err")), scale,
        core_dims=[["tof"]] * 4 + [[]], output={"column": 2, "tof": bins}, token="transmission",
    )  # fmt: skip
    return packed.isel(column=0), packed.isel(column=1)


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
