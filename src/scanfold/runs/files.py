"""Runs whose results are files: one for each file that goes in, written at one stroke when it is done."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scanfold._paths import replace_file
from scanfold.conventions import InputError, RunError, ScanError, fingerprint, versions
from scanfold.runs.ledger import Ledger, differences, writing
from scanfold.runs.progress import Progress
from scanfold.runs.scheduler import DEATHS_WHOLE, HOPELESS_DEATHS, IN_FLIGHT, RETRIES, kind_of
from scanfold.runs.worker import attempt
from scanfold.runs.workers import Workers, find_workers

_PARTIAL = re.compile(r"\..+\.[0-9a-f]{32}\.partial")
#: Bytes of a file for each position that it holds, about: how many positions say whether processes are worth starting.
_POSITION = 2000

#: What is done with a file: its path → the bytes of the result, and what the ledger should say of it.
Work = Callable[[Path], tuple[bytes, dict[str, Any]]]


@dataclass(frozen=True)
class FileTask:
    """One file that goes in, and the file that comes out."""

    source: Path
    target: Path
    tries: tuple[tuple[str, int], ...] = ()

    @property
    def name(self) -> str:
        """Name of the result, by which the ledger knows it."""
        return self.target.name


class FileRun:
    """A run over files.

    The ledger is in the folder of the results. A result is finished when the ledger says from what, and by what, it
    was made, and its content is what was written then; it is not touched again while that is what is asked for.

    Parameters
    ----------
    tasks : sequence of FileTask
        Their targets are in one folder.
    work : callable
        See `Work`; it must pickle.
    options : mapping
        Plain data that, with the versions, identifies the work.
    resume : bool
        False does all again.
    label : str
        What is done, for the progress.
    releases_gil : bool
        Whether threads will do.
    counted : str
        What the ``status`` that `work` returns counts of each file, for the progress.
    flags : mapping of str to int, optional
        Meanings of these; the first is the good one.

    Raises
    ------
    InputError
        Before anything is computed or touched: two files with one result, a result that is not of such a run or was
        changed since, or that was made by other work.
    """

    def __init__(
        self, tasks: Sequence[FileTask], work: Work, options: Mapping[str, Any], *, resume: bool = True,
        label: str = "files", releases_gil: bool = True, counted: str = "", flags: Mapping[str, int] | None = None,
    ):  # fmt: skip
        self.tasks, self.label, self.counted, self.flags = list(tasks), label, counted, dict(flags or {})
        self.failures: dict[Path, str] = {}
        self.cancelled = threading.Event()
        #: What is known of the files that are finished, from this run and earlier ones.
        self.entries: dict[FileTask, Mapping[str, Any]] = {}
        self._work, self._releases_gil = work, releases_gil
        self._identity = json.loads(json.dumps({"options": dict(options), "versions": versions()}, default=str))
        self._ledger = Ledger(self.tasks[0].target.parent)
        _check_targets(self.tasks)
        found = {task: self._entry(task, resume) for task in self.tasks}
        self.entries = {task: entry for task, entry in found.items() if entry is not None}
        self._todo = [task for task in self.tasks if task not in self.entries]

    @property
    def finished(self) -> list[FileTask]:
        """The files that are finished."""
        return list(self.entries)

    def _entry(self, task: FileTask, resume: bool) -> Mapping[str, Any] | None:
        """Return what the ledger says of a file that is finished, None for one that is not."""
        if not task.target.exists():
            return None
        entry = self._ledger.entry(task.name)
        found = _digest(task.target.read_bytes())
        if entry is None or found not in (entry["sha256"], entry["before"]):
            how = "was not written by scanfold" if entry is None else "was changed since scanfold wrote it"
            raise InputError(f"{task.target} {how}, and is left as it is; move it away, or give out= another folder")
        if not resume or found != entry["sha256"]:
            return None
        if lines := differences(entry["identity"], self._identity):
            raise InputError(
                f"{task.target} was made by other work, and is left as it is. What differs:\n"
                + "\n".join(lines)
                + "\nGive out= another folder, or pass resume=False to make all results again"
            )
        return entry if entry["input"] == _input(task.source) else None

    def run(self, show: bool = True, tell: Callable[[int, int], None] | None = None) -> None:
        """Do what is left to do; `tell` is called with the files done and the files in all.

        Raises
        ------
        RunError
            If another run writes to the folder, it cannot be written to, or no worker is left.
        """
        if not self._todo:
            if tell is not None:
                tell(len(self.finished), len(self.tasks))
            return
        with self._ledger.locked():
            _prepare(self._ledger)
            size = sum(task.source.stat().st_size for task in self._todo if task.source.exists())
            with (
                find_workers(size // _POSITION, self._releases_gil) as workers,
                Progress(show, len(self.tasks), self.flags, self.label, "files", self.counted) as progress,
            ):
                try:
                    workers.require([str(self._ledger.store), str(self._todo[0].source.parent)])
                    self._loop(workers, progress, tell)
                except KeyboardInterrupt:
                    workers.stop()
                    self._gather(workers)
                    kept = f"\nstopped; {len(self.finished)} files are finished and kept. Run the same lines to go on"
                    print(kept, file=sys.stderr)
                    raise
                except BaseException:
                    workers.stop()
                    raise

    def _loop(self, workers: Workers, progress: Progress, tell: Callable[[int, int], None] | None) -> None:
        for entry in self.entries.values():
            progress.resume(_counts(entry))
        waiting, running = deque(self._todo), 0
        limit = DEATHS_WHOLE if workers.mortal else None
        while waiting or running:
            while waiting and running < IN_FLIGHT * workers.threads and not self.cancelled.is_set():
                task = waiting.popleft()
                workers.submit(task, run_file, task, self._work, self._identity, limit)
                running += 1
            if self.cancelled.is_set():
                workers.stop()
                self._gather(workers)
                return
            event = workers.next(timeout=0.5)
            workers.check()
            if event is None:
                progress.tick()
                continue
            running -= 1
            again = self._settle(*event)
            if again is not None:
                waiting.append(again)
                continue
            progress.advance(_counts(self.entries.get(event[0], {})))
            if tell is not None:
                tell(len(self.finished) + len(self.failures), len(self.tasks))
        progress.say(progress.summary() + (f", {len(self.failures)} failed" if self.failures else ""))

    def _gather(self, workers: Workers) -> None:
        """Count the files that were finished while the run was stopped."""
        while (event := workers.next(timeout=0.05)) is not None:
            self._settle(*event)  # what was cancelled it would try again

    def _settle(self, task: FileTask, result: Callable[[], Any]) -> FileTask | None:
        """Note what became of a file; return the task if it is to be tried again."""
        try:
            outcome = result()
        except RunError:
            raise
        except Exception as error:
            kind, tries = kind_of(error), dict(task.tries)
            tries[kind] = tries.get(kind, 0) + 1
            # What a reader says of a file on purpose it will say again.
            if tries[kind] <= RETRIES[kind] and (kind == "io" or not isinstance(error, ScanError)):
                return replace(task, tries=tuple(tries.items()))
            reason = str(error) if isinstance(error, ScanError) else f"{type(error).__name__}: {error}"
            self.failures[task.source] = reason
            self._ledger.fail(task.name, "".join(traceback.format_exception(error)))
            return None
        if outcome.get("state") == "killer":
            reason = (
                f"killed its worker {DEATHS_WHOLE} times, most likely for want of memory; "
                "use workers with more memory or fewer threads each, or split the file"
            )
            self.failures[task.source] = reason
            self._ledger.fail(task.name, reason)
            if not self.finished and len(self.failures) * DEATHS_WHOLE >= HOPELESS_DEATHS:
                raise RunError(f"no file was finished, and each of {len(self.failures)} {reason}")
        else:
            self.entries[task] = outcome
        return None


def run_file(task: FileTask, work: Work, identity: Mapping[str, Any], limit: int | None) -> dict[str, Any]:
    """Work on one file, enter it in the ledger, and put the result in place."""
    ledger = Ledger(task.target.parent)
    with attempt(ledger, task.name, limit) as allowed:
        if not allowed:
            return {"state": "killer"}
        source = _input(task.source)
        content, info = work(task.source)
        before = _digest(task.target.read_bytes()) if task.target.exists() else None
        entry = {"identity": identity, "input": source, "sha256": _digest(content), "before": before, **info}
        # First the entry: a result without one would be taken for somebody else's.
        ledger.finish(task.name, entry)
        with writing(ledger.folder), replace_file(task.target) as temporary:
            temporary.write_bytes(content)
        return info


def _counts(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the progress counts of a file: one, and the status of what is in it."""
    return {"positions": 1, "status": entry.get("status", {})}


def _check_targets(tasks: Sequence[FileTask]) -> None:
    seen: dict[Path, Path] = {}
    for task in tasks:
        if task.target in seen:
            raise InputError(
                f"{seen[task.target]} and {task.source} have one result, {task.target}; rename one of them"
            )
        seen[task.target] = task.source


def _prepare(ledger: Ledger) -> None:
    """Make the folders, and sweep what a killed run left half-written."""
    for folder in (ledger.failed, ledger.attempts):
        shutil.rmtree(folder, ignore_errors=True)
    for folder in (ledger.blocks, ledger.failed, ledger.attempts):
        folder.mkdir(parents=True, exist_ok=True)
    for folder in (ledger.store, ledger.blocks):
        for stale in folder.glob(".*.partial"):
            if _PARTIAL.fullmatch(stale.name):
                stale.unlink(missing_ok=True)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _input(path: Path) -> dict[str, Any]:
    """Return what identifies an input wherever its folder is."""
    return {"name": path.name} | {k: v for k, v in fingerprint(path).items() if k != "path"}
