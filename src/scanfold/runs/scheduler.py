"""The loop that keeps workers busy, tries again what failed, and halves what kills."""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from scanfold.conventions import RunError
from scanfold.runs.ledger import Ledger
from scanfold.runs.plan import Scan, less_memory
from scanfold.runs.progress import Progress
from scanfold.runs.worker import Block, merge_fragments, run_block, run_fragment
from scanfold.runs.workers import Workers

#: Blocks submitted for each worker thread.
IN_FLIGHT = 4
#: How often a block is tried again: after trouble with files, after other exceptions, after lost workers.
RETRIES = {"io": 5, "other": 1, "lost": 20}
#: Deaths while a block runs that condemn it to be halved; and those of one that cannot be halved.
DEATHS, DEATHS_WHOLE = 2, 6
#: Deaths after which what is left of a block is condemned as it stands; and a run of which nothing was ever finished.
MOST_DEATHS, HOPELESS_DEATHS = 100, 10

Units = tuple[int, int]


@dataclass(frozen=True)
class Job:
    """A block, some of its positions (`units`), or the merging of those."""

    name: str
    positions: int
    units: Units | None = None
    merge: bool = False
    tries: tuple[tuple[str, int], ...] = ()


@dataclass
class Halving:
    """What is known of a block that kills its workers."""

    pending: set[Units]
    done: list[Units]
    condemned: list[Units]
    deaths: int = 0


class Run:
    """One pass over the blocks that are missing.

    Parameters
    ----------
    scan : Scan
        With its final plan.
    ledger : Ledger
        Of the store.
    workers : Workers
        Where to compute.
    progress : Progress
        Told of every block.
    """

    def __init__(self, scan: Scan, ledger: Ledger, workers: Workers, progress: Progress):
        self.scan, self.ledger, self.workers, self.progress = scan, ledger, workers, progress
        self.failures: dict[str, str] = {}
        self._again: deque[Job] = deque()
        self._halvings: dict[str, Halving] = {}
        self._deaths, self._alive = 0, False

    def blocks(self, missing: Iterator[tuple[str, int]]) -> None:
        """Compute blocks, given as ``(name, positions)``.

        Raises
        ------
        RunError
            If a kernel raises one, the store cannot be written, or no worker is left.
        """
        waiting = (Job(name, positions) for name, positions in missing)
        running = 0
        more = True
        while True:
            while running < IN_FLIGHT * self.workers.threads and (more or self._again):
                job = self._again.popleft() if self._again else next(waiting, None)
                if job is None:
                    more = False
                    continue
                self._submit(job)
                running += 1
            if not running:
                return
            event = self.workers.next(timeout=1.0)
            self.workers.check()
            if event is None:
                self.progress.tick()
                continue
            running -= 1
            self._settle(*event)

    def _submit(self, job: Job) -> None:
        block = self.scan.block(job.name)
        limit = (DEATHS if block.pieces else DEATHS_WHOLE) if self.workers.mortal else None
        if job.merge:
            halving = self._halvings[job.name]
            self.workers.submit(job, merge_fragments, block, halving.done, halving.condemned)
        elif job.units is not None:
            self.workers.submit(job, run_fragment, block, job.units, DEATHS)
        else:
            self.workers.submit(job, run_block, block, limit)

    def _settle(self, job: Job, result: Any) -> None:
        try:
            outcome = result()
        except RunError:
            raise  # raised on purpose: go no further
        except Exception as error:
            self._failed(job, error)
            return
        if outcome["state"] == "killer":
            self._deaths += DEATHS if job.units or self.scan.block(job.name).pieces else DEATHS_WHOLE
            self._require_hope(job)
            self._halve(job)
            return
        self._alive = True
        if job.units is not None:
            self._halvings[job.name].done.append(job.units)
            self._close(job, job.units)
        else:
            self.progress.advance(outcome)

    def _failed(self, job: Job, error: Exception) -> None:
        kind = kind_of(error)
        tries = dict(job.tries)
        tries[kind] = tries.get(kind, 0) + 1
        if tries[kind] <= RETRIES[kind]:
            self._again.append(replace(job, tries=tuple(tries.items())))
            return
        text = "".join(traceback.format_exception(error))
        self._give_up(job.name, f"{type(error).__name__}: {error}", text)

    def _give_up(self, name: str, reason: str, text: str) -> None:
        self.failures[name] = reason
        self.ledger.fail(name, text)

    def _advice(self, name: str) -> str:
        """Return why workers died, as far as it is known, and what to do."""
        return f"{self.workers.why_they_died()}; {less_memory(self.scan.groups[int(name.partition('.')[0])])}"

    def _require_hope(self, job: Job) -> None:
        """Raise if workers have died again and again, and nothing was ever finished."""
        if not self._alive and self._deaths >= HOPELESS_DEATHS:
            raise RunError(
                f"{self._deaths} workers died, and no block was finished: {self._advice(job.name)}. "
                "Then run the same lines again; with other chunks, into another store"
            )

    def _halve(self, job: Job) -> None:
        block = self.scan.block(job.name)
        if not block.pieces:
            reason = (
                f"killed its worker {DEATHS_WHOLE} times, and cannot be halved, since its positions depend on each "
                f"other: {self._advice(job.name)}"
            )
            self._give_up(job.name, reason, reason)
            return
        units = job.units or (0, _count(block))
        halving = self._halvings.setdefault(job.name, Halving({units}, [], []))
        halving.deaths += DEATHS
        first, last = units
        if last - first == 1 or halving.deaths > MOST_DEATHS:
            halving.condemned.append(units)
        else:
            middle = (first + last) // 2
            for half in ((first, middle), (middle, last)):
                halving.pending.add(half)
                self._again.append(Job(job.name, job.positions, half))
        self._close(job, units)

    def _close(self, job: Job, units: Units) -> None:
        """Merge a halved block once nothing of it is left to do."""
        halving = self._halvings[job.name]
        halving.pending.discard(units)
        if not halving.pending:
            self._again.append(Job(job.name, job.positions, merge=True))


def _count(block: Block) -> int:
    return sum(p.rows[1] - p.rows[0] for p in block.pieces)


def kind_of(error: Exception) -> str:
    """Tell trouble with files and lost workers from other exceptions."""
    module = type(error).__module__.partition(".")[0]
    if module == "distributed" or type(error).__name__ in ("CancelledError", "FutureCancelledError"):
        return "lost"
    return "io" if isinstance(error, OSError) else "other"
