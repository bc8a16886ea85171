"""The compiled kernels one by one: values and derivatives of every leaf, bounds, polynomials, noise, the minimiser."""

from __future__ import annotations

import math
import warnings

import lmfit
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from lmfit import models

import scanfold as sf
from scanfold.fitting._fit_kernels import leaf_rows, touches_bound
from scanfold.fitting._lineshape_kernels import LEAVES
from scanfold.fitting._lm_kernels import to_external, to_internal
from scanfold.fitting._spectrum_kernels import noise_rows, polynomial_rows
from scanfold.fitting.compiled import address
from scanfold.fitting.components import Component, take_apart

from .cases import BUILTIN, Case, spread
from .oracle import assert_agrees, fit_each

AXIS = np.linspace(-5, 5, 40)
SINE = Case(
    "SineModel", models.SineModel, spread(), {"amplitude": 3.0, "frequency": 0.8, "shift": 0.4}, {"frequency": 0.75}
)
EXPSINE = Case(
    "expsine",
    lambda: lmfit.Model(lmfit.lineshapes.expsine),
    spread(low=0, high=10),
    {"amplitude": 3.0, "frequency": 0.8, "shift": 0.4, "decay": 0.3},
    {},
)
LOGISTIC = Case(
    "logistic",
    lambda: lmfit.Model(lmfit.lineshapes.logistic),
    spread(),
    {"amplitude": 3.0, "center": 0.8, "sigma": 1.4},
    {},
)
CASES = [*BUILTIN, SINE, EXPSINE, LOGISTIC]


def component_of(case: Case) -> tuple[lmfit.Model, Component]:
    model = case.make()
    (component,), _ = take_apart(model, case.x)
    return model, component


def leaf(component: Component, x: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the values (N, n) and derivatives (N, k, n) of a leaf for parameters (N, k)."""
    y, jac = np.empty((len(values), x.size)), np.empty((len(values), values.shape[1], x.size))
    leaf_rows(address(component), x, values, component.aux, y, jac)
    return y, jac


def by_lmfit(model: lmfit.Model, component: Component, x: np.ndarray, values: np.ndarray) -> np.ndarray:
    names = [n.removeprefix(model.prefix) for n in component.names]
    fixed = {k: v for k, v in model.opts.items() if k == "form"}
    rows = []
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for row in values:
            arguments = dict(zip(names, row, strict=True))
            if isinstance(model, models.ExpressionModel):
                curve = model.eval(**arguments, x=x.copy())
            else:
                curve = model.func(x.copy(), **arguments, **fixed)
            rows.append(np.broadcast_to(np.asarray(curve, float), x.shape))
    return np.array(rows)


def draws(case: Case, component: Component, count: int = 12) -> np.ndarray:
    """Draw parameters about the true ones."""
    # Voigt's gamma is tied to sigma in lmfit's hints, and on its own here
    truth = np.array([case.truth.get(n, 0.8) for n in component.names])
    random = np.random.default_rng([len(case.name), *case.name.encode()])
    return truth * random.uniform(0.75, 1.25, (count, truth.size))


def test_every_leaf_is_tested():
    leaves = {component_of(case)[1].leaf for case in CASES}
    assert leaves == set(LEAVES)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_values_are_lmfits(case: Case):
    model, component = component_of(case)
    values = draws(case, component)
    expected = by_lmfit(model, component, case.x, values)
    found, _ = leaf(component, case.x, values)
    np.testing.assert_allclose(found, expected, rtol=2e-12, atol=1e-13 * np.abs(expected).max())


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_derivatives_are_those_of_lmfits_functions(case: Case):
    model, component = component_of(case)
    values = draws(case, component)
    _, jac = leaf(component, case.x, values)
    # seventh-order central differences: their error is far below that of the second-order ones of a leaf, 1e-10
    stencil = {1: 3 / 4, 2: -3 / 20, 3: 1 / 60}
    for j in range(values.shape[1]):
        h = 1e-3 * np.abs(values[:, j])
        expected = np.zeros(jac[:, j].shape)
        for distance, weight in stencil.items():
            for sign in (1, -1):
                moved = values.copy()
                moved[:, j] += sign * distance * h
                expected += sign * weight * by_lmfit(model, component, case.x, moved)
        expected /= h[:, None]
        # where the function has a kink in this parameter a difference across it is no derivative
        smooth = _smooth(case, component, values, 3.1 * h, j)
        scale = np.abs(expected).max(axis=1, keepdims=True)
        off = np.where(smooth, np.abs(jac[:, j] - expected) / scale, 0)
        assert off.max() < 1e-8, (component.names[j], off.max())
        assert smooth.mean() > 0.9


def _smooth(case: Case, component: Component, values: np.ndarray, reach: np.ndarray, j: int) -> np.ndarray:
    """Say which points (N, n) are farther from every kink of the function than a difference reaches."""
    kinks: list[np.ndarray] = []
    p = dict(zip(component.names, values.T, strict=True))
    if component.leaf == "split_lorentzian":
        kinks = [p["center"]]
    elif case.name == "StepModel(linear)":
        kinks = [p["center"] - p["sigma"] / 2, p["center"] + p["sigma"] / 2]
    elif case.name == "RectangleModel(linear)":
        kinks = [p[f"center{i}"] + s * p[f"sigma{i}"] for i in (1, 2) for s in (1, -1)]
    smooth = np.ones((len(values), case.x.size), bool)
    for kink in kinks:
        smooth &= np.abs(case.x - kink[:, None]) > reach[:, None]
    return smooth


@pytest.mark.parametrize("kind", [models.VoigtModel, models.SkewedVoigtModel])
def test_a_component_has_all_parameters_of_its_leaf_inside_a_composite(kind: type[lmfit.Model]):
    # lmfit's composites do not count gamma among the parameters of their Voigt components: its default is None
    model = kind(prefix="v_") + models.LinearModel()
    components, _ = take_apart(model, AXIS)
    assert "v_gamma" in components[0].names
    start = dict(v_amplitude=8.0, v_center=0.2, v_sigma=1.0, slope=0.0, intercept=1.0)
    params = model.make_params(**start)
    truth = model.make_params(v_amplitude=10, v_center=0.5, v_sigma=1.2, slope=0.1, intercept=2, **{
        n: 0.8 for n in model.param_names if n.endswith("skew")
    })  # fmt: skip
    random = np.random.default_rng(49)
    rows = model.eval(truth, x=AXIS) + 0.01 * random.standard_normal((3, AXIS.size))
    data = xr.DataArray(rows, dims=("position", "x"), coords={"x": AXIS})
    for tied in (True, False):
        params["v_gamma"].set(value=0.7, vary=True, expr="v_sigma" if tied else "")
        fits = sf.fit(data, kind(prefix="v_") + models.LinearModel(), params, dim="x", engine="batch", guess="params")
        assert_agrees(fits.compute(), fit_each(model, data, params))


def test_lmfits_voigt_as_a_plain_function_has_its_gamma_tied():
    data = xr.DataArray([lmfit.lineshapes.voigt(AXIS, 10.0, 0.5, 1.2)], dims=("position", "x"), coords={"x": AXIS})
    start = {"amplitude": 8, "center": 0.2, "sigma": 1}
    model = lmfit.Model(lmfit.lineshapes.voigt, independent_vars=["x"], param_names=list(start))
    fits = sf.fit(data, model, start, dim="x", guess="params").compute()
    np.testing.assert_allclose([fits[n][0] for n in start], [10, 0.5, 1.2], rtol=1e-6)


PEAKS = ("gaussian", "lorentzian", "split_lorentzian", "voigt", "pvoigt", "moffat", "pearson7", "breit_wigner",
         "expgaussian", "skewed_gaussian", "skewed_voigt", "doniach", "students_t", "logistic", "step")  # fmt: skip


@pytest.mark.parametrize("name", PEAKS)
@pytest.mark.parametrize("width", [1e-5, 1.0, 1e5])
def test_values_at_the_centre_in_far_tails_and_for_extreme_widths(name: str, width: float):
    case = next(c for c in CASES if component_of(c)[1].leaf == name)
    model, component = component_of(case)
    truth = {**case.truth, **{n: width * v for n, v in case.truth.items() if n.startswith("sigma")}}
    if name == "students_t":  # sigma is a number of degrees of freedom, not a width
        truth = dict(case.truth)
    values = np.array([[truth.get(n, width) for n in component.names]])
    center = truth["center"]
    x = center + np.array([0, 1e-300, -1e-9, 1e-4, -1.0, 30.0, -1e3, 1e8, -1e8])
    expected = by_lmfit(model, component, x, values)[0]
    found = leaf(component, x, values)[0][0]
    # lmfit's expgaussian is inf·0 for a wide peak
    usable = np.isfinite(expected)
    assert usable.sum() >= (0 if (name, width) == ("expgaussian", 1e5) else 7)
    # x - center loses digits where they nearly cancel; a power or an exponential of the rest multiplies that
    np.testing.assert_allclose(found[usable], expected[usable], rtol=1e-9, atol=1e-300)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("sigma", [0.0, 1e-300, -1.0])
@pytest.mark.parametrize("name", ["gaussian", "lorentzian", "split_lorentzian", "voigt", "pvoigt", "moffat"])
def test_no_width_is_no_crash(name: str, sigma: float):
    case = next(c for c in CASES if component_of(c)[1].leaf == name)
    _, component = component_of(case)
    truth = {**case.truth, **{n: sigma for n in case.truth if n.startswith("sigma")}}
    y, jac = leaf(component, np.array([-1.0, 0.0, 2.0]), np.array([[truth.get(n, 0.8) for n in component.names]]))
    assert np.isfinite(y).all()
    assert np.isfinite(jac).all()


def test_thermal_distributions_at_their_pole_and_where_exp_overflows():
    x = np.array([0.5, 0.5 + 1e-12, 800.0, -800.0, 1e4])
    for name in ("ThermalDistributionModel(fermi)", "FermiModel", "LorentzianModel"):
        case = next(c for c in CASES if c.name == name)
        model, component = component_of(case)
        truth = {**case.truth, "center": 0.5} | ({"kt": 0.7} if "kt" in case.truth else {})
        values = np.array([[truth[n] for n in component.names]])
        expected = by_lmfit(model, component, x, values)
        np.testing.assert_allclose(leaf(component, x, values)[0], expected, rtol=1e-12, atol=1e-300)


# ---- bounds --------------------------------------------------------------------------------

BOUNDS = [(-np.inf, np.inf), (2.0, np.inf), (-np.inf, 5.0), (2.0, 5.0), (-1e6, 1e6), (0.0, 1e-9)]
fractions = st.floats(1e-3, 1 - 1e-3)


def inside(fraction: float, low: float, high: float) -> float:
    if np.isfinite(low) and np.isfinite(high):
        return low + fraction * (high - low)
    return low + 10 * fraction if np.isfinite(low) else high - 10 * fraction if np.isfinite(high) else 10 * fraction - 5


@given(st.sampled_from(BOUNDS), fractions)
def test_bounds_there_and_back_and_as_lmfit(bounds: tuple[float, float], fraction: float):
    low, high = bounds
    value = inside(fraction, low, high)
    theta = to_internal(value, low, high)
    back, slope, _ = to_external(theta, low, high)
    scale = abs(value) + (high - low if np.isfinite(high - low) else 1)
    assert abs(back - value) < 1e-13 * scale
    parameter = lmfit.Parameter("p", value=value, min=low, max=high)
    assert theta == pytest.approx(parameter.setup_bounds(), rel=1e-9, abs=1e-9)
    assert parameter.from_internal(theta) == pytest.approx(back, rel=1e-12, abs=1e-13 * scale)
    assert slope == pytest.approx(float(parameter.scale_gradient(theta)), rel=1e-9, abs=1e-12 * scale)


@given(st.sampled_from(BOUNDS), st.floats(-1e4, 1e4))
def test_every_internal_value_is_inside(bounds: tuple[float, float], theta: float):
    low, high = bounds
    value, slope, _ = to_external(theta, low, high)
    assert low <= value <= high
    h = 1e-4 * max(1, abs(theta))
    difference = (to_external(theta + h, low, high)[0] - to_external(theta - h, low, high)[0]) / (2 * h)
    if not (np.isfinite(low) and np.isfinite(high)) or h < 1e-3:
        scale = (high - low) if np.isfinite(high - low) else 1
        assert slope == pytest.approx(difference, rel=1e-5, abs=1e-6 * scale)


@pytest.mark.parametrize(("low", "high"), BOUNDS[1:])
def test_a_start_on_a_bound_or_outside_is_moved_inside(low: float, high: float):
    width = min(high - low, 1.0)
    for value in (low, high, low - width, high + width):
        if np.isfinite(value):
            moved, slope, _ = to_external(to_internal(value, low, high), low, high)
            assert low < moved < high or moved in (low, high)
            assert slope != 0, "a start whose variable has no slope stays where it is"


def test_a_start_near_a_bound_of_a_wide_range_stays_where_it_is():
    assert to_external(to_internal(1000.0, 1.0, 5e8), 1.0, 5e8)[0] == pytest.approx(1000.0, rel=1e-9)


@pytest.mark.parametrize(
    ("value", "start", "low", "high", "expected"),
    [
        (2.0, 3, 2, 5, True), (5.0, 3, 2, 5, True), (2 + 1e-9, 3, 2, 5, True), (2.01, 3, 2, 5, False),
        (2.0, 3, 2, np.inf, True), (2 + 1e-9, 3, 2, np.inf, True), (2.01, 3, 2, np.inf, False),
        (1e-12, 1e-3, 0, np.inf, True), (1e-6, 1e-3, 0, np.inf, False), (5.0, 3, -np.inf, 5, True),
        (4.99, 3, -np.inf, 5, False), (0.0, 1, -np.inf, np.inf, False), (1e300, 1, -np.inf, np.inf, False),
        (np.nan, 1, 0, 1, False), (1e-12, 1e-12, 0, np.inf, False),
        (300.0, 1000, 1, 5e8, False), (1.0, 1000, 1, 5e8, True), (1 + 1e-4, 1000, 1, 5e8, True),
        (5e8 - 1e3, 1000, 1, 5e8, False), (5e8 - 1.0, 1000, 1, 5e8, True), (1e-9, 100, 0, 1e6, True),
    ],
)  # fmt: skip
def test_touches_bound(value: float, start: float, low: float, high: float, expected: bool):
    assert touches_bound(float(value), float(start), float(low), float(high)) == expected


# ---- what is said of one spectrum ----------------------------------------------------------


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("terms", [1, 2, 3, 5])
def test_polynomial_cost_is_that_of_numpy(terms: int, weighted: bool, gaps: bool):
    random = np.random.default_rng(50)
    u, data = np.linspace(-1, 1, 40), random.standard_normal((6, 40)) + np.linspace(0, 30, 40)
    weights = random.uniform(0.5, 2, data.shape) if weighted else np.empty((6, 0))
    keep = random.random(data.shape) > 0.3 if gaps else np.empty((6, 0), bool)
    if gaps:
        data[~keep] = 1e30  # what is left out is not looked at
    out = np.empty(6)
    polynomial_rows(u, data, weights, keep, terms, False, out)
    for r in range(6):
        k = keep[r] if gaps else np.ones(40, bool)
        w = weights[r][k] if weighted else None
        fit = np.polynomial.Polynomial.fit(u[k], data[r][k], terms - 1, w=w, domain=[-1, 1])
        residual = (data[r][k] - fit(u[k])) * (1 if w is None else w)
        assert out[r] == pytest.approx(np.sum(residual**2), rel=1e-9)


def test_polynomial_deviance_is_the_lowest():
    random = np.random.default_rng(51)
    u = np.linspace(-1, 1, 50)
    data = random.poisson(20 + 8 * u + 5 * u**2, (5, 50)).astype(float)
    out = np.empty(5)
    polynomial_rows(u, data, np.empty((5, 0)), np.empty((5, 0), bool), 3, True, out)
    scan = xr.DataArray(data, dims=("position", "x"), coords={"x": u})
    fits = sf.fit(scan, models.QuadraticModel(), {"a": 1, "b": 1, "c": 15}, dim="x", likelihood="poisson").compute()
    np.testing.assert_allclose(out, fits["chisqr"], rtol=1e-9)


@pytest.mark.parametrize("sigma", [1e-9, 1.0, 1e6])
def test_noise_estimate_on_white_noise(sigma: float):
    random = np.random.default_rng(52)
    data = sigma * random.standard_normal((4000, 200))
    out = np.empty(4000)
    noise_rows(data, np.empty((4000, 0), bool), out)
    found = np.sqrt(out) / sigma
    # unbiased to the 1 % of a median of 198 values; a single estimate scatters by 8 %: 1.17/sqrt(2·198) for a median
    # of absolute values, and about a half more since neighbouring differences share points
    assert abs(found.mean() - 1) < 0.01
    assert 0.05 < found.std() < 0.11


def test_noise_estimate_is_blind_to_smooth_curves_gaps_and_outliers():
    random = np.random.default_rng(53)
    x = np.linspace(0, 10, 300)
    curve = 500 * np.exp(-((x - 5) ** 2)) + 30 * x + 100
    noise = random.standard_normal((2000, 300))
    empty = np.empty((2000, 0), bool)

    def mean_sigma(data: np.ndarray, keep: np.ndarray) -> float:
        out = np.empty(len(data))
        noise_rows(data, keep, out)
        return float(np.sqrt(out).mean())

    plain = mean_sigma(noise, empty)
    assert mean_sigma(curve + noise, empty) == pytest.approx(plain, rel=0.1)
    spoiled = noise.copy()
    spoiled[:, 50:300:60] += 1e6
    assert mean_sigma(spoiled, empty) == pytest.approx(plain, rel=0.1)
    keep = random.random(noise.shape) > 0.2
    assert mean_sigma(np.where(keep, noise, 1e9), keep) == pytest.approx(1, rel=0.02)


def test_noise_estimate_of_too_few_points_is_nan():
    out = np.empty(2)
    keep = np.zeros((2, 30), bool)
    keep[0, ::2] = True  # no three points in a row
    noise_rows(np.ones((2, 30)), keep, out)
    assert np.isnan(out).all()


# ---- the minimiser -------------------------------------------------------------------------

PARAMETERS = ("amplitude", "center", "sigma", "slope", "intercept")


@given(
    st.tuples(st.floats(-50, 50), st.floats(-8, 8), st.floats(0.05, 20), st.floats(-5, 5), st.floats(-50, 50)),
    st.integers(0, 1000),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=60)
def test_never_a_higher_cost_than_that_of_the_start(start: tuple[float, ...], seed: int, bounded: bool, poisson: bool):
    random = np.random.default_rng(seed)
    model = models.LorentzianModel() + models.LinearModel()
    data = random.poisson(random.uniform(1, 60, AXIS.size) if seed % 2 else np.full(AXIS.size, 20)).astype(float)
    scan = xr.DataArray(data[None], dims=("position", "x"), coords={"x": AXIS})
    params = {n: {"value": v} for n, v in zip(PARAMETERS, start, strict=True)}
    if bounded:
        params["center"] |= {"min": start[1] - 3, "max": start[1] + 2}
        params["amplitude"] |= {"min": start[0] - 10}
    options = dict(
        dim="x", guess="params", retry=False, engine="batch", likelihood="poisson" if poisson else "gaussian"
    )
    fits = sf.fit(scan, model, params, **options).compute()
    once = sf.fit(scan, model, params, max_nfev=1, **options).compute()
    first, last = float(once["chisqr"][0]), float(fits["chisqr"][0])
    assert math.isfinite(last)
    # the start itself is what one evaluation leaves
    values = [float(once[n][0]) for n in PARAMETERS]
    np.testing.assert_allclose(values, start, rtol=1e-9, atol=1e-9)
    assert last <= first * (1 + 1e-12)


@pytest.mark.parametrize(("low", "high"), BOUNDS)
@pytest.mark.parametrize("theta", [-1.3, -0.4, 0.2, 0.9, 1.5])
def test_the_transformation_bends_as_its_slope_changes(low: float, high: float, theta: float):
    h = 1e-6
    _, _, bend = to_external(theta, low, high)
    change = (to_external(theta + h, low, high)[1] - to_external(theta - h, low, high)[1]) / (2 * h)
    assert bend == pytest.approx(change, rel=1e-6, abs=1e-8)


def test_fits_against_their_bounds_do_not_crawl():
    # Noise on a slope far from zero, and a peak that may not leave its window: every fit ends against a bound.
    # With Gauss–Newton curvature alone, and a damped background, they took up to 1,200 evaluations.
    rng = np.random.default_rng(5)
    x = np.linspace(970, 1020, 26)
    data = xr.DataArray(
        rng.poisson(450 + 0.3 * (x - 970), (200, x.size)), dims=("position", "shift"), coords={"shift": x}
    )
    fits = sf.fit(
        data,
        models.LorentzianModel() + models.LinearModel(),
        {
            "amplitude": {"min": 0},
            "center": {"value": 1001, "min": 995, "max": 1007},
            "sigma": {"value": 4, "min": 0.5, "max": 15},
        },
        dim="shift",
        weights="counts",
        retry=False,
    ).compute(scheduler="sync")
    assert fits["success"].mean() > 0.98
    assert np.percentile(fits["nfev"], 90) < 100
