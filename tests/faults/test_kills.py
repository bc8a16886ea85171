"""Runs, workers and schedulers that are killed or stopped."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from . import harness
from .jobs import Clean, each

pytestmark = pytest.mark.matrix


def moments(name: str, count: int) -> Iterator[tuple[float, float]]:
    """Yield how much of a run is done when something happens, and how many seconds later it does."""
    rng = np.random.default_rng(len(name))
    for share in np.sort(rng.uniform(0, 0.9, count)):
        yield float(share), float(rng.uniform(0, 0.05))


def finish(whole: Clean, folder: Path, kept: dict[str, Any]) -> None:
    """Run to the end; what is kept must not be done again, and all be as in a run without trouble."""
    code, text = harness.start(whole.job, folder).wait()
    assert code == 0, text
    assert kept.items() <= harness.entries(folder).items()
    harness.same(whole.job, folder, whole.results)


@each("fit", "polar-map")
def test_the_whole_run_is_killed(name, clean, tmp_path, note):
    """SIGKILL of the whole run at 3 random moments, run again."""
    whole = clean(name)
    folder = harness.fresh(whole.folder, tmp_path / "run")
    kept: dict[str, Any] = {}
    counts = []
    for share, wait in moments(name, 3):
        running = harness.start(whole.job, folder)
        harness.wait_for_blocks(running, folder, int(share * whole.units))
        running.process.join(wait)
        if running.process.is_alive():
            running.kill()
        found = harness.entries(folder)
        assert kept.items() <= found.items()
        kept = found
        counts.append(len(kept))
    finish(whole, folder, kept)
    note(f"same bits; {', '.join(map(str, counts))} of {len(harness.entries(folder))} kept")


@each("gather")
def test_a_worker_is_killed(name, clean, tmp_path, note):
    """SIGKILL of one of two workers at a random moment."""
    whole = clean(name)
    for number, (share, wait) in enumerate(reversed([*moments(name, 3)])):
        folder = harness.fresh(whole.folder, tmp_path / str(number))
        running = harness.start(whole.job, folder, workers=2)
        harness.wait_for_blocks(running, folder, int(share * whole.units))
        time.sleep(wait)
        victims = running.workers()
        if victims:
            victims[0].kill()
        code, text = running.wait()
        assert code == 0, text
        harness.same(whole.job, folder, whole.results)
        if victims:  # otherwise it ended before: again, and earlier
            note(f"same bits, when {share:.0%} was done")
            return
    pytest.fail("it always ended before")


def impatient() -> None:
    """Take a worker that is silent for 3 s for dead."""
    from scanfold.runs import processes

    processes.TTL = "3s"


@each()
def test_a_worker_is_stopped(name, clean, tmp_path, note):
    """SIGSTOP of one of two workers."""
    whole = clean(name)
    folder = harness.fresh(whole.folder, tmp_path / "run")
    running = harness.start(whole.job, folder, workers=2, setup=impatient)
    harness.wait_for_blocks(running, folder, 1)
    victims = running.workers()
    assert victims, "it ended before"
    begun = time.monotonic()
    victims[0].send_signal(signal.SIGSTOP)
    code, text = running.wait()
    assert code == 0, text
    harness.same(whole.job, folder, whole.results)
    note(f"same bits, {time.monotonic() - begun:.0f} s")


@contextmanager
def separate_cluster(folder: Path) -> Iterator[tuple[Path, psutil.Popen]]:
    """Start a scheduler and two workers as on a cluster; give the file with its address, and the scheduler."""
    address = folder / "scheduler.json"
    common = ["--scheduler-file", str(address)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    dask = [sys.executable, "-m", "distributed.cli.dask_"]
    local = ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"]
    scheduler = psutil.Popen([*dask[:2], f"{dask[2]}scheduler", *common, *local, "--port", "0"], **quiet)
    started = [scheduler]
    try:
        harness.wait_until(address.exists, "there is a scheduler")
        more = ["--nworkers", "2", "--nthreads", "1", "--death-timeout", "20"]
        started.append(psutil.Popen([*dask[:2], f"{dask[2]}worker", *common, *local, *more], **quiet))
        yield address, scheduler
    finally:
        for process in started:
            family = process.children(recursive=True) if process.is_running() else []
            for each_one in [*family, process]:
                if each_one.is_running():
                    each_one.kill()
            process.wait()


def connected(address: Path) -> Any:
    """Make the scheduler at an address the current one."""
    from scanfold.runs.clients import connect

    return connect(json.loads(address.read_text())["address"])


@each()
def test_the_scheduler_is_lost(name, clean, tmp_path, note):
    """The scheduler is killed: the client says so, and the same lines go on."""
    whole = clean(name)
    folder = harness.fresh(whole.folder, tmp_path / "run")
    with separate_cluster(tmp_path) as (address, scheduler):
        running = harness.start(whole.job, folder, setup=partial(connected, address))
        harness.wait_for_blocks(running, folder, 2)
        assert running.process.is_alive(), running.log.read_text()
        scheduler.kill()
        begun = time.monotonic()
        code, text = running.wait()
        seconds = time.monotonic() - begun
    assert code == 1, text
    error = harness.error_in(text)
    assert "RunError: the scheduler at tcp://127.0.0.1" in error, text
    assert "run the same lines again" in error
    kept = harness.entries(folder)
    finish(whole, folder, kept)
    note(f"said so in {seconds:.0f} s; {len(kept)} of {len(harness.entries(folder))} kept")
