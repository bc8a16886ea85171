"""Content that is not what was written is found where there is a checksum, and a warning says where there is none."""

import hashlib
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.codecs import Crc32cCodec, GzipCodec, ZstdCodec

import scanfold as sf
from scanfold.conventions import InputError

DATA = np.random.default_rng(1).integers(0, 1000, (12, 8, 9), dtype=np.uint16)


def flip(path: Path, at: float = 0.5) -> None:
    """Change one bit."""
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 16
    path.write_bytes(bytes(content))


def opened(path: Path) -> xr.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return sf.open_scan(path, verify=True)


@pytest.mark.parametrize("codec", [Crc32cCodec(), ZstdCodec(checksum=True), GzipCodec()])
def test_zarr(tmp_path, codec):
    path = tmp_path / "a.zarr"
    zarr.create_array(str(path), data=DATA, chunks=(4, 8, 9), compressors=[codec])
    assert opened(path)["data"].shape == DATA.shape
    flip(path / "c/1/0/0")
    with pytest.raises(InputError, match=r"chunk \[1, 0, 0\] of array '' of .*is not what was written"):
        sf.open_scan(path, verify=True)


def test_a_store_of_ours_may_lack_no_chunk(tmp_path):
    path = tmp_path / "a.zarr"
    scan = xr.DataArray(np.zeros((6, 4)), dims=("y", "x"), name="counts").chunk(y=2)
    sf.save(scan, path, progress=False)
    assert opened(path)["counts"].shape == (6, 4)
    chunks = sorted(p for p in (path / "counts").rglob("*") if p.is_file() and p.name != "zarr.json")
    chunks[-1].unlink()
    assert np.isnan(sf.open_scan(path)["counts"]).any()  # without verify it reads as NaN
    with pytest.raises(InputError, match=r"chunk \[\d, 0\] of array 'counts' of .*is missing"):
        sf.open_scan(path, verify=True)


@pytest.mark.parametrize("how", [{"fletcher32": True}, {"compression": "gzip"}])
def test_hdf5(tmp_path, how):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        node = file.create_dataset("entry/d", data=DATA, chunks=(4, 8, 9), **how)
        where = node.id.get_chunk_info(2)
    opened(path)
    flip(path, (where.byte_offset + where.size // 2) / path.stat().st_size)
    with pytest.raises(InputError, match=r"chunk \[2, 0, 0\] of dataset 'entry/d' of .*a\.h5' is not what was written"):
        sf.open_scan(path, verify=True)


def test_npz(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, d=DATA)
    opened(path)
    flip(path)
    with pytest.raises(InputError, match=r"member 'd.npy' of .* is not what was written"):
        sf.open_scan(path, verify=True)


def test_a_hash_beside_the_file(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, DATA)
    with pytest.warns(UserWarning, match=r"no checksums.*sha256sum a\.npy > a\.npy\.sha256"):
        sf.open_scan(path, verify=True)
    (tmp_path / "a.npy.sha256").write_text(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  a.npy\n")
    opened(path)
    flip(path)
    with pytest.raises(InputError, match=r"its hash is not that of a\.npy\.sha256"):
        sf.open_scan(path, verify=True)
