"""Containers: fields of the stated shapes, made in all the ways that there are."""

from __future__ import annotations

import numpy as np
import pytest

import scanfold as sf
from scanfold import grouping, ptycho
from scanfold.conventions import InputError, InputTypeError
from scanfold.ptycho import PtychoDataContainer, RawData
from scanfold.testing import raise_if_computes

from . import oracle

OBJECT, PROBE = ptycho.lines(100, seed=1, phase=True), ptycho.default_probe(16)
B, N, C = 10, 8, 4
RNG = np.random.default_rng(1)
COORDS = RNG.random((B, 1, 2, C))
FIELDS = {
    "X": RNG.random((B, N, N, C)).astype(np.float32) + 0.1,
    "Y_I": RNG.random((B, N, N, C)).astype(np.float32),
    "Y_phi": RNG.random((B, N, N, C)).astype(np.float32),
    "norm_Y_I": 1.0,
    "YY_full": None,
    "coords_nominal": COORDS,
    "coords_true": COORDS,
    "nn_indices": np.zeros((B, C), np.int32),
    "global_offsets": RNG.random((B, 1, 2, C)),
    "local_offsets": np.zeros((B, 1, 2, C)),
    "probeGuess": np.ones((N, N), np.complex64),
}


def test_direct_construction_keeps_every_field():
    stats = ptycho.compute_dataset_intensity_stats(FIELDS["X"])
    container = PtychoDataContainer(**FIELDS, dataset_intensity_stats=stats)
    for name, value in FIELDS.items():
        found = getattr(container, name)
        assert found is None if value is None else np.array_equal(found, value), name
    assert len(container) == B
    assert "10 groups" in repr(container)
    mean = (FIELDS["X"].astype(float) ** 2).sum(axis=(1, 2)).mean()
    scale = container.intensity_scale(1e6)
    np.testing.assert_allclose(float(scale), np.sqrt(1e6 / mean), rtol=1e-12)
    assert scale.attrs["of"] == "dataset_intensity_stats"
    bare = PtychoDataContainer(**FIELDS)
    np.testing.assert_allclose(float(bare.intensity_scale(1e6)), float(scale), rtol=1e-12)
    assert bare.intensity_scale(1e6).attrs["of"] == "X"


def test_groups_become_a_container_with_truth_where_the_frames_are():
    sim = ptycho.generate_simulated_data(OBJECT, PROBE, n_images=80, nphotons=1e6, jitter=0.7, gridsize=2, seed=3)
    groups = RawData.from_dataset(sim.drop_vars("Y")).generate_grouped_data(16, 7, 30)
    with raise_if_computes():
        container = PtychoDataContainer.from_groups(groups)
    true = container.global_offsets - container.coords_true  # x, y
    nominal = container.global_offsets - container.coords_nominal
    assert not np.array_equal(true, nominal)
    index = container.nn_indices
    assert np.array_equal(true[:, 0, 0], sim["position_x"].values[index]) or np.allclose(
        true[:, 0, 0], sim["position_x"].values[index], rtol=0, atol=1e-12
    )
    np.testing.assert_allclose(container.coords_true.sum(axis=-1), 0, atol=1e-10)
    for b, c in ((0, 0), (3, 1), (29, 3)):
        x, y = true[b, 0, :, c]
        expected = oracle.patch(OBJECT.values, y, x, 16)
        np.testing.assert_allclose(container.Y_I[b, :, :, c], abs(expected), atol=3e-6)
        turned = container.Y_I[b, :, :, c] * np.exp(1j * container.Y_phi[b, :, :, c])
        np.testing.assert_allclose(turned, expected, atol=5e-6)
    power = (container.X.astype(float) ** 2).sum(axis=(1, 2)).mean()
    np.testing.assert_allclose(power, 64, rtol=1e-5)
    np.testing.assert_allclose(container.norm_Y_I, np.sqrt(1e6 / 64), rtol=1e-5)


def test_gathered_truth_is_taken_as_it_is():
    sim = ptycho.generate_simulated_data(OBJECT, PROBE, n_images=40, gridsize=2, seed=3)
    raw = RawData.from_dataset(sim)
    container = PtychoDataContainer.from_groups(raw.generate_grouped_data(16, 7, 10))
    expected = np.moveaxis(raw.Y[container.nn_indices], 1, -1)
    assert np.array_equal(container.Y_I, abs(expected))


def test_plain_arrays_become_a_container():
    x, y = RNG.uniform(20, 80, (2, 50))
    frames = RNG.random((50, 8, 8)).astype(np.float32)
    container = PtychoDataContainer.from_raw_data_without_pc(
        xcoords=x, ycoords=y, diff3d=frames, probeGuess=np.ones((8, 8)), scan_index=np.zeros(50, int),
        objectGuess=None, N=8, K=7, nsamples=50,
    )  # fmt: skip
    assert container.X.shape == (50, 8, 8, 4)
    assert container.Y_I is None
    assert container.YY_full is None
    assert container.global_offsets.shape == (50, 1, 2, 1)
    factor = container.X[5, :, :, 2] / frames[container.nn_indices[5, 2]]
    np.testing.assert_allclose(factor, factor[0, 0], rtol=1e-5)


def test_a_container_is_saved_and_opened_again(tmp_path):
    sim = ptycho.generate_simulated_data(OBJECT, PROBE, n_images=40, gridsize=2, seed=3, chunks=10)
    container = PtychoDataContainer.from_groups(RawData.from_dataset(sim).generate_grouped_data(16, 7, 20))
    sf.save(container.dataset, tmp_path / "groups.zarr", progress=False)
    again = PtychoDataContainer.from_dataset(sf.open_scan(tmp_path / "groups.zarr"))
    for name in ("X", "Y_I", "Y_phi", "coords_true", "nn_indices", "probeGuess"):
        assert np.array_equal(getattr(again, name), getattr(container, name)), name
    assert float(again.intensity_scale(1e9)) == float(container.intensity_scale(1e9))


@pytest.mark.parametrize("layout", ["channel", "torch", "grid"])
def test_batches_of_a_container_are_its_arrays(layout):
    sim = ptycho.generate_simulated_data(OBJECT, PROBE, n_images=40, gridsize=2, seed=3, chunks=10)
    container = PtychoDataContainer.from_groups(RawData.from_dataset(sim).generate_grouped_data(16, 7, 20))
    batches = list(grouping.iter_batches(container.dataset, 8, layout=layout))
    assert [len(b["X"]) for b in batches] == [8, 8, 4]
    for name in ("X", "Y_I", "Y_phi"):
        found = np.concatenate([b[name] for b in batches])
        assert np.array_equal(grouping.convert_layout(found, layout, "channel"), getattr(container, name)), name
    for name in ("coords_nominal", "coords_true", "local_offsets", "global_offsets", "nn_indices"):
        assert np.array_equal(np.concatenate([b[name] for b in batches]), getattr(container, name)), name


def test_batches_of_a_grid_are_its_arrays():
    sim = ptycho.mk_simdata(1, 60, PROBE, 16, gridsize=2, offset=4, chunks=5)
    batch = next(grouping.iter_batches(sim, 4))
    assert set(batch) == {"X", "Y_I", "Y_phi", "coords_nominal", "coords_true", "global_offsets", "image"}
    for name, values in batch.items():
        assert np.array_equal(values, sim[name][:4].values), name


BAD = [
    ({"X": np.ones((B, N, N))}, "X has shape"),
    ({"X": np.ones((B, N, 7, C))}, "square"),
    ({"Y_I": np.ones((B, N, N, 3))}, "Y_I has shape"),
    ({"coords_true": np.ones((B, 2, C))}, "coords_true has shape"),
    ({"coords_true": None}, "coords_true is None"),
    ({"nn_indices": np.zeros((B, 3))}, "nn_indices has shape"),
    ({"probeGuess": np.ones((4, 4))}, "probe has shape"),
    ({"Y_phi": np.ones((B, N, N, C), complex)}, "Y_phi holds"),
    ({"dataset_intensity_stats": 3.0}, "compute_dataset_intensity_stats"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_wrong_fields_are_refused(options, message):
    with pytest.raises((InputError, InputTypeError), match=message):
        PtychoDataContainer(**FIELDS | options)


def test_what_is_no_container_is_refused():
    sim = ptycho.generate_simulated_data(OBJECT, PROBE, n_images=4)
    with pytest.raises(InputError, match="no X, coords_nominal"):
        PtychoDataContainer.from_dataset(sim)
    with pytest.raises(InputError, match="grouping"):
        PtychoDataContainer.from_groups(sim.drop_vars("probe"))
    with pytest.raises(AttributeError, match="coords_true"):
        _ = PtychoDataContainer(**FIELDS).coord_true
