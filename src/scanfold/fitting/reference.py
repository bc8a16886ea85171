"""The reference engine: lmfit itself, one position after the other, any of its methods."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import lmfit
import numpy as np
from scipy.special import xlogy

from scanfold.conventions import require_word
from scanfold.fitting._expression_kernels import RELATIVE_STEP
from scanfold.fitting._lm_kernels import CONVERGED, FAILED, INVALID_MODEL, MAX_NFEV, TOO_FEW_POINTS
from scanfold.fitting.compiled import empty_raw
from scanfold.fitting.components import independent_variables, left_out
from scanfold.fitting.problem import Array, Problem, Raw, Rows

#: Most evaluations of the second fit, which starts at the result of the first.
_POLISH = 60


def check_method(method: str) -> None:
    """Raise unless lmfit has this method: lmfit itself would run Nelder–Mead instead, silently."""
    from lmfit.minimizer import SCALAR_METHODS

    others = ("leastsq", "least_squares", "brute", "basinhopping", "ampgo", "emcee", "shgo", "dual_annealing")
    names = [*others, *SCALAR_METHODS]
    valid = [n for n in dict.fromkeys(names) if n not in ("brute", "emcee")]
    require_word("method", method, valid)


def _slopes(model: lmfit.Model) -> Any:
    """Return the derivatives of the residual by central differences, as lmfit's ``Dfun`` takes them."""

    def slopes(params: lmfit.Parameters, data: Array, weights: Any, **axis: Any) -> Array:
        rows = []
        for param in [p for p in params.values() if p.vary and not p.expr]:
            value = param.value
            step = RELATIVE_STEP * (abs(value) if value != 0.0 else 1.0)
            param.value = value + step
            above, high = model._residual(params, data, weights, **axis), param.value
            param.value = value - step
            below, low = model._residual(params, data, weights, **axis), param.value
            param.value = value
            rows.append((above - below) / (high - low))
        return np.array(rows)

    return slopes


class _Poisson(lmfit.Model):  # type: ignore[misc]
    """A model whose residual is the signed root of the deviance, so that least squares maximises the likelihood."""

    def __init__(self, model: lmfit.Model):
        self.__dict__.update(model.__dict__)
        self._inner = model

    def eval(self, params: Any = None, **kwargs: Any) -> Any:
        return self._inner.eval(params=params, **kwargs)

    def _residual(
        self, params: Any, data: Array, weights: Any, apply_bounds_transformation: bool = True, **kw: Any
    ) -> Any:
        f = np.maximum(self._inner.eval(params, **kw), 1.0e-10)
        deviance = np.maximum(f - data + xlogy(data, data / f), 0.0)
        return np.sign(data - f) * np.sqrt(2.0 * deviance)


class _Reference(NamedTuple):
    """What every position needs: the problem, its model, the name of its axis, options of ``Model.fit``.

    `polish` holds those of a second, short fit from the first one's result, with central differences: lmfit's
    own tolerances stop where hard problems have four digits, and tighter ones never stop where there is no minimum.
    """

    problem: Problem
    model: Any
    variable: str
    options: dict[str, Any]
    polish: dict[str, Any] | None


def fit_block(problem: Problem, rows: Rows) -> Raw:
    """Fit all rows with ``Model.fit``."""
    assert problem.model is not None
    assert problem.params is not None
    raw = empty_raw(problem, rows.data.shape[0])
    model = _Poisson(problem.model) if problem.poisson else problem.model
    options: dict[str, Any] = {"method": problem.method, "max_nfev": problem.max_nfev, "nan_policy": "raise"}
    options |= {"scale_covar": not problem.poisson, **left_out(problem.model)}
    polish = None
    if problem.method == "leastsq":
        precise = {"Dfun": _slopes(model), "col_deriv": 1, "ftol": 1e-15, "xtol": 1e-15}
        polish = options | {"fit_kws": precise, "max_nfev": _POLISH}
    reference = _Reference(problem, model, independent_variables(problem.model)[0], options, polish)
    template = _unevaluated(problem.params)
    for r in range(rows.data.shape[0]):
        keep = rows.keep[r] if rows.keep.shape[1] else np.ones(rows.data.shape[1], bool)
        if keep.sum() < max(1, len(problem.free[-1])):
            raw.code[r] = TOO_FEW_POINTS
        else:
            _fit_position(reference, template, rows, r, keep, raw)
        if raw.code[r] in (FAILED, INVALID_MODEL):
            # lmfit's interpreter would raise the same error again, whatever the values.
            template = _unevaluated(problem.params)
    return raw


def _unevaluated(params: lmfit.Parameters) -> lmfit.Parameters:
    """Copy parameters without evaluating their expressions, which may have no value at the common start."""
    copied = lmfit.Parameters()
    for name, p in params.items():
        copied.add(name, value=-np.inf if p.expr else p._val, min=p.min, max=p.max, vary=p.vary)
    for name, p in params.items():
        if p.expr:
            copied[name].expr = p.expr
    return copied


def _fit_position(reference: _Reference, params: lmfit.Parameters, rows: Rows, r: int, keep: Any, raw: Raw) -> None:
    """Fit one position, stage after stage."""
    problem = reference.problem
    varying = {i for stage in problem.free for i in stage}
    for i, name in enumerate(problem.names):
        if not params[name].expr:
            low, high, start = rows.low[r, i], rows.high[r, i], rows.start[r, i]
            params[name].set(min=low, max=high)
            params[name].set(value=_inside(start, low, high) if i in varying else start)
    current = params
    weights = rows.weights[r][keep] if rows.weights.shape[1] else None
    for s, free in enumerate(problem.free):
        for i, name in enumerate(problem.names):
            if not current[name].expr:
                current[name].vary = i in free
        result = _try(reference, current, rows.data[r][keep], weights, problem.x[keep])
        if isinstance(result, int):
            raw.code[r] = result
            return
        raw.nfev[r] += result.nfev
        current = result.params
        if problem.keep_stages:
            raw.stages[r, s] = [current[n].value for n in problem.names]
    _store(problem, result, raw, r)


def _inside(value: float, low: float, high: float) -> float:
    """Move a start off its bounds, where lmfit's transformation has no slope and a fit would stay."""
    if np.isfinite(low) and np.isfinite(high):
        return float(np.clip(value, low + 1e-4 * (high - low), high - 1e-4 * (high - low)))
    if np.isfinite(low):
        return max(value, low + 1e-8 * max(abs(low), 1e-8))
    return min(value, high - 1e-8 * max(abs(high), 1e-8)) if np.isfinite(high) else value


def _try(reference: _Reference, params: lmfit.Parameters, data: Array, weights: Any, x: Array) -> Any:
    """Fit once; return the result, or the code of the failure."""
    axis = {reference.variable: x}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            params.update_constraints()
            start = np.asarray(reference.model.eval(params, **axis), float)
            if not np.isfinite(start).all():
                return INVALID_MODEL
            result = reference.model.fit(data, params, weights=weights, **reference.options, **axis)
            if reference.polish is None or result.aborted or result.covar is None or not _is_regular(result.covar):
                return result
            again = reference.model.fit(data, result.params, weights=weights, **reference.polish, **axis)
            again.nfev += result.nfev
            return again if again.success and again.chisqr <= result.chisqr else result
        except ValueError as error:
            return INVALID_MODEL if "NaN" in str(error) else FAILED
        except Exception:
            # Any failure of one position is a status there, never the end of the others.
            return FAILED


def _store(problem: Problem, result: Any, raw: Raw, r: int) -> None:
    from scanfold.fitting._fit_kernels import touches_bound

    params = result.params
    raw.values[r] = [params[n].value for n in problem.names]
    raw.chisqr[r] = result.chisqr
    raw.squares[r] = np.sum((result.data - result.best_fit) ** 2)
    raw.code[r] = MAX_NFEV if result.aborted or not result.success else CONVERGED
    names = [problem.names[i] for i in problem.free[-1]]
    if result.covar is not None and _is_regular(result.covar):
        order = [result.var_names.index(n) for n in names]
        raw.cov[r] = result.covar[np.ix_(order, order)]
        raw.stderr[r] = [np.nan if params[n].stderr is None else params[n].stderr for n in problem.names]
    raw.at_bound[r] = any(
        touches_bound(params[n].value, params[n].init_value, params[n].min, params[n].max) for n in names
    )


def _is_regular(covar: Array) -> bool:
    """Say whether a covariance is more than rounding: not that of parameters which only act together."""
    errors = np.sqrt(np.diag(covar))
    with np.errstate(all="ignore"):
        correlation = covar / np.outer(errors, errors)
    return bool(np.isfinite(correlation).all() and np.linalg.eigvalsh(correlation)[0] > 1e-13)
