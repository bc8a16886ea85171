"""What a second worker brings, what a block costs, when the first of many is done, and memory as a scan grows."""

from __future__ import annotations

import _thread
import os
import shutil
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import _files, _problem, detectors, grouping
from benchmarks._process import Method, peak_memory, race
from benchmarks._report import Figures, Table, number, spread

#: Positions along a side: of the scan that is fitted, of that whose centres of mass are taken; patterns; groups.
SIDES = {"fits": 480, "centre of mass": 192, "grouping": 128}
GROUPS = 6000
COUNTS = (1000, 10_000, 100_000)
#: Seconds after which a run of blocks without work is stopped: what a block costs is known by then.
LONG = 15.0
#: Sides of the scans whose workers' memory is looked at: the last has 16 times the positions of the first.
GROWING = (200, 400, 800)
REPEATS = 3


def run(small: bool) -> Iterator[Table]:
    """Yield the tables."""
    sides = {name: 40 for name in SIDES} if small else SIDES
    counts = (100, 1000) if small else COUNTS
    growing = tuple(side // 5 for side in GROWING) if small else GROWING
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jobs = _jobs(folder, sides, GROUPS // 20 if small else GROUPS)
        for each in jobs.values():  # a few clusters at a time
            race(each, 1 if small else REPEATS)
        for count in (10, *counts):
            _write_rows(folder / f"rows-{count}.h5", count)
        blocks = {w: [_blocks(folder, count, w) for count in counts] for w in (0, 2)}
        for method in (m for each in blocks.values() for m in each):
            race([method], 0)  # one by one: what came before would be in the memory of the next
        for side in growing:
            _files.write(folder / f"{side}.h5", side, side, 100)
        memory = Method("memory", "benchmarks.scaling:grown", 1, {"folder": name, "sides": growing})
        race([memory], 0)
        _require(jobs, blocks, memory)
        yield _figures(blocks, memory, counts, growing)
        yield _jobs_table(jobs)
        yield _blocks_table(blocks)
        yield _memory_table(memory)


def _require(jobs: Any, blocks: Any, memory: Method) -> None:
    """Raise if a run failed."""
    every = [m for each in [*jobs.values(), *blocks.values()] for m in each] + [memory]
    if failed := [f"{m.name}: {m.skipped}" for m in every if m.skipped]:
        raise RuntimeError("; ".join(failed))


def _jobs(folder: Path, sides: dict[str, int], groups: int) -> dict[str, list[Method]]:
    """Return one job of each kind on one worker process and on two."""
    _files.write(folder / "fits.h5", sides["fits"], sides["fits"], 100)
    detectors.write(folder / "frames.h5", sides["centre of mass"], sides["centre of mass"])
    detectors.write_zarr(folder / "com.zarr", folder / "frames.h5")
    (folder / "frames.h5").unlink()
    grouping.write_frames(str(folder), sides["grouping"] ** 2)
    positions = {"fits": sides["fits"] ** 2, "centre of mass": sides["centre of mass"] ** 2, "grouping": groups}
    return {
        job: [
            Method(f"{job}, {workers}", "benchmarks.scaling:on_workers", count,
                   {"folder": str(folder), "job": job, "workers": workers, "groups": groups})
            for workers in (1, 2)
        ]
        for job, count in positions.items()
    }  # fmt: skip


@contextmanager
def on_workers(folder: str, job: str, workers: int, groups: int) -> Iterator[Callable[[], float]]:
    """Do a job from file to store on worker processes of one thread; the answer is a sum of its result."""
    import scanfold as sf
    from scanfold.grouping import gather, plan_groups
    from scanfold.runs.clients import local_client

    store = Path(folder) / f"{job}-{workers}.zarr".replace(" ", "-")

    def made() -> Any:
        if job == "fits":
            return sf.fit(sf.open_scan(f"{folder}/fits.h5"), _problem.composite(), dim="energy", weights="counts")
        if job == "centre of mass":
            return sf.detectors.center_of_mass(sf.open_scan(f"{folder}/com.zarr")["patterns"])
        scan = sf.open_scan(f"{folder}/frames.zarr", format="ptycho")
        return gather(scan, plan_groups(scan, nsamples=groups, gridsize=2, K=7))

    def work() -> float:
        shutil.rmtree(store, ignore_errors=True)
        saved = sf.save(made(), store, progress=False)
        name = {"fits": "center", "centre of mass": "com_y", "grouping": "nn_indices"}[job]
        return float(np.nansum(saved[name].values, dtype=np.float64))

    os.environ["ZARR_THREADING__MAX_WORKERS"] = "1"  # otherwise one worker unpacks chunks on all cores
    with local_client(workers):
        yield work


def _write_rows(path: Path, count: int) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file["counts"] = np.ones((count, 16), np.float32)


def _blocks(folder: Path, count: int, workers: int) -> Method:
    arguments = {"folder": str(folder), "count": count, "workers": workers}
    return Method(f"{count:,}", "benchmarks.scaling:many_blocks", count, arguments)


@contextmanager
def many_blocks(folder: str, count: int, workers: int) -> Iterator[Callable[[], dict[str, float]]]:
    """Save rows of a file without any work, each a block; stop after a while."""
    import scanfold as sf
    from scanfold.runs import plan
    from scanfold.runs.clients import local_client
    from scanfold.runs.store import compute_to

    store = Path(folder) / f"blocks-{count}-{workers}.zarr"
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background job ignores

    def rows(number: int) -> Any:
        scan = sf.open_scan(f"{folder}/rows-{number}.h5", chunks={"position": 1}, dims=("position", "energy"))
        return (scan[["counts"]] * 2).drop_attrs()

    def work() -> dict[str, float]:
        sf.save(rows(10), store, progress=False)  # what is imported once, here and by the workers
        shutil.rmtree(store)
        before = peak_memory(reset=True)
        start = time.perf_counter()
        wanted = rows(count)
        seen: list[float] = []
        ended = threading.Event()
        watcher = threading.Thread(target=_watch, args=(store, start, seen, ended))
        watcher.start()
        try:
            compute_to(wanted, store, progress=False, groups=plan.cells(wanted))
        except KeyboardInterrupt:  # of the watcher
            pass
        ended.set()
        watcher.join()
        elapsed = time.perf_counter() - start
        memory = peak_memory() - before
        done = sum(1 for _ in (store / ".scanfold" / "blocks").glob("*.json"))
        shutil.rmtree(store)
        return {"first": seen[0], "all": elapsed, "done": done, "memory": memory}

    with local_client(workers) if workers else nullcontext():
        yield work


def _watch(store: Path, start: float, seen: list[float], ended: threading.Event) -> None:
    """Note when the first block is in the ledger, and interrupt the run when it has lasted long enough."""
    while not ended.wait(0.005):
        if not seen and any((store / ".scanfold" / "blocks").glob("*.json")):
            seen.append(time.perf_counter() - start)
        if seen and time.perf_counter() - start > LONG:
            _thread.interrupt_main()
            return


@contextmanager
def grown(folder: str, sides: tuple[int, ...]) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Fit scans that grow, in blocks of one size, on two workers; return each worker's peak of memory in each."""
    import scanfold as sf
    from scanfold.runs.clients import local_client

    def fitted(side: int) -> None:
        store = Path(folder) / "grown.zarr"
        scan = sf.open_scan(f"{folder}/{side}.h5", chunks={"y": 20, "x": sides[0]})
        sf.save(sf.fit(scan, _problem.composite(), dim="energy", weights="counts"), store, progress=False)
        shutil.rmtree(store)

    with local_client(2) as client:

        def work() -> list[dict[str, Any]]:
            fitted(sides[0])  # compiled code is loaded
            found = []
            for side in sides:
                client.run(reset_peak)
                fitted(side)
                found.append({"positions": side**2, "peaks": list(client.run(peak_memory).values())})
            return found

        yield work


def reset_peak() -> None:
    """Forget the peak of this process's memory so far."""
    peak_memory(reset=True)


def _figures(blocks: Any, memory: Method, counts: tuple[int, ...], growing: tuple[int, ...]) -> Figures:
    figures = Figures()
    middle = counts.index(10_000) if 10_000 in counts else -1
    for workers, where in ((0, "threads"), (2, "2 processes")):
        first = blocks[workers][middle].first.answer["first"]
        what = f"first of {blocks[workers][middle].name} blocks finished after, {where}"
        figures.add(what, "< 5 s", f"{number(first)} s", first < 5)
    assert memory.first is not None
    peaks = [max(each["peaks"]) for each in memory.first.answer]
    times = (growing[-1] / growing[0]) ** 2
    ratio = peaks[-1] / peaks[0]
    figures.add(f"peak of a worker, scan {times:.0f} times as large", "≤ 1.1 ×", f"{number(ratio)} ×", ratio <= 1.1)
    return figures


def _jobs_table(jobs: dict[str, list[Method]]) -> Table:
    table = Table(
        "From file to store on worker processes of one thread",
        (
            "job",
            "1 worker, s, median (min–max)",
            "2 workers, s",
            "positions or groups/s on 2",
            "2 / 1",
            "cores used, 1 and 2",
        ),
    )
    for job, (one, two) in jobs.items():
        if one.runs[0].answer != two.runs[0].answer:
            raise RuntimeError(f"{job}: two workers gave another answer than one")
        walls = [[r.wall for r in m.runs] for m in (one, two)]
        rate = two.positions / statistics.median(walls[1])
        gain = statistics.median(walls[0]) / statistics.median(walls[1])
        what = f"{job}, {one.positions:,} {'groups' if job == 'grouping' else 'positions'}"
        used = ", ".join(number(statistics.median(r.cpu / r.wall for r in m.runs)) for m in (one, two))
        table.rows.append((what, *map(spread, walls), number(rate), f"{gain:.2f} ×", used))
    table.notes.append(
        "The answers on one worker and on two are equal. Each worker unpacks zarr's chunks on one thread, which zarr "
        "does on all cores by default. Cores used counts workers and client; where two workers use hardly more of them "
        "than one, something else on the machine had the rest."
    )
    return table


def _blocks_table(blocks: dict[int, list[Method]]) -> Table:
    table = Table(
        "sf.save of blocks that read one row of a file and do nothing with it: what a block and a graph cost",
        ("blocks", "where", "first finished after, s", "ms per block", "memory of the client, MB"),
    )
    for workers, methods in blocks.items():
        for method in methods:
            assert method.first is not None
            answer = method.first.answer
            cost = (answer["all"] - answer["first"]) / answer["done"] * 1e3
            where = f"{workers} processes" if workers else "2 threads"
            table.rows.append(
                (method.name, where, number(answer["first"]), number(cost), number(answer["memory"] / 1e6))
            )
    table.notes.append(
        f"From opening the file on, in processes that have imported what they need; a run stops after {LONG:.0f} s."
    )
    return table


def _memory_table(memory: Method) -> Table:
    table = Table(
        "Fits from file to store on 2 processes, as the scan grows", ("positions", "peak of each worker, MiB")
    )
    assert memory.first is not None
    for each in memory.first.answer:
        table.rows.append((f"{each['positions']:,}", ", ".join(f"{p / 2**20:.0f}" for p in each["peaks"])))
    return table
