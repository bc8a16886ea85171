"""Tables of counts on disk, and what they hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

BINS = 12


def write(path: Path, counts: np.ndarray, *, err: np.ndarray | None = None, first: int = 1) -> Path:
    """Write a table of counts as detectors' programs do: stack, counts and maybe err."""
    columns = [np.arange(first, first + counts.size), counts, *([] if err is None else [err])]
    header = ",".join(["stack", "counts", "err"][: len(columns)])
    np.savetxt(path, np.stack(columns, axis=1), delimiter=",", header=header, comments="", fmt="%.17g")
    return path


def level(number: float, bins: int = BINS) -> np.ndarray:
    """Return counts that tell which file they are of."""
    return number + np.arange(float(bins))


def write_all(folder: Path, names: Sequence[str], of: Callable[[int], float]) -> None:
    """Write one file for each name, with the level that `of` gives for its place in the list."""
    folder.mkdir(exist_ok=True)
    for i, name in enumerate(names):
        write(folder / name, level(of(i)))
