"""From maps of parameters back to spectra: best-fit curves, residuals, and lmfit results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lmfit
import numpy as np
import xarray as xr
from dask.base import tokenize

from scanfold import _apply
from scanfold.conventions import InputError, Var, primary, provenance, unknown
from scanfold.fitting import checks
from scanfold.fitting.api import fit
from scanfold.fitting.arrays import evaluation_of
from scanfold.fitting.components import Component, Unsupported, independent_variables, inputs, make_model, take_apart
from scanfold.fitting.problem import Array
from scanfold.fitting.registry import build_model
from scanfold.fitting.results import parameter_names
from scanfold.fitting.status import STATUS

CURVES = (
    Var("best_fit", ("...", "dim"), "float64", "best fit"),
    Var("residual", ("...", "dim"), "float64", "data minus best fit"),
)


@dataclass(frozen=True)
class Curves:
    """Evaluate a model for each row of parameters: P arrays (N,) → (N, n)."""

    model: lmfit.Model
    components: tuple[Component, ...]
    ops: tuple[int, ...]
    names: tuple[str, ...]
    x: Array

    def __call__(self, *values: Array) -> Array:
        """Return the curves (N, n)."""
        table = np.stack([np.broadcast_to(v, values[0].shape) for v in values], axis=1).astype(np.float64)
        if not self.components:
            axis = {v: self.x for v in independent_variables(self.model)}
            return np.array([self.model.eval(**dict(zip(self.names, row, strict=True)), **axis) for row in table])
        from scanfold.fitting.arrays import evaluate_components

        return evaluate_components(self.components, self.ops, self.names, self.x, table)


def model_of(fits: xr.Dataset, model: lmfit.Model | Callable[..., Any] | None = None) -> lmfit.Model:
    """Return the model of some fits: rebuilt from its names, or the one given.

    Raises
    ------
    InputError
        If the model is the user's own function and was not passed.
    """
    if isinstance(model, lmfit.Model):
        return model
    if model is not None:
        return make_model(model)
    return build_model(_options(fits)["model"])


def _options(fits: xr.Dataset) -> dict[str, Any]:
    recorded = provenance(fits)
    if recorded.get("operation") != "fit":
        raise InputError("this Dataset has no record of a fit in attrs['provenance']; pass what sf.fit returned")
    return dict(recorded["options"])


def curves_of(fits: xr.Dataset, built: lmfit.Model, values: Array) -> tuple[Curves, str]:
    """Return what evaluates a model at some points for rows of its parameters, and its token."""
    names = [n for n in parameter_names(fits) if n in inputs(built)]
    if len(names) < len(inputs(built)):
        raise InputError(f"the fits lack parameters of the model: {', '.join(sorted(inputs(built) - set(names)))}")
    try:
        components, ops = take_apart(built, values)
        evaluation_of(components, values)
    except Unsupported:
        components, ops = [], []
    kernel = Curves(built, tuple(components), tuple(ops), tuple(names), values)
    return kernel, tokenize("evaluate", _options(fits)["model"], kernel.components, names, values)


def evaluate(
    fits: xr.Dataset,
    x: xr.DataArray | Array | None = None,
    *,
    data: xr.DataArray | xr.Dataset | None = None,
    model: lmfit.Model | Callable[..., Any] | None = None,
) -> xr.Dataset:
    """Evaluate the best fits as curves.

    Parameters
    ----------
    fits : Dataset
        Of `scanfold.fit`.
    x : DataArray or array, optional
        Where to evaluate; by default on the axis of `data`.
    data : DataArray, optional
        What was fitted, for the residuals.
    model : lmfit.Model or callable, optional
        Needed for a function of your own; lmfit's models are rebuilt from their names.

    Returns
    -------
    Dataset
        Lazy if `fits` is: ``best_fit`` over the scan dims and the axis and, with data, ``residual``.

    Raises
    ------
    InputError
        If neither `x` nor `data` is given, or the model must be passed.

    Examples
    --------
    >>> import numpy as np, xarray as xr, scanfold as sf, lmfit
    >>> line = xr.DataArray([[1.0, 3.0, 5.0]], dims=("position", "time"))
    >>> fits = sf.fit(line, lmfit.models.LinearModel(), dim="time")
    >>> sf.fitting.evaluate(fits, np.array([10.0])).best_fit.round(6).values.tolist()
    [[21.0]]
    """
    built = model_of(fits, model)
    options = _options(fits)
    dim = options["dim"]
    measured = None if data is None else primary(data)
    if x is None:
        if measured is None:
            raise InputError("nothing says where to evaluate; pass x=… or data=…")
        x = measured[dim] if dim in measured.coords else np.arange(measured.sizes[dim], dtype=np.float64)
    axis = x if isinstance(x, xr.DataArray) else xr.DataArray(np.asarray(x, np.float64), dims=dim)
    dim = str(axis.dims[0])
    values = np.ascontiguousarray(axis.values, np.float64)
    kernel, token = curves_of(fits, built, values)
    arrays = [fits[n].drop_vars(list(fits[n].coords)) for n in kernel.names]
    curve = _apply.apply_kernel(kernel, *arrays, core_dims=[[] for _ in arrays], output={dim: values.size}, token=token)
    out = xr.Dataset({"best_fit": CURVES[0].make(curve)}, coords=fits.coords)
    out = out.assign_coords({dim: axis.values if axis.name is None else axis})
    if measured is not None:
        if measured.sizes.get(dim) != values.size:
            raise InputError(f"data has {measured.sizes.get(dim)} points along {dim!r} and x has {values.size}")
        difference = measured.drop_vars(list(measured.coords)).transpose(*out["best_fit"].dims) - curve
        out["residual"] = CURVES[1].make(difference)
    return out


def result_at(
    fits: xr.Dataset,
    data: xr.DataArray | xr.Dataset,
    *,
    model: lmfit.Model | Callable[..., Any] | None = None,
    weights: xr.DataArray | Array | None = None,
    **position: int,
) -> lmfit.model.ModelResult:
    """Rebuild lmfit's own result at one position.

    Parameters
    ----------
    fits : Dataset
        Of `scanfold.fit`.
    data : DataArray
        What was fitted.
    model : lmfit.Model or callable, optional
        Needed for a function of your own.
    weights : DataArray or array, optional
        The weights of the fit, where they were an array.
    **position : int
        Index along each scan dim, e.g. ``y=3, x=5``.

    Returns
    -------
    lmfit.model.ModelResult
        With the stored values and errors; covariance and correlations are those at the stored values.

    Raises
    ------
    InputError
        If a scan dim is missing or the index is outside.
    """
    options = _options(fits)
    dim, built = options["dim"], model_of(fits, model)
    here = _select(fits, position).compute()
    spectrum = _select(primary(data), position).compute()
    x = checks.axis(spectrum, dim)
    params = _parameters(options, built, here)
    weight = _weights(options, spectrum, weights, position)
    keep = np.isfinite(spectrum.values) & (True if weight is None else np.isfinite(weight))
    sigma = None if weight is None else xr.DataArray(weight, dims=dim)
    # Beside reference counts, curvature comes from the weights of the ratio, if there are any.
    likelihood = "gaussian" if options["likelihood"] == "binomial" else options["likelihood"]
    again = fit(
        spectrum, built, params, dim=dim, weights=sigma, likelihood=likelihood, guess="params",
        # lmfit has no covariance before it has finished
        retry=False, covariance=True, max_nfev=None if options["engine"] == "lmfit" else 1,
    ).compute()  # fmt: skip
    result = lmfit.model.ModelResult(
        built, params, weights=None if weight is None else weight[keep], scale_covar=options["likelihood"] == "gaussian"
    )
    _fill(result, built, params, spectrum.values[keep].astype(np.float64), x[keep], here, again)
    return result


def _select(obj: Any, position: dict[str, int]) -> Any:
    for name in position:
        if name not in obj.dims:
            raise unknown("scan dim", name, map(str, obj.dims))
    try:
        return obj.isel(position)
    except IndexError as error:
        raise InputError(f"position {position} is outside the scan {dict(obj.sizes)}: {error}") from None


def _parameters(options: dict[str, Any], model: lmfit.Model, here: xr.Dataset) -> lmfit.Parameters:
    if here["status"].ndim:
        raise InputError(f"the position leaves {', '.join(map(str, here['status'].dims))} open; give an index for each")
    recorded = options["parameters"]
    params = lmfit.Parameters()
    # The record is sorted by name; lmfit's order is the model's.
    for name in dict.fromkeys([*(n for n in model.make_params() if n in recorded), *recorded]):
        settings = recorded[name]
        if not np.isfinite(here[name]) and name in inputs(model):
            status = next(k for k, v in STATUS.items() if v == int(here["status"]))
            raise InputError(f"there is no fit at this position: its status is {status}")
        # Bounds of each position's own are not recorded.
        low, high = settings.get("min", -np.inf), settings.get("max", np.inf)
        params.add(name, value=float(here[name]), vary=name in options["stages"][-1], min=low, max=high)
        error = float(here[f"{name}_stderr"])
        params[name].stderr = error if np.isfinite(error) else None
    for name, settings in recorded.items():
        if "expr" in settings:
            error = params[name].stderr
            params[name].expr = settings["expr"]
            params[name].stderr = error
    return params


def _weights(options: dict[str, Any], spectrum: xr.DataArray, weights: Any, position: dict[str, int]) -> Array | None:
    if options["weights"] == "counts":
        return 1.0 / np.sqrt(np.maximum(np.asarray(spectrum.values, np.float64), 1.0))
    if options["weights"] is None:
        return None
    if weights is None:
        raise InputError("the fit had an array of weights; pass it: weights=…")
    if isinstance(weights, xr.DataArray):
        weights = weights.isel({k: v for k, v in position.items() if k in weights.dims}).values
    return np.asarray(weights, np.float64)


def _fill(
    result: Any,
    model: lmfit.Model,
    params: lmfit.Parameters,
    data: Array,
    x: Array,
    here: xr.Dataset,
    again: xr.Dataset,
) -> None:
    """Set what ``ModelResult.fit`` would have set, from the stored numbers."""
    variable = independent_variables(model)[0]
    result.data, result.userkws, result.userargs = data, {variable: x}, (data, result.weights)
    result.params, result.init_params = params, params.copy()
    result.best_values = result.init_values = {n: p.value for n, p in params.items() if n in inputs(model)}
    result.best_fit = result.init_fit = np.asarray(model.eval(params, **{variable: x}))
    result.residual = (data - result.best_fit) * (1.0 if result.weights is None else result.weights)
    result.var_names = [n for n, p in params.items() if p.vary and not p.expr]
    result.nvarys, result.ndata = len(result.var_names), int(here["n_used"])
    result.nfree = result.ndata - result.nvarys
    for name in ("chisqr", "redchi", "aic", "bic", "rsquared"):
        setattr(result, name, float(here[name]))
    result.nfev, result.success, result.aborted = int(here["nfev"]), bool(here["success"]), False
    covar = again["covar"].values
    result.covar = covar if np.isfinite(covar).all() else None
    result.errorbars = result.covar is not None
    result.message = "rebuilt from stored maps"
    if result.covar is not None:
        errors = np.sqrt(np.diag(covar))
        for i, name in enumerate(result.var_names):
            others = [(j, n) for j, n in enumerate(result.var_names) if j != i]
            params[name].correl = {n: float(covar[i, j] / (errors[i] * errors[j])) for j, n in others}
        params.create_uvars(covar=result.covar)
