"""Where fits of traces start: the best point of a grid of times and rates, for each trace by itself.

No start depends on other traces: one bad cell changes no other.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from scanfold.traces.models import get_model
from scanfold.traces.request import FittingRequest

Array = npt.NDArray[np.float64]
#: How many times the grid has, fewer where they would lie closer than every second point of the traces.
TIMES = (6, 16)
#: How many rates it has, of one that varies, and of each of several.
RATES = (12, 6)


def grid_start(request: FittingRequest, x: Array) -> GridStart | None:
    """Return what finds a start of its own for each trace at times x (n); None for a model that does not say how.

    What `model_params` gives stays as given.
    """
    free = tuple(n for n in request.varying if n not in (request.model_params or {}))
    if not set(free) & set(request.model.linear) or x.size < 2:
        return None
    settings = tuple((n, p["value"], p["min"], p["max"]) for n, p in request.params().items())
    return GridStart(request.model_type, settings, free, x)


@dataclass(frozen=True)
class GridStart:
    """Find starts for traces (N, n): values of the free parameters (N each)."""

    model: str
    settings: tuple[tuple[str, float, float, float], ...]
    free: tuple[str, ...]
    x: Array

    def __call__(self, values: Array) -> dict[str, Array]:
        """Return the starts."""
        from scanfold.traces._start_kernels import best_of_grid, best_of_grid_with_gaps

        keep = np.isfinite(values)
        grid, linear, basis, base = make_grid(self.model, self.settings, self.free, self.x.tobytes())
        ends = {n: (low, high) for n, _, low, high in self.settings}
        low, high = (np.array([ends[n][i] for n in linear]) for i in (0, 1))
        chosen = np.zeros(len(values), np.int64)
        coefficients = np.zeros((len(values), len(linear)))
        whole = keep.all(axis=1)
        for rows, gaps in ((np.flatnonzero(whole), False), (np.flatnonzero(~whole), True)):
            if rows.size:
                index, solved = np.zeros(rows.size, np.int64), np.zeros((rows.size, len(linear)))
                if gaps:
                    best_of_grid_with_gaps(basis, base, values[rows], keep[rows], low, high, index, solved)
                else:
                    best_of_grid(basis, base, values[rows], low, high, index, solved)
                chosen[rows], coefficients[rows] = index, solved
        return {
            n: coefficients[:, linear.index(n)] if n in linear else np.clip(grid[n][chosen], *ends[n])
            for n in self.free
        }


@lru_cache(maxsize=8)
def make_grid(
    name: str, settings: tuple[tuple[str, float, float, float], ...], free: tuple[str, ...], times: bytes
) -> tuple[Mapping[str, Array], list[str], Array, Array]:
    """Return the points of a grid, the linear parameters, their curves (G, L, n), and what does not depend on them."""
    model, x = get_model(name), np.frombuffer(times)
    value = {n: v for n, v, _, _ in settings}
    searched = [s for s in settings if s[0] in free and s[0] not in model.linear]
    rates = RATES[sum(model.units.get(n) == "1/h" for n, *_ in searched) > 1]
    axes = {n: np.append(_axis(model.units.get(n, ""), low, high, x, rates), v) for n, v, low, high in searched}
    chosen = list(itertools.product(*axes.values()))
    points = np.array(chosen, np.float64).reshape(len(chosen), len(axes))
    grid = {n: np.full(len(points), v) for n, v in value.items()}
    grid |= {n: points[:, i] for i, n in enumerate(axes)}
    if model.ordered is not None and model.ordered(grid).any() and {"delta", "beta"} <= set(axes):
        kept = np.asarray(model.ordered(grid))
        grid = {n: v[kept] for n, v in grid.items()}
    linear = [n for n in free if n in model.linear]
    zero = grid | {n: np.zeros_like(grid[n]) for n in linear}

    def curve(values: Mapping[str, Array]) -> Array:
        return np.asarray(model.function(x, *(values[n][:, None] for n in model.names)), np.float64)

    base = curve(zero)
    basis = np.stack([curve(zero | {n: np.ones_like(grid[n])}) - base for n in linear], axis=1)
    return grid, linear, np.ascontiguousarray(basis), np.ascontiguousarray(base if base.any() else base[:0])


def _axis(units: str, low: float, high: float, x: Array, rates: int) -> Array:
    """Return the values of a time or a rate that the grid has, within its bounds and what the trace can tell."""
    span, step = float(np.ptp(x)), float(np.median(np.diff(np.sort(x))))
    if units == "h":
        first, last = max(low, float(x.min()) - 1.0), min(high, float(x.min()) + 0.8 * span)
        count = int(np.clip((last - first) / (2.0 * step), *TIMES)) if step > 0.0 else 0
        return np.linspace(first, last, count + 2)[1:-1] if first < last else np.zeros(0)
    if units == "1/h" and span > 0.0 and step > 0.0:
        first, last = max(low, 0.1 / span), min(high, 1.0 / step)
        return np.geomspace(first, last, rates) if first < last else np.zeros(0)
    return np.zeros(0)
