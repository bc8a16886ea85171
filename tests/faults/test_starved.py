"""Workers that hold more than they may."""

from __future__ import annotations

import time
from typing import Any

import dask
import numpy as np
import pytest

from . import harness
from .jobs import each

pytestmark = pytest.mark.matrix


def hold_ever_more(*args: Any) -> None:
    """Take memory until the process is ended."""
    held = []
    while True:
        held.append(np.ones(2**21))
        time.sleep(0.01)


def be_greedy() -> None:
    """Make every block or part of one, and every file, ask for more memory than there is."""
    from scanfold.runs import files
    from scanfold.runs import worker as blocks

    blocks.execute = files._input = hold_ever_more


def starved() -> Any:
    """Have greedy workers, from before they take work; give up after four deaths, not ten, each of which takes time."""
    from scanfold.runs import files, scheduler

    files.DEATHS_WHOLE = scheduler.DEATHS_WHOLE = 2
    files.HOPELESS_DEATHS = scheduler.HOPELESS_DEATHS = 4
    return dask.config.set({"distributed.worker.preload": [f"import {__name__}; {__name__}.be_greedy()"]})


@each()
def test_workers_exceed_their_memory(name, clean, tmp_path, note):
    """Workers that exceed their memory at every block: the error says which chunks and how many threads."""
    whole = clean(name)
    folder = harness.fresh(whole.folder, tmp_path / "run")
    begun = time.monotonic()
    code, text = harness.start(whole.job, folder, workers=2, memory=700 * 2**20, setup=starved).wait()
    seconds = time.monotonic() - begun
    error = harness.error_in(text)
    assert code == 1, text
    assert error.startswith("scanfold.conventions.RunError: "), text
    assert "fewer threads" in error
    assert ("split the file" if whole.job.files else "use smaller chunks: scan.chunk(") in error
    if not whole.job.files:
        assert "held more than the 700 MiB" in error
    kept = harness.entries(folder)
    code, text = harness.start(whole.job, folder).wait()
    assert code == 0, text
    assert kept.items() <= harness.entries(folder).items()
    harness.same(whole.job, folder, whole.results)
    note(f"said so in {seconds:.0f} s")
