"""Where blocks are computed: threads of this process, or workers of a Dask cluster."""

from __future__ import annotations

import asyncio
import os
import queue
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Protocol

from scanfold._paths import exists
from scanfold.conventions import InputError, RunError
from scanfold.runs import graph as graphs
from scanfold.runs.processes import RESCALE, local_cluster, replace_lost
from scanfold.runs.worker import limit_libraries, single_threaded_libraries

#: Seconds without any worker after which a run gives up.
PATIENCE = 60.0
#: Seconds in which Dask may bring back the result of a worker that is lost, before it is looked after.
HELD = 30.0
#: Seconds after which it gives up if Dask has paused all workers, and none of them computes anything.
PAUSED = 30.0
#: Bytes that a worker process takes at least before any data, with the code of a fit 320 MiB; and that it should have.
BASE, ENOUGH = 200 * 2**20, 640 * 2**20
#: Fewer positions than this are not worth starting processes for.
SMALL = 1000

Event = tuple[Any, Callable[[], Any]]


class Workers(Protocol):
    """What a run needs of the place where blocks are computed."""

    threads: int
    mortal: bool  # workers can die without taking this process along

    @property
    def memory(self) -> float:
        """Bytes that each thread may hold."""

    def submit(self, job: Any, function: Callable[..., Any], *arguments: Any) -> None:
        """Start a task; `next` will give its job back."""

    def next(self, timeout: float) -> Event | None:
        """Return ``(job, function that gives its result or raises)``, or None after `timeout` seconds."""

    def compute(self, graph: graphs.Graph, keys: Sequence[Any]) -> list[Any]:
        """Compute a small whole-scan step."""

    def require(self, paths: Iterable[str]) -> None:
        """Raise unless every worker sees these files and folders."""

    def check(self) -> None:
        """Look after the workers."""

    def why_they_died(self) -> str:
        """Say what is known of workers that died."""

    def stop(self) -> None:
        """Give up what has not started."""


class Threads:
    """A pool of threads in this process, for kernels that release the GIL."""

    mortal = False

    def __init__(self) -> None:
        self.threads = os.cpu_count() or 1
        self.memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / self.threads
        self._pool = ThreadPoolExecutor(self.threads, initializer=limit_libraries)
        self._finished: queue.Queue[tuple[Any, Future[Any]]] = queue.Queue()

    def submit(self, job: Any, function: Callable[..., Any], *arguments: Any) -> None:
        """Start a task."""
        future = self._pool.submit(function, *arguments)
        future.add_done_callback(lambda f: self._finished.put((job, f)))

    def next(self, timeout: float) -> Event | None:
        """Return a task that ended."""
        try:
            job, future = self._finished.get(timeout=timeout)
        except queue.Empty:
            return None
        return job, future.result

    def compute(self, graph: graphs.Graph, keys: Sequence[Any]) -> list[Any]:
        """Compute a small whole-scan step."""
        from dask.threaded import get

        return list(get(graphs.optimise(graph, keys), list(keys), num_workers=self.threads))

    def require(self, paths: Iterable[str]) -> None:
        """Threads see what this process sees."""

    def check(self) -> None:
        """Threads need no looking after."""

    def why_they_died(self) -> str:
        """Threads do not die."""
        return ""

    def stop(self) -> None:
        """Give up what has not started, and wait for what has."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class Cluster:
    """The workers of a distributed Client; ours if `cluster` is given."""

    mortal = True

    def __init__(self, client: Any, cluster: Any = None, wanted: int = 0):
        # A cluster in this process can start workers again, whoever made it; one that adapts itself does so anyway.
        self._client, self._cluster = client, cluster or _restorable(client.cluster)
        self._address = client.scheduler.address
        self._finished: queue.Queue[tuple[Any, Any]] = queue.Queue()
        self._futures: dict[int, Any] = {}
        self._last_seen = self._complete = self._awake = time.monotonic()
        self._checked = 0.0
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        self._wanted = wanted or len(workers)
        self.threads = wanted or sum(w["nthreads"] for w in workers) or 1
        self._limit = min((w["memory_limit"] or 0 for w in workers), default=0)
        self._room({})

    @property
    def memory(self) -> float:
        """What a thread may hold of data: the limit of its worker, less what that holds now with its libraries."""
        return self._room(self._client.run(held, on_error="return"))

    def _room(self, taken: Mapping[str, Any]) -> float:
        """Return the bytes that are left to a thread of the worker with least, given what some of them hold."""
        room = float("inf")
        for address, worker in self._client.scheduler_info(n_workers=-1)["workers"].items():
            holds = max(BASE, taken[address] if isinstance(taken.get(address), int) else 0)
            if (limit := worker["memory_limit"]) and limit <= holds:
                enough = f"{max(ENOUGH, 2 * holds) / 2**20:.0f}"
                raise InputError(
                    f"a worker may hold {limit / 2**20:.0f} MiB, and Python with its libraries takes about "
                    f"{holds / 2**20:.0f} before any data; give each at least {enough} MiB: "
                    f"LocalCluster(memory_limit='{enough}MiB')"
                )
            room = min(room, (limit - holds) / worker["nthreads"] if limit else room)
        return room

    def submit(self, job: Any, function: Callable[..., Any], *arguments: Any) -> None:
        """Start a task; its arguments travel as bytes, so that Dask does not look into their graphs."""
        import cloudpickle

        payload = cloudpickle.dumps((function, arguments))
        with self._connected():
            future = self._client.submit(_call, payload, pure=False, retries=0)
        self._futures[id(future)] = future
        future.add_done_callback(lambda f: self._finished.put((job, f)))

    def next(self, timeout: float) -> Event | None:
        """Return a task that ended; its future is released."""
        try:
            job, future = self._finished.get(timeout=timeout)
        except queue.Empty:
            return None
        self._futures.pop(id(future), None)
        self._awake = time.monotonic()
        return job, partial(self._result, future)

    def _result(self, future: Any) -> Any:
        """Return what a task made; where the worker that held it was lost, it is made again, for which it takes one."""
        return self._gathered([future], HELD)[0]

    def _gathered(self, futures: Sequence[Any], patience: float) -> list[Any]:
        """Wait for what tasks make; after so many seconds, look after the workers meanwhile."""
        begun = time.monotonic()
        gathered = self._client.gather(futures, asynchronous=True)
        coming = asyncio.run_coroutine_threadsafe(gathered, self._client.loop.asyncio_loop)
        while True:
            try:
                return list(coming.result(timeout=1.0))
            except TimeoutError:
                if coming.done():
                    raise  # a task's own
                if time.monotonic() - begun > patience:
                    self.check()

    def compute(self, graph: graphs.Graph, keys: Sequence[Any]) -> list[Any]:
        """Compute a small whole-scan step on all workers."""
        from distributed import KilledWorker

        try:
            with self._connected():
                futures = self._client.get(graphs.optimise(graph, keys), list(keys), sync=False)
                return self._gathered(futures, 0.0)
        except KilledWorker as error:
            raise RunError(
                f"a small step over the whole scan killed its workers, most likely for want of memory ({error}); "
                f"give them more, or open the scan in smaller chunks"
            ) from None

    def require(self, paths: Iterable[str]) -> None:
        """Have every worker look for these files and folders.

        Raises
        ------
        RunError
            Naming the paths, and the workers that do not see them or lack this package.
        """
        from distributed.comm import CommClosedError

        answers = self._client.run(unseen, sorted(set(paths)), on_error="return")
        # A worker that was lost just now tells nothing of the others.
        answers = {w: answer for w, answer in answers.items() if not isinstance(answer, CommClosedError)}
        failed = [f"  {address}: {answer}" for address, answer in answers.items() if isinstance(answer, Exception)]
        if failed:
            raise RunError(
                "workers cannot run this; they need the same packages and credentials as this process:\n"
                + "\n".join(failed[:20])
            )
        blind = [f"  {path} on {where}" for found in answers.values() for path, where in found]
        if blind:
            raise RunError(
                "workers open files by path, and some do not see these:\n"
                + "\n".join(blind[:20])
                + "\nPut them on a file system that all workers share, under the same path"
            )

    def check(self) -> None:
        """Ask for lost workers again, and give up after a minute without any.

        Raises
        ------
        RunError
            If there has been no worker for a minute, all have been paused for want of memory, or the scheduler is gone.
        """
        now = time.monotonic()
        if now - self._checked < 1.0 and self._client.status == "running":
            return
        self._checked = now
        with self._connected():
            threads = self._client.nthreads()
        if threads:
            self._last_seen, self.threads = now, sum(threads.values())
        if len(threads) >= self._wanted:
            self._complete = now
        elif self._cluster is not None and now - self._complete > RESCALE:
            self._complete = now
            replace_lost(self._cluster)
        if now - self._last_seen > PATIENCE:
            raise RunError(
                f"no worker for {PATIENCE:.0f} s; see to the cluster, then run the same lines again: "
                "what is finished is kept"
            )
        if now - self._awake > RESCALE:  # the scheduler is not asked about all workers while blocks end
            self._require_awake(now)

    def _require_awake(self, now: float) -> None:
        """Give up if every worker holds so much memory, with nothing to compute, that Dask gives it no more work."""
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        if not all(w["status"] == "paused" and not w["metrics"]["task_counts"].get("executing") for w in workers):
            self._awake = now
        elif workers and now - self._awake > PAUSED:
            least = min(w["metrics"]["memory"] for w in workers) / 2**20
            raise RunError(
                f"all workers are paused: each holds {least:.0f} MiB or more, with nothing to compute, and may hold "
                f"{self._limit / 2**20:.0f}. Give each more memory, or start fewer of them, or fewer threads in each, "
                "then run the same lines again: what is finished is kept"
            )

    def why_they_died(self) -> str:
        """Say how many went beyond their memory, by the events of their nannies."""
        restarts: Sequence[Any] = ()
        with suppress(RunError), self._connected():
            restarts = self._client.get_events("worker-restart-memory")
        if not restarts:
            return "the kernel ended the process, or the system did for want of memory"
        return f"{len(restarts)} were ended because they held more than the {self._limit / 2**20:.0f} MiB they may"

    @contextmanager
    def _connected(self) -> Iterator[None]:
        """Say so if the scheduler is gone; the client has tried to reach it again for some time then."""
        from distributed.comm import CommClosedError

        try:
            yield
        except Exception as error:
            if self._client.status == "running" and not isinstance(error, CommClosedError):
                raise
            raise RunError(
                f"the scheduler at {self._address} does not answer any more; start it and its workers again, "
                "then run the same lines again: what is finished is kept"
            ) from None

    def stop(self) -> None:
        """Give up what has not ended."""
        with suppress(RunError), self._connected():
            self._client.cancel(list(self._futures.values()), force=True)
        self._futures.clear()


def _restorable(cluster: Any) -> Any:
    from distributed import LocalCluster

    restorable = isinstance(cluster, LocalCluster) and not cluster.asynchronous
    return cluster if restorable and getattr(cluster, "_adaptive", None) is None else None


def held() -> int:
    """Return the bytes that this process holds."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def unseen(paths: Sequence[str], dask_worker: Any) -> list[tuple[str, str]]:
    """Return the paths that are not to be seen on a worker, each with where this is."""
    missing = list(paths)
    for pause in (0.0, 0.5, 1.5):  # what was just made on another machine may take a moment to appear
        time.sleep(pause)
        missing = [path for path in missing if not exists(path)]
        if not missing:
            break
    return [(path, f"{dask_worker.address} ({socket.gethostname()})") for path in missing]


def _call(payload: bytes) -> Any:
    import cloudpickle

    function, arguments = cloudpickle.loads(payload)
    with single_threaded_libraries():
        return function(*arguments)


@contextmanager
def find_workers(positions: int, releases_gil: bool) -> Iterator[Workers]:
    """Give the workers for a run: the current Client's, threads, or a cluster of processes of our own."""
    client = _current_client()
    if client is not None:
        client.get_versions(check=True)
        yield Cluster(client)
    elif releases_gil or positions < SMALL:
        threads = Threads()
        with single_threaded_libraries():
            try:
                yield threads
            finally:
                threads.stop()
    else:
        wanted = os.cpu_count() or 1
        with local_cluster(wanted) as (client, cluster):
            yield Cluster(client, cluster, wanted)


def _current_client() -> Any:
    if "distributed" not in sys.modules:
        return None
    from distributed import default_client

    try:
        return default_client()
    except ValueError:
        return None
