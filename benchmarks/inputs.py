"""Bad input: damaged files of every format, odd words for every option, hostile files; what becomes of each.

Every input is tried in a process of its own kind (tests/inputs): limited to 3 GiB beyond what it starts with, ended
after 20 s, watched for writing, running and unpickling.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks._report import Figures, Table

#: Inputs for each reader and each kind of word.
MANY = 1000


def _tried(trials: Any, table: str, seeds: range, name: str) -> Any:
    tally = trials.run([(table, name)], seeds)[name]
    print(name, dict(tally.counts), *tally.failures[:3], flush=True)
    return tally


def run(small: bool = False) -> Iterator[Table]:
    """Yield a table for files, for words, for hostile input, and the figures."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    from inputs import files, hostile, trials, words

    all_of = []
    for table, module, title in (("files", files, "Damaged files"), ("words", words, "Odd words")):
        made = Table(
            f"{title}: {20 if small else MANY} each",
            ("reader", "refused by name", "read right", "read wrong", "failed", "slowest (s)", "most memory (MiB)"),
        )
        seeds = range(20 if small else MANY)
        with ThreadPoolExecutor(2) as pool:
            tried = dict(
                zip(module.TRIALS, pool.map(partial(_tried, trials, table, seeds), module.TRIALS), strict=True)
            )
        for name, tally in tried.items():
            all_of.append(tally)
            counts = tally.counts
            numbers = [counts["refused"], counts["right"], counts["wrong"], len(tally.failures)]
            made.rows.append((name, *map(str, numbers), f"{tally.slowest:.1f}", f"{tally.grown:.0f}"))
        if table == "files":
            made.notes.append(
                "Read wrong: other numbers than were written, without an error. What has no checksum cannot show it; "
                "nor do changed names or axes, in any format."
            )
        yield made
    tallies = trials.run([("hostile", name) for name in hostile.TRIALS], range(1))
    yield Table(
        "Hostile files and words, each refused by name, nothing run, nothing written",
        ("what", "refused", "s", "MiB"),
        [
            (n, "yes" if t.counts["refused"] else "**no**", f"{t.slowest:.2f}", f"{t.grown:.0f}")
            for n, t in tallies.items()
        ],
    )
    figures = Figures()
    total = sum(t.total for t in all_of)
    for what, outcomes in {
        "errors of libraries, or that name no file": ("library", "unnamed"),
        "hangs and crashes": ("hang", "crash"),
        "more than 300 MiB": ("memory",),
        "written, touched or run": ("touched", "ran"),
    }.items():
        found = sum(t.counts[o] for t in [*all_of, *tallies.values()] for o in outcomes)
        figures.add(f"{what}, of {total:,} inputs", "0", str(found), found == 0)
    refused = sum(t.counts["refused"] for t in tallies.values())
    figures.add("hostile inputs refused", str(len(tallies)), str(refused), refused == len(tallies))
    yield figures
