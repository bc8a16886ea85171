"""The real Raman map, from its HDF5 file to maps, by the command line, with both engines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import scanfold as sf
from scanfold.cli import main
from scanfold.fitting import STATUS
from scanfold.io.tables import exactly

FIT = ["--model", "LorentzianModel + LinearModel", "--dim", "raman_shift", "--select", "raman_shift=970:1020"]
#: What is known of the line: it is no dip, it is near 1001 1/cm, and no broader than the window.
BOUNDS = ["--param", "amplitude=min=0", "--param", "center=min=995,max=1007", "--param", "sigma=min=0.5,max=15"]
#: Columns through the line and what is beside it.
PART = ["--select", "y=-1160:-1130", "--select", "x=-8052:-8048"]
#: A line is found in far fewer evaluations; without one lmfit searches for half a minute.
SHORT = ["--no-retry", "--max-nfev", "1000"]


def fit(file: Path, out: Path, *more: str) -> xr.Dataset:
    assert (
        main(["fit", str(file), *FIT, *BOUNDS, "--weights", "counts", "--no-progress", "--out", str(out), *more]) == 0
    )
    return sf.open_scan(out).compute()


@pytest.fixture(scope="module")
def raman_map(real_data) -> Path:
    return real_data / "spectra" / "raman_map.h5"


@pytest.fixture(scope="module")
def whole(raman_map, tmp_path_factory) -> tuple[xr.Dataset, Path]:
    folder = tmp_path_factory.mktemp("raman")
    more = ["--csv", str(folder / "fits.csv"), "--report", str(folder / "fits.html"), "--plots", str(folder / "maps")]
    return fit(raman_map, folder / "fits.zarr", *more), folder


@pytest.fixture(scope="module")
def height(raman_map) -> xr.DataArray:
    """Counts of the line above the mean of both sides, in standard errors: no fit is needed to see where it is."""
    counts = sf.open_scan(raman_map)["counts"].sel(raman_shift=slice(970, 1030)).compute()
    inside = counts.sel(raman_shift=slice(997, 1006))
    sides = xr.concat(
        [counts.sel(raman_shift=slice(975, 990)), counts.sel(raman_shift=slice(1012, 1027))], "raman_shift"
    )
    noise = sides.std("raman_shift")
    step = (inside.mean("raman_shift") - sides.mean("raman_shift")) / noise
    return step * np.sqrt(inside.sizes["raman_shift"])


def test_the_line_is_found_where_it_is_and_nowhere_else(whole, height):
    fits, _ = whole
    converged = fits["status"] == STATUS["converged"]
    assert fits.sizes == {"y": 49, "x": 45}
    # clear on both sides: far above the noise, and well below it
    assert (height > 30).sum() > 100
    assert (height < 2).sum() > 1000
    assert float(converged.where(height > 30).mean()) > 0.98
    assert float(converged.where(height < 2).mean()) < 0.01


def test_the_line_is_that_of_polystyrene(whole, height):
    fits, _ = whole
    clear = (fits["status"] == STATUS["converged"]) & (height > 30)
    center = fits["center"].where(clear)
    assert abs(float(center.median()) - 1001) < 2
    assert float(center.std()) < 1
    assert float(fits["amplitude"].where(clear).min()) > 0
    assert fits["center"].attrs["units"] == "1/cm"


def test_what_was_asked_for_is_written(whole):
    fits, folder = whole
    table = pd.read_csv(folder / "fits.csv", **exactly())
    assert len(table) == 49 * 45
    np.testing.assert_array_equal(table["center"], fits["center"].values.ravel())
    assert "Lorentzian" in (folder / "fits.html").read_text()
    assert (folder / "maps" / "center.png").stat().st_size > 5_000


def test_both_engines_agree(raman_map, tmp_path):
    batch = fit(raman_map, tmp_path / "batch.zarr", *PART, *SHORT, "--engine", "batch")
    lmfit = fit(raman_map, tmp_path / "lmfit.zarr", *PART, *SHORT, "--engine", "lmfit")
    good = (batch["status"] == STATUS["converged"]) & (lmfit["status"] == STATUS["converged"])
    assert int(good.sum()) >= 10
    assert int((~good).sum()) >= 10
    np.testing.assert_array_equal(batch["status"] == STATUS["converged"], lmfit["status"] == STATUS["converged"])
    for name in ("amplitude", "center", "sigma", "slope", "intercept"):
        apart = (abs(batch[name] - lmfit[name]) / lmfit[f"{name}_stderr"]).where(good)
        ratio = (batch[f"{name}_stderr"] / lmfit[f"{name}_stderr"]).where(good)
        assert float(apart.max()) < 1e-3, name
        assert float(abs(ratio - 1).max()) < 0.01, name
