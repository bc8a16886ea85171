"""Killed processes, killed workers, failing blocks, interrupts, full disks: what is finished stays."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import h5py
import numba
import numpy as np
import psutil
import pytest
import threadpoolctl
import xarray as xr

import scanfold as sf
from scanfold import _paths, runs
from scanfold.conventions import InputError, RunError
from scanfold.runs import scheduler
from scanfold.runs import workers as places
from scanfold.runs.processes import local_cluster

from . import toys

SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from runs import toys
from scanfold import runs
{before}
ds = toys.maps(toys.scan(), toys.Kernel({calls!r}, {kernel}), gil={gil})
runs.save(ds, {store!r}, progress=False)
"""


def start(store: Path, calls: Path, *, kernel: str = "", gil: bool = False, before: str = "") -> subprocess.Popen[str]:
    """Start a run in a process of its own, from a script without a ``__main__`` guard."""
    tests = str(Path(__file__).parent.parent)
    script = store.with_suffix(".py")
    script.write_text(
        SCRIPT.format(tests=tests, calls=str(calls), store=str(store), kernel=kernel, gil=gil, before=before)
    )
    return subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def wait_for(condition, seconds: float = 60.0) -> None:
    """Wait until something is so."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.01)


def finished(store: Path) -> int:
    return len(list((store / ".scanfold" / "blocks").glob("*.json")))


@pytest.fixture
def processes(monkeypatch):
    """Let small runs start a cluster of processes too."""
    monkeypatch.setattr(places, "SMALL", 0)


def test_a_killed_run_goes_on_where_it_was(tmp_path, calls):
    store, whole = tmp_path / "a.zarr", tmp_path / "whole.zarr"
    process = start(store, calls, kernel="delay=0.02")
    wait_for(lambda: finished(store) >= 4)
    process.kill()
    process.wait()
    done = {p.stem for p in (store / ".scanfold" / "blocks").glob("*.json")}
    before = {p.name for p in calls.iterdir()}
    ds = toys.maps(toys.scan(), toys.Kernel(calls))
    saved = runs.save(ds, store, progress=False)
    blocks = json.loads((store / ".scanfold" / "plan.json").read_text())["plan"][0]["block"]
    again = [p.name for p in calls.iterdir() if p.name not in before]
    total = int(np.prod([-(-n // b) for n, b in zip((12, 10), blocks, strict=True)]))
    assert 4 <= len(done) < total
    assert len(again) == (total - len(done)) * (np.prod(blocks) // 10 or 1)
    toys.same(saved, ds)
    # An uninterrupted run on the same plan leaves the same bytes.
    monkey = json.loads((store / ".scanfold" / "plan.json").read_text())["plan"]
    groups = runs.plan.from_json(monkey)
    runs.store.compute_to(ds, whole, groups=groups, progress=False)
    assert toys.files(store) == toys.files(whole)


def test_a_killed_worker_loses_nothing(tmp_path, calls, processes):
    store = tmp_path / "a.zarr"
    ds = toys.maps(toys.scan(), toys.Kernel(calls, delay=0.03), gil=True)
    killed = []

    def kill_one() -> None:
        wait_for(lambda: finished(store) >= 2)
        victims = [p for p in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(p.cmdline())]
        killed.append(victims[0].pid)
        victims[0].kill()

    thread = threading.Thread(target=kill_one)
    thread.start()
    saved = runs.save(ds, store, progress=False)
    thread.join()
    assert killed
    toys.same(saved, toys.maps(toys.scan()))


def test_a_position_that_kills_is_condemned_and_no_other(tmp_path, calls, processes):
    ds = toys.maps(toys.scan(2, 3), toys.Kernel(calls, exit_at=4), gil=True)
    saved = runs.save(ds, tmp_path / "a.zarr", progress=False)
    expected = toys.maps(toys.scan(2, 3)).compute()
    bad = (toys.scan(2, 3)[..., 0] == 4).values
    assert bad.sum() == 1
    assert saved["status"].values[bad] == toys.FLAGS["crashed"]
    assert np.isnan(saved["mean"].values[bad]).all()
    assert np.isnan(saved["spread"].values[bad]).all()
    for name in expected.data_vars:
        np.testing.assert_array_equal(saved[name].values[~bad], expected[name].values[~bad])


def test_a_block_that_dies_once_is_not_condemned(tmp_path, calls, processes):
    ds = toys.maps(toys.scan(), toys.Kernel(calls, exit_once_at=23), gil=True)
    saved = runs.save(ds, tmp_path / "a.zarr", progress=False)
    toys.same(saved, toys.maps(toys.scan()))


def test_a_failing_block_is_recorded_and_the_rest_goes_on(tmp_path, calls):
    store = tmp_path / "a.zarr"
    ds = toys.maps(toys.scan(), toys.Kernel(calls, delay=0.01, raise_at=23))
    with pytest.raises(RunError, match=r"1 blocks failed.*\n.*ArithmeticError: position 23 is bad"):
        runs.save(ds, store, progress=False)
    (record,) = (store / ".scanfold" / "failed").glob("*.json")
    assert "in _misbehave" in json.loads(record.read_text())["traceback"]
    with pytest.warns(UserWarning, match="not finished"):
        partial = runs.open_store(store)
    missing = np.isnan(partial["mean"].values)
    assert missing[(toys.scan()[..., 0] == 23).values].all()
    assert 0 < missing.sum() < 120
    # The cause is gone: only the failed block is computed.
    for call in calls.iterdir():
        call.unlink()
    saved = runs.save(toys.maps(toys.scan(), toys.Kernel(calls)), store, progress=False)
    assert len(list(calls.iterdir())) < 12
    toys.same(saved, toys.maps(toys.scan()))


def test_an_error_raised_on_purpose_stops_the_run(tmp_path):
    ds = toys.maps(toys.scan(), toys.Kernel(delay=0.005, stop_at=23))
    with pytest.raises(RunError, match="asked to stop at position 23"):
        runs.save(ds, tmp_path / "a.zarr", progress=False)


def test_trouble_with_files_is_tried_again(tmp_path):
    tries = tmp_path / "tries"
    tries.mkdir()

    class Shaky:
        shape, dtype, ndim = (12, 10, 20), np.dtype(float), 3
        values = toys.scan().values

        def __getitem__(self, index):
            count = len(list(tries.iterdir()))
            (tries / str(count)).touch()
            if count in (5, 6):
                raise OSError("the network went away")
            return self.values[index]

    import dask.array as da

    data = xr.DataArray(da.from_array(Shaky(), (2, 5, 20), name="shaky"), dims=("y", "x", "energy"))
    saved = runs.save(toys.maps(data), tmp_path / "a.zarr", progress=False)
    np.testing.assert_array_equal(saved["mean"], toys.maps(toys.scan())["mean"])


@pytest.mark.parametrize(
    ("number", "tries"), [(errno.EIO, 3), (errno.ENOSPC, 1), (errno.EACCES, 1), (errno.ENOENT, 1), (None, 1)]
)
def test_one_step_is_tried_again_if_its_trouble_may_pass(monkeypatch, number, tries):
    monkeypatch.setattr(_paths, "WAITS", (0, 0))
    found = []

    def step(what):
        found.append(what)
        raise OSError(number, "made up") if number else OSError("a filter failed")

    with pytest.raises(OSError, match=r"made up|a filter failed"):
        _paths.persist(step, "chunk")
    assert found == ["chunk"] * tries


def test_a_block_is_not_begun_again_for_one_read_or_write(tmp_path, monkeypatch):
    """Each read of the file, chunk written, and entry in the ledger fails once."""
    from scanfold.io.hdf5 import HDF5Array

    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file.create_dataset("data", data=toys.scan().values, chunks=(2, 5, 20), fletcher32=True)
    data = sf.open_scan(tmp_path / "scan.h5", dims=("y", "x", "energy"), chunks={"y": 4, "x": 5})["data"]
    ds = toys.maps(data)
    wanted = toys.maps(toys.scan()).compute()

    def fail_once(home, name):
        function, met = getattr(home, name), set()

        def shaky(source, what):
            of_block = name == "read" or {"c", "blocks"} & set(Path(what).parts)
            if of_block and str(what) not in met:
                met.add(str(what))
                raise OSError(errno.EIO, "made up")
            return function(source, what)

        monkeypatch.setattr(home, name, shaky)
        return met

    monkeypatch.setattr(scheduler, "RETRIES", {"io": 0})  # a block that is begun again is an error here
    met = [fail_once(HDF5Array, "read"), fail_once(os, "replace")]
    saved = runs.save(ds, tmp_path / "a.zarr", progress=False)
    for name in ("mean", "spread", "status"):
        np.testing.assert_array_equal(saved[name], wanted[name])
    assert min(map(len, met)) >= 6


@pytest.mark.parametrize("gil", [False, True])
def test_interrupting_keeps_what_is_finished(tmp_path, calls, gil):
    store = tmp_path / "a.zarr"
    before = "from scanfold.runs import workers; workers.SMALL = 0"
    process = start(store, calls, kernel="delay=0.02", gil=gil, before=before)
    wait_for(lambda: finished(store) >= 2)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in err
    assert "Run the same lines again" in err
    assert 2 <= finished(store)
    toys.same(runs.save(toys.maps(toys.scan(), gil=gil), store, progress=False), toys.maps(toys.scan()))


def test_a_full_disk_is_one_clear_error_and_resumes(tmp_path, calls):
    store = tmp_path / "a.zarr"
    # No file may grow beyond 64 bytes once the store is made: as a full disk, chunks do not fit.
    before = (
        "import resource, signal\n"
        "from scanfold.runs import store\n"
        "made = store.create\n"
        "def create(*a, **k):\n"
        "    made(*a, **k)\n"
        "    write = store.Ledger.write\n"
        "    def then(self, content):\n"
        "        write(self, content); signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))\n"
        "    store.Ledger.write = then\n"
        "store.create = create\n"
    )
    process = start(store, calls, before=before)
    _, err = process.communicate(timeout=60)
    assert "RunError: cannot write to" in err.strip().splitlines()[-1]
    assert "run the same lines again" in err
    toys.same(runs.save(toys.maps(toys.scan()), store, progress=False), toys.maps(toys.scan()))


def test_the_default_cluster_listens_on_loopback_only_and_leaves_the_environment(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = dict(os.environ)
    main = dict(sys.modules["__main__"].__dict__)
    with places.find_workers(10**6, releases_gil=False) as workers:
        assert isinstance(workers, places.Cluster)
        workers._client.wait_for_workers(os.cpu_count(), timeout=60)
        family = [psutil.Process(), *psutil.Process().children(recursive=True)]
        listening = [c.laddr.ip for p in family for c in p.net_connections() if c.status == psutil.CONN_LISTEN]
        assert len(listening) >= 3
        assert set(listening) <= {"127.0.0.1", "::1"}
        workers.submit("look", blas_and_numba_threads)
        job, result = workers.next(timeout=60)
        assert job == "look"
        assert set(result()) == {1}
    assert dict(os.environ) == before
    assert sys.modules["__main__"].__dict__ == main


def test_threads_run_blas_with_one_thread_and_put_it_back():
    numba.get_num_threads()  # loads numba's OpenMP
    before = [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
    with places.find_workers(10**6, releases_gil=True) as workers:
        workers.submit("look", blas_and_numba_threads)
        _, result = workers.next(timeout=60)
        assert set(result()) == {1}
    assert [pool["num_threads"] for pool in threadpoolctl.threadpool_info()] == before


def blas_and_numba_threads() -> list[int]:
    """Return the threads of BLAS, OpenMP and numba, as kernels in a block see them."""
    return [*(int(pool["num_threads"]) for pool in threadpoolctl.threadpool_info()), numba.get_num_threads()]


def test_the_current_client_is_used(tmp_path, calls):
    from distributed import Client

    with Client(
        n_workers=1,
        threads_per_worker=2,
        processes=False,
        dashboard_address="127.0.0.1:0",
        worker_dashboard_address="127.0.0.1:0",
    ) as client:
        with places.find_workers(10, releases_gil=True) as workers:
            assert isinstance(workers, places.Cluster)
        ds = toys.maps(toys.scan(), toys.Kernel(calls))
        toys.same(runs.save(ds, tmp_path / "a.zarr", progress=False), toys.maps(toys.scan()))
        assert len(client.nthreads()) == 1


def test_a_cluster_without_workers_is_given_up(tmp_path, monkeypatch):
    from distributed import Client, LocalCluster

    monkeypatch.setattr(places, "PATIENCE", 1.0)
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster),
        pytest.raises(RunError, match="no worker for"),
    ):
        runs.save(toys.maps(toys.scan()), tmp_path / "a.zarr", progress=False)


def test_workers_that_are_paused_for_good_are_told_of(tmp_path, monkeypatch):
    from distributed import Client, LocalCluster

    monkeypatch.setattr(places, "PAUSED", 1.0)
    where = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(n_workers=1, threads_per_worker=1, memory_limit="600MiB", **where) as cluster:
        with Client(cluster) as client:
            client.run(_hold, int(0.87 * 600 * 2**20))  # Dask pauses a worker at 80 %, and ends it at 95 %
            wait_for(lambda: all(w["status"] == "paused" for w in client.scheduler_info()["workers"].values()))
            with pytest.raises(RunError, match=r"all workers are paused: each holds .* Give each more memory"):
                runs.save(toys.maps(toys.scan()), tmp_path / "a.zarr", progress=False)
            client.run(_hold, 0)
            maps = toys.maps(toys.scan())
            toys.same(runs.save(maps, tmp_path / "a.zarr", progress=False), maps)


def _hold(size: int) -> None:
    """Make a worker hold so many bytes in all."""
    import scanfold.runs.worker  # noqa: F401

    os.held = b"1" * max(size - psutil.Process().memory_info().rss, 0)  # type: ignore[attr-defined]


def test_lost_workers_are_started_again(monkeypatch):
    monkeypatch.setattr(places, "RESCALE", 0.5)
    with places.find_workers(10**6, releases_gil=False) as workers:
        assert isinstance(workers, places.Cluster)
        wanted = os.cpu_count()
        workers._client.wait_for_workers(wanted, timeout=60)
        # A worker that is retired takes its nanny along: nothing starts another.
        workers._client.retire_workers(list(workers._client.nthreads())[:1])
        wait_for(lambda: len(workers._client.nthreads()) < wanted)

        def restored() -> bool:
            workers.check()
            return len(workers._client.nthreads()) == wanted

        wait_for(restored)


def test_a_store_is_known_as_ours_from_its_first_file_on(tmp_path, monkeypatch):
    """Whatever file is the last that is written, the same lines go on."""
    from scanfold.runs import layout

    class Lost(Exception):
        pass

    for function in ("_write_eager", "_create_array", "_write_root"):
        original = getattr(layout, function)

        def die(*args, original=original):
            original(*args)
            raise Lost

        store = tmp_path / f"{function}.zarr"
        with monkeypatch.context() as patch:
            patch.setattr(layout, function, die)
            with pytest.raises(Lost):
                runs.save(toys.maps(toys.scan()), store, progress=False)
        toys.same(runs.save(toys.maps(toys.scan()), store, progress=False), toys.maps(toys.scan()))


def test_a_refused_run_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sysconf", lambda name: 50)
    with pytest.raises(InputError, match="use smaller chunks"):
        runs.save(toys.maps(toys.scan()), tmp_path / "a.zarr", progress=False)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match="use smaller chunks"):
        runs.save(toys.maps(toys.scan()), tmp_path / "mine", progress=False)
    assert (tmp_path / "mine").is_dir()


def test_a_result_whose_worker_was_lost_is_made_again(monkeypatch):
    monkeypatch.setattr(places, "HELD", 1.0)
    with local_cluster(1) as (client, cluster):
        workers = places.Cluster(client, cluster, 1)
        workers.submit("who", os.getpid)
        job, result = workers.next(timeout=60)
        for nanny in list(cluster.workers.values()):
            cluster.sync(nanny.close)  # nobody else starts another
        assert job == "who"
        assert result() > 0
