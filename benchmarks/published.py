"""A map of 400 × 400 spectra of 140 points, one peak, from a chunked file to a finished store on two cores.

160,000 such fits took 6.8 minutes elsewhere (SciLink's issue 362).
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import _files, _problem
from benchmarks._process import Method, race
from benchmarks._report import Figures, Table, number, spread

REPEATS = 3
LIMIT = 15.0
_OURS = "benchmarks.published:to_store"
_LOOPS = {"lmfit, Model.fit, plain function": {"plain": True}, "lmfit, Model.fit, its own models": {"plain": False}}


@contextmanager
def to_store(path: str, processes: int = 0, **options: Any) -> Iterator[Callable[[], dict[str, Any]]]:
    """Open, fit and save: on two threads of this process, or on a cluster that is up."""
    import scanfold as sf

    store = Path(path).with_name(f"fits-{processes}-{Path(path).suffix[1:]}-{len(options)}.zarr")
    model = _problem.composite()
    with ExitStack() as stack:
        if processes:
            from distributed import Client, LocalCluster

            cluster = LocalCluster(n_workers=processes, threads_per_worker=1, dashboard_address="127.0.0.1:0")
            stack.enter_context(Client(stack.enter_context(cluster)))

        def work() -> dict[str, Any]:
            shutil.rmtree(store, ignore_errors=True)
            scan = sf.open_scan(path)
            fits = sf.save(sf.fit(scan, model, dim="energy", **options), store, progress=False)
            return {
                "bytes": _files.size(store),
                "status": statuses(fits["status"].values),
                "center": fits["center"].values,
            }

        yield work


def statuses(values: Any) -> str:
    """Return how many positions have each status, in words."""
    from scanfold.fitting import STATUS

    counts = {name: int((values == number_).sum()) for name, number_ in STATUS.items()}
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)


def run(small: bool) -> Iterator[Table]:
    """Yield the tables."""
    rows, few = (40, 50) if small else (400, 500)
    with tempfile.TemporaryDirectory() as name:
        files = {kind: Path(name) / f"scan.{kind}" for kind in ("h5", "zarr")}
        for path in files.values():
            _files.write(path, rows, rows, 140)
        methods = [
            Method(f"{kind} → store, {where}, {label}", _OURS, rows**2, {"path": str(path), **setup, **options})
            for kind, path in files.items()
            for where, setup in (("2 threads", {}), ("2 processes", {"processes": 2}))
            for label, options in (("count weights", {"weights": "counts"}), ("Poisson", {"likelihood": "poisson"}))
        ]
        loops = [Method(n, "benchmarks.peers:lmfit_loop", few, {"positions": few, **o}) for n, o in _LOOPS.items()]
        floors = [
            Method(f"{kind}, reading alone, 2 threads", "benchmarks._files:read_only", rows**2, {"path": str(path)})
            for kind, path in files.items()
        ]
        race([*methods, *floors, *loops], 1 if small else REPEATS)
        sizes = {kind: _files.size(path) for kind, path in files.items()}
    yield _figures(methods)
    yield _table(methods, floors, loops, sizes, rows)


def _figures(methods: list[Method]) -> Figures:
    figures = Figures()
    worst = max(methods, key=lambda m: statistics.median(r.wall for r in m.runs))
    seconds = statistics.median(r.wall for r in worst.runs)
    figures.add(f"the slowest way ({worst.name})", f"< {LIMIT:.0f} s", f"{number(seconds)} s", seconds < LIMIT)
    first = max(m.first.wall for m in methods if m.first)
    figures.add("the slowest first run of a process", f"< {LIMIT:.0f} s", f"{number(first)} s", first < LIMIT)
    return figures


def _table(methods: list[Method], floors: list[Method], loops: list[Method], sizes: dict[str, int], rows: int) -> Table:
    table = Table(
        f"{rows} × {rows} × 140, seconds for the whole map",
        ("way", "seconds, median (min–max)", "first run in its process", "positions/s", "cores used", "memory, MB"),
    )
    for method in (*methods, *floors):
        walls = [r.wall for r in method.runs]
        cores = statistics.median(r.cpu / r.wall for r in method.runs)
        memory = max(r.memory for r in method.runs) / 1e6
        row = (method.name, spread(walls), number(method.first.wall) if method.first else "–",
               number(method.positions / statistics.median(walls)), number(cores), number(memory))  # fmt: skip
        table.rows.append(row)
    for loop in loops:
        if loop.skipped:
            continue
        rate = loop.positions / statistics.median(r.wall for r in loop.runs)
        row = (f"{loop.name}, in a loop", number(rows**2 / rate), "–", number(rate), "1", "–")
        table.rows.append(row)
    answers = {m.name: m.runs[0].answer for m in methods}
    for likelihood in ("count weights", "Poisson"):
        centers = [a["center"] for n, a in answers.items() if n.endswith(likelihood)]
        same = all(np.array_equal(centers[0], c, equal_nan=True) for c in centers)
        one = next(a for n, a in answers.items() if n.endswith(likelihood))
        table.notes.append(
            f"{likelihood}: `center` is {'bit-identical' if same else '**different**'} for both files, on threads and "
            f"processes; positions by status: {one['status']}; the store has {one['bytes'] / 1e6:.0f} MB."
        )
    table.notes += [
        f"Files: HDF5, gzip, {sizes['h5'] / 1e6:.0f} MB; zarr, zstd, {sizes['zarr'] / 1e6:.0f} MB; chunks of "
        f"{_files.SIDE} × {_files.SIDE} positions, uint16. Default options: starts guessed from each spectrum, poor "
        "fits tried again. The cluster is up before.",
        "The loops fit 500 spectra of 100 points on one core from memory, without opening or storing anything; their "
        "seconds are scaled to the whole map.",
    ]  # fmt: skip
    return table
