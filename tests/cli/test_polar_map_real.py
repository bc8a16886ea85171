"""The slice through every layer on measured patterns: labels, two passes, store and figures, from the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import scanfold as sf
from scanfold import detectors as det
from scanfold.cli import main
from scanfold.detectors import outputs


@pytest.fixture(scope="module")
def star(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    patterns = np.fft.fftshift(np.load(real_data / "ptycho/siemens_star.npz")["data"], axes=(1, 2))
    path = tmp_path_factory.mktemp("star")
    np.save(path / "star.npy", patterns)
    labels = det.cluster(sf.open_scan(path / "star.npy"), 4).compute()
    np.savez(path / "labels.npz", cluster_labels=labels.values)
    return path


def test_free_positions_of_a_real_scan(star: Path, tmp_path: Path):
    arguments = ["--data", str(star / "star.npy"), "--labels", str(star / "labels.npz"), "--out", str(tmp_path / "out")]
    assert main(["polar-map", *arguments]) == 0
    maps = xr.open_zarr(tmp_path / "out/polar_map.zarr")
    labels = np.load(star / "labels.npz")["cluster_labels"]
    # Templates must tell the clusters apart that they were made from.
    assert (maps["assignment"].values == labels).mean() > 0.9
    assert maps["com_y"].dims == ("position", "detector")
    patterns = np.load(star / "star.npy").astype(float)
    center = maps["center"].values
    expected = [
        (patterns.sum(axis=2 - a) * (np.arange(128) - center[a])).sum(axis=1) / patterns.sum(axis=(1, 2))
        for a in (0, 1)
    ]
    np.testing.assert_allclose(maps["com_y_raw"].sel(detector="ungated"), expected[0], atol=1e-4)
    np.testing.assert_allclose(maps["com_x_raw"].sel(detector="ungated"), expected[1], atol=1e-4)
    assert (tmp_path / "out/figures/montage_templates.png").stat().st_size > 10_000
    assert (np.load(tmp_path / "out/kspace/gate_G_0.npy") == maps["gate"][0].values).all()


def test_the_file_as_it_is(real_data: Path, star: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """From the published file itself: its positions, its FFT order, labels made on the way."""
    monkeypatch.setattr(outputs.Folder, "draw", lambda *given: None)
    given = ["--data", str(real_data / "ptycho/siemens_star.npz"), "--format", "ptycho", "--clusters", "4"]
    assert main(["polar-map", *given, "--out", str(tmp_path / "out"), "--no-progress"]) == 0
    maps = xr.open_zarr(tmp_path / "out/polar_map.zarr")
    assert maps["position_y"].dims == maps["position_x"].dims == ("position",)
    np.testing.assert_allclose(maps["mean_counts"], np.load(star / "star.npy").astype(float).mean(axis=0), atol=1e-3)
    labels = np.load(star / "labels.npz")["cluster_labels"]
    assert (maps["assignment"].values == labels).mean() > 0.9
