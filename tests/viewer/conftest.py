"""Maps, scans, and a browser without a screen."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmfit
import pytest
import xarray as xr

import scanfold as sf
from scanfold.testing import peak_scan

pytest.importorskip("panel", reason='the viewer needs Panel: pip install "scanfold[explore]"')

#: A browser that asks nobody on the network for anything.
QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--window-size=1300,1000")  # fmt: skip


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


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no Chromium here (Debian: apt install chromium chromium-driver)")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in QUIET:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield found
    found.quit()
