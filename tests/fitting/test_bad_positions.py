"""A bad position gets its status, and touches no other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lmfit
import numpy as np
import pytest
import xarray as xr
from lmfit import models

import scanfold as sf
from scanfold.conventions import ScanError, flags

BAD = 5
X = np.linspace(-10, 10, 60)
ENGINES = ["batch", "lmfit"]
PARAMETERS = ("amplitude", "center", "sigma", "slope", "intercept", "fwhm", "height")
START = {"amplitude": 80, "center": 0.5, "sigma": 1.5, "slope": 0, "intercept": 15}


def peak_on_line() -> lmfit.Model:
    return models.GaussianModel() + models.LinearModel()


@pytest.fixture(scope="module")
def scan() -> xr.DataArray:
    """Return twelve positions with a peak on a line each."""
    model, random = peak_on_line(), np.random.default_rng(30)
    rows = [
        model.eval(model.make_params(amplitude=100, center=0.1 * i, sigma=1 + 0.05 * i, slope=0.3, intercept=20), x=X)
        for i in range(12)
    ]
    return xr.DataArray(rows + 0.5 * random.standard_normal((12, X.size)), dims=("position", "x"), coords={"x": X})


def spoil(scan: xr.DataArray, how: Callable[[np.ndarray], None]) -> xr.DataArray:
    bad = scan.copy(deep=True)
    how(bad.values[BAD])
    return bad


def fit(scan: xr.DataArray, params: Any = START, model: Any = None, **options: Any) -> xr.Dataset:
    options = {"guess": "params", "engine": "batch", **options}
    return sf.fit(scan, model or peak_on_line(), params, dim="x", **options).compute()


def status(fits: xr.Dataset) -> list[str]:
    names = {value: name for name, value in flags(fits["status"]).items()}
    return [names[int(v)] for v in fits["status"].values]


def assert_others_untouched(fits: xr.Dataset, clean: xr.Dataset) -> None:
    others = [i for i in range(12) if i != BAD]
    assert set(fits.data_vars) == set(clean.data_vars)
    for name in fits.data_vars:
        np.testing.assert_array_equal(fits[name][others], clean[name][others], err_msg=str(name))


def assert_nan(fits: xr.Dataset, names: tuple[str, ...] = PARAMETERS) -> None:
    at = fits.isel(position=BAD)
    numbers = {n: float(at[n]) for name in names for n in (name, f"{name}_stderr")}
    assert all(np.isnan(v) for v in numbers.values()), numbers
    assert not bool(at["success"])


def set_all(value: float) -> Callable[[np.ndarray], None]:
    def how(row: np.ndarray) -> None:
        row[:] = value

    return how


def set_one(value: float) -> Callable[[np.ndarray], None]:
    def how(row: np.ndarray) -> None:
        row[23] = value

    return how


def keep_points(count: int) -> Callable[[np.ndarray], None]:
    def how(row: np.ndarray) -> None:
        row[count:] = np.nan

    return how


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_point_is_left_out(scan: xr.DataArray, bad: float, engine: str):
    fits = fit(spoil(scan, set_one(bad)), engine=engine)
    assert_others_untouched(fits, fit(scan, engine=engine))
    assert status(fits) == ["converged"] * 12
    assert fits["n_used"].values.tolist() == [59 if i == BAD else 60 for i in range(12)]
    keep = np.arange(60) != 23
    model = peak_on_line()
    alone = model.fit(
        scan[BAD].values[keep], model.make_params(**START), x=X[keep], fit_kws={"ftol": 1e-14, "xtol": 1e-14}
    )
    for name in START:
        assert abs(float(fits[name][BAD]) - alone.params[name].value) < 1e-3 * alone.params[name].stderr


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("how", "used"),
    [(set_all(np.nan), 0), (set_all(np.inf), 0), (keep_points(1), 1), (keep_points(4), 4)],
    ids=["all NaN", "all inf", "one point", "fewer points than parameters"],
)
def test_too_few_points(scan: xr.DataArray, how: Callable[[np.ndarray], None], used: int, engine: str):
    fits = fit(spoil(scan, how), engine=engine)
    assert_others_untouched(fits, fit(scan, engine=engine))
    assert status(fits)[BAD] == "too_few_points"
    assert int(fits["n_used"][BAD]) == used
    assert_nan(fits)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("value", [0.0, 20.0])
def test_constant_data_have_no_signal(scan: xr.DataArray, value: float, engine: str):
    fits = fit(spoil(scan, set_all(value)), engine=engine)
    assert_others_untouched(fits, fit(scan, engine=engine))
    assert status(fits)[BAD] == "no_signal"
    assert np.isfinite(float(fits["intercept"][BAD]))


@pytest.mark.parametrize("engine", ENGINES)
def test_noise_without_a_peak_has_no_signal(scan: xr.DataArray, engine: str):
    noise = 20 + 0.5 * np.random.default_rng(31).standard_normal(60)

    def how(row: np.ndarray) -> None:
        row[:] = noise

    fits = fit(spoil(scan, how), engine=engine)
    assert_others_untouched(fits, fit(scan, engine=engine))
    assert status(fits)[BAD] == "no_signal"
    assert np.isfinite(float(fits["amplitude"][BAD]))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("bounds", [{"min": 0.2, "max": 3.0}, {"min": 0.2}, {"max": 3.0}])
def test_start_outside_its_bounds(scan: xr.DataArray, bounds: dict[str, float], engine: str):
    outside = 0.1 if "min" in bounds else 3.5
    inside = xr.DataArray(np.full(12, 1.5), dims="position")
    spoiled = inside.copy(data=np.where(np.arange(12) == BAD, outside, 1.5))
    fits = fit(scan, {**START, "sigma": {"value": spoiled, **bounds}}, engine=engine)
    clean = fit(scan, {**START, "sigma": {"value": inside, **bounds}}, engine=engine)
    assert_others_untouched(fits, clean)
    # either it reaches the minimum all the same, or it says that it did not
    reached = float(fits["chisqr"][BAD]) <= float(clean["chisqr"][BAD]) * (1 + 1e-6)
    assert reached == (status(fits)[BAD] == "converged"), (status(fits)[BAD], float(fits["chisqr"][BAD]))


def decay_with_a_gap(x, amplitude, rate, switch):
    return amplitude * np.exp(-rate * x) + 0 * np.sqrt(switch)


@pytest.mark.parametrize("engine", ENGINES)
def test_model_that_gives_nan(engine: str):
    x = np.linspace(0, 5, 40)
    random = np.random.default_rng(32)
    curve = decay_with_a_gap(x, 5.0, 0.8, 1.0) + 0.05 * random.standard_normal((12, 40))
    data = xr.DataArray(curve, dims=("position", "x"), coords={"x": x})
    switch = xr.DataArray(np.where(np.arange(12) == BAD, -1.0, 1.0), dims="position")

    def run(values: xr.DataArray) -> xr.Dataset:
        params = {"amplitude": 4, "rate": 1, "switch": {"value": values, "vary": False}}
        return fit(data, params, decay_with_a_gap, engine=engine)

    fits = run(switch)
    assert_others_untouched(fits, run(xr.ones_like(switch)))
    assert status(fits) == ["invalid_model" if i == BAD else "converged" for i in range(12)]
    assert_nan(fits, ("amplitude", "rate", "switch"))


def test_model_that_raises_is_failed_there():
    def touchy(x, amplitude, switch):
        if switch < 0:
            raise RuntimeError("no such material")
        return amplitude * x

    x = np.linspace(0, 5, 40)
    data = xr.DataArray(x + 0.05 * np.random.default_rng(33).standard_normal((12, 40)), dims=("position", "x"))
    data = data.assign_coords(x=x)
    switch = xr.DataArray(np.where(np.arange(12) == BAD, -1.0, 1.0), dims="position")

    def run(values: xr.DataArray) -> xr.Dataset:
        return fit(data, {"amplitude": 2, "switch": {"value": values, "vary": False}}, touchy, engine="lmfit")

    fits = run(switch)
    assert_others_untouched(fits, run(xr.ones_like(switch)))
    assert status(fits) == ["failed" if i == BAD else "converged" for i in range(12)]
    assert_nan(fits, ("amplitude", "switch"))


@pytest.mark.parametrize("engine", ENGINES)
def test_few_evaluations_are_max_nfev(scan: xr.DataArray, engine: str):
    fits = fit(scan, {**START, "center": 3.0}, engine=engine, max_nfev=3, retry=False)
    assert status(fits) == ["max_nfev"] * 12
    assert not bool(fits["success"].any())
    assert bool(np.isfinite(fits["center"]).all())


@pytest.mark.parametrize("engine", ENGINES)
def test_two_parameters_that_are_one_are_singular(engine: str):
    def doubled(x, a, b):
        return (a + b) * x

    x = np.linspace(0, 5, 40)
    data = xr.DataArray(x + 0.05 * np.random.default_rng(34).standard_normal((3, 40)), dims=("position", "x"))
    fits = fit(data.assign_coords(x=x), {"a": 0.3, "b": 0.4}, doubled, engine=engine, retry=False)
    assert status(fits) == ["singular"] * 3
    np.testing.assert_allclose(fits["a"] + fits["b"], 1, atol=0.02)


@pytest.mark.parametrize("engine", ENGINES)
def test_wrong_model_with_true_weights_is_poor_fit(scan: xr.DataArray, engine: str):
    def how(row: np.ndarray) -> None:
        row += 30 * np.exp(-((X + 6) ** 2))  # a second peak, which the model lacks

    options: dict[str, Any] = {"engine": engine, "weights": np.full(60, 2.0), "retry": False}
    fits = fit(spoil(scan, how), **options)
    assert_others_untouched(fits, fit(scan, **options))
    assert status(fits) == ["poor_fit" if i == BAD else "converged" for i in range(12)]
    assert np.isfinite(float(fits["center"][BAD]))


@pytest.mark.parametrize("engine", ENGINES)
def test_errors_raise_names_the_position(scan: xr.DataArray, engine: str):
    with pytest.raises(ScanError, match=r"too_few_points.*\b5\b|\b5\b.*too_few_points"):
        fit(spoil(scan, set_all(np.nan)), engine=engine, errors="raise")


@pytest.mark.parametrize("how", [set_all(0.0), set_all(np.nan), set_one(np.inf), set_all(20.0), set_all(1e6)])
def test_bad_position_among_data_driven_starts(scan: xr.DataArray, how: Callable[[np.ndarray], None]):
    clean = fit(scan, None, guess="auto")
    fits = fit(spoil(scan, how), None, guess="auto")
    others = [i for i in range(12) if i != BAD]
    assert [status(fits)[i] for i in others] == ["converged"] * 11
    for name in START:
        off = np.abs(fits[name] - clean[name])[others]
        assert bool((off < 1e-3 * clean[f"{name}_stderr"][others]).all()), name


def test_positions_alone_give_the_same_bits(scan: xr.DataArray):
    together = fit(scan)
    others = [i for i in range(12) if i != BAD]
    without = fit(scan[others])
    for name in together.data_vars:
        np.testing.assert_array_equal(together[name][others], without[name], err_msg=str(name))
