"""Scales: the mean is over patterns, whatever the layout; a simulation gives its own scale back."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from scanfold import ptycho
from scanfold.conventions import InputError, InputTypeError
from scanfold.testing import raise_if_computes

RNG = np.random.default_rng(0)
X = RNG.random((6, 16, 16, 4)).astype(np.float32)


def test_the_mean_is_over_patterns_and_not_over_groups():
    stats = ptycho.compute_dataset_intensity_stats(X)
    expected = (X.astype(float) ** 2).sum(axis=(1, 2)).mean()
    np.testing.assert_allclose(float(stats["batch_mean_sum_intensity"]), expected, rtol=1e-12)
    assert int(stats["n_samples"]) == 24
    flat = np.moveaxis(X, -1, 1).reshape(24, 16, 16)
    again = ptycho.compute_dataset_intensity_stats(flat)
    np.testing.assert_allclose(float(again["batch_mean_sum_intensity"]), expected, rtol=1e-12)
    np.testing.assert_allclose(float(ptycho.scale_nphotons(X, 1e6)), np.sqrt(1e6 / expected), rtol=1e-12)


@pytest.mark.parametrize("chunks", [33, 150])
def test_a_simulation_gives_its_scale_back(chunks):
    sim = ptycho.generate_simulated_data(
        ptycho.lines(100), ptycho.default_probe(16), n_images=400, nphotons=1e6, chunks=chunks
    )
    s = sim["intensity_scale"]
    with raise_if_computes():
        stats = ptycho.compute_dataset_intensity_stats(sim["diffraction"], intensity_scale=s, is_normalized=True)
        found = ptycho.scale_nphotons(stats, 1e6)
    np.testing.assert_allclose(float(found), float(s), rtol=1e-3)
    np.testing.assert_allclose(float(stats["mean_photons"]), 1e6, rtol=1e-3)
    assert stats.attrs["source"] == "amplitude over intensity_scale"
    raw = ptycho.compute_dataset_intensity_stats(sim["diffraction"] * s)
    np.testing.assert_allclose(float(raw["mean_photons"]), 1e6, rtol=1e-3)
    np.testing.assert_allclose(float(ptycho.scale_nphotons(raw, 1e6)), 1, rtol=1e-3)


def test_normalised_data_have_the_closed_form_as_their_scale():
    made = ptycho.normalize_data(X)
    np.testing.assert_allclose(float((made.astype(float) ** 2).sum(["ky", "kx"]).mean()), 64, rtol=1e-6)
    assert made.dtype == np.float32
    with pytest.warns(UserWarning, match="closed form"):
        closed = ptycho.closed_form_scale(1e9, 16)
    np.testing.assert_allclose(float(ptycho.scale_nphotons(made, 1e9)), closed, rtol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert round(ptycho.closed_form_scale(1e9, 64), 2) == 988.21


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ptycho.compute_dataset_intensity_stats(X, is_normalized=True), "intensity_scale"),
        (lambda: ptycho.compute_dataset_intensity_stats(np.ones((3, 3))), "patterns"),
        (lambda: ptycho.compute_dataset_intensity_stats(np.ones((3, 4, 5))), "square"),
        (lambda: ptycho.compute_dataset_intensity_stats(np.ones((3, 4, 4), complex)), "real amplitudes"),
        (lambda: ptycho.scale_nphotons(X, -1), "above 0"),
    ],
)
def test_wrong_input_is_refused(make, message):
    with pytest.raises((InputError, InputTypeError), match=message):
        make()
