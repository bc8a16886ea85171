"""Fit every row of a block: models as small programs, evaluated by one compiled loop.

A model is a `Program`: leaves (components) called by address, a postfix list of
the operators that join them, and the constraint expressions. It is data, so the
loop below is compiled once for all models.
"""

from collections import namedtuple

import numpy as np

from scanfold._jit_kernels import jit
from scanfold.fitting._expression_kernels import ACCURATE, RELATIVE_STEP, ROUGH, run_code
from scanfold.fitting._lineshape_kernels import call_leaf
from scanfold.fitting._lm_kernels import (
    CONVERGED,
    COST,
    DAMPING,
    INVALID_MODEL,
    NFEV,
    RUNNING,
    STARTED,
    STATE_SIZE,
    TOO_FEW_POINTS,
    add_bend,
    advance,
    factor,
    normal_equations,
    residuals,
    substitute,
    to_damp,
    to_external,
    to_internal,
    weigh,
)

_jit = jit()

ADD, SUB, MUL, DIV = -1, -2, -3, -4
#: The damping of a fit that is at its minimum but for the accuracy of derivatives.
SETTLING = 1.0e-12

#: ops: leaf numbers and operators, postfix. addresses, sizes, rows, aux_at: per leaf its address, number of
#: parameters, first row in the Jacobian, start in `aux`. spans (ops, 4): for an operator, the Jacobian rows of its
#: operands, from and to. slots: the parameter behind each Jacobian row.
#: switches: where in `aux` it is said how accurate the differences of users' functions are to be.
#: targets, code_at, code: constraint expressions, the first `feeding` of which the model needs; depends (E, P): on
#: which parameters, directly or not; room for their values. linear: for each parameter, whether the model is.
Program = namedtuple(
    "Program",
    "ops spans addresses sizes rows slots aux aux_at switches targets code_at code depends room feeding linear",
)


@_jit
def apply_expressions(program, p, low, high, count, cause):
    """Set the parameters given by the first `count` expressions: all, or (cause ≥ 0) those that depend on that one."""
    for e in range(count):
        if cause >= 0 and not program.depends[e, cause]:
            continue
        t = program.targets[e]
        value = run_code(program.code[program.code_at[e] : program.code_at[e + 1]], p, np.nan, program.room)
        p[t] = min(max(value, low[t]), high[t]) if value == value else value


@_jit
def expression_slopes(program, p, low, high, free, count, slopes, scratch):
    """Fill slopes (P, m): derivatives of all parameters by the free ones, through the expressions."""
    slopes[:] = 0.0
    for j in range(free.size):
        f = free[j]
        slopes[f, j] = 1.0
        if not program.depends[:count, f].any():
            continue
        step = RELATIVE_STEP * (abs(p[f]) if p[f] != 0.0 else 1.0)
        scratch[:] = p
        scratch[f] = p[f] + step
        apply_expressions(program, scratch, low, high, count, f)
        for e in range(count):
            slopes[program.targets[e], j] = scratch[program.targets[e]]
        scratch[:] = p
        scratch[f] = p[f] - step
        apply_expressions(program, scratch, low, high, count, f)
        for e in range(count):
            t = program.targets[e]
            slopes[t, j] = (slopes[t, j] - scratch[t]) / ((p[f] + step) - (p[f] - step))


@_jit
def evaluate(program, x, p, leaf_p, stack, jac):
    """Evaluate the model: values end in stack[0], derivatives by each leaf parameter in jac (rows, n)."""
    n, top = x.size, 0
    x_at, p_at, aux_at = x.ctypes.data, leaf_p.ctypes.data, program.aux.ctypes.data
    stack_at, jac_at = stack.ctypes.data, jac.ctypes.data
    for t in range(program.ops.size):
        o = program.ops[t]
        if o >= 0:
            k, row = program.sizes[o], program.rows[o]
            for i in range(k):
                leaf_p[i] = p[program.slots[row + i]]
            start, stop = program.aux_at[o], program.aux_at[o + 1]
            call_leaf(
                program.addresses[o], n, k, x_at, p_at, aux_at + 8 * start, stop - start,
                stack_at + 8 * n * top, jac_at + 8 * n * row,
            )  # fmt: skip
            top += 1
        else:
            top -= 1
            if o == ADD:  # by far the commonest, and nothing to do for the derivatives
                for i in range(n):
                    stack[top - 1, i] += stack[top, i]
            else:
                combine(o, stack[top - 1], stack[top], jac, program.spans[t])


@_jit
def combine(op, a, b, jac, span):
    """Join two components in place: the value into a, the chain rule into their rows of jac."""
    n = a.size
    if op == ADD:
        for i in range(n):
            a[i] += b[i]
        return
    if op == SUB:
        for i in range(n):
            a[i] -= b[i]
        jac[span[2] : span[3]] *= -1.0
        return
    for i in range(n):
        if op == MUL:
            by_a, by_b, value = b[i], a[i], a[i] * b[i]
        else:
            value = a[i] / b[i]
            by_a, by_b = 1.0 / b[i], -value / b[i]
        for r in range(span[0], span[1]):
            jac[r, i] *= by_a
        for r in range(span[2], span[3]):
            jac[r, i] *= by_b
        a[i] = value


@_jit
def set_free(theta, free, low, high, p, slopes, bends):
    """Put the internal variables into the parameters, and fill the derivatives of the transformation."""
    for j in range(free.size):
        f = free[j]
        p[f], slopes[j], bends[j] = to_external(theta[j], low[f], high[f])


@_jit
def covariance(curvature, at_bound, cov):
    """Fill cov with the inverse of curvature (m, m); parameters at a bound are left out (NaN)."""
    cov[:] = np.nan
    inside = np.nonzero(~at_bound)[0]
    c = inside.size
    small, scale, rhs, work, columns = (
        np.empty((c, c)),
        np.empty(c),
        np.zeros(c),
        np.empty((c + 1, c)),
        np.empty((c, c)),
    )
    for j in range(c):
        for k in range(c):
            small[j, k] = curvature[inside[j], inside[k]]
        scale[j] = small[j, j]
        if not scale[j] > 0.0:
            return
    if not factor(small, scale, 0.0, scale, work):
        return
    for j in range(c):
        rhs[:] = 0.0
        rhs[j] = 1.0
        substitute(work, rhs, columns[j])
    for j in range(c):
        for k in range(c):
            cov[inside[j], inside[k]] = 0.5 * (columns[j, k] + columns[k, j])


@_jit
def touches_bound(value, start, low, high):
    """Say whether a fitted value sits on one of its bounds."""
    # Between two bounds far apart, as 1 and 10⁸, what is near is a matter of the bound's and the start's own size.
    width = high - low
    floor = 1.0e-12 * width if width < np.inf else 0.0
    if low > -np.inf and value - low <= max(floor, 1.0e-6 * min(width, max(abs(low), abs(start - low)))):
        return True
    return high < np.inf and high - value <= max(floor, 1.0e-6 * min(width, max(abs(high), abs(high - start))))


@_jit
def finish_row(program, data, weights, keep, p, start, low, high, free, poisson, used, y, leaf_jac,
               stderr, cov, stats):  # fmt: skip
    """Fill stderr (P), cov (m, m) and stats [chisqr, sum of squared residuals, touches a bound] at the solution."""
    m, n, count = free.size, data.size, program.targets.size
    apply_expressions(program, p, low, high, count, -1)
    slopes, scratch = np.empty((p.size, m)), np.empty(p.size)
    expression_slopes(program, p, low, high, free, count, slopes, scratch)
    jac, residual, root_weights = np.empty((m, n)), np.empty(n), np.empty(n)
    gradient, curvature = np.empty(m), np.empty((m, m))
    chisqr = residuals(data, weights, keep, y, poisson, residual, root_weights)
    weigh(leaf_jac, program.slots, slopes, np.ones(m), root_weights, jac)
    normal_equations(jac, keep, residual, gradient, curvature)
    at_bound = np.zeros(m, np.bool_)
    stats[2] = 0.0
    for j in range(m):
        at_bound[j] = touches_bound(p[free[j]], start[free[j]], low[free[j]], high[free[j]])
        if at_bound[j]:
            stats[2] = 1.0
    covariance(curvature, at_bound, cov)
    if not poisson:
        cov *= chisqr / max(1, used - m)
    stderr[:] = 0.0
    for i in range(p.size):
        variance, touched = 0.0, False
        for j in range(m):
            for k in range(m):
                weight = slopes[i, j] * slopes[i, k]
                if weight != 0.0:
                    variance += weight * cov[j, k]
                    touched = True
        stderr[i] = np.sqrt(variance) if touched else 0.0
    stats[0] = chisqr
    stats[1] = 0.0
    for i in range(n):
        if keep.size == 0 or keep[i]:
            seen = data[i]
            if poisson == 2:
                seen /= max(weights[i] * weights[n + i], 0.5)
            stats[1] += (seen - y[i]) ** 2


@_jit
def fit_stage(
    program, x, data, weights, keep, p, low, high, free, poisson, dof, tol, max_nfev, leaf_p, stack, leaf_jac
):
    """Fit the free parameters of one position in place; return (code, evaluations, solution evaluated).

    The last is whether stack and leaf_jac are those of the solution: of the point that the last step left, which
    is within √tol standard errors of it.
    """
    m, n = free.size, data.size
    feeding = program.feeding
    theta, trial, inner, bends = np.empty(m), np.empty(m), np.empty(m), np.empty(m)
    damped = np.empty(m)
    to_damp(program.linear, free, low, high, poisson, damped)
    gradient, new_gradient, scale, step = np.empty(m), np.empty(m), np.zeros(m), np.empty(m)
    curvature, new_curvature, work = np.empty((m, m)), np.empty((m, m)), np.empty((m + 1, m))
    jac, residual, root_weights, state = np.empty((m, n)), np.empty(n), np.empty(n), np.zeros(STATE_SIZE)
    slopes, scratch = np.empty((p.size, m)), np.empty(p.size)
    for j in range(m):
        trial[j] = to_internal(p[free[j]], low[free[j]], high[free[j]])
    expression_slopes(program, p, low, high, free, 0, slopes, scratch)
    code, cost = RUNNING, 0.0
    program.aux[program.switches] = ROUGH
    while code == RUNNING:
        set_free(trial, free, low, high, p, inner, bends)
        if feeding:
            apply_expressions(program, p, low, high, feeding, -1)
            expression_slopes(program, p, low, high, free, feeding, slopes, scratch)
        evaluate(program, x, p, leaf_p, stack, leaf_jac)
        cost = residuals(data, weights, keep, stack[0], poisson, residual, root_weights)
        weigh(leaf_jac, program.slots, slopes, inner, root_weights, jac)
        normal_equations(jac, keep, residual, new_gradient, new_curvature)
        add_bend(new_gradient, inner, bends, new_curvature)
        code = advance(state, theta, trial, gradient, curvature, scale, damped, cost, new_gradient, new_curvature, dof,
                       tol, max_nfev, step, work)  # fmt: skip
        if code == CONVERGED and program.switches.size and program.aux[program.switches[0]] == ROUGH:
            program.aux[program.switches] = ACCURATE
            trial[:] = theta
            state[STARTED], state[DAMPING], code = 0.0, SETTLING, RUNNING
    if code != INVALID_MODEL:
        set_free(theta, free, low, high, p, inner, bends)
        apply_expressions(program, p, low, high, feeding, -1)
    return code, int(state[NFEV]), code == CONVERGED and state[COST] == cost and not poisson


@_jit
def fit_rows(program, x, data, weights, keep, start, low, high, stage_free, stage_sizes, poisson, tol, max_nfev,
             values, stderr, cov, stats, nfev, codes, stage_values):  # fmt: skip
    """Fit each row of a block from its start, stage after stage.

    Shapes: x (n), data (N, n), weights and keep (N, n) or (N, 0) for none, start, low, high (N, P),
    stage_free (S, P) holding the free parameters of each stage, the last one's being all m that vary.
    Filled: values, stderr (N, P), cov (N, m, m), stats (N, 3), nfev, codes (N), stage_values (N, S, P) or (N, 0, P).
    """
    rows, n = data.shape
    depth, size = stack_depth(program.ops), max(1, program.slots.size)
    stack, leaf_jac, leaf_p = np.empty((depth, n)), np.empty((size, n)), np.empty(size)
    unit = np.ones(n)
    last = stage_sizes.size - 1
    m = stage_sizes[last]
    for r in range(rows):
        used = n
        if keep.shape[1]:
            used = 0
            for i in range(n):
                used += keep[r, i]
        values[r], stderr[r], cov[r], stats[r] = start[r], np.nan, np.nan, np.nan
        if used < max(m, 1):
            codes[r], nfev[r] = TOO_FEW_POINTS, 0
            continue
        w = weights[r] if weights.shape[1] else unit
        p = values[r]
        total, evaluated = 0, False
        for s in range(last + 1):
            free = stage_free[s, : stage_sizes[s]]
            code, count, evaluated = fit_stage(program, x, data[r], w, keep[r], p, low[r], high[r], free, poisson,
                                    float(used - free.size), tol, max_nfev, leaf_p, stack, leaf_jac)  # fmt: skip
            total += count
            if stage_values.shape[1]:
                stage_values[r, s] = p
            if code == INVALID_MODEL:
                break
        codes[r], nfev[r] = code, total
        if code == INVALID_MODEL:
            continue
        if not evaluated:
            program.aux[program.switches] = ACCURATE
            evaluate(program, x, p, leaf_p, stack, leaf_jac)
        finish_row(program, data[r], w, keep[r], p, start[r], low[r], high[r], stage_free[last, :m], poisson, used,
                   stack[0], leaf_jac, stderr[r], cov[r], stats[r])  # fmt: skip


@_jit
def stack_depth(ops):
    """Return how many component spectra the postfix list holds at once, at most."""
    depth = deepest = 0
    for o in ops:
        depth += 1 if o >= 0 else -1
        deepest = max(deepest, depth)
    return deepest


@_jit
def leaf_rows(address, x, p, aux, y, jac):
    """Evaluate one leaf for parameters p (N, k): y (N, n), jac (N, k, n)."""
    own = np.empty(max(1, p.shape[1]))
    for r in range(p.shape[0]):
        own[: p.shape[1]] = p[r]
        call_leaf(address, x.size, p.shape[1], x.ctypes.data, own.ctypes.data, aux.ctypes.data, aux.size,
                  y[r].ctypes.data, jac[r].ctypes.data)  # fmt: skip


@_jit
def combine_rows(op, a, b, jac, span):
    """Join two components for many positions, as `combine` does for one."""
    for r in range(a.shape[0]):
        combine(op, a[r], b[r], jac[r], span)
