"""A scan five times larger than all memory of the workers: no worker killed, nothing spilled, hardly slower."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import _files, _problem
from benchmarks._process import Method, peak_memory, race
from benchmarks._report import Figures, Table, number, spread

WORKERS, LIMIT, TIMES = 2, 768 * 2**20, 5
POINTS, ITEM = 400, 8
COLUMNS = 1600
#: The part of the scan that is held in memory for comparison.
HELD = 1 / 40
COPIES = 8
REPEATS = 3


def run(small: bool) -> Iterator[Table]:
    """Yield the tables."""
    times = 0.1 if small else TIMES
    rows = round(times * WORKERS * LIMIT / (COLUMNS * POINTS * ITEM) / _files.SIDE) * _files.SIDE
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "scan.h5"
        _files.write(path, rows, COLUMNS, POINTS, "float64")
        method = Method("memory", "benchmarks.memory:both", rows * COLUMNS, {"path": str(path), "held": HELD})
        race([method], 0)
    if method.first is None:
        raise RuntimeError(f"the run failed: {method.skipped}")
    answer = method.first.answer
    nbytes = rows * COLUMNS * POINTS * ITEM
    yield _figures(answer, nbytes)
    yield _table(answer, rows, nbytes)


@contextmanager
def both(path: str, held: float) -> Iterator[Callable[[], dict[str, Any]]]:
    """Fit a part held by the workers, then the whole from file to store, on one cluster."""
    from distributed import Client, LocalCluster

    # Compiling takes more memory than fitting; the workers find the code on disk.
    _fits(_scan(path, 0)[:1, :1].load()).compute(scheduler="sync")

    cluster = LocalCluster(n_workers=WORKERS, threads_per_worker=1, memory_limit=LIMIT, dashboard_address="127.0.0.1:0")
    with cluster, Client(cluster) as client:
        yield lambda: {
            "before": client.run(_state),
            "held": _held(client, path, held),
            "stored": _stored(path, held),
            "between": client.run(_state),
            "whole": _stored(path, 1.0),
            "after": client.run(_state),
            "read": _read(path),
            "log": [line for lines in client.get_worker_logs().values() for _, line in lines],
        }


def _scan(path: str, part: float) -> Any:
    import scanfold as sf

    scan = sf.open_scan(path)["counts"]
    return scan.isel(y=slice(0, max(_files.SIDE, round(scan.sizes["y"] * part / _files.SIDE) * _files.SIDE)))


def _fits(scan: Any, no_signal: float = 10.0) -> Any:
    import scanfold as sf

    return sf.fit(scan, _problem.composite(), dim="energy", weights="counts", no_signal=no_signal)


def _held(client: Any, path: str, part: float) -> list[float]:
    """Return positions per second from the workers' memory to memory: no file is read or written.

    The part is fitted several times at once, so that the time is that of fitting; another limit makes other tasks.
    """
    import dask
    from distributed import wait

    scan = _scan(path, part).chunk(y=_files.SIDE, x=COLUMNS // 4).persist()
    wait(scan)
    speeds = []
    for first in range(REPEATS):
        start = time.perf_counter()
        dask.compute(*(_fits(scan, 10.0 + (first * COPIES + i) / 100) for i in range(COPIES)))
        speeds.append(COPIES * scan[..., 0].size / (time.perf_counter() - start))
    return speeds


def _stored(path: str, part: float) -> list[float]:
    """Return positions per second from file to store."""
    import scanfold as sf

    scan = _scan(path, part)
    store = Path(path).with_name("fits.zarr")
    start = time.perf_counter()
    sf.save(_fits(scan), store, progress=False)
    elapsed = time.perf_counter() - start
    shutil.rmtree(store)
    return [scan[..., 0].size / elapsed]


def _read(path: str) -> list[float]:
    """Return positions per second that are read, and no more, on the workers."""
    import scanfold as sf

    scan = sf.open_scan(path)
    start = time.perf_counter()
    _files.read_all(scan)
    return [scan["counts"][..., 0].size / (time.perf_counter() - start)]


def _state(dask_worker: Any) -> dict[str, float]:
    """Return a worker's process, the peak of its memory, and the bytes that it ever spilled."""
    import os

    spilled = sum(
        amount for key, amount in getattr(dask_worker.data, "cumulative_metrics", {}).items()
        if key[0] == "disk-write" and key[-1] == "bytes"
    )  # fmt: skip
    return {"pid": os.getpid(), "peak": peak_memory(), "spilled": spilled}


def _figures(answer: dict[str, Any], nbytes: int) -> Figures:
    figures = Figures()
    times = nbytes / (WORKERS * LIMIT)
    figures.add("scan / memory of all workers", f"≥ {TIMES} ×", f"{number(times)} ×", times >= TIMES)
    before, after = ({w["pid"] for w in answer[k].values()} for k in ("before", "after"))
    figures.add("workers killed", "0", str(len(before - after)), before == after)
    spilled = sum(w["spilled"] for w in answer["after"].values()) - sum(
        w["spilled"] for w in answer["between"].values()
    )
    figures.add("bytes spilled to disk", "0", number(spilled), spilled == 0)
    share = answer["whole"][0] / statistics.median(answer["held"])
    figures.add("rate from file to store / rate in memory", "≥ 80 %", f"{share:.0%}", share >= 0.8)
    return figures


def _table(answer: dict[str, Any], rows: int, nbytes: int) -> Table:
    table = Table(
        f"{rows} × {COLUMNS} × {POINTS} float64, {nbytes / 2**30:.1f} GiB, on {WORKERS} processes of "
        f"{LIMIT / 2**20:.0f} MiB, Gaussian + line, default starts",
        ("run", "positions/s"),
    )
    table.rows += [
        (f"{HELD:.1%} of it, held by the workers, memory to memory, {COPIES} times over", spread(answer["held"])),
        ("the same part, from file to store", spread(answer["stored"])),
        ("the whole, from file to store", spread(answer["whole"])),
        ("the whole, reading it alone", spread(answer["read"])),
    ]
    for key, what in (("between", "before the whole"), ("after", "after it")):
        peaks = ", ".join(f"{w['peak'] / 2**20:.0f}" for w in answer[key].values())
        table.notes.append(f"Peak memory of the workers {what}: {peaks} MiB of {LIMIT / 2**20:.0f}.")
    alarms = [line for line in answer["log"] if any(word in line.lower() for word in ("pausing", "unmanaged", "spill"))]
    table.notes.append(f"Lines in the workers' logs about memory: {len(alarms)}.")
    table.notes += [f"`{line}`" for line in alarms[:2]]
    return table
