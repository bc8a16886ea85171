"""Scans on a grid: as many groups as the formula says, each frame that of the oracle."""

from __future__ import annotations

import numpy as np
import pytest

import scanfold as sf
from scanfold import ptycho
from scanfold.conventions import InputError, InputTypeError

from . import oracle

PROBE = ptycho.default_probe(16)


@pytest.mark.parametrize(
    ("size", "N", "gridsize", "offset", "outer", "expected"),
    [(392, 64, 2, 4, 8, 6724), (392, 128, 2, 4, 8, 4356), (40, 16, 1, 4, 4, 169), (41, 16, 3, 2, 7, 64)],
)
def test_there_are_as_many_groups_as_the_formula_says(size, N, gridsize, offset, outer, expected):
    images = np.ones((1, size, size))
    sim = ptycho.mk_simdata(1, size, ptycho.default_probe(N), outer, gridsize=gridsize, offset=offset, images=images)
    assert sim["X"].shape == (expected, N, N, gridsize**2)
    assert sim["coords_true"].shape == (expected, 1, 2, gridsize**2)


def test_frames_are_those_of_a_plain_loop():
    sim = ptycho.mk_simdata(2, 32, PROBE, 14, gridsize=2, offset=3, phase=True, noise=False, nphotons=1e5, seed=3)
    sim = sim.compute()
    images, probe = sim["YY_full"].values, PROBE.values.astype(complex)
    waves, tops = [], []
    for image in images:
        for row in range(0, 32 - 19 + 1, 7):
            for column in range(0, 32 - 19 + 1, 7):
                for i, j in ((0, 0), (0, 3), (3, 0), (3, 3)):
                    top, left = row + i, column + j
                    tops.append((top, left))
                    waves.append(probe * image[top : top + 16, left : left + 16])
    waves = np.array(waves)[:, None]
    s = oracle.scale(waves, 1e5)
    np.testing.assert_allclose(float(sim["intensity_scale"]), s, rtol=1e-6)
    expected = np.sqrt(oracle.intensity(waves, s)) / s
    shape = (-1, 4, 16, 16)
    ours = np.moveaxis(sim["X"].values, -1, 1)
    np.testing.assert_allclose(ours, expected.reshape(shape), atol=3e-6 * expected.max(), rtol=0)
    np.testing.assert_allclose(np.moveaxis(sim["Y_I"].values, -1, 1), abs(waves).reshape(shape), atol=1e-6)
    # coordinates: from the position of a frame and the centre of its group back to where it was cut
    centre, coords = sim["global_offsets"].values, sim["coords_true"].values
    places = (centre - coords)[:, 0]  # x, y
    assert np.array_equal(places[:, 1].ravel() - 8, [t for t, _ in tops])
    assert np.array_equal(places[:, 0].ravel() - 8, [left for _, left in tops])
    phases = [np.angle(images[n // 16, t : t + 16, u : u + 16]) for n, (t, u) in enumerate(tops)]
    np.testing.assert_allclose(np.moveaxis(sim["Y_phi"].values, -1, 1).reshape(-1, 16, 16), phases, atol=1e-6)


def test_jitter_moves_frames_and_leaves_room_for_it():
    options = {"gridsize": 2, "offset": 4, "jitter": 1.5, "nphotons": 1e4, "seed": 9}
    sim = ptycho.mk_simdata(1, 40, PROBE, 8, **options)
    assert sim.attrs["margin"] == 6
    assert sim["YY_full"].shape == (1, 52, 52)
    assert sim["X"].shape[0] == ((40 - 20) // 4 + 1) ** 2
    moved = sim["coords_nominal"] - sim["coords_true"]
    assert 1.2 < float(moved.std()) < 1.8
    assert float(abs(moved).max()) <= 6
    assert float(sim["coords_nominal"].sum("channel").max()) == 0
    # the patch at the true position, as everywhere
    y, x = ((sim["global_offsets"][3, 0, i, 0] - sim["coords_true"][3, 0, i, 2]).item() for i in (1, 0))
    patch = oracle.patch(sim["YY_full"].values[0], y, x, 16)
    np.testing.assert_allclose(sim["Y_I"][3, :, :, 2].values, abs(patch * PROBE.values), atol=2e-6)


def test_any_chunks_give_the_same_bits():
    a, b = (ptycho.mk_simdata(2, 40, PROBE, 8, gridsize=2, jitter=1.0, chunks=c).compute() for c in (3, 100))
    assert a.identical(b)


def test_objects_and_noise_of_a_dataset_differ():
    sim = ptycho.mk_simdata(2, 40, PROBE, 8, seed=1).compute()
    assert not np.array_equal(sim["YY_full"][0], sim["YY_full"][1])
    twice = ptycho.mk_simdata(2, 40, PROBE, 8, images=np.ones((2, 40, 40)), nphotons=1e3).compute()
    frames = twice["X"].values.reshape(-1, 256)
    assert len(np.unique(frames, axis=0)) == len(frames)


def test_a_test_set_takes_the_scale_of_the_training_set():
    train = ptycho.mk_simdata(1, 40, PROBE, 8, seed=1)
    test = ptycho.mk_simdata(1, 40, PROBE, 20, seed=2, intensity_scale=float(train["intensity_scale"]))
    assert float(test["intensity_scale"]) == float(train["intensity_scale"])
    container = ptycho.PtychoDataContainer.from_dataset(test)
    assert container.norm_Y_I == float(train["intensity_scale"])


def test_a_grid_is_saved(tmp_path):
    sim = ptycho.mk_simdata(2, 40, PROBE, 8, gridsize=2, chunks=20, nphotons=1e5)
    saved = sf.save(sim, tmp_path / "grid.zarr", progress=False).compute()
    assert np.array_equal(saved["X"].values, sim["X"].values)
    assert np.array_equal(saved["Y_phi"].values, sim["Y_phi"].values)


BAD = [
    ({"size": 10}, "needs 16"),
    ({"outer_offset": 1}, "at least 2"),
    ({"gridsize": 0}, "at least 1"),
    ({"n": 0}, "at least 1"),
    ({"data_source": "line"}, "lines"),
    ({"images": np.ones((2, 40, 40))}, r"\(1, 40, 40\)"),
    ({"images": np.full((1, 40, 40), "a")}, "complex numbers"),
    ({"probe": np.ones((16, 8))}, "probe has shape"),
    ({"intensity_scale": 0}, "above 0"),
    ({"jitter": -1}, "at least 0"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_wrong_input_is_refused(options, message):
    settings = {"n": 1, "size": 40, "probe": PROBE, "outer_offset": 8} | options
    with pytest.raises((InputError, InputTypeError), match=message):
        ptycho.mk_simdata(**settings)
