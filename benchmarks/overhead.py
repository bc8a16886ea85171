"""What is paid besides fitting: opening and graph, cost per position as scans grow, cost per block of a run."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import _files, _problem
from benchmarks._process import Method, race
from benchmarks._report import Figures, Table, number, spread

REPEATS = 3


def run(small: bool) -> Iterator[Table]:
    """Yield the tables."""
    sides = (20, 60) if small else (100, 320, 1000)
    counts = (10, 100) if small else (1000, 10_000)
    repeats = 1 if small else REPEATS
    with tempfile.TemporaryDirectory() as name:
        for side in sides:
            _files.write(Path(name) / f"{side}.h5", side, side, 100)
        graphs = _graphs(Path(name) / f"{sides[-1]}.h5", sides[-1])
        growing = _growing(Path(name), sides)
        blocks = [
            Method(f"{count:,}", "benchmarks.overhead:many_blocks", count, {"folder": name, "count": count})
            for count in counts
        ]
        race(graphs, repeats)
        race(growing, repeats)
        race(blocks, repeats)
    yield _figures(graphs, growing, blocks)
    yield _graph_table(graphs)
    yield _growth_table(growing)
    yield _block_table(blocks)


def _graphs(path: Path, side: int) -> list[Method]:
    chunkings: dict[str, Any] = {"as opened": "auto", "20 × 20 positions": {"y": 20, "x": 20},
                                 "10 × 10 positions": {"y": 10, "x": 10}}  # fmt: skip
    return [
        Method(label, "benchmarks.overhead:graph", side**2, {"path": str(path), "chunks": chunks})
        for label, chunks in chunkings.items()
    ]


@contextmanager
def graph(path: str, chunks: Any) -> Iterator[Callable[[], dict[str, float]]]:
    """Open a scan, ask for its fits and make their graph; nothing is computed."""
    import scanfold as sf

    model = _problem.composite()

    def work() -> dict[str, float]:
        start = time.perf_counter()
        scan = sf.open_scan(path, chunks=chunks)
        opened = time.perf_counter()
        fits = sf.fit(scan, model, dim="energy", weights="counts", engine="batch")
        asked = time.perf_counter()
        tasks = len(dict(fits.__dask_graph__()))
        ended = time.perf_counter()
        return {"open": opened - start, "fit": asked - opened, "graph": ended - asked, "tasks": tasks}

    yield work


def _growing(folder: Path, sides: tuple[int, ...]) -> list[Method]:
    return [
        Method(f"{side**2:,}", "benchmarks.published:to_store", side**2,
               {"path": str(folder / f"{side}.h5"), "weights": "counts"})
        for side in sides
    ]  # fmt: skip


@contextmanager
def many_blocks(folder: str, count: int) -> Iterator[Callable[[], dict[str, float]]]:
    """Save a scan whose work is next to nothing, one block for every chunk."""
    import numpy as np
    import xarray as xr

    from scanfold.runs import plan
    from scanfold.runs.store import compute_to

    store = Path(folder) / f"blocks-{count}.zarr"

    def work() -> dict[str, float]:
        shutil.rmtree(store, ignore_errors=True)
        values = xr.DataArray(np.ones((count, 16), np.float32), dims=("position", "energy"), name="counts")
        scan = (values.chunk(position=1) * 2).to_dataset()
        finished, stop = [], threading.Event()
        watcher = threading.Thread(target=_watch, args=(store, finished, stop))
        watcher.start()
        start = time.perf_counter()
        # `save` would merge blocks as small as these: their number is what is measured here.
        compute_to(scan, store, progress=False, groups=plan.cells(scan))
        elapsed = time.perf_counter() - start
        stop.set()
        watcher.join()
        return {"first": finished[0] - start if finished else float("nan"), "all": elapsed}

    yield work


def _watch(store: Path, finished: list[float], stop: threading.Event) -> None:
    """Note when the first block is in the ledger."""
    while not stop.wait(0.005):
        if any((store / ".scanfold" / "blocks").glob("*.json")):
            finished.append(time.perf_counter())
            return


def _figures(graphs: list[Method], growing: list[Method], blocks: list[Method]) -> Figures:
    figures = Figures()
    for method in graphs[:2]:  # finer blocks than the file's are nobody's choice; the table shows what they cost
        seconds = statistics.median(_all(r.answer) for r in method.runs)
        what = f"opening + graph of {method.positions:,} positions, {method.name}"
        figures.add(what, "< 2 s", f"{number(seconds)} s", seconds < 2)
    costs = [statistics.median(r.wall for r in m.runs) / m.positions * 1e6 for m in growing]
    wanted, measured = f"≤ {number(costs[0])} µs", f"{number(costs[-1])} µs"
    what = f"cost per position of {growing[-1].name}, against {growing[0].name} positions"
    figures.add(what, wanted, measured, costs[-1] <= costs[0])
    first = statistics.median(r.answer["first"] for r in blocks[-1].runs)
    figures.add(f"first of {blocks[-1].name} blocks finished after", "< 5 s", f"{number(first)} s", first < 5)
    return figures


def _all(answer: dict[str, float]) -> float:
    return answer["open"] + answer["fit"] + answer["graph"]


def _graph_table(methods: list[Method]) -> Table:
    table = Table(
        f"From a file of {methods[0].positions:,} positions × 100 points to the graph of its fits, seconds",
        ("chunks", "tasks", "open_scan", "fit", "graph", "all, median (min–max)", "first time in a process"),
    )
    for method in methods:
        answers = [r.answer for r in method.runs]
        parts = [number(statistics.median(a[k] for a in answers)) for k in ("open", "fit", "graph")]
        first = number(_all(method.first.answer)) if method.first else "–"
        table.rows.append((method.name, f"{answers[0]['tasks']:,}", *parts, spread([_all(a) for a in answers]), first))
    return table


def _growth_table(methods: list[Method]) -> Table:
    table = Table(
        "From HDF5 to store on 2 threads, 100 points, as the scan grows",
        ("positions", "seconds, median (min–max)", "µs per position", "memory, MB"),
    )
    for method in methods:
        walls = [r.wall for r in method.runs]
        cost = number(statistics.median(walls) / method.positions * 1e6)
        table.rows.append((method.name, spread(walls), cost, number(max(r.memory for r in method.runs) / 1e6)))
    return table


def _block_table(methods: list[Method]) -> Table:
    table = Table(
        "sf.save of blocks that hold one position and no work, on 2 threads",
        ("blocks", "first block finished after, s", "all, s, median (min–max)", "ms per block", "memory, MB"),
    )
    for method in methods:
        everything = [r.answer["all"] for r in method.runs]
        first = number(statistics.median(r.answer["first"] for r in method.runs))
        cost = number(statistics.median(everything) / method.positions * 1e3)
        memory = number(max(r.memory for r in method.runs) / 1e6)
        table.rows.append((method.name, first, spread(everything), cost, memory))
    return table
