"""`fit`: any lmfit model at every position of a scan."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import lmfit
import numpy as np
import xarray as xr
from dask.base import tokenize

from scanfold.conventions import InputError, primary, record
from scanfold.fitting import checks, results
from scanfold.fitting.block import FitBlock
from scanfold.fitting.components import Component, Unsupported, model_token, take_apart
from scanfold.fitting.expressions import symbols, translate
from scanfold.fitting.laying import Prepared
from scanfold.fitting.parameters import ParameterTable, read_parameters
from scanfold.fitting.problem import LIKELIHOODS, Array, Problem, Stages, stage_indices
from scanfold.fitting.reference import check_method
from scanfold.fitting.registry import describe_model
from scanfold.fitting.start import plan_guess

_LOG = logging.getLogger("scanfold")


def fit(
    data: xr.DataArray | xr.Dataset,
    model: lmfit.Model | Callable[..., Any],
    params: lmfit.Parameters | Mapping[str, Any] | None = None,
    *,
    dim: str,
    weights: xr.DataArray | Sequence[float] | str | None = None,
    likelihood: str = "gaussian",
    reference: xr.DataArray | tuple[xr.DataArray, xr.DataArray | float] | None = None,
    stages: Stages | Mapping[str, Any] | None = None,
    guess: str = "auto",
    engine: str = "auto",
    method: str = "leastsq",
    covariance: bool = False,
    errors: str = "flag",
    max_nfev: int | None = None,
    retry: bool = True,
    poor_fit: float = 1e-6,
    no_signal: float = 10.0,
) -> xr.Dataset:
    """Fit a model to every position of a scan.

    Parameters
    ----------
    data : DataArray, or Dataset with a primary variable
        Scan dims and `dim`, which must be one chunk. NaN and inf points are left out, position by position.
    model : lmfit.Model or callable
        Any lmfit model, composites (+ − · /) and prefixes included, or a function f(x, a, b, …).
    params : lmfit.Parameters or mapping, optional
        Names to numbers, or to mappings with any of value, min, max, vary, expr; value, min and max may be
        DataArrays over the scan dims. Without it the model's own hints hold.
    dim : str
        The dimension that is fitted along; its coordinate is the independent variable.
    weights : DataArray, sequence over `dim`, "counts" or None
        1/σ of each point; "counts" is 1/√max(data, 1).
    likelihood : {"gaussian", "poisson", "binomial"}
        Least squares, or maximum likelihood for counts, which has no bias at few counts [1]_; its `chisqr` is
        the deviance and its errors are not scaled by `redchi`. "binomial" is that of counts given their sum with
        the counts of a `reference`: the model is the ratio of the means of both, and the noise of both counts.
    reference : DataArray, or pair of DataArray and exposure, optional
        Counts of the reference over `dim` and any scan dims, and by how much longer the data were exposed than it
        (a number, or over `dim`).
    stages : mapping or Stages, optional
        Stage name to the parameters that vary in it (names, glob patterns, "all"), in order; each stage starts
        from the result of the one before, and adds to it.
    guess : {"auto", "model", "mean", "params"}
        The first start: from each spectrum itself, from the fit of the mean spectrum of a fixed sample of
        positions, or as given. "auto" takes values given per position, else the model's guess, else the mean.
    engine : {"auto", "batch", "lmfit"}
        Compiled Levenberg–Marquardt over whole blocks, or ``lmfit.Model.fit`` position by position. "auto"
        takes the first wherever the model and the method allow. A function of your own that is arithmetic is
        compiled with its exact derivatives; another with differences, or runs in NumPy for many positions at once.
    method : str
        Minimiser, as in lmfit; all but "leastsq" need the lmfit engine.
    covariance : bool
        Also return ``covar(param_i, param_j)``, NaN for parameters at a bound.
    errors : {"flag", "raise"}
        Flag a position that cannot be fitted, or stop there.
    max_nfev : int, optional
        Most model evaluations at one position and stage: 200·(parameters + 1), with lmfit 2000·(parameters + 1).
    retry : bool
        Try poor and failed fits again from the other starts, and keep the best.
    poor_fit : float
        A fit is poor where noise would exceed its reduced χ² with less than this probability.
    no_signal : float
        There is no signal where the AIC of the model is not lower by more than this than that of its polynomial
        background alone (of a constant, for a model without one).

    Returns
    -------
    Dataset
        Lazy, over the scan dims: each parameter and ``<name>_stderr``, chisqr, redchi, rsquared, aic, bic, nfev,
        success, status, n_used; see `scanfold.fitting.STATISTICS`.

    Raises
    ------
    InputError, InputTypeError
        Before any computing, for anything that cannot be fitted as asked.

    References
    ----------
    .. [1] T. A. Laurence and B. A. Chromy, Nature Methods 7 (2010) 338.

    Examples
    --------
    >>> import numpy as np, xarray as xr, scanfold as sf
    >>> x = xr.DataArray(np.linspace(0, 5, 30), dims="time")
    >>> decay = xr.DataArray([2.0, 3.0], dims="position") * np.exp(-x.assign_coords(time=x.data))
    >>> fits = sf.fit(decay, lambda t, a, k: a * np.exp(-k * t), {"a": 1, "k": 0.5}, dim="time")
    >>> fits["a"].round(6).values.tolist()
    [2.0, 3.0]
    """
    return prepare(
        data, model, params, dim=dim, weights=weights, likelihood=likelihood, reference=reference, stages=stages,
        guess=guess, engine=engine, method=method, covariance=covariance, errors=errors, max_nfev=max_nfev,
        retry=retry, poor_fit=poor_fit, no_signal=no_signal,
    ).lay()  # fmt: skip


def prepare(
    data: xr.DataArray | xr.Dataset,
    model: lmfit.Model | Callable[..., Any],
    params: lmfit.Parameters | Mapping[str, Any] | None = None,
    *,
    dim: str,
    weights: xr.DataArray | Sequence[float] | str | None = None,
    likelihood: str = "gaussian",
    reference: xr.DataArray | tuple[xr.DataArray, xr.DataArray | float] | None = None,
    stages: Stages | Mapping[str, Any] | None = None,
    guess: str = "auto",
    engine: str = "auto",
    method: str = "leastsq",
    covariance: bool = False,
    errors: str = "flag",
    max_nfev: int | None = None,
    retry: bool = True,
    poor_fit: float = 1e-6,
    no_signal: float = 10.0,
) -> Prepared:
    """Check and plan a fit; as `fit`."""
    array = primary(data)
    checks.check_options(engine, guess, likelihood, errors)
    array = checks.check_data(array, dim)
    model = checks.check_model(model)
    checks.check_numbers(max_nfev, poor_fit, no_signal, covariance, retry)
    scan = {str(d): int(s) for d, s in array.sizes.items() if d != dim}
    x = checks.axis(array, dim)
    table = read_parameters(model, params, scan)
    for (index, _), own in table.own.items():
        checks.check_labels(f"values of parameter {table.names[index]!r}", own, array)
    results.check_names(table.names, array)
    check_method(method)
    weights = checks.check_weights(weights, likelihood, array, dim)
    beside = checks.check_reference(reference, likelihood, array, dim)
    weights = weights if beside is None else beside
    kind = "array" if isinstance(weights, xr.DataArray) else weights or "none"

    chosen, components, ops, reason = _choose_engine(engine, method, model, table, x)
    if reason:
        _LOG.warning("fit: using lmfit position by position (slow): %s", reason)
    plan = plan_guess(components, ops) if components else None
    problem = _problem(model, table, x, components, ops, chosen, method, stages, likelihood, max_nfev)
    if beside is not None and chosen == "lmfit":
        raise InputError(f"likelihood='binomial' is not one of lmfit's; {reason or 'leave engine and method out'}")
    # The mean of some spectra says nothing without that of their references.
    problem, order = _starts(problem, table, plan, "params" if beside is not None else guess, retry and beside is None)
    block = FitBlock(
        problem, plan, order, kind, "mean" in order, covariance, poor_fit, no_signal,
        errors, tuple(scan) if errors == "raise" else (),
    )  # fmt: skip
    described = _describe(dim, model, table, problem, order, block, likelihood)
    provenance = record(
        "fit",
        {"data": array, **({"weights": weights} if isinstance(weights, xr.DataArray) else {})},
        described,
        releases_gil=chosen == "compiled",
    )
    return Prepared(block, array, dim, table, weights, provenance)


def _choose_engine(
    engine: str, method: str, model: lmfit.Model, table: ParameterTable, x: Array
) -> tuple[str, tuple[Component, ...], tuple[int, ...], str]:
    """Return the engine, the components and how they join, and why it is lmfit although "auto" was asked."""
    if engine == "batch" and method != "leastsq":
        raise InputError(f"engine='batch' is Levenberg–Marquardt, method 'leastsq'; for {method!r} use engine='lmfit'")
    try:
        components, ops = take_apart(model, x)
        chosen = "compiled"
        for _, text in table.expressions:
            translate(text, {n: i for i, n in enumerate(table.names)})
        if engine != "lmfit" and method == "leastsq":
            from scanfold.fitting.arrays import evaluation_of

            chosen = evaluation_of(components, x)
    except (Unsupported, InputError) as reason:
        if engine == "batch":
            raise InputError(f"engine='batch' cannot fit this model: {reason}; use engine='lmfit'") from None
        return "lmfit", (), (), "" if engine == "lmfit" else str(reason)
    if engine == "lmfit" or method != "leastsq":
        chosen = "lmfit"
    return chosen, tuple(components), tuple(ops), ""


def _problem(
    model: lmfit.Model,
    table: ParameterTable,
    x: Array,
    components: tuple[Component, ...],
    ops: tuple[int, ...],
    engine: str,
    method: str,
    stages: Stages | Mapping[str, Any] | None,
    likelihood: str,
    max_nfev: int | None,
) -> Problem:
    free = stage_indices(stages, table)
    if not free[-1]:
        raise InputError(f"no parameter varies: {', '.join(table.names)}; set vary=True for one")
    order, feeding = _feeding_first(table, components)
    place = {n: i for i, n in enumerate(table.names)}
    codes = () if engine == "lmfit" else tuple((place[n], translate(text, place)) for n, text in order)
    default = (2000 if engine == "lmfit" else 200) * (len(free[-1]) + 1)
    return Problem(
        x=x, names=tuple(table.names), components=components, ops=ops, value=table.value, low=table.low,
        high=table.high, free=free, expressions=codes, feeding=feeding, poisson=LIKELIHOODS[likelihood],
        max_nfev=max_nfev or default, keep_stages=isinstance(stages, Stages) and stages.keep, engine=engine,
        method=method, model=model if engine == "lmfit" else None,
        params=results.plain_parameters(table) if engine == "lmfit" else None, own=tuple(table.own),
        stage_names=tuple(map(str, stages.vary if isinstance(stages, Stages) else stages or ("all",))),
    )  # fmt: skip


def _feeding_first(
    table: ParameterTable, components: tuple[Component, ...]
) -> tuple[list[tuple[str, str]], int]:  # fmt: skip
    """Sort the expressions that the model needs before those that only describe its result."""
    needed = {n for c in components for n in c.names}
    for name, text in reversed(table.expressions):
        if name in needed:
            needed |= symbols(text, table.names)
    feeding = [e for e in table.expressions if e[0] in needed]
    return feeding + [e for e in table.expressions if e[0] not in needed], len(feeding)


def _starts(
    problem: Problem, table: ParameterTable, plan: Any, guess: str, retry: bool
) -> tuple[Problem, tuple[str, ...]]:
    """Fill missing start values where something else sets them, and order the starts."""
    if guess == "model" and plan is None:
        raise InputError(
            "guess='model': this model has no data-driven guess (sums of a polynomial and one peak, exponential, power "
            "law or step have); use guess='mean' or give start values in params"
        )
    own = any(which == 0 for _, which in table.own)
    first = guess if guess != "auto" else "params" if own else "model" if plan is not None else "mean"
    linear = {n for c in problem.components if c.leaf == "basis" for n in c.names}
    guessed = plan.names if plan is not None else set()
    value = problem.value.copy()
    missing = [i for i in problem.free[-1] if value[i] == -np.inf]
    for i in missing:
        name = problem.names[i]
        if name not in linear and (name not in guessed or first == "params"):
            raise InputError(f"parameter {name!r} has no start value; give one: params={{{name!r}: …}}")
        value[i] = min(max(0.0, problem.low[i]), problem.high[i])
    if problem.params is not None:
        for i in missing:
            problem.params[problem.names[i]].set(value=float(value[i]))
    others = [s for s in ("model", "mean", "params") if s != first and (s != "model" or plan is not None)]
    return replace(problem, value=value), (first, *(others if retry else ()))


def _describe(
    dim: str,
    model: lmfit.Model, table: ParameterTable, problem: Problem, order: Sequence[str], block: FitBlock,
    likelihood: str,
) -> dict[str, Any]:  # fmt: skip
    """Return the options of a fit for the record, as plain names and numbers."""
    numbers = {"value": table.value, "min": table.low, "max": table.high}
    parameters: dict[str, dict[str, Any]] = {
        n: {k: float(v[i]) for k, v in numbers.items() if np.isfinite(v[i])} | {"vary": bool(table.vary[i])}
        for i, n in enumerate(table.names)
    }
    for name, text in table.expressions:
        parameters[name]["expr"] = text
    return {
        "dim": dim,
        "model": describe_model(model),
        "function": model_token(model),
        "parameters": parameters,
        "own": {f"{table.names[i]}.{('value', 'min', 'max')[w]}": tokenize(a.data) for (i, w), a in table.own.items()},
        "axis": {
            "token": tokenize(problem.x),
            "first": float(problem.x[0]),
            "last": float(problem.x[-1]),
            "points": problem.x.size,
        },
        "engine": problem.engine,
        "method": problem.method,
        "likelihood": likelihood,
        "weights": None if block.weights == "none" else block.weights,
        "starts": list(order),
        "stages": [[table.names[i] for i in s] for s in problem.free],
        "stage_names": list(problem.stage_names),
        "keep_stages": problem.keep_stages,
        "covariance": block.covariance,
        "max_nfev": problem.max_nfev,
        "poor_fit": block.poor_tail,
        "no_signal": block.margin,
        "errors": block.errors,
    }
