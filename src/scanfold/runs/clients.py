"""Where a program, rather than a library call, takes its workers from: a cluster it starts, or one that runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from scanfold.conventions import RunError
from scanfold.runs.workers import local_cluster

#: How long a scheduler may take to answer.
TIMEOUT = "10s"


@contextmanager
def local_client(workers: int, memory: int | None = None) -> Iterator[Any]:
    """Start single-threaded worker processes on loopback, and make them the current Client.

    Parameters
    ----------
    workers : int
        Number of processes.
    memory : int, optional
        Limit of each, in bytes; an equal share of the machine's if not given.

    Yields
    ------
    distributed.Client
        `scanfold.save` uses it inside the block.
    """
    with local_cluster(workers, memory) as (client, _), client.as_current():
        client.wait_for_workers(workers, timeout=60)
        yield client


@contextmanager
def connect(address: str) -> Iterator[Any]:
    """Connect to a scheduler that runs, and make it the current Client.

    Parameters
    ----------
    address : str
        Such as ``tcp://node1:8786``.

    Yields
    ------
    distributed.Client
        `scanfold.save` uses it inside the block.

    Raises
    ------
    RunError
        If no scheduler answers there.
    """
    from distributed import Client

    try:
        client = Client(address, set_as_default=False, timeout=TIMEOUT)
    except (OSError, ValueError, TimeoutError) as error:
        raise RunError(
            f"no scheduler answers at {address!r} ({type(error).__name__}); start one with "
            f"`dask scheduler` and pass the address that it prints, such as tcp://127.0.0.1:8786"
        ) from None
    with client, client.as_current():
        yield client
