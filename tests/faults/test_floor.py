"""Many kills of a run on processes that it started itself."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from . import harness
from .jobs import SLOW

pytestmark = [pytest.mark.matrix, pytest.mark.trial]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[dict[str, Any], float]:
    """Return what a run leaves that nobody disturbs, and its seconds."""
    folder = tmp_path_factory.mktemp("slow")
    begun = time.monotonic()
    code, text = harness.start(SLOW, folder).wait()
    assert code == 0, text
    return harness.results(SLOW, folder), time.monotonic() - begun


def test_workers_are_killed_all_the_time(undisturbed, tmp_path, note):
    """SIGKILL of a random worker every 2 s, 9,216 positions on a cluster of the run's own."""
    expected, clean = undisturbed
    rng, kills, begun = np.random.default_rng(1), 0, time.monotonic()
    running = harness.start(SLOW, tmp_path)
    harness.wait_for_blocks(running, tmp_path, 1)
    while running.process.is_alive():
        if victims := running.workers():
            victims[rng.integers(len(victims))].kill()
            kills += 1
        running.process.join(2.0)
    seconds = time.monotonic() - begun
    code, text = running.wait()
    assert code == 0, text
    assert kills >= 5
    harness.same(SLOW, tmp_path, expected)
    note(f"same bits after {kills} kills; {seconds / clean:.1f} × the time without")


def test_the_run_is_killed_ten_times(undisturbed, tmp_path, note):
    """SIGKILL of that run at 10 random moments: no process is left 5 s later, and it is finished in the end."""
    expected, _ = undisturbed
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
    harness.same(SLOW, tmp_path, expected)
    note(f"same bits after {kills} kills; {len(kept)} of {len(harness.entries(tmp_path))} kept")
