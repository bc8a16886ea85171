"""Users' functions as formulas: values against NumPy, derivatives against differences, and what is no formula."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import lmfit
import numpy as np
import pytest
import scipy.special
import xarray as xr
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import scanfold as sf
from scanfold.fitting._fit_kernels import leaf_rows
from scanfold.fitting._user_kernels import compile_formula
from scanfold.fitting.compiled import _expression_leaf, _user_leaf
from scanfold.fitting.components import take_apart
from scanfold.fitting.formulas import MOST, NotAFormula, record, source

from .oracle import assert_agrees, fit_each

X = np.linspace(0.13, 1.9, 17)
P = np.array([0.7, 1.3, 0.45])


def filled(function: Callable[..., Any], p: Any = P, x: Any = X) -> tuple[Any, Any]:
    """Return values (n) and derivatives (k, n) of the compiled formula."""
    count = len(p)
    leaf = compile_formula(source(*record(function, count)), count)
    y, jac = np.empty((1, len(x))), np.empty((1, count, len(x)))
    leaf_rows(leaf.address, np.array(x, float), np.array([p], float), np.zeros(1), y, jac)
    return y[0], jac[0]


def differences(function: Callable[..., Any], p: Any = P, x: Any = X, step: float = 1e-3) -> Any:
    """Return derivatives by the parameters from six points each, whose error is of the order of step⁶."""
    rows = []
    for j in range(len(p)):
        unit = step * np.eye(len(p))[j]
        ends = [function(x, *(p + n * unit)) - function(x, *(p - n * unit)) for n in (1, 2, 3)]
        rows.append(np.broadcast_to((45 * ends[0] - 9 * ends[1] + ends[2]) / (60 * step), x.shape))
    return np.array(rows)


# ---- every operation ------------------------------------------------------------------------

OPERATIONS: dict[str, Callable[..., Any]] = {
    "sums": lambda x, a, b, c: a + 2 - x - b + (-c) - (3 - a),
    "products": lambda x, a, b, c: 2 * a * x * b / c / 3 * (1 / b),
    "one in two places": lambda x, a, b, c: a * x + a * a * b + c * x * a,
    "a whole power": lambda x, a, b, c: (x - a) ** 3 + b**2 * x + c**-2 + a**1,
    "a broken power": lambda x, a, b, c: (x + a) ** 1.5 * b + c**0.25,
    "a fitted power": lambda x, a, b, c: a * x**b + b ** (c * x) + 2.0**c,
    "abs": lambda x, a, b, c: a * abs(x - b) + np.abs(c),
    "sqrt": lambda x, a, b, c: np.sqrt(a + b * x) * c,
    "exp": lambda x, a, b, c: a * np.exp(-b * x) + np.exp2(c * x),
    "expm1": lambda x, a, b, c: a * np.expm1(b * x) - np.log1p(c * x),
    "logs": lambda x, a, b, c: np.log(a * x) + np.log2(b + x) * np.log10(c * x),
    "sines": lambda x, a, b, c: a * np.sin(b * x) + np.cos(c * x) * np.tan(a * x / 2),
    "arcs": lambda x, a, b, c: np.arcsin(a * x / 2) + np.arccos(b * x / 3) + np.arctan(c * x) + np.arctan2(a * x, b),
    "hyperbolic": lambda x, a, b, c: np.sinh(a * x) + np.cosh(b * x) + np.tanh(c * (x - a)),
    "error functions": lambda x, a, b, c: a * scipy.special.erf(b * x) + scipy.special.erfc(c * x),
    "logistic": lambda x, a, b, c: a * scipy.special.expit((x - b) / c),
    "others": lambda x, a, b, c: np.square(a * x) + np.reciprocal(b) + np.positive(c) + np.deg2rad(a) * np.radians(x),
    "constants folded": lambda x, a, b, c: a * np.sqrt(2 * np.pi) * x + np.float64(3) * b + np.int64(2) * c,
    "a sum in a loop": lambda x, a, b, c: functools.reduce(lambda s, v: s + v, [a * x, b, c * x**2]),
    "no axis": lambda x, a, b, c: a * b + c,
    "no parameter": lambda x, a, b, c: x * x,
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_values_and_derivatives_of_every_operation(name: str):
    function = OPERATIONS[name]
    y, jac = filled(function)
    np.testing.assert_allclose(y, np.broadcast_to(function(X, *P), X.shape), rtol=1e-14)
    np.testing.assert_allclose(jac, differences(function), rtol=1e-10, atol=1e-11)


NUMBERS = st.floats(0.3, 3.0).map(lambda v: round(v, 3))
LEAVES = st.sampled_from(["x", "a", "b", "c"]) | NUMBERS.map(repr)
TEXTS = st.recursive(
    LEAVES,
    lambda below: st.one_of(
        st.tuples(below, st.sampled_from(["+", "-", "*", "/"]), below).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        st.tuples(st.sampled_from(["sin", "tanh", "arctan", "cos"]), below).map(lambda t: f"np.{t[0]}({t[1]})"),
        below.map(lambda t: f"np.exp(-np.abs({t}))"),
        below.map(lambda t: f"np.sqrt(1.0 + {t} ** 2)"),
        below.map(lambda t: f"np.log(0.5 + ({t}) ** 2)"),
    ),
    max_leaves=12,
)


@settings(max_examples=25, deadline=None)
@given(text=TEXTS, seed=st.integers(0, 99))
@example(text="((x - a) / (b * (x - a)))", seed=0)
def test_any_formula(text: str, seed: int):
    function = eval(f"lambda x, a, b, c: {text} + 0 * x + 0 * a", {"np": np})
    p = np.random.default_rng(seed).uniform(0.5, 1.5, 3)
    with np.errstate(all="ignore"):
        expected, coarse, fine = function(X, *p), differences(function, p), differences(function, p, step=5e-4)
    # Where a kink or a pole is near, differences are no oracle: they do not agree with themselves.
    smooth = np.isfinite(coarse) & (np.abs(coarse - fine) <= 1e-8 * (1 + np.abs(fine)))
    assume(smooth.mean() > 0.5)
    y, jac = filled(function, p)
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(jac[smooth], fine[smooth], rtol=1e-6, atol=1e-6)


def test_derivatives_that_are_not_there_count_as_nothing():
    """At a kink, and where exponentials overflow, the value is finite and its derivative NaN or infinite."""
    x = np.array([-800.0, 0.0, 1.0, 800.0])
    y, jac = filled(lambda x, a, b: a * np.sqrt(np.abs(x - b)) + 1 / (1 + np.exp(x - b)), [2.0, 1.0], x)
    assert np.isfinite(y).all()
    assert np.isfinite(jac).all()
    assert jac[1, 2] == 0.0
    y, _ = filled(lambda x, a: a * np.log(x), [1.0], np.array([-1.0, 1.0]))
    assert np.isnan(y[0]), "a value that is not there stays so"


# ---- what is no formula ---------------------------------------------------------------------


def asks(x, a, b):
    return a * x if b > 0 else x


def indexes(x, a, b):
    return a * x / x[0] + b


def sums(x, a, b):
    return a * x / np.sum(x) + b


def chooses(x, a, b):
    return np.where(x < b, a * x, a * b)


def clips(x, a, b):
    return np.maximum(a * x, b)


def converts(x, a, b):
    return float(a) * x + b


def counts(x, a, b):
    return a * x + b * len(x)


def measures(x, a, b):
    return a * x + b * x.size


def makes_an_array(x, a, b):
    return a * np.asarray(x) + b


def uses_a_table(x, a, b):
    return a * x + b * np.arange(x.size)


def is_complex(x, a, b):
    return (a * x * (1 + 0j)).real + b


def writes(x, a, b):
    return np.multiply(a, x, out=np.zeros(17)) + b


def returns_a_number(x, a, b):
    return 3.0


def returns_several(x, a, b):
    return a * x, b


def fails(x, a, b):
    raise ValueError("not today")


def never_ends(x, a, b):
    while True:
        a = a + x


NO_FORMULA = (asks, indexes, sums, chooses, clips, converts, counts, measures, makes_an_array, uses_a_table, is_complex,
              writes, returns_a_number, returns_several, fails, never_ends)  # fmt: skip


@pytest.mark.parametrize("function", NO_FORMULA, ids=lambda f: f.__name__)
def test_what_is_no_formula(function: Callable[..., Any]):
    with pytest.raises((NotAFormula, AttributeError, TypeError, ValueError)):
        record(function, 2)


def test_a_long_formula_is_refused_in_time():
    with pytest.raises(NotAFormula, match=f"more than {MOST}"):
        record(never_ends, 2)


def by_type(x, a, b):
    return a * x + b if isinstance(a, float) else a * x


def test_a_function_that_looks_at_types_is_found_out():
    components, _ = take_apart(lmfit.Model(by_type), X)
    assert _user_leaf(components[0]).differences


@pytest.mark.parametrize("function", [asks, indexes, sums, chooses, clips, counts, measures], ids=lambda f: f.__name__)
def test_what_is_no_formula_is_fitted_all_the_same(function: Callable[..., Any]):
    truth = {"a": 1.7, "b": 0.8}
    values = function(X, **truth) + 0.01 * np.random.default_rng(3).standard_normal((3, X.size))
    data = xr.DataArray(values, dims=("position", "x"), coords={"x": X})
    model = lmfit.Model(function)
    params = model.make_params(a=1.5, b=0.8)
    params["b"].vary = function is not asks  # of which it changes nothing
    fits = sf.fit(data, model, params, dim="x", guess="params", retry=False).compute()
    assert_agrees(fits, fit_each(model, data, params))


# ---- fits -----------------------------------------------------------------------------------


def flat_top(x, height, center, width, base, *, kind="fourth"):
    power = {"third": 3, "fourth": 4}[kind]
    return height * np.exp(-(np.abs((x - center) / width) ** power)) + base


def edge(x, height, center, width, base):
    return height * scipy.special.erfc((x - center) / (width * math.sqrt(2))) / 2 + base


#: What is fitted, and the model that lmfit takes for it.
FITTED: dict[str, Any] = {
    "edge": (edge, lmfit.Model(edge)),
    "an option": (lmfit.Model(flat_top, kind="third"), lmfit.Model(flat_top, kind="third")),
    "a partial": (functools.partial(flat_top, kind="third"), lmfit.Model(flat_top, kind="third")),
    "an option left out": (flat_top, lmfit.Model(flat_top, kind="fourth")),
}


@pytest.mark.parametrize("kind", FITTED)
def test_fits_of_formulas_are_lmfits(kind: str):
    x = np.linspace(-3, 5, 60)
    function, model = FITTED[kind]
    truth = {"height": 5.0, "center": 0.9, "width": 1.2, "base": 1.0}
    values = model.eval(x=x, **truth) + 0.05 * np.random.default_rng(4).standard_normal((4, x.size))
    data = xr.DataArray(values, dims=("position", "x"), coords={"x": x})
    start = {"height": 4.0, "center": float(x[30]), "width": 1.0, "base": 0.8}  # on a point: |x − c| has its kink there
    params = model.make_params(**start)
    fits = sf.fit(data, function, start, dim="x", guess="params", retry=False)
    assert_agrees(fits.compute(), fit_each(model, data, params))


@pytest.mark.parametrize(
    ("text", "formula"),
    [("base + a*exp(-x/k)*sin(2*x)", True), ("base + a*x**k/sqrt(1 + x**2) - abs(x - 1)*tanh(k*x)", True),
     ("base + a*arctan2(x, k) + log(k)*cosh(x/4)", True), ("base + a*floor(2*x) + k*x", False)],
)  # fmt: skip
def test_expression_models_are_lmfits(text: str, formula: bool):
    x = np.linspace(0.2, 3, 40)
    model = lmfit.models.ExpressionModel(text)
    component = take_apart(model, x)[0][0]
    assert (_expression_leaf(component.aux.tobytes(), len(component.names)) is not None) is formula
    truth = {"base": 1.0, "a": 2.0, "k": 1.3}
    values = model.eval(x=x, **truth) + 0.02 * np.random.default_rng(5).standard_normal((3, x.size))
    data = xr.DataArray(values, dims=("position", "x"), coords={"x": x})
    params = model.make_params(base=0.9, a=1.8, k=1.2)
    fits = sf.fit(data, model, params, dim="x", engine="batch", guess="params", retry=False).compute()
    assert_agrees(fits, fit_each(model, data, params))
