"""HDF5 files written with h5py are read back equal, lazily, with the labels of their layout."""

import json
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
import xarray as xr

import scanfold as sf
from scanfold.conventions import InputError
from scanfold.io import hdf5


@pytest.fixture
def data():
    return np.random.default_rng(1).integers(0, 1000, (6, 7, 5), dtype=np.uint16)


@pytest.fixture
def nexus(tmp_path, data):
    """A NXdata group in today's way, with errors, a motor position and bin edges."""
    path = tmp_path / "map.nxs"
    with h5py.File(path, "w") as f:
        f.attrs["default"] = "entry"
        f.create_group("entry").attrs["default"] = "scan"
        g = f.create_group("entry/scan")
        g.attrs.update({"NX_class": "NXdata", "signal": "counts", "axes": ["y", "x", "energy"]})
        g.attrs["temperature_indices"] = [0, 1]
        g["counts"] = data
        g["counts"].attrs["units"] = "count"
        g["counts"].attrs["long_name"] = "detector counts"
        g["counts_errors"] = np.sqrt(data)
        g["x"] = np.linspace(3, -3, 7)
        g["x"].attrs["units"] = b"um"
        g["energy"] = np.arange(6.0)
        g["energy"].attrs["units"] = "eV"
        g["temperature"] = np.arange(42.0).reshape(6, 7)
    return path


@pytest.fixture
def reads(monkeypatch):
    """Every read of a dataset: name and selection."""
    seen = []
    original = h5py.Dataset.__getitem__

    def counted(self, args, *more, **options):
        seen.append((self.name, args))
        return original(self, args, *more, **options)

    monkeypatch.setattr(h5py.Dataset, "__getitem__", counted)
    return seen


def test_nexus_labels(nexus, data):
    scan = sf.open_scan(nexus)
    counts = scan["counts"]
    assert scan.attrs["primary"] == "counts"
    assert counts.dims == ("y", "x", "energy")
    assert counts.attrs["units"] == "count"
    assert counts.attrs["long_name"] == "detector counts"
    np.testing.assert_array_equal(counts, data)
    np.testing.assert_array_equal(scan["counts_errors"], np.sqrt(data))
    assert counts.attrs["ancillary_variables"] == "counts_errors"
    np.testing.assert_array_equal(scan["x"], np.linspace(3, -3, 7))
    assert scan["x"].attrs["units"] == "um"
    np.testing.assert_array_equal(scan["energy"], np.arange(5) + 0.5)
    assert scan["temperature"].dims == ("y", "x")
    assert "y" not in scan.coords


def test_source_names_the_file_and_the_dataset(nexus):
    scan = sf.open_scan(nexus)
    for attrs in (scan.attrs, scan["counts"].attrs):
        source = json.loads(attrs["source"])
        assert source["path"] == str(nexus.resolve())
        assert source["dataset"] == "/entry/scan/counts"
        assert source["size"] == nexus.stat().st_size


def test_opening_reads_coordinates_only(nexus, reads):
    sf.open_scan(nexus)
    assert {name.rsplit("/", 1)[-1] for name, _ in reads} == {"x", "energy", "temperature"}


def test_a_selection_reads_only_itself(nexus, data, reads):
    counts = sf.open_scan(nexus, chunks={"y": 3, "x": 7})["counts"]
    reads.clear()
    np.testing.assert_array_equal(counts[1:3, 2, 1:4].compute(), data[1:3, 2, 1:4])
    assert reads == [("/entry/scan/counts", (slice(1, 3), slice(2, 3), slice(1, 4)))]


def test_names_of_graphs_are_determined_by_file_and_request(nexus):
    name = sf.open_scan(nexus)["counts"].data.name
    assert sf.open_scan(nexus)["counts"].data.name == name
    assert sf.open_scan(nexus, chunks={"y": 1})["counts"].data.name != name
    assert sf.open_scan(nexus)["counts_errors"].data.name != name
    os.utime(nexus, ns=(0, 1))
    assert sf.open_scan(nexus)["counts"].data.name != name


def test_old_nexus(tmp_path, data):
    path = tmp_path / "old.nxs"
    with h5py.File(path, "w") as f:
        g = f.create_group("entry/data")
        g.attrs["NX_class"] = b"NXdata"
        g["counts"] = data
        g["counts"].attrs["signal"] = 1
        g["counts"].attrs["axes"] = "row:column:energy"
        g["row"] = np.arange(6.0)
        f["entry/other"] = data + 1
    scan = sf.open_scan(path)
    assert scan["counts"].dims == ("row", "column", "energy")
    np.testing.assert_array_equal(scan["counts"], data)
    assert "row" in scan.coords


def test_interpretation_names_the_detector(tmp_path, data):
    for kind, dims in (("spectrum", ("y", "x", "index")), ("image", ("position", "ky", "kx"))):
        path = tmp_path / f"{kind}.nxs"
        with h5py.File(path, "w") as f:
            g = f.create_group("data")
            g.attrs.update({"NX_class": "NXdata", "signal": "counts"})
            g["counts"] = data
            g["counts"].attrs["interpretation"] = kind
        scan = sf.open_scan(path)
        assert scan["counts"].dims == dims
        assert scan[dims[-1]].attrs["units"] == "pixel"
        assert dims[0] not in scan.coords


def test_emd(tmp_path):
    path = tmp_path / "cube.emd"
    cube = np.random.default_rng(2).integers(0, 9, (3, 4, 5, 6), dtype=np.uint8)
    with h5py.File(path, "w") as f:
        g = f.create_group("root/datacube")
        g.attrs.update({"emd_group_type": "array", "units": "count"})
        g["data"] = cube
        for i, (name, units) in enumerate([("Rx", "nm"), ("Ry", "nm"), ("Qx", "A^-1"), ("Qy", "A^-1")]):
            # A linear axis is written as its first two values.
            g[f"dim{i}"] = np.array([1.0, 1.5])
            g[f"dim{i}"].attrs.update({"name": name, "units": units})
    scan = sf.open_scan(path)
    assert scan["data"].dims == ("y", "x", "ky", "kx")
    assert scan["data"].attrs["units"] == "count"
    assert scan["ky"].attrs["units"] == "A^-1"
    np.testing.assert_allclose(scan["kx"], 1 + 0.5 * np.arange(6))
    np.testing.assert_array_equal(scan["data"], cube)


def test_emd_of_ncem_counts_from_one(tmp_path, data):
    path = tmp_path / "ncem.emd"
    with h5py.File(path, "w") as f:
        g = f.create_group("data/stack")
        g.attrs["emd_group_type"] = 1
        g["data"] = data
        for i, (name, units) in enumerate([("y", "[n_m]"), ("x", "[n_m]"), ("Energy", "[eV]")]):
            g[f"dim{i + 1}"] = np.arange(data.shape[i]) * 2.0
            g[f"dim{i + 1}"].attrs.update({"name": name, "units": units})
    scan = sf.open_scan(path)
    assert scan["data"].dims == ("y", "x", "energy")
    assert scan["y"].attrs["units"] == "nm"
    np.testing.assert_array_equal(scan["energy"], 2.0 * np.arange(5))


def test_old_py4dstem(tmp_path):
    path = tmp_path / "old.h5"
    cube = np.arange(360, dtype="u2").reshape(3, 4, 5, 6)
    with h5py.File(path, "w") as f:
        g = f.create_group("4DSTEM_experiment/data/datacubes/datacube_0")
        g["data"] = cube
        for i, name in enumerate(("R_x", "R_y", "Q_x", "Q_y")):
            g[f"dim{i + 1}"] = np.arange(cube.shape[i])
            g[f"dim{i + 1}"].attrs.update({"name": name, "units": "[n_m]" if i < 2 else "[n_m^-1]"})
    scan = sf.open_scan(path)
    assert scan["data"].dims == ("y", "x", "ky", "kx")
    assert {d: scan[d].attrs["units"] for d in ("y", "kx")} == {"y": "nm", "kx": "nm^-1"}
    np.testing.assert_array_equal(scan["data"], cube)


def test_coordinates_of_two_dimensions_do_not_hide_one(tmp_path, data):
    path = tmp_path / "skew.h5"
    with h5py.File(path, "w") as f:
        g = f.create_group("data")
        g.attrs.update({"NX_class": "NXdata", "signal": "d", "axes": ["y", "x", "d"], "y_indices": [0, 1]})
        g["d"], g["y"] = data, np.arange(42.0).reshape(6, 7)
    scan = sf.open_scan(path)
    assert scan.attrs["primary"] == "data"
    assert scan["data"].dims == ("y", "x", "d")
    np.testing.assert_array_equal(scan["position_y"], np.arange(42.0).reshape(6, 7))


def test_relative_paths_are_read_from_anywhere(nexus, data, monkeypatch, tmp_path_factory):
    monkeypatch.chdir(nexus.parent)
    scan = sf.open_scan(nexus.name)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    np.testing.assert_array_equal(scan["counts"], data)


def test_dimension_scales(tmp_path, data):
    path = tmp_path / "scales.h5"
    with h5py.File(path, "w") as f:
        f["map"] = data
        f["wavelength"] = np.arange(5.0)
        f["wavelength"].make_scale()
        f["map"].dims[2].attach_scale(f["wavelength"])
        f["map"].dims[0].label = "row"
    scan = sf.open_scan(path)
    assert scan["map"].dims == ("row", "ky", "wavelength")
    np.testing.assert_array_equal(scan["wavelength"], np.arange(5.0))


def test_several_arrays_are_listed_and_one_can_be_named(tmp_path, data):
    path = tmp_path / "two.h5"
    with h5py.File(path, "w") as f:
        f["a/first"], f["second"], f["label"] = data, data[::-1], "text"
    with pytest.raises(InputError, match=r"dataset=: a/first \(6, 7, 5\) uint16.*second \(6, 7, 5\)"):
        sf.open_scan(path)
    np.testing.assert_array_equal(sf.open_scan(path, dataset="second")["second"], data[::-1])
    np.testing.assert_array_equal(sf.open_scan(path, dataset="/a")["first"], data)
    with pytest.raises(InputError, match=r"no dataset 'seconds'.*it has a/first"):
        sf.open_scan(path, dataset="seconds")
    with pytest.raises(InputError, match="holds strings"):
        sf.open_scan(path, dataset="label")


def test_one_obvious_array_is_taken(tmp_path, data):
    path = tmp_path / "one.h5"
    with h5py.File(path, "w") as f:
        f["stack"], f["mask"], f["times"] = data, np.zeros((7, 5)), np.arange(6.0)
    assert sf.open_scan(path).attrs["primary"] == "stack"


def test_records_are_refused(tmp_path):
    path = tmp_path / "records.h5"
    with h5py.File(path, "w") as f:
        f["table"] = np.zeros((4, 4), [("a", "f4"), ("b", "i2")])
    with pytest.raises(InputError, match=r"no numeric array.*table \(4, 4\)"):
        sf.open_scan(path)
    with pytest.raises(InputError, match="holds records"):
        sf.open_scan(path, dataset="table")


def test_master_file_joins_its_linked_files(tmp_path, data):
    for i, part in enumerate((data[:4], data[4:])):
        with h5py.File(tmp_path / f"run_data_{i + 1:06d}.h5", "w") as f:
            f["entry/data/data"] = part
    with h5py.File(tmp_path / "run_master.h5", "w") as f:
        g = f.create_group("entry/data")
        g.attrs["NX_class"] = "NXdata"
        for i in (1, 2):
            g[f"data_{i:06d}"] = h5py.ExternalLink(f"run_data_{i:06d}.h5", "entry/data/data")
        f["entry/instrument/mask"] = np.zeros((7, 5))
    scan = sf.open_scan(tmp_path / "run_master.h5", scan_shape=(2, 3), chunks={"y": 1, "x": 2})
    np.testing.assert_array_equal(scan["data"], data.reshape(2, 3, 7, 5))
    assert len(json.loads(scan.attrs["source"])["linked"]) == 2
    one = sf.open_scan(tmp_path / "run_master.h5", dataset="entry/data/data_000002")
    np.testing.assert_array_equal(one["data_000002"], data[4:])
    (tmp_path / "run_data_000002.h5").unlink()
    with pytest.raises(InputError, match=r"linked file 'run_data_000002.h5'.*missing"):
        sf.open_scan(tmp_path / "run_master.h5")


def test_missing_source_of_a_virtual_dataset(tmp_path, data):
    with h5py.File(tmp_path / "part.h5", "w") as f:
        f["part"] = data
    layout = h5py.VirtualLayout(data.shape, data.dtype)
    layout[:] = h5py.VirtualSource("part.h5", "part", data.shape)
    with h5py.File(tmp_path / "virtual.h5", "w") as f:
        f.create_virtual_dataset("all", layout)
    np.testing.assert_array_equal(sf.open_scan(tmp_path / "virtual.h5")["all"], data)
    (tmp_path / "part.h5").unlink()
    with pytest.raises(InputError, match=r"'part.h5' is missing"):
        sf.open_scan(tmp_path / "virtual.h5")


def test_filters_of_hdf5plugin(tmp_path, data):
    hdf5plugin = pytest.importorskip("hdf5plugin")
    path = tmp_path / "bitshuffle.h5"
    with h5py.File(path, "w") as f:
        f.create_dataset("d", data=data, chunks=(2, 7, 5), **hdf5plugin.Bitshuffle())
    scan = sf.open_scan(path, chunks={"position": 2})
    np.testing.assert_array_equal(scan["d"], data)
    code = f"import scanfold as sf; print(int(sf.open_scan({str(path)!r})['d'].sum()))"
    fresh = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(fresh.stdout) == data.sum()


def test_missing_filter_names_the_extra(tmp_path, data, monkeypatch):
    hdf5plugin = pytest.importorskip("hdf5plugin")
    path = tmp_path / "zstd.h5"
    with h5py.File(path, "w") as f:
        f.create_dataset("d", data=data, chunks=(2, 7, 5), **hdf5plugin.Zstd())
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    with pytest.raises(InputError, match=r'pip install "scanfold\[hdf5\]"'):
        sf.open_scan(path)


def test_locked_file_names_both_causes(nexus):
    code = "import h5py, sys; f = h5py.File(sys.argv[1], 'a'); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(nexus)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout.readline().strip() == "open"
        with pytest.raises(InputError, match=r"still writing.*NFS.*locking=False"):
            sf.open_scan(nexus)
        scan = sf.open_scan(nexus, locking=False)
        assert int(scan["counts"].sum()) > 0
        writer.stdin.close()


def test_arrays_pickle_without_handles(nexus, data):
    lazy = hdf5.contents(str(nexus), None, None).signal.data
    assert len(pickle.dumps(lazy)) < 1000
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(lazy))[2:4, [0, 3]], data[2:4, [0, 3]])


def test_indexing_is_numpys_along_each_dimension(nexus, data):
    lazy = hdf5.contents(str(nexus), None, None).signal.data
    for key in [
        (slice(None, None, -2),),
        (..., 3),
        (1, slice(5, 1, -3), slice(0)),
        (slice(2, 9), [4, 0, 4]),
        (-1, -1, -1),
    ]:
        np.testing.assert_array_equal(lazy[key], data[key])


def test_strings_are_read_when_the_file_is_opened_and_records_left_out(tmp_path, data):
    path = tmp_path / "names.h5"
    with h5py.File(path, "w") as f:
        g = f.create_group("data")
        g.attrs.update({"NX_class": "NXdata", "signal": "d", "axes": ["sample", "time", "index"]})
        g["d"] = data
        g["sample"] = [f"s{i}" for i in range(6)]
        g["time"] = np.zeros(7, [("s", "i8"), ("ns", "i8")])
    scan = sf.open_scan(path)
    assert list(scan["sample"].values) == ["s0", "s1", "s2", "s3", "s4", "s5"]
    assert scan["sample"].dtype == object
    assert scan["d"].dims == ("sample", "time", "index")


def test_threads_read_the_same(tmp_path):
    path = tmp_path / "many.h5"
    values = np.random.default_rng(3).normal(size=(400, 50)).astype("f4")
    with h5py.File(path, "w") as f:
        f.create_dataset("d", data=values, chunks=(7, 50), compression="gzip")
    lazy = hdf5.contents(str(path), "d", None).signal.data

    def read(i):
        return np.array_equal(lazy[i % 400], values[i % 400])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(10_000)))


def test_xarray_engine(nexus, data):
    scan = xr.open_dataset(nexus, engine="scanfold")
    assert scan["counts"].chunks is None
    np.testing.assert_array_equal(scan["counts"][1:3, [2, 0]], data[1:3, [2, 0]])
    assert xr.open_dataset(nexus, engine="scanfold", chunks={"y": 2})["counts"].chunks[0] == (2, 2, 2)
    assert "counts_errors" not in xr.open_dataset(nexus, engine="scanfold", drop_variables="counts_errors")


def test_missing_file_gives_the_nearest_name(nexus):
    with pytest.raises(InputError, match=r"no file .*did you mean 'map.nxs'"):
        sf.open_scan(nexus.parent / "mapp.nxs")
    with pytest.raises(InputError, match="no folder"):
        sf.open_scan(nexus.parent / "nowhere" / "map.nxs")


def test_truncated_file_is_named(nexus):
    nexus.write_bytes(nexus.read_bytes()[:-3000])
    with pytest.raises(InputError, match=r"map.nxs.*truncated"):
        sf.open_scan(nexus)


def test_a_damaged_chunk_names_file_and_dataset(tmp_path, data):
    path = tmp_path / "damaged.h5"
    with h5py.File(path, "w") as f:
        f.create_dataset("d", data=data, chunks=(6, 7, 5), compression="gzip", fletcher32=True)
        offset = f["d"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[offset + 8 : offset + 24] = bytes(16)
    path.write_bytes(content)
    scan = sf.open_scan(path)
    with pytest.raises(InputError, match=r"cannot read dataset '/d' of .*damaged.h5") as caught:
        scan.compute()
    # A run tries again what the system could not read.
    assert isinstance(caught.value, OSError)
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), OSError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_no_known_format_lists_them(tmp_path):
    path = tmp_path / "notes.doc"
    path.write_text("hello")
    with pytest.raises(InputError, match=r"HDF5.*zarr.*NPZ.*TIFF.*vendor"):
        sf.open_scan(path)
    path.write_text("")
    with pytest.raises(InputError, match="is empty"):
        sf.open_scan(path)


def test_a_lying_shape_is_refused_at_once(tmp_path):
    path = tmp_path / "huge.h5"
    with h5py.File(path, "w") as f:
        f.create_dataset("d", (10**6, 10**6, 10, 10), "f8", chunks=(1, 1, 10, 10))
    with pytest.raises(InputError, match=r"blocks.*header is wrong"):
        sf.open_scan(path)


def test_describe_lists_without_reading(nexus, reads):
    found = sf.io.describe(nexus)
    by_name = {a.name: a for a in found.arrays}
    assert by_name["entry/scan/counts"].units == "count"
    assert by_name["entry/scan/counts"].shape == (6, 7, 5)
    assert found.scan.attrs["primary"] == "counts"
    assert not [r for r in reads if r[0].endswith("counts")]


def test_raman_map(real_data):
    path = real_data / "spectra" / "raman_map.h5"
    scan = sf.open_scan(path)
    assert scan["counts"].dims == ("y", "x", "raman_shift")
    assert scan["counts"].shape == (49, 45, 394)
    assert {d: scan[d].attrs["units"] for d in scan.dims} == {"y": "um", "x": "um", "raman_shift": "1/cm"}
    assert scan["counts"].data.npartitions >= 8
    with h5py.File(path) as f:
        np.testing.assert_array_equal(scan["counts"], f["entry/data/counts"][()])
        np.testing.assert_array_equal(scan["raman_shift"], f["entry/data/raman_shift"][()])


def test_describe_says_why_there_is_no_scan_and_what_to_type(tmp_path, data):
    path = tmp_path / "two.h5"
    with h5py.File(path, "w") as f:
        f["first"], f["second"] = data, data
    found = sf.io.describe(path)
    assert found.scan is None
    assert "several arrays" in found.problem
    assert found.command == f"sf.open_scan({str(path)!r}, dataset='first')"
