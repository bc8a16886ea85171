"""Fitting some groups again, each from its own values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import lmfit
import numpy as np
import xarray as xr

from scanfold import fitting
from scanfold.bragg.indices import place_of, scan_dims
from scanfold.bragg.measured import options_of
from scanfold.conventions import InputError, unknown
from scanfold.plot.positions import kept

if TYPE_CHECKING:
    from scanfold.bragg.result import GroupedFitResult

#: Options of the first fit that the next one takes over.
_OPTIONS = ("likelihood", "method", "poor_fit", "no_signal")


def refit(
    result: GroupedFitResult, query: str | None, indices: Any, params: Any, options: Mapping[str, Any]
) -> GroupedFitResult:
    """Return the result with some groups fitted again; see `GroupedFitResult.refit`."""
    old = result.compute()
    chosen = selected(result, query, indices)
    measured = result.measured()
    recorded = options_of(old)
    settings = starts(old, recorded, params)
    how = {k: recorded[k] for k in _OPTIONS} | {"guess": "params", "retry": False}
    how["weights"] = measured.weights
    values = measured.values
    if recorded["likelihood"] == "binomial":
        values, beside = measured.counts()
        how |= beside | {"weights": None}
    again = values.where(chosen) if chosen.ndim else values
    new = fitting.fit(again, measured.model, settings, dim=measured.dim, **(how | dict(options)))
    merged = {n: new[n].where(chosen, old[n]).assign_attrs(new[n].attrs) if n in new and new[n].dims == old[n].dims
              else old[n] for n in old.data_vars}  # fmt: skip
    out = old.assign({n: v.astype(old[n].dtype).assign_attrs(old[n].attrs) for n, v in merged.items()})
    return type(result)(out, result.model, result.data, scheduler=result._scheduler, progress=result._progress)


def selected(result: GroupedFitResult, query: str | None, indices: Any) -> xr.DataArray:
    """Return which groups are chosen, bool over the scan dims.

    Raises
    ------
    InputError
        If none is.
    """
    old = result.compute()
    dims = scan_dims(old)
    chosen = kept(old, query)
    if indices is not None:
        listed = np.zeros(chosen.shape, bool)
        for index in [indices] if isinstance(indices, str | int | tuple) else indices:
            listed[tuple(place_of(old, index).values())] = True
        chosen = chosen & xr.DataArray(listed, dims=dims)
    if not bool(chosen.any()):
        raise InputError(f"no group is chosen by query={query!r}, indices={indices!r}")
    return chosen


def starts(old: xr.Dataset, recorded: Mapping[str, Any], params: Any) -> dict[str, Any]:
    """Return the settings of all parameters: the fitted values as starts, unless `params` says otherwise."""
    given: dict[str, Any] = {}
    if isinstance(params, lmfit.Parameters):
        given = {n: {"value": p.value, "min": p.min, "max": p.max, "vary": p.vary} for n, p in params.items()}
    elif params is not None:
        given = {n: v if isinstance(v, Mapping) else {"value": v} for n, v in params.items()}
    for name in given:
        if name not in recorded["parameters"]:
            raise unknown("parameter", name, recorded["parameters"])
    settings: dict[str, Any] = {}
    for name, first in recorded["parameters"].items():
        if "expr" in first and name not in given:
            settings[name] = {"expr": first["expr"]}
            continue
        bounds = {k: first[k] for k in ("min", "max") if k in first}
        values = old[name].drop_vars(list(old[name].coords))
        low, high = bounds.get("min", -np.inf), bounds.get("max", np.inf)
        # Groups that had no values begin where all began; those at a bound a little inside it.
        start = values.fillna(first.get("value", 0.0)).clip(low, high)
        own = f"{name}.value" in recorded.get("own", {})
        fixed = not first["vary"] and not own
        value = first["value"] if fixed else start if values.ndim else float(start)
        settings[name] = {"value": value, "vary": first["vary"], **bounds}
        settings[name] |= dict(given.get(name, {}))
    return settings
