"""A few positions of a block, to predict what the rest will take."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Sequence
from typing import Any

import numpy as np
from dask.callbacks import Callback

from scanfold import _apply
from scanfold._paths import location
from scanfold.runs import graph as graphs
from scanfold.runs.ledger import Ledger
from scanfold.runs.worker import Block, attempt, execute, positions

#: Seconds that rows on trial should take.
CLEAR = 0.02


def try_rows(block: Block, rows: int, max_attempts: int | None = None) -> dict[str, float]:
    """Time a few positions of a block, to predict the rest.

    Returns
    -------
    dict
        ``fixed`` seconds for reading and everything but the kernels, ``per_row`` seconds per position,
        ``peak`` bytes held at once; empty if it killed its worker.
    """
    with attempt(Ledger(location(block.store)), f"trial-{block.name}", max_attempts) as allowed:
        return _time_rows(block, rows) if allowed else {}


def _time_rows(block: Block, rows: int) -> dict[str, float]:
    meter = _Meter()
    graph = block.graph
    found = graphs.kernels(graph, block.keys, block.scan_ndim) if block.pieces else None
    if found:
        # kernels that feed others run as they are: those would see positions that were not computed
        found -= {k for last in found for k in graphs.cut(graph, [last]) if k != last}
        graph = graphs.replace_kernels(graph, found, lambda kernel: _Trial(kernel, rows, meter))
    start = time.perf_counter()
    with meter:
        results = execute(graph, block.keys)
    elapsed = time.perf_counter() - start
    out = sum(r.nbytes for r in results)
    if not found:
        return {"fixed": 0.0, "per_row": elapsed / block.positions, "peak": float(meter.peak + out)}
    done = sum(p.count for p in block.pieces)
    return {"fixed": elapsed - meter.spent, "per_row": meter.predicted / done, "peak": float(meter.peak + out)}


class _Meter(Callback):  # type: ignore[misc]
    """Peak of the bytes that a graph holds, and the time its kernels took."""

    def __init__(self) -> None:
        super().__init__(posttask=self._weigh)
        self.held, self.peak = 0, 0.0
        self.spent = self.predicted = 0.0

    def _weigh(self, key: Any, result: Any, dsk: Any, state: dict[str, Any], worker: Any) -> None:
        self.held = sum(getattr(v, "nbytes", 0) for v in state["cache"].values())
        self.peak = max(self.peak, self.held)


class _Trial:
    """A kernel that times a few rows: compiled by one, less the cost of a call with one."""

    def __init__(self, kernel: _apply._Block, rows: int, meter: _Meter):
        self.kernel, self.rows, self.meter = kernel, rows, meter

    def __call__(self, *blocks: np.ndarray) -> np.ndarray:
        count = positions(self.kernel, blocks)
        start = time.perf_counter()
        self._time(blocks, 1)
        one = self._time(blocks, 1)
        rows = min(self.rows, count)
        many = self._time(blocks, rows)
        while many < CLEAR and rows < count:  # of so few, most may be what a call costs, whatever it is given
            rows = min(4 * rows, count)
            many = self._time(blocks, rows)
        with _apply.only_rows(slice(0, 1)):
            result = self.kernel(*blocks)
        self.meter.peak = max(self.meter.peak, self.meter.held + self._memory(blocks, rows, count))
        per_row = max(many - one, 0.0) / (rows - 1) if rows > 1 else one
        self.meter.predicted += one + per_row * (count - 1)
        self.meter.spent += time.perf_counter() - start
        return result

    def _memory(self, blocks: Sequence[np.ndarray], rows: int, count: int) -> float:
        """Return the bytes that a call with all positions takes, by those of a call with one and with a few."""
        held = min(getattr(self.kernel.kernel, "together", count), count)
        rows = min(rows, held)
        one, many = (self._traced(blocks, n) for n in (1, rows))
        # Twice the input at least: a kernel may copy it, to make it contiguous or float.
        return max(2 * sum(b.nbytes for b in blocks), one + (many - one) / max(rows - 1, 1) * (held - 1))

    def _traced(self, blocks: Sequence[np.ndarray], rows: int) -> int:
        if tracemalloc.is_tracing():
            return 0  # somebody else is at it, whose peak would be lost
        tracemalloc.start()
        try:
            self._time(blocks, rows)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    def _time(self, blocks: Sequence[np.ndarray], rows: int) -> float:
        start = time.perf_counter()
        with _apply.only_rows(slice(0, rows)):
            self.kernel(*blocks)
        return time.perf_counter() - start
