"""``scanfold simulate``: what the library simulates, in a store or a file, with a picture."""

from __future__ import annotations

import matplotlib.image
import numpy as np
import pytest
import xarray as xr

import scanfold as sf
from scanfold import ptycho
from scanfold.cli import main

SMALL = ["simulate", "--n-images", "20", "--size", "80", "--N", "16", "--nphotons", "1e5", "--seed", "3"]


def test_it_writes_what_the_library_computes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    argv = [*SMALL, "--object", "grf", "--phase", "--jitter", "0.5", "--gridsize", "2", "--buffer", "12"]
    assert main([*argv, "--out", "sim.zarr", "--plot", "sim.png", "--report", "sim.html", "--no-progress"]) == 0
    assert capsys.readouterr().out.splitlines() == ["wrote sim.zarr", "wrote sim.png", "wrote sim.html"]
    assert "photons in a frame" in (tmp_path / "sim.html").read_text()
    expected = ptycho.generate_simulated_data(
        ptycho.grf(80, 3, phase=True), ptycho.default_probe(16), n_images=20, nphotons=1e5, gridsize=2, buffer=12.0,
        jitter=0.5, seed=3,
    )  # fmt: skip
    found = sf.open_scan(tmp_path / "sim.zarr", format="ptycho")
    xr.testing.assert_equal(found.compute(), expected.compute())
    assert found.attrs["gridsize"] == 2
    pixels = matplotlib.image.imread("sim.png")[..., :3]
    assert (pixels.max(axis=2) - pixels.min(axis=2) > 0.2).mean() > 0.05


def test_it_writes_npz_files_too(tmp_path):
    assert main([*SMALL, "--out", str(tmp_path / "sim.npz"), "--pattern", "spiral", "--no-patches"]) == 0
    raw = ptycho.RawData.from_file(tmp_path / "sim.npz")
    assert raw.diff3d.shape == (20, 16, 16)
    assert raw.Y is None


def test_counts_are_whole(tmp_path):
    assert main([*SMALL, "--out", str(tmp_path / "sim.zarr"), "--counts", "--no-progress"]) == 0
    scan = sf.open_scan(tmp_path / "sim.zarr")
    assert scan["diffraction"].dtype == np.uint32
    assert scan.attrs["kind"] == "intensity"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--object", "line"], "did you mean 'lines'"),
        (["--pattern", "rast"], "did you mean 'raster'"),
        (["--plot", "nowhere/sim.png"], "no folder nowhere"),
        (["--size", "20", "--jitter", "3"], "no room for positions"),
        (["--nphotons", "0"], "above 0"),
    ],
)
def test_wrong_options_leave_nothing_behind(options, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*SMALL, "--out", "sim.zarr", *options]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
