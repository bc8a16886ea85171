"""Truncated, flipped, zeroed and emptied files of every format give data or a ScanError, nothing else."""

import shutil

import h5py
import numpy as np
import pytest
import tifffile
import xarray as xr
import zarr

import scanfold as sf
from scanfold.conventions import ScanError

DATA = np.random.default_rng(1).integers(0, 1000, (12, 8, 9), dtype=np.uint16)
CASES = 100


def _hdf5(path):
    """Write attributes of fixed length: those of variable length lie in a heap, and the HDF5 library
    never returns from reading one from some damaged heaps (HDFGroup/hdf5#1707, open).
    """
    with h5py.File(path, "w") as f:
        g = f.create_group("entry/data")
        f.attrs["default"] = np.bytes_("entry")
        f["entry"].attrs["default"] = np.bytes_("data")
        g.attrs.update({"NX_class": np.bytes_("NXdata"), "signal": np.bytes_("counts")})
        g.attrs["axes"] = np.array([b"y", b"x", b"energy"])
        g.create_dataset("counts", data=DATA, chunks=(4, 8, 9), compression="gzip")
        g["y"] = np.arange(12.0)


def _zarr(path):
    zarr.create_array(str(path), data=DATA, chunks=(4, 8, 9))


def _xarray(path):
    xr.Dataset({"counts": (("y", "x", "energy"), DATA)}, {"y": np.arange(12.0)}).to_zarr(path, consolidated=False)


WRITERS = {
    "hdf5.h5": _hdf5,
    "zarr.zarr": _zarr,
    "xarray.zarr": _xarray,
    "npy.npy": lambda path: np.save(path, DATA),
    "npz.npz": lambda path: np.savez(path, d=DATA),
    "compressed.npz": lambda path: np.savez_compressed(path, d=DATA),
    "tiff.tif": lambda path: tifffile.imwrite(path, DATA, photometric="minisblack"),
    "pages.tif": lambda path: tifffile.imwrite(path, DATA, photometric="minisblack", compression="zlib"),
}


def _damage(content, rng):
    """Cut off, flip a few bits, zero a run or empty; half of the damage is in the first bytes, where headers are."""
    content = bytearray(content)
    reach = max(min(len(content), 600) if rng.random() < 0.5 else len(content), 1)
    at = int(rng.integers(reach))
    match rng.integers(8):
        case 0:
            return b""
        case 1 | 2:
            return bytes(content[:at])
        case 3 | 4:
            content[at : at + 16] = bytes(len(content[at : at + 16]))
        case _:
            for i in rng.integers(reach, size=3):
                content[i] ^= 1 << int(rng.integers(8))
    return bytes(content)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.filterwarnings("ignore")
def test_damage(tmp_path, name):
    good, bad = tmp_path / "good" / name, tmp_path / "bad" / name
    good.parent.mkdir()
    WRITERS[name](good)
    files = sorted(f.relative_to(good) for f in good.rglob("*") if f.is_file()) if good.is_dir() else [None]
    refused = 0
    for seed in range(CASES):
        rng = np.random.default_rng(seed)
        shutil.rmtree(bad.parent, ignore_errors=True)
        shutil.copytree(good.parent, bad.parent)
        chosen = files[int(rng.integers(len(files)))]
        target = bad if chosen is None else bad / chosen
        target.write_bytes(_damage(target.read_bytes(), rng))
        refused += _refused(lambda: _read(bad), bad.name, seed)
        _refused(lambda: sf.io.describe(bad), bad.name, seed)
    assert refused >= CASES // 8


def _read(path):
    scan = sf.open_scan(path)
    scan[scan.attrs["primary"]].compute(scheduler="synchronous")


def _refused(action, name, seed):
    """Tell whether an action is refused, which must be with an error that names the file."""
    try:
        action()
    except ScanError as error:
        message = str(error)
    except Exception as error:
        raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
    else:
        return False
    assert name in message, f"seed {seed}: {message}"
    return True
