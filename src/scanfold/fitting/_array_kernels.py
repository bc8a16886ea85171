"""One step of the minimiser for many positions, whose model values come from outside."""

from collections import namedtuple

import numpy as np

from scanfold._jit_kernels import jit
from scanfold.fitting._fit_kernels import (
    apply_expressions,
    expression_slopes,
    finish_row,
    set_free,
)
from scanfold.fitting._lm_kernels import (
    CONVERGED,
    INVALID_MODEL,
    MAX_NFEV,
    NFEV,
    RUNNING,
    STATE_SIZE,
    TOO_FEW_POINTS,
    add_bend,
    advance,
    normal_equations,
    residuals,
    to_damp,
    to_internal,
    weigh,
)

__all__ = ["CONVERGED", "MAX_NFEV", "RUNNING", "TOO_FEW_POINTS", "advance_rows", "begin", "finish_rows",
           "place_trials", "settle"]  # fmt: skip

_jit = jit()

#: What the minimiser remembers of each of N positions with m free parameters.
Fits = namedtuple("Fits", "state theta trial gradient curvature scale damped")


def begin(linear, values, low, high, free, poisson):
    """Return the state of N fits at their start."""
    rows, m = values.shape[0], free.size
    fits = Fits(
        np.zeros((rows, STATE_SIZE)), np.zeros((rows, m)), np.zeros((rows, m)), np.zeros((rows, m)),
        np.zeros((rows, m, m)), np.zeros((rows, m)), np.ones((rows, m)),
    )  # fmt: skip
    _set_trials(linear, values, low, high, free, poisson, fits.trial, fits.damped)
    return fits


@_jit
def _set_trials(linear, values, low, high, free, poisson, trial, damped):
    for r in range(values.shape[0]):
        to_damp(linear, free, low[r], high[r], poisson, damped[r])
        for j in range(free.size):
            f = free[j]
            trial[r, j] = to_internal(values[r, f], low[r, f], high[r, f])


@_jit
def place_trials(program, fits, active, low, high, free, values):
    """Put the trial points into the parameters (N, P) of the active rows."""
    inner, bends = np.empty(free.size), np.empty(free.size)
    for r in active:
        set_free(fits.trial[r], free, low[r], high[r], values[r], inner, bends)
        apply_expressions(program, values[r], low[r], high[r], program.feeding, -1)


@_jit
def advance_rows(program, fits, active, data, weights, keep, low, high, free, used, poisson, tol, max_nfev,
                 values, y, leaf_jac, codes):  # fmt: skip
    """Judge the trial points of the active rows, from y (active, n) and leaf_jac (active, k, n), and set the next."""
    m, n = free.size, data.shape[1]
    inner, bends, step, gradient = np.empty(m), np.empty(m), np.empty(m), np.empty(m)
    curvature, work = np.empty((m, m)), np.empty((m + 1, m))
    jac, residual, root_weights = np.empty((m, n)), np.empty(n), np.empty(n)
    slopes, scratch, unit = np.empty((values.shape[1], m)), np.empty(values.shape[1]), np.ones(n)
    for a in range(active.size):
        r = active[a]
        w = weights[r] if weights.shape[1] else unit
        set_free(fits.trial[r], free, low[r], high[r], values[r], inner, bends)
        expression_slopes(program, values[r], low[r], high[r], free, program.feeding, slopes, scratch)
        cost = residuals(data[r], w, keep[r], y[a], poisson, residual, root_weights)
        weigh(leaf_jac[a], program.slots, slopes, inner, root_weights, jac)
        normal_equations(jac, keep[r], residual, gradient, curvature)
        add_bend(gradient, inner, bends, curvature)
        codes[r] = advance(fits.state[r], fits.theta[r], fits.trial[r], fits.gradient[r], fits.curvature[r],
                           fits.scale[r], fits.damped[r], cost, gradient, curvature, float(used[r] - m), tol,
                           max_nfev, step, work)  # fmt: skip


@_jit
def settle(program, fits, low, high, free, values, codes):
    """Put the best points into the parameters of the rows that were fitted; return their evaluations (N)."""
    inner, bends = np.empty(free.size), np.empty(free.size)
    counts = np.zeros(values.shape[0], np.int64)
    for r in range(values.shape[0]):
        counts[r] = int(fits.state[r, NFEV])
        if codes[r] != INVALID_MODEL and codes[r] != TOO_FEW_POINTS:
            set_free(fits.theta[r], free, low[r], high[r], values[r], inner, bends)
            apply_expressions(program, values[r], low[r], high[r], program.feeding, -1)
    return counts


@_jit
def finish_rows(program, x, done, data, weights, keep, start, low, high, free, used, poisson, y, leaf_jac,
                values, stderr, cov, chisqr, squares, at_bound):  # fmt: skip
    """Fill errors, covariance and costs of the rows in `done`."""
    stats, unit = np.empty(3), np.ones(data.shape[1])
    for a in range(done.size):
        r = done[a]
        w = weights[r] if weights.shape[1] else unit
        finish_row(program, data[r], w, keep[r], values[r], start[r], low[r], high[r], free, poisson, used[r],
                   y[a], leaf_jac[a], stderr[r], cov[r], stats)  # fmt: skip
        chisqr[r], squares[r], at_bound[r] = stats[0], stats[1], stats[2] == 1.0
