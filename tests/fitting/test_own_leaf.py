"""Functions that bring a compiled leaf: the same fits as without, prefixes and sums included."""

from __future__ import annotations

import lmfit
import numpy as np
import xarray as xr

import scanfold as sf
from scanfold.fitting.components import take_apart
from scanfold.traces.kinetics import exponential_decay

X = np.linspace(0, 20, 60)


def plain_decay(t, amplitude, rate, offset, t0):
    return amplitude * np.exp(-rate * np.maximum(t - t0, 0.0)) + offset


def test_the_leaf_is_found_and_gives_the_same_fits():
    random = np.random.default_rng(0)
    rows = [exponential_decay(X, 50 + 10 * i, 0.2 + 0.03 * i, 3.0, 0.0) for i in range(8)]
    scan = xr.DataArray(rows + random.standard_normal((8, 60)), dims=("position", "t"), coords={"t": X})
    start = {"d_amplitude": 40, "d_rate": 0.3, "d_offset": 0, "d_t0": {"value": 0, "vary": False}}
    fits = {}
    for name, function in (("own", exponential_decay), ("plain", plain_decay)):
        model = lmfit.Model(function, prefix="d_")
        (component,), _ = take_apart(model, X)
        assert (component.leaf == "scanfold.traces._kinetics_kernels:exponential_decay") == (name == "own")
        fits[name] = sf.fit(scan, model, start, dim="t", guess="params").compute()
    for name in ("d_amplitude", "d_rate", "d_offset"):
        error = fits["plain"][f"{name}_stderr"]
        assert (np.abs(fits["own"][name] - fits["plain"][name]) < 1e-4 * error).all()
        np.testing.assert_allclose(fits["own"][f"{name}_stderr"], error, rtol=1e-4)


def test_a_leaf_is_part_of_a_sum():
    data = exponential_decay(X, 50.0, 0.2, 0.0, 0.0) + 0.5 * X + 3
    line = lmfit.models.ExpressionModel("slope*t + intercept", independent_vars=["t"])
    model = lmfit.Model(exponential_decay) + line
    fixed = {"offset": {"value": 0, "vary": False}, "t0": {"value": 0, "vary": False}}
    scan = xr.DataArray(data[None], dims=("position", "t"), coords={"t": X})
    start = {"amplitude": 40, "rate": 0.3, "slope": 0, "intercept": 0, **fixed}
    fits = sf.fit(scan, model, start, dim="t", guess="params").compute()
    expected = {"amplitude": 50, "rate": 0.2, "slope": 0.5, "intercept": 3}
    assert {n: round(float(fits[n][0]), 6) for n in expected} == expected
