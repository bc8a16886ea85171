"""RawData: PtychoPINN's names over lazy data, and files that hold what they promise."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr

import scanfold as sf
from scanfold import grouping, ptycho
from scanfold.conventions import InputError, InputTypeError
from scanfold.ptycho import RawData
from scanfold.testing import CountingArray, raise_if_computes, synthetic_raw_data

OBJECT, PROBE = ptycho.lines(100, seed=1, phase=True), ptycho.default_probe(16)


@pytest.fixture
def simulated() -> RawData:
    sim = ptycho.generate_simulated_data(
        OBJECT, PROBE, n_images=60, nphotons=1e6, jitter=0.5, gridsize=2, chunks=25, seed=7
    )
    return RawData.from_dataset(sim)


def same(a: RawData, b: RawData, names: tuple[str, ...]) -> None:
    for name in names:
        left, right = getattr(a, name), getattr(b, name)
        assert left.dtype == right.dtype, name
        assert np.array_equal(left, right), name


def test_npz_to_zarr_to_npz_and_back(simulated, tmp_path):
    names = ("diff3d", "xcoords", "ycoords", "xcoords_start", "ycoords_start", "probeGuess", "objectGuess", "Y",
             "scan_index")  # fmt: skip
    first = simulated.to_npz(tmp_path / "first.npz")
    same(simulated, RawData.from_file(first), names)
    stored = ptycho.convert(first, tmp_path / "scan.zarr", progress=False)
    assert stored["diffraction"].chunks is not None
    same(simulated, RawData.from_file(tmp_path / "scan.zarr"), names)
    second = RawData.from_dataset(stored).to_npz(tmp_path / "second.npz")
    with np.load(first) as a, np.load(second) as b:
        assert set(a.files) == set(b.files)
        for name in a.files:
            assert np.array_equal(a[name], b[name]), name


def test_what_a_simulation_was_made_for_survives_a_file(simulated, tmp_path):
    again = RawData.from_file(simulated.to_npz(tmp_path / "run.npz"))
    assert again.norm_Y_I == simulated.norm_Y_I
    assert again.dataset.attrs["nphotons"] == 1e6
    with pytest.raises(InputError, match="simulated for gridsize=2"):
        again.generate_grouped_data(16, K=7, nsamples=5, gridsize=3)


def test_the_metadata_of_others_bind_nobody(simulated, tmp_path):
    path = tmp_path / "other.npz"
    arrays = {"diff3d": simulated.diff3d, "xcoords": simulated.xcoords, "ycoords": simulated.ycoords}
    physics = {"physics_parameters": {"nphotons": 1e5, "gridsize": 1}, "label": "PINN"}
    np.savez(path, probeGuess=PROBE.values, _metadata=np.array(json.dumps(physics)), **arrays)
    scan = RawData.from_file(path)
    assert scan.dataset.attrs["nphotons"] == 1e5
    assert scan.generate_grouped_data(16, K=7, nsamples=5, gridsize=2).sizes["channel"] == 4
    assert scan.norm_Y_I is None
    for text in ("none", "[1]", '{"physics_parameters": 3}'):
        np.savez(path, probeGuess=PROBE.values, _metadata=np.array(text), norm_Y_I=[2.5], **arrays)
        scan = RawData.from_file(path)
        assert (scan.dataset.attrs["metadata"], scan.norm_Y_I) == (text, 2.5)
        assert scan.to_npz(tmp_path / "again.npz").exists()
    np.savez(path, probeGuess=PROBE.values, norm_Y_I=[2.5, 3.5], **arrays)
    with pytest.raises(InputError, match="expected one number"):
        RawData.from_file(path)


def test_npz_files_are_of_the_contract(simulated, tmp_path):
    path = simulated.to_npz(tmp_path / "run.npz")
    with np.load(path, allow_pickle=False) as file:
        assert file["diff3d"].shape == (60, 16, 16)
        assert file["diff3d"].dtype == np.float32
        assert file["xcoords"].dtype == np.float64
        assert file["probeGuess"].dtype == np.complex64
        assert file["Y"].shape == (60, 16, 16)
        assert float(file["norm_Y_I"]) == simulated.norm_Y_I
        metadata = json.loads(str(file["_metadata"]))
    assert metadata["schema_version"] == "1.0.0"
    assert metadata["physics_parameters"] == {"N": 16, "nphotons": 1e6, "gridsize": 2}
    assert metadata["provenance"]["options"]["seed"] == 7


def test_a_file_that_could_not_be_written_leaves_the_old_one(simulated, tmp_path, monkeypatch):
    path = simulated.to_npz(tmp_path / "run.npz")
    before = path.read_bytes()

    def fail(*args):
        raise OSError("no space left")

    monkeypatch.setattr("scanfold.ptycho.npz._pieces", fail)
    with pytest.raises(OSError, match="no space"):
        simulated.to_npz(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["run.npz"]
    with pytest.raises(InputError, match="no folder"):
        simulated.to_npz(tmp_path / "nowhere" / "run.npz")


def test_writing_holds_a_piece_at_a_time(simulated, tmp_path, monkeypatch):
    monkeypatch.setattr("scanfold.export.slabs.SLAB", 16 * 16 * 4 * 10)
    pieces = []
    from scanfold.ptycho import npz

    original = npz._pieces
    monkeypatch.setattr(npz, "_pieces", lambda a: pieces.extend(p.sizes for p in original(a)) or original(a))
    path = simulated.to_npz(tmp_path / "run.npz")
    frames = [p["position"] for p in pieces if "ky" in p]
    assert frames == [25, 25, 10]  # whole blocks, so that none is made twice
    assert np.array_equal(RawData.from_file(path).diff3d, simulated.diff3d)


def test_the_photon_scale_of_a_lazy_simulation_is_found_once_for_all_pieces(simulated, tmp_path, monkeypatch):
    from scanfold.ptycho import _diffraction_kernels as kernels

    calls = []
    total = kernels.total_energy
    monkeypatch.setattr(kernels, "total_energy", lambda *a: calls.append(1) or total(*a))
    monkeypatch.setattr("scanfold.export.slabs.SLAB", 16 * 16 * 4 * 10)
    lazy = RawData.from_dataset(simulated.dataset.drop_vars("intensity_scale"))
    assert RawData.from_file(lazy.to_npz(tmp_path / "run.npz")).diff3d.shape == (60, 16, 16)
    assert len(calls) == 1
    plan = grouping.plan_groups(lazy.dataset, nsamples=20, gridsize=2)
    calls.clear()
    groups = grouping.gather(lazy.dataset, plan, chunks=2)
    assert grouping.to_legacy_dict(groups)["diffraction"].shape == (20, 16, 16, 4)
    assert len(calls) == 1
    calls.clear()
    assert sum(len(batch["diffraction"]) for batch in grouping.iter_batches(groups, 4)) == 20
    assert len(calls) == 1


def test_coordinates_are_read_without_frames():
    source = CountingArray(np.ones((30, 8, 8), np.float32))
    x = np.arange(30.0)
    raw = RawData(x, x, x + 0.5, x, source.lazy(("position", "ky", "kx"), position=10), np.ones((8, 8)))
    assert raw.xcoords[3] == 3
    assert raw.xcoords_start[3] == 3.5
    assert repr(raw).startswith("RawData(30 frames of 8 × 8, amplitude")
    assert source.reads == 0
    raw.diff3d, raw.diff3d  # noqa: B018
    assert source.elements == 30 * 64


def test_the_siemens_star_opens_by_its_counts(real_data):
    with pytest.warns(UserWarning, match="compressed"):
        raw = RawData.from_file(real_data / "ptycho" / "siemens_star.npz")
    assert raw.kind == "intensity"
    assert raw.N == 128
    assert raw.xcoords.shape == (516,)
    with np.load(real_data / "ptycho" / "siemens_star.npz") as file:
        counts = np.fft.fftshift(file["data"][17])
        assert np.array_equal(raw.ycoords, file["scan"][:, 0].astype(float))
    np.testing.assert_allclose(raw.amplitude[17].values, np.sqrt(counts))
    groups = raw.generate_grouped_data(128, 7, 20, 2)
    np.testing.assert_allclose((groups["diffraction"][0, 0] ** 2).values, raw.dataset["diffraction"][
        int(groups["nn_indices"][0, 0])].values, rtol=1e-5)  # fmt: skip


def test_groups_are_exactly_as_many_and_their_truth_is_at_their_frames(simulated):
    with raise_if_computes():
        groups = simulated.generate_grouped_data(16, 7, 50, seed=3)
    assert groups["diffraction"].shape == (50, 4, 16, 16)
    index = groups["nn_indices"].values
    assert np.array_equal(groups["Y"].values, simulated.Y[index])
    assert np.array_equal(groups["diffraction"].values, simulated.diff3d[index])
    assert groups.attrs["gridsize"] == 2
    sequential = synthetic_raw_data(30, N=8).generate_grouped_data(8, 4, 5, 1, sequential_sampling=True)
    assert sequential["nn_indices"].values.ravel().tolist() == [0, 1, 2, 3, 4]


def test_from_simulation_puts_frames_where_it_is_told():
    raw = RawData.from_simulation(
        xcoords=np.array([40.0, 41.5, 60.0]), ycoords=np.array([30.0, 30.0, 55.25]), probeGuess=PROBE,
        objectGuess=OBJECT, nphotons=1e5,
    )  # fmt: skip
    assert np.array_equal(raw.Y[0], OBJECT.values[22:38, 32:48])
    assert raw.scan_index.tolist() == [0, 0, 0]
    assert raw.xcoords_start.tolist() == raw.xcoords.tolist()
    labelled = RawData.from_simulation([40.0, 50.0], [40.0, 50.0], PROBE, OBJECT, scan_index=[3, 4])
    assert labelled.scan_index.tolist() == [3, 4]


def test_synthetic_data_are_the_same_every_time():
    a, b = synthetic_raw_data(), synthetic_raw_data()
    assert a.diff3d.shape == (100, 64, 64)
    same(a, b, ("diff3d", "xcoords", "probeGuess"))
    assert not np.array_equal(synthetic_raw_data(seed=1).diff3d, a.diff3d)


def test_a_simulation_and_its_training_use_one_gridsize_and_one_N(simulated):
    with pytest.raises(InputError, match="gridsize=1, and the scan was simulated for gridsize=2"):
        simulated.generate_grouped_data(16, 7, 10, 1)
    with pytest.raises(InputError, match="16 × 16"):
        simulated.generate_grouped_data(64, 7, 10, 2)


FRAMES, PLACES, WAVE = np.ones((5, 8, 8), np.float32), np.arange(5.0), np.ones((8, 8))
BAD = [
    ({"diff3d": np.ones((5, 8, 9))}, "square frames"),
    ({"diff3d": np.ones((5, 8))}, "square frames"),
    ({"diff3d": np.array([[["a"]]])}, "real amplitudes"),
    ({"xcoords": np.arange(4.0)}, "there are 5 frames"),
    ({"ycoords": np.array([0, 1, np.nan, 3, 4])}, "not finite"),
    ({"probeGuess": np.ones((4, 4))}, "probe has shape"),
    ({"scan_index": [1, 2]}, "scan_index has shape"),
    ({"Y": np.ones((5, 4, 4))}, "patch for each frame"),
    ({"objectGuess": np.ones((2, 8, 8))}, "two dimensions"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_wrong_arrays_are_refused(options, message):
    settings = dict.fromkeys(("xcoords", "ycoords", "xcoords_start", "ycoords_start"), PLACES) | {
        "diff3d": FRAMES, "probeGuess": WAVE}  # fmt: skip
    with pytest.raises((InputError, InputTypeError), match=message):
        RawData(**settings | options)


def test_datasets_without_frames_or_positions_are_refused():
    with pytest.raises(InputError, match="no 'position_y'"):
        RawData.from_dataset(xr.Dataset({"diffraction": (("position", "ky", "kx"), FRAMES)}))
    with pytest.raises(InputTypeError, match="Dataset"):
        RawData.from_dataset(3)
    with pytest.raises(AttributeError, match="diff3d"):
        _ = synthetic_raw_data(3, N=8).diffs


def test_a_view_is_saved_like_any_scan(simulated, tmp_path):
    stored = simulated.to_zarr(tmp_path / "scan.zarr", progress=False)
    assert np.array_equal(stored["diffraction"].values, simulated.diff3d)
    again = RawData.from_dataset(sf.open_scan(tmp_path / "scan.zarr"))
    assert again.norm_Y_I == simulated.norm_Y_I
