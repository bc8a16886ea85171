"""Where a program, rather than a library call, takes its workers from: a cluster it starts, or one that runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from scanfold.conventions import RunError
from scanfold.runs.workers import _local_cluster


@contextmanager
def local_client(workers: int, memory_limit: str | int = "auto") -> Iterator[Any]:
    """Start single-threaded worker processes on loopback, and make them the current Client.

    Parameters
    ----------
    workers : int
        Number of processes.
    memory_limit : str or int
        Of each, as in ``distributed.LocalCluster``: bytes, or words such as ``"512 MiB"``.

    Yields
    ------
    distributed.Client
        `scanfold.save` uses it inside the block.
    """
    with _local_cluster(workers, memory_limit=memory_limit) as (client, _), client.as_current():
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
        client = Client(address, set_as_default=False, timeout="10s")
    except (OSError, ValueError, TimeoutError) as error:
        raise RunError(
            f"no scheduler answers at {address!r} ({type(error).__name__}); start one with "
            f"`dask scheduler` and pass the address that it prints, such as tcp://127.0.0.1:8786"
        ) from None
    with client, client.as_current():
        yield client
