"""``.scanfold`` forwards to the functions, and is there however the package was imported."""

from __future__ import annotations

import subprocess
import sys

import lmfit
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.figure import Figure

import scanfold as sf


@pytest.fixture(scope="module")
def scan() -> xr.DataArray:
    array, _ = sf.testing.peak_scan({"y": 2, "x": 3})
    return array


@pytest.fixture(scope="module")
def fits(scan) -> xr.Dataset:
    return sf.fit(scan, lmfit.models.GaussianModel() + lmfit.models.LinearModel(), dim="energy", weights="counts")


def test_fit(scan, fits):
    model = lmfit.models.GaussianModel() + lmfit.models.LinearModel()
    xr.testing.assert_identical(scan.scanfold.fit(model, dim="energy", weights="counts"), fits)
    dataset = scan.to_dataset(name="counts")
    xr.testing.assert_equal(dataset.scanfold.fit(model, dim="energy", weights="counts"), fits)


def test_summary(fits):
    query = "redchi < 1"
    pd.testing.assert_frame_equal(fits.scanfold.summary(query=query), sf.summary(fits, query=query))
    assert 0 < len(fits.scanfold.summary(query=query)) < 6


def test_plots(scan, fits):
    ax = fits.scanfold.plot.parameter_map("center", query="redchi < 1", ax=Figure().add_subplot())
    expected = sf.plot.parameter_map(fits, "center", query="redchi < 1", ax=Figure().add_subplot())
    np.testing.assert_array_equal(ax.images[0].get_array().mask, expected.images[0].get_array().mask)
    assert fits.scanfold.plot.fit(scan, y=1, x=2, axes=Figure().subplots(2)).axes[0].get_title().startswith("y=1, x=2")
    figure = Figure()
    assert fits.scanfold.plot.quality(figure=figure) is figure


def test_report(scan, fits, tmp_path):
    path = fits.scanfold.report(tmp_path / "report.html", scan)
    assert "Not drawn" not in path.read_text()


def test_save(fits, tmp_path):
    saved = fits.scanfold.save(tmp_path / "fits.zarr", progress=False)
    np.testing.assert_array_equal(saved["center"], fits["center"])
    np.testing.assert_array_equal(sf.open_scan(tmp_path / "fits.zarr")["center"], fits["center"])


@pytest.mark.parametrize(("name", "suffix"), [("csv", ".csv"), ("hspy", ".hspy"), ("nexus", ".nxs"), ("tiff", ".tif")])
def test_exports(fits, tmp_path, name: str, suffix: str):
    center = fits["center"].compute()
    getattr(center.scanfold, f"export_{name}")(tmp_path / f"ours{suffix}")
    getattr(sf, f"export_{name}")(center, tmp_path / f"theirs{suffix}")
    ours, theirs = (tmp_path / f"{n}{suffix}" for n in ("ours", "theirs"))
    assert ours.stat().st_size == theirs.stat().st_size > 100


def test_explore(scan, fits):
    pytest.importorskip("panel", reason="exploring needs panel")
    assert fits.compute().scanfold.explore(scan).select(y=1, x=2) == {"y": 1, "x": 2}
    assert scan.scanfold.explore().select(y=0, x=1) == {"y": 0, "x": 1}


def test_transpose(tmp_path):
    frames = xr.DataArray(np.arange(24.0).reshape(6, 4), dims=("position", "energy"), name="counts").chunk(position=2)
    turned = frames.scanfold.transpose_scan(tmp_path / "turned.zarr", dim="position", progress=False)
    np.testing.assert_array_equal(turned["counts"].transpose("position", "energy"), frames)
    assert turned["counts"].chunksizes["position"] == (6,)


SHARED = ["explore", "export_csv", "export_hspy", "export_nexus", "export_tiff", "fit", "save"]


def test_completion_shows_the_forwards_and_nothing_else(scan, fits):
    def completed(accessor: object) -> list[str]:
        return [name for name in dir(accessor) if not name.startswith("_")]

    assert completed(fits.scanfold) == sorted([*SHARED, "plot", "report", "summary"])
    assert completed(scan.scanfold) == sorted([*SHARED, "transpose_scan"])
    assert completed(fits.scanfold.plot) == ["fit", "parameter_map", "quality"]


@pytest.mark.parametrize(
    "imports",
    [
        "import xarray, scanfold",
        "import scanfold; scanfold.ScanError; import xarray",
        "from scanfold import fit; import xarray",
    ],
)
def test_it_is_registered_on_import(imports: str):
    code = f"{imports}\nprint(hasattr(xarray.Dataset(), 'scanfold'), hasattr(xarray.DataArray(), 'scanfold'))"
    out = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["True", "True"]
