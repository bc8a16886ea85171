"""What detectors and beams do to counts, undone: exposure, overlap of frames, dead time, dark counts; all lazy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from dask.base import tokenize

from scanfold import _apply
from scanfold.bragg import _counts_kernels as kernels
from scanfold.bragg.indices import indices_of, place_of, places_of, scan_dims
from scanfold.bragg.variables import replaced, require_counts
from scanfold.conventions import InputError, unknown

#: Attribute of a Dataset: what its counts were corrected for.
CORRECTED = "corrected"


def exposed(ds: xr.Dataset, given: Mapping[str, Any]) -> xr.Dataset:
    """Return the Dataset with exposures: transmission is the ratio of counts per exposure.

    Parameters
    ----------
    ds : Dataset
        Of Data.
    given : mapping of str to number, array over the scan dims, or mapping of index to number
        Proton charge, pulses or seconds of each kind of counts, in the same unit for all. Counts stay as they are,
        so that Poisson statistics hold.

    Raises
    ------
    InputError
        If one is not above 0, or missing.
    """
    names = require_counts(ds, "normalising by charge")
    missing = [n for n in names if given.get(n) is None]
    if missing:
        raise InputError(f"the charge of {', '.join(missing)} is missing; all counts need theirs")
    arrays = {}
    for name in names:
        charge = over_scan(ds, given[name], f"charge of {name}")
        if not bool((charge > 0).all()):
            raise InputError(f"the charge of {name} is {float(charge.min())} somewhere; expected numbers above 0")
        # Pixels that were summed before had an exposure of one each.
        arrays[f"{name}_exposure"] = charge * ds.get(f"{name}_exposure", xr.DataArray(1.0))
    return replaced(ds, arrays)


def over_scan(ds: xr.Dataset, value: Any, what: str) -> xr.DataArray:
    """Return a number, an array over the scan dims, or a mapping of index to number as an array, in memory."""
    dims = scan_dims(ds)
    if isinstance(value, Mapping):
        out = xr.DataArray(np.full([ds.sizes[d] for d in dims], 1.0), dims=dims)
        given = {tuple(place_of(ds, i).values()): float(v) for i, v in value.items()}
        for index, place in zip(indices_of(ds), places_of(ds), strict=True):
            if tuple(place.values()) not in given:
                raise InputError(f"{what}: the group {index!r} is missing")
            out.values[tuple(place.values())] = given[tuple(place.values())]
        return out
    if isinstance(value, xr.DataArray):
        return value.astype("float64").compute().drop_vars(list(value.coords))
    array = np.asarray(value, np.float64)
    if array.shape not in ((), tuple(ds.sizes[d] for d in dims)):
        raise InputError(f"{what} has shape {array.shape}; expected a number, or {tuple(ds.sizes[d] for d in dims)}")
    return xr.DataArray(array, dims=dims if array.ndim else ())


def overlap(ds: xr.Dataset, triggers: Any, windows: Sequence[float]) -> xr.Dataset:
    """Return counts corrected for the overlap of events in detectors that record one per pixel and shutter window.

    N_i / (1 − Σ_{j<i} N_j / triggers), the sum over the bins before in the same window (A. S. Tremsin et al.,
    J. Instrum. 9 (2014) C05026); errors grow by the same factor.

    Parameters
    ----------
    ds : Dataset
        Of Data.
    triggers : number, array over the scan dims, or mapping of kind of counts to either
        Pulses that were summed. More counts than pulses in a window are no measurement: NaN.
    windows : sequence of float
        Times of flight (s) at which a shutter window begins, after the first; none for a single window.
    """
    names = require_counts(ds, "the overlap correction")
    times = ds["tof"].values
    inside = [t for t in windows if times[0] < t <= times[-1]]
    if len(inside) < len(windows):
        raise InputError(f"windows={list(windows)} s; the data run from {times[0]:.4g} to {times[-1]:.4g} s")
    starts = [0, *np.searchsorted(times, sorted(inside)).tolist()]
    each = _by_kind(ds, triggers, names, "triggers")

    def factor(counts: Any, count: Any) -> Any:
        return kernels.overlap_factor(counts, count, starts)

    return marked(_scaled(ds, names, factor, each, ("overlap", starts)), "overlap")


def dead_time(ds: xr.Dataset, tau: float, pulses: Any) -> xr.Dataset:
    """Return counts corrected for a non-paralysable dead time.

    N / (1 − N·τ/(pulses·Δt)) with the bin width Δt; errors grow by the same factor.

    Parameters
    ----------
    ds : Dataset
        Of Data.
    tau : float
        Dead time in s.
    pulses : number, array over the scan dims, or mapping of kind of counts to either
        Pulses that were summed.
    """
    names = require_counts(ds, "the dead-time correction")
    if not 0 <= tau < 1:
        raise InputError(f"dead_time={tau!r}; expected seconds, such as 5e-7")
    width = np.gradient(ds["tof"].values)
    each = _by_kind(ds, pulses, names, "pulses")

    def factor(counts: Any, count: Any) -> Any:
        return kernels.dead_time_factor(counts, np.broadcast_to(tau, np.shape(count)), width * count[..., np.newaxis])

    return marked(_scaled(ds, names, factor, each, ("dead time", float(tau), tokenize(width))), "dead time")


def marked(ds: xr.Dataset, correction: str) -> xr.Dataset:
    """Return the Dataset with a correction on record: its counts are no longer those that were recorded."""
    before = str(ds.attrs.get(CORRECTED, ""))
    return ds.assign_attrs({CORRECTED: f"{before}, {correction}" if before else correction})


def _by_kind(ds: xr.Dataset, given: Any, names: Sequence[str], what: str) -> dict[str, xr.DataArray]:
    if isinstance(given, Mapping) and set(given) & set(names):
        for name in given:
            if name not in names:
                raise unknown(f"counts in {what}", name, names)
        missing = [n for n in names if n not in given]
        if missing:
            raise InputError(f"{what} of {', '.join(missing)} is missing")
        out = {n: over_scan(ds, given[n], what) for n in names}
    else:
        out = {n: over_scan(ds, given, what) for n in names}
    for name, array in out.items():
        if not bool((array > 0).all()):
            raise InputError(f"{what} of {name} is {float(array.min())} somewhere; expected numbers above 0")
    return out


def _scaled(
    ds: xr.Dataset, names: Sequence[str], factor: Callable[..., Any], each: Mapping[str, xr.DataArray], token: Any
) -> xr.Dataset:
    """Return counts and errors times a factor that a kernel makes of the counts."""
    arrays: dict[str, xr.DataArray] = {}
    for name in names:
        scan = [d for d in each[name].dims if d in ds[name].dims]
        count = each[name] if len(scan) == each[name].ndim else None
        if count is None:
            raise InputError(f"{name} is one spectrum for all groups, and has one number, not one for each")
        by = _apply.apply_kernel(
            factor, ds[name].astype("float64"), count, core_dims=[["tof"], []], output={"tof": ds.sizes["tof"]},
            token=tokenize(token),
        )  # fmt: skip
        arrays |= {name: ds[name] * by, f"{name}_err": ds[f"{name}_err"] * by}
    return replaced(ds, arrays)


def without_dark(ds: xr.Dataset, dark: Any, scale: float | Mapping[str, float]) -> xr.Dataset:
    """Return counts without the dark counts, errors by quadrature.

    Parameters
    ----------
    ds : Dataset
        Of Data.
    dark : DataArray over the scan dims, tof, or both, a file, a DataFrame, or a number of counts in each bin
        Their errors are √counts, or those of the file.
    scale : float or mapping of kind of counts to float
        Exposure of the counts over that of the dark measurement.
    """
    names = require_counts(ds, "subtracting dark counts")
    for name in scale if isinstance(scale, Mapping) else ():
        if name not in names:
            raise unknown("counts in scale", name, names)
    values, errors = _dark(ds, dark)
    arrays = {}
    for name in names:
        factor = scale.get(name, 1.0) if isinstance(scale, Mapping) else scale
        if not np.isfinite(factor) or factor < 0:
            raise InputError(f"scale={scale!r}; expected the exposure of the counts over that of the dark ones")
        if set(values.dims) - set(ds[name].dims):
            raise InputError(f"dark has the dims {values.dims}, and {name} is one spectrum for all groups")
        arrays[name] = ds[name] - factor * values
        arrays[f"{name}_err"] = (ds[f"{name}_err"] ** 2 + (factor * errors) ** 2) ** 0.5
    return marked(replaced(ds, arrays), "dark counts")


def _dark(ds: xr.Dataset, dark: Any) -> tuple[xr.DataArray, xr.DataArray]:
    from scanfold.bragg.loading import one

    if isinstance(dark, xr.DataArray):
        for dim, size in dark.sizes.items():
            if ds.sizes.get(dim) != size:
                raise InputError(f"dark has {size} along {dim!r} and the data {ds.sizes.get(dim, 'no such dim')}")
        bare = dark.drop_vars(list(dark.coords))
        return bare, bare.astype("float64") ** 0.5
    if np.ndim(dark) == 0 and not hasattr(dark, "columns") and not isinstance(dark, str) and not hasattr(dark, "parts"):
        value = xr.DataArray(float(dark))
        return value, value**0.5
    values = one(dark, "dark")[1]
    if values.shape[1] != ds.sizes["tof"]:
        raise InputError(f"dark has {values.shape[1]} bins and the data {ds.sizes['tof']}")
    return xr.DataArray(values[0], dims="tof"), xr.DataArray(values[1], dims="tof")
