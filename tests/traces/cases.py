"""Traces whose truth is known, and folders of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from scanfold.traces import get_model

TIMES = np.arange(120) / 4.0
#: Ranges from which the parameters of cells are drawn.
RANGES = {
    "maturation": {"t0": (-0.3, 0.8), "ktl": (300, 3000), "delta": (0.005, 0.2), "offset": (-50, 50)},
    "trivial": {"t0": (1, 8), "ktl": (20, 500), "delta": (0.15, 0.4), "beta": (0.01, 0.06), "offset": (-10, 10)},
    "maturation_blocked": {"t0": (-0.5, -0.1), "G0": (20, 300), "Gu0": (200, 900), "offset": (0, 20)},
    "two_stage": {"t0": (-0.3, 0.8), "ktl": (100, 900), "offset": (-5, 5)},
    "exponential_decay": {"amplitude": (50, 500), "rate": (0.05, 0.4), "offset": (-5, 50), "t0": (1, 5)},
}


def truth(model: str, cells: int, seed: int = 0, **ranges: tuple[float, float]) -> dict[str, np.ndarray]:
    """Draw the parameters of some cells, from other ranges where given; what is fixed has its default."""
    random = np.random.default_rng(seed)
    found = {n: np.full(cells, v) for n, v in get_model(model).defaults.items()}
    return found | {n: random.uniform(low, high, cells) for n, (low, high) in (RANGES[model] | ranges).items()}


def traces(
    model: str,
    cells: int,
    *,
    times: np.ndarray = TIMES,
    noise: float = 0.02,
    seed: int = 0,
    **ranges: tuple[float, float],
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return traces (cells, n) with noise of a part of their maximum, and their parameters."""
    parameters = truth(model, cells, seed, **ranges)
    exact = get_model(model).function(times, *(v[:, None] for v in parameters.values()))
    sigma = noise * np.abs(exact).max(axis=1, keepdims=True)
    return exact + sigma * np.random.default_rng(seed + 1).standard_normal(exact.shape), parameters


def write_wide(
    path: Path, values: np.ndarray, times: np.ndarray = TIMES, units: str = "h", names: object = None
) -> Path:
    """Write a wide file; times are in h and written in other units."""
    factor = {"h": 1, "min": 60, "s": 3600}[units]
    frame = pd.DataFrame(values.T, columns=names or [str(i) for i in range(len(values))])
    frame.insert(0, "time", times * factor)
    path.write_text(f"# Time units: {units}\n" + frame.to_csv(index=False))
    return path


def write_tidy(path: Path, values: np.ndarray, times: np.ndarray = TIMES, units: str = "h", fov: int = 3) -> Path:
    """Write a tidy file."""
    factor = {"h": 1, "min": 60, "s": 3600}[units]
    cells = len(values)
    frame = pd.DataFrame(
        {
            "time": np.tile(times * factor, cells),
            "fov": fov,
            "cell": np.repeat(np.arange(cells), times.size),
            "value": values.ravel(),
        }
    )
    path.write_text(f"# Time units: {units}\n" + frame.to_csv(index=False))
    return path


def write_upstream(path: Path, values: np.ndarray, times: np.ndarray = TIMES, fov: int = 0) -> Path:
    """Write the table that traces are made from, times in min, with two features; the second is the first doubled."""
    cells, n = values.shape
    x = np.repeat(np.arange(cells) * 10.0, n)
    frame = pd.DataFrame(
        {
            "fov": fov,
            "cell": np.repeat(np.arange(cells), n),
            "frame": np.tile(np.arange(n), cells),
            "time": np.tile(times * 60, cells),
            "good": np.repeat(np.arange(cells) % 3 != 0, n),
            "position_x": x + np.tile(np.linspace(-1, 1, n), cells),
            "position_y": 100 - x,
            "bbox_x0": 0,
            "intensity_total_ch_1": values.ravel(),
            "area_ch_0": 2 * values.ravel(),
        }
    )
    path.write_text(frame.to_csv(index=False))
    return path
