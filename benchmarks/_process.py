"""A method in a process of its own, set up once and run on demand: its threads, imports and memory are its own."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil


@dataclass(frozen=True)
class Run:
    """One run: wall and CPU seconds, the memory it added at its peak (bytes, of all its processes), its answer."""

    wall: float
    cpu: float
    memory: float
    answer: Any


@dataclass
class Method:
    """Something to be measured.

    `factory` is ``"module:function"``: a context manager of `arguments` that yields a function without arguments,
    which does the work and returns an answer that pickles. `positions` are what one run of it works on.
    """

    name: str
    factory: str
    positions: int = 1
    arguments: dict[str, Any] = field(default_factory=dict)
    first: Run | None = None
    runs: list[Run] = field(default_factory=list)
    #: Why it was not run, empty if it was.
    skipped: str = ""


def race(methods: list[Method], repeats: int) -> None:
    """Run all methods in turn, `repeats` times after a first run that is kept apart; fill in their runs."""
    context = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        pipes: list[tuple[Method, Connection]] = []
        for method in methods:
            pipe = stack.enter_context(_child(context, method))
            method.first = _ask(method, pipe)
            if method.skipped:
                print(f"skipped {method.name}: {method.skipped}", flush=True)
            else:
                pipes.append((method, pipe))
        for _ in range(repeats):
            for method, pipe in pipes:
                if run := _ask(method, pipe):
                    method.runs.append(run)


@contextlib.contextmanager
def _child(context: Any, method: Method) -> Iterator[Connection]:
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, method.factory, method.arguments))
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        with contextlib.suppress(OSError):
            ours.send("end")
        process.join(30)


def _ask(method: Method, pipe: Connection) -> Run | None:
    try:
        pipe.send("run")
        reply = pipe.recv()
    except (EOFError, OSError):
        reply = "its process died"
    if isinstance(reply, Run):
        return reply
    method.skipped = str(reply)
    return None


def _serve(pipe: Connection, factory: str, arguments: dict[str, Any]) -> None:
    module, name = factory.split(":")
    try:
        with getattr(importlib.import_module(module), name)(**arguments) as work:
            while pipe.recv() == "run":
                pipe.send(_measure(work))
    except ImportError as error:
        pipe.send(f"not installed ({error})")
    except Exception as error:
        traceback.print_exc()
        pipe.send(f"{type(error).__name__}: {error}")


def _measure(work: Any) -> Run:
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    before = sum(_memory(p.pid, reset=True) for p in family)
    cpu = sum(map(_cpu, family))
    start = time.perf_counter()
    answer = work()
    wall = time.perf_counter() - start
    cpu = sum(map(_cpu, family)) - cpu
    return Run(wall, cpu, sum(_memory(p.pid) for p in family) - before, answer)


def _cpu(process: psutil.Process) -> float:
    """Return the CPU seconds of a process; NaN if it died."""
    try:
        return float(sum(process.cpu_times()[:2]))
    except psutil.NoSuchProcess:
        return float("nan")


def _memory(pid: int, reset: bool = False) -> float:
    """Return the peak of a process's resident memory in bytes since the last reset; NaN where there is no /proc."""
    folder = Path("/proc") / str(pid)
    try:
        if reset:
            (folder / "clear_refs").write_text("5")
        lines = (folder / "status").read_text().splitlines()
    except OSError:
        return float("nan")
    return 1024.0 * next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def peak_memory(pid: int | None = None, reset: bool = False) -> float:
    """Return the peak of a process's resident memory in bytes since it began or was last reset."""
    return _memory(os.getpid() if pid is None else pid, reset)
