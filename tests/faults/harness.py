"""Start a job in a process of its own, wait for a moment, and compare what it left."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import xarray as xr

from .jobs import Clean, Job

#: Seconds that anything may take here; all of it takes a few on a free machine.
LIMIT = 420.0


@dataclass
class Running:
    """A job in a process, and a process group, of its own."""

    process: Any
    log: Path

    def kill(self) -> None:
        """End the run, and every process that it started, without a word."""
        family = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.join(LIMIT)
        _, alive = psutil.wait_procs(family[1:], timeout=5)
        assert not alive, "workers outlive a run that was killed by more than 5 s"

    def wait(self, seconds: float = LIMIT) -> tuple[int, str]:
        """Return exit status and what was printed."""
        self.process.join(seconds)
        if self.process.is_alive():
            self.kill()
            raise AssertionError(f"still running after {seconds:.0f} s:\n{self.log.read_text()}")
        return self.process.exitcode, self.log.read_text()

    def workers(self) -> list[psutil.Process]:
        """Return its worker processes."""
        if not self.process.is_alive():
            return []
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [p for p in children if "spawn_main" in " ".join(p.cmdline())]


def start(
    job: Job, folder: Path, *, setup: Callable[..., Any] | None = None, workers: int = 0, memory: int | None = None,
    plugin: Callable[[], Any] | None = None, log: Path | None = None,
) -> Running:  # fmt: skip
    """Run a job in a process of its own.

    Parameters
    ----------
    job : Job
    folder : Path
        With its input.
    setup : callable
        Called first in the new process; what it returns may be a context.
    workers : int
        Worker processes; otherwise threads.
    memory : int
        Bytes that each of them may hold.
    plugin : callable
        Returns a plugin of the workers.
    log : Path
        Folder for what it prints, if not that of the job.
    """
    log = (log or folder) / f"log-{time.monotonic_ns()}.txt"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    # The server that runs are forked from has all of this imported.
    path = os.pathsep.join([str(Path(__file__).parent.parent), *sys.path])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = path
    try:
        process = context.Process(target=_child, args=(job, folder, log, setup, workers, memory, plugin))
        process.start()
    finally:
        os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)
    return Running(process, log)


def _child(
    job: Job, folder: Path, log: Path, setup: Callable[..., Any] | None, workers: int, memory: int | None,
    plugin: Callable[[], Any] | None,
) -> None:  # fmt: skip
    os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: it does not outlive the tests
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout, sys.stderr = (os.fdopen(n, "w", buffering=1, closefd=False) for n in (1, 2))
    from scanfold.runs.clients import local_client

    try:
        found = setup() if setup is not None else None
        with found or nullcontext(), local_client(workers, memory) if workers else nullcontext() as client:
            if workers and plugin is not None:
                client.register_plugin(plugin())
            job.run(folder)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def undisturbed(job: Job, folder: Path) -> Clean:
    """Do a job that nobody disturbs, and return what it left."""
    begun = time.monotonic()
    code, text = start(job, folder).wait()
    assert code == 0, text
    seconds = time.monotonic() - begun
    return Clean(job, folder, results(job, folder), len(entries(folder)), seconds)


def error_in(text: str) -> str:
    """Return the last error that was printed: its type and all its lines."""
    lines = text.rstrip().splitlines()
    first = max((n for n, line in enumerate(lines) if line[:1].strip() and "Error: " in line.split(" ", 1)[0] + " "),
                default=len(lines) - 1)  # fmt: skip
    return "\n".join(lines[first:])


def entries(folder: Path) -> dict[str, tuple[int, int]]:
    """Return what tells each entry of every ledger from one that was written again."""
    found = {}
    for where, _, names in os.walk(folder):  # folders may go while it walks
        if where.endswith(".scanfold/blocks"):
            for name in names:
                path = Path(where, name)
                result = Path(where).parent.parent / path.stem  # of a run over files: its entry comes first
                if path.stem.endswith(".csv") and not result.exists():
                    continue
                if path.suffix == ".json" and (status := _status(path)):
                    found[str(path.relative_to(folder))] = (status.st_ino, status.st_mtime_ns)
    return found


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def wait_until(condition: Callable[[], Any], what: str, seconds: float = LIMIT) -> Any:
    """Wait until something is so, and return it."""
    limit = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < limit, f"waited in vain until {what}"
        time.sleep(0.002)
    return found


def wait_for_blocks(running: Running, folder: Path, count: int) -> None:
    """Wait until so many units are finished, or the run has ended."""
    wait_until(
        lambda: len(entries(folder)) >= count or not running.process.is_alive(), f"{count} units of it are finished"
    )


def results(job: Job, folder: Path) -> dict[str, np.ndarray | bytes]:
    """Return all that a job has written: the values of stores, the bytes of files."""
    out = folder / job.out
    found: dict[str, np.ndarray | bytes] = {}
    stores = [out] if out.suffix == ".zarr" else sorted(out.glob("*.zarr"))
    for store in stores:
        with xr.open_zarr(store, chunks=None) as ds:
            found |= {f"{store.name}/{name}": np.asarray(v.values) for name, v in ds.variables.items()}
    for pattern in ("*.csv", "kspace/*.npy", "realspace/*.tif"):
        found |= {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.glob(pattern))}
    return found


def same(job: Job, folder: Path, expected: dict[str, np.ndarray | bytes]) -> None:
    """Assert that a job left exactly what was expected, to the last bit."""
    found = results(job, folder)
    assert sorted(found) == sorted(expected)
    for name, value in expected.items():
        if isinstance(value, bytes):
            assert found[name] == value, f"{name} differs"
        else:
            np.testing.assert_array_equal(found[name], value, err_msg=name, strict=True)


def fresh(source: Path, folder: Path) -> Path:
    """Copy the input of a job, and nothing else."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("out", "out.zarr", "log-*"))
    return folder
