"""Trials of many inputs: each in a child process with limits, which is ended where one does not come back."""

from __future__ import annotations

import base64
import json
import os
import pickle
import selectors
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Flaky

#: Seconds that one input may take on a loaded machine, and what comes before the first: loading, compiling.
PATIENCE, BEGINNING = 20.0, 300.0
#: What an input may come to: its data, other data (where a format has no checksum), or one error that names it.
FINE = ("right", "wrong", "refused")
#: Failures that an input is made smaller for (one that takes 20 s is not), and for how many kinds of them in a trial.
SHRUNK, KINDS = ("library", "unnamed", "memory", "touched", "ran"), 8


@dataclass
class Tally:
    """What became of the inputs of one trial."""

    name: str
    counts: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    grown: float = 0.0
    failures: list[dict[str, Any]] = field(default_factory=list)
    #: The smallest inputs that fail, one for each kind of failure, where inputs can be made smaller.
    smallest: list[dict[str, Any]] = field(default_factory=list)

    def add(self, answer: dict[str, Any]) -> None:
        """Count one."""
        self.counts[answer["outcome"]] += 1
        self.slowest = max(self.slowest, answer["seconds"])
        self.grown = max(self.grown, answer["grown"])
        if answer["outcome"] not in FINE:
            self.failures.append(answer)

    @property
    def total(self) -> int:
        """How many inputs were tried."""
        return sum(self.counts.values())


class Child:
    """A process that answers."""

    def __init__(self) -> None:
        memory = Path("/dev/shm")  # thousands of small files are made and removed
        self.folder = tempfile.mkdtemp(prefix="inputs-", dir=memory if os.access(memory, os.W_OK) else None)
        environment = os.environ | {
            "MPLBACKEND": "Agg",
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "NUMBA_NUM_THREADS": "1",
        }
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("child.py")), self.folder],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment,
        )  # fmt: skip
        self.selector = selectors.DefaultSelector()
        assert self.process.stdout is not None
        self.answers, self.read = self.process.stdout.fileno(), b""
        self.begun: set[tuple[str, str]] = set()
        self.selector.register(self.answers, selectors.EVENT_READ)

    def ask(self, table: str, name: str, case: Any) -> dict[str, Any]:
        """Try one input, after what its trial begins with."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{table}\t{name}\t{base64.b64encode(pickle.dumps(case)).decode()}\n".encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            return self._ended("crash", 0.0)
        if (table, name) not in self.begun and self._line(BEGINNING) != b"begun":
            raise RuntimeError(f"the trial {name!r} did not begin")
        self.begun.add((table, name))
        line = self._line(PATIENCE)
        if line is None:
            return self._ended("hang", PATIENCE)
        return json.loads(line) if line else self._ended("crash", 0.0)

    def _line(self, patience: float) -> bytes | None:
        """Return the next line of an answer; nothing of a process that ended, None if there is none in time."""
        while b"\n" not in self.read:
            if not self.selector.select(patience):
                return None
            piece = os.read(self.answers, 2**16)
            if not piece:
                return b""
            self.read += piece
        line, _, self.read = self.read.partition(b"\n")
        return line

    def _ended(self, outcome: str, seconds: float) -> dict[str, Any]:
        self.close()
        detail = f"exit code {self.process.returncode}"
        return {"outcome": outcome, "detail": detail, "seconds": seconds, "grown": 0.0}

    def close(self) -> None:
        """End it."""
        self.selector.close()
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Children:
    """One child at a time; another one where the last did not come back."""

    def __enter__(self) -> Children:
        self.child: Child | None = None
        return self

    def __exit__(self, *exception: object) -> None:
        if self.child is not None:
            self.child.close()

    def ask(self, table: str, name: str, case: Any) -> dict[str, Any]:
        """Try one input."""
        if self.child is None or self.child.process.poll() is not None:
            self.child = Child()
        return self.child.ask(f"inputs.{table}", name, case) | {"case": repr(case)[:400]}


def run(trials: Iterable[tuple[str, str]], seeds: Iterable[int] | Mapping[str, Sequence[int]]) -> dict[str, Tally]:
    """Try the inputs of these seeds, or of those that belong to each.

    Trials are pairs of a module of this folder and a name in its table.
    """
    tallies: dict[str, Tally] = {}
    with Children() as children:
        for table, name in trials:
            tally = tallies.setdefault(name, Tally(name))
            for seed in seeds.get(name, ()) if isinstance(seeds, Mapping) else seeds:
                tally.add(children.ask(table, name, seed))
    return tallies


def draw(table: str, trials: Mapping[str, Any], count: int) -> dict[str, Tally]:
    """Try so many inputs that Hypothesis draws from what each trial says (``said``), the same ones every time."""
    with Children() as children:
        return {
            name: _drawn(name, trial.said, lambda said, name=name: children.ask(table, name, said), count)
            for name, trial in trials.items()
        }


class Failed(Exception):
    """An input failed in a way that was not seen before; Hypothesis looks for a smaller one."""


def _drawn(name: str, said: Any, ask: Callable[[Any], dict[str, Any]], count: int) -> Tally:
    smallest: dict[str, dict[str, Any]] = {}
    while (tally := _tallied(name, said, ask, count, smallest)) is None:
        pass  # again, with one more kind of failure that is known
    tally.smallest = list(smallest.values())
    return tally


def _tallied(
    name: str, said: Any, ask: Callable[[Any], dict[str, Any]], count: int, smallest: dict[str, dict[str, Any]]
) -> Tally | None:
    tally, last = Tally(name), ("", {})

    @settings(
        max_examples=count, deadline=None, database=None, derandomize=True, report_multiple_bugs=False,
        print_blob=False, phases=(Phase.generate, Phase.shrink), suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(said)
    def attempt(case: Any) -> None:
        nonlocal last
        answer = ask(case)
        tally.add(answer)
        kind = _kind(answer)
        if answer["outcome"] in SHRUNK and kind not in smallest and len(smallest) < KINDS:
            last = kind, answer
            raise Failed(kind)

    try:
        attempt()
    except (Failed, Flaky):
        if not last[0]:
            raise
        smallest[last[0]] = last[1]
        return None
    return tally


def _kind(answer: dict[str, Any]) -> str:
    """Return what kind of failure it is: of a library, by the place where it was raised."""
    return str(answer["outcome"] + (answer["detail"].rpartition("(")[2] if answer["outcome"] == "library" else ""))
