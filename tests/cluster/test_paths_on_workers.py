"""Workers open files by path: one that does not see a path is named, with the path, before anything is computed."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import scanfold as sf
from scanfold import traces
from scanfold.conventions import RunError
from scanfold.runs.clients import connect

from .conftest import Cluster, scheduler_address, started

#: What a worker loads at its start, so that a folder is not there for it, as on a machine that has not mounted it.
BLINDFOLD = """
import os
os.path.exists = lambda path, exists=os.path.exists: exists(path) and "/hidden/" not in str(path) + "/"
"""


@pytest.fixture(scope="module")
def half_blind(tmp_path_factory) -> Cluster:
    """A cluster of two workers; the one called blind does not see a folder called hidden."""
    folder = tmp_path_factory.mktemp("half-blind")
    (folder / "blindfold.py").write_text(BLINDFOLD)
    loopback = ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"]
    with started("scheduler", *loopback, "--port", "0", "--scheduler-file", "scheduler.json", cwd=folder) as scheduler:
        address = scheduler_address(folder / "scheduler.json", scheduler)
        one = [*loopback, "--nthreads", "1", "--nworkers", "1", "--no-nanny"]
        with (
            started("worker", address, *one, "--name", "seeing", cwd=folder) as first,
            started("worker", address, *one, "--name", "blind", "--preload", "blindfold.py", cwd=folder) as second,
        ):
            with connect(address) as client:
                client.wait_for_workers(2, timeout=60)
            yield Cluster(address, folder, (scheduler, first, second))


def address_of_the_blind(client) -> str:
    return next(a for a, w in client.scheduler_info(n_workers=-1)["workers"].items() if w["name"] == "blind")


@pytest.fixture
def scan(tmp_path) -> Path:
    (tmp_path / "hidden").mkdir()
    with h5py.File(tmp_path / "hidden" / "scan.h5", "w") as file:
        file["counts"] = np.arange(24.0).reshape(4, 3, 2)
    return tmp_path / "hidden" / "scan.h5"


@pytest.mark.parametrize("what", ["scan", "store"])
def test_a_worker_that_does_not_see_a_path_is_named(what, half_blind, scan, tmp_path):
    opened = sf.open_scan(scan, dims=("y", "x", "energy"))["counts"] * 2
    data, store = (opened, tmp_path / "out.zarr") if what == "scan" else (opened.load(), scan.parent / "out.zarr")
    data = data.chunk(y=1)
    with connect(half_blind.address) as client:
        blind = address_of_the_blind(client)
        with pytest.raises(RunError, match="do not see these") as raised:
            sf.save(data, store, progress=False)
    lines = [line for line in str(raised.value).splitlines() if line.startswith("  ")]
    assert len(lines) == 1
    assert lines[0].startswith(f"  {scan if what == 'scan' else store} on {blind} (")
    assert not (store / "zarr.json").exists()
    # the same lines go on where all workers see the path
    assert float(sf.save(data, store, progress=False)["counts"].sum()) == 2 * np.arange(24).sum()


def test_traces_name_it_too(half_blind, tmp_path):
    (tmp_path / "hidden").mkdir()
    table = pd.DataFrame({"time": np.arange(30.0), "0": np.arange(30.0)})
    (tmp_path / "hidden" / "a.csv").write_text("# Time units: h\n" + table.to_csv(index=False))
    with connect(half_blind.address), pytest.raises(RunError, match="hidden on "):
        traces.fit_folder(tmp_path / "hidden", traces.FittingRequest("trivial"), progress=False)


def test_a_file_that_goes_away_is_an_error_that_names_the_worker(half_blind, scan, tmp_path):
    opened = sf.open_scan(scan)["counts"]
    scan.unlink()
    with connect(half_blind.address) as client:
        workers = client.scheduler_info(n_workers=-1)["workers"]
        with pytest.raises(OSError, match=r"there is no .*scan.h5' on worker") as raised:
            client.compute(opened.data.sum()).result()
    assert any(address in str(raised.value) for address in workers)


def test_workers_without_this_package_are_said(tmp_path, monkeypatch):
    (tmp_path / "scanfold").mkdir()
    (tmp_path / "scanfold" / "__init__.py").write_text("")
    loopback = ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"]
    with started("scheduler", *loopback, "--port", "0", "--scheduler-file", "s.json", cwd=tmp_path) as scheduler:
        address = scheduler_address(tmp_path / "s.json", scheduler)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        one = [*loopback, "--nthreads", "1", "--nworkers", "1", "--no-nanny"]
        with started("worker", address, *one, cwd=tmp_path), connect(address) as client:
            client.wait_for_workers(1, timeout=60)
            data = xr.DataArray(np.ones((4, 2)), dims=("y", "x"), name="counts").chunk(y=1)
            with pytest.raises(RunError, match=r"need the same packages and credentials(.|\n)*scanfold"):
                sf.save(data, tmp_path / "out.zarr", progress=False)
