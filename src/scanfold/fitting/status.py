"""What became of the fit of each position, and whether to believe it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import xlogy
from scipy.stats import chi2
from scipy.stats import f as fisher

from scanfold.fitting._lm_kernels import FAILED, INVALID_MODEL, MAX_NFEV, TOO_FEW_POINTS
from scanfold.fitting.problem import Array, Problem, Raw, Rows

#: Flags of the variable ``status``.
STATUS = {
    "converged": 1, "max_nfev": 2, "at_bound": 3, "too_few_points": 4, "singular": 5, "no_signal": 6, "poor_fit": 7,
    "invalid_model": 8, "failed": 9, "crashed": 10,
}  # fmt: skip
#: Statuses whose parameters are NaN.
WITHOUT_VALUES = ("too_few_points", "invalid_model", "failed", "crashed")


@lru_cache(maxsize=32)
def redchi_limits(n: int, tail: float, weighted: bool) -> Array:
    """Return the largest believable reduced χ² for 0 … n degrees of freedom.

    With weights: the quantile of χ²/ν that noise exceeds with probability `tail`. Without, the ratio to an
    estimated noise variance: the quantile of Fisher's F with 0.3 n degrees of freedom for the estimate, which
    is about the efficiency of the median of second differences.
    """
    dof = np.maximum(np.arange(n + 1), 1)
    limits = chi2.isf(tail, dof) / dof if weighted else fisher.isf(tail, dof, max(0.3 * n, 2.0))
    return np.asarray(limits, np.float64)


def is_poor(problem: Problem, raw: Raw, rows: Rows, noise: Array | None, tail: float) -> npt.NDArray[np.bool_]:
    """Say which fits have a reduced χ² far above what their weights, or the noise in the data, allow."""
    dof = np.maximum(rows.used - len(problem.free[-1]), 0)
    redchi = raw.chisqr / np.maximum(dof, 1)
    limits = redchi_limits(rows.data.shape[1], tail, noise is None)[dof]
    if noise is not None:
        # A noise estimate of zero says only that the data are exact, not that the fit is bad.
        redchi = np.where(noise > 0, redchi / np.where(noise > 0, noise, 1.0), 0.0)
    return np.asarray((redchi > limits) & (dof > 0))


def aic(cost: Array, used: npt.NDArray[np.int64], parameters: int, poisson: int) -> Array:
    """Return Akaike's criterion: lmfit's n·ln(χ²/n) + 2m, or deviance + 2m for Poisson."""
    if poisson:
        return np.asarray(cost + 2.0 * parameters)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(used * np.log(np.maximum(cost, 1e-250 * used) / used) + 2.0 * parameters)


def has_no_signal(problem: Problem, raw: Raw, rows: Rows, terms: int, margin: float) -> npt.NDArray[np.bool_]:
    """Say which fits do not beat a polynomial of `terms` terms by more than `margin` in AIC."""
    from scanfold.fitting._spectrum_kernels import polynomial_rows

    count, n = rows.data.shape
    if terms == 0 or n == 0:
        return np.zeros(count, bool)
    span = np.ptp(problem.x) or 1.0
    u = 2.0 * (problem.x - problem.x.min()) / span - 1.0
    null = np.empty(count)
    used = rows.used
    if problem.poisson == 2:
        cost = _constant_ratio(rows)
        model = aic(raw.chisqr, used, len(problem.free[-1]), True)
        return np.asarray(~(model < aic(cost, used, 1, True) - margin))
    polynomial_rows(u, rows.data, rows.weights, rows.keep, terms, bool(problem.poisson), null)
    # Below the rounding of the data both are perfect: the simpler model then wins.
    weighted = rows.data * (rows.weights if rows.weights.shape[1] else 1.0)
    floor = 0.0 if problem.poisson else 1e-26 * np.einsum("ij,ij->i", weighted, weighted)
    model = aic(np.maximum(raw.chisqr, floor), used, len(problem.free[-1]), problem.poisson)
    return np.asarray(~(model < aic(np.maximum(null, floor), used, terms, problem.poisson) - margin))


def _constant_ratio(rows: Rows) -> Array:
    """Return the deviance (N) of one ratio of counts to reference counts at all points."""
    n = rows.data.shape[1]
    reference, exposure = rows.weights[:, :n], np.maximum(rows.weights[:, n:], 1e-300)
    level = rows.data.sum(axis=1) / np.maximum((reference * exposure).sum(axis=1), 0.5)
    odds = level[:, None] * exposure
    total = np.maximum(rows.data + reference, 1e-300)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = odds / (1.0 + odds)
        terms = xlogy(rows.data, rows.data / (total * share)) + xlogy(reference, reference / (total * (1.0 - share)))
    return np.asarray(2.0 * np.nansum(terms, axis=1))


def judge(
    problem: Problem, raw: Raw, poor: npt.NDArray[np.bool_], no_signal: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int8]:
    """Return the status of each position.

    What leaves no numbers comes first; then max_nfev, no_signal, at_bound, singular, poor_fit: the first that applies.
    """
    status = np.full(raw.code.shape, STATUS["converged"], np.int8)
    m = len(problem.free[-1])
    singular = ~np.isfinite(raw.cov[:, range(m), range(m)]).all(axis=1)
    near = raw.at_bound | _within_error_of_bound(problem, raw)
    for name, where in (
        ("poor_fit", poor),
        ("singular", singular),
        ("at_bound", near),
        ("no_signal", no_signal),
        ("max_nfev", raw.code == MAX_NFEV),
        ("invalid_model", raw.code == INVALID_MODEL),
        ("too_few_points", raw.code == TOO_FEW_POINTS),
        ("failed", raw.code == FAILED),
    ):
        status[where] = STATUS[name]
    return status


def _within_error_of_bound(problem: Problem, raw: Raw) -> npt.NDArray[np.bool_]:
    """Say where a parameter is within a hundredth of its error of a common bound."""
    free = list(problem.free[-1])
    values, errors = raw.values[:, free], raw.stderr[:, free]
    gap = np.minimum(values - problem.low[free], problem.high[free] - values)
    with np.errstate(invalid="ignore"):
        return np.asarray((gap <= 0.01 * errors).any(axis=1))
