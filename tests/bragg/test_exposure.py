"""Exposures reach the likelihood of counts; parameters that are no numbers reach nothing."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from scanfold import bragg


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson"])
def test_charges_of_groups_are_not_taken_for_the_sample(likelihood):
    rng = np.random.default_rng(6)
    wavelength = np.linspace(1.5, 4.8, 300)
    iron = bragg.CrossSection(iron="Fe_sg229_Iron-alpha")
    model = bragg.TransmissionModel(iron, vary_basic=True)
    expected = 3000 * model.evaluate({"thickness": 0.8}, wavelength, flight_path=9)
    charge = np.array([1.0, 2.0, 5.0])
    dims = ("position", "wavelength")
    counts = xr.Dataset(
        {
            "signal": (dims, rng.poisson(charge[:, None] * expected)),
            "openbeam": ("wavelength", rng.poisson(12000, 300)),
        },
        coords={"wavelength": ("wavelength", wavelength, {"units": "angstrom"})},
    )
    data = bragg.Data.from_dataset(counts).normalise_charge(signal=charge, openbeam=4.0)
    result = model.fit(data, wlmin=1.49, wlmax=4.81, likelihood=likelihood)
    fits = result.compute()
    for name, truth in (("norm", 1.0), ("thickness", 0.8)):
        # the open beam is the same for all: its noise moves all three alike
        assert np.abs((fits[name] - truth) / fits[f"{name}_stderr"]).max() < 4
        assert np.abs(fits[name] - truth).max() < 0.05
    assert result.indices == ["0", "1", "2"]
    again = result.refit(indices=["1"])
    np.testing.assert_allclose(again.fits["norm"], fits["norm"], rtol=1e-4)


@pytest.mark.parametrize("compat", [None, "nbragg"])
@pytest.mark.parametrize("name", ["thickness", "α0", "bg0"])
def test_a_parameter_that_is_no_number_gives_no_transmission(compat, name):
    iron = bragg.CrossSection(iron="Fe_sg229_Iron-alpha")
    model = bragg.TransmissionModel(iron, vary_basic=True, vary_response=True, vary_background=True, compat=compat)
    for value in (np.nan, np.inf):
        assert np.isnan(model.function()(np.linspace(1.5, 4.5, 50), **{name: value})).all()
