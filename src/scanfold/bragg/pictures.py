"""Pictures of data: one spectrum, the mean transmission over the groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from scanfold.bragg.indices import indices_of, places_of, scan_dims
from scanfold.conventions import InputError
from scanfold.plot import colours, parameter_map
from scanfold.plot.axes import given_or_new
from scanfold.plot.positions import plain


def spectrum(ds: xr.Dataset, place: Mapping[str, int], ax: Any, kw: Mapping[str, Any]) -> Any:
    """Draw the transmission at one place over wavelength, with one standard error; return the Axes."""
    here = ds[["transmission", "transmission_err"]].isel(place).compute()
    errors = here["transmission_err"].values
    options: dict[str, Any] = {
        "fmt": ".",
        "markersize": 2.5,
        "elinewidth": 0.6,
        "color": colours.DATA,
        "ecolor": "#9a9a9a",
    }
    ax = given_or_new(ax)
    ax.errorbar(here["wavelength"], here["transmission"], np.where(errors >= 0, errors, np.nan), **options | dict(kw))
    ax.set(xlabel="wavelength [Å]", ylabel="transmission")
    names = dict(zip((tuple(p.values()) for p in places_of(ds)), indices_of(ds), strict=True)) if place else {}
    ax.set_title(plain(names.get(tuple(place.values()), "")))
    return ax


def mean_map(ds: xr.Dataset, wlmin: float, wlmax: float, ax: Any, kw: Mapping[str, Any]) -> Any:
    """Draw the mean transmission of each group; return the Axes."""
    if not scan_dims(ds):
        raise InputError("one spectrum has no map; draw it with plot()")
    mean = ds["transmission"].mean("tof")
    name = "transmission"
    maps = mean.assign_attrs(long_name="mean transmission").to_dataset(name=name)
    ax = parameter_map(maps, name, ax=ax, **kw)
    ax.set_title(plain(f"mean transmission, {wlmin:g}–{wlmax:g} Å"))
    return ax
