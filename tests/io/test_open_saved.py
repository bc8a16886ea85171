"""Stores that `scanfold.save` wrote are opened again: whole, or one variable of them."""

import json

import h5py
import numpy as np
import pytest
import tifffile

import scanfold as sf


@pytest.fixture
def scan(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as f:
        f["d"] = np.random.default_rng(1).normal(size=(6, 7, 5))
    return sf.open_scan(path, dims=("y", "x", "energy"))


@pytest.fixture
def store(tmp_path, scan):
    maps = scan.assign(total=scan["d"].sum("energy"), peak=scan["d"].max("energy"))
    sf.save(maps.drop_vars("d"), tmp_path / "maps.zarr", progress=False)
    return tmp_path / "maps.zarr"


def test_a_store_of_maps_opens_whole(scan, store):
    opened = sf.open_scan(store)
    np.testing.assert_array_equal(opened["total"], scan["d"].sum("energy"))
    np.testing.assert_array_equal(opened["peak"], scan["d"].max("energy"))
    assert opened["total"].chunks is not None
    assert opened.attrs["scanfold_format"] == sf.conventions.STORE_FORMAT
    assert json.loads(opened["peak"].attrs["source"])["path"] == str(store.resolve())
    assert sf.open_scan(store)["peak"].data.name == opened["peak"].data.name


def test_one_variable_of_a_store(scan, store):
    opened = sf.open_scan(store, dataset="peak", chunks={"y": 2})
    assert opened.attrs["primary"] == "peak"
    assert opened["peak"].chunks[0] == (2, 2, 2)
    np.testing.assert_array_equal(opened["peak"], scan["d"].max("energy"))


def test_an_unfinished_store_warns(store):
    root = json.loads((store / "zarr.json").read_text())
    root["attributes"].pop("scanfold_complete")
    (store / "zarr.json").write_text(json.dumps(root))
    with pytest.warns(UserWarning, match="not finished"):
        sf.open_scan(store)
    with pytest.warns(UserWarning, match="not finished"):
        sf.open_scan(store, dataset="peak")


def test_describe(store):
    found = sf.io.describe(store)
    assert {a.name for a in found.arrays} >= {"total", "peak"}
    assert set(found.scan.data_vars) == {"total", "peak"}


def test_a_folder_of_results_stands_for_its_only_store(scan, store, tmp_path):
    (tmp_path / "log.json").write_text("{}")
    assert sf.open_scan(tmp_path)["peak"].data.name == sf.open_scan(store)["peak"].data.name
    sf.save(scan.assign(peak=scan["d"].max("energy")).drop_vars("d"), tmp_path / "more.zarr", progress=False)
    with pytest.raises(sf.ScanError, match="neither a zarr store nor"):
        sf.open_scan(tmp_path)


def test_a_folder_of_frames_keeps_its_own_with_a_store_in_it(store, tmp_path):
    frames = np.random.default_rng(2).integers(0, 9, (3, 16, 17), dtype=np.uint16)
    for number, frame in enumerate(frames):
        tifffile.imwrite(tmp_path / f"frame{number}.tif", frame)
    np.testing.assert_array_equal(sf.open_scan(tmp_path)["data"], frames)
