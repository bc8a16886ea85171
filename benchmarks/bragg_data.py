"""Opening Bragg-edge counts of many groups from CSV, beside nbragg: time, memory, and 10,000 files."""

from __future__ import annotations

import gc
import statistics
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._process import Method, race
from benchmarks._report import Figures, Table, number, spread

REPEATS = 5
SIDE, MANY, BINS = 16, 10_000, 500


def run(small: bool) -> Iterator[Table]:
    """Yield the tables."""
    side, many, repeats = (4, 100, 1) if small else (SIDE, MANY, REPEATS)
    with tempfile.TemporaryDirectory() as name:
        grid, line = Path(name) / "grid", Path(name) / "line"
        _write_grid(grid, side)
        _write_line(line, many)
        speed = [_method(how, grid, side**2) for how in ("scanfold, to fit", "scanfold, all in memory",
                                                         "scanfold, block by block", "nbragg",
                                                         "floor: pandas.read_csv of every file")]  # fmt: skip
        traced = [_method(m.name, grid, side**2, traced=True) for m in speed]
        large = [_method(how, line, many, traced=traced_) for how in ("scanfold, to fit", "scanfold, block by block")
                 for traced_ in (False, True)]  # fmt: skip
        race(speed, repeats)
        race(traced, 1)
        race(large, 1 if small else 2)
    yield _figures(speed, traced, large)
    yield _table(f"{side**2} groups, each a signal and an open beam of {BINS} bins, from CSV", speed, traced)
    yield _table(f"{many:,} groups and one open beam, {BINS} bins, from CSV", large[::2], large[1::2])


def _method(how: str, folder: Path, groups: int, *, traced: bool = False) -> Method:
    return Method(how, "benchmarks.bragg_data:opened", groups, {"how": how, "folder": str(folder), "traced": traced})


def _write_grid(folder: Path, side: int) -> None:
    folder.mkdir()
    rng = np.random.default_rng(1)
    for y, x in np.ndindex(side, side):
        for kind, level in (("signal", 2000), ("ob", 4000)):
            _write(folder / f"{kind}_x{x}_y{y}.csv", rng.poisson(level, BINS))


def _write_line(folder: Path, many: int) -> None:
    folder.mkdir()
    rng = np.random.default_rng(2)
    _write(folder / "open.csv", rng.poisson(4000, BINS))
    for i in range(many):
        _write(folder / f"signal_{i}.csv", rng.poisson(2000, BINS))


def _write(path: Path, counts: np.ndarray) -> None:
    rows = zip(range(1, counts.size + 1), counts.tolist(), np.sqrt(counts).tolist(), strict=True)
    path.write_text("stack,counts,err\n" + "\n".join(f"{i},{c},{e}" for i, c, e in rows) + "\n")


@contextmanager
def opened(how: str, folder: str, traced: bool) -> Iterator[Callable[[], dict[str, Any]]]:
    """Open the counts, in one thread; say what the transmission is, and with `traced` what memory it takes."""
    import dask

    load = _pandas(folder) if "pandas" in how else _nbragg(folder) if how == "nbragg" else _scanfold(folder, how)

    def work() -> dict[str, Any]:
        if not traced:
            return {"mean": load()[1]}
        gc.collect()
        tracemalloc.start()
        held, mean = load()
        gc.collect()
        now, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        del held
        return {"mean": mean, "held": now, "peak": peak}

    with dask.config.set(scheduler="sync"):
        yield work


def _scanfold(folder: str, how: str) -> Callable[[], tuple[Any, Any]]:
    from scanfold import bragg

    place = Path(folder)
    beams = str(place / "ob_*.csv") if (place / "ob_x0_y0.csv").exists() else str(place / "open.csv")

    def load() -> tuple[Any, Any]:
        data = bragg.Data.from_grouped(str(place / "signal_*.csv"), beams)
        if how == "scanfold, to fit":
            return data, None
        spectra = data.dataset[["transmission", "transmission_err"]]
        if how == "scanfold, all in memory":
            kept = spectra.compute()
            return kept, kept["transmission"].mean("tof").values
        means = spectra.mean("tof").compute()
        return means, means["transmission"].values

    return load


def _nbragg(folder: str) -> Callable[[], tuple[Any, Any]]:
    import nbragg

    def load() -> tuple[Any, Any]:
        data = nbragg.Data.from_grouped(f"{folder}/signal_*.csv", f"{folder}/ob_*.csv", n_jobs=1, verbosity=0)
        shape = data.group_shape
        mean = np.array([[data.groups[f"({x},{y})"]["trans"].mean() for x in range(shape[1])] for y in range(shape[0])])
        return data, mean

    return load


def _pandas(folder: str) -> Callable[[], tuple[Any, Any]]:
    import pandas as pd

    return lambda: ([pd.read_csv(path) for path in sorted(Path(folder).glob("*.csv"))], None)


def _figures(speed: list[Method], traced: list[Method], large: list[Method]) -> Figures:
    figures = Figures()
    by_name = {m.name: (m, t) for m, t in zip(speed, traced, strict=True)}
    peer = by_name["nbragg"]
    for name in ("scanfold, to fit", "scanfold, all in memory"):
        method, memory = by_name[name]
        if peer[0].skipped or peer[1].skipped:
            break
        ratio = statistics.median(p.wall / o.wall for p, o in zip(peer[0].runs, method.runs, strict=True))
        held = peer[1].runs[0].answer["held"] / memory.runs[0].answer["held"]
        figures.add(f"nbragg / {name}: seconds", "≥ 10 ×", f"{number(ratio)} ×", ratio >= 10)
        figures.add(f"nbragg / {name}: memory held", "≥ 20 ×", f"{number(held)} ×", held >= 20)
    done = not large[2].skipped and np.isfinite(large[2].runs[0].answer["mean"]).all()
    figures.add(f"{large[2].positions:,} groups", "work", "work" if done else "do not", bool(done))
    return figures


def _table(caption: str, speed: list[Method], traced: list[Method]) -> Table:
    table = Table(caption, ("method", "seconds, median (min–max)", "ms per group", "held, MB", "peak, MB"))
    for method, memory in zip(speed, traced, strict=True):
        if method.skipped or memory.skipped:
            continue
        walls = [r.wall for r in method.runs]
        answer = memory.runs[0].answer
        cost = number(statistics.median(walls) / method.positions * 1e3)
        table.rows.append(
            (method.name, spread(walls), cost, number(answer["held"] / 1e6), number(answer["peak"] / 1e6))
        )
    means = [m.runs[0].answer["mean"] for m in speed if not m.skipped and m.runs[0].answer["mean"] is not None]
    off = max((float(np.abs(m / means[0] - 1).max()) for m in means[1:]), default=0.0)
    table.notes = [
        "to fit: opened, nothing but the first files read, as a fit needs it; all in memory: transmission and error of "
        "every group too; block by block: all read, and the mean transmission of each group kept. One thread each.",
        f"Held and peak: what Python and NumPy allocated (tracemalloc), after and during. The mean transmissions "
        f"agree to {off:.0e}.",
    ]
    return table
