"""Arrays of files seen another way: axes in another order, zero frequency in the middle, a map as a stack."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scanfold.io.arrays import FileArray, Region


@dataclass(frozen=True)
class View(FileArray):
    """Another way to see an array."""

    base: FileArray

    @property
    def in_parts(self) -> bool:
        """As the array that is seen."""
        return self.base.in_parts


@dataclass(frozen=True)
class LastFirst(View):
    """An array ``(…, M)`` seen as ``(M, …)``."""

    @classmethod
    def of(cls, base: FileArray) -> LastFirst:
        """See an array so."""
        return cls(base.path, base.dataset, (base.shape[-1], *base.shape[:-1]), base.dtype, base)

    def read(self, region: Region) -> np.ndarray:
        """Read the box, and move its last axis."""
        return np.moveaxis(self.base[(*region[1:], region[0])], -1, 0)


@dataclass(frozen=True)
class Centred(View):
    """Frames ``(…, ky, kx)`` with zero frequency at [0, 0], seen with it in the middle, as ``fftshift`` moves it."""

    @classmethod
    def of(cls, base: FileArray) -> Centred:
        """See an array so."""
        return cls(base.path, base.dataset, base.shape, base.dtype, base)

    def read(self, region: Region) -> np.ndarray:
        """Read whole frames, shift them, cut the box out."""
        *lead, ky, kx = region
        frames = self.base[(*lead, slice(None), slice(None))]
        return np.fft.fftshift(frames, axes=(-2, -1))[..., ky, kx]


@dataclass(frozen=True)
class Unfolded(View):
    """A map ``(ny, nx, …)`` seen as the stack ``(ny * nx, …)``."""

    @classmethod
    def of(cls, base: FileArray) -> Unfolded:
        """See an array so."""
        ny, nx, *frame = base.shape
        return cls(base.path, base.dataset, (ny * nx, *frame), base.dtype, base)

    def read(self, region: Region) -> np.ndarray:
        """Read the rows of the map that the box touches."""
        first, *rest = region
        nx = self.base.shape[1]
        top, bottom = first.start // nx, -(-first.stop // nx)
        if bottom - top == 1:
            return self.base[(top, slice(first.start - top * nx, first.stop - top * nx), *rest)]
        rows = self.base[(slice(top, bottom), slice(None), *rest)]
        return rows.reshape(-1, *rows.shape[2:])[first.start - top * nx : first.stop - top * nx]


@dataclass(frozen=True)
class Squeezed(View):
    """An array ``(…, 1)`` seen without its last axis."""

    @classmethod
    def of(cls, base: FileArray) -> Squeezed:
        """See an array so."""
        return cls(base.path, base.dataset, base.shape[:-1], base.dtype, base)

    def read(self, region: Region) -> np.ndarray:
        """Read the box."""
        return self.base[(*region, 0)]
