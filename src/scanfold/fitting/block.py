"""The kernel of a fit: one block of spectra in, one block of numbers out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scanfold.conventions import RunError
from scanfold.fitting import compiled, reference
from scanfold.fitting._lm_kernels import CONVERGED, MAX_NFEV, TOO_FEW_POINTS
from scanfold.fitting.problem import Array, Problem, Raw, Rows
from scanfold.fitting.start import GuessPlan, background_terms, guess
from scanfold.fitting.status import STATUS, WITHOUT_VALUES, aic, has_no_signal, is_poor, judge

#: Positions fitted at a time, and values of their data, at most: what is made of these in float64 is several times as
#: large, and stays small.
ROWS, NUMBERS = 1024, 2**18
#: Two parameters that correlate beyond this are not told apart by the data.
CORRELATED = 0.99


def engine_of(problem: Problem) -> Callable[[Problem, Rows], Raw]:
    """Return the function that fits rows with the problem's engine."""
    if problem.engine == "lmfit":
        return reference.fit_block
    if problem.engine == "array":
        from scanfold.fitting import arrays

        return arrays.fit_block
    return compiled.fit_block


@dataclass(frozen=True)
class FitBlock:
    """Fit all positions of a block.

    Called with data (N, n) and, as `weights` ("none", "counts" or "array"), `mean` and `problem.own` say, weights
    (N, n), the parameters of the mean spectrum (N, P), one value per position (N) for each parameter or bound of
    its own and, to name the first failure when `errors` is "raise", its index (N) along each dim in `scan`.
    Returns (N, K): columns as `columns` lays them out.
    """

    problem: Problem
    plan: GuessPlan | None
    order: tuple[str, ...]
    weights: str
    mean: bool
    covariance: bool
    poor_tail: float
    margin: float
    errors: str
    scan: tuple[str, ...]

    @property
    def together(self) -> int:
        """How many positions are held at a time; a run that projects memory asks."""
        return max(1, min(ROWS, NUMBERS // max(1, self.problem.x.size)))

    def __call__(self, data: npt.NDArray[np.generic], *extras: Array) -> Array:
        """Fit the block, a few rows at a time."""
        out = np.empty((data.shape[0], columns(self.problem, self.covariance)["width"].stop))
        count = self.together
        for first in range(0, data.shape[0], count):
            part = slice(first, first + count)
            out[part] = self.fit(data[part], [e[part] for e in extras])
        return out

    def fit(self, data: npt.NDArray[np.generic], extras: list[Array]) -> Array:
        """Fit some rows: from the first start, then the poor ones from the others."""
        where = [extras.pop() for _ in self.scan]
        rows, mean = self.rows(data, extras)
        fit = engine_of(self.problem)
        raw = fit(self.problem, rows._replace(start=self.start(self.order[0], rows, mean)))
        noise = None if self.problem.poisson or rows.weights.shape[1] else noise_of(rows)
        for name in self.order[1:]:
            again = np.flatnonzero(self.worth_another_start(raw, rows, noise))
            if again.size == 0:
                break
            subset = rows.take(again)
            start = self.start(name, subset, None if mean is None else mean[again])
            keep_better(raw, fit(self.problem, subset._replace(start=start)), again)
        status = self.judge(raw, rows, noise)
        if self.errors == "raise":
            self.raise_first(status, where[::-1])
        return self.pack(raw, rows, status, noise)

    def rows(self, data: npt.NDArray[np.generic], extras: list[Array]) -> tuple[Rows, Array | None]:
        """Make float64 rows: weights, gaps, starts and bounds of each position; and the mean spectrum's start."""
        values = np.array(data, np.float64, order="C")
        count = values.shape[0]
        extras = list(extras)
        if self.weights == "counts":
            with np.errstate(invalid="ignore"):
                weights = 1.0 / np.sqrt(np.maximum(values, 1.0))
        elif self.weights == "none":
            weights = np.empty((count, 0))
        else:
            weights = np.array(extras.pop(0), np.float64, order="C")
        mean = np.array(extras.pop(0), np.float64) if self.mean else None
        keep = np.isfinite(values)
        if self.problem.poisson == 2:
            keep &= is_counted(values, weights)
        elif weights.shape[1]:
            keep &= np.isfinite(weights)
        if self.problem.poisson:
            keep &= values >= 0.0
        if keep.all():
            keep = np.empty((count, 0), bool)
        else:
            values[~keep] = 0.0
            if weights.shape[1]:
                weights[~np.tile(keep, weights.shape[1] // keep.shape[1])] = 0.0
        shape = (count, len(self.problem.names))
        table = [np.broadcast_to(a, shape).copy() for a in (self.problem.value, self.problem.low, self.problem.high)]
        for (index, which), own in zip(self.problem.own, extras, strict=True):
            table[which][:, index] = own
        # Bounds that cross (lazy ones are seen only here) leave nothing to fit: NaN, and a status that says so.
        table[0][~(table[1] < table[2]).all(axis=1)] = np.nan
        return Rows(values, weights, keep, *table), mean

    def start(self, name: str, rows: Rows, mean: Array | None) -> Array:
        """Return one of the starts of the rows (N, P)."""
        if name == "model" and self.plan is not None:
            return guess(self.problem, self.plan, rows)
        if name == "mean" and mean is not None:
            start = rows.start.copy()
            free = sorted({i for stage in self.problem.free for i in stage})
            start[:, free] = np.clip(mean[:, free], rows.low[:, free], rows.high[:, free])
            return start
        return rows.start

    def worth_another_start(self, raw: Raw, rows: Rows, noise: Array | None) -> npt.NDArray[np.bool_]:
        """Say which rows may be in a wrong minimum: failed, poor, without errors, or at a bound."""
        fitted = raw.code == CONVERGED
        bad = is_poor(self.problem, raw, rows, noise, self.poor_tail) | raw.at_bound
        m = len(self.problem.free[-1])
        bad |= ~np.isfinite(raw.cov[:, range(m), range(m)]).all(axis=1)
        return np.asarray((raw.code != TOO_FEW_POINTS) & (bad | ~fitted))

    def judge(self, raw: Raw, rows: Rows, noise: Array | None) -> npt.NDArray[np.int8]:
        """Return the status of each row."""
        poor = is_poor(self.problem, raw, rows, noise, self.poor_tail)
        terms = background_terms(self.problem.components, self.problem.ops)
        fitted = (raw.code == CONVERGED) | (raw.code == MAX_NFEV)
        no_signal = np.zeros(raw.code.shape, bool)
        chosen = np.flatnonzero(fitted)
        no_signal[chosen] = has_no_signal(self.problem, raw.take(chosen), rows.take(chosen), terms, self.margin)
        return judge(self.problem, raw, poor, no_signal)

    def raise_first(self, status: npt.NDArray[np.int8], where: list[Array]) -> None:
        """Raise for the first position that has no result; `where` holds the index (N) along each scan dim."""
        bad = np.flatnonzero(np.isin(status, [STATUS[s] for s in WITHOUT_VALUES]))
        if bad.size:
            meaning = next(k for k, v in STATUS.items() if v == status[bad[0]])
            position = ", ".join(f"{dim}={int(index[bad[0]])}" for dim, index in zip(self.scan, where, strict=True))
            raise RunError(
                f"the position {position} could not be fitted: {meaning}; with errors='flag' it is NaN and the "
                f"others go on"
            )

    def pack(self, raw: Raw, rows: Rows, status: npt.NDArray[np.int8], noise: Array | None) -> Array:
        """Put everything into one array (N, K)."""
        problem, m, used = self.problem, len(self.problem.free[-1]), rows.used
        place = columns(problem, self.covariance)
        out = np.full((status.size, place["width"].stop), np.nan)
        dof = np.maximum(used - m, 1)
        seen = rows.data if problem.poisson != 2 else ratios(rows)
        kept = np.where(rows.keep, seen, np.nan) if rows.keep.shape[1] else seen
        with np.errstate(all="ignore"):
            total = np.nansum((kept - np.nansum(kept, axis=1, keepdims=True) / used[:, None]) ** 2, axis=1)
            penalty = aic(raw.chisqr, used, 0, problem.poisson)
            statistics = {
                "chisqr": raw.chisqr,
                "redchi": raw.chisqr / dof,
                "rsquared": 1.0 - raw.squares / np.maximum(total, 1e-15),
                "aic": penalty + 2.0 * m,
                "bic": penalty + np.log(used) * m,
            }
        out[:, place["values"]], out[:, place["stderr"]] = raw.values, raw.stderr
        # What varied in an earlier stage only has an error that the last stage does not know.
        earlier = {i for stage in problem.free for i in stage} - set(problem.free[-1])
        out[:, [place["stderr"].start + i for i in sorted(earlier)]] = np.nan
        for name, column in statistics.items():
            out[:, place[name]] = column[:, None]
        if self.covariance:
            out[:, place["covar"]] = raw.cov.reshape(status.size, m * m)
        if problem.keep_stages:
            out[:, place["stages"]] = raw.stages.reshape(status.size, -1)
        out[np.isin(status, [STATUS[s] for s in WITHOUT_VALUES])] = np.nan
        pair = correlated_pair(problem, raw.cov)
        for name, whole in (
            ("nfev", raw.nfev), ("success", raw.code == CONVERGED), ("status", status), ("n_used", used),
            ("correlated", pair),
        ):  # fmt: skip
            out[:, place[name]] = whole[:, None]
        if noise is not None:
            out[:, place["noise"]] = noise[:, None]
        return out


def is_counted(counts: Array, beside: Array) -> npt.NDArray[np.bool_]:
    """Say where counts (N, n) and the reference counts and exposures (N, 2n) beside them tell a ratio."""
    n = counts.shape[1]
    reference, exposure = beside[:, :n], beside[:, n:]
    with np.errstate(invalid="ignore"):
        usable = (reference >= 0.0) & (exposure > 0.0) & (counts + reference > 0.0)
    return np.asarray(usable & np.isfinite(beside[:, :n]) & np.isfinite(beside[:, n:]))


def ratios(rows: Rows) -> Array:
    """Return counts over reference counts (N, n), half a count standing for none."""
    n = rows.data.shape[1]
    return np.asarray(rows.data / np.maximum(rows.weights[:, :n] * rows.weights[:, n:], 0.5))


def keep_better(raw: Raw, new: Raw, where: npt.NDArray[np.intp]) -> None:
    """Take the new results where they converged to a lower cost than the old, or the old had none."""
    old_ok, new_ok = raw.code[where] <= MAX_NFEV, new.code <= MAX_NFEV
    with np.errstate(invalid="ignore"):
        lower = new.chisqr < raw.chisqr[where] * (1.0 - 1.0e-9)
    better = new_ok & (~old_ok | lower)
    evaluations = raw.nfev[where] + new.nfev
    for target, source in zip(raw, new, strict=True):
        target[where[better]] = source[better]
    raw.nfev[where] = evaluations


def noise_of(rows: Rows) -> Array:
    """Return the noise variance of each row, estimated from its second differences."""
    from scanfold.fitting._spectrum_kernels import noise_rows

    noise = np.empty(rows.data.shape[0])
    noise_rows(rows.data, rows.keep, noise)
    return np.nan_to_num(noise)


def correlated_pair(problem: Problem, cov: Array) -> npt.NDArray[np.int16]:
    """Return which two parameters correlate most, counting pairs (i, j > i) from 1, where beyond the limit; else 0.

    Two coefficients of one polynomial do not count: slope and intercept correlate wherever x = 0 is far away.
    """
    i, j = np.triu_indices(cov.shape[1], 1)
    if i.size == 0:
        return np.zeros(cov.shape[0], np.int16)
    free = [problem.names[k] for k in problem.free[-1]]
    polynomials = [set(c.names) for c in problem.components if c.powers]
    apart = [not any({free[a], free[b]} <= names for names in polynomials) for a, b in zip(i, j, strict=True)]
    with np.errstate(all="ignore"):
        size = np.abs(cov[:, i, j]) / np.sqrt(cov[:, i, i] * cov[:, j, j])
    size = np.nan_to_num(size) * apart
    return np.where(size.max(axis=1) > CORRELATED, size.argmax(axis=1) + 1, 0).astype(np.int16)


def columns(problem: Problem, covariance: bool) -> dict[str, slice]:
    """Return where each result stands in a packed row; ``width`` ends at their number."""
    parameters, m = len(problem.names), len(problem.free[-1])
    sizes = {"values": parameters, "stderr": parameters}
    sizes |= dict.fromkeys(
        ("chisqr", "redchi", "rsquared", "aic", "bic", "nfev", "success", "status", "n_used", "correlated", "noise"), 1
    )
    sizes["covar"] = m * m if covariance else 0
    sizes["stages"] = len(problem.free) * parameters if problem.keep_stages else 0
    place, at = {}, 0
    for name, size in sizes.items():
        place[name] = slice(at, at + size)
        at += size
    place["width"] = slice(0, at)
    return place
