"""Levenberg–Marquardt for one position, as a step function: who evaluates the model is the caller's affair.

`advance` takes the cost, gradient and curvature at the trial point and gives the
next trial point. The compiled engine calls it in a loop; the array engine, which
evaluates all positions at once in NumPy, calls it for each position in turn.
Damping is Nielsen's (IMM-REP-1999-05), scaling Marquardt's, bounds are lmfit's
(MINUIT's) transformation of the parameters.
"""

import math

import numpy as np

from scanfold._jit_kernels import jit

_jit = jit()
# Sums over the points may be reordered by the compiler, always in the same way: they vectorise.
_fast = jit(fastmath={"reassoc", "contract", "nsz"})

RUNNING, CONVERGED, MAX_NFEV, INVALID_MODEL, TOO_FEW_POINTS, FAILED = range(6)
#: state: cost, damping, its growth, predicted reduction, evaluations, started, cost at the last look
COST, DAMPING, GROWTH, PREDICTED, NFEV, STARTED, LOOK, STATE_SIZE = range(8)
#: A fit that gains less than STALE of the reduced cost in PATIENCE evaluations runs down a valley without an end.
PATIENCE, STALE = 30, 1.0e-6
#: How far inside a start on a bound is moved, and what counts as on it, in parts of the range between two bounds.
_NUDGE, _EDGE = 1.0e-4, 1.0e-9


@_jit
def to_internal(value, low, high):
    """Return lmfit's unbounded variable for a bounded value; a start on a bound is moved just inside."""
    has_low, has_high = low > -np.inf, high < np.inf
    if has_low and has_high:
        fraction = (value - low) / (high - low)
        if fraction < _EDGE:
            fraction = _NUDGE
        elif fraction > 1.0 - _EDGE:
            fraction = 1.0 - _NUDGE
        return math.asin(2.0 * fraction - 1.0)
    if has_low:
        d = max(value - low, 1.0e-8 * max(abs(low), 1.0e-8))
        return math.sqrt(d * (d + 2.0))
    if has_high:
        d = max(high - value, 1.0e-8 * max(abs(high), 1.0e-8))
        return math.sqrt(d * (d + 2.0))
    return value


@_jit
def to_external(theta, low, high):
    """Return the bounded value of an unbounded variable, and its first and second derivative."""
    has_low, has_high = low > -np.inf, high < np.inf
    if has_low and has_high:
        half, sine = 0.5 * (high - low), math.sin(theta)
        return low + half * (sine + 1.0), half * math.cos(theta), -half * sine
    if not (has_low or has_high):
        return theta, 1.0, 0.0
    root = math.sqrt(theta * theta + 1.0)
    d, slope, bend = theta * theta / (root + 1.0), theta / root, 1.0 / (root * root * root)
    return (low + d, slope, bend) if has_low else (high - d, -slope, -bend)


@_jit
def to_damp(linear, free, low, high, poisson, damped):
    """Fill damped (m): 0 for the unbounded parameters that the model is linear in, where least squares are exact."""
    for j in range(free.size):
        f = free[j]
        exact = linear[f] and not poisson and low[f] == -np.inf and high[f] == np.inf
        damped[j] = 0.0 if exact else 1.0


@_jit
def add_bend(gradient, slopes, bends, curvature):
    """Add what the bending of the bounds' transformation gives to the curvature, where that makes it larger.

    Near a bound that the data push against the Gauss–Newton curvature vanishes with the slope: without this term
    its steps overshoot, the damping grows, and all parameters crawl.
    """
    for j in range(gradient.size):
        if slopes[j] != 0.0 and bends[j] != 0.0:
            curvature[j, j] += max(0.0, -gradient[j] / slopes[j] * bends[j])


@_jit
def factor(curvature, scale, damping, damped, work):
    """Factor curvature + damping·diag(damped·scale) as L·D·Lᵀ; False if a pivot vanishes beside its scale.

    work has shape (m + 1, m): L below the diagonal, D·Lᵀ above it, and in its last row 1/D.
    """
    m = scale.size
    for j in range(m):
        for k in range(j):
            s = curvature[j, k]
            for i in range(k):
                s -= work[j, i] * work[i, k]
            work[k, j] = s
            work[j, k] = s * work[m, k]
        pivot = curvature[j, j] + damping * damped[j] * scale[j]
        for i in range(j):
            pivot -= work[j, i] * work[i, j]
        if not pivot > 1.0e-15 * scale[j]:
            return False
        work[m, j] = 1.0 / pivot
    return True


@_jit
def substitute(work, rhs, out):
    """Solve L·D·Lᵀ · out = rhs with the factors of `factor`."""
    m = rhs.size
    for j in range(m):
        s = rhs[j]
        for i in range(j):
            s -= work[j, i] * out[i]
        out[j] = s
    for j in range(m - 1, -1, -1):
        s = out[j] * work[m, j]
        for i in range(j + 1, m):
            s -= work[i, j] * out[i]
        out[j] = s


@_jit
def solve_scaled(curvature, scale, damping, damped, rhs, out, work):
    """Solve (curvature + damping·diag(damped·scale)) · out = rhs; False if singular."""
    if not factor(curvature, scale, damping, damped, work):
        return False
    substitute(work, rhs, out)
    return True


@_fast
def dot(a, b):
    s = 0.0
    for i in range(a.size):
        s += a[i] * b[i]
    return s


@_jit
def residuals(data, weights, keep, y, poisson, residual, root_weights):
    """Fill the weighted residuals and √weights (n); return the cost.

    Least squares: cost Σ w²(d − y)². Poisson: the deviance 2Σ(y − d + d ln(d/y)), whose gradient and Fisher
    curvature these residuals and weights give (Laurence and Chromy, Nat. Methods 7 (2010) 338), continued by a
    parabola where the model is not positive. poisson = 2: counts d beside reference counts r, see
    `_binomial_residuals`.
    """
    if poisson == 2:
        return _binomial_residuals(data, weights, keep, y, residual, root_weights)
    if poisson:
        return _poisson_residuals(data, keep, y, residual, root_weights)
    for i in range(data.size):
        root_weights[i] = weights[i]
        residual[i] = (data[i] - y[i]) * weights[i]
    _drop(keep, residual, root_weights)
    return dot(residual, residual)


@_jit
def _drop(keep, residual, root_weights):
    # The model may be NaN at a point that is left out: zero weight alone would not silence it.
    for i in range(keep.size):
        if not keep[i]:
            residual[i] = 0.0
            root_weights[i] = 0.0


@_jit
def _poisson_residuals(data, keep, y, residual, root_weights):
    n = data.size
    mean = 0.0
    for i in range(n):
        mean += data[i] / n
    floor = max(1.0e-4 * mean, 1.0e-10)
    cost = 0.0
    for i in range(n):
        if keep.size and not keep[i]:
            continue
        d, f, over = data[i], y[i], 0.0
        if f < floor:
            over, f = f - floor, floor
        cost += 2.0 * (f - d + (d * math.log(d / f) if d > 0.0 else 0.0))
        slope, bend = 1.0 - d / f, 1.0 / f
        if over < 0.0:
            bend = max(d, 1.0) / (floor * floor)
            cost += over * (2.0 * slope + bend * over)
            slope += bend * over
        root_weights[i] = math.sqrt(bend)
        residual[i] = -slope / root_weights[i]
    _drop(keep, residual, root_weights)
    return cost


@_jit
def _binomial_residuals(data, beside, keep, y, residual, root_weights):
    """Fill residuals and √weights of counts d, given the sum N of d and reference counts r; return the deviance.

    Both are Poisson counts and the model is the ratio y of their means, but for an exposure s: d is then binomial, of
    probability p = s·y/(1 + s·y), whatever the mean of r. The deviance is 2Σ[d ln(d/Np) + r ln(r/N(1 − p))], the
    Fisher weight of y N·s/(y(1 + s·y)²). beside (2n) holds r, then s.
    """
    n = data.size
    above = below = 0.0
    for i in range(n):
        if keep.size == 0 or keep[i]:
            above += data[i]
            below += beside[i] * beside[n + i]
    floor = max(1.0e-4 * above / max(below, 1.0), 1.0e-10)
    cost = 0.0
    for i in range(n):
        if keep.size and not keep[i]:
            continue
        d, r, s, f, over = data[i], beside[i], beside[n + i], y[i], 0.0
        if f < floor:
            over, f = f - floor, floor
        total, odds = d + r, s * f
        if d > 0.0:
            cost += 2.0 * d * math.log(d * (1.0 + odds) / (total * odds))
        if r > 0.0:
            cost += 2.0 * r * math.log(r * (1.0 + odds) / total)
        slope = total * s / (1.0 + odds) - d / f
        bend = total * s / (f * (1.0 + odds) ** 2)
        if over < 0.0:
            cost += over * (2.0 * slope + bend * over)
            slope += bend * over
        # A model that is NaN must not pass for one that fits.
        cost += 0.0 * y[i]
        root_weights[i] = math.sqrt(bend)
        residual[i] = -slope / root_weights[i]
    _drop(keep, residual, root_weights)
    return cost


@_jit
def weigh(jac, slots, slopes, factors, root_weights, out):
    """Fill out (m, n): weighted derivatives by the free variables, from those by the leaf parameters (rows, n).

    slopes (P, m) are derivatives of the parameters by the free ones, factors (m) those of the free parameters
    by their unbounded variables.
    """
    n = out.shape[1]
    for j in range(out.shape[0]):
        first = True
        for r in range(slots.size):
            c = slopes[slots[r], j] * factors[j]
            if c == 0.0:
                continue
            # Indexing both axes lets the compiler vectorise, which it does not for views of rows.
            if first:
                for i in range(n):
                    out[j, i] = c * jac[r, i] * root_weights[i]
            else:
                for i in range(n):
                    out[j, i] += c * jac[r, i] * root_weights[i]
            first = False
        if first:
            out[j] = 0.0


@_jit
def normal_equations(jac, keep, residual, gradient, curvature):
    """Fill gradient (m) and curvature (m, m) from the weighted derivatives and residuals."""
    for j in range(jac.shape[0]):
        for i in range(keep.size):
            if not keep[i]:
                jac[j, i] = 0.0
        gradient[j] = dot(jac[j], residual)
        for k in range(j + 1):
            curvature[j, k] = dot(jac[j], jac[k])
            curvature[k, j] = curvature[j, k]


@_jit
def advance(state, theta, trial, gradient, curvature, scale, damped, cost, new_gradient, new_curvature, dof, tol,
            max_nfev, step, work):  # fmt: skip
    """Judge the trial point and set the next one; return how the fit stands. A fit starts with state[STARTED] = 0.

    It has converged when a Gauss–Newton step could lower the cost by no more than `tol` of the cost per degree
    of freedom: the parameters are then within about √tol standard errors of the minimum, and closer still
    after that step, which is taken. Only the parameters with damped = 1 (m) are damped: in those that the model
    is linear in, a step is exact whatever the others do.
    """
    m = theta.size
    gained = 0.0
    state[NFEV] += 1.0
    if state[STARTED] == 0.0:
        accepted = np.isfinite(cost)
        for j in range(m):
            accepted = accepted and np.isfinite(new_gradient[j]) and np.isfinite(new_curvature[j, j])
        if not accepted:
            return INVALID_MODEL
        if state[DAMPING] == 0.0:
            state[DAMPING] = 1.0e-3
        state[GROWTH], state[STARTED], state[LOOK] = 2.0, 1.0, 0.0
        scale[:] = 0.0
    else:
        gained, predicted = state[COST] - cost, state[PREDICTED]
        accepted = gained >= 0.0
        for j in range(m):
            accepted = accepted and np.isfinite(new_gradient[j]) and np.isfinite(new_curvature[j, j])
        if accepted:
            ratio = 2.0 * gained / predicted - 1.0
            state[DAMPING] *= max(0.1, 1.0 - ratio * ratio * ratio)
            state[GROWTH] = 2.0
        else:
            state[DAMPING] *= state[GROWTH]
            state[GROWTH] *= 2.0
        small = predicted <= 1.0e-14 * state[COST]
        if small and (not accepted or gained <= 1.0e-14 * state[COST]):
            if accepted:
                _take(state, theta, trial, gradient, curvature, cost, new_gradient, new_curvature)
            return CONVERGED
    if accepted:
        _take(state, theta, trial, gradient, curvature, cost, new_gradient, new_curvature)
        for j in range(m):
            scale[j] = max(scale[j], curvature[j, j])
            if scale[j] <= 0.0:
                scale[j] = 1.0
        if cost <= 0.0:
            return CONVERGED
        level = cost / max(dof, 1.0)
        # After a step that gained much it is too early to ask.
        if gained <= 0.01 * level and solve_scaled(curvature, scale, 0.0, damped, gradient, step, work):
            decrement = 0.0
            for j in range(m):
                decrement += step[j] * gradient[j]
            if decrement <= tol * level:
                for j in range(m):
                    theta[j] += step[j]
                return CONVERGED
    if state[NFEV] % PATIENCE == 0:
        if state[LOOK] - state[COST] < STALE * state[COST] / max(dof, 1.0) and state[LOOK] > 0.0:
            return CONVERGED
        state[LOOK] = state[COST]
    if state[NFEV] >= max_nfev:
        return MAX_NFEV
    while not solve_scaled(curvature, scale, state[DAMPING], damped, gradient, step, work):
        damped[:] = 1.0
        state[DAMPING] = max(10.0 * state[DAMPING], 1.0e-12)
        if not state[DAMPING] < 1.0e30:
            return CONVERGED
    predicted, moved = 0.0, False
    for j in range(m):
        predicted += step[j] * (gradient[j] + state[DAMPING] * damped[j] * scale[j] * step[j])
        trial[j] = theta[j] + step[j]
        moved = moved or trial[j] != theta[j]
    state[PREDICTED] = predicted
    return RUNNING if moved else CONVERGED


@_jit
def _take(state, theta, trial, gradient, curvature, cost, new_gradient, new_curvature):
    state[COST] = cost
    theta[:] = trial
    gradient[:] = new_gradient
    curvature[:] = new_curvature
