"""Where a program, rather than a library call, takes its workers from: a cluster it starts, or one that runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from scanfold.conventions import InputError, RunError
from scanfold.runs.processes import local_cluster

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
def connect(
    address: str, *, tls_ca_file: str | None = None, tls_cert: str | None = None, tls_key: str | None = None
) -> Iterator[Any]:
    """Connect to a scheduler that runs, and make it the current Client.

    Parameters
    ----------
    address : str
        Such as ``tcp://node1:8786``, or ``tls://node1:8786`` for a scheduler that was started with certificates.
    tls_ca_file, tls_cert, tls_key : str, optional
        With ``tls://``, the files (PEM) of the authority, of the certificate to show, and of its key; without them,
        those that Dask's configuration names (``distributed.comm.tls``).

    Yields
    ------
    distributed.Client
        `scanfold.save` uses it inside the block.

    Raises
    ------
    InputError
        If a file of the certificates is missing or cannot be used, or ``tls://`` comes without any.
    RunError
        If no scheduler answers there.
    """
    from distributed import Client

    security = _security(tls_ca_file, tls_cert, tls_key) if address.startswith("tls://") else None
    try:
        client = Client(address, set_as_default=False, timeout=TIMEOUT, security=security)
    except (OSError, ValueError, TimeoutError) as error:
        tls = (
            "its certificates may be of another authority than those given here"
            if security
            else "one that was started with certificates answers to tls:// only"
        )
        raise RunError(
            f"no scheduler answers at {address!r} ({type(error).__name__}); start one with "
            f"`dask scheduler` and pass the address that it prints, such as tcp://127.0.0.1:8786; {tls}"
        ) from None
    with client, client.as_current():
        yield client


def _security(ca_file: str | None, cert: str | None, key: str | None) -> Any:
    """Return the certificates to show, from these files or from Dask's configuration."""
    from distributed.security import Security

    given = {"tls_ca_file": ca_file, "tls_client_cert": cert, "tls_client_key": key}
    try:
        security = Security(**{k: v for k, v in given.items() if v is not None}, require_encryption=True)
        lacking = [name for name in given if getattr(security, name) is None]
        if lacking:
            words = ", ".join("--" + name.replace("client_", "").replace("_", "-") for name in lacking)
            raise InputError(f"tls:// needs certificates; pass {words}, or set distributed.comm.tls of Dask")
        security.get_connection_args("client")
    except OSError as error:  # ssl.SSLError is one
        raise InputError(f"cannot use the certificates {[v for v in given.values() if v]}: {error}") from None
    return security
