"""Fit a kinetic model to every trace of a Dataset, on `scanfold.fit`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from scanfold import _apply
from scanfold._columns import columns
from scanfold.conventions import InputError, InputTypeError, Var, primary, unknown
from scanfold.fitting import fit
from scanfold.fitting.components import make_model
from scanfold.fitting.curves import Curves, curves_of
from scanfold.traces.exchange import exchanges_of, in_order
from scanfold.traces.files import in_hours
from scanfold.traces.request import FittingRequest
from scanfold.traces.start import starts

Array = npt.NDArray[np.float64]

#: What is known of each trace beside what every fit has.
CHECKS = (
    Var("noise", ("...",), "float64", "standard deviation of the noise, estimated from second differences"),
    Var(
        "runs_z", ("...",), "float64", "runs of the residuals' signs: below −2, fewer than chance, they are correlated"
    ),
)
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
        That of `scanfold.fit`: each parameter and ``<name>_stderr``, ``status``, ``rsquared`` …, with units, lazy if
        the data are; and ``noise``, ``runs_z``. Without weights ``redchi`` is over the variance of the noise: 1 where
        the model leaves nothing but noise. Rates that can be exchanged without changing the curve are in the order of
        the model (β ≤ δ ≤ β + km). A trace with no more points than parameters that vary has no fit.

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
    if not isinstance(request, FittingRequest):
        raise InputTypeError(f"request is a {type(request).__name__}; expected FittingRequest('maturation', …)")
    array = in_hours(select_cells(primary(data), cell))
    enough = _enough(array, len(request.varying))
    weights = frame_weights(array, request)
    ordered = bool(exchanges_of(request)) and request.model.ordered is not None
    params = starts(array, request)
    fits = fit(
        enough, request.model.function, params, dim="time", weights=weights, guess="params", retry=False,
        covariance=ordered,
    )  # fmt: skip
    if ordered:
        fits = in_order(fits, request)
    return _label(_check(fits, array, request), request, array)


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


def _enough(array: xr.DataArray, varying: int) -> xr.DataArray:
    """Return the traces, those with no more points than parameters without any: such a fit has no errors."""
    if array.dtype.kind != "f":
        return array if array.sizes["time"] > varying else array.where(False)
    if array.chunks is None and (np.isfinite(array.values).sum(array.get_axis_num("time")) > varying).all():
        return array
    finite: xr.DataArray = np.isfinite(array)  # type: ignore[assignment]
    kept = array.where(finite.sum("time") > varying)
    return kept.assign_attrs(array.attrs)


def _check(fits: xr.Dataset, array: xr.DataArray, request: FittingRequest) -> xr.Dataset:
    """Add what is told by data and residuals."""
    x = np.ascontiguousarray(array["time"].values, np.float64)
    curves, token = curves_of(fits, make_model(request.model.function), x)
    known = [fits[n] for n in ("redchi", *curves.names)]
    checked = _apply.apply_kernel(
        Assess(curves, request.weights is None), *(a.drop_vars(list(a.coords)) for a in (array, *known)),
        core_dims=[["time"], *([] for _ in known)], output={"check": 4},
        token=f"traces-assess-{token}-{request.weights is None}",
    )  # fmt: skip
    attrs = [*(v.attrs() for v in CHECKS), fits["n_used"].attrs, fits["redchi"].attrs]
    if request.weights is None:
        attrs[-1] = {"long_name": _REDCHI}
    names = [*(v.name for v in CHECKS), "n_used", "redchi"]
    made = columns(checked.data, [(i, "int32" if n == "n_used" else "float64") for i, n in enumerate(names)])
    parts = zip(names, made, attrs, strict=True)
    return fits.assign({n: xr.Variable(checked.dims[:-1], data, told) for n, data, told in parts})


@dataclass(frozen=True)
class Assess:
    """Assess traces (N, n), `redchi` (N) and parameters (N each) of their fits.

    Returns (N, 4): what `assess` does, and redchi, over the variance of the noise where there are no weights.
    """

    curves: Curves
    over_noise: bool

    def __call__(self, data: npt.NDArray[np.generic], redchi: Array, *values: Array) -> Array:
        """Return the numbers."""
        told = assess(data, self.curves(*values))
        with np.errstate(invalid="ignore"):
            last = redchi / told[:, 0] ** 2 if self.over_noise else redchi
        return np.column_stack([told, last])


def assess(data: npt.NDArray[np.generic], curves: Array) -> Array:
    """Return noise, z of the runs test, and points used (N, 3) of data and curves (N, n)."""
    from scanfold.fitting._spectrum_kernels import noise_rows

    values = np.array(data, np.float64, order="C")
    keep = np.isfinite(values)
    out = np.full((len(values), 3), np.nan)
    variance, whole = np.empty(len(values)), keep.all(axis=1)
    none = np.empty((len(values), 0), bool)
    noise_rows(values, none, variance)
    for i in np.flatnonzero(~whole):
        # Neighbours are those that count: a cell may have every second frame only.
        noise_rows(values[i, keep[i]][None], none[:1], variance[i : i + 1])
    out[:, 0] = np.sqrt(np.where(variance > 0.0, variance, np.nan))
    out[:, 1] = runs_z(values - curves, keep)
    out[:, 2] = keep.sum(axis=1)
    return out


def runs_z(residuals: Array, keep: npt.NDArray[np.bool_]) -> Array:
    """Return how far the number of runs of one sign is from chance, in standard deviations (Wald and Wolfowitz).

    Parameters
    ----------
    residuals : array (N, n)
    keep : bool array (N, n)
        Points that count.

    Returns
    -------
    array (N,)
        NaN where all signs are the same or nothing counts.

    Examples
    --------
    >>> runs_z(np.array([[1.0, 1, 1, 1, -1, -1, -1, -1]]), np.ones((1, 8), bool)).round(2).tolist()
    [-2.29]
    """
    there = keep & np.isfinite(residuals)
    up = residuals >= 0.0
    first, second = (there & up).sum(axis=1), (there & ~up).sum(axis=1)
    if there.all():
        turned = up[:, 1:] != up[:, :-1]
    else:
        # The sign before each point: that of the last one that counts.
        last = np.maximum.accumulate(np.where(there, np.arange(there.shape[1]), -1), axis=1)
        before = np.concatenate([np.full((len(last), 1), -1), last[:, :-1]], axis=1)
        turned = there & (before >= 0) & (up != np.take_along_axis(up, np.maximum(before, 0), axis=1))
    runs, count = 1 + turned.sum(axis=1), first + second
    with np.errstate(invalid="ignore", divide="ignore"):
        product = 2.0 * first * second
        expected = product / count + 1.0
        variance = product * (product - count) / (count**2 * (count - 1.0))
        return np.asarray((runs - expected) / np.sqrt(np.where(variance > 0.0, variance, np.nan)))


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
