"""Trials of many inputs: each in a child process with limits, which is ended where one does not come back."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Seconds that one input may take on a loaded machine, and what comes before the first: loading, compiling.
PATIENCE, BEGINNING = 20.0, 300.0
#: What an input may come to: its data, other data (where a format has no checksum), or one error that names it.
FINE = ("right", "wrong", "refused")
FAILURES = ("library", "unnamed", "hang", "crash", "memory", "touched", "ran")


@dataclass
class Tally:
    """What became of the inputs of one trial."""

    name: str
    counts: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    grown: float = 0.0
    failures: list[dict[str, Any]] = field(default_factory=list)

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
        self.selector.register(self.answers, selectors.EVENT_READ)

    def ask(self, table: str, name: str, seed: int, begun: bool) -> dict[str, Any]:
        """Try one input, after what its trial begins with."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{table}\t{name}\t{seed}\n".encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            return self._ended(seed, "crash", 0.0)
        if not begun and self._line(BEGINNING) != b"begun":
            raise RuntimeError(f"the trial {name!r} did not begin")
        line = self._line(PATIENCE)
        if line is None:
            return self._ended(seed, "hang", PATIENCE)
        return json.loads(line) if line else self._ended(seed, "crash", 0.0)

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

    def _ended(self, seed: int, outcome: str, seconds: float) -> dict[str, Any]:
        self.close()
        detail = f"exit code {self.process.returncode}"
        return {"seed": seed, "outcome": outcome, "detail": detail, "seconds": seconds, "grown": 0.0}

    def close(self) -> None:
        """End it."""
        self.selector.close()
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def run(trials: Iterable[tuple[str, str]], seeds: Iterable[int] | Mapping[str, Sequence[int]]) -> dict[str, Tally]:
    """Try the inputs of these seeds, or of those that belong to each.

    Trials are pairs of a module of this folder and a name in its table.
    """
    tallies: dict[str, Tally] = {}
    child = None
    try:
        for table, name in trials:
            tally = tallies.setdefault(name, Tally(name))
            begun = False
            for seed in seeds.get(name, ()) if isinstance(seeds, Mapping) else seeds:
                if child is None or child.process.poll() is not None:
                    child, begun = Child(), False
                tally.add(child.ask(f"inputs.{table}", name, seed, begun))
                begun = True
    finally:
        if child is not None:
            child.close()
    return tallies
