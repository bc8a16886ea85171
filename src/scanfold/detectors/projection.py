"""Pass B over one block of frames: products with columns of weights, and moments inside circles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from scanfold.detectors.blas import one_blas_thread
from scanfold.detectors.sums import Signal, refuse_negative

Array = npt.NDArray[Any]
#: Frames in a matrix product: a block of fixed size, whatever the chunks.
ROWS = 128


@lru_cache(maxsize=1)
def float_log_table() -> Array:
    """Return log1p of 0 … 65535 as float32."""
    table: Array = np.log1p(np.arange(65536, dtype=np.float64)).astype(np.float32)
    return table


@dataclass(frozen=True)
class Moments:
    """Moments of frames (N, ky, kx) inside circles.

    Parameters
    ----------
    origin : (int, int)
        Index of the first pixel of the block on the whole detector.
    regions : tuple of str
        "all", or "ring": between the two circles of the geometry.

    Called with frames, valid pixels (N, ky, kx) and geometry (N, 4): ``ky, kx, inner, outer`` in pixels, a negative
    inner radius for a disc. Returns (N, 5 · regions).
    """

    origin: tuple[int, int]
    regions: tuple[str, ...]

    def __call__(self, frames: Array, valid: Array, geometry: Array) -> Array:
        """Add up rows and columns."""
        from scanfold.detectors import _moment_kernels as kernels

        out = np.zeros((frames.shape[0], len(self.regions), kernels.MOMENTS))
        if not frames.shape[0]:
            return out.reshape(0, -1)
        good = valid[0].astype(bool)
        bad = np.argwhere(~good)
        if frames.dtype.kind == "f" and bad.size:
            # What a bad pixel holds may not be finite, and cannot be subtracted again.
            frames, bad = np.where(good, frames, frames.dtype.type(0)), bad[:0]
        columns = np.zeros(frames.shape[2], accumulator(frames.dtype))
        geometry = np.ascontiguousarray(geometry, np.float64)
        centers, origin = geometry[:, :2], np.array(self.origin)
        frames = np.ascontiguousarray(frames)
        for number, region in enumerate(self.regions):
            circles = [(np.full(len(out), -1.0), 1)] if region == "all" else [(geometry[:, 3], 1)]
            if region == "ring" and (geometry[:, 2] >= 0).any():
                circles.append((geometry[:, 2], -1))
            for radii, sign in circles:
                kernels.add_moments(frames, origin, centers, radii, bad, sign, columns, out[:, number])
        return out.reshape(len(out), -1)


def accumulator(dtype: np.dtype[Any]) -> str:
    """Return the dtype that holds the sum of a row or column of frames."""
    if dtype.kind == "f":
        return "float64"
    return "uint32" if dtype.kind == "u" and dtype.itemsize <= 2 else "int64"


@dataclass(frozen=True)
class Projection:
    """Products of frames with columns of weights: everything of a frame that is linear in it.

    Called with frames (N, ky, kx), the columns for the signal and for the counts (N, ky, kx, n: the same for all N),
    valid pixels (N, ky, kx), and, if `dose`, the dose (N,). Returns float64 (N, width): products of the signal, of
    the counts, and, if `residual`, the sum of the squares of the signal minus the last but one signal column,
    weighted with the last one. Where signal and counts are the same, all columns but those two are of the counts.
    """

    log: bool = False
    dose: bool = False
    annulus: tuple[float, float, float, float] | None = None
    residual: bool = False
    device: str = "cpu"

    def __call__(self, frames: Array, of_signal: Array, of_counts: Array, valid: Array, *dose: Array) -> Array:
        """Project, a few frames at a time."""
        count, shape = frames.shape[0], frames.shape[1:]
        widths = (of_signal.shape[-1], of_counts.shape[-1])
        extra = 2 if self.residual else 0
        out = np.empty((count, widths[0] + widths[1] - extra + self.residual))
        if not count:
            return out
        pixels = int(np.prod(shape))
        signal_columns, counts_columns = (c[0].reshape(pixels, -1) for c in (of_signal, of_counts))
        square_columns = np.ascontiguousarray(signal_columns[:, widths[0] - extra :].T, np.float64)
        products = (
            multiplier(signal_columns[:, : widths[0] - extra], self.device),
            multiplier(counts_columns, self.device),
        )
        good = valid[0].astype(bool).ravel()
        flat = np.ascontiguousarray(frames).reshape(count, pixels)
        # Fresh memory for every product would cost more than the product.
        room = np.empty((1 if self.plain else 2, min(ROWS, count), pixels), np.float32)
        # A frame may hold values that are not finite: its own row, and no other, becomes NaN.
        with one_blas_thread(), np.errstate(invalid="ignore", over="ignore"):
            for first in range(0, count, ROWS):
                part = slice(first, first + ROWS)
                counts = self._counts(flat[part], good, room[0])
                signal = self._signal(flat[part], counts, shape, dose[0][part] if self.dose else None, room[-1])
                out[part, : widths[0] - extra] = products[0](signal)
                out[part, widths[0] - extra : widths[0] - extra + widths[1]] = products[1](counts)
                if self.residual:
                    from scanfold.detectors._moment_kernels import weighted_squares

                    weighted_squares(signal, square_columns[0], square_columns[1], out[part, -1])
        return out

    @property
    def plain(self) -> bool:
        """Whether the signal is the counts."""
        return not (self.log or self.dose or self.annulus is not None)

    def _counts(self, frames: Array, good: Array, room: Array) -> Array:
        counts = room[: len(frames)]
        np.copyto(counts, frames, casting="unsafe")
        if frames.dtype.kind == "f" and not good.all():
            counts[:, ~good] = 0.0  # what a bad pixel holds may not be finite, and times zero it stays so
        return counts

    def _signal(self, frames: Array, counts: Array, shape: tuple[int, ...], dose: Array | None, room: Array) -> Array:
        if self.plain:
            return counts
        signal = room[: len(frames)]
        if self.log and not self.dose and self.annulus is None and frames.dtype.kind in "iu":
            put_logs(frames, signal)
        else:
            signal[:] = Signal(self.log, self.annulus, shape)(counts.astype(np.float64), dose)
        return signal


@dataclass(frozen=True)
class CountsProjection:
    """Products of the counts alone: `Projection` without columns for the signal."""

    def __call__(self, frames: Array, of_counts: Array, valid: Array) -> Array:
        """Project frames (N, ky, kx) on columns (N, ky, kx, n)."""
        return Projection()(frames, np.empty((*of_counts.shape[:-1], 0), np.float32), of_counts, valid)


def put_logs(frames: Array, out: Array) -> None:
    """Put log1p of integer frames (N, P) into out, by table."""
    from scanfold.detectors import _moment_kernels as kernels

    if frames.dtype.kind == "u" and frames.dtype.itemsize <= 2:
        kernels.look_up(frames.reshape(-1), float_log_table(), out.reshape(-1))
    else:
        refuse_negative(kernels.look_up_logs(frames.reshape(-1), float_log_table(), out.reshape(-1)))


def multiplier(columns: Array, device: str) -> Callable[[Array], Array]:
    """Return what multiplies rows (N, P) with these columns (P, n)."""
    if device == "cpu" or columns.shape[1] == 0:
        weights = np.ascontiguousarray(columns, np.float32)
        return lambda rows: rows @ weights
    import cupy

    chosen = cupy.cuda.Device(int(device.partition(":")[2] or 0))
    with chosen:
        there = cupy.asarray(columns, cupy.float32)

    def multiply(rows: Array) -> Array:
        with chosen:
            return np.asarray(cupy.asnumpy(cupy.asarray(rows) @ there))

    return multiply
