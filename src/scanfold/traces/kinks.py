"""Fits of curves with a kink at a time that varies: the best of several places of the kink.

While the kink moves from one point of a trace to the next the cost is smooth; at each point its slope jumps. A fit
stops between two points although the lowest cost is a few points away, or creeps along a point where the slope turns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from scanfold.fitting.block import FitBlock, columns
from scanfold.fitting.problem import Problem

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]

#: How many intervals away kinks are looked for on both sides, and how often again where that lowers the cost.
BESIDE, ROUNDS = (0, -1, 1, -2, 2), 3
#: The part of the cost that makes it worth while; what is nearer to a point than this part of the interval is on it.
GAIN, ON = 1e-9, 1e-3
#: Evaluations after which what is not yet better will hardly be.
TRIES = 20
#: Part of the range between two bounds that is no longer on them.
INSIDE = 2e-9


@dataclass(frozen=True)
class Kink:
    """A parameter of a block at whose value the curve has a kink; the block takes starts for all that vary."""

    block: FitBlock
    index: int

    @cached_property
    def edges(self) -> Array:
        """Points of the traces between the bounds of the parameter, and its bounds."""
        problem = self.block.problem
        low, high = problem.low[self.index], problem.high[self.index]
        edges = np.unique(np.clip(np.concatenate([[low], problem.x, [high]]), low, high))
        return np.asarray(edges[np.isfinite(edges)])

    @property
    def place(self) -> dict[str, slice]:
        """Where each result stands in a row."""
        return columns(self.block.problem, self.block.covariance)

    def search(self, packed: Array, data: Array, weights: list[Array]) -> None:
        """Fit again with the kink in intervals beside, and keep in packed (N, K) what has a lower cost."""
        cost, kink = self.place["chisqr"].start, self.place["values"].start + self.index
        rows = np.flatnonzero(np.isfinite(packed[:, cost]))
        for _ in range(ROUNDS if self.edges.size > 1 else 0):
            before = packed[rows, cost]
            for step in BESIDE:
                here = np.searchsorted(self.edges, packed[rows, kink], side="right") - 1
                self.fit_within(np.clip(here + step, 0, self.edges.size - 2), rows, packed, data, weights)
            self.settle(rows, packed, data, weights)
            rows = rows[packed[rows, cost] < before]

    def fit_within(self, interval: Rows, rows: Rows, packed: Array, data: Array, weights: list[Array]) -> None:
        """Fit some rows with the kink kept in an interval (N)."""
        problem = self.block.problem
        low, high = self.edges[interval], self.edges[interval + 1]
        kept = replace(problem, own=(*problem.own, (self.index, 1), (self.index, 2)))
        self.fit_by(kept, 0.5 * (low + high), [low, high], rows, packed, data, weights)

    def settle(self, rows: Rows, packed: Array, data: Array, weights: list[Array]) -> None:
        """Where the kink is on a point, fit the other parameters alone."""
        kink = packed[rows, self.place["values"].start + self.index]
        right = np.clip(np.searchsorted(self.edges, kink), 1, self.edges.size - 1)
        low, high = self.edges[right - 1], self.edges[right]
        nearest = np.where(kink - low < high - kink, low, high)
        on = np.abs(kink - nearest) < ON * (high - low)
        problem = self.block.problem
        others = tuple(i for i in problem.free[-1] if i != self.index)
        if others:
            self.fit_by(replace(problem, free=(others,)), nearest[on], [], rows[on], packed, data, weights)

    def fit_by(
        self, problem: Problem, kink: Array, bounds: list[Array], rows: Rows, packed: Array, data: Array,
        weights: list[Array],
    ) -> None:  # fmt: skip
        """Fit some rows by a narrower problem with the kink starting at (N); where that is better, go on from there."""
        cost, nfev, values = (self.place[n] for n in ("chisqr", "nfev", "values"))
        starts = packed[rows][:, values]
        starts[:, self.index] = kink
        narrow = replace(self.block, problem=replace(problem, max_nfev=TRIES), covariance=False)
        found = narrow.fit(data[rows], [*(w[rows] for w in weights), *self.inside(starts), *bounds])
        packed[rows, nfev.start] += found[:, nfev.start]
        better = found[:, cost.start] < packed[rows, cost.start] * (1.0 - GAIN)
        rows, starts = rows[better], found[better][:, values]
        new = self.block.fit(data[rows], [*(w[rows] for w in weights), *self.inside(starts)])
        new[:, nfev.start] += packed[rows, nfev.start]
        lower = new[:, cost.start] < packed[rows, cost.start]
        packed[rows[lower]] = new[lower]

    def inside(self, values: Array) -> Array:
        """Return starts of what varies (m, N), those on a bound a little inside: fits move them farther."""
        problem = self.block.problem
        free = list(problem.free[-1])
        low, high = problem.low[free], problem.high[free]
        margin = np.where(np.isfinite(high - low), INSIDE * (high - low), 0.0)
        return np.asarray(np.clip(values[:, free], low + margin, high - margin).T)
