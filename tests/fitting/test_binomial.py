"""Counts beside reference counts: the binomial likelihood against SciPy's minimiser of it."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.optimize import minimize
from scipy.stats import binom

import scanfold as sf
from scanfold import ScanError

X = np.linspace(0.0, 4.0, 40)


def ratio(x, a, k):
    return a * np.exp(-k * x)


def counts(level: float, exposure: np.ndarray | float = 1.0, positions: int = 3) -> tuple[xr.DataArray, xr.DataArray]:
    rng = np.random.default_rng(11)
    means = level * ratio(X, np.linspace(0.6, 1.1, positions)[:, None], 0.5)
    signal = xr.DataArray(rng.poisson(exposure * means), dims=("position", "time"), coords={"time": X})
    return signal, xr.DataArray(rng.poisson(level, means.shape), dims=("position", "time"), coords={"time": X})


@pytest.mark.parametrize("exposure", [1.0, np.linspace(0.5, 2.0, X.size)])
@pytest.mark.parametrize("level", [3.0, 200.0])
def test_the_most_likely_ratio(level: float, exposure: np.ndarray | float):
    signal, beside = counts(level, exposure)
    given = xr.DataArray(exposure, dims="time") if isinstance(exposure, np.ndarray) else exposure
    fits = sf.fit(
        signal, ratio, {"a": 0.8, "k": 0.4}, dim="time", likelihood="binomial", reference=(beside, given),
        covariance=True,
    ).compute()  # fmt: skip
    assert bool(fits["success"].all())
    for i in range(signal.sizes["position"]):
        d, r = signal.values[i], beside.values[i]

        def cost(p: np.ndarray, d: np.ndarray = d, r: np.ndarray = r) -> float:
            odds = exposure * ratio(X, *p)
            return float(-binom.logpmf(d, d + r, odds / (1 + odds)).sum())

        best = minimize(cost, [0.8, 0.4], method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-12})
        errors = np.array([float(fits[f"{n}_stderr"][i]) for n in ("a", "k")])
        found = np.array([float(fits[n][i]) for n in ("a", "k")])
        np.testing.assert_allclose(found, best.x, atol=1e-4 * errors.max())
        used = d + r > 0
        perfect = binom.logpmf(d[used], (d + r)[used], d[used] / (d + r)[used]).sum()
        assert float(fits["chisqr"][i]) == pytest.approx(2 * (best.fun + perfect), rel=1e-6)
        assert int(fits["n_used"][i]) == used.sum()
        # The errors are those of Fisher's information, N·s/(y(1 + s·y)²), of the expected counts at most.
        y = ratio(X, *found)
        slopes = np.stack([np.exp(-found[1] * X), -X * y])
        weight = (d + r) * exposure / (y * (1 + exposure * y) ** 2)
        expected = np.sqrt(np.diag(np.linalg.inv((slopes * weight) @ slopes.T)))
        np.testing.assert_allclose(errors, expected, rtol=1e-5)


def test_one_reference_for_all_and_points_without_counts():
    signal, beside = counts(4.0)
    alone = beside.isel(position=0)
    lazy = signal.chunk(position=1)
    fits = sf.fit(lazy, ratio, {"a": 0.8, "k": 0.4}, dim="time", likelihood="binomial", reference=alone).compute()
    each = sf.fit(signal[2], ratio, {"a": 0.8, "k": 0.4}, dim="time", likelihood="binomial", reference=alone).compute()
    assert float(fits["a"][2]) == float(each["a"])
    dead = signal.copy()
    dead[0] = 0
    gone = sf.fit(dead, ratio, {"a": 0.8, "k": 0.4}, dim="time", likelihood="binomial", reference=beside * 0).compute()
    words = {v: k for k, v in sf.fitting.STATUS.items()}
    assert words[int(gone["status"][0])] == "too_few_points"


def test_what_belongs_together():
    signal, beside = counts(5.0)
    start = {"a": 0.8, "k": 0.4}
    with pytest.raises(ScanError, match="belong together"):
        sf.fit(signal, ratio, start, dim="time", likelihood="binomial")
    with pytest.raises(ScanError, match="belong together"):
        sf.fit(signal, ratio, start, dim="time", reference=beside)
    with pytest.raises(ScanError, match="expected a DataArray of counts"):
        sf.fit(signal, ratio, start, dim="time", likelihood="binomial", reference=beside.values)
    with pytest.raises(ScanError, match="leave weights out"):
        sf.fit(signal, ratio, start, dim="time", likelihood="binomial", reference=beside, weights="counts")
    with pytest.raises(ScanError, match="binomial"):
        sf.fit(signal, ratio, start, dim="time", likelihood="binomial", reference=beside, engine="lmfit")
