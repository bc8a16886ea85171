"""Zarr stores of both versions are read back equal, with the labels that they carry."""

import numpy as np
import pytest
import xarray as xr
import zarr
from dask.base import tokenize

import scanfold as sf
from scanfold.conventions import InputError


@pytest.fixture
def data():
    return np.random.default_rng(1).normal(size=(6, 7, 5)).astype("f4")


@pytest.mark.parametrize("version", [2, 3])
def test_plain_array(tmp_path, data, version):
    path = tmp_path / "plain.zarr"
    array = zarr.create_array(str(path), shape=data.shape, dtype=data.dtype, chunks=(2, 7, 5), zarr_format=version)
    array[:] = data
    array.attrs["units"] = "count"
    scan = sf.open_scan(path, dims=("y", "x", "energy"))
    assert scan["data"].dims == ("y", "x", "energy")
    assert scan["data"].attrs["units"] == "count"
    np.testing.assert_array_equal(scan["data"], data)
    folded = sf.open_scan(path, scan_shape=(2, 3))
    np.testing.assert_array_equal(folded["data"], data.reshape(2, 3, 7, 5))


@pytest.mark.parametrize("version", [2, 3])
def test_group_lists_its_arrays(tmp_path, data, version):
    path = tmp_path / "group.zarr"
    group = zarr.open_group(str(path), mode="w", zarr_format=version)
    for name in ("a/first", "second"):
        group.create_array(name, data=data)
    group.create_array("mask", data=data[0] > 0)
    with pytest.raises(InputError, match=r"dataset=: .*a/first \(6, 7, 5\) float32"):
        sf.open_scan(path)
    np.testing.assert_array_equal(sf.open_scan(path, dataset="a/first")["first"], data)
    np.testing.assert_array_equal(sf.open_scan(path, dataset="a")["first"], data)
    with pytest.raises(InputError, match=r"no array 'third'.*it has"):
        sf.open_scan(path, dataset="third")


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_store_of_xarray(tmp_path, data, version):
    path = tmp_path / "xarray.zarr"
    coords = {"y": ("y", np.arange(6) * 0.5, {"units": "um"}), "energy": ("energy", np.arange(5.0), {"units": "eV"})}
    saved = xr.Dataset(
        {"counts": (("y", "x", "energy"), data, {"units": "count"}), "total": (("y", "x"), data.sum(-1))}, coords
    )
    encoding = {"counts": {"chunks": (2, 7, 5), "dtype": "int16", "scale_factor": 1e-3, "_FillValue": -32768}}
    saved.to_zarr(path, zarr_format=version, encoding=encoding)
    scan = sf.open_scan(path)
    assert scan.attrs["primary"] == "counts"
    assert scan["counts"].dims == ("y", "x", "energy")
    assert scan["counts"].attrs["units"] == "count"
    assert scan["y"].attrs["units"] == "um"
    with xr.open_dataset(path, engine="zarr") as expected:
        for name in ("counts", "total", "energy"):
            xr.testing.assert_equal(scan[name].compute().drop_attrs(), expected[name].load().drop_attrs())
    np.testing.assert_allclose(scan["counts"], data, atol=6e-4)


def test_a_selection_reads_only_its_chunks(tmp_path, data):
    path = tmp_path / "lazy.zarr"
    zarr.create_array(str(path), data=data, chunks=(1, 7, 5))
    scan = sf.open_scan(path, chunks={"position": 3})["data"]
    for row in (0, 1, 2, 4):
        # Reading a chunk that was torn raises: so no other chunk was touched.
        (path / "c" / str(row) / "0" / "0").write_bytes(b"torn")
    np.testing.assert_array_equal(scan[3].compute(), data[3])
    np.testing.assert_array_equal(scan[5:].compute(), data[5:])
    with pytest.raises(InputError, match=r"cannot read .*lazy.zarr"):
        scan[4].compute()


def test_hyperspy_layout(tmp_path, data):
    path = tmp_path / "signal.zspy"
    group = zarr.open_group(str(path), mode="w", zarr_format=2).require_group("Experiments/map")
    group.create_array("data", data=data)
    for i, (name, units, navigate) in enumerate([("y", "nm", True), ("x", "nm", True), ("Energy", "eV", False)]):
        group.require_group(f"axis-{i}").attrs.update(
            {"name": name, "units": units, "scale": 0.5, "offset": 3.0, "size": data.shape[i], "navigate": navigate}
        )
    scan = sf.open_scan(path)
    assert scan["data"].dims == ("y", "x", "energy")
    np.testing.assert_allclose(scan["energy"], 3 + 0.5 * np.arange(5))
    assert scan["energy"].attrs == {"units": "eV", "long_name": "Energy"}


def test_zip_store_of_hyperspy(tmp_path, data):
    path = tmp_path / "zipped.zspy"
    with zarr.storage.ZipStore(str(path), mode="w") as store:
        zarr.open_group(store, mode="w", zarr_format=2).create_array("data", data=data)
    np.testing.assert_array_equal(sf.open_scan(path)["data"], data)


def test_folder_that_is_no_store(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="neither a zarr store nor"):
        sf.open_scan(tmp_path / "empty")


def test_damaged_metadata_is_named(tmp_path, data):
    path = tmp_path / "bad.zarr"
    zarr.create_array(str(path), data=data)
    (path / "zarr.json").write_text("{")
    with pytest.raises(InputError, match=r"cannot read .*bad.zarr"):
        sf.open_scan(path)


def test_describe(tmp_path, data):
    path = tmp_path / "group.zarr"
    zarr.open_group(str(path), mode="w").create_array("map", data=data, chunks=(2, 7, 5))
    (found,) = sf.io.describe(path).arrays
    assert (found.name, found.shape, found.chunks, found.compression) == ("map", (6, 7, 5), (2, 7, 5), "zstd")


def test_tasks_are_identified_without_reading(tmp_path, data):
    # A cluster's client identifies every task of a prologue: each would read the whole scan.
    path = tmp_path / "xarray.zarr"
    xr.Dataset({"counts": (("y", "x", "energy"), data)}).to_zarr(path, zarr_format=3, consolidated=False)
    scan = sf.open_scan(path, chunks={"y": 2})["counts"]
    for chunk in (path / "counts" / "c").glob("*/*/*"):
        chunk.write_bytes(b"damaged")
    tokens = [tokenize(task) for task in dict(scan.__dask_graph__()).values()]
    assert len(set(tokens)) == 3
    with pytest.raises(InputError, match="counts"):
        scan.compute()
