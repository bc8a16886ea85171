"""The problem that all methods are given: a Gaussian on a line, 5 free parameters, counts, one common start."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

NAMES = ("amplitude", "center", "sigma", "slope", "intercept")
START = {"amplitude": 1000.0, "center": 5.0, "sigma": 0.6, "slope": 0.0, "intercept": 40.0}
#: Two answers are the same where they differ by less than this part of the standard error.
SAME = 0.01


def gaussian_line(x: Any, amplitude: Any, center: Any, sigma: Any, slope: Any, intercept: Any) -> Any:
    """Return a Gaussian of area `amplitude` on a line."""
    return (
        amplitude / (sigma * np.sqrt(2 * np.pi)) * np.exp(-((x - center) ** 2) / (2 * sigma**2)) + slope * x + intercept
    )


def gaussian_line_by_cases(x: Any, amplitude: Any, center: Any, sigma: Any, slope: Any, intercept: Any) -> Any:
    """Return the same with a case of its own, so that it is no formula: numba compiles it as it is."""
    line = slope * x + intercept
    if sigma == 0:
        return line
    return amplitude / (sigma * np.sqrt(2 * np.pi)) * np.exp(-((x - center) ** 2) / (2 * sigma**2)) + line


def gaussian_line_in_python(x: Any, amplitude: Any, center: Any, sigma: Any, slope: Any, intercept: Any) -> Any:
    """Return the same, written so that numba cannot compile it, and not as a formula; it broadcasts."""
    with np.errstate(over="ignore"):
        return np.asarray(gaussian_line(x, amplitude, center, sigma, slope, np.asarray(intercept)))


def scan(positions: int, points: int = 100) -> Any:
    """Return counts (position | energy), in memory, and the truth: the first positions are always the same."""
    from scanfold.testing import peak_scan

    whole, truth = peak_scan({"position": max(positions, 10_000)}, points=points)
    first = {"position": slice(0, positions)}
    return whole.isel(first), truth.isel(first)


def count_weights(counts: Array) -> Array:
    """Return 1/σ of counts."""
    return 1.0 / np.sqrt(np.maximum(counts, 1.0))


def composite() -> Any:
    """Return the problem as a sum of lmfit's own models."""
    from lmfit.models import GaussianModel, LinearModel

    return GaussianModel() + LinearModel()


def agreement(answer: dict[str, Array], reference: dict[str, Array]) -> float:
    """Return the share of positions where all parameters are those of the reference, to `SAME` standard errors."""
    count = answer["amplitude"].size
    same = np.ones(count, bool)
    for name in NAMES:
        error = reference[f"{name}_stderr"][:count]
        found = np.abs(answer[name]) if name == "sigma" else answer[name]  # the sign of sigma is free
        same &= np.abs(found - reference[name][:count]) <= SAME * error
    return float(same.mean())
