"""The real Raman map: a peak near 1001 cm⁻¹ on bands of the sample, none elsewhere."""

from __future__ import annotations

from pathlib import Path

import lmfit
import numpy as np
import pytest
import xarray as xr
from lmfit import models

import scanfold as sf
from scanfold.fitting import STATUS, evaluate

NAMES = ("amplitude", "center", "sigma", "slope", "intercept")


def line_on_background() -> lmfit.Model:
    return models.LorentzianModel() + models.LinearModel()


@pytest.fixture(scope="module")
def window(real_data: Path) -> xr.DataArray:
    scan = sf.open_scan(real_data / "spectra" / "raman_map.h5")
    (name,) = [n for n in scan.data_vars if "raman_shift" in scan[n].dims] or [scan.attrs["primary"]]
    return scan[name].sel(raman_shift=slice(970, 1020)).compute()


@pytest.fixture(scope="module")
def fits(window: xr.DataArray) -> xr.Dataset:
    return sf.fit(window, line_on_background(), dim="raman_shift", weights="counts").compute()


def share(fits: xr.Dataset, *names: str) -> float:
    return float(np.isin(fits["status"], [STATUS[n] for n in names]).mean())


def signal_to_noise(window: xr.DataArray) -> xr.DataArray:
    """Return the height of 995 … 1007 cm⁻¹ over a line through its surroundings, in its own errors: no fit in it."""
    x = window["raman_shift"]
    inside = (x > 995) & (x < 1007)
    around = window.where(~inside, drop=True).astype(float)
    line = xr.polyval(x, around.polyfit("raman_shift", 1).polyfit_coefficients)
    excess = (window - line).where(inside).sum("raman_shift")
    noise = around - line.where(~inside, drop=True)
    return excess / (noise.std("raman_shift") * np.sqrt(float(inside.sum())))


@pytest.fixture(scope="module")
def strength(window: xr.DataArray) -> np.ndarray:
    return signal_to_noise(window).values


def test_the_map_is_what_it_was(window: xr.DataArray, strength: np.ndarray):
    assert dict(window.sizes) == {"y": 49, "x": 45, "raman_shift": 25}
    # what the ranges below rest on: two kinds of positions, few between them
    assert 280 < (strength > 8).sum() < 300
    assert 1600 < (strength < 2).sum() < 1700


def test_clear_peaks_are_found_near_1001(fits: xr.Dataset, strength: np.ndarray):
    clear = strength > 8
    assert (fits["status"].values[clear] == STATUS["converged"]).all()
    center, sigma = fits["center"].values[clear], fits["sigma"].values[clear]
    # one band of one substance, 8 cm⁻¹ wide at points 2 cm⁻¹ apart: no position is off by a width
    assert abs(np.median(center) - 1001.8) < 0.5
    assert center.min() > 998
    assert center.max() < 1006
    assert 2 < sigma.min()
    assert sigma.max() < 8
    # in so narrow a window the wings of the line and its background are hard to tell apart
    ratio = fits["amplitude"].values[clear] / fits["amplitude_stderr"].values[clear]
    assert ratio.min() > 2
    assert np.median(ratio) > 8


def test_positions_without_the_peak_are_not_believed(fits: xr.Dataset, strength: np.ndarray):
    empty = strength < 2
    status, center = fits["status"].values[empty], fits["center"].values[empty]
    assert (status == STATUS["no_signal"]).mean() > 0.95
    believed = status == STATUS["converged"]
    # 1.5 %: spikes and ripples elsewhere in the window, which are there and are no line at 1001
    assert believed.mean() < 0.025
    there = believed & (np.abs(center - 1001.8) < 2) & (fits["amplitude"].values[empty] > 0)
    assert there.mean() < 0.003


def test_as_many_are_believed_as_have_an_excess(fits: xr.Dataset, strength: np.ndarray):
    converged = fits["status"].values == STATUS["converged"]
    assert abs(converged.mean() - (strength > 4).mean()) < 0.03
    assert share(fits, "invalid_model", "failed", "too_few_points", "crashed", "poor_fit") == 0
    assert share(fits, "converged", "no_signal") > 0.97
    assert bool(np.isfinite(fits["center"]).all())


def test_both_engines_agree(window: xr.DataArray, fits: xr.Dataset, strength: np.ndarray):
    some = np.concatenate([np.argwhere(strength > 8)[::12], np.argwhere(strength < 2)[::70]])
    rows = xr.DataArray(window.values[tuple(some.T)], dims=("position", "raman_shift"))
    rows = rows.assign_coords(raman_shift=window["raman_shift"])
    # the starts of a retry come from the scan's mean: here from that of these positions, for both engines
    both = {
        engine: sf.fit(rows, line_on_background(), dim="raman_shift", weights="counts", engine=engine).compute()
        for engine in ("batch", "lmfit")
    }
    batch, reference = both["batch"], both["lmfit"]
    assert float((batch["status"] == reference["status"]).mean()) > 0.9
    good = ((batch["status"] == 1) & (reference["status"] == 1)).values
    assert good.sum() > 20
    for name in NAMES:
        off = np.abs(batch[name] - reference[name]) / reference[f"{name}_stderr"]
        assert float(off[good].max()) < 1e-2, name
        np.testing.assert_allclose(batch[f"{name}_stderr"][good], reference[f"{name}_stderr"][good], rtol=0.01)
    np.testing.assert_allclose(batch["center"][good][:20], fits["center"].values[tuple(some.T)][good][:20], rtol=1e-6)


def test_what_is_left_of_the_clear_peaks_is_noise(window: xr.DataArray, fits: xr.Dataset, strength: np.ndarray):
    clear = strength > 8
    residual = evaluate(fits, data=window)["residual"].values[clear]
    peak = fits["amplitude"].values[clear] / (np.pi * fits["sigma"].values[clear])
    # the line was in the residual before: what is left of it in 995 … 1007 is small beside it
    inside = np.abs(window["raman_shift"].values - 1001.5) < 4
    assert np.abs(residual[:, inside].mean(axis=1) / peak).max() < 0.1
