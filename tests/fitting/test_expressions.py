"""Constraint expressions: the same numbers as Python and lmfit, and nothing but arithmetic."""

from __future__ import annotations

import math
from typing import Any

import lmfit
import numpy as np
import pytest
import scipy.special
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from lmfit import models

import scanfold as sf
from scanfold.conventions import InputError
from scanfold.fitting import STATUS
from scanfold.fitting._expression_kernels import run_code
from scanfold.fitting._special_kernels import betaln, erfcx, exp_below, faddeeva, lgamma_real
from scanfold.fitting.expressions import FUNCTIONS, symbols, translate

NAMES = {"a": 0, "b": 1, "c": 2}


def value(expression: str, **params: float) -> float:
    """Evaluate an expression by the stack machine."""
    names = {name: i for i, name in enumerate(params)}
    code = translate(expression, names)
    return float(run_code(code, np.array([*params.values(), 0.0]), np.nan, np.empty(len(code) + 1)))


# ---- arithmetic ----------------------------------------------------------------------------

numbers = st.floats(0.01, 100).map(lambda v: repr(round(v, 4)))
leaves = st.sampled_from(sorted(NAMES)) | numbers


def _longer(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", " - ", " / "]), inner).map("".join),
        inner.map("({})".format),
        inner.map("-{}".format),
        st.tuples(inner, st.integers(0, 3)).map(lambda t: f"({t[0]})**{t[1]}"),
        st.tuples(st.sampled_from(["sin", "cos", "arctan", "abs", "tanh", "square"]), inner).map(
            lambda t: f"{t[0]}({t[1]})"
        ),
        st.tuples(st.sampled_from(["max", "min", "arctan2"]), inner, inner).map(lambda t: f"{t[0]}({t[1]}, {t[2]})"),
    )


NUMPY = {name: getattr(np, name) for name in ("sin", "cos", "arctan", "abs", "tanh", "square", "arctan2")}


@given(st.recursive(leaves, _longer, max_leaves=12), st.tuples(*[st.floats(-50, 50)] * 3))
def test_translation_gives_what_python_gives(expression: str, numbers: tuple[float, ...]):
    params = dict(zip(NAMES, map(np.float64, numbers), strict=True))
    with np.errstate(all="ignore"):
        try:
            expected = float(eval(expression, {"__builtins__": {}, "max": max, "min": min, **NUMPY}, params))
        except (ZeroDivisionError, OverflowError):  # of two literals, which Python does not make infinite
            return
    found = value(expression, **params)
    scale = max(1.0, abs(expected))
    # powers are multiplied out differently, and a difference of large terms keeps their rounding
    assert found == expected or math.isnan(expected) == math.isnan(found) or abs(found - expected) < 1e-9 * scale
    if math.isfinite(expected) and "-" not in expression and "+" not in expression:
        assert found == pytest.approx(expected, rel=1e-12, abs=1e-300)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("2 - 3 - 4", -5), ("2 / 4 / 8", 0.0625), ("2**3**2", 512), ("-2**2", -4), ("(-2)**2", 4), ("2**-1", 0.5),
        ("-a", -3), ("+a", 3), ("- -a", 3), ("a*b + c", 17), ("a*(b + c)", 21), ("a/b*c", 1.2), ("1e400", math.inf),
        ("pi", math.pi), ("e", math.e), ("1_000", 1000), ("0x10", 16), (" a # note", 3), ("a/0", math.inf),
    ],
)  # fmt: skip
def test_precedence_and_literals(expression: str, expected: float):
    assert value(expression, a=3.0, b=5.0, c=2.0) == expected


REFERENCES: dict[str, Any] = {
    "sqrt": np.sqrt, "exp": np.exp, "log": np.log, "ln": np.log, "log10": np.log10, "log1p": np.log1p,
    "expm1": np.expm1, "sin": np.sin, "cos": np.cos, "tan": np.tan, "arcsin": np.arcsin, "asin": np.arcsin,
    "arccos": np.arccos, "acos": np.arccos, "arctan": np.arctan, "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh,
    "tanh": np.tanh, "abs": np.abs, "erf": scipy.special.erf, "erfc": scipy.special.erfc,
    "gamfcn": scipy.special.gamma, "loggammafcn": scipy.special.gammaln, "square": np.square, "sign": np.sign,
    "floor": np.floor, "ceil": np.ceil, "arctan2": np.arctan2, "atan2": np.arctan2, "max": np.maximum,
    "min": np.minimum, "pow": np.power, "betalnfnc": scipy.special.betaln,
}  # fmt: skip


def test_every_function_has_a_reference():
    assert set(FUNCTIONS) == set(REFERENCES)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_against_numpy_and_scipy(name: str):
    function = REFERENCES[name]
    first = np.array([-3.7, -1.0, -0.5, -1e-9, 0.0, 1e-9, 0.3, 1.0, 2.5, 20.0, 150.0, 800.0])
    if name == "betalnfnc":
        first = first[first > 0]
    with np.errstate(all="ignore"):
        if getattr(function, "nin", 2) == 1:
            expected = function(first)
            found = np.array([value(f"{name}(a)", a=v) for v in first])
            if name == "loggammafcn":  # lmfit's is complex below zero; ours is its real part
                found, expected = found[first > 0], expected[first > 0]
            if name == "gamfcn":  # the pole: SciPy 1.17 says inf at 0, -inf at -0 and NaN at negative integers
                found, expected = found[first > 0], expected[first > 0]
        else:
            pairs = [(u, v) for u in first for v in (0.4, 2.0, 7.5)]
            expected = np.array([function(u, v) for u, v in pairs])
            found = np.array([value(f"{name}(a, b)", a=u, b=v) for u, v in pairs])
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-300)


X = np.linspace(0, 1, 12)
LINE = xr.DataArray([0.3 * X + 0.5, 0.8 * X + 1.5], dims=("position", "x"), coords={"x": X})


def line_with(expr: str, engine: str, **more: Any) -> xr.Dataset:
    params = {"slope": 0.3, "intercept": 1, "z": {"expr": expr}, **more}
    return sf.fit(LINE, models.LinearModel(), params, dim="x", engine=engine).compute()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_both_engines_know_every_function(name: str):
    call = f"{name}(slope, 1.2)" if getattr(REFERENCES[name], "nin", 2) == 2 else f"{name}(slope)"
    batch, reference = line_with(call, "batch"), line_with(call, "lmfit")
    assert bool(np.isfinite(batch["z"]).all())
    np.testing.assert_allclose(batch["z"], reference["z"], rtol=1e-9)


@pytest.mark.parametrize("engine", ["batch", "lmfit"])
@pytest.mark.parametrize("name", ["e", "pi", "gamfcn"])
def test_a_parameter_may_have_the_name_of_a_constant_or_function(name: str, engine: str):
    more = {name: {"expr": "slope*10"}}
    np.testing.assert_allclose(line_with(f"{name}*2", engine, **more)["z"], [6.0, 16.0], rtol=1e-9)
    # and where the model itself needs it
    params = {"slope": 0.2, "intercept": {"expr": f"{name}/6"}, **more}
    fits = sf.fit(LINE[:1], models.LinearModel(), params, dim="x", engine=engine).compute()
    np.testing.assert_allclose([fits["slope"][0], fits["intercept"][0]], [0.3, 0.5], rtol=1e-9)


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        ("1/(slope - 0.2)", [10, 5 / 3]), ("(-slope)**0.5", [np.nan] * 2), ("log(-slope)", [np.nan] * 2),
        ("slope/0", [np.inf] * 2), ("9**9**9**9", [np.inf] * 2),
    ],
)  # fmt: skip
def test_an_expression_without_a_value_ends_no_run(expr: str, expected: list[float]):
    batch, reference = line_with(expr, "batch", slope=0.2), line_with(expr, "lmfit", slope=0.2)
    assert batch["status"].values.tolist() == [STATUS["converged"]] * 2
    np.testing.assert_allclose(batch["slope"], [0.3, 0.8], rtol=1e-9)
    np.testing.assert_allclose(batch["z"], expected, rtol=1e-8)
    # where lmfit's own arithmetic raises, that is a status
    assert set(reference["status"].values.tolist()) <= {STATUS["converged"], STATUS["singular"], STATUS["failed"]}
    good = reference["success"].values
    np.testing.assert_allclose(reference["slope"][good], np.array([0.3, 0.8])[good], rtol=1e-9)


@pytest.mark.parametrize("expr", ["1/slope", "slope/intercept"])
def test_an_expression_without_a_value_at_one_start_spoils_no_other_position(expr: str):
    data = xr.concat([LINE] * 2, "position") + 1e-6 * np.random.default_rng(42).standard_normal((4, 12))
    own = {n: {"value": xr.DataArray([0.2, 0.0, 0.4, 0.5], dims="position")} for n in ("slope", "intercept")}
    params = {**own, "z": {"expr": expr}}
    fits = sf.fit(data, models.LinearModel(), params, dim="x", engine="lmfit", guess="params", retry=False).compute()
    assert fits["status"].values.tolist() == [1, STATUS["failed"], 1, 1]
    np.testing.assert_allclose(fits["slope"][[0, 2, 3]], [0.3, 0.3, 0.8], rtol=1e-4)


# ---- what is refused -----------------------------------------------------------------------

REFUSED = [
    "a.real", "a.__class__", "().__class__.__bases__", "sqrt.__self__", "sqrt(x=a)", "max(a, b, key=c)", "abs(*[a])",
    "max(**{})", "[a]", "(a, b)", "{a}", "{a: b}", "[v for v in a]", "{v for v in a}", "(v for v in a)",
    "{k: k for k in a}", "lambda: a", "(lambda: a)()", "(n := a)", "'a'", "b'a'", "f'{a}'", "a[0]", "a[0:1]", "a < b",
    "a == b", "not a", "a and b", "a or b", "a if b else c", "a // b", "a % b", "a @ b", "a & b", "a | b", "a ^ b",
    "a << b", "~a", "True", "None", "...", "1j", "a*1j", "sqrt", "unknown", "x", "eval(a)", "__import__('os')",
    "open(a)", "print(a)", "sqrt(a, b)", "sqrt()", "max(a)", "max(a, b, c)", "real(a, b)", "sqrt(sqrt)", "(sqrt)(a)(b)",
    "wofz(a)", "wofz(1j*a)", "real(wofz(a))", "real(wofz(a + 1j*b))", "real(loggammafcn(1j*a))", "await a", "yield a",
    "a; b", "a\nb", "a = b", "import os", "", " ", "a +", "(a", "a b", "1a", "\x00", "a\\", "del a",
]  # fmt: skip


@pytest.mark.parametrize("expression", REFUSED)
def test_anything_but_arithmetic_is_refused(expression: str):
    with pytest.raises(InputError, match="expression"):
        translate(expression, NAMES)


@pytest.mark.parametrize(
    "expression",
    [
        "-" * 100_000 + "a",
        "(" * 100_000 + "a" + ")" * 100_000,
        "+".join(["a"] * 50_000),
        "sqrt(" * 900 + "a" + ")" * 900,
    ],
    ids=["signs", "brackets", "terms", "calls"],
)
def test_deep_nesting_is_refused_not_a_crash(expression: str):
    with pytest.raises(InputError):
        translate(expression, NAMES)


def test_huge_numbers_and_powers_cost_nothing():
    # Python would compute with integers of millions of digits
    assert value("9**9**9**9") == math.inf
    assert value("-" + "9" * 400) == -math.inf
    with pytest.raises(InputError):
        translate("9" * 5000, NAMES)


@pytest.mark.parametrize("engine", ["batch", "lmfit"])
@pytest.mark.parametrize("expr", ["amplitude" + "+1" * 96, "amplitude" + "+1" * 95])
def test_length_is_limited_to_200(expr: str, engine: str):
    data = LINE.rename(x="energy")
    params = {"amplitude": 1, "center": 0, "sigma": {"expr": expr}}
    if len(expr) > 200:
        with pytest.raises(InputError, match="201 characters; at most 200"):
            sf.fit(data, models.GaussianModel(), params, dim="energy", engine=engine)
    else:
        assert "sigma" in sf.fit(data, models.GaussianModel(), params, dim="energy", engine=engine)


@given(st.text(max_size=40) | st.text("ab1+-*/().,[]{}:='\"\\ \n", max_size=40))
def test_any_text_is_translated_or_refused(text: str):
    for function in (lambda t: translate(t, NAMES), symbols):
        try:
            function(text)
        except InputError:
            pass


def test_symbols_leave_functions_and_constants_out():
    assert symbols("sqrt(a)*pi + e*max(b, 2)") == {"a", "b"}
    assert symbols("e*a", {"e", "a"}) == {"e", "a"}
    assert symbols("gamfcn(gamfcn)", {"gamfcn"}) == {"gamfcn"}


def test_lmfits_own_hints_are_all_translated():
    # wofz(1j*y) and loggammafcn(a + 1j*b), of which only real parts of lmfit's models are taken
    for model in (models.VoigtModel(), models.Pearson4Model(), models.DoniachModel(), models.StudentsTModel()):
        params = model.make_params(**{n: 1.3 + 0.2 * i for i, n in enumerate(model.param_names)})
        numbers = {n: float(p.value) for n, p in params.items()}
        for name, p in params.items():
            if p.expr:
                assert value(p.expr, **numbers) == pytest.approx(lmfit.Parameter(name, p.value).value, rel=1e-12), name


# ---- the functions that numba lacks --------------------------------------------------------


def test_faddeeva_over_the_complex_plane():
    random = np.random.default_rng(40)
    radius, angle = 10 ** random.uniform(-12, 8, 20_000), random.uniform(-np.pi, np.pi, 20_000)
    grid = np.add.outer(np.linspace(-12, 12, 97), 1j * np.linspace(-6, 12, 73)).ravel()
    edges = np.array([0, 1, -1, 1j, -1j, 1e-300, 6.3, 4.4j, 6.3 + 4.4j, 1e10, 1e10j, 26 - 1e-9j])
    z = np.concatenate([radius * np.exp(1j * angle), grid, edges])
    expected = scipy.special.wofz(z)
    # near the zeros of w below the axis, and where exp(-z**2) turns through many periods, rounding of z itself moves w
    # by more: |w'| |z| eps, w' = -2zw + 2i/sqrt(pi)
    with np.errstate(all="ignore"):
        rounding = np.abs((-2 * z * expected + 2j / np.sqrt(np.pi)) * z) * np.finfo(float).eps
    inside = np.isfinite(expected) & np.isfinite(rounding)
    assert inside.sum() > 15_000
    found = np.array([faddeeva(complex(v)) for v in z])[inside]
    expected, rounding = expected[inside], rounding[inside]
    upper = z[inside].imag >= 0
    off = np.abs(found - expected)
    assert np.all(off[upper] <= 1e-13 * np.abs(expected[upper])), z[inside][upper][
        np.argmax((off / np.abs(expected))[upper])
    ]
    worse = off > 1e-13 * np.abs(expected) + 4 * rounding
    assert not worse.any(), (z[inside][worse], off[worse])


def test_erfcx_betaln_and_the_real_part_of_lgamma():
    x = np.concatenate([np.linspace(-5, 30, 301), [0.0, 1e-300, 1e5]])
    np.testing.assert_allclose([erfcx(v) for v in x], scipy.special.erfcx(x), rtol=1e-12)
    random = np.random.default_rng(41)
    a, b = 10 ** random.uniform(-3, 4, (2, 2000))
    sign = random.choice([-1, 1], b.size)
    expected = scipy.special.loggamma(a + 1j * sign * b).real
    found = np.array([lgamma_real(u, v) for u, v in zip(a, sign * b, strict=True)])
    # a logarithm near its zero keeps the absolute error of its terms
    assert np.all(np.abs(found - expected) <= 2e-13 * np.maximum(np.abs(expected), np.maximum(1, np.abs(a + b))))
    terms = np.abs([scipy.special.gammaln(v) for v in (a, b, a + b)]).max(axis=0)
    found = np.array([betaln(u, v) for u, v in zip(a, b, strict=True)])
    assert np.all(np.abs(found - scipy.special.betaln(a, b)) <= 4e-15 * np.maximum(1, terms))


def test_exponential_of_what_is_not_positive():
    random = np.random.default_rng(3)
    x = -np.abs(random.normal(size=5000)) * 10 ** random.uniform(-6, 2.7, 5000)
    x = x[x > -700]
    np.testing.assert_allclose([exp_below(v) for v in x], np.exp(x), rtol=4e-16)
    assert exp_below(0.0) == 1.0
    assert exp_below(-800.0) == exp_below(-np.inf) == 0.0
    assert np.isnan(exp_below(np.nan))
