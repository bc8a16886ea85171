"""Run after run for an hour: what the processes hold.

``SCANFOLD_SOAK=3600 pytest tests/faults/test_soak.py -m matrix`` runs it for so many seconds, and writes what it found
into ``benchmarks/README.md``; without the variable it is left out.
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from . import harness, recorded
from .jobs import Job, write
from .soak import soak

pytestmark = [pytest.mark.matrix, pytest.mark.trial]

SECONDS = float(os.environ.get("SCANFOLD_SOAK", 0))
#: Share of the blocks after which growth counts: before, caches fill, and code is loaded.
WARM = 0.25
WHO = ("client and scheduler", "a worker", "the other worker")


def growth(rounds: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Return for each process MiB per 1,000 blocks once it is warm, all MiB at the end, and handles then and before."""
    blocks = np.array([r["blocks"] for r in rounds])
    warm = blocks >= WARM * blocks[-1]
    found = []
    for number in range(len(WHO)):
        held = np.array([r["held"][number] for r in rounds], float)[warm]
        slope = np.polyfit(blocks[warm] / 1000, held[:, 0] / 2**20, 1)[0]
        half = len(held) // 2
        before, after = held[:half, 1].max(), held[half:, 1].max()
        found.append({"slope": slope, "end": held[-1, 0] / 2**20, "before": before, "after": after})
    return found


def record(rounds: list[dict[str, Any]]) -> None:
    """Write the table."""
    sys.path.insert(0, str(recorded.ROOT))
    from benchmarks._report import Table, write

    columns = ("process", "MiB per 1,000 blocks (< 1)", "MiB at the end", "most handles, second half", "first half")
    table = Table("Fits, groups and simulations in turn, on two workers, until the time was over", columns)
    for who, g in zip(WHO, growth(rounds), strict=True):
        slope = f"{g['slope']:.2f}" if g["slope"] < 1 else f"**{g['slope']:.2f}**"
        table.rows.append((who, slope, f"{g['end']:.0f}", f"{g['after']:.0f}", f"{g['before']:.0f}"))
    last = rounds[-1]
    table.notes.append(
        f"{last['seconds'] / 60:.0f} min, {len(rounds)} rounds of three runs, {last['blocks']:,} blocks; a quarter of "
        "the blocks is left out, in which caches fill."
    )
    title = "Run after run in one process: memory and handles."
    write(
        "soak",
        title,
        [table],
        f"SCANFOLD_SOAK={SECONDS:.0f} pytest tests/faults/test_soak.py -m matrix",
        last["seconds"],
    )


@pytest.mark.skipif(not SECONDS, reason="set SCANFOLD_SOAK to the seconds that it shall last")
def test_soak(tmp_path, note):
    """Run after run: memory and open handles stay."""
    log = tmp_path / "rounds"
    job = Job("soak", write, partial(_soak, log=log))
    code, text = harness.start(job, tmp_path).wait(2 * SECONDS + harness.LIMIT)
    assert code == 0, text
    rounds = [json.loads(line) for line in log.read_text().splitlines()]
    record(rounds)
    for who, g in zip(WHO, growth(rounds), strict=True):
        note(f"{who}: {g['slope']:.2f} MiB per 1,000 blocks, handles {g['before']:.0f} and {g['after']:.0f}")
    assert all(g["slope"] < 1 and g["after"] <= g["before"] for g in growth(rounds))


def _soak(folder: Path, log: Path) -> None:
    soak(folder / "soak", SECONDS, log)
