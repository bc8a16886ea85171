"""Every built-in 1-D model of lmfit: `scanfold.fit` against `lmfit.Model.fit` called in a loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lmfit
import numpy as np
import pytest
import xarray as xr
from lmfit import models

import scanfold as sf
from scanfold.conventions import flags

from .cases import BUILTIN, LEFT_OUT, POSITIONS, Case, case, spread
from .oracle import assert_agrees, fit_each


def fit(data: xr.DataArray, model: Any, params: Any, engine: str = "batch", **options: Any) -> xr.Dataset:
    """Fit from the given starts alone, as the loop does."""
    return sf.fit(
        data, model, params, dim=data.dims[-1], engine=engine, guess="params", retry=False, **options
    ).compute()


def both(data: xr.DataArray, model: lmfit.Model, params: lmfit.Parameters, **options: Any) -> tuple[xr.Dataset, dict]:
    """Fit by the batch engine and by the loop."""
    weights = options.get("weights")
    return fit(data, model, params, **options), fit_each(model, data, params, None if weights is None else weights)


def status(fits: xr.Dataset) -> list[str]:
    names = {value: name for name, value in flags(fits["status"]).items()}
    return [names[int(v)] for v in fits["status"].values.ravel()]


def test_every_builtin_model_has_a_case():
    classes = {kind.__name__ for kind in models.lmfit_models.values()}
    assert classes == {c.name.split("(")[0] for c in BUILTIN} | set(LEFT_OUT)


@pytest.mark.parametrize("c", BUILTIN, ids=lambda c: c.name)
def test_builtin_model(c: Case):
    model = c.make()
    fits, expected = both(c.data(), model, c.params(model))
    assert_agrees(fits, expected)
    assert status(fits) == ["converged"] * POSITIONS


@pytest.mark.parametrize("name", ["GaussianModel", "VoigtModel", "ExpressionModel", "StepModel(erf)"])
def test_lmfit_engine_is_the_loop(name: str):
    c = case(name)
    model = c.make()
    data, params = c.data(), c.params(model)
    assert_agrees(fit(data, model, params, engine="lmfit"), fit_each(model, data, params))


def peak_on_line() -> tuple[lmfit.Model, lmfit.Parameters, xr.DataArray]:
    """Return a Gaussian on a line, its starts, and curves of it with a width that grows by position."""
    model = models.GaussianModel() + models.LinearModel()
    x = spread()
    random = np.random.default_rng(20)
    rows = [
        model.eval(model.make_params(amplitude=100, center=0.7 - i, sigma=1 + 0.2 * i, slope=0.3, intercept=20), x=x)
        for i in range(4)
    ]
    data = xr.DataArray(rows + 0.5 * random.standard_normal((4, x.size)), dims=("position", "x"), coords={"x": x})
    return model, model.make_params(amplitude=80, center=0, sigma=1.5, slope=0, intercept=15), data


BOUNDS: dict[str, dict[str, dict[str, float]]] = {
    "min": {"amplitude": {"min": 10}, "intercept": {"min": 0}},
    "max": {"amplitude": {"max": 400}, "center": {"max": 5}},
    "both": {"amplitude": {"min": 10, "max": 400}, "center": {"min": -8, "max": 8}, "sigma": {"min": 0.1, "max": 9}},
}


@pytest.mark.parametrize("kind", BOUNDS)
def test_bounds(kind: str):
    model, params, data = peak_on_line()
    for name, bounds in BOUNDS[kind].items():
        params[name].set(**bounds)
    assert_agrees(*both(data, model, params))


@pytest.mark.parametrize("bound", [{"min": 1.1}, {"max": 1.1}, {"min": 1.1, "max": 1.3}])
def test_active_bound_holds_and_is_flagged(bound: dict[str, float]):
    model, params, data = peak_on_line()
    params["sigma"].set(value=1.15 if "min" in bound else 1.0, **bound)
    truth = np.array([1.0, 1.2, 1.4, 1.6])
    low, high = bound.get("min", -np.inf), bound.get("max", np.inf)
    outside = (truth < low - 0.05) | (truth > high + 0.05)
    fits, expected = both(data, model, params)
    assert np.all((fits["sigma"] >= low - 1e-12) & (fits["sigma"] <= high + 1e-12))
    np.testing.assert_allclose(fits["chisqr"], expected["chisqr"], rtol=1e-6)
    np.testing.assert_allclose(fits["sigma"].values[outside], np.clip(truth, low, high)[outside], atol=1e-4)
    assert [s == "at_bound" for s in status(fits)] == list(outside)


def test_start_in_the_middle_of_its_bounds():
    # lmfit's inner value is 0 there, so a difference step relative to it vanishes: lmfit itself stays at the start
    model, params, data = peak_on_line()
    params["sigma"].set(value=1.2, min=1.1, max=1.3)
    fits = fit(data, model, params)
    params["sigma"].set(value=1.17)
    np.testing.assert_allclose(fits["chisqr"], fit_each(model, data, params)["chisqr"], rtol=1e-6)


def test_bounds_per_position():
    model, params, data = peak_on_line()
    centers = xr.DataArray([0.7, -0.3, -1.3, -2.3], dims="position")
    fits = fit(
        data,
        model,
        {
            "amplitude": 80,
            "center": {"value": centers + 0.2, "min": centers - 1, "max": centers + 1},
            "sigma": {"value": 1.5, "min": 0},
            "slope": 0,
            "intercept": 15,
        },
    )

    def start(i: int) -> lmfit.Parameters:
        own = params.copy()
        own["center"].set(value=float(centers[i]) + 0.2, min=float(centers[i]) - 1, max=float(centers[i]) + 1)
        return own

    assert_agrees(fits, fit_each(model, data, start))


EXPRESSIONS = {
    "equal": {"b_sigma": "a_sigma"},
    "shifted": {"b_center": "a_center + 5"},
    "ratio": {"b_amplitude": "a_amplitude / 2"},
    "functions": {"b_sigma": "sqrt(a_sigma**2 + 0.1)", "b_amplitude": "a_amplitude * exp(-0.7)"},
    "conditional": {"b_sigma": "max(a_sigma, 0.5)"},
}


@pytest.mark.parametrize("kind", EXPRESSIONS)
def test_expressions_tie_parameters(kind: str):
    model = models.GaussianModel(prefix="a_") + models.GaussianModel(prefix="b_") + models.ConstantModel()
    truth = dict(a_amplitude=50, a_center=-2, a_sigma=1, b_amplitude=25, b_center=3, b_sigma=1, c=4)
    c = Case(kind, lambda: model, spread(), truth, dict(a_amplitude=40, a_center=-1.7, a_sigma=1.3, c=2))
    params = c.params(model)
    for name, expr in EXPRESSIONS[kind].items():
        params[name].set(expr=expr)
    assert_agrees(*both(c.data(), model, params))


def test_expression_of_expressions():
    model = models.GaussianModel(prefix="a_") + models.GaussianModel(prefix="b_")
    truth = dict(a_amplitude=50, a_center=-2, a_sigma=1, b_amplitude=25, b_center=3, b_sigma=1)
    c = Case("chain", lambda: model, spread(), truth, dict(a_amplitude=40, a_center=-1.7, a_sigma=1.3))
    params = c.params(model)
    params["b_sigma"].set(expr="a_sigma")
    params["b_amplitude"].set(expr="0.5 * a_amplitude * b_sigma / a_sigma")
    fits, expected = both(c.data(), model, params)
    # lmfit propagates errors through one expression at a time, with the others at their values, so that its error of
    # b_height (of b_amplitude and b_sigma, both expressions) is wrong by 2.4 here: b_height is half of a_height
    np.testing.assert_allclose(fits["b_height_stderr"], expected.pop("a_height_stderr") / 2, rtol=0.01)
    expected.pop("b_height_stderr")
    assert_agrees(fits, expected)


def test_expression_with_a_parameter_the_model_lacks():
    model = models.GaussianModel(prefix="a_") + models.GaussianModel(prefix="b_")
    truth = dict(a_amplitude=50, a_center=-2, a_sigma=1, b_amplitude=25, b_center=3, b_sigma=1)
    c = Case("extra", lambda: model, spread(), truth, dict(a_amplitude=40, a_center=-1.7, a_sigma=1.3))
    params = c.params(model)
    params.add("split", value=4.5, min=0)
    params["b_center"].set(expr="a_center + split")
    fits, expected = both(c.data(), model, params)
    assert "split" in fits
    assert_agrees(fits, expected)


def test_fixed_parameters_keep_their_value():
    model, params, data = peak_on_line()
    params["slope"].set(value=0.3, vary=False)
    params["intercept"].set(value=19.5, vary=False)
    fits, expected = both(data, model, params)
    assert_agrees(fits, expected)
    np.testing.assert_array_equal(fits["intercept"], 19.5)


def test_weights_along_the_spectrum_and_per_point():
    model, params, data = peak_on_line()
    along = 1 / (0.5 + 0.02 * np.arange(data.x.size))
    expected = fit_each(model, data, params, along)
    assert_agrees(fit(data, model, params, weights=along), expected)
    assert_agrees(fit(data, model, params, weights=xr.DataArray(along, dims="x", coords={"x": data.x})), expected)
    full = along * np.array([[1.0], [2.0], [0.5], [3.0]])
    assert_agrees(fit(data, model, params, weights=data.copy(data=full)), fit_each(model, data, params, full))


def test_counts_weights():
    model, params, data = peak_on_line()
    counts = xr.DataArray(np.random.default_rng(3).poisson(data.clip(min=0)), dims=data.dims, coords=data.coords)
    weights = 1 / np.sqrt(np.maximum(counts.values, 1))
    expected = fit_each(model, counts.astype(float), params, weights)
    assert_agrees(fit(counts, model, params, weights="counts"), expected)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("weighted", [False, True])
def test_gaps_are_left_out_per_position(bad: float, weighted: bool):
    model, params, data = peak_on_line()
    holes = np.random.default_rng(4).random(data.shape) < np.array([[0.0], [0.1], [0.4], [0.01]])
    gappy = data.where(~holes, bad)
    weights = 1 / (0.5 + 0.02 * np.arange(data.x.size)) if weighted else None
    fits, expected = both(gappy, model, params, weights=weights)
    assert_agrees(fits, expected)
    np.testing.assert_array_equal(fits["n_used"], (~holes).sum(axis=1))


def _compose(make: Callable[[], lmfit.Model], truth: dict[str, float], start: dict[str, float], **hints: Any) -> Case:
    return Case("composite", make, spread(low=0.5, high=20), truth, start, hints)


def _gauss(prefix: str) -> lmfit.Model:
    return models.GaussianModel(prefix=prefix)


PAIR = dict(a_amplitude=50, a_center=7, a_sigma=1.2, b_amplitude=20, b_center=12, b_sigma=2)
PAIR_START = dict(a_amplitude=40, a_center=7.4, a_sigma=1.5, b_amplitude=15, b_center=12.5, b_sigma=1.7)
COMPOSITES = {
    "sum": _compose(lambda: _gauss("a_") + models.LorentzianModel(prefix="b_"), PAIR, PAIR_START),
    "difference": _compose(lambda: _gauss("a_") - _gauss("b_"), PAIR, PAIR_START),
    "product": _compose(
        lambda: models.ExponentialModel() * models.PolynomialModel(2),
        dict(amplitude=1, decay=5, c0=4, c1=1, c2=0.2),
        dict(decay=4.8, c0=3.5, c1=0.8, c2=0.18),
        amplitude={"vary": False},
    ),
    "quotient": _compose(
        lambda: models.LinearModel() / models.PolynomialModel(2),
        dict(slope=2, intercept=1, c0=1, c1=0.3, c2=0.05),
        dict(slope=1.5, intercept=0.5, c1=0.2, c2=0.04),
        c0={"vary": False},
    ),
    "nested": _compose(
        lambda: (
            (_gauss("a_") + models.LorentzianModel(prefix="b_")) * models.StepModel(prefix="s_", form="erf")
            - models.LinearModel() / models.ConstantModel()
        ),
        {**PAIR, "s_amplitude": 1, "s_center": 8, "s_sigma": 3, "slope": 0.3, "intercept": 1, "c": 2},
        {**PAIR_START, "s_center": 7.8, "slope": 0.2, "intercept": 1.5},
        s_amplitude={"vary": False},
        s_sigma={"vary": False},
        c={"vary": False},
    ),
    "same class, many": _compose(
        lambda: _gauss("a_") + _gauss("b_") + _gauss("c_") + models.ConstantModel(),
        {**PAIR, "c_amplitude": 30, "c_center": 17, "c_sigma": 1, "c": 3},
        {**PAIR_START, "c_amplitude": 25, "c_center": 16.7, "c_sigma": 1.2, "c": 2},
    ),
    "numpy operator": _compose(
        lambda: lmfit.CompositeModel(_gauss("a_"), models.ConstantModel(), np.maximum),
        {**{k: v for k, v in PAIR.items() if k[0] == "a"}, "c": 2.0},
        {"a_amplitude": 40, "a_center": 7.4, "a_sigma": 1.5, "c": 1.5},
    ),
}


@pytest.mark.parametrize("kind", COMPOSITES)
def test_composites(kind: str):
    c = COMPOSITES[kind]
    model = c.make()
    engine = "auto" if kind == "numpy operator" else "batch"
    assert_agrees(fit(c.data(), model, c.params(model), engine=engine), fit_each(model, c.data(), c.params(model)))


def decay_law(energy, strength, tau, floor=0.5, *, power=1.0):
    return strength * np.exp(-((energy / tau) ** power)) + floor


def clipped_line(t, slope, top):
    out = np.empty_like(t)
    for i in range(t.size):
        out[i] = min(slope * t[i], top)
    return out


FUNCTIONS = {
    "defaults and another name for x": (
        decay_law,
        dict(strength=5.0, tau=3.0, floor=1.0, power=1.2),
        dict(strength=4.0, tau=2.0, floor=0.8, power=1.0),
    ),
    "loop over points": (clipped_line, dict(slope=0.8, top=5.0), dict(slope=0.7, top=4.5)),
}


@pytest.mark.parametrize("kind", FUNCTIONS)
@pytest.mark.parametrize("wrapped", [False, True], ids=["function", "Model"])
def test_plain_functions(kind: str, wrapped: bool):
    function, truth, start = FUNCTIONS[kind]
    c = Case(kind, lambda: lmfit.Model(function), np.linspace(0.1, 10, 80), truth, start)
    model = c.make()
    expected = fit_each(model, c.data(), c.params(model))
    assert_agrees(fit(c.data(), model if wrapped else function, {**truth, **start}), expected)


def test_function_that_numba_cannot_compile_but_broadcasts():
    def tabulated(x, height, shift):
        table = {"knots": np.linspace(-12, 12, 25)}  # a dict of arrays, and interpolation by SciPy
        from scipy.special import j0

        return height * j0(x - shift) + 0 * table["knots"].sum()

    c = Case("scipy", lambda: lmfit.Model(tabulated), spread(), dict(height=3, shift=0.4), dict(height=2, shift=0.2))
    model = c.make()
    expected = fit_each(model, c.data(), c.params(model))
    assert_agrees(fit(c.data(), tabulated, dict(height=2, shift=0.2), engine="auto"), expected)


def test_derived_parameters_have_values_and_errors():
    c = case("GaussianModel")
    model = c.make()
    fits = fit(c.data(), model, c.params(model))
    np.testing.assert_allclose(fits["fwhm"], 2.35482 * fits["sigma"], rtol=1e-9)
    np.testing.assert_allclose(fits["fwhm_stderr"], 2.35482 * fits["sigma_stderr"], rtol=1e-3)


def test_covariance_is_lmfits():
    model, params, data = peak_on_line()
    params["slope"].set(value=0.3, vary=False)
    fits = fit(data, model, params, covariance=True)
    names = ["amplitude", "center", "sigma", "intercept"]
    covar = fits["covar"].transpose("position", "param_i", "param_j").sel(param_i=names, param_j=names)
    assert sorted(map(str, fits.param_i.values)) == sorted(names)
    for i in range(4):
        result = model.fit(data[i].values, params, x=data.x.values, fit_kws={"epsfcn": 0, "ftol": 1e-14, "xtol": 1e-14})
        order = [result.var_names.index(n) for n in names]
        error = np.sqrt(np.diag(result.covar))[order]
        np.testing.assert_allclose(
            covar[i] / np.outer(error, error), result.covar[np.ix_(order, order)] / np.outer(error, error), atol=0.01
        )


@pytest.mark.parametrize("weighted", [False, True])
def test_xarray_curvefit(weighted: bool):
    _, params, data = peak_on_line()

    def gaussian_on_line(x, amplitude, center, sigma, slope, intercept):
        height = amplitude / (sigma * np.sqrt(2 * np.pi))
        return height * np.exp(-((x - center) ** 2) / (2 * sigma**2)) + slope * x + intercept

    start = {name: float(params[name].value) for name in ("amplitude", "center", "sigma", "slope", "intercept")}
    # curve_fit takes sigma, one vector for all positions; lmfit's weights are 1/sigma, and both scale errors by redchi
    sigma = 0.5 + 0.02 * np.arange(data.x.size)
    options = {"xtol": 1e-14, "ftol": 1e-14, **({"sigma": sigma} if weighted else {})}
    reference = data.curvefit("x", gaussian_on_line, p0=start, kwargs=options)
    fits = fit(data, gaussian_on_line, start, weights=1 / sigma if weighted else None)
    for i, name in enumerate(start):
        error = np.sqrt(reference.curvefit_covariance[:, i, i])
        assert np.all(np.abs(fits[name] - reference.curvefit_coefficients[:, i]) < 1e-3 * error), name
        np.testing.assert_allclose(fits[f"{name}_stderr"], error, rtol=0.01)
