"""Positions: inside the object, spread as their pattern says, each a function of its number."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy import spatial, stats

import scanfold as sf
from scanfold import ptycho
from scanfold.conventions import InputError, InputTypeError
from scanfold.ptycho import forward, positions, simulate
from scanfold.runs import store
from scanfold.testing import raise_if_computes

PATTERNS = ("uniform", "raster", "spiral", "fermat", "lissajous")


@given(
    pattern=st.sampled_from(PATTERNS),
    n=st.integers(1, 300),
    buffer=st.floats(0, 40),
    jitter=st.floats(0, 3),
    seed=st.integers(0, 2**32),
)
def test_every_patch_lies_inside_the_object(pattern, n, buffer, jitter, seed):
    scan = ptycho.scan_positions(pattern, n, (120, 150), 32, buffer=buffer, jitter=jitter, seed=seed)
    y, x = scan["position_y"].values, scan["position_x"].values
    assert scan.sizes["position"] == n
    positions.require_inside(y, x, (120, 150), 32)
    ny, nx = (scan.get(f"position_{a}_nominal", scan[f"position_{a}"]).values for a in "yx")
    assert ((ny >= buffer) & (ny <= 120 - buffer) & (nx >= buffer) & (nx <= 150 - buffer)).all()


def test_uniform_positions_are_uniform_and_independent():
    scan = ptycho.scan_positions("uniform", 20_000, (200, 300), 20, buffer=30, seed=4)
    y, x = scan["position_y"].values, scan["position_x"].values
    for values, high in ((y, 170), (x, 270)):
        assert stats.kstest((values - 30) / (high - 30), "uniform").pvalue > 1e-3
    assert abs(stats.pearsonr(y, x).statistic) < 0.03
    assert abs(stats.pearsonr(y[1:], y[:-1]).statistic) < 0.03


def test_a_longer_scan_of_uniform_positions_begins_with_the_shorter():
    long, short = (ptycho.scan_positions("uniform", n, (200, 200), 20, seed=4, jitter=1) for n in (500, 100))
    assert long.isel(position=slice(100)).equals(short)


@pytest.mark.parametrize("pattern", ["spiral", "fermat"])
def test_spirals_are_evenly_dense(pattern):
    scan = ptycho.scan_positions(pattern, 2000, (500, 500), 20)
    points = np.stack([scan["position_y"], scan["position_x"]], axis=1)
    nearest = spatial.cKDTree(points).query(points, 2)[0][:, 1]
    inner = nearest[50:-200]
    assert inner.std() / inner.mean() < 0.25
    # a disc of the whole box: as far apart as so many points in it can be
    assert 0.7 < inner.mean() / np.sqrt(np.pi * 240**2 / 2000) < 1.1


def test_a_lissajous_figure_is_a_smooth_curve_over_the_box():
    scan = ptycho.scan_positions("lissajous", 4000, (200, 200), 20, turns=(5, 6))
    y, x = scan["position_y"].values, scan["position_x"].values
    assert np.hypot(np.diff(y), np.diff(x)).max() < 2.5
    assert np.count_nonzero(np.diff(np.diff(y) > 0)) == 10
    assert np.ptp(y) > 179
    assert np.ptp(x) > 179


def test_jitter_is_normal_and_its_nominal_positions_are_kept():
    scan = ptycho.scan_positions("raster", 10_000, (500, 500), 20, jitter=1.5, seed=2)
    plain = ptycho.scan_positions("raster", 10_000, (500, 500), 20, buffer=16)
    assert np.array_equal(scan["position_y_nominal"], plain["position_y"])
    for axis in "yx":
        moved = (scan[f"position_{axis}"] - scan[f"position_{axis}_nominal"]).values / 1.5
        assert stats.kstest(moved, "norm").pvalue > 1e-3
        assert abs(moved).max() <= 4


def test_very_long_scans_are_lazy_and_the_same(monkeypatch, tmp_path):
    eager = ptycho.scan_positions("fermat", 1000, (200, 200), 20, jitter=0.5)
    assert ptycho.scan_positions("fermat", 1000, (200, 200), 20, jitter=0.5, chunks=90).compute().equals(eager)

    def sim():
        image, probe = np.ones((100, 100)), ptycho.default_probe(16)
        return ptycho.generate_simulated_data(image, probe, n_images=1000, chunks=64, jitter=0.3)

    expected = sim()
    monkeypatch.setattr(positions, "EAGER", 300)
    monkeypatch.setattr(simulate, "EAGER", 300)
    monkeypatch.setattr(store, "LOADED", 1000)
    lazy = ptycho.scan_positions("fermat", 1000, (200, 200), 20, jitter=0.5)
    assert lazy["position_y"].chunks is not None
    assert lazy.compute().equals(eager)
    with raise_if_computes():
        long = sim()
    # as frames, so that a block makes its own and no others
    assert all(long[name].chunks[0] == long["diffraction"].chunks[0] for name in long.coords if "position" in name)
    seen = []
    monkeypatch.setattr(forward, "_plain", lambda y, x, f=forward._plain: (seen.append((y, x)), f(y, x))[1])
    saved = sf.save(long, tmp_path / "long.zarr", progress=False)
    # in the trial of a run too, where other kernels make only some positions
    assert seen
    assert np.isfinite(np.concatenate([a.ravel() for pair in seen for a in pair])).all()
    xr.testing.assert_identical(saved.drop_attrs().compute(), expected.drop_attrs().compute())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pattern": "ras"}, "raster"),
        ({"n": 0}, "at least 1"),
        ({"object_shape": (30, 300)}, "no room"),
        ({"shape": (2, 3)}, "n=10 does not fit"),
        ({"pattern": "uniform", "shape": (5, 2)}, "raster"),
        ({"turns": (2, 3)}, "lissajous"),
        ({"buffer": -1}, "at least 0"),
        ({"jitter": np.inf}, "finite"),
    ],
)
def test_wrong_input_is_refused(options, message):
    settings = {"pattern": "raster", "n": 10, "object_shape": (100, 100), "N": 32} | options
    with pytest.raises((InputError, InputTypeError), match=message):
        ptycho.scan_positions(settings.pop("pattern"), settings.pop("n"), settings.pop("object_shape"), **settings)
