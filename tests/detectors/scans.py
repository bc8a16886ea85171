"""A small scan of discs on awkward shapes, and pass A and B by plain loops in float64."""

from __future__ import annotations

import numpy as np
import xarray as xr

SHAPE, DETECTOR = (7, 11), (33, 48)
CENTER = (14.3, 25.6)
CHUNKS = ({"y": 3, "x": 8}, {"y": 17, "x": 3, "ky": 17}, {"y": 2, "x": 5, "ky": 8, "kx": 17})


def disc_scan(dtype: str = "uint16", *, seed: int = 0, shift: float = 0.0, mean: float = 6.0):
    """Return frames (y, x, ky, kx), labels (y, x) with noise, and the shift of each disc (y, x, 2) in pixels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, SHAPE)
    shifts = shift * rng.normal(size=(*SHAPE, 2))
    ky, kx = np.arange(DETECTOR[0])[:, None], np.arange(DETECTOR[1])
    expected = np.empty((*SHAPE, *DETECTOR))
    for i, j in np.ndindex(SHAPE):
        cy, cx = np.array(CENTER) + shifts[i, j]
        expected[i, j] = mean * 10 / (1 + np.exp(2 * (np.hypot(ky - cy, kx - cx) - 5))) + 1
        angle = 2.1 * labels[i, j]
        expected[i, j] += mean * np.exp(-((ky - cy - 9 * np.sin(angle)) ** 2 + (kx - cx - 9 * np.cos(angle)) ** 2) / 5)
    frames = rng.poisson(expected).astype(dtype)
    labels[0, 3] = labels[5, 9] = -1
    return xr.DataArray(frames, dims=("y", "x", "ky", "kx"), name="counts"), labels, shifts


def loop_statistics(frames: np.ndarray, labels: np.ndarray, log: bool) -> dict[str, np.ndarray]:
    """Return mean, deviation and means of clusters, a frame at a time."""
    stack, flat = frames.reshape(-1, *DETECTOR), labels.ravel()
    signal = [np.log1p(f.astype(np.float64)) if log else f.astype(np.float64) for f in stack]
    mean = sum(signal) / len(signal)
    variance = sum((s - mean) ** 2 for s in signal) / len(signal)
    clusters = [sum(s for s, c in zip(signal, flat, strict=True) if c == n) / (flat == n).sum() for n in range(3)]
    return {"mean": mean, "std": np.sqrt(variance), "cluster_mean": np.array(clusters)}


def loop_moments(frame: np.ndarray, weight: np.ndarray, center: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Return total, centre of mass from `center` and its standard error, a pixel at a time."""
    total, first, square = 0.0, np.zeros(2), np.zeros(2)
    for i, j in np.ndindex(frame.shape):
        k = np.array([i, j]) - center
        total += weight[i, j] * float(frame[i, j])
        first += weight[i, j] * float(frame[i, j]) * k
    com = first / total
    for i, j in np.ndindex(frame.shape):
        k = np.array([i, j]) - center
        square += weight[i, j] ** 2 * float(frame[i, j]) * (k - com) ** 2
    return total, com, np.sqrt(square) / total
