"""The array engine: a user's function that numba cannot compile, evaluated for many positions at once by NumPy.

The minimiser is the compiled one (`_lm_kernels.advance`), a step of all positions at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scanfold.fitting._expression_kernels import RELATIVE_STEP
from scanfold.fitting.compiled import TOLERANCE, address, empty_raw, program, why_not_compiled
from scanfold.fitting.components import Component, Unsupported
from scanfold.fitting.problem import Array, Problem, Raw, Rows

#: Positions evaluated at once: their Jacobians stay in the cache.
ROWS = 128


def evaluation_of(components: Sequence[Component], x: Array) -> str:
    """Return how a model is evaluated, "compiled" or "array"; raise Unsupported if neither works."""
    slow = [(c, why_not_compiled(c)) for c in components if why_not_compiled(c)]
    for component, reason in slow:
        _probe(component, x, reason)
    return "array" if slow else "compiled"


def _probe(component: Component, x: Array, why: str) -> None:
    """Raise Unsupported unless the function broadcasts: parameters (3, 1) and an axis (1, n) to (3, n)."""
    values = np.linspace(0.5, 1.5, 3 * len(component.names)).reshape(3, -1)
    function = getattr(component.function, "func", component.function)
    name = getattr(function, "__name__", "the function")
    with np.errstate(all="ignore"):
        try:
            together = np.asarray(_call(component, x[None], values.T[:, :, None]), np.float64)
            alone = np.array([np.broadcast_to(_call(component, x, row), x.shape) for row in values], np.float64)
        except Exception as error:
            raise Unsupported(f"numba cannot compile {name} ({why}), and it does not broadcast ({error})") from None
    if together.shape != alone.shape or not np.allclose(together, alone, rtol=1e-12, atol=0.0, equal_nan=True):
        raise Unsupported(f"numba cannot compile {name} ({why}), and on arrays of parameters it gives other values")


def _call(component: Component, x: Array, values: Sequence[Any] | Array) -> Any:
    """Call a user's function, its parameters by name: some may be keyword-only, or have options between them."""
    assert component.function is not None
    return component.function(x, **dict(zip(component.arguments, values, strict=True)))


def _user_leaf(component: Component, x: Array, p: Array) -> tuple[Array, Array]:
    """Return values (N, n) and derivatives (N, k, n), by central differences, for parameters (N, k)."""
    columns = list(p.T[:, :, None])
    shape = (p.shape[0], x.size)

    def values(arguments: list[Array]) -> Array:
        return np.broadcast_to(np.asarray(_call(component, x[None], arguments), np.float64), shape)

    jac = np.empty((p.shape[0], p.shape[1], x.size))
    for j, column in enumerate(columns):
        step = RELATIVE_STEP * np.where(column != 0.0, np.abs(column), 1.0)
        high, low = column + step, column - step
        above = values([*columns[:j], high, *columns[j + 1 :]])
        below = values([*columns[:j], low, *columns[j + 1 :]])
        jac[:, j] = (above - below) / (high - low)
    return np.array(values(columns)), jac


def _evaluate(
    components: Sequence[Component], ops: Sequence[int], slots: Sequence[Sequence[int]], x: Array, p: Array
) -> tuple[Array, Array]:
    """Evaluate a model for parameters (N, P): values (N, n), derivatives by the leaf parameters (N, rows, n)."""
    from scanfold.fitting._fit_kernels import combine_rows, leaf_rows

    sizes = [len(s) for s in slots]
    jac = np.empty((p.shape[0], max(1, sum(sizes)), x.size))
    stack: list[tuple[Array, int, int]] = []
    for o in ops:
        if o >= 0:
            first = sum(sizes[:o])
            own = np.ascontiguousarray(p[:, slots[o]])
            component = components[o]
            if why_not_compiled(component):
                y, jac[:, first : first + sizes[o]] = _user_leaf(component, x, own)
            else:
                y, part = np.empty((p.shape[0], x.size)), np.empty((p.shape[0], sizes[o], x.size))
                leaf_rows(address(component), x, own, component.constants(x), y, part)
                jac[:, first : first + sizes[o]] = part
            stack.append((y, first, first + sizes[o]))
        else:
            b, b_first, b_last = stack.pop()
            a, a_first, a_last = stack.pop()
            combine_rows(o, a, b, jac, np.array([a_first, a_last, b_first, b_last]))
            stack.append((a, a_first, b_last))
    return stack[0][0], jac


def evaluate_components(
    components: Sequence[Component], ops: Sequence[int], names: Sequence[str], x: Array, values: Array
) -> Array:
    """Return the curves (N, n) of parameters (N, P) called `names`."""
    slots = [[list(names).index(n) for n in c.names] for c in components]
    parts = [values[i : i + ROWS] for i in range(0, len(values), ROWS)] or [values]
    with np.errstate(all="ignore"):
        return np.concatenate([_evaluate(components, ops, slots, x, part)[0] for part in parts])


def fit_block(problem: Problem, rows: Rows) -> Raw:
    """Fit all rows, a few at a time."""
    raw = empty_raw(problem, rows.data.shape[0])
    for first in range(0, rows.data.shape[0], ROWS):
        part = slice(first, first + ROWS)
        _fit_part(problem, rows.take(part), raw.take(part))
    return raw


def _fit_part(problem: Problem, rows: Rows, raw: Raw) -> None:
    """Fit some rows in place: every stage a loop of evaluations of the rows that still run."""
    from scanfold.fitting import _array_kernels as kernels

    compiled = program(problem)
    slots = [[problem.names.index(n) for n in c.names] for c in problem.components]
    raw.values[:] = rows.start
    raw.code[:] = np.where(rows.used < max(1, len(problem.free[-1])), kernels.TOO_FEW_POINTS, kernels.CONVERGED)
    for s, indices in enumerate(problem.free):
        free = np.array(indices, np.int64)
        fits: Any = kernels.begin(compiled.linear, raw.values, rows.low, rows.high, free, problem.poisson)
        active = np.flatnonzero(raw.code <= kernels.MAX_NFEV)
        while active.size:
            kernels.place_trials(compiled, fits, active, rows.low, rows.high, free, raw.values)
            with np.errstate(all="ignore"):
                y, jac = _evaluate(problem.components, problem.ops, slots, problem.x, raw.values[active])
            kernels.advance_rows(
                compiled, fits, active, rows.data, rows.weights, rows.keep, rows.low, rows.high, free, rows.used,
                problem.poisson, TOLERANCE, problem.max_nfev, raw.values, y, jac, raw.code,
            )  # fmt: skip
            active = active[raw.code[active] == kernels.RUNNING]
        raw.nfev[:] += kernels.settle(compiled, fits, rows.low, rows.high, free, raw.values, raw.code)
        if problem.keep_stages:
            raw.stages[:, s] = raw.values
    done = np.flatnonzero((raw.code == kernels.CONVERGED) | (raw.code == kernels.MAX_NFEV))
    with np.errstate(all="ignore"):
        y, jac = _evaluate(problem.components, problem.ops, slots, problem.x, raw.values[done])
    kernels.finish_rows(
        compiled, problem.x, done, rows.data, rows.weights, rows.keep, rows.start, rows.low, rows.high,
        np.array(problem.free[-1], np.int64), rows.used, problem.poisson, y, jac,
        raw.values, raw.stderr, raw.cov, raw.chisqr, raw.squares, raw.at_bound,
    )  # fmt: skip
