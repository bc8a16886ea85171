"""The sums of pass A over one block of frames, and how they are put together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from scanfold.conventions import InputError

Array = npt.NDArray[Any]
#: Frames made float at a time.
ROWS = 64


@lru_cache(maxsize=1)
def fixed_log_table() -> Array:
    """Return the table of fixed-point logarithms of this process."""
    from scanfold.detectors._sum_kernels import log_table

    table: Array = log_table()
    return table


@dataclass(frozen=True)
class FrameSums:
    """Sum frames by label and half, as 64-bit words (rows, ky, kx): integers, or the bits of float64.

    Parameters
    ----------
    dtype : str
        Of the frames.
    labels : int
        Clusters, and one more for noise (or, for soft weights, for all frames).
    log : bool
        Sum log1p of the frames too.
    dose : bool
        Frames are divided by a dose before the logarithm; it is the last argument of a call.
    annulus : tuple, optional
        ``(ky, kx, inner, outer)`` in pixels: the mean of each frame there is subtracted after the logarithm.
    soft : bool
        Weights in place of keys.
    shuffled : bool
        Sum the signal by shuffled labels too; their keys or weights follow on the true ones.
    """

    dtype: str
    labels: int
    log: bool = False
    dose: bool = False
    annulus: tuple[float, float, float, float] | None = None
    soft: bool = False
    shuffled: bool = False

    @property
    def whole(self) -> bool:
        """Whether frames are integers that are summed exactly."""
        return np.dtype(self.dtype).kind in "iu" and not self.soft

    @property
    def derived(self) -> bool:
        """Whether the preprocessed signal is another than the counts."""
        return self.log or self.dose or self.annulus is not None

    @property
    def fixed(self) -> bool:
        """Whether logarithms are summed in fixed point."""
        return self.whole and self.log and not self.dose and self.annulus is None

    def kinds(self) -> dict[str, tuple[slice, str]]:
        """Return the rows and the dtype of each kind of sum."""
        rows = 2 * self.labels
        counts = "int64" if self.whole else "float64"
        small = self.whole and np.dtype(self.dtype).itemsize <= 2
        signal = "int64" if self.fixed or (small and not self.derived) else "float64"
        layout: list[tuple[str, int, str]] = [("counts", rows, counts)]
        kind = counts if not self.derived else "int64" if self.fixed else "float64"
        layout += [("signal", rows, kind)] if self.derived else []
        layout += [("shuffled", rows, kind)] if self.shuffled else []
        layout.append(("squares", 2, signal))
        if not self.whole:
            layout.append(("missing", rows, "float64"))
        kinds, first = {}, 0
        for name, length, dtype in layout:
            kinds[name] = (slice(first, first + length), dtype)
            first += length
        return kinds

    @property
    def rows(self) -> int:
        """Number of rows."""
        return max(int(where.stop) for where, _ in self.kinds().values())

    def __call__(self, frames: Array, *columns: Array) -> Array:
        """Sum frames (N, ky, kx).

        Columns are keys (N,), or halves (N,) and weights (N, C); if `shuffled`, keys or weights again; the dose (N,).
        """
        count, pixels = frames.shape[0], int(np.prod(frames.shape[1:]))
        flat = np.ascontiguousarray(frames).reshape(count, pixels)
        words = np.zeros((self.rows, pixels), np.int64)
        out = {name: words[where].view(dtype) for name, (where, dtype) in self.kinds().items()}
        if self.whole and (self.fixed or not self.derived):
            self._exact(flat, columns, out)
        else:
            self._float(flat, frames.shape[1:], columns, out)
        return words.reshape(self.rows, *frames.shape[1:])

    def combine(self, parts: list[Array]) -> Array:
        """Add partial sums."""
        if len(parts) == 1:
            return parts[0]
        total = parts[0].copy()
        for where, dtype in self.kinds().values():
            into = total[where].view(dtype)
            for part in parts[1:]:
                into += part[where].view(dtype)
        return total

    def _exact(self, flat: Array, columns: tuple[Array, ...], out: dict[str, Array]) -> None:
        from scanfold.detectors import _sum_kernels as kernels

        keys = columns[0]
        if not self.log:
            kernels.add_counts(flat, keys, out["counts"], out["squares"])
            if self.shuffled:
                kernels.add_only(flat, columns[1], out["shuffled"])
            return
        kernels.add_only(flat, keys, out["counts"])
        small = np.dtype(self.dtype).kind == "u" and np.dtype(self.dtype).itemsize <= 2
        add = kernels.add_small_logs if small else kernels.add_logs
        refuse_negative(add(flat, keys, fixed_log_table(), out["signal"], out["squares"]))
        if self.shuffled:
            add(flat, columns[1], fixed_log_table(), out["shuffled"], np.zeros_like(out["squares"]))

    def _float(self, flat: Array, shape: tuple[int, ...], columns: tuple[Array, ...], out: dict[str, Array]) -> None:
        signal = self.signal(shape)
        for first in range(0, flat.shape[0], ROWS):
            part = slice(first, first + ROWS)
            counts = flat[part].astype(np.float64)
            lost = ~np.isfinite(counts)
            values = signal(counts, columns[-1][part] if self.dose else None)
            values[lost] = 0.0
            counts[lost] = 0.0
            weights = self._weights([c[part] for c in columns])
            out["counts"] += (weights.T @ counts).astype(out["counts"].dtype)
            if self.derived:
                out["signal"] += weights.T @ values
            if self.shuffled:
                false = columns[:1] + columns[2:] if self.soft else columns[1:]
                out["shuffled"] += (self._weights([c[part] for c in false]).T @ values).astype(out["shuffled"].dtype)
            counted = weights if not self.soft else weights[:, -2:]
            by_half = counted.reshape(len(counted), -1, 2).sum(axis=1)
            out["squares"] += by_half.T @ (values * values)
            if "missing" in out and lost.any():
                out["missing"] += weights.T @ lost

    def _weights(self, columns: list[Array]) -> Array:
        """Return the weight of each frame in each row (N, 2 L)."""
        count = columns[0].shape[0]
        weights = np.zeros((count, self.labels, 2))
        if self.soft:
            half = columns[0][:, None] == np.arange(2)
            weights[:, :-1] = columns[1][:, :, None] * half[:, None]
            weights[:, -1] = half
        else:
            used = np.flatnonzero(columns[0] >= 0)
            weights.reshape(count, -1)[used, columns[0][used]] = 1.0
        return weights.reshape(count, -1)

    def signal(self, shape: tuple[int, ...]) -> Signal:
        """Return what makes float frames of this shape into the preprocessed signal."""
        return Signal(self.log, self.annulus, shape)


@dataclass(frozen=True)
class Signal:
    """Preprocess float frames (N, pixels): dose, logarithm, the mean of an annulus."""

    log: bool
    annulus: tuple[float, float, float, float] | None
    shape: tuple[int, ...]

    def __call__(self, counts: Array, dose: Array | None) -> Array:
        """Return a new array."""
        values: Array = counts / dose[:, None] if dose is not None else counts.copy()
        if self.log:
            refuse_negative(np.fmin.reduce(values, axis=None, initial=0.0))
            values = np.log1p(values)
        if self.annulus is not None:
            values -= np.nanmean(values[:, self.ring()], axis=1)[:, None]
        return values

    def ring(self) -> Array:
        """Return the pixels of the annulus, flat."""
        from scanfold.detectors.frames import radius_map

        assert self.annulus is not None
        ky, kx, inner, outer = self.annulus
        radius = radius_map(self.shape, (ky, kx)).ravel()
        return np.asarray((radius >= inner) & (radius <= outer))


def refuse_negative(least: float) -> None:
    """Raise if counts are negative: their logarithm means nothing."""
    if least < 0:
        raise InputError(
            f"a frame holds {least:g}: negative counts have no logarithm. Pass log=False (log_transform: false), or "
            "subtract less background before"
        )
