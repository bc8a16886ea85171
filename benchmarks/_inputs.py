"""Inputs tried in processes of their own, and the table of what became of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks._report import Figures, Table

#: Inputs for each reader and each kind of word, and kinds that are tried at once, each in a process.
MANY, AT_ONCE = 1000, 2


def trials_of(table: str) -> tuple[Any, Any]:
    """Return the module that runs trials and the one that holds a table of them, which the tests share."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    return import_module("inputs.trials"), import_module(f"inputs.{table}")


def tried(table: str, title: str, small: bool) -> tuple[Table, list[Any]]:
    """Try the inputs of all trials of a table."""
    trials, module = trials_of(table)
    count = 20 if small else MANY
    made = Table(
        f"{title}: {count:,} each",
        ("input", "refused by name", "taken right", "read wrong", "failed", "slowest (s)", "most memory (MiB)"),
    )

    def tally_of(name: str) -> Any:
        trial = module.TRIALS[name]
        drawn = hasattr(trial, "said")
        found = trials.draw(table, {name: trial}, count) if drawn else trials.run([(table, name)], range(count))
        tally = found[name]
        print(name, dict(tally.counts), *tally.smallest, *tally.failures[:3], sep="\n  ", flush=True)
        return tally

    with ThreadPoolExecutor(AT_ONCE) as pool:
        tallies = list(pool.map(tally_of, module.TRIALS))
    for name, tally in zip(module.TRIALS, tallies, strict=True):
        numbers = (tally.counts["refused"], tally.counts["right"], tally.counts["wrong"], len(tally.failures))
        made.rows.append((name, *map(str, numbers), f"{tally.slowest:.1f}", f"{tally.grown:.0f}"))
    return made, tallies


def figures(tallies: Sequence[Any]) -> Figures:
    """Return what must hold of all of them."""
    made, total = Figures(), sum(t.total for t in tallies)
    for what, outcomes in {
        "errors of libraries, or that name nothing": ("library", "unnamed"),
        "hangs (20 s) and crashes": ("hang", "crash"),
        "more than 300 MiB": ("memory",),
        "written, touched or run": ("touched", "ran"),
    }.items():
        found = sum(t.counts[o] for t in tallies for o in outcomes)
        made.add(f"{what}, of {total:,} inputs", "0", str(found), found == 0)
    return made
