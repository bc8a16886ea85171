"""Scan positions as functions of their number: any part of a scan is made without the rest."""

import math
from collections.abc import Callable

import numpy as np

from scanfold.ptycho._random_kernels import normal_numbers, uniform_numbers

_GOLDEN_ANGLE = math.pi * (3.0 - math.sqrt(5.0))


def raster(numbers, box, shape):
    """Return row after row, `shape` (rows, columns) of them filling the box."""
    row, column = np.divmod(numbers, shape[1])
    return _stretched(row / max(shape[0] - 1, 1), column / max(shape[1] - 1, 1), box)


def uniform(numbers, box, key):
    """Return independent positions, uniform in the box."""
    u = uniform_numbers(numbers, 0, key)
    return _stretched(u[:, 0], u[:, 1], box)


def fermat(numbers, box, count):
    """Return a Fermat spiral: radius ∝ √number, turned by the golden angle."""
    return _polar(np.sqrt((numbers + 0.5) / count), numbers * _GOLDEN_ANGLE, box)


def spiral(numbers, box, count):
    """Return an Archimedean spiral of even density: neighbours and turns are equally far apart."""
    return _polar(np.sqrt((numbers + 0.5) / count), np.sqrt(4 * math.pi * (numbers + 0.5)), box)


def lissajous(numbers, box, count, turns):
    """Return a Lissajous figure of `turns` (y, x) oscillations."""
    t = 2 * math.pi * (numbers + 0.5) / count
    return _stretched(0.5 + 0.5 * np.sin(turns[0] * t), 0.5 + 0.5 * np.sin(turns[1] * t + math.pi / 4), box)


def jitter(numbers, scale, most, key):
    """Return normal deviations of width `scale`, cut at `most`, (n, 2)."""
    return np.clip(scale * normal_numbers(numbers, 1, key), -most, most)


def _stretched(v, u, box):
    y0, y1, x0, x1 = box
    return np.stack([y0 + v * (y1 - y0), x0 + u * (x1 - x0)], axis=-1)


def _polar(radius, angle, box):
    v, u = 0.5 + 0.5 * radius * np.sin(angle), 0.5 + 0.5 * radius * np.cos(angle)
    return _stretched(v, u, box)


#: By the names users give.
PATTERNS: dict[str, Callable] = {
    "raster": raster,
    "uniform": uniform,
    "fermat": fermat,
    "spiral": spiral,
    "lissajous": lissajous,
}
