"""Time traces: fits beside SciPy's least_squares in a loop; folders of CSV files to CSV files, and their memory."""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._problem import Array
from benchmarks._process import Method, Run, race
from benchmarks._report import Figures, Table, number, spread

REPEATS = 5
#: Model, and the parameters that vary.
FITS = (
    ("maturation", ("t0", "ktl", "delta", "offset")),
    ("maturation", ("t0", "ktl", "km", "delta", "beta", "offset")),
    ("trivial", ("t0", "ktl", "delta", "beta", "offset")),
)
#: Different traces that there are.
_MOST = 10_000
_RANGES = {"t0": (-0.2, 0.8), "ktl": (300.0, 3000.0), "delta": (0.005, 0.2), "offset": (-50.0, 50.0)}


def data(traces: int, points: int = 200) -> tuple[Array, Array]:
    """Return times (n) and traces (N, n): maturation over 30 h, with noise of 2 % of the maximum."""
    from scanfold.traces import get_model

    random = np.random.default_rng(1)
    model, times = get_model("maturation"), np.linspace(0.0, 30.0, points)
    # The first traces are always the same.
    drawn = {n: random.uniform(*_RANGES[n], _MOST) if n in _RANGES else v for n, v in model.defaults.items()}
    exact = model.function(times, *(np.reshape(drawn[n], (-1, 1)) for n in model.names))
    noise = 0.02 * exact.max(axis=1, keepdims=True) * random.standard_normal(exact.shape)
    return times, (exact + noise)[:traces]


def request(model: str, free: tuple[str, ...]) -> Any:
    """Return what is fitted."""
    from scanfold.traces import FittingRequest, get_model

    return FittingRequest(model, fixed=[n for n in get_model(model).names if n not in free])


@contextmanager
def ours(traces: int, model: str, free: tuple[str, ...]) -> Iterator[Callable[[], Array]]:
    """`fit_trace_data` in this thread: starts, fits, errors, statistics, noise and runs test."""
    import dask
    import xarray as xr

    from scanfold.traces import fit_trace_data

    times, values = data(traces)
    array = xr.DataArray(values, dims=("cell", "time"), coords={"time": times})
    wanted = request(model, free)
    with dask.config.set(scheduler="sync"):
        yield lambda: fit_trace_data(array, wanted).compute()["chisqr"].values


@contextmanager
def scipy_loop(traces: int, model: str, free: tuple[str, ...]) -> Iterator[Callable[[], Array]]:
    """``least_squares`` trace by trace: TRF, two-point derivatives, x_scale 1, from the model's own start."""
    from scipy.optimize import least_squares

    times, values = data(traces)
    params = request(model, free).params()
    start, low, high = ([params[n][k] for n in free] for k in ("value", "min", "max"))
    fixed = {n: p["value"] for n, p in params.items()}

    def curve(p: Array) -> Array:
        v = fixed | dict(zip(free, p, strict=True))
        tau, b, d = times - v["t0"], v["beta"], v["delta"]
        if model == "trivial":
            y = v["ktl"] / (d - b) * (1 - np.exp(-(d - b) * tau)) * np.exp(-b * tau)
        else:
            km = v["km"]
            y = np.exp(-(b + km) * tau) / (b - d + km) - np.exp(-b * tau) / (b - d)
            y = v["ktl"] * (y + km * np.exp(-d * tau) / ((b - d) * (b - d + km)))
        return np.where(tau > 0, y, 0.0) + v["offset"]

    def work() -> Array:
        fits = (least_squares(lambda p, d=d: curve(p) - d, start, bounds=(low, high)) for d in values)
        return np.array([2.0 * fit.cost for fit in fits])

    yield work


@contextmanager
def folder(files: int, cells: int, frames: int) -> Iterator[Callable[[], dict[str, float]]]:
    """`fit_folder` from CSV to CSV, on two threads."""
    from scanfold.traces import FittingRequest, fit_folder

    times, values = data(cells * 20, frames)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "in"
        _write_folder(path, files, cells, times, values)
        wanted = FittingRequest("maturation")
        fit_folder(path, wanted, out=Path(name) / "first", files=[0, 1], progress=False)

        def work() -> dict[str, float]:
            out = Path(name) / "out"
            shutil.rmtree(out, ignore_errors=True)
            run = fit_folder(path, wanted, out=out, progress=False)
            return {"files": len(run.paths), "failed": len(run.failures)}

        yield work


@contextmanager
def reading(files: int, cells: int, frames: int) -> Iterator[Callable[[], int]]:
    """Read the same folder with pandas, and do nothing with it."""
    import pandas as pd

    times, values = data(cells * 20, frames)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "in"
        _write_folder(path, files, cells, times, values)
        yield lambda: sum(len(pd.read_csv(file, comment="#")) for file in sorted(path.glob("*.csv")))


def _write_folder(path: Path, files: int, cells: int, times: Array, values: Array) -> None:
    path.mkdir()
    for i in range(files):
        _write(path / f"fov_{i:04d}.csv", times, np.roll(values, 7 * i, axis=0)[:cells], i)


def _write(path: Path, times: Array, values: Array, fov: int) -> None:
    rows = ["# Time units: h", "time,fov,cell,value"]
    for cell, trace in enumerate(values):
        rows += [f"{t:.6f},{fov},{cell},{v:.6f}" for t, v in zip(times, trace, strict=True)]
    path.write_text("\n".join(rows) + "\n")


def run(small: bool) -> Iterator[Table]:
    """Yield the tables."""
    many, some = (200, 20) if small else (1000, 200)
    pairs = [
        (
            Method(f"{model}, {len(free)} free, scanfold", "benchmarks.traces:ours", many,
                   {"traces": many, "model": model, "free": free}),
            Method(f"{model}, {len(free)} free, least_squares", "benchmarks.traces:scipy_loop", some,
                   {"traces": some, "model": model, "free": free}),
        )
        for model, free in FITS
    ]  # fmt: skip
    race([m for pair in pairs for m in pair], 1 if small else REPEATS)
    larger = Method("maturation, 4 free, 10,000 traces at once", "benchmarks.traces:ours", 10 * many,
                    {"traces": 10 * many, "model": "maturation", "free": FITS[0][1]})  # fmt: skip
    again = replace(pairs[0][1], runs=[])
    race([larger, again], 1 if small else REPEATS)
    sizes = (10, 30) if small else (100, 1000)
    folders = [
        Method(f"{n} files × 100 cells × 180 frames", "benchmarks.traces:folder", n * 100,
               {"files": n, "cells": 100, "frames": 180})
        for n in sizes
    ]  # fmt: skip
    for method, repeats in zip(folders, (0, 0) if small else (2, 0), strict=True):
        race([method], repeats)
        method.runs.insert(0, _done(method))
    floor = Method(f"{sizes[0]} files read alone, by pandas, one thread", "benchmarks.traces:reading", sizes[0] * 100,
                   folders[0].arguments)  # fmt: skip
    race([floor], 1 if small else 3)
    yield _figures(pairs, folders)
    yield _side_by_side([*pairs, (larger, again)])
    yield _folders([*folders, floor])


def _done(method: Method) -> Run:
    """Return the first run of a folder: what it compiles and loads was so before."""
    if method.first is None or method.first.answer != {"files": method.arguments["files"], "failed": 0}:
        raise RuntimeError(f"{method.name}: {method.skipped or method.first}")
    return method.first


def _ratio(ours_: Method, other: Method) -> list[float]:
    """Return how many times faster one is than the other, round by round, per trace."""
    runs = zip(ours_.runs, other.runs, strict=True)
    return [(b.wall / other.positions) / (a.wall / ours_.positions) for a, b in runs]


def _figures(pairs: list[tuple[Method, Method]], folders: list[Method]) -> Figures:
    figures = Figures()
    ratio = statistics.median(_ratio(*pairs[0]))
    figures.add("maturation, 4 free: traces per second on one core / SciPy's least_squares in a loop", "≥ 40 ×",
                f"{number(ratio)} ×", ratio >= 40)  # fmt: skip
    hundred, thousand = folders
    wall = statistics.median(r.wall for r in hundred.runs)
    figures.add(f"{hundred.name}, CSV to CSV", "< 20 s", f"{number(wall)} s", wall < 20)
    memory = [max(r.memory for r in m.runs) / 2**20 for m in folders]
    figures.add(f"peak memory above the imports, {thousand.name}", "< 1024 MB", f"{number(memory[1])} MB",
                memory[1] < 1024)  # fmt: skip
    growth = memory[1] - memory[0]
    figures.add("its growth from the smaller folder", "flat", f"{growth:+.0f} MB", growth < 64)
    return figures


def _side_by_side(pairs: list[tuple[Method, Method]]) -> Table:
    table = Table(
        "Maturation traces of 200 frames over 30 h with 2 % noise, one core",
        ("fit", "traces/s", "least_squares, traces/s", "ours is × this", "higher cost than least_squares, by 10⁻⁶",
         "lower"),
    )  # fmt: skip
    for ours_, other in pairs:
        rates = [[m.positions / r.wall for r in m.runs] for m in (ours_, other)]
        mine, theirs = ours_.runs[0].answer[: other.positions], other.runs[0].answer
        with np.errstate(invalid="ignore"):
            worse, better = np.mean(mine > theirs * (1 + 1e-6)), np.mean(mine < theirs * (1 - 1e-6))
        name = ours_.name.removesuffix(", scanfold")
        table.rows.append(
            (name, spread(rates[0]), spread(rates[1]), spread(_ratio(ours_, other)), f"{worse:.1%}", f"{better:.1%}")
        )
    table.notes.append(
        "Ours finds a start for each trace, and has errors, statistics, the noise and a runs test besides; "
        "least_squares (TRF, two-point derivatives, bounds, x_scale 1) starts at the model's own values."
    )
    return table


def _folders(folders: list[Method]) -> Table:
    table = Table(
        "Folders of tidy CSV files to a file of results each, maturation with 4 free parameters, two threads",
        (
            "folder",
            "seconds",
            "traces/s",
            "cores used",
            "peak memory above the imports, MB",
        ),
    )
    for method in folders:
        walls = [r.wall for r in method.runs]
        cores = statistics.median(r.cpu / r.wall for r in method.runs)
        memory = max(r.memory for r in method.runs) / 2**20
        rate = method.positions / statistics.median(walls)
        table.rows.append((method.name, spread(walls), number(rate), number(cores), number(memory)))
    return table
