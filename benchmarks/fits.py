"""Fits per second on one core beside the peers, and on two workers; what the first fit costs."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import _files, _problem
from benchmarks._problem import NAMES, START, Array
from benchmarks._process import Method, race
from benchmarks._report import Figures, Table, number, spread

REPEATS = 9
_OURS, _PEERS = "benchmarks.fits:ours", "benchmarks.peers:"
_GIVEN = {"guess": "params", "retry": False}
_COUNTS = {"weights": "counts"}


@contextmanager
def ours(positions: int, model: str = "composite", **options: Any) -> Iterator[Callable[[], dict[str, Array]]]:
    """`scanfold.fit` in this thread, from an array in memory to maps in memory."""
    import dask

    import scanfold as sf

    data, _ = _problem.scan(positions)
    function = _problem.composite() if model == "composite" else getattr(_problem, model)
    if model == "composite":
        params: Any = function.make_params(**START)
    else:
        params = START

    def work() -> dict[str, Array]:
        fits = sf.fit(data, function, params, dim="energy", **options).compute()
        return {n: fits[n].values for n in (*NAMES, *(f"{n}_stderr" for n in NAMES))}

    with dask.config.set(scheduler="sync"):
        yield work


@contextmanager
def on_workers(path: str, processes: int = 0, threads: int = 1) -> Iterator[Callable[[], dict[str, Array]]]:
    """`scanfold.fit` on threads of this process or on worker processes, which hold the scan already."""
    import dask

    import scanfold as sf

    scan = sf.open_scan(path, chunks={"y": _files.SIDE, "x": -1})["counts"]
    model = _problem.composite()
    params = model.make_params(**START)
    with ExitStack() as stack:
        if processes:
            from distributed import Client, LocalCluster

            cluster = LocalCluster(n_workers=processes, threads_per_worker=1, dashboard_address="127.0.0.1:0")
            stack.enter_context(Client(stack.enter_context(cluster)))
        else:
            stack.enter_context(dask.config.set(scheduler="threads", num_workers=threads))
        scan = scan.persist()

        def work() -> dict[str, Array]:
            fits = sf.fit(scan, model, params, dim="energy", engine="batch", **_COUNTS, **_GIVEN).compute()
            return {n: fits[n].values for n in NAMES}

        yield work


def contestants(small: bool) -> list[tuple[Method, str]]:
    """Return the methods, each with the answer that it must give."""
    many, some, few = (1000, 100, 50) if small else (10_000, 2000, 500)

    def of_ours(name: str, positions: int, **arguments: Any) -> Method:
        return Method(f"scanfold, {name}", _OURS, positions, {"positions": positions, **arguments})

    def peer(name: str, function: str, positions: int, **arguments: Any) -> Method:
        return Method(name, _PEERS + function, positions, {"positions": positions, **arguments})

    batch = {"engine": "batch", **_COUNTS}
    return [
        (of_ours("batch", many, **batch, **_GIVEN), "counts"),
        (of_ours("batch, default starts and retries", many, **batch), "counts"),
        (of_ours("batch, a user's function, a formula", many, model="gaussian_line", **batch, **_GIVEN), "counts"),
        (of_ours("batch, a user's function, compiled", many, model="gaussian_line_by_cases", **batch, **_GIVEN),
         "counts"),
        (of_ours("batch, a user's function, on arrays", many, model="gaussian_line_in_python", **batch, **_GIVEN),
         "counts"),
        (of_ours("batch, Poisson likelihood", many, engine="batch", likelihood="poisson", **_GIVEN), "poisson"),
        (of_ours("batch, no weights", many, engine="batch", **_GIVEN), "none"),
        (of_ours("engine lmfit", few, engine="lmfit", **_COUNTS, **_GIVEN), "counts"),
        (peer("lmfit, Model.fit, plain function", "lmfit_loop", few, plain=True), "counts"),
        (peer("lmfit, Model.fit, GaussianModel + LinearModel", "lmfit_loop", few, plain=False), "counts"),
        (peer("SciPy, curve_fit", "scipy_loop", some), "counts"),
        (peer("xarray, curvefit (no weights)", "xarray_curvefit", some), "none"),
        (peer("scipp, curve_fit", "scipp_curve_fit", some), "counts"),
        (peer("xarray-lmfit, modelfit", "xarray_lmfit", few), "counts"),
        (peer("HyperSpy, multifit", "hyperspy_multifit", few), "counts"),
        (peer("astropy, parallel_fit_dask", "astropy_parallel", few), "counts"),
    ]  # fmt: skip


def rates(method: Method) -> list[float]:
    """Return positions per second, run by run."""
    return [method.positions / run.wall for run in method.runs]


def faster(ours_: Method, other: Method) -> float:
    """Return how many times faster one method is than another: the median over the rounds."""
    pairs = zip(rates(ours_), rates(other), strict=False)
    return statistics.median([a / b for a, b in pairs] or [float("nan")])


def run(small: bool) -> Iterator[Table]:
    """Yield the tables."""
    pairs = contestants(small)
    race([m for m, _ in pairs], 2 if small else REPEATS)
    methods = {m.name: m for m, _ in pairs}
    scaling = workers(small)
    yield _figures(methods, scaling)
    yield _side_by_side(pairs)
    yield _scaling(scaling)
    yield first_use()


def _figures(methods: dict[str, Method], scaling: dict[str, Method]) -> Figures:
    figures = Figures()
    batch, plain = methods["scanfold, batch"], methods["scanfold, batch, a user's function, a formula"]
    for what, ours_, peer, wanted in (
        ("GaussianModel + LinearModel / lmfit's Model.fit of it", batch,
         "lmfit, Model.fit, GaussianModel + LinearModel", 100),
        ("GaussianModel + LinearModel / lmfit's Model.fit of one plain function", batch,
         "lmfit, Model.fit, plain function", 100),
        ("plain function / lmfit's Model.fit of it", plain, "lmfit, Model.fit, plain function", 100),
        ("GaussianModel + LinearModel / SciPy's curve_fit", batch, "SciPy, curve_fit", 10),
        ("plain function / SciPy's curve_fit of it", plain, "SciPy, curve_fit", 10),
    ):  # fmt: skip
        ratio = faster(ours_, methods[peer])
        figures.add(f"per core: {what}", f"≥ {wanted} ×", f"{number(ratio)} ×", ratio >= wanted)
    for kind in ("thread", "process"):
        ratio = statistics.median(_ratios(scaling, kind))
        plural = {"thread": "threads", "process": "processes"}[kind]
        figures.add(f"2 {plural} / 1", "≥ 1.7 ×", f"{number(ratio)} ×", ratio >= 1.7)
    return figures


def _side_by_side(pairs: list[tuple[Method, str]]) -> Table:
    named = {method.name: method for method, _ in pairs}
    kinds = {"counts": "batch", "none": "batch, no weights", "poisson": "batch, Poisson likelihood"}
    answers = {kind: named[f"scanfold, {name}"].runs[0].answer for kind, name in kinds.items()}
    table = Table(
        "Gaussian + line, 5 free parameters, 100 points, 10,000 positions, count weights, one common start, one core",
        (
            "method",
            "positions",
            "fits/s, median (min–max)",
            "ours is × this",
            "cores used",
            "memory, MB",
            "same answer",
        ),
    )
    for method, problem in pairs:
        if method.skipped:
            table.notes.append(f"{method.name}: skipped, {method.skipped}")
            continue
        row = [method.name, f"{method.positions:,}", spread(rates(method)), number(faster(pairs[0][0], method))]
        row.append(number(statistics.median(r.cpu / r.wall for r in method.runs)))
        row.append(number(max(r.memory for r in method.runs) / 1e6))
        row.append(f"{_problem.agreement(method.runs[0].answer, answers[problem]):.1%}")
        table.rows.append(tuple(row))
    table.notes += [
        "ours is × this: the first row's rate over this row's, the median over the rounds. Peers fit the first "
        "positions of the same scan.",
        "same answer: positions where all five parameters agree to 0.01 standard errors with ours for the same problem "
        "(count weights, none, or Poisson likelihood). "
        + _truth("batch", answers["counts"])
        + " "
        + _truth("Poisson likelihood", answers["poisson"]),
        "memory: what a run adds, at its peak, to libraries and data that are loaded. Every method has a process of "
        "its own and one thread; the runs are interleaved; BLAS, OpenMP and numba run one thread.",
    ]
    return table


def _truth(name: str, answer: dict[str, Array]) -> str:
    """Compare an answer with the truth."""
    count = answer["center"].size
    _, truth = _problem.scan(count)
    pulls = (answer["center"] - truth["center"].values) / answer["center_stderr"]
    baseline = (answer["intercept"] - truth["intercept"].values) / answer["intercept_stderr"]
    return (
        f"Against the truth, {name}: pulls of `center` have mean {pulls.mean():.3f} and width {pulls.std():.3f}, those "
        f"of `intercept` {baseline.mean():.3f} and {baseline.std():.3f}."
    )


def workers(small: bool) -> dict[str, Method]:
    """Measure one and two threads, one and two processes."""
    rows = 3 * _files.SIDE if small else 16 * _files.SIDE
    setups: dict[str, dict[str, int]] = {
        "1 thread": {"threads": 1}, "2 threads": {"threads": 2},
        "1 process": {"processes": 1}, "2 processes": {"processes": 2},
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.zarr"
        _files.write(path, rows, rows, 100)
        methods = {
            name: Method(name, "benchmarks.fits:on_workers", rows**2, {"path": str(path), **setup})
            for name, setup in setups.items()
        }
        race(list(methods.values()), 2 if small else REPEATS)
    return methods


def _ratios(methods: dict[str, Method], kind: str) -> list[float]:
    one, two = methods[f"1 {kind}"], methods["2 threads" if kind == "thread" else "2 processes"]
    return [b / a for a, b in zip(rates(one), rates(two), strict=True)]


def _scaling(methods: dict[str, Method]) -> Table:
    count = next(iter(methods.values())).positions
    table = Table(
        f"The same problem on two workers, {count:,} positions, from memory to memory",
        ("workers", "fits/s, median (min–max)", "× one", "cores used"),
    )
    for name, method in methods.items():
        kind = "thread" if "thread" in name else "process"
        gain = spread(_ratios(methods, kind)) if name.startswith("2") else "1"
        used = number(statistics.median(r.cpu / r.wall for r in method.runs))
        table.rows.append((name, spread(rates(method)), gain, used))
    first, *others = (m.runs[0].answer for m in methods.values())
    same = all(np.array_equal(first[n], o[n], equal_nan=True) for o in others for n in NAMES)
    table.notes.append(f"All four answers are {'bit-identical' if same else '**different**'}.")
    table.notes.append(
        "All hold the scan in memory already; with processes the time includes gathering the maps from them."
    )
    return table


def first_use() -> Table:
    """Measure what the first fit in a fresh process costs, with and without compiled code on disk."""
    table = Table(
        "First use in a fresh process, seconds",
        ("numba's cache on disk", "import", "first fit", "second fit", "a user's function: first fit", "second fit"),
    )
    with tempfile.TemporaryDirectory() as folder:
        for state in ("empty", "filled"):
            environment = {**os.environ, "NUMBA_CACHE_DIR": folder}
            command = [sys.executable, "-m", "benchmarks._first_use"]
            run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
            seconds = json.loads(run.stdout)
            table.rows.append((state, *(number(s) for s in seconds)))
    table.notes.append("One position each; `import` is of scanfold's fits, lmfit and their dependencies.")
    return table
