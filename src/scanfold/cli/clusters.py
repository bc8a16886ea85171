"""``--workers`` and ``--scheduler``: the cluster that a command computes on."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from scanfold.conventions import InputError


def require_one_cluster(workers: int | None, scheduler: str | None) -> None:
    """Raise if both are given."""
    if workers and scheduler:
        raise InputError("--workers starts a cluster and --scheduler uses one that runs; give one of them")


def cluster(workers: int | None, scheduler: str | None) -> Any:
    """Return the context in which a cluster is the current Client: one started, one that runs, or none."""
    from scanfold.runs import clients

    if scheduler:
        return clients.connect(scheduler)
    return clients.local_client(workers) if workers else nullcontext()
