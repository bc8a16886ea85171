"""Free positions: against the oracle, bit-identical in any chunks, with photons that are counted right."""

from __future__ import annotations

import cloudpickle
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import scanfold as sf
from scanfold import ptycho
from scanfold.conventions import InputError, InputTypeError
from scanfold.ptycho import _diffraction_kernels as kernels
from scanfold.ptycho import forward
from scanfold.runs import graph as graphs
from scanfold.testing import raise_if_computes

from . import oracle

OBJECT = ptycho.lines(100, seed=4, phase=True)
PROBE = ptycho.default_probe(16)


def simulate(**options):
    settings = {"n_images": 12, "nphotons": 1e6, "seed": 5} | options
    return ptycho.generate_simulated_data(OBJECT, PROBE, **settings)


def waves_of(sim: xr.Dataset) -> np.ndarray:
    probes = sim["probe"].values.reshape(-1, *sim["probe"].shape[-2:])
    return oracle.exit_waves(sim["object"].values, probes, sim["position_y"].values, sim["position_x"].values)


@pytest.mark.parametrize("n", [16, 15])
def test_frames_without_noise_are_those_of_a_plain_loop(n):
    sim = ptycho.generate_simulated_data(OBJECT, ptycho.gaussian(n, 3.0), n_images=12, noise=False, seed=5)
    waves = waves_of(sim)
    s = oracle.scale(waves, 1e9)
    np.testing.assert_allclose(float(sim["intensity_scale"]), s, rtol=1e-6)
    expected = np.sqrt(oracle.intensity(waves, s)) / s
    np.testing.assert_allclose(sim["diffraction"].values, expected, atol=3e-6 * expected.max(), rtol=0)


def test_intensities_of_several_modes_add():
    modes = np.stack([PROBE.values, 0.5 * np.roll(PROBE.values, 2, axis=0)])
    sim = ptycho.generate_simulated_data(OBJECT, modes, n_images=5, noise=False, seed=1)
    waves = waves_of(sim)
    s = oracle.scale(waves, 1e9)
    np.testing.assert_allclose(float(sim["intensity_scale"]), s, rtol=1e-6)
    expected = np.sqrt(oracle.intensity(waves, s)) / s
    np.testing.assert_allclose(sim["diffraction"].values, expected, atol=3e-6 * expected.max(), rtol=0)


def test_patches_are_the_object_exactly_at_whole_positions():
    y, x = np.array([8.0, 50.0, 92.0]), np.array([8.0, 31.0, 92.0])
    for interpolation in ("bilinear", "fourier"):
        sim = simulate(n_images=None, positions=(y, x), interpolation=interpolation)
        for patch, v, u in zip(sim["Y"].values, y.astype(int), x.astype(int), strict=True):
            assert np.array_equal(patch, OBJECT.values[v - 8 : v + 8, u - 8 : u + 8])


@pytest.mark.parametrize(("interpolation", "y"), [("bilinear", np.nan), ("fourier", np.nan), ("bilinear", 92.5)])
def test_a_patch_that_cannot_be_is_nan(interpolation, y):
    made = kernels.patches(OBJECT.values, np.array([50.0, y]), np.array([40.5, 40.0]), 16, interpolation)
    assert np.isfinite(made[0]).all()
    assert np.isnan(made[1]).all()


def test_patches_between_pixels_are_bilinear():
    sim = simulate()
    expected = [
        oracle.patch(OBJECT.values, y, x, 16)
        for y, x in zip(sim["position_y"].values, sim["position_x"].values, strict=True)
    ]
    np.testing.assert_allclose(sim["Y"].values, expected, atol=2e-6, rtol=0)


def test_fourier_shifts_move_waves_of_low_frequency_exactly():
    y, x = np.mgrid[0:100, 0:100]
    wave = lambda y, x: np.exp(0.3j * y - 0.2j * x) + 0.5 * np.exp(0.9j * x)  # noqa: E731
    places = np.array([30.3, 50.75]), np.array([41.6, 33.2])
    sim = ptycho.generate_simulated_data(wave(y, x), PROBE, positions=places, interpolation="fourier")
    r = np.arange(16) - 8
    for patch, v, u in zip(sim["Y"].values, *places, strict=True):
        np.testing.assert_allclose(patch, wave(v + r[:, None], u + r[None, :]), atol=5e-3)


@given(chunks=st.integers(1, 25), other=st.integers(1, 25))
@settings(max_examples=8)
def test_any_chunks_give_the_same_bits(chunks, other):
    for interpolation in ("bilinear", "fourier"):
        a, b = (simulate(n_images=24, chunks=c, interpolation=interpolation).compute() for c in (chunks, other))
        assert a.identical(b)


def test_the_noise_of_a_position_is_its_own():
    long, short = simulate(n_images=30, nphotons=1e9), simulate(n_images=30, nphotons=1e9, chunks=4)
    # another order of the same work: the last position alone
    assert np.array_equal(long["diffraction"][29].values, short["diffraction"][29].values)
    assert not np.array_equal(long["diffraction"][29].values, long["diffraction"][28].values)
    other = simulate(n_images=30, nphotons=1e9, seed=6)
    assert not np.array_equal(other["position_y"].values, long["position_y"].values)


def test_a_tiled_object_gives_the_same_bits_as_a_whole_one():
    tiled = ptycho.lines(100, seed=4, phase=True, chunks=30)
    sim = ptycho.generate_simulated_data(tiled, PROBE, n_images=40, chunks=10, seed=2)
    positions = sim["position_y"].values, sim["position_x"].values
    whole = ptycho.generate_simulated_data(OBJECT, PROBE, positions=positions, chunks=7, seed=2)
    assert sim["object"].chunks is not None
    assert np.array_equal(sim["Y"].values, whole["Y"].values)
    np.testing.assert_allclose(float(sim["intensity_scale"]), float(whole["intensity_scale"]), rtol=1e-7)


def test_photons_add_up_and_scatter_as_poisson():
    y, x = np.full(4000, 50.0), np.full(4000, 41.0)
    sim = ptycho.generate_simulated_data(OBJECT, PROBE, positions=(y, x), nphotons=1e4, counts=True, seed=8).compute()
    counts = sim["diffraction"].values.astype(float)
    assert abs(counts.sum(axis=(1, 2)).mean() / 1e4 - 1) < 0.01
    waves = oracle.exit_waves(OBJECT.values, PROBE.values[None], y[:1], x[:1])
    mean = oracle.intensity(waves, oracle.scale(waves, 1e4))[0]
    bright = mean > 5
    assert bright.sum() > 25
    # dispersion index: Σ(k − mean)²/mean is χ² of as many degrees of freedom as there are positions
    chi2 = ((counts - mean) ** 2 / mean).sum(axis=0)[bright]
    assert stats.kstest(stats.chi2.sf(chi2, 4000), "uniform").pvalue > 1e-4


def test_parseval_holds():
    sim = simulate(noise=False, n_images=40).compute()
    waves = sim["probe"].values * sim["Y"].values
    energy = (np.abs(waves.astype(complex)) ** 2).sum(axis=(1, 2))
    np.testing.assert_allclose((sim["diffraction"].values.astype(float) ** 2).sum(axis=(1, 2)), energy, rtol=1e-5)
    np.testing.assert_allclose(float(sim["intensity_scale"]) ** 2 * energy.mean(), 1e6, rtol=1e-6)


@pytest.mark.parametrize("positions", [([30.0, 50.0], [40.0, 60.0]), ([8.0, 92.0], [91.5, 8.25])])
def test_the_scale_is_that_of_the_positions_themselves(positions):
    sim = simulate(n_images=None, positions=positions)
    np.testing.assert_allclose(float(sim["intensity_scale"]), oracle.scale(waves_of(sim), 1e6), rtol=1e-7)


def test_the_detector_does_what_is_asked_of_it():
    plain = simulate(noise=False).compute()
    s = float(plain["intensity_scale"])
    light = (plain["diffraction"].values.astype(float) * s) ** 2
    stop = np.ones((16, 16), bool)
    stop[6:10, 6:10] = False
    seen = simulate(noise=False, beam_stop=stop, background=3.0, saturation=500.0).compute()
    expected = np.minimum((light + 3.0) * stop, 500.0)
    np.testing.assert_allclose((seen["diffraction"].values.astype(float) * s) ** 2, expected, rtol=1e-4, atol=1e-3)
    counts = simulate(counts=True, saturation=500).compute()["diffraction"]
    assert counts.dtype == np.uint32
    assert counts.max() == 500
    blurred = simulate(noise=False, psf=1.0).compute()["diffraction"].values.astype(float)
    assert blurred.max() < plain["diffraction"].values.max()
    np.testing.assert_allclose(((blurred * s) ** 2).sum(), light.sum(), rtol=0.02)


@pytest.mark.parametrize("interpolation", ["bilinear", "fourier"])
def test_a_long_scan_is_added_up_in_sections(interpolation, monkeypatch):
    once = float(simulate(n_images=50, interpolation=interpolation)["intensity_scale"])
    monkeypatch.setattr(forward, "SECTION", 16)
    np.testing.assert_allclose(
        float(simulate(n_images=50, interpolation=interpolation)["intensity_scale"]), once, rtol=1e-13
    )


def test_no_block_carries_the_object():
    sim = simulate(chunks=4)
    for key, node in graphs.materialise(sim, ["diffraction", "Y"]).items():
        assert str(key).startswith("prologue-") or len(cloudpickle.dumps(node)) < OBJECT.nbytes / 4


def test_nothing_is_computed_before_it_is_asked_for():
    tiled = ptycho.lines(100, seed=4, chunks=30)
    with raise_if_computes():
        simulate()
        ptycho.generate_simulated_data(tiled, PROBE, positions=([30.0], [40.5]))


def test_a_simulation_is_saved_and_opened_again(tmp_path):
    sim = simulate(n_images=50, jitter=0.5, chunks=20)
    saved = sf.save(sim, tmp_path / "sim.zarr", progress=False)
    xr.testing.assert_identical(saved.drop_attrs().compute(), sim.drop_attrs().compute())
    again = sf.open_scan(tmp_path / "sim.zarr")
    assert again.attrs["kind"] == "amplitude"
    assert float(again["intensity_scale"]) == float(sim["intensity_scale"])


def test_config_and_keywords_say_the_same():
    config = ptycho.TrainingConfig(ptycho.ModelConfig(16, gridsize=2), n_groups=9, nphotons=1e5)
    sim = ptycho.generate_simulated_data(config=config, objectGuess=OBJECT, probeGuess=PROBE, buffer=20.0)
    assert sim.sizes["position"] == 9
    assert sim.attrs["gridsize"] == 2
    assert sim["position_y"].min() >= 20
    assert sim["position_y"].max() <= 80
    keywords = simulate(n_images=9, gridsize=2, nphotons=1e5, buffer=20.0, seed=0)
    assert sim.compute().equals(keywords.compute())


BAD = [
    ({"n_images": None}, "how many frames"),
    ({"n_images": 0}, "at least 1"),
    ({"n_images": 2.5}, "whole number"),
    ({"nphotons": -1.0}, "above 0"),
    ({"nphotons": float("nan")}, "finite"),
    ({"positions": "rastr"}, "raster"),
    ({"positions": ([5.0], [50.0]), "n_images": None}, "outside the object"),
    ({"positions": ([np.nan], [50.0]), "n_images": None}, "not finite"),
    ({"positions": ([50.0, 51.0], [50.0]), "n_images": None}, "one length"),
    ({"positions": ([50.0], [50.0])}, "12 frames are asked for"),
    ({"positions": ([50.0], [50.0]), "n_images": None, "jitter": 1.0}, "jitter"),
    ({"interpolation": "cubic"}, "bilinear"),
    ({"beam_stop": np.ones((8, 8))}, r"\(16, 16\)"),
    ({"background": -1.0}, "negative"),
    ({"psf": 0.0}, "above 0"),
    ({"jitter": 20.0}, "no room"),
    ({"shape": (2, 3)}, "raster"),
    ({"config": 3}, "TrainingConfig"),
    ({"config": ptycho.TrainingConfig(ptycho.ModelConfig(16)), "gridsize": 2, "n_images": None}, "gridsize"),
    ({"config": ptycho.TrainingConfig(ptycho.ModelConfig(32)), "n_images": None, "nphotons": None}, r"\(32, 32\)"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_wrong_input_is_refused_with_the_remedy(options, message):
    with pytest.raises((InputError, InputTypeError), match=message):
        simulate(**options)


def test_probes_and_objects_of_the_wrong_kind_are_refused():
    with pytest.raises(InputError, match="probe has shape"):
        ptycho.generate_simulated_data(OBJECT, np.ones((16, 8)), n_images=3)
    with pytest.raises(InputError, match="0 everywhere"):
        ptycho.generate_simulated_data(OBJECT, np.zeros((16, 16)), n_images=3)
    with pytest.raises(InputError, match="two dimensions"):
        ptycho.generate_simulated_data(np.ones((2, 50, 50)), PROBE, n_images=3)
    with pytest.raises(InputTypeError, match="complex numbers"):
        ptycho.generate_simulated_data(np.full((50, 50), "a"), PROBE, n_images=3)
    with pytest.raises(InputError, match="no light"):
        ptycho.generate_simulated_data(np.zeros((50, 50)), PROBE, n_images=3)["diffraction"].compute()
