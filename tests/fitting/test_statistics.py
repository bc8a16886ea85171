"""Errors that mean what they say: pulls (fit - truth)/stderr over many positions, with seeded noise.

With 10,000 positions the mean of the pulls is known to 0.01 and their width to 0.007, so that the
tolerance of 0.05 is five standard errors and more: a failure is no accident, and neither is a pass.
"""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import xarray as xr
from lmfit import models

import scanfold as sf

POSITIONS = 10_000
X = np.arange(400.0)


def scan_of(values: np.ndarray) -> xr.DataArray:
    return xr.DataArray(values, dims=("position", "channel"), coords={"channel": np.arange(float(values.shape[1]))})


def assert_pulls(fits: xr.Dataset, truth: dict[str, float]) -> None:
    assert bool(fits["success"].all())
    table = {}
    for name, value in truth.items():
        pulls = (fits[name] - value) / fits[f"{name}_stderr"]
        table[name] = float(pulls.mean()), float(pulls.std())
    off = {name: (mean, width) for name, (mean, width) in table.items() if abs(mean) > 0.05 or abs(width - 1) > 0.05}
    assert not off, f"mean and width of the pulls: {table}"


def peak(baseline: float) -> tuple[models.Model, dict[str, float], np.ndarray]:
    """Return a peak three times as high as its baseline, broad enough that its own shape is no small sample."""
    model = models.GaussianModel() + models.ConstantModel()
    truth = dict(amplitude=3 * baseline * 50 * np.sqrt(2 * np.pi), center=193.3, sigma=50.0, c=baseline)
    return model, truth, model.eval(model.make_params(**truth), x=X)


@pytest.mark.parametrize("baseline", [10, 100, 1_000, 10_000, 100_000])
def test_pulls_of_poisson_likelihood(baseline: float):
    model, truth, curve = peak(baseline)
    counts = scan_of(np.random.default_rng(7).poisson(curve, (POSITIONS, X.size)))
    start = {"amplitude": 0.8 * truth["amplitude"], "center": 185, "sigma": 60, "c": 1.3 * baseline}
    fits = sf.fit(counts, model, start, dim="channel", likelihood="poisson", guess="params", engine="batch").compute()
    assert_pulls(fits, truth)


def test_pulls_of_poisson_likelihood_over_four_decades_in_one_curve():
    model = models.ExponentialModel() + models.ConstantModel()
    truth = dict(amplitude=1e5, decay=30.0, c=10.0)
    curve = model.eval(model.make_params(**truth), x=X)
    counts = scan_of(np.random.default_rng(8).poisson(curve, (POSITIONS, X.size)))
    start = {"amplitude": 7e4, "decay": 35, "c": 20}
    fits = sf.fit(counts, model, start, dim="channel", likelihood="poisson", guess="params", engine="batch").compute()
    assert_pulls(fits, truth)


def test_pulls_of_gaussian_noise_with_its_weights():
    model, truth, curve = peak(100)
    sigma = np.linspace(1, 10, X.size) * np.random.default_rng(9).uniform(0.5, 2, (POSITIONS, 1))
    data = scan_of(curve + sigma * np.random.default_rng(10).standard_normal((POSITIONS, X.size)))
    start = {"amplitude": 0.8 * truth["amplitude"], "center": 185, "sigma": 60, "c": 130}
    weights = data.copy(data=1 / sigma)
    fits = sf.fit(data, model, start, dim="channel", weights=weights, guess="params", engine="batch").compute()
    assert_pulls(fits, truth)
    # chi-square is distributed as such: mean n - p, variance 2(n - p), each within 5 standard errors
    free = X.size - 4
    assert abs(float(fits["chisqr"].mean()) - free) < 5 * np.sqrt(2 * free / POSITIONS)
    assert scipy.stats.kstest(fits["chisqr"].values, "chi2", args=(free,)).pvalue > 1e-4


@pytest.mark.parametrize("mean", [30, 1_000])
def test_counts_weights_bias_a_baseline_as_theory_says(mean: float):
    # A constant fitted with weights 1/sqrt(max(d, 1)) is the harmonic mean of the counts, close to mean - 1: with
    # 100 points that is -sqrt(100/mean) stderr, -1.8 at 30 counts and -0.3 at 1,000. The Poisson likelihood gives
    # the arithmetic mean, which is unbiased.
    points = 100
    counts = scan_of(np.random.default_rng(11).poisson(mean, (POSITIONS, points)))
    options = dict(dim="channel", guess="params", engine="batch")
    weighted = sf.fit(counts, models.ConstantModel(), {"c": mean}, weights="counts", **options).compute()
    np.testing.assert_allclose(weighted["c"], 1 / (1 / np.maximum(counts, 1)).mean("channel"), rtol=1e-7)

    d = np.arange(scipy.stats.poisson.ppf(1e-15, mean), scipy.stats.poisson.isf(1e-15, mean) + 1)
    p, inverse = scipy.stats.poisson.pmf(d, mean), 1 / np.maximum(d, 1)
    first = p @ inverse
    expected = 1 / first + (p @ inverse**2 - first**2) / points / first**3  # to second order in 1/points
    found = weighted["c"]
    assert abs(float(found.mean()) - expected) < 5 * float(found.std()) / np.sqrt(POSITIONS)
    biased = (weighted["c"] - mean) / weighted["c_stderr"]
    assert float(biased.mean()) == pytest.approx((expected - mean) / np.sqrt(mean / points), abs=0.05)

    poisson = sf.fit(counts, models.ConstantModel(), {"c": mean}, likelihood="poisson", **options).compute()
    np.testing.assert_allclose(poisson["c"], counts.mean("channel"), rtol=1e-6)
    assert_pulls(poisson, {"c": mean})
