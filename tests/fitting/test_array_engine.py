"""Users' functions as formulas, compiled as they are, and on arrays: all give the same, or lmfit takes over."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any

import lmfit
import numpy as np
import pytest
import scipy.special
import xarray as xr
from lmfit import models

import scanfold as sf
from scanfold.conventions import InputError, provenance
from scanfold.fitting import Stages
from scanfold.fitting.compiled import _user_leaf
from scanfold.fitting.components import take_apart
from scanfold.testing import peak_scan

from .oracle import assert_agrees, fit_each

X = np.linspace(0.1, 10, 60)


def formula(x, height, center, width, base):
    return height * np.exp(-(((x - center) / width) ** 2)) + base


def compilable(x, height, center, width, base):
    if width == 0.0:
        return base + 0.0 * x
    return height * np.exp(-(((x - center) / width) ** 2)) + base


def python_only(x, height, center, width, base):
    terms = {"peak": height * np.exp(-(((x - center) / width) ** 2)), "base": base, "note": f"{1!r}"}
    return terms["peak"] + np.asarray(terms["base"])


START = {"height": 8.0, "center": 5.2, "width": 1.3, "base": 1.5}


@pytest.fixture(scope="module")
def scan() -> xr.DataArray:
    random = np.random.default_rng(70)
    rows = [formula(X, 9 + i % 3, 4.6 + 0.01 * i, 1.0, 2.0) for i in range(150)]  # more than one round of rows
    values = np.array(rows) + 0.2 * random.standard_normal((150, X.size))
    return xr.DataArray(values, dims=("position", "x"), coords={"x": X})


def engine_of(fits: xr.Dataset) -> str:
    return str(provenance(fits)["options"]["engine"])


def all_ways(data: xr.DataArray, params: Any = START, **options: Any) -> list[xr.Dataset]:
    """Fit the same function on arrays, compiled as it is, and as a formula."""
    options = {"guess": "params", **options}
    functions = (python_only, compilable, formula)
    fits = [sf.fit(data, f, params, dim="x", engine="batch", **options) for f in functions]
    assert [engine_of(f) for f in fits] == ["array", "compiled", "compiled"]
    return [f.compute() for f in fits]


def test_which_function_is_taken_how():
    for function, differences in ((compilable, True), (formula, False)):
        components, _ = take_apart(lmfit.Model(function), X)
        assert _user_leaf(components[0]).differences is differences


def assert_same(array: xr.Dataset, compiled: xr.Dataset) -> None:
    """Compare at the minimum, which both reach to 1e-6 standard errors, along paths of their own differences."""
    assert set(array.data_vars) == set(compiled.data_vars)
    np.testing.assert_array_equal(array["status"], compiled["status"])
    np.testing.assert_array_equal(array["n_used"], compiled["n_used"])
    for name in START:
        error = compiled[f"{name}_stderr"]
        good = error > 0
        assert bool((np.abs(array[name] - compiled[name])[good] < 1e-6 * error[good]).all()), name
        np.testing.assert_allclose(array[f"{name}_stderr"], error, rtol=1e-5)
    for name in ("chisqr", "redchi"):
        np.testing.assert_allclose(array[name], compiled[name], rtol=1e-9, err_msg=name)
    # Not what a Poisson fit minimises: it changes in proportion to the parameters, not to their squares.
    np.testing.assert_allclose(array["rsquared"], compiled["rsquared"], rtol=1e-7)
    for name in ("aic", "bic"):  # n·ln(χ²/n): a relative error of χ² is an absolute one, n times as large
        np.testing.assert_allclose(array[name], compiled[name], rtol=0, atol=60e-9, err_msg=name)


GAPPY = {"how": lambda d: d.where(np.random.default_rng(71).random(d.shape) > 0.15)}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "weights": {"weights": 1 / (0.1 + 0.02 * X)},
    "counts": {"weights": "counts"},
    "poisson": {"likelihood": "poisson"},
    "covariance": {"covariance": True},
    "stages": {"stages": Stages({"height": "height", "all": "all"}, keep=True)},
    "from the mean": {"guess": "mean"},
    "bounds": {"params": {**START, "height": {"value": 8, "min": 0, "max": 9.5}, "base": {"value": 1.5, "min": 0}}},
    "expression": {"params": {**START, "base": {"expr": "2*width"}, "area": {"expr": "height*width*sqrt(pi)"}}},
    "fixed": {"params": {**START, "width": {"value": 1.0, "vary": False}}},
    "own starts": {"params": {**START, "center": xr.DataArray(np.linspace(4.4, 6.0, 150), dims="position")}},
    "far starts, retried": {"params": {**START, "center": 3.0, "width": 2.0}, "weights": np.full(X.size, 5.0)},
}


@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])
@pytest.mark.parametrize("kind", OPTIONS)
def test_all_ways_give_the_same(scan: xr.DataArray, kind: str, gaps: bool):
    options = dict(OPTIONS[kind])
    data = scan
    if options.get("likelihood") == "poisson":
        data = xr.DataArray(np.random.default_rng(72).poisson(scan.clip(min=0)), dims=scan.dims, coords=scan.coords)
    if gaps:
        data = data.where(np.random.default_rng(71).random(data.shape) > 0.15)
        data.values[7] = np.nan
        data.values[8, 3] = np.inf
    array, compiled, written = all_ways(data, options.pop("params", START), **options)
    assert_same(array, compiled)
    assert_same(array, written)


def test_a_fit_cut_short_is_at_the_same_place(scan: xr.DataArray):
    array, *others = all_ways(scan, max_nfev=3, retry=False)
    for other in others:
        for name in ("status", "nfev", "n_used"):
            np.testing.assert_array_equal(array[name], other[name])
        for name in START:
            # A compiled function has not come to its central differences: the paths agree as forward ones allow.
            np.testing.assert_allclose(array[name], other[name], rtol=1e-6, err_msg=name)


def test_a_position_where_the_function_is_nan_spoils_no_other(scan: xr.DataArray):
    power = xr.DataArray(np.where(np.arange(150) == 130, -1.0, 1.0), dims="position")

    def rooted(x, height, center, width, base, power):
        return python_only(x, height, center, width, base) + 0 * np.sqrt(power)

    def run(values: xr.DataArray) -> xr.Dataset:
        params = {**START, "power": {"value": values, "vary": False}}
        return sf.fit(scan, rooted, params, dim="x", engine="batch", guess="params").compute()

    fits, clean = run(power), run(xr.ones_like(power))
    others = np.arange(150) != 130
    for name in fits.data_vars:
        np.testing.assert_array_equal(fits[name][others], clean[name][others], err_msg=str(name))
    assert int(fits["status"][130]) == sf.fitting.STATUS["invalid_model"]


# ---- which functions ------------------------------------------------------------------------


def make_closure() -> Callable[..., Any]:
    table = {"scale": 2.0}

    def scaled(x, a, k):
        return table["scale"] * a * np.exp(-k * x)

    return scaled


class Instrument:
    """A model that is a method, with settings of its own."""

    def __init__(self, offset: float):
        self.offset = offset

    def response(self, x, a, k):
        return self.offset + a * np.exp(-k * x)


def with_option(x, a, k, *, kind="plain", power=1.0):
    return a * np.exp(-k * x**power) if kind == "plain" else a / (1 + k * x)


def with_object_option(x, a, k, shape=None):
    return (shape or np.exp)(-k * x) * a


def option_between(x, a, shape=None, k=1.0, *, floor=0.0):
    return (shape or np.exp)(-k * x) * a + floor


def keyword_only(x, a, *, k):
    return np.where(x < 0, a, a * np.exp(-k * x))


class Decay:
    """A model that is an object."""

    def __call__(self, x, a, k):
        return a * np.exp(-k * x)


def bessel(x, a, k):
    return a * scipy.special.j0(k * x)


def faddeeva_profile(x, a, k):
    return a * scipy.special.wofz((x - 5) * k + 0.4j).real


def callback(x, a, k):
    return a * np.vectorize(lambda v: v)(np.exp(-k * x))


def exponential(x, a, k):
    return a * np.exp(-k * x)


def hyperbola(x, a, k):
    return a / (1 + k * x)


#: What is fitted and, where lmfit cannot take it as it is, what it is in plain words.
FUNCTIONS: dict[str, Any] = {
    "scipy.special": lambda: bessel,
    "scipy, complex inside": lambda: faddeeva_profile,
    "closure over a dict": make_closure,
    "partial": lambda: (functools.partial(with_option, kind="hyperbola"), hyperbola),
    "option left out": lambda: (with_option, exponential),
    "option between parameters": lambda: (option_between, exponential),
    "keyword-only parameter": lambda: (keyword_only, exponential),
    "callable object": lambda: (Decay(), exponential),
    "method": lambda: Instrument(0.5).response,
    "Model with options": lambda: (lmfit.Model(with_option, kind="hyperbola"), hyperbola),
    "Model with an object": lambda: lmfit.Model(with_object_option, shape=scipy.special.expit),
    "vectorize": lambda: callback,
    "composite of both": lambda: lmfit.Model(bessel) + models.ConstantModel(),
    "composite, prefixed": lambda: lmfit.Model(bessel, prefix="b_") * models.ConstantModel(prefix="c_"),
}


def takes(function: Any, name: str) -> bool:
    return name in inspect.signature(function.func if isinstance(function, lmfit.Model) else function).parameters


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_functions_of_all_kinds_against_lmfit(kind: str):
    made = FUNCTIONS[kind]()
    function, plain = made if isinstance(made, tuple) else (made, made)
    model = plain if isinstance(plain, lmfit.Model) else lmfit.Model(plain)
    truth = {n: {"a": 3.0, "k": 0.7, "c": 1.0}[n[-1]] for n in model.param_names}
    params = model.make_params(**truth)
    if "c_c" in params:
        params["c_c"].vary = False
    curve = model.eval(params, x=X)
    values = curve + 0.02 * np.random.default_rng(73).standard_normal((3, X.size))
    data = xr.DataArray(values, dims=("position", "x"), coords={"x": X})
    for name in params:
        if params[name].vary:
            params[name].value *= 1.1
    expected = fit_each(model, data, params)
    given = {n: {"value": p.value, "vary": p.vary} for n, p in params.items()}
    given |= {n: {"value": v, "vary": False} for n, v in (("power", 1.0), ("floor", 0.0)) if takes(function, n)}
    for engine in ("auto", "lmfit"):
        fits = sf.fit(data, function, given, dim="x", engine=engine, guess="params", retry=False)
        assert (engine_of(fits) == "lmfit") == (engine == "lmfit")
        assert_agrees(fits.compute(), expected)


def one_number_at_a_time(x, a, k):
    return a * np.array([float(np.exp(-float(k) * v)) for v in np.asarray(x)], dtype=object).astype(float)


def looks_at_values(x, a, k):
    if {"positive": k > 0, "note": f"{1!r}"}["positive"]:
        return a * np.exp(-k * x)
    return a * x


def sums_over_the_axis(x, a, k):
    shape = {"s": np.exp(-k * x), "note": f"{1!r}"}["s"]
    return a * shape / shape.max()


@pytest.mark.parametrize("function", [one_number_at_a_time, looks_at_values, sums_over_the_axis])
def test_what_does_not_broadcast_goes_to_lmfit_and_says_why_once(
    function: Callable[..., Any], caplog: pytest.LogCaptureFixture
):
    values = 3 * np.exp(-0.7 * X) + 0.02 * np.random.default_rng(74).standard_normal((4, X.size))
    data = xr.DataArray(values, dims=("position", "x"), coords={"x": X}).chunk(position=1)
    with caplog.at_level(logging.WARNING, logger="scanfold"):
        fits = sf.fit(data, function, {"a": 2.5, "k": 0.6}, dim="x", guess="params")
        result = fits.compute(scheduler="synchronous")
    said = [r.getMessage() for r in caplog.records if "lmfit" in r.getMessage()]
    assert len(said) == 1
    assert function.__name__ in said[0]
    assert engine_of(fits) == "lmfit"
    # broadcasting these would have mixed positions or failed
    expected = fit_each(lmfit.Model(function), data.compute(), lmfit.Model(function).make_params(a=2.5, k=0.6))
    assert_agrees(result, expected)
    with pytest.raises(InputError, match="engine='lmfit'"):
        sf.fit(data, function, {"a": 2.5, "k": 0.6}, dim="x", engine="batch")
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="scanfold"):
        sf.fit(data, function, {"a": 2.5, "k": 0.6}, dim="x", engine="lmfit")
    assert not caplog.records, "who asks for lmfit need not be told"


def test_compiled_and_array_engines_say_nothing(scan: xr.DataArray, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, logger="scanfold"):
        all_ways(scan[:3])
    assert not caplog.records


def test_chunks_change_nothing(scan: xr.DataArray):
    whole = sf.fit(scan, python_only, START, dim="x", engine="batch").compute()
    for size in (1, 37, 128):
        parts = sf.fit(scan.chunk(position=size), python_only, START, dim="x", engine="batch").compute()
        for name in whole.data_vars:
            np.testing.assert_array_equal(parts[name], whole[name], err_msg=f"{name} in chunks of {size}")


def test_composite_with_built_in_components(scan: xr.DataArray):
    def hump(x, base):
        return np.asarray({"b": base, "note": f"{1!r}"}["b"]) + 0 * x

    data, _ = peak_scan({"y": 2, "x": 3}, points=50, seed=75)
    plain = models.GaussianModel() + models.ConstantModel()
    mixed = models.GaussianModel() + lmfit.Model(hump)
    start = {"amplitude": 900, "center": 5, "sigma": 0.6}
    one = sf.fit(data, plain, {**start, "c": 30}, dim="energy", engine="batch", guess="params").compute()
    two = sf.fit(data, mixed, {**start, "base": 30}, dim="energy", engine="batch", guess="params")
    assert engine_of(two) == "array"
    for a, b in zip(("amplitude", "center", "sigma", "c"), ("amplitude", "center", "sigma", "base"), strict=True):
        assert bool((np.abs(one[a] - two.compute()[b]) < 1e-6 * one[f"{a}_stderr"]).all()), a
