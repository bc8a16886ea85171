"""Worker processes of our own, on this machine."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from scanfold.conventions import RunError

#: Seconds with too few workers after which they are asked for again; that the first may take to come up.
RESCALE, STARTING = 5.0, 45.0
#: Silence after which a worker is taken for dead, and into how many parts that time is cut by looks at its workers:
#: Dask looks once in it, and so may come to know after twice as long.
TTL, LOOKS = "60s", 8


@contextmanager
def local_cluster(workers: int, memory: int | None = None) -> Iterator[tuple[Any, Any]]:
    """Start single-threaded worker processes that listen on loopback only."""
    import dask
    from distributed import Client, LocalCluster
    from distributed.scheduler import DEFAULT_EXTENSIONS
    from distributed.system import MEMORY_LIMIT

    settings = {
        "distributed.scheduler.worker-ttl": TTL,
        "distributed.scheduler.allowed-failures": 20,
        # Every process keeps samples of itself, two a second: of five minutes, not of an hour, in which memory grows.
        "distributed.admin.system-monitor.log-length": 600,
        # Nor are kept a profile of each of the last 1,000 seconds, as many messages with the blocks that were in
        # them, and the tasks of 100 graphs: of tens of MiB, which fill for twenty minutes.
        "distributed.worker.profile.enabled": False,
        "distributed.admin.low-level-log-length": 100,
        "distributed.diagnostics.computations.max-history": 1,
    }
    environment = dict(os.environ)
    with _hidden_main(), dask.config.set(settings):
        try:
            with (
                LocalCluster(
                    n_workers=0,  # they are asked for below, so that one that dies at once is replaced like any other
                    memory_limit=memory or MEMORY_LIMIT // workers,
                    threads_per_worker=1,
                    processes=True,
                    host="127.0.0.1",
                    dashboard_address="127.0.0.1:0",
                    worker_dashboard_address="127.0.0.1:0",
                    silence_logs=50,
                    # Spans keep a note of every task for as long as the scheduler lives.
                    scheduler_kwargs={"extensions": {n: e for n, e in DEFAULT_EXTENSIONS.items() if n != "spans"}},
                    extensions={},
                ) as cluster,
                Client(cluster, set_as_default=False) as client,
            ):
                cluster.scheduler.periodic_callbacks["worker-ttl"].callback_time /= LOOKS
                cluster.scale(workers)
                _wait_for_one(client, cluster)
                _restore(environment)
                yield client, cluster
        finally:
            _restore(environment)  # nannies set variables again whenever they start a worker


def _wait_for_one(client: Any, cluster: Any) -> None:
    begun = time.monotonic()
    while True:
        try:
            client.wait_for_workers(1, timeout=RESCALE)
            return
        except TimeoutError:
            if time.monotonic() - begun > STARTING:
                raise RunError(
                    f"no worker process came up within {STARTING:.0f} s; `scanfold doctor` may tell why"
                ) from None
            replace_lost(cluster)


def replace_lost(cluster: Any) -> None:
    """Start workers in place of those that died."""
    # Workers that died while starting stay in the cluster's books, which keeps it from starting others.
    for name, worker in list(cluster.workers.items()):
        if worker.status.name in ("closed", "failed"):
            cluster.workers.pop(name, None)
    cluster.scale(len(cluster.worker_spec))  # as many as it was asked for last


def _restore(environment: dict[str, str]) -> None:
    for name in set(os.environ) - set(environment):
        del os.environ[name]
    os.environ.update(environment)


@contextmanager
def _hidden_main() -> Iterator[None]:
    """Keep spawned workers from running the user's script again, which may have no ``if __name__`` guard.

    What kernels need of it travels by value (cloudpickle).
    """
    main = sys.modules["__main__"]
    kept: dict[str, Any] = {}
    for name in ("__file__", "__spec__"):
        if name in main.__dict__:
            kept[name] = main.__dict__.pop(name)
    main.__spec__ = None
    try:
        yield
    finally:
        main.__dict__.update(kept)
