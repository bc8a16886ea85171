"""The compiled engine: a problem as a `Program`, run by numba over a whole block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from scanfold.fitting._expression_kernels import PARAM
from scanfold.fitting.components import Component, function_token
from scanfold.fitting.formulas import NotAFormula, follow, record, source
from scanfold.fitting.problem import Problem, Raw, Rows

#: A fit has converged when a Gauss–Newton step could lower χ² by no more than this part of the reduced χ².
TOLERANCE = 1.0e-12

#: What keeps the code of leaves in memory while their addresses are in use.
_kept: list[Any] = []
_user_leaves: dict[tuple[str, int], UserLeaf] = {}


class UserLeaf(NamedTuple):
    """A user's function, compiled, or why it is not; and whether differences give its derivatives."""

    code: Any = None
    differences: bool = False
    why_not: str = ""


def why_not_compiled(component: Component) -> str:
    """Return why numba cannot compile a component, in one line; empty if it can."""
    return _user_leaf(component).why_not if component.leaf == "user" else ""


def _user_leaf(component: Component) -> UserLeaf:
    """Return the leaf of a user's function(x, p0 … pk-1): of its formula where it is one."""
    from scanfold.fitting._user_kernels import compile_leaf

    assert component.function is not None
    key = (function_token(component.function), len(component.names))
    if key not in _user_leaves:
        call, names = component.function, component.arguments  # by name: some may be keyword-only
        try:
            leaf = _formula_leaf(lambda x, *p: call(x, **dict(zip(names, p, strict=True))), len(names))
            _user_leaves[key] = UserLeaf(leaf)
        except Exception:  # of the function too, which is called with symbols
            try:
                _user_leaves[key] = UserLeaf(compile_leaf(component.function, len(component.names)), differences=True)
            except Exception as error:
                # numba raises many kinds of errors; any of them means that this function stays in Python.
                _user_leaves[key] = UserLeaf(why_not=str(error).strip().splitlines()[0])
    return _user_leaves[key]


@cache  # without an end: the code of a leaf has to stay while its address is in use
def _expression_leaf(code: bytes, count: int) -> Any:
    """Return the leaf of an expression's formula; None where it has functions that formulas have not."""
    steps = np.frombuffer(code).reshape(-1, 2)
    try:
        return _formula_leaf(lambda x, *p: follow(steps, x, p), count)
    except NotAFormula:
        return None


def _formula_leaf(function: Callable[..., Any], count: int) -> Any:
    """Return the leaf of the formula of function(x, p0 … p(count−1)).

    Raises NotAFormula, or what the function raises, if there is none.
    """
    from scanfold.fitting._fit_kernels import leaf_rows
    from scanfold.fitting._user_kernels import compile_formula

    leaf = compile_formula(source(*record(function, count)), count)
    # A function may look at the types of what it is given: it has to give the same for numbers.
    x, p = np.linspace(-2.3, 7.1, 13), np.linspace(0.4, 2.2, 3 * count).reshape(3, count)
    y, jac = np.empty((3, x.size)), np.empty((3, max(1, count), x.size))
    leaf_rows(leaf.address, x, p, np.zeros(1), y, jac)
    with np.errstate(all="ignore"):
        expected = np.array([np.broadcast_to(function(x, *row), x.shape) for row in p.tolist()], np.float64)
    if not np.allclose(y, expected, rtol=1e-9, atol=1e-12, equal_nan=True):
        raise NotAFormula("it gives other values for numbers than for symbols")
    return leaf


def address(component: Component) -> int:
    """Return the address of a component's leaf in this process."""
    from scanfold.fitting._lineshape_kernels import leaf_address

    if component.leaf == "user":
        return int(_user_leaf(component).code.address)
    if component.leaf == "expression":
        leaf = _expression_leaf(component.aux.tobytes(), len(component.names))
        if leaf is not None:
            return int(leaf.address)
    return own_leaf_address(component.leaf) if ":" in component.leaf else int(leaf_address(component.leaf))


@lru_cache(maxsize=256)
def own_leaf_address(leaf: str) -> int:
    """Return the address of a leaf that a model function brings: ``"module:function"`` of the signature `LEAF`.

    The function's attribute `compiled_leaf` says so. Its parameters are those of the function, in the same order, and
    it fills values and derivatives for the whole axis, as those of `_lineshape_kernels` do.
    """
    from scanfold._jit_kernels import callback
    from scanfold.fitting._lineshape_kernels import LEAF

    module, name = leaf.split(":")
    compiled: Any = callback(LEAF, getattr(import_module(module), name), cache=True)  # type: ignore[no-untyped-call]
    _kept.append(compiled)
    return int(compiled.address)


def layout(problem: Problem) -> dict[str, Any]:
    """Return the arrays of a `Program`, without the addresses."""
    sizes = np.array([len(c.names) for c in problem.components], np.int64)
    names = [n for c in problem.components for n in c.names]
    aux = [c.constants(problem.x) for c in problem.components]
    starts = np.concatenate([[0], np.cumsum([a.size for a in aux])]).astype(np.int64)
    code = [c for _, c in problem.expressions]
    return {
        "ops": np.array(problem.ops, np.int64),
        "spans": operand_rows(problem.ops, sizes),
        "sizes": sizes,
        "rows": np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64),
        "slots": np.array([problem.names.index(n) for n in names], np.int64),
        "aux": np.concatenate([*aux, np.zeros(1)]),
        "switches": starts[:-1][[c.leaf == "user" and _user_leaf(c).differences for c in problem.components]],
        "aux_at": starts,
        "targets": np.array([t for t, _ in problem.expressions], np.int64),
        "code_at": np.concatenate([[0], np.cumsum([len(c) for c in code])]).astype(np.int64),
        "code": np.concatenate([*code, np.zeros((0, 2))]),
        "depends": dependencies(problem),
        "room": np.empty(max((len(c) for c in code), default=0) + 1),
        "feeding": problem.feeding,
        "linear": linear_parameters(problem),
    }


def operand_rows(ops: Sequence[int], sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the Jacobian rows of each operator's operands (ops, 4): those of the left from and to, of the right."""
    ends = [0, *np.cumsum(sizes)]
    spans, stack = np.zeros((len(ops), 4), np.int64), []
    for t, o in enumerate(ops):
        if o >= 0:
            stack.append((ends[o], ends[o + 1]))
        else:
            right, left = stack.pop(), stack.pop()
            spans[t] = *left, *right
            stack.append((left[0], right[1]))
    return spans


def dependencies(problem: Problem) -> npt.NDArray[np.bool_]:
    """Return on which parameters each expression depends (E, P), through others too."""
    depends = np.zeros((len(problem.expressions), len(problem.names)), bool)
    for e, (_, code) in enumerate(problem.expressions):
        used = code[code[:, 0] == PARAM, 1].astype(int)
        depends[e, used] = True
        for earlier, (target, _) in enumerate(problem.expressions[:e]):
            if target in used:
                depends[e] |= depends[earlier]
    return depends


def linear_parameters(problem: Problem) -> npt.NDArray[np.bool_]:
    """Return which parameters (P) are coefficients of a sum: of a polynomial or spline that is added to the rest.

    Amplitudes of peaks are linear too, but fits that leave them undamped reach wrong minima more often.
    """
    summed = all(o >= -2 for o in problem.ops) and not problem.feeding
    names = {n for c in problem.components if c.leaf == "basis" for n in c.names} if summed else set()
    return np.array([n in names for n in problem.names], bool)


def program(problem: Problem) -> Any:
    """Return the problem as the compiled loop takes it."""
    from scanfold.fitting._fit_kernels import Program

    # A component that numba cannot compile has no address; the array engine evaluates it in Python.
    addresses = [0 if why_not_compiled(c) else address(c) for c in problem.components]
    return Program(addresses=np.array(addresses, np.int64), **layout(problem))


@lru_cache(maxsize=64)
def _stage_arrays(free: tuple[tuple[int, ...], ...]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    sizes = np.array([len(f) for f in free], np.int64)
    padded = np.zeros((len(free), max(1, int(sizes.max()))), np.int64)
    for s, indices in enumerate(free):
        padded[s, : len(indices)] = indices
    return padded, sizes


def empty_raw(problem: Problem, count: int) -> Raw:
    """Return an unfilled result for `count` positions."""
    parameters, m = len(problem.names), len(problem.free[-1])
    return Raw(
        np.full((count, parameters), np.nan),
        np.full((count, parameters), np.nan),
        np.full((count, m, m), np.nan),
        np.full(count, np.nan),
        np.full(count, np.nan),
        np.zeros(count, bool),
        np.zeros(count, np.int64),
        np.zeros(count, np.int64),
        np.full((count, len(problem.free) if problem.keep_stages else 0, parameters), np.nan),
    )


def fit_block(problem: Problem, rows: Rows) -> Raw:
    """Fit all rows with the compiled loop."""
    from scanfold.fitting._fit_kernels import fit_rows

    raw = empty_raw(problem, rows.data.shape[0])
    stats = np.empty((rows.data.shape[0], 3))
    padded, sizes = _stage_arrays(problem.free)
    fit_rows(
        program(problem), problem.x, rows.data, rows.weights, rows.keep, rows.start, rows.low, rows.high,
        padded, sizes, problem.poisson, TOLERANCE, problem.max_nfev,
        raw.values, raw.stderr, raw.cov, stats, raw.nfev, raw.code, raw.stages,
    )  # fmt: skip
    return raw._replace(chisqr=stats[:, 0].copy(), squares=stats[:, 1].copy(), at_bound=stats[:, 2] == 1.0)
