"""Folding a stack into a map, naming its dimensions, and cutting it into blocks."""

from dataclasses import dataclass

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import basic_indices

import scanfold as sf
from scanfold.conventions import InputError, InputTypeError
from scanfold.io.arrays import FileArray, Folded, Joined
from scanfold.io.chunks import MOST, plan


@dataclass(frozen=True)
class InMemory(FileArray):
    """Stands for a file."""

    values: np.ndarray

    def read(self, region):
        return self.values[region]


@pytest.fixture
def stack():
    return np.random.default_rng(1).integers(0, 99, (12, 4, 5), dtype=np.int32)


@pytest.fixture
def path(tmp_path, stack):
    path = tmp_path / "stack.h5"
    with h5py.File(path, "w") as f:
        f.create_dataset("frames", data=stack, chunks=(2, 4, 5))
        f["spectra"] = stack[:, 0]
        f["cube"] = stack.reshape(3, 4, 4, 5)
    return path


@pytest.mark.parametrize("chunks", ["auto", {"y": 1, "x": 3}, {"y": 2, "x": -1, "ky": 3}, 2])
def test_folded_stack_is_the_reshaped_one(path, stack, chunks):
    scan = sf.open_scan(path, dataset="frames", scan_shape=(3, 4), chunks=chunks)["frames"]
    assert scan.dims == ("y", "x", "ky", "kx")
    np.testing.assert_array_equal(scan, stack.reshape(3, 4, 4, 5))
    np.testing.assert_array_equal(scan[::-1, 1:3, [0, 2]], stack.reshape(3, 4, 4, 5)[::-1, 1:3, [0, 2]])


def test_folded_rows_are_read_at_once(path, monkeypatch):
    scan = sf.open_scan(path, dataset="frames", scan_shape=(3, 4), chunks={"y": 2})["frames"]
    reads = []
    original = h5py.Dataset.__getitem__
    monkeypatch.setattr(
        h5py.Dataset, "__getitem__", lambda s, k, *a, **o: (reads.append(k[0]), original(s, k, *a, **o))[1]
    )
    scan[1].compute()
    assert reads == [slice(4, 8)]


def test_spectra_fold_too(path, stack):
    scan = sf.open_scan(path, dataset="spectra", scan_shape=(4, 3))
    assert scan["spectra"].dims == ("y", "x", "index")
    assert scan["index"].attrs["units"] == "pixel"
    np.testing.assert_array_equal(scan["spectra"], stack[:, 0].reshape(4, 3, 5))


def test_a_map_is_checked_against_scan_shape(path):
    assert sf.open_scan(path, dataset="cube", scan_shape=(3, 4))["cube"].shape == (3, 4, 4, 5)
    with pytest.raises(InputError, match="needs 12 positions, and the first dimension has 3"):
        sf.open_scan(path, dataset="cube", scan_shape=(4, 3))


def test_wrong_scan_shape_gives_the_factors(path):
    with pytest.raises(InputError, match=r"needs 10 positions.* 12, which is 3 × 4 = 2 × 6 = 1 × 12"):
        sf.open_scan(path, dataset="frames", scan_shape=(5, 2))
    for bad in (12, (3, 4, 1), (3.5, 4), ("a", "b"), (-3, -4)):
        with pytest.raises(InputTypeError, match="rows and columns"):
            sf.open_scan(path, dataset="frames", scan_shape=bad)


@given(index=basic_indices((3, 4, 4, 5), allow_newaxis=False))
def test_any_index_is_numpys(index):
    frames = np.arange(240.0).reshape(12, 4, 5)
    folded = Folded.of(InMemory("", "", frames.shape, frames.dtype, frames), (3, 4))
    halves = [InMemory("", "", (n, 4, 5), frames.dtype, part) for n, part in ((5, frames[:5]), (7, frames[5:]))]
    joined = Folded.of(Joined.of("", "", halves), (3, 4))
    np.testing.assert_array_equal(folded[index], frames.reshape(3, 4, 4, 5)[index])
    np.testing.assert_array_equal(joined[index], frames.reshape(3, 4, 4, 5)[index])


def test_parts_that_do_not_fit_are_refused():
    parts = [InMemory("a", n, (2, *s), np.dtype("f4"), None) for n, s in (("p", (4, 5)), ("q", (4, 6)))]
    with pytest.raises(InputError, match=r"'p' has frames \(4, 5\).*'q' \(4, 6\)"):
        Joined.of("a", "all", parts)


def test_positions_along_the_stack_are_folded(tmp_path, stack):
    path = tmp_path / "positions.h5"
    with h5py.File(path, "w") as f:
        g = f.create_group("data")
        g.attrs.update({"NX_class": "NXdata", "signal": "frames", "axes": ["position", ".", "."]})
        g.attrs["x_indices"] = 0
        g["frames"], g["position"], g["x"] = stack, np.arange(12), np.arange(12) * 0.5
    scan = sf.open_scan(path, scan_shape=(3, 4))
    np.testing.assert_array_equal(scan["position_x"], (np.arange(12) * 0.5).reshape(3, 4))
    assert scan["position"].dims == ("y", "x")


def test_dims_rename_in_order(path, stack):
    scan = sf.open_scan(path, dataset="frames", dims=("y", "x", "energy"))
    assert scan["frames"].dims == ("y", "x", "energy")
    assert set(scan.coords) == {"energy"}
    assert sf.open_scan(path, dataset="frames", scan_shape=(3, 4), dims=tuple("abcd"))["frames"].dims == tuple("abcd")
    for bad in (("y", "x"), ("y", "y", "x"), ("y", "x", 3)):
        with pytest.raises(InputError, match=r"expected 3 different names, such as \('position', 'ky', 'kx'\)"):
            sf.open_scan(path, dataset="frames", dims=bad)


def test_unknown_dimension_in_chunks(path):
    with pytest.raises(InputError, match=r"unknown dimension in chunks= 'postion'; did you mean 'position'"):
        sf.open_scan(path, dataset="frames", chunks={"postion": 3})
    for bad in ({"ky": 0}, {"position": (5, 5)}, (1, 2), "many", {"ky": 1.5}):
        with pytest.raises((InputError, InputTypeError), match="chunk"):
            sf.open_scan(path, dataset="frames", chunks=bad)


def _plan(shape, native, detector, itemsize=4):
    dims = [f"d{i}" for i in range(len(shape))]
    return plan("auto", dims, shape, itemsize=itemsize, native=native, detector=detector)


@given(
    shape=st.tuples(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 4000)),
    native=st.none() | st.tuples(st.integers(1, 64), st.integers(1, 64), st.integers(1, 4000)),
    itemsize=st.sampled_from([1, 2, 4, 8]),
)
def test_plan_keeps_its_promises(shape, native, itemsize):
    sizes = _plan(shape, native, 1, itemsize)
    assert sizes[-1] == shape[-1]
    assert all(1 <= s <= n for s, n in zip(sizes, shape, strict=True))
    assert np.prod(sizes) * itemsize <= MOST
    own = native or (1, 1, 1)
    assert all(s % min(c, n) == 0 or s == n for s, c, n in zip(sizes[:2], own[:2], shape[:2], strict=True))


def test_large_blocks_are_at_least_32_mib():
    for shape in [(4096, 4096, 1000), (256, 256, 256, 256), (10**6, 512)]:
        sizes = _plan(shape, None, len(shape) // 2)
        assert 32 * 2**20 <= np.prod(sizes) * 4 <= 128 * 2**20


def test_small_scans_are_shared_out():
    sizes = _plan((64, 64, 400), None, 1)
    blocks = np.prod([-(-n // s) for n, s in zip((64, 64, 400), sizes, strict=True)])
    assert 8 <= blocks <= 16


def test_chunks_that_cut_the_detector_warn():
    with pytest.warns(UserWarning, match="transpose_scan"):
        sizes = _plan((1024, 1024, 256, 256), (64, 64, 16, 16), 2, itemsize=2)
    assert np.prod(sizes) * 2 <= MOST
    assert sizes[2:] == (256, 256)
