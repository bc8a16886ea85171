"""Frames to spectra and back: the same values, chunked the other way, in bounded memory."""

from __future__ import annotations

import math

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from scanfold import runs
from scanfold.conventions import InputError
from scanfold.runs import transpose
from scanfold.testing import CountingArray


def frames(chunks, shape=(17, 23, 31)):
    values = np.random.default_rng(0).integers(0, 60000, shape).astype("uint16")
    array = xr.DataArray(da.from_array(values, chunks), dims=("energy", "y", "x"), name="counts")
    array.attrs["units"] = "count"
    return array.assign_coords(energy=np.linspace(0, 1, shape[0]))


@pytest.mark.parametrize("chunks", [(1, 23, 31), (3, 23, 31), (4, 8, 8), ((5, 2, 10), (10, 13), 31)])
@pytest.mark.parametrize("dim", ["energy", ("y", "x"), "x"])
def test_values_are_the_same_and_dim_is_whole(tmp_path, monkeypatch, chunks, dim):
    monkeypatch.setattr(transpose, "BLOCK", 4096)
    scan = frames(chunks)
    saved = runs.transpose_scan(scan, tmp_path / "a.zarr", dim=dim, progress=False)["counts"]
    np.testing.assert_array_equal(saved.values, scan.values)
    assert saved.dtype == scan.dtype
    assert saved.attrs["units"] == "count"
    np.testing.assert_array_equal(saved["energy"], scan["energy"])
    whole = [dim] if isinstance(dim, str) else list(dim)
    assert all(len(saved.chunksizes[d]) == 1 for d in whole)
    rest = [saved.chunksizes[d] for d in saved.dims if d not in whole]
    assert math.prod(map(len, rest)) > 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_every_element_is_read_once_and_nothing_when_it_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(transpose, "BLOCK", 4096)
    source = CountingArray(frames(-1).values)
    scan = source.lazy(("energy", "y", "x"), energy=2)
    runs.transpose_scan(scan, tmp_path / "a.zarr", dim="energy", progress=False)
    assert source.elements == scan.size
    runs.transpose_scan(scan, tmp_path / "a.zarr", dim="energy", progress=False)
    assert source.elements == scan.size


def test_blocks_stay_below_their_size():
    scan = xr.DataArray(da.zeros((1024, 1024, 1024), chunks=(4, 1024, 1024), dtype="f4"), dims=("energy", "y", "x"))
    slab, tile = transpose._shapes(scan.to_dataset(name="tiles"), ("energy",))
    assert slab == (16, 1024, 1024)
    assert tile == (16, 128, 128)
    assert 4 * math.prod(slab) <= transpose.BLOCK
    assert 4 * 1024 * tile[1] * tile[2] <= transpose.BLOCK


def test_other_work_in_the_store_is_refused_before_any_tile_is_written(tmp_path):
    runs.transpose_scan(frames((1, 23, 31)), tmp_path / "a.zarr", dim="energy", progress=False)
    with pytest.raises(InputError, match="holds other work"):
        runs.transpose_scan(frames((1, 23, 31)) + 1, tmp_path / "a.zarr", dim="energy", progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_bad_dimensions_are_refused(tmp_path):
    with pytest.raises(InputError, match="unknown dimension 'enrgy'; did you mean 'energy'"):
        runs.transpose_scan(frames(-1), tmp_path / "a.zarr", dim="enrgy")
    with pytest.raises(InputError, match="leaves nothing to cut"):
        runs.transpose_scan(frames(-1), tmp_path / "a.zarr", dim=["energy", "y", "x"])
