"""Large boxes of contiguous HDF5 datasets are mapped: the same values as h5py reads, and the same errors."""

import math
import mmap

import h5py
import numpy as np
import pytest

import scanfold as sf
from scanfold.conventions import InputError
from scanfold.io import hdf5

SHAPE = (5, 6, 7, 9)
REGIONS = [
    np.s_[0:5, 0:6, 0:7, 0:9],
    np.s_[1:4, 0:6, 0:7, 0:9],
    np.s_[4:5, 2:3, 0:7, 3:9],
    np.s_[2:2, 0:6, 0:7, 0:9],
]


@pytest.fixture
def maps(monkeypatch):
    """Map boxes of any size, and note the maps."""
    made = []
    original = hdf5._mapped

    def noted(*args):
        made.append(args)
        return original(*args)

    monkeypatch.setattr(hdf5, "MAPPED", 1)
    monkeypatch.setattr(hdf5, "_mapped", noted)
    return made


def counts(dtype):
    values = np.random.default_rng(0).integers(0, 200, SHAPE)
    return (values + 1j if np.dtype(dtype).kind == "c" else values).astype(dtype)


def opened(path, dataset="d", **options):
    return hdf5.contents(str(path), dataset, options.get("locking")).signal.data


@pytest.mark.parametrize("userblock", [0, 1024])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "u4", "i8", "f2", "f4", "f8", "c8"])
def test_values_are_those_that_h5py_reads(tmp_path, maps, dtype, userblock):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", userblock_size=userblock) as file:
        file["before"] = np.arange(mmap.PAGESIZE // 3, dtype="u1")
        file["d"] = counts(dtype)
    lazy = opened(path)
    for region in REGIONS:
        with h5py.File(path) as file:
            expected = file["d"][region]
        found = lazy[region]
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    assert len(maps) == sum(math.prod(s.stop - s.start for s in r) > 0 for r in REGIONS)


def test_what_is_written_into_a_block_stays_in_memory(tmp_path, maps):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["d"] = counts("u2")
    before = (tmp_path / "a.h5").read_bytes()
    block = opened(tmp_path / "a.h5")[1:3]
    block[:] = 7
    assert maps
    assert (tmp_path / "a.h5").read_bytes() == before


def _chunked(file, folder):
    file.create_dataset("d", data=counts("u2"), chunks=True)


def _swapped(file, folder):
    file["d"] = counts(">u2")


def _bits(file, folder):
    """12 bits in 16, the others filled with ones: the bytes are not the numbers."""
    kind = h5py.h5t.NATIVE_UINT16.copy()
    kind.set_precision(12)
    kind.set_pad(h5py.h5t.PAD_ZERO, h5py.h5t.PAD_ONE)
    h5py.h5d.create(file.id, b"d", kind, h5py.h5s.create_simple(SHAPE))
    file["d"][:] = counts("u2")


def _external(file, folder):
    file.create_dataset("d", data=counts("u2"), external=[(folder / "raw.bin", 0, counts("u2").nbytes)])


def _virtual(file, folder):
    file["source"] = counts("u2")
    layout = h5py.VirtualLayout(SHAPE, "u2")
    layout[:] = h5py.VirtualSource(file["source"])
    file.create_virtual_dataset("d", layout)


def _linked(file, folder):
    with h5py.File(folder / "other.h5", "w") as other:
        other["deep"] = counts("u2")
    file["d"] = h5py.ExternalLink("other.h5", "/deep")


@pytest.mark.parametrize("write", [_chunked, _swapped, _bits, _external, _virtual, _linked])
def test_what_cannot_be_mapped_is_read(tmp_path, maps, write):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write(file, tmp_path)
    np.testing.assert_array_equal(opened(tmp_path / "a.h5")[1:4], counts("u2")[1:4])
    assert not maps


def test_never_written_and_without_locks_is_read(tmp_path, maps):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("empty", SHAPE, "u2", fillvalue=3)
        file["d"] = counts("u2")
    assert (opened(tmp_path / "a.h5", "empty")[:] == 3).all()
    np.testing.assert_array_equal(opened(tmp_path / "a.h5", locking=False)[:], counts("u2"))
    assert not maps


def test_what_this_process_is_writing_is_read(tmp_path, maps):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["d"] = counts("u2")
        np.testing.assert_array_equal(opened(tmp_path / "a.h5")[:], counts("u2"))
    assert not maps


def test_a_file_cut_off_since_it_was_opened_is_an_error(tmp_path, maps):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["d"] = counts("u2")
    scan = sf.open_scan(path)["d"]
    lazy = opened(path)
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size - 100)
    with pytest.raises(InputError, match=r"cannot read dataset '/d' of .*a\.h5.*truncated"):
        scan.compute()
    with pytest.raises(InputError, match=r"cannot read dataset '/d'"):
        lazy[:]


def test_a_map_never_reaches_beyond_the_file(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["d"] = counts("u2")
    with h5py.File(path) as file:
        node, first = file["d"], file["d"].id.get_offset()
        with path.open("r+b") as stream:
            stream.truncate(first + counts("u2").nbytes - 1)
        with pytest.raises(OSError, match="ends before"):
            hdf5._mapped(str(path), node, first, np.s_[0:1, 0:6, 0:7, 0:9])


def test_a_file_replaced_since_it_was_opened(tmp_path, maps):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["d"] = counts("u2")
    lazy = opened(path)
    path.unlink()
    with h5py.File(path, "w") as file:
        file["d"] = counts("u2")[:2]
    with pytest.raises(InputError, match="changed since it was opened"):
        lazy[:]
    assert not maps
