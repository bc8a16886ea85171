"""Kills and stops of runs on processes that they started themselves: the rows R1 to R6 of the floor."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import dask
import numpy as np
import pytest
from runs import toys

from scanfold.runs import processes

from . import harness
from .jobs import FATAL, LONG, SLOW, Clean, Job

pytestmark = [pytest.mark.matrix, pytest.mark.trial]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Callable[[Job], Clean]:
    """Return what a run leaves that nobody disturbs, and its seconds; it is made once."""
    made: dict[Job, Clean] = {}

    def run(job: Job) -> Clean:
        if job not in made:
            made[job] = harness.undisturbed(job, tmp_path_factory.mktemp(job.name))
        return made[job]

    return run


def test_workers_are_killed_all_the_time(undisturbed, tmp_path, note):
    """SIGKILL of a random worker every 4 s, 36,864 positions on a cluster of the run's own."""
    clean = undisturbed(LONG)
    rng, kills, begun = np.random.default_rng(1), 0, time.monotonic()
    running = harness.start(LONG, tmp_path)
    harness.wait_for_blocks(running, tmp_path, 1)
    while running.process.is_alive():
        if victims := running.workers():
            victims[rng.integers(len(victims))].kill()
            kills += 1
        running.process.join(4.0)
    ratio = (time.monotonic() - begun) / clean.seconds
    code, text = running.wait()
    assert code == 0, text
    harness.same(LONG, tmp_path, clean.results)
    note(f"same bits after {kills} kills; {ratio:.1f} × the time without")
    assert kills >= 10
    assert ratio <= 2.5


def test_all_workers_are_killed_at_the_start(undisturbed, tmp_path, note):
    """SIGKILL of all workers of that cluster as they appear."""
    clean = undisturbed(SLOW)
    running = harness.start(SLOW, tmp_path)
    victims = harness.wait_until(lambda: len(found := running.workers()) == 2 and found, "it has two workers")
    for victim in victims:
        victim.kill()
    begun = time.monotonic()
    harness.wait_for_blocks(running, tmp_path, 1)
    back = time.monotonic() - begun
    code, text = running.wait()
    assert code == 0, text
    harness.same(SLOW, tmp_path, clean.results)
    note(f"the first block finished {back:.1f} s later; same bits")
    assert back <= 10


def stillborn() -> Any:
    """Let no worker live for longer than it takes to import what it needs."""
    return dask.config.set({"distributed.worker.preload": ["import os; os._exit(1)"]})


def test_workers_that_die_at_once(tmp_path, note):
    """All workers of that cluster die again and again before they can work: one error."""
    begun = time.monotonic()
    code, text = harness.start(SLOW, tmp_path, setup=stillborn).wait()
    seconds = time.monotonic() - begun
    assert code == 1, text
    assert harness.error_in(text).startswith("scanfold.conventions.RunError: no worker process came up"), text
    note(f"if none ever lives, an error after {seconds:.0f} s")
    assert seconds <= 60


def test_the_run_is_killed_ten_times(undisturbed, tmp_path, note):
    """SIGKILL of that run at 10 random moments: no process is left 5 s later, and it is finished in the end."""
    clean = undisturbed(SLOW)
    rng, kept, kills = np.random.default_rng(2), {}, 0
    for _ in range(10):
        running = harness.start(SLOW, tmp_path)
        harness.wait_until(lambda: running.workers() or not running.process.is_alive(), "it has workers")  # noqa: B023
        running.process.join(float(rng.uniform(0, 6)))
        if running.process.is_alive():
            running.kill()
            kills += 1
        found = harness.entries(tmp_path)
        assert kept.items() <= found.items()
        kept = found
    code, text = harness.start(SLOW, tmp_path).wait()
    assert code == 0, text
    assert kept.items() <= harness.entries(tmp_path).items()
    harness.same(SLOW, tmp_path, clean.results)
    note(f"same bits after {kills} kills; {len(kept)} of {len(harness.entries(tmp_path))} kept")


#: Seconds of silence after which a worker is taken for dead in the trial below.
SILENCE = 20


def impatient() -> None:
    """Take a worker for dead sooner."""
    processes.TTL = f"{SILENCE}s"


def test_a_worker_is_stopped_for_good(undisturbed, tmp_path, note):
    """SIGSTOP of a worker of that cluster."""
    clean = undisturbed(LONG)
    begun = time.monotonic()
    running = harness.start(LONG, tmp_path, setup=impatient)
    harness.wait_for_blocks(running, tmp_path, 1)
    running.workers()[0].suspend()
    code, text = running.wait()
    seconds = time.monotonic() - begun
    assert code == 0, text
    harness.same(LONG, tmp_path, clean.results)
    note(f"same bits, {seconds:.0f} s; {clean.seconds:.0f} without, ttl {SILENCE}")
    assert seconds <= SILENCE + clean.seconds


def test_positions_that_kill(tmp_path, note):
    """One position segfaults, one takes 2 GiB: both are condemned, all others are as ever."""
    code, text = harness.start(FATAL, tmp_path, workers=2, memory=700 * 2**20).wait()
    assert code == 0, text
    found = harness.results(FATAL, tmp_path)
    expected = toys.maps(toys.scan(3, 4, y=1, x=4)).compute()
    bad = np.isin(np.arange(12).reshape(3, 4), (2, 5))
    assert (found["out.zarr/status"][bad] == toys.FLAGS["crashed"]).all()
    assert np.isnan(found["out.zarr/mean"][bad]).all()
    for name in expected.data_vars:
        np.testing.assert_array_equal(found[f"out.zarr/{name}"][~bad], expected[name].values[~bad])
    note("both condemned, the other 10 as ever")
