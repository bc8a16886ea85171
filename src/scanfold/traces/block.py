"""The kernel of fits of traces: starts, fits, exchangeable rates, and what residuals tell, a block at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from scanfold.conventions import Var
from scanfold.fitting.block import ROWS, FitBlock, columns
from scanfold.fitting.curves import Curves
from scanfold.traces.exchange import Order
from scanfold.traces.kinks import Kink
from scanfold.traces.start import GridStart

Array = npt.NDArray[np.float64]

#: What is known of each trace beside what every fit has.
CHECKS = (
    Var("noise", ("...",), "float64", "standard deviation of the noise, estimated from second differences"),
    Var(
        "runs_z", ("...",), "float64", "runs of the residuals' signs: below −2, fewer than chance, they are correlated"
    ),
)


@dataclass(frozen=True)
class FitTraces:
    """Fit all traces of a block: what `FitBlock` does, around it what only traces have.

    Called with traces (N, n), and weights (N, n) or not as the block's `weights` says. Returns (N, K): the columns of
    the block, and those of `CHECKS`.
    """

    block: FitBlock
    start: GridStart | None
    kinks: tuple[int, ...]
    order: Order | None
    curves: Curves

    def __call__(self, data: npt.NDArray[np.generic], *weights: Array) -> Array:
        """Fit the block, a few rows at a time."""
        parts = [slice(i, i + ROWS) for i in range(0, max(len(data), 1), ROWS)]
        return np.concatenate([self.fit(np.array(data[p], np.float64), [w[p] for w in weights]) for p in parts])

    def fit(self, data: Array, weights: list[Array]) -> Array:
        """Fit some rows."""
        problem = self.block.problem
        free = problem.free[-1]
        block = replace(
            self.block, problem=replace(problem, own=tuple((i, 0) for i in free)), covariance=self.order is not None
        )
        finite = np.isfinite(data)
        # A fit with no more points than parameters has no errors.
        few = finite.sum(axis=1) <= len(free)
        fitted = np.where(few[:, None], np.nan, data) if few.any() else data
        found = {} if self.start is None else self.start(fitted)
        given = [np.full(len(data), problem.value[i]) for i in free]
        packed = block.fit(
            fitted, [*weights, *(found.get(problem.names[i], v) for i, v in zip(free, given, strict=True))]
        )
        for kink in self.kinks:
            Kink(block, kink).search(packed, fitted, weights)
        if self.order is not None:
            place = columns(problem, True)
            values, errors = packed[:, place["values"]], packed[:, place["stderr"]]
            cov = packed[:, place["covar"]].reshape(len(packed), len(free), len(free))
            packed[:, place["correlated"]] = self.order(values, errors, cov)[:, None]
        return self.checked(packed, data, finite, few)

    def checked(self, packed: Array, data: Array, finite: npt.NDArray[np.bool_], few: npt.NDArray[np.bool_]) -> Array:
        """Return the columns of the block without covariance, and the checks behind."""
        problem = self.block.problem
        place = columns(problem, False)
        variance = packed[:, place["noise"].start].copy()
        weighted = self.block.weights != "none"
        for i in np.flatnonzero(few | weighted | ~finite.all(axis=1)):
            # Neighbours are those that count: a cell may have every second frame only.
            variance[i] = noise_variance(data[i, finite[i]])
        variance[~(variance > 0.0)] = np.nan
        out = np.column_stack([packed[:, : place["width"].stop], np.sqrt(variance), np.empty(len(packed))])
        out[:, -1] = runs_z(data - self.curves(*out[:, place["values"]].T), finite)
        out[:, place["n_used"]] = finite.sum(axis=1)[:, None]
        if not weighted:
            out[:, place["redchi"]] /= variance[:, None]
        return out


def noise_variance(trace: Array) -> float:
    """Return the variance of the noise of a trace (n,), NaN for fewer than five points."""
    from scanfold.fitting._spectrum_kernels import noise_rows

    found = np.empty(1)
    noise_rows(trace[None], np.empty((1, 0), bool), found)
    return float(found[0])


def runs_z(residuals: Array, keep: npt.NDArray[np.bool_]) -> Array:
    """Return how far the number of runs of one sign is from chance, in standard deviations (Wald and Wolfowitz).

    Parameters
    ----------
    residuals : array (N, n)
    keep : bool array (N, n)
        Points that count.

    Returns
    -------
    array (N,)
        NaN where all signs are the same or nothing counts.

    Examples
    --------
    >>> runs_z(np.array([[1.0, 1, 1, 1, -1, -1, -1, -1]]), np.ones((1, 8), bool)).round(2).tolist()
    [-2.29]
    """
    there = keep & np.isfinite(residuals)
    up = residuals >= 0.0
    first, second = (there & up).sum(axis=1), (there & ~up).sum(axis=1)
    if there.all():
        turned = up[:, 1:] != up[:, :-1]
    else:
        # The sign before each point: that of the last one that counts.
        last = np.maximum.accumulate(np.where(there, np.arange(there.shape[1]), -1), axis=1)
        before = np.concatenate([np.full((len(last), 1), -1), last[:, :-1]], axis=1)
        turned = there & (before >= 0) & (up != np.take_along_axis(up, np.maximum(before, 0), axis=1))
    runs, count = 1 + turned.sum(axis=1), first + second
    with np.errstate(invalid="ignore", divide="ignore"):
        product = 2.0 * first * second
        expected = product / count + 1.0
        variance = product * (product - count) / (count**2 * (count - 1.0))
        return np.asarray((runs - expected) / np.sqrt(np.where(variance > 0.0, variance, np.nan)))
