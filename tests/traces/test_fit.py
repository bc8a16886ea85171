"""Fits of traces: truth recovered, SciPy's minimum reached, bad cells by themselves, rates in one order."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import xarray as xr
from scipy.optimize import least_squares
from scipy.stats import norm

from scanfold.conventions import InputError, flags
from scanfold.testing import assert_chunk_invariant, raise_if_computes
from scanfold.traces import FittingRequest, fit_trace_data, get_model
from scanfold.traces.block import runs_z

from . import cases

MATURATION = FittingRequest("maturation")


def array(values: np.ndarray, times: np.ndarray = cases.TIMES) -> xr.DataArray:
    time = xr.DataArray(times, dims="time", attrs={"units": "h"})
    out = xr.DataArray(values, dims=("cell", "time"), coords={"time": time}, name="value")
    return out.assign_coords(cell=[f"c{i}" for i in range(len(values))])


def words(fits: xr.Dataset) -> list[str]:
    names = {v: k for k, v in flags(fits["status"]).items()}
    return [names[int(s)] for s in fits["status"].values]


RECOVERED = [
    FittingRequest("maturation"),
    FittingRequest("two_stage"),
    FittingRequest("exponential_decay"),
    # All points are after the block: when it was cannot be told from the amounts.
    FittingRequest("maturation_blocked", {"t0": -0.3}, fixed=["t0", "km", "beta"]),
]


@pytest.mark.parametrize("request_", RECOVERED, ids=lambda r: r.model_type)
def test_the_truth_is_recovered_within_its_errors(request_: FittingRequest):
    model = request_.model_type
    ranges = {} if "t0" in request_.varying else {"t0": (-0.3, -0.3)}
    values, truth = cases.traces(model, 300, seed=2, **ranges)
    fits = fit_trace_data(array(values), request_).compute()
    good = fits["status"].values == 1
    assert good.mean() > 0.9
    for name in request_.varying:
        pulls = ((fits[name].values - truth[name]) / fits[f"{name}_stderr"].values)[good]
        assert abs(np.median(pulls)) < 0.25, name
        assert (np.abs(pulls) < 3).mean() > 0.97, name
    assert np.median(fits["redchi"].values[good]) == pytest.approx(1.0, abs=0.1)


def test_the_rates_of_the_simple_model_are_recovered():
    values, truth = cases.traces("trivial", 200, noise=0.005, seed=3)
    fits = fit_trace_data(array(values), FittingRequest("trivial")).compute()
    good = fits["status"].values == 1
    assert good.mean() > 0.9
    for name in ("ktl", "delta", "beta"):
        pulls = ((fits[name].values - truth[name]) / fits[f"{name}_stderr"].values)[good]
        assert (np.abs(pulls) < 3).mean() > 0.97, name


def test_no_minimum_of_scipy_is_lower():
    values, _ = cases.traces("maturation", 1000, times=np.linspace(0, 30, 60), seed=4)
    times = np.linspace(0, 30, 60)
    fits = fit_trace_data(array(values, times), MATURATION).compute()
    model, params = get_model("maturation"), MATURATION.params()
    names = MATURATION.varying
    fixed = [params[n]["value"] for n in model.names]
    places = [model.names.index(n) for n in names]
    b, km = 5.22e-3, 1.28

    def residuals(p: np.ndarray, data: np.ndarray) -> np.ndarray:
        # The formula as it is printed: SciPy's start is not at one of its 0/0.
        t0, ktl, d, offset = p
        tau = np.maximum(times - t0, 0)
        y = np.exp(-(b + km) * tau) / (b - d + km) - np.exp(-b * tau) / (b - d)
        return ktl * (y + km * np.exp(-d * tau) / ((b - d) * (b - d + km))) + offset - data

    start = [fixed[i] for i in places]
    bounds = ([params[n]["min"] for n in names], [params[n]["max"] for n in names])
    for i in range(1000):
        found = least_squares(residuals, start, bounds=bounds, args=(values[i],))
        assert fits["chisqr"].values[i] <= 2 * found.cost * (1 + 1e-6), i


@pytest.mark.parametrize("model", ["trivial", "two_stage", "exponential_decay", "maturation_blocked"])
def test_no_minimum_of_scipy_is_lower_where_the_curve_has_a_kink(model: str):
    times = np.linspace(0, 30, 60)
    values, _ = cases.traces(model, 150, times=times, seed=4)
    request = FittingRequest(model)
    fits = fit_trace_data(array(values, times), request).compute()
    params, names = request.params(), request.varying
    place = [request.model.names.index(n) for n in names]
    every = np.array([params[n]["value"] for n in request.model.names])

    def residuals(p: np.ndarray, data: np.ndarray) -> np.ndarray:
        full = every.copy()
        full[place] = p
        return request.model.function(times, *full) - data

    bounds = ([params[n]["min"] for n in names], [params[n]["max"] for n in names])
    lower = 0
    for i in range(150):
        found = least_squares(residuals, every[place], bounds=bounds, args=(values[i],))
        assert fits["chisqr"].values[i] <= 2 * found.cost * (1 + 1e-6), i
        lower += fits["chisqr"].values[i] < 2 * found.cost * (1 - 1e-6)
    assert lower > 3, "SciPy, from one start, stops at points where the slope jumps"


def bad_cells() -> dict[str, tuple[np.ndarray, str]]:
    """Return spoiled traces, and the status that each must have."""
    clean, _ = cases.traces("maturation", 1, seed=7)
    clean = clean[0]
    one, inf, four, five = clean.copy(), clean.copy(), clean.copy(), clean.copy()
    one[1:] = np.nan
    inf[50] = np.inf
    four[4:] = np.nan
    five[5:] = np.nan
    return {
        "one row": (one, "too_few_points"),
        "all NaN": (np.full_like(clean, np.nan), "too_few_points"),
        "one inf": (inf, "converged"),
        "constant": (np.full_like(clean, 7.0), "no_signal"),
        "zeros": (np.zeros_like(clean), "no_signal"),
        "as many points as parameters": (four, "too_few_points"),
        "one more": (five, ""),
    }


@pytest.mark.parametrize("how", bad_cells())
def test_a_bad_cell_has_its_status_and_changes_no_other(how: str):
    values, _ = cases.traces("maturation", 6, seed=5)
    clean = fit_trace_data(array(values), MATURATION).compute()
    spoiled = values.copy()
    spoiled[2], expected = bad_cells()[how]
    fits = fit_trace_data(array(spoiled), MATURATION).compute()
    others = [0, 1, 3, 4, 5]
    for name in fits.data_vars:
        np.testing.assert_array_equal(fits[name].values[others], clean[name].values[others], err_msg=str(name))
    if expected:
        assert words(fits)[2] == expected
    assert fits["n_used"].values[2] == np.isfinite(spoiled[2]).sum()
    if expected == "too_few_points":
        numbers = [n for p in MATURATION.model.names for n in (p, f"{p}_stderr")]
        assert np.isnan([fits[n].values[2] for n in numbers]).all()
        assert not fits["success"].values[2]


def test_six_points_for_six_parameters_are_too_few():
    values, _ = cases.traces("maturation", 3, times=np.linspace(0, 20, 6), seed=5)
    fits = fit_trace_data(array(values, np.linspace(0, 20, 6)), FittingRequest("maturation", fixed=["scale"]))
    assert words(fits) == ["too_few_points"] * 3
    assert np.isnan(fits["delta"]).all()
    assert fits["n_used"].values.tolist() == [6, 6, 6]


def test_a_start_at_equal_rates_is_a_start_like_any_other():
    values, truth = cases.traces("maturation", 20, seed=6)
    beta = MATURATION.params()["beta"]["value"]
    fits = fit_trace_data(array(values), FittingRequest("maturation", {"delta": beta})).compute()
    other = fit_trace_data(array(values), MATURATION).compute()
    assert words(fits) == words(other)
    np.testing.assert_allclose(fits["delta"], other["delta"], rtol=1e-4)
    assert np.abs(fits["delta"] - truth["delta"]).max() < 0.02


@pytest.mark.parametrize("model", ["maturation", "trivial"])
def test_cells_do_not_depend_on_chunks_or_company(model: str):
    values, _ = cases.traces(model, 9, seed=8)
    values[3, ::4] = np.nan
    request = FittingRequest(model)
    chunks = [{"cell": 9}, {"cell": 2}, {"cell": 1}]
    assert_chunk_invariant(lambda a: fit_trace_data(a, request).drop_attrs(), array(values), chunks)
    whole = fit_trace_data(array(values), request).compute()
    alone = fit_trace_data(array(values), request, cell="c3").compute()
    assert alone["cell"].values.tolist() == ["c3"]
    for name in whole.data_vars:
        np.testing.assert_array_equal(whole[name].values[3:4], alone[name].values, err_msg=str(name))


def test_nothing_is_computed_before_it_is_asked_for():
    lazy = array(cases.traces("maturation", 8)[0]).chunk(cell=2)
    for request in (MATURATION, FittingRequest("trivial"), FittingRequest("maturation", weights="counts")):
        with raise_if_computes():
            fits = fit_trace_data(lazy, request)
        assert fits["delta"].chunks is not None


def test_cells_are_chosen_by_place_and_label():
    data = array(cases.traces("maturation", 4)[0])
    assert fit_trace_data(data, MATURATION, cell=-1)["cell"].values.tolist() == ["c3"]
    assert fit_trace_data(data, MATURATION, cell=["c2", "c0"])["cell"].values.tolist() == ["c2", "c0"]
    with pytest.raises(InputError, match="unknown cell 'c9'"):
        fit_trace_data(data, MATURATION, cell="c9")
    with pytest.raises(InputError, match="outside the 4 cells"):
        fit_trace_data(data, MATURATION, cell=4)


def test_weights_and_noise():
    values, _ = cases.traces("maturation", 60, noise=0.05, seed=9)
    sigma = 0.05 * np.abs(values).max(axis=1)
    fits = fit_trace_data(array(values), MATURATION).compute()
    assert np.median(fits["noise"].values / sigma) == pytest.approx(1, abs=0.15)
    assert np.median(fits["redchi"]) == pytest.approx(1, abs=0.15)
    weighted = fit_trace_data(array(values[:1]), FittingRequest("maturation", weights=1 / sigma[0])).compute()
    assert float(weighted["delta"][0]) == pytest.approx(float(fits["delta"][0]), rel=1e-6)
    assert float(weighted["delta_stderr"][0]) == pytest.approx(float(fits["delta_stderr"][0]), rel=1e-4)
    some = np.r_[np.ones(60), np.zeros(60)]
    half = fit_trace_data(array(values[:1]), FittingRequest("maturation", weights=some)).compute()
    cut = fit_trace_data(array(values[:1, :60], cases.TIMES[:60]), MATURATION).compute()
    assert float(half["delta"][0]) == pytest.approx(float(cut["delta"][0]), rel=1e-3)


def test_units_and_records():
    data = array(cases.traces("maturation", 1)[0]).assign_attrs(units="a.u.")
    fits = fit_trace_data(data, MATURATION)
    assert fits["delta"].attrs["units"] == "1/h"
    assert fits["t0"].attrs["units"] == fits["t0_stderr"].attrs["units"] == "h"
    assert fits["ktl"].attrs["units"] == "(a.u.)/h"
    assert fits["offset"].attrs["units"] == "a.u."
    assert FittingRequest.from_record(fits.attrs["request"]).describe() == MATURATION.describe()


# ---- rates that can be exchanged ------------------------------------------------------------


ALL_FREE = FittingRequest("maturation", fixed=["scale"])


@pytest.mark.parametrize("rates", [(0.4, 0.02, 1.1), (0.02, 0.4, 1.1), (1.5, 0.05, 0.4)], ids=["middle", "low", "high"])
def test_exchangeable_rates_of_maturation_come_in_one_order(rates: tuple[float, float, float]):
    delta, beta, km = rates
    times = np.linspace(0, 40, 400)
    exact = get_model("maturation").function(times, 0.3, 500.0, km, delta, beta, 10.0, 1.0)
    noisy = exact + 0.002 * exact.max() * np.random.default_rng(1).standard_normal((40, 400))
    fits = fit_trace_data(array(noisy, times), ALL_FREE).compute()
    nodes = np.sort([delta, beta, beta + km])
    good = fits["status"].values == 1
    assert good.sum() > 25
    product = 500.0 * km
    expected = {"beta": nodes[0], "delta": nodes[1], "km": nodes[2] - nodes[0], "ktl": product / (nodes[2] - nodes[0])}
    for name, value in expected.items():
        pulls = (fits[name].values[good] - value) / fits[f"{name}_stderr"].values[good]
        assert (np.abs(pulls) < 4).all(), name
        assert 0.5 < pulls.std() < 1.6, name


def test_an_exchange_carries_the_covariance():
    from scanfold.traces.exchange import _carry, exchanges_of

    exchange = exchanges_of(ALL_FREE)[0]
    values = {n: np.array([v]) for n, v in zip(ALL_FREE.model.names, (0.3, 500, 1.1, 0.02, 0.4, 10, 1), strict=True)}
    varying = ALL_FREE.varying
    random = np.random.default_rng(2)
    sizes = np.array([1e-4 * abs(float(values[n][0])) for n in varying])
    mix = random.standard_normal((len(varying),) * 2)
    cov = sizes[:, None] * (mix @ mix.T) * sizes
    draws = random.multivariate_normal([float(values[n][0]) for n in varying], cov, 40_000)
    drawn = values | {n: draws[:, i] for i, n in enumerate(varying)}
    after = drawn | exchange(drawn)
    expected = np.cov(np.stack([after[n] for n in varying]))
    carried = _carry(exchange, values, varying, cov[None])[0]
    np.testing.assert_allclose(np.diag(carried), np.diag(expected), rtol=0.05)


@pytest.mark.parametrize("model", ["trivial", "maturation"])
def test_exchanged_parameters_give_the_same_curve(model: str):
    request = FittingRequest(model, fixed=[] if model == "trivial" else ["scale"])
    from scanfold.traces.exchange import exchanges_of

    random = np.random.default_rng(3)
    names = request.model.names
    for _ in range(20):
        p = dict(request.model.defaults) | {n: random.uniform(0.05, 2) for n in ("delta", "beta", "km") if n in names}
        before = request.model.function(cases.TIMES, **p)
        assert exchanges_of(request)
        for exchange in exchanges_of(request):
            new = {k: float(v) for k, v in (p | exchange({k: np.float64(v) for k, v in p.items()})).items()}
            if np.isfinite(list(new.values())).all():
                np.testing.assert_allclose(request.model.function(cases.TIMES, **new), before, rtol=1e-9, atol=1e-9)


def test_rates_of_the_simple_model_come_in_one_order():
    values, _ = cases.traces("trivial", 50, seed=11)
    fits = fit_trace_data(array(values), FittingRequest("trivial")).compute()
    assert (fits["beta"] <= fits["delta"]).all()


# ---- residuals ------------------------------------------------------------------------------


def test_runs_against_counting_them():
    random = np.random.default_rng(12)
    residuals = random.standard_normal((30, 25))
    keep = random.random((30, 25)) > 0.3
    keep[0] = False
    residuals[1] = np.abs(residuals[1])
    for row, there, z in zip(residuals, keep, runs_z(residuals, keep), strict=True):
        signs = [r >= 0 for r, k in zip(row, there, strict=True) if k]
        n1, n2 = sum(signs), len(signs) - sum(signs)
        if not n1 or not n2:
            assert np.isnan(z)
            continue
        runs = 1 + sum(a != b for a, b in pairwise(signs))
        mean = 2 * n1 * n2 / (n1 + n2) + 1
        variance = (mean - 1) * (mean - 2) / (n1 + n2 - 1)
        assert z == pytest.approx((runs - mean) / variance**0.5)


def test_runs_tell_a_wrong_model_from_noise():
    values, _ = cases.traces("maturation", 400, seed=13)
    right = fit_trace_data(array(values), MATURATION)["runs_z"].values
    assert (right < norm.ppf(0.01)).mean() < 0.03
    wrong = fit_trace_data(array(values), FittingRequest("exponential_decay"))["runs_z"].values
    assert (wrong < norm.ppf(0.01)).mean() > 0.9
