"""Where fits start: a guess from each spectrum, the fit of the mean spectrum, or the given values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt

from scanfold.fitting.components import Component
from scanfold.fitting.problem import Array, Problem, Rows

#: How many positions the mean spectrum is made of, at most: runs of neighbours, at counter-chosen places.
SAMPLE_RUNS, SAMPLE_LENGTH = 64, 64
#: How many of them are also fitted one by one.
SAMPLE_FITS = 64

_S2PI = 2.5066282746310002
_LN = 2.3548200450309493
#: Height, centre and full width at half maximum → the first parameters of the leaf.
_PEAKS: dict[str, Callable[[Array, Array, Array], tuple[Array, ...]]] = {
    "gaussian": lambda h, c, w: (h * w / _LN * _S2PI, c, w / _LN),
    "lorentzian": lambda h, c, w: (h * w / 2 * np.pi, c, w / 2),
    "split_lorentzian": lambda h, c, w: (h * w / 2 * np.pi, c, w / 2, w / 2),
    "voigt": lambda h, c, w: (4.79 * h * w / 3.6, c, w / 3.6, w / 3.6),
    "pvoigt": lambda h, c, w: (2.538 * h * w / 2, c, w / 2),
    "moffat": lambda h, c, w: (h, c, w / 2),
    "pearson4": lambda h, c, w: (2 * h * w / 1.533, c, w / 1.533),
    "pearson7": lambda h, c, w: (2 * h * w / 1.533, c, w / 1.533),
    "students_t": lambda h, c, w: (h * np.pi, c),
    "damped_oscillator": lambda h, c, w: (h * w / c, c, w / (2 * c)),
    "expgaussian": lambda h, c, w: (h * w, c, w / _LN, _LN / w),
    "doniach": lambda h, c, w: (h * w / 2, c, w / 2),
    "skewed_gaussian": lambda h, c, w: (h * w / _LN * _S2PI, c, w / _LN),
    "skewed_voigt": lambda h, c, w: (4.79 * h * w / 3.6, c, w / 3.6, w / 3.6),
}
_KINDS = {**dict.fromkeys(_PEAKS, 1), "exponential": 2, "powerlaw": 3, "step": 4}


@dataclass(frozen=True)
class GuessPlan:
    """How to guess the parameters of a sum of a polynomial and at most one feature."""

    feature: Component | None
    backgrounds: tuple[Component, ...]

    @property
    def names(self) -> set[str]:
        """The parameters that the guess sets."""
        parts = (*self.backgrounds, *((self.feature,) if self.feature else ()))
        return {n for c in parts for n in c.names}


def plan_guess(components: tuple[Component, ...], ops: tuple[int, ...]) -> GuessPlan | None:
    """Return how to guess, or None where the model has no data-driven guess."""
    if any(o not in (-1,) for o in ops if o < 0):
        return None
    backgrounds = tuple(c for c in components if c.leaf == "basis" and c.powers)
    others = [c for c in components if not (c.leaf == "basis" and c.powers)]
    if len(others) > 1 or (others and others[0].leaf not in _KINDS):
        return None
    return GuessPlan(others[0] if others else None, backgrounds)


def background_terms(components: tuple[Component, ...], ops: tuple[int, ...]) -> int:
    """Return the number of terms of the polynomial that a fit must beat to be a signal; 0: there is no such test.

    That is the model's own polynomial background, or a constant where it has none or nothing else.
    """
    powers = [p for c in components for p in c.powers if c.leaf == "basis"]
    if components and all(c.leaf == "basis" and c.powers for c in components):
        return 1 if max(powers) > 0 else 0
    return 1 + max(powers, default=0) if all(o in (-1,) for o in ops if o < 0) else 1


def guess(problem: Problem, plan: GuessPlan, rows: Rows) -> Array:
    """Return starts (N, P) guessed from each spectrum; what does not vary keeps its value."""
    from scanfold.fitting._spectrum_kernels import feature_rows

    start = rows.start.copy()
    free = {i for stage in problem.free for i in stage}
    count = rows.data.shape[0]
    features = np.zeros((count, 5))
    highest = max((p for c in plan.backgrounds for p in c.powers), default=-1)
    if plan.feature is not None:
        low, high, sign = np.full(count, -np.inf), np.full(count, np.inf), np.zeros(count)
        if plan.feature.leaf in _PEAKS:
            amplitude, center = (problem.names.index(n) for n in plan.feature.names[:2])
            low, high = rows.low[:, center].copy(), rows.high[:, center].copy()
            sign = np.where(rows.low[:, amplitude] >= 0, 1.0, np.where(rows.high[:, amplitude] <= 0, -1.0, 0.0))
        with np.errstate(all="ignore"):
            feature_rows(_KINDS[plan.feature.leaf], problem.x, rows.data, rows.keep, low, high, sign, highest, features)
            _put(problem, free, start, rows, plan.feature.names, _values(plan.feature.leaf, features))
    background = {0: features[:, 0], 1: features[:, 1]}
    for component in plan.backgrounds:
        values = tuple(background.pop(p, np.zeros(count)) for p in component.powers)
        _put(problem, free, start, rows, component.names, values)
    return start


def _values(leaf: str, features: Array) -> tuple[Array, ...]:
    height, center, width = features[:, 2], features[:, 3], features[:, 4]
    if leaf in _PEAKS:
        return _PEAKS[leaf](height, center, width)
    return (height, center, width) if leaf == "step" else (height, center)


def _put(
    problem: Problem, free: set[int], start: Array, rows: Rows, names: tuple[str, ...], values: tuple[Array, ...]
) -> None:
    for name, value in zip(names, values, strict=False):
        i = problem.names.index(name)
        if i in free:
            clipped = np.clip(value, rows.low[:, i], rows.high[:, i])
            start[:, i] = np.where(np.isfinite(clipped), clipped, start[:, i])


def sample(data: da.Array) -> list[da.Array]:
    """Return runs of neighbouring positions of lazy data (scan dims…, n), the same ones whatever the chunks."""
    *scan, n = data.shape
    total = int(np.prod(scan))
    if total <= SAMPLE_RUNS * SAMPLE_LENGTH:
        return [data.reshape(total, n)]
    length = min(SAMPLE_LENGTH, scan[-1])
    # A counter-based generator: the same places in every process and every version of NumPy.
    starts = np.random.Generator(np.random.Philox(key=20262)).integers(total, size=SAMPLE_RUNS)
    runs = []
    for position in np.unique(starts):
        index = [int(i) for i in np.unravel_index(int(position), scan)]
        first = min(index[-1], scan[-1] - length)
        runs.append(data[(*index[:-1], slice(first, first + length))])
    return runs


@dataclass(frozen=True)
class MeanStart:
    """The prologue of a run: fit the mean spectrum of the sample, and return its parameters (P)."""

    problem: Problem
    plan: GuessPlan | None
    weights: Array | str | None
    fit: Callable[[Problem, Rows], object]

    def __call__(self, *runs: npt.NDArray[np.generic]) -> Array:
        """Average the runs (positions, n) and fit their mean."""
        data = np.concatenate(runs, dtype=np.float64)
        missing = ~np.isfinite(data)
        counts = (~missing).sum(axis=0)
        data[missing] = 0.0
        mean = data.sum(axis=0) / np.maximum(counts, 1)
        data[missing] = np.nan
        keep = counts > 0
        rows = self._rows(mean[None], keep[None])
        best, cost = np.array(self.problem.value), np.inf
        for start in [rows.start, *([guess(self.problem, self.plan, rows)] if self.plan else []), *self._good(data)]:
            raw = self.fit(self.problem, rows._replace(start=start))
            if np.isfinite(raw.values[0]).all() and raw.chisqr[0] < cost:  # type: ignore[attr-defined]
                best, cost = raw.values[0], raw.chisqr[0]  # type: ignore[attr-defined]
        return best

    def _good(self, data: Array) -> list[Array]:
        """Return the best of some positions' own fits, and the median of the best quarter.

        Some arrive where the mean does not. The best are those that leave least of the variance: not dead positions.
        """
        some = data[:: max(1, len(data) // SAMPLE_FITS)][:SAMPLE_FITS]
        keep = np.isfinite(some)
        raw: Any = self.fit(self.problem, self._rows(np.where(keep, some, 0.0), keep))
        count = np.maximum(keep.sum(axis=1, keepdims=True), 1)
        middle = np.where(keep, some, 0.0).sum(axis=1, keepdims=True) / count
        total = np.where(keep, some - middle, 0.0).var(axis=1)
        fitted = np.flatnonzero(np.isfinite(raw.values).all(axis=1) & np.isfinite(raw.squares) & (total > 0.0))
        best = fitted[np.argsort(raw.squares[fitted] / total[fitted], kind="stable")][: 1 + fitted.size // 4]
        return [np.median(raw.values[best], axis=0)[None], raw.values[best[:1]]] if best.size else []

    def _rows(self, data: Array, keep: npt.NDArray[np.bool_]) -> Rows:
        """Make rows of some spectra, with their weights and the common starts and bounds."""
        weights = np.empty((len(data), 0))
        if isinstance(self.weights, str):
            weights = 1.0 / np.sqrt(np.maximum(data, 1.0))
        elif self.weights is not None:
            keep = keep & np.isfinite(self.weights)
            weights = np.where(keep, np.nan_to_num(self.weights), 0.0)
        if self.problem.poisson:
            keep = keep & (data >= 0.0)
        tile = (self.problem.value, self.problem.low, self.problem.high)
        common = [np.tile(a, (len(data), 1)) for a in tile]
        return Rows(data, weights, np.empty((len(data), 0), bool) if keep.all() else keep, *common)
