"""Where fits of traces start: the best point of a grid of times and rates, for each trace by itself.

No start depends on other traces: one bad cell changes no other.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from scanfold import _apply
from scanfold.traces.models import get_model
from scanfold.traces.request import FittingRequest

Array = npt.NDArray[np.float64]
#: How many times and rates the grid has in each direction.
TIMES, RATES = 16, 6


def starts(array: xr.DataArray, request: FittingRequest) -> dict[str, dict[str, Any]]:
    """Return the parameters of a request as `scanfold.fit` takes them, with a start of its own for each trace.

    What `model_params` gives stays as given.
    """
    params = request.params()
    free = tuple(n for n in request.varying if n not in (request.model_params or {}))
    if not set(free) & set(request.model.linear) or array.sizes["time"] < 2:
        return params
    settings = tuple((n, p["value"], p["min"], p["max"]) for n, p in params.items())
    kernel = GridStart(request.model_type, settings, free, np.ascontiguousarray(array["time"].values, np.float64))
    token = f"traces-start-{request.describe()}-{free}-{kernel.x.tobytes().hex()}"
    found = _apply.apply_kernel(
        kernel, array.drop_vars(list(array.coords)), core_dims=[["time"]], output={"start": len(free)}, token=token
    )
    return {n: p | ({"value": found.isel(start=free.index(n))} if n in free else {}) for n, p in params.items()}


@dataclass(frozen=True)
class GridStart:
    """Find starts for traces (N, n): the values of the free parameters (N, F)."""

    model: str
    settings: tuple[tuple[str, float, float, float], ...]
    free: tuple[str, ...]
    x: Array

    def __call__(self, data: npt.NDArray[np.generic]) -> Array:
        """Return the starts."""
        from scanfold.traces._start_kernels import best_of_grid, best_of_grid_with_gaps

        values = np.array(data, np.float64, order="C")
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
        columns = [
            coefficients[:, linear.index(n)] if n in linear else np.clip(grid[n][chosen], *ends[n]) for n in self.free
        ]
        return np.stack(columns, axis=1)


@lru_cache(maxsize=8)
def make_grid(
    name: str, settings: tuple[tuple[str, float, float, float], ...], free: tuple[str, ...], times: bytes
) -> tuple[Mapping[str, Array], list[str], Array, Array]:
    """Return the points of a grid, the linear parameters, their curves (G, L, n), and what does not depend on them."""
    model, x = get_model(name), np.frombuffer(times)
    value = {n: v for n, v, _, _ in settings}
    axes = {}
    for n, v, low, high in settings:
        if n in free and n not in model.linear:
            axes[n] = np.append(_axis(model.units.get(n, ""), low, high, x), v)
    points = np.array(list(itertools.product(*axes.values()))).reshape(-1, len(axes))
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


def _axis(units: str, low: float, high: float, x: Array) -> Array:
    """Return the values of a time or a rate that the grid has, within its bounds and what the trace can tell."""
    span, step = float(np.ptp(x)), float(np.median(np.diff(np.sort(x))))
    if units == "h":
        first, last = max(low, float(x.min()) - 1.0), min(high, float(x.min()) + 0.8 * span)
        return np.linspace(first, last, TIMES + 2)[1:-1] if first < last else np.zeros(0)
    if units == "1/h" and span > 0.0 and step > 0.0:
        first, last = max(low, 0.1 / span), min(high, 1.0 / step)
        return np.geomspace(first, last, RATES) if first < last else np.zeros(0)
    return np.zeros(0)
