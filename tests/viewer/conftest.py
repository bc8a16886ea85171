"""Fits in a store, and the scan that they were made from."""

from __future__ import annotations

from pathlib import Path

import lmfit
import pytest
import xarray as xr

import scanfold as sf
from scanfold.testing import peak_scan

pytest.importorskip("panel", reason='the viewer needs Panel: pip install "scanfold[explore]"')


@pytest.fixture(scope="module")
def scan_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scan, _ = peak_scan({"y": 6, "x": 9})
    path = tmp_path_factory.mktemp("viewer") / "scan.nxs"
    sf.export_nexus(scan, path)
    return path


@pytest.fixture(scope="module")
def store(scan_file: Path) -> Path:
    model = lmfit.models.GaussianModel() + lmfit.models.LinearModel()
    path = scan_file.with_name("fits.zarr")
    sf.save(sf.fit(sf.open_scan(scan_file), model, dim="energy", weights="counts"), path, progress=False)
    return path


@pytest.fixture
def fits(store: Path) -> xr.Dataset:
    return sf.open_scan(store)
