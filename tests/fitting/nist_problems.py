"""NIST StRD nonlinear regression problems with one predictor: the original files, read, and their models.

The files in ``nist/`` are the public ones of the US National Institute of Standards and Technology,
unchanged. Nelson is left out: it has two predictors.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).with_name("nist")
LEVELS = ("Lower", "Average", "Higher")


@dataclass(frozen=True)
class Problem:
    """One problem as its file states it; `starts` is (start 1, start 2)."""

    name: str
    level: str
    x: np.ndarray
    y: np.ndarray
    starts: tuple[tuple[float, ...], tuple[float, ...]]
    values: tuple[float, ...]
    errors: tuple[float, ...]
    ssr: float

    @property
    def model(self) -> Callable[..., np.ndarray]:
        return MODELS[self.name]

    @property
    def names(self) -> list[str]:
        return [f"b{i + 1}" for i in range(len(self.values))]

    def start(self, which: int) -> dict[str, float]:
        return dict(zip(self.names, self.starts[which - 1], strict=True))


@cache
def problem(name: str) -> Problem:
    """Read one problem's file."""
    text = (FOLDER / f"{name}.dat").read_text()
    rows = re.findall(r"^ *b\d+ *= +(\S+) +(\S+) +(\S+) +(\S+) *$", text, re.MULTILINE)
    start1, start2, values, errors = zip(*(map(float, row) for row in rows), strict=True)
    table = text.splitlines()[60:]
    y, x = np.array([line.split() for line in table if line.strip()], float).T
    observations = int(_field(text, r"Number of Observations: +(\d+)"))
    if len(y) != observations or len(rows) != int(_field(text, r"(\d+) Parameters")):
        raise ValueError(f"{name}.dat: {len(y)} rows and {len(rows)} parameters do not match the file's own header")
    level = _field(text, r"(\w+) Level of Difficulty")
    return Problem(name, level, x, y, (start1, start2), values, errors, float(_field(text, r"Sum of Squares: +(\S+)")))


def problems(*levels: str) -> list[str]:
    """Return the names of the problems of these levels of difficulty."""
    return [name for name in sorted(MODELS) if problem(name).level in levels]


def digits(found: float, certified: float) -> float:
    """Return the number of agreeing digits (the log relative error), 11 at most: the certified values have 11."""
    error = abs(found - certified) / abs(certified)
    return 0.0 if not np.isfinite(error) else float(-np.log10(max(error, 1e-11)))


def _field(text: str, pattern: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise ValueError(f"no {pattern!r} in the file")
    return match[1]


def saturation(x, b1, b2):
    return b1 * (1 - np.exp(-b2 * x))


def misra1b(x, b1, b2):
    return b1 * (1 - (1 + b2 * x / 2) ** (-2.0))


def misra1c(x, b1, b2):
    return b1 * (1 - (1 + 2 * b2 * x) ** (-0.5))


def misra1d(x, b1, b2):
    return b1 * b2 * x / (1 + b2 * x)


def chwirut(x, b1, b2, b3):
    return np.exp(-b1 * x) / (b2 + b3 * x)


def danwood(x, b1, b2):
    return b1 * x**b2


def enso(x, b1, b2, b3, b4, b5, b6, b7, b8, b9):
    year, nino, southern = 2 * np.pi * x / 12, 2 * np.pi * x / b4, 2 * np.pi * x / b7
    return (
        b1
        + b2 * np.cos(year)
        + b3 * np.sin(year)
        + b5 * np.cos(nino)
        + b6 * np.sin(nino)
        + b8 * np.cos(southern)
        + b9 * np.sin(southern)
    )


def gauss(x, b1, b2, b3, b4, b5, b6, b7, b8):
    return b1 * np.exp(-b2 * x) + b3 * np.exp(-((x - b4) ** 2) / b5**2) + b6 * np.exp(-((x - b7) ** 2) / b8**2)


def cubic_over_cubic(x, b1, b2, b3, b4, b5, b6, b7):
    return (b1 + b2 * x + b3 * x**2 + b4 * x**3) / (1 + b5 * x + b6 * x**2 + b7 * x**3)


def kirby2(x, b1, b2, b3, b4, b5):
    return (b1 + b2 * x + b3 * x**2) / (1 + b4 * x + b5 * x**2)


def lanczos(x, b1, b2, b3, b4, b5, b6):
    return b1 * np.exp(-b2 * x) + b3 * np.exp(-b4 * x) + b5 * np.exp(-b6 * x)


def mgh17(x, b1, b2, b3, b4, b5):
    return b1 + b2 * np.exp(-x * b4) + b3 * np.exp(-x * b5)


def roszman1(x, b1, b2, b3, b4):
    return b1 - b2 * x - np.arctan(b3 / (x - b4)) / np.pi


def bennett5(x, b1, b2, b3):
    return b1 * (b2 + x) ** (-1 / b3)


def eckerle4(x, b1, b2, b3):
    return (b1 / b2) * np.exp(-0.5 * ((x - b3) / b2) ** 2)


def mgh09(x, b1, b2, b3, b4):
    return b1 * (x**2 + x * b2) / (x**2 + x * b3 + b4)


def mgh10(x, b1, b2, b3):
    return b1 * np.exp(b2 / (x + b3))


def rat42(x, b1, b2, b3):
    return b1 / (1 + np.exp(b2 - b3 * x))


def rat43(x, b1, b2, b3, b4):
    return b1 / (1 + np.exp(b2 - b3 * x)) ** (1 / b4)


MODELS: dict[str, Callable[..., np.ndarray]] = {
    "Misra1a": saturation,
    "BoxBOD": saturation,
    "Misra1b": misra1b,
    "Misra1c": misra1c,
    "Misra1d": misra1d,
    "Chwirut1": chwirut,
    "Chwirut2": chwirut,
    "DanWood": danwood,
    "ENSO": enso,
    "Gauss1": gauss,
    "Gauss2": gauss,
    "Gauss3": gauss,
    "Hahn1": cubic_over_cubic,
    "Thurber": cubic_over_cubic,
    "Kirby2": kirby2,
    "Lanczos1": lanczos,
    "Lanczos2": lanczos,
    "Lanczos3": lanczos,
    "MGH17": mgh17,
    "Roszman1": roszman1,
    "Bennett5": bennett5,
    "Eckerle4": eckerle4,
    "MGH09": mgh09,
    "MGH10": mgh10,
    "Rat42": rat42,
    "Rat43": rat43,
}
