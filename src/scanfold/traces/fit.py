"""Fit a kinetic model to every trace of a Dataset, on `scanfold.fit`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from scanfold.conventions import InputError, InputTypeError, primary, unknown
from scanfold.fitting.api import prepare
from scanfold.fitting.components import make_model
from scanfold.fitting.curves import Curves
from scanfold.traces.block import CHECKS, FitTraces
from scanfold.traces.exchange import Order, exchanges_of
from scanfold.traces.files import in_hours
from scanfold.traces.request import FittingRequest
from scanfold.traces.start import grid_start

_REDCHI = "chisqr per degree of freedom, over the variance of the noise"


def fit_trace_data(
    data: xr.DataArray | xr.Dataset,
    request: FittingRequest,
    *,
    cell: int | str | Sequence[int] | Sequence[str] | None = None,
) -> xr.Dataset:
    """Fit traces that are labelled ``(cell | time)``, or over any other scan dims.

    Parameters
    ----------
    data : DataArray, or Dataset with a primary variable
        Of `load_analysis_csv` or `scanfold.open_scan`; ``time`` in h, min or s, as its units say (h without).
    request : FittingRequest
        What to fit.
    cell : int, str, or sequence of either, optional
        Some cells only: places along ``cell``, or labels.

    Returns
    -------
    Dataset
        That of `scanfold.fit`, lazy: each parameter and ``<name>_stderr``, ``status``, ``rsquared`` …, with units; and
        ``noise``, ``runs_z``. Without weights ``redchi`` is over the variance of the noise: 1 where the model leaves
        nothing but noise. Rates that can be exchanged without changing the curve are in the order of the model
        (β ≤ δ ≤ β + km). Where the curve has a kink at a time that varies, it is the best of several fits. A trace with
        no more points than parameters that vary has no fit.

    Raises
    ------
    InputError, InputTypeError
        For no time, unknown units, or cells that are not there.

    Examples
    --------
    >>> time = xr.DataArray(np.linspace(0, 20, 60), dims="time", attrs={"units": "h"})
    >>> trace = 90 * np.exp(-0.3 * time) + 10 + np.sin(40 * time)
    >>> traces = trace.expand_dims(cell=["a"]).assign_coords(time=time)
    >>> fits = fit_trace_data(traces, FittingRequest("exponential_decay", fixed=["t0"]))
    >>> fits["rate"].round(2).values.tolist()
    [0.3]
    """
    return _fit(data, request, cell, lazy=True)


def fit_now(data: xr.Dataset, request: FittingRequest, cell: Any = None) -> xr.Dataset:
    """Do what `fit_trace_data` does, at once: of few traces in memory a graph would take longer than their fits."""
    return _fit(data, request, cell, lazy=False)


def _fit(data: xr.DataArray | xr.Dataset, request: FittingRequest, cell: Any, *, lazy: bool) -> xr.Dataset:
    if not isinstance(request, FittingRequest):
        raise InputTypeError(f"request is a {type(request).__name__}; expected FittingRequest('maturation', …)")
    array = in_hours(select_cells(primary(data), cell))
    model = request.model
    prepared = prepare(
        array, model.function, request.params(), dim="time", weights=frame_weights(array, request), guess="params",
        retry=False,
    )  # fmt: skip
    problem = prepared.block.problem
    ordered = bool(exchanges_of(request)) and model.ordered is not None
    kernel = FitTraces(
        prepared.block, grid_start(request, problem.x),
        tuple(problem.names.index(n) for n in model.kinks if n in request.varying), Order(request) if ordered else None,
        Curves(make_model(model.function), problem.components, problem.ops, problem.names, problem.x),
    )  # fmt: skip
    fits = prepared.lay(kernel, f"traces-{request.describe()}", CHECKS, lazy=lazy)
    if request.weights is None:
        fits["redchi"].attrs = {"long_name": _REDCHI}
    return _label(fits, request, array)


def frame_weights(array: xr.DataArray, request: FittingRequest) -> Any:
    """Return the weights of a request as `scanfold.fit` takes them."""
    return np.full(array.sizes["time"], request.weights) if isinstance(request.weights, float) else request.weights


def select_cells(array: xr.DataArray, cell: Any) -> xr.DataArray:
    """Return some cells, by place or by label; one cell keeps its dimension."""
    if cell is None:
        return array
    if "cell" not in array.dims:
        raise unknown("dimension", "cell", map(str, array.dims))
    wanted = [cell] if isinstance(cell, int | np.integer | str) else list(cell)
    labels = list(array["cell"].values) if "cell" in array.coords else []
    places = []
    for each in wanted:
        if isinstance(each, str):
            if each not in labels:
                raise unknown("cell", each, map(str, labels))
            places.append(labels.index(each))
        elif (
            isinstance(each, int | np.integer) and not isinstance(each, bool) and abs(each + 0.5) < array.sizes["cell"]
        ):
            places.append(int(each))
        else:
            raise InputError(
                f"cell={each!r} is outside the {array.sizes['cell']} cells; give a place from 0, or a label"
            )
    return array.isel(cell=places)


def _label(fits: xr.Dataset, request: FittingRequest, array: xr.DataArray) -> xr.Dataset:
    """Give the parameters their units, and the Dataset its title."""
    signal = str(array.attrs.get("units", ""))
    for name, unit in request.model.units.items():
        spelled = unit.replace("signal", f"({signal})" if signal else "") if "signal" in unit else unit
        if "signal" not in unit or signal:
            for each in (name, f"{name}_stderr"):
                fits[each].attrs["units"] = spelled.removesuffix(")").removeprefix("(") if unit == "signal" else spelled
    fits.attrs["title"] = f"{request.model_type} fits of {array.name or 'traces'}"
    fits.attrs["request"] = json.dumps(request.describe())
    return fits


def probe(request: FittingRequest) -> xr.Dataset:
    """Return the fit of one short trace: how the fits of a request are recorded, labelled and computed."""
    time = np.linspace(0.0, 10.0, 32)
    trace = xr.DataArray(np.cos(time)[None], dims=("cell", "time"), coords={"time": time})
    return fit_trace_data(trace, request if not isinstance(request.weights, tuple) else replace(request, weights=None))
