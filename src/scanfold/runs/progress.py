"""How far a run is: a bar on a terminal and in a notebook, a plain line now and then elsewhere."""

from __future__ import annotations

import html
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

#: Seconds between two lines in a log, and between two looks of a notebook's bar.
PERIOD, GLANCE = 10.0, 0.2


class Progress:
    """Positions done, positions per second, time left, positions flagged so far.

    Parameters
    ----------
    show : bool
        False keeps quiet.
    total : int
        Positions of the whole run.
    flags : mapping of str to int
        Meanings of the variable `status`; the first is the good one.
    label : str
        What is being done.
    unit : str
        What is counted.
    counted : str
        What has a status, where that is not the unit: files are counted, and the cells in them are flagged.
    """

    def __init__(
        self, show: bool, total: int, flags: Mapping[str, int], label: str, unit: str = "positions", counted: str = ""
    ):
        self.show, self.total, self.flags, self.label, self.unit = show, total, flags, label, unit
        self.counted = counted
        self.done = self.before = 0
        self.status: Counter[int] = Counter()
        self.started = self.printed = time.monotonic()
        self._bar: Any = None
        self._cell: Any = None

    def __enter__(self) -> Progress:
        if self.show and _in_notebook():
            from IPython.display import display

            self._cell = display(self._shown(), raw=True, display_id=True)
        elif self.show and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            text = TextColumn("{task.completed:,.0f}/{task.total:,.0f} " + self.unit + " {task.fields[speed]}")
            columns = (TextColumn(self.label), BarColumn(), text, TimeRemainingColumn())
            self._bar = Bar(*columns, console=Console(stderr=True))
            self._bar.start()
            self._task = self._bar.add_task(self.label, total=self.total, speed="")
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self._cell is not None:
            self._cell.update(self._shown(), raw=True)

    def resume(self, entry: Mapping[str, Any]) -> None:
        """Count a block that an earlier run finished."""
        self.before += int(entry["positions"])
        self._count(entry)

    def advance(self, entry: Mapping[str, Any]) -> None:
        """Count a block that has just been finished."""
        self._count(entry)
        self.tick()

    def _count(self, entry: Mapping[str, Any]) -> None:
        self.done += int(entry["positions"])
        self.status.update({int(k): n for k, n in entry.get("status", {}).items()})

    @property
    def rate(self) -> float:
        """Positions per second of this run."""
        return (self.done - self.before) / max(time.monotonic() - self.started, 1e-9)

    @property
    def flagged(self) -> int:
        """Positions whose status is not the first."""
        good = next(iter(self.flags.values()), None)
        return sum(n for value, n in self.status.items() if value != good)

    @property
    def tally(self) -> str:
        """How many of what is counted apart were done, and how many were flagged."""
        parts = [f"{sum(self.status.values()):,} {self.counted}"] if self.counted else []
        return ", ".join([*parts, f"{self.flagged:,} flagged"] if self.flags else parts)

    def line(self) -> str:
        """Return where the run is, in one line."""
        left = (self.total - self.done) / self.rate if self.rate else float("inf")
        time_left = f"{left:.0f} s left" if left != float("inf") else "starting"
        parts = [f"{self.done:,} of {self.total:,} {self.unit}", f"{self.rate:,.0f}/s", time_left, self.tally]
        return f"{self.label}: {', '.join(filter(None, parts))}"

    def tick(self) -> None:
        """Show where the run is, if it is time to."""
        if self._bar is not None:
            self._bar.update(
                self._task, total=self.total, completed=self.done, speed=f"{self.rate:,.0f}/s {self.tally}"
            )
        elif self.show and time.monotonic() - self.printed > (PERIOD if self._cell is None else GLANCE):
            self.printed = time.monotonic()
            if self._cell is None:
                self.say(self.line())
            else:
                self._cell.update(self._shown(), raw=True)

    def _shown(self) -> dict[str, str]:
        """Return where the run is as a notebook shows it, and as its file keeps it for readers without HTML."""
        line = self.line()
        bar = f'<progress value="{self.done}" max="{max(self.total, 1)}" style="width: 20em"></progress>'
        return {"text/plain": line, "text/html": f"{bar} {html.escape(line)}"}

    def say(self, text: str) -> None:
        """Print a line where the progress goes."""
        if self.show:
            print(text, file=sys.stderr, flush=True)

    def summary(self) -> str:
        """Return what came out, with a count of each status."""
        meanings = {value: name for name, value in self.flags.items()}
        counts = ", ".join(f"{n:,} {meanings.get(value, value)}" for value, n in sorted(self.status.items()))
        seconds = time.monotonic() - self.started
        counted = f", {sum(self.status.values()):,} {self.counted}" if self.counted else ""
        text = f"{self.label}: {self.done:,} {self.unit}{counted} in {seconds:.1f} s"
        return text + (f": {counts}" if counts else "")


def _in_notebook() -> bool:
    """Say whether a Jupyter kernel runs this."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


@contextmanager
def while_computing(show: bool) -> Iterator[None]:
    """Show how far Dask's own schedulers are, which compute to memory, if it is to be shown."""
    from dask.callbacks import Callback

    with Progress(show, 0, {}, "compute", "tasks") as progress:

        def start(graph: Any, state: Mapping[str, Any]) -> None:
            progress.total += len(state["ready"]) + len(state["waiting"])

        with Callback(start_state=start, posttask=lambda *task: progress.advance({"positions": 1})):
            yield
    progress.say(progress.summary())
