"""Fits that the tests of the pictures share."""

from __future__ import annotations

import lmfit
import numpy as np
import pytest
import xarray as xr

import scanfold as sf


@pytest.fixture(scope="session")
def peaks() -> tuple[xr.DataArray, xr.Dataset]:
    """Return a scan of 4 × 5 spectra, one of them NaN, and its fits."""
    scan, _ = sf.testing.peak_scan({"y": 4, "x": 5}, seed=3)
    scan[1, 2] = np.nan
    model = lmfit.models.GaussianModel() + lmfit.models.LinearModel()
    return scan, sf.fit(scan, model, dim="energy", weights="counts").compute()
