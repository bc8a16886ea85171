"""The forward model once more, one position after another, in double precision with numpy.fft."""

from __future__ import annotations

import math

import numpy as np


def patch(image: np.ndarray, y: float, x: float, N: int) -> np.ndarray:
    """Cut one bilinear patch, pixel by pixel."""
    out = np.zeros((N, N), complex)
    padded = np.pad(image.astype(complex), ((0, 1), (0, 1)))
    for r in range(N):
        for c in range(N):
            v, u = y - N / 2 + r, x - N / 2 + c
            i, j = math.floor(v), math.floor(u)
            a, b = v - i, u - j
            out[r, c] = (
                (1 - a) * (1 - b) * padded[i, j]
                + (1 - a) * b * padded[i, j + 1]
                + a * (1 - b) * padded[i + 1, j]
                + a * b * padded[i + 1, j + 1]
            )
    return out


def exit_waves(image: np.ndarray, probes: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return P·O for each position and mode, (n, modes, N, N)."""
    N = probes.shape[-1]
    return np.array([[p * patch(image, v, u, N) for p in probes.astype(complex)] for v, u in zip(y, x, strict=True)])


def scale(waves: np.ndarray, nphotons: float) -> float:
    """Return √(nphotons / mean Σ|Ψ|²)."""
    return math.sqrt(nphotons / np.mean(np.sum(np.abs(waves) ** 2, axis=(1, 2, 3))))


def intensity(waves: np.ndarray, s: float) -> np.ndarray:
    """Return the mean photons in each pixel, zero frequency in the middle."""
    N = waves.shape[-1]
    far = np.fft.fftshift(np.fft.fft2(s * waves), axes=(-2, -1))
    return np.sum(np.abs(far) ** 2, axis=1) / N**2


def philox(counter: tuple[int, ...], key: tuple[int, int]) -> list[int]:
    """Return four words of Philox-4x32-10, in plain integers, from the published description."""
    c, (k0, k1) = list(counter), key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k0, p1 & 0xFFFFFFFF, (p0 >> 32) ^ c[3] ^ k1, p0 & 0xFFFFFFFF]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c
