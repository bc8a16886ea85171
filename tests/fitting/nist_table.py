"""Fit NIST problems with `scanfold.fit` and count the digits that agree: ``python -m tests.fitting.nist_table``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import xarray as xr

import scanfold as sf
from scanfold.conventions import flags

from .nist_problems import LEVELS, Problem, digits, problem, problems

ENGINES = ("batch", "lmfit")


@dataclass(frozen=True)
class Row:
    """What one engine gave from one start; digits are the worst over the parameters."""

    name: str
    level: str
    start: int
    engine: str
    status: str
    success: bool
    values: float
    errors: float
    ssr: float
    chisqr: float
    recomputed: float
    nfev: int

    def __str__(self) -> str:
        return (
            f"{self.level:8s} {self.name:9s} start {self.start} {self.engine:6s} {self.status:10s} {self.success!s:6s}"
            f"{self.values:6.1f} {self.errors:6.1f} {self.ssr:6.1f} {self.chisqr:14.6e} {self.nfev:6d}"
        )


HEAD = "level    problem   start   engine status     success value  error    ssr         chisqr   nfev"


def fit_problem(p: Problem, start: int, engine: str) -> Row:
    """Fit a scan of one position that is the problem's data, from the problem's own start."""
    data = xr.DataArray(p.y[None], dims=("position", "predictor"), coords={"predictor": p.x})
    fits = sf.fit(data, p.model, p.start(start), dim="predictor", engine=engine, guess="params", retry=False)
    at = fits.compute().isel(position=0)
    found = [float(at[name]) for name in p.names]
    meanings = {value: name for name, value in flags(fits["status"]).items()}
    return Row(
        p.name,
        p.level,
        start,
        engine,
        meanings[int(at["status"])],
        bool(at["success"]),
        min(digits(v, c) for v, c in zip(found, p.values, strict=True)),
        min(digits(float(at[f"{n}_stderr"]), c) for n, c in zip(p.names, p.errors, strict=True)),
        digits(float(at["chisqr"]), p.ssr),
        float(at["chisqr"]),
        float(np.sum((p.y - p.model(p.x, *found)) ** 2)),
        int(at["nfev"]),
    )


def rows(levels: Iterable[str], starts: Iterable[int], engines: Iterable[str]) -> list[Row]:
    """Fit every problem of these levels, from each start, with each engine."""
    starts, engines = list(starts), list(engines)
    return [
        fit_problem(problem(name), start, engine)
        for level in levels
        for name in problems(level)
        for start in starts
        for engine in engines
    ]


def table(results: Iterable[Row]) -> str:
    """Render rows as text."""
    return "\n".join([HEAD, *map(str, results)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--levels", nargs="+", default=list(LEVELS), choices=LEVELS)
    parser.add_argument("--starts", nargs="+", type=int, default=[1, 2], choices=[1, 2])
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=ENGINES)
    options = parser.parse_args()
    print(table(rows(options.levels, options.starts, options.engines)))
