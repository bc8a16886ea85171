"""The reference engine: lmfit itself, one position after the other, any of its methods."""

from __future__ import annotations

import warnings
from typing import Any

import lmfit
import numpy as np
from scipy.special import xlogy

from scanfold.conventions import unknown
from scanfold.fitting.compiled import empty_raw
from scanfold.fitting.problem import Array, Problem, Raw, Rows

_FAILED, _CONVERGED, _MAX_NFEV, _INVALID, _TOO_FEW = 5, 1, 2, 3, 4


def check_method(method: str) -> None:
    """Raise unless lmfit has this method: lmfit itself would run Nelder–Mead instead, silently."""
    from lmfit.minimizer import SCALAR_METHODS

    others = ("leastsq", "least_squares", "brute", "basinhopping", "ampgo", "emcee", "shgo", "dual_annealing")
    names = [*others, *SCALAR_METHODS]
    valid = [n for n in dict.fromkeys(names) if n not in ("brute", "emcee")]
    if method not in valid:
        raise unknown("method", method, valid)


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


def fit_block(problem: Problem, rows: Rows) -> Raw:
    """Fit all rows with ``Model.fit``."""
    assert problem.model is not None
    assert problem.params is not None
    raw = empty_raw(problem, rows.data.shape[0])
    model = _Poisson(problem.model) if problem.poisson else problem.model
    template = problem.params.copy()
    for r in range(rows.data.shape[0]):
        keep = rows.keep[r] if rows.keep.shape[1] else np.ones(rows.data.shape[1], bool)
        if keep.sum() < max(1, len(problem.free[-1])):
            raw.code[r] = _TOO_FEW
            continue
        weights = rows.weights[r][keep] if rows.weights.shape[1] else None
        _fit_position(problem, model, template, rows, r, keep, weights, raw)
    return raw


def _fit_position(
    problem: Problem,
    model: lmfit.Model,
    params: lmfit.Parameters,
    rows: Rows,
    r: int,
    keep: Any,
    weights: Any,
    raw: Raw,
) -> None:
    x, data = problem.x[keep], rows.data[r][keep]
    variable = next(v for v in problem.model.independent_vars if v != "form")  # type: ignore[union-attr]
    for i, name in enumerate(problem.names):
        if not params[name].expr:
            params[name].set(min=rows.low[r, i], max=rows.high[r, i])
            params[name].set(value=rows.start[r, i])
    current = params
    for s, free in enumerate(problem.free):
        for i, name in enumerate(problem.names):
            if not current[name].expr:
                current[name].vary = i in free
        result = _try(model, data, current, weights, {variable: x}, problem)
        if isinstance(result, int):
            raw.code[r] = result
            return
        raw.nfev[r] += result.nfev
        current = result.params
        if problem.keep_stages:
            raw.stages[r, s] = [current[n].value for n in problem.names]
    _store(problem, result, raw, r)


def _try(model: lmfit.Model, data: Array, params: Any, weights: Any, axis: dict[str, Array], problem: Problem) -> Any:
    """Fit once; return the result, or the code of the failure."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            start = np.asarray(model.eval(params, **axis), float)
            if not np.isfinite(start).all():
                return _INVALID
            return model.fit(
                data, params, weights=weights, method=problem.method, max_nfev=problem.max_nfev,
                scale_covar=not problem.poisson, nan_policy="raise", **axis,
            )  # fmt: skip
        except ValueError as error:
            return _INVALID if "NaN" in str(error) else _FAILED
        except Exception:
            # Any failure of one position is a status there, never the end of the others.
            return _FAILED


def _store(problem: Problem, result: Any, raw: Raw, r: int) -> None:
    from scanfold.fitting._fit_kernels import touches_bound

    params = result.params
    raw.values[r] = [params[n].value for n in problem.names]
    raw.stderr[r] = [np.nan if params[n].stderr is None else params[n].stderr for n in problem.names]
    raw.chisqr[r] = result.chisqr
    raw.squares[r] = np.sum((result.data - result.best_fit) ** 2)
    raw.code[r] = _MAX_NFEV if result.aborted or not result.success else _CONVERGED
    names = [problem.names[i] for i in problem.free[-1]]
    if result.covar is not None:
        order = [result.var_names.index(n) for n in names]
        raw.cov[r] = result.covar[np.ix_(order, order)]
    raw.at_bound[r] = any(
        touches_bound(params[n].value, params[n].init_value, params[n].min, params[n].max) for n in names
    )
