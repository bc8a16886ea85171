"""Gathered frames are those that the plan names, lazily, whatever the scan is kept in."""

import dask
import numpy as np
import pytest
import xarray as xr

import scanfold as sf
from scanfold import grouping
from scanfold.conventions import InputError
from scanfold.testing import raise_if_computes


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
        groups = grouping.gather(source, plan, batch=16)
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
    groups = grouping.gather(source, grouping.plan_groups(scan, nsamples=200, gridsize=2), batch=20)
    assert groups.diffraction.data.npartitions == 10
    (graph,) = dask.optimize(groups.diffraction.data)
    assert len(graph.__dask_graph__()) <= 20


def test_a_plan_of_another_scan_is_refused(scan):
    plan = grouping.plan_groups(scan, nsamples=10)
    with pytest.raises(InputError, match="plan is of 200 positions, and the scan has 150"):
        grouping.gather(scan.isel(position=slice(150)), plan)


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
