"""Gathered frames are those that the plan names, lazily, whatever the scan is kept in."""

import sys

import dask
import numpy as np
import pytest
import xarray as xr

import scanfold as sf
from scanfold import grouping
from scanfold.conventions import InputError
from scanfold.testing import raise_if_computes

module = sys.modules["scanfold.grouping.gather"]


@pytest.fixture
def scan():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 2**16, (200, 6, 6), dtype=np.uint16)
    y, x = rng.uniform(0, 50, (2, 200))
    return xr.Dataset(
        {
            "diffraction": (("position", "ky", "kx"), frames),
            "Y": (("position", "probe_y", "probe_x"), frames / 7),
        },
        {"position_y": ("position", y, {"units": "pixel"}), "position_x": ("position", x, {"units": "pixel"})},
        {"primary": "diffraction"},
    )


@pytest.mark.parametrize("kept", ["memory", "chunks", "store"])
def test_frames_are_those_of_the_plan(scan, kept, tmp_path):
    plan = grouping.plan_groups(scan, nsamples=70, gridsize=2, seed=3)
    source = scan if kept == "memory" else scan.chunk(position=30).assign_coords(scan.coords)
    if kept == "store":
        sf.save(source, tmp_path / "scan.zarr", progress=False)
        source = sf.open_scan(tmp_path / "scan.zarr", format="ptycho")
    with raise_if_computes() if kept == "chunks" else dask.config.set():
        groups = grouping.gather(source, plan, chunks=16)
    for name in ("diffraction", "Y"):
        assert (groups[name].chunks is None) == (kept == "memory")
        np.testing.assert_array_equal(groups[name], scan[name].values[groups.nn_indices.values])
    in_plan = groups.sortby("group")
    np.testing.assert_array_equal(in_plan.nn_indices, plan.nn_indices)
    np.testing.assert_array_equal(in_plan.position_y, scan.position_y.values[plan.nn_indices.values])
    np.testing.assert_allclose(groups.offset_x - groups.relative_x, groups.position_x, rtol=1e-12)
    np.testing.assert_allclose(groups.relative_y.sum("channel"), 0, atol=1e-10)
    assert groups.offset_y.attrs["units"] == "pixel"


def test_a_task_for_each_batch(scan, tmp_path):
    sf.save(scan.chunk(position=30), tmp_path / "scan.zarr", progress=False)
    source = sf.open_scan(tmp_path / "scan.zarr")
    groups = grouping.gather(source, grouping.plan_groups(scan, nsamples=200, gridsize=2), chunks=20)
    assert groups.diffraction.data.npartitions == 10
    (graph,) = dask.optimize(groups.diffraction.data)
    assert len(graph.__dask_graph__()) <= 20


def test_a_plan_of_another_scan_is_refused(scan):
    plan = grouping.plan_groups(scan, nsamples=10)
    with pytest.raises(InputError, match="plan is of 200 positions, and the scan has 150"):
        grouping.gather(scan.isel(position=slice(150)), plan)


@pytest.mark.parametrize("kept", ["memory", "chunks", "store"])
def test_a_raster_with_two_scan_dims(kept, tmp_path):
    frames = np.random.default_rng(0).integers(0, 99, (9, 11, 4, 4))
    y, x = np.meshgrid(np.arange(9.0), np.arange(11.0), indexing="ij")
    scan = xr.Dataset(
        {"diffraction": (("y", "x", "ky", "kx"), frames)},
        {"position_y": (("y", "x"), y), "position_x": (("y", "x"), x)},
        {"primary": "diffraction"},
    )
    source = scan if kept == "memory" else scan.chunk(y=4, x=5).assign_coords(scan.coords)
    if kept == "store":
        sf.save(source, tmp_path / "scan.zarr", progress=False)
        source = sf.open_scan(tmp_path / "scan.zarr")
    groups = grouping.gather(source, grouping.plan_groups(source, nsamples=50, gridsize=2), chunks=8)
    np.testing.assert_array_equal(groups.diffraction, frames.reshape(-1, 4, 4)[groups.nn_indices.values])
    np.testing.assert_array_equal(groups.position_x, x.ravel()[groups.nn_indices.values])


@pytest.mark.parametrize("kept", ["memory", "chunks", "store", "index"])
def test_a_raster_whose_rows_have_one_y_and_columns_one_x(kept, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 99, (9, 11, 4, 4))
    y, x = np.cumsum(rng.uniform(0.5, 1.5, 9)), np.cumsum(rng.uniform(0.5, 1.5, 11))
    scan = xr.Dataset(
        {"diffraction": (("y", "x", "ky", "kx"), frames)},
        {"position_y": ("y", y, {"units": "um"}), "position_x": ("x", x, {"units": "um"}), "row": ("y", np.arange(9))},
        {"primary": "diffraction"},
    )
    full = np.stack([a.ravel() for a in np.meshgrid(y, x, indexing="ij")], axis=1)
    expected = grouping.plan_groups(full, nsamples=50, gridsize=2)
    monkeypatch.setattr("scanfold.grouping.positions.SMALL", 30)  # rows of the raster are laid out some at a time
    source = scan if kept == "memory" else scan.chunk(y=4, x=5).assign_coords(scan.coords)
    if kept == "store":
        sf.save(source, tmp_path / "scan.zarr", progress=False)
        source = sf.open_scan(tmp_path / "scan.zarr")
    plan = grouping.plan_groups(
        grouping.index_positions(source, tmp_path / "index") if kept == "index" else source, nsamples=50, gridsize=2
    )
    np.testing.assert_array_equal(plan.nn_indices, expected.nn_indices)
    assert plan.distance.attrs["units"] == "um"
    groups = grouping.gather(source, plan, chunks=8)
    np.testing.assert_array_equal(groups.diffraction, frames.reshape(-1, 4, 4)[groups.nn_indices.values])
    np.testing.assert_array_equal(groups.position_y, full[groups.nn_indices.values, 0])
    np.testing.assert_array_equal(groups.position_x, full[groups.nn_indices.values, 1])
    turned = scan.transpose("ky", "x", "y", "kx")  # positions are counted along the columns then
    other = grouping.gather(turned, grouping.plan_groups(turned, nsamples=50, gridsize=2))
    at = other.nn_indices.values
    np.testing.assert_array_equal(other.position_y, y[at % 9])
    np.testing.assert_array_equal(other.diffraction, frames.transpose(1, 0, 2, 3).reshape(-1, 4, 4)[at])


def test_large_plans_travel_in_stores_not_in_graphs(scan, tmp_path, monkeypatch):
    plan = grouping.plan_groups(scan, nsamples=200, gridsize=2)
    monkeypatch.setattr(module, "CARRIED", 1600)
    source = scan.drop_vars("Y").chunk(position=30).assign_coords(scan.coords)
    with pytest.raises(InputError, match=r"too many for a graph: plan = sf\.save"):
        grouping.gather(source, plan)
    sf.save(plan.chunk(group=50), tmp_path / "plan.zarr", progress=False)
    sf.save(source, tmp_path / "scan.zarr", progress=False)
    opened, stored = sf.open_scan(tmp_path / "scan.zarr"), sf.open_scan(tmp_path / "plan.zarr")
    with raise_if_computes():
        groups = grouping.gather(opened, stored, chunks=16)
    assert groups.position_y.chunks[0] == groups.diffraction.chunks[0] == (16,) * 12 + (8,)
    np.testing.assert_array_equal(groups.diffraction, scan.diffraction.values[plan.nn_indices.values])
    np.testing.assert_array_equal(groups.position_y, scan.position_y.values[plan.nn_indices.values])
    with raise_if_computes():
        held = grouping.gather(opened.assign_coords(scan.coords), stored, chunks=16)
    np.testing.assert_array_equal(held.relative_x, groups.relative_x)
    monkeypatch.setattr(module, "CARRIED", 800)
    with pytest.raises(InputError, match="'position_y' is in memory"):
        grouping.gather(opened.assign_coords(scan.coords), stored)


def test_the_siemens_star_in_use(real_data, tmp_path):
    with pytest.warns(UserWarning, match="compressed"):
        scan = sf.open_scan(real_data / "ptycho" / "siemens_star.npz", format="ptycho")
    scan = sf.save(scan.chunk(position=64), tmp_path / "star.zarr", progress=False)
    scan = sf.open_scan(tmp_path / "star.zarr", format="ptycho")
    plan = grouping.plan_groups(scan, nsamples=200, gridsize=2, seed=1)
    groups = sf.save(grouping.gather(scan, plan), tmp_path / "groups.zarr", progress=False)
    train, test = grouping.split(groups, 0.75, guard=40.0)
    assert train.sizes["group"] > 100 > test.sizes["group"] > 10
    assert not set(train.nn_indices.values.ravel()) & set(test.nn_indices.values.ravel())
    seen = [b["diffraction"].shape for b in grouping.iter_batches(train, 32, shuffle=True)]
    assert seen[0] == (32, 128, 128, 4)
    assert sum(s[0] for s in seen) == train.sizes["group"]
    metrics = grouping.overlap_metrics(plan, scan, diameter=60.0)
    assert all(0.3 < value < 0.8 for value in metrics.values())


def test_the_siemens_star(real_data):
    path = real_data / "ptycho" / "siemens_star.npz"
    with pytest.warns(UserWarning, match="compressed"):
        scan = sf.open_scan(path, format="ptycho")
    assert scan.diffraction.dims == ("position", "ky", "kx")
    assert scan.diffraction.attrs["kind"] == "intensity"
    plan = grouping.plan_groups(scan, nsamples=100, gridsize=2, seed=1)
    groups = grouping.gather(scan, plan)
    with np.load(path) as raw:
        frames, table = raw["data"], raw["scan"]
    indices = groups.nn_indices.values
    np.testing.assert_array_equal(groups.position_y, table[indices, 0])
    np.testing.assert_array_equal(groups.diffraction[:9], np.fft.fftshift(frames[indices[:9]], axes=(-2, -1)))
    mean = scan.diffraction.mean("position").compute()
    assert abs(int(mean.argmax(("ky", "kx"))["ky"]) - 64) < 10  # the bright field is in the middle
