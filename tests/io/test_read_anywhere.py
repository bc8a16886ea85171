"""Blocks are read on threads, processes and a cluster; slices reach the file there too."""

import h5py
import numpy as np
import pytest
import tifffile
import zarr

import scanfold as sf


@pytest.fixture
def data():
    return np.random.default_rng(1).integers(0, 1000, (12, 4, 5), dtype=np.uint16)


@pytest.fixture
def paths(tmp_path, data):
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f.create_dataset("d", data=data, chunks=(3, 4, 5), compression="gzip")
    np.save(tmp_path / "a.npy", data)
    np.savez(tmp_path / "a.npz", d=data)
    zarr.create_array(str(tmp_path / "a.zarr"), data=data, chunks=(3, 4, 5), dimension_names=("position", "ky", "kx"))
    group = zarr.open_group(str(tmp_path / "b.zarr"), mode="w")
    group.create_array("d", data=data, chunks=(3, 4, 5), dimension_names=("position", "ky", "kx"))
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="minisblack")
    return sorted(p for p in tmp_path.iterdir())


def test_cluster_of_processes(paths, data):
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        for path in paths:
            scan = sf.open_scan(path, scan_shape=(3, 4), chunks={"y": 1})
            array = scan[scan.attrs["primary"]]
            np.testing.assert_array_equal(client.compute(array).result(), data.reshape(3, 4, 4, 5))
            np.testing.assert_array_equal(client.compute(array[1:, 2]).result(), data.reshape(3, 4, 4, 5)[1:, 2])


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_schedulers(paths, data, scheduler):
    for path in paths:
        scan = sf.open_scan(path, chunks={"position": 5})
        np.testing.assert_array_equal(scan[scan.attrs["primary"]].compute(scheduler=scheduler), data)


def test_a_slice_reaches_the_file_on_a_cluster(tmp_path, data):
    """The block outside the slice is damaged: it would raise if the worker read it."""
    path = tmp_path / "half.zarr"
    zarr.create_array(str(path), data=data, chunks=(3, 4, 5))
    (path / "c" / "1" / "0" / "0").write_bytes(b"torn")
    from distributed import Client

    with Client(processes=False, dashboard_address="127.0.0.1:0", worker_dashboard_address="127.0.0.1:0") as client:
        scan = sf.open_scan(path, chunks={"position": 6})["data"]
        np.testing.assert_array_equal(client.compute(scan[:3]).result(), data[:3])


def test_graphs_hold_paths_not_data(paths):
    from cloudpickle import dumps

    for path in paths:
        scan = sf.open_scan(path, chunks={"position": 3})
        array = scan[scan.attrs["primary"]].data
        assert len(dumps(array)) < 20_000
