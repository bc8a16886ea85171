"""One BLAS thread per task: the blocks are what runs in parallel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from threading import Lock
from typing import Any

_lock = Lock()
_held: list[Any] = []
_depth = 0


@lru_cache(maxsize=1)
def _controller() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread while any task of this process is inside.

    BLAS keeps its number of threads per process, so tasks that each put back what they found would leave it wrong.
    """
    global _depth
    with _lock:
        _depth += 1
        if _depth == 1:
            _held.append(_controller().limit(limits=1, user_api="blas"))
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                _held.pop().restore_original_limits()
