"""A real Raman map (49 × 45 × 394; SCANFOLD_REAL_DATA), a Lorentzian on a line: both engines, time and agreement."""

from __future__ import annotations

import os
import statistics
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._process import Method, race
from benchmarks._report import Figures, Table, number, spread
from benchmarks.published import statuses

REPEATS = 3
WINDOW = slice(970.0, 1030.0)
PARAMETERS = ("amplitude", "center", "sigma", "slope", "intercept")


@contextmanager
def fitted(path: str, every: int, engine: str) -> Iterator[Callable[[], dict[str, Any]]]:
    """Open the map and fit it in this thread, with default starts."""
    import dask
    from lmfit.models import LinearModel, LorentzianModel

    import scanfold as sf

    model = LorentzianModel() + LinearModel()

    def work() -> dict[str, Any]:
        scan = sf.open_scan(path)
        counts = scan[scan.attrs["primary"]].isel(y=slice(None, None, every))
        counts = counts.sel(raman_shift=WINDOW)
        fits = sf.fit(counts, model, dim="raman_shift", weights="counts", engine=engine).compute()
        names = [*PARAMETERS, *(f"{n}_stderr" for n in PARAMETERS), "status", "redchi"]
        return {n: fits[n].values for n in names} | {"points": counts.sizes["raman_shift"]}

    with dask.config.set(scheduler="sync"):
        yield work


def run(small: bool) -> Iterator[Table]:
    """Yield the table; none without the data."""
    folder = os.environ.get("SCANFOLD_REAL_DATA")
    path = Path(folder or "") / "spectra" / "raman_map.h5"
    if not folder or not path.exists():
        print("skipped: SCANFOLD_REAL_DATA does not name a folder with spectra/raman_map.h5")
        return
    every = 16 if small else 4

    def method(engine: str, every: int) -> Method:
        arguments = {"path": str(path), "every": every, "engine": engine}
        return Method(engine, "benchmarks.raman:fitted", -(-49 // every) * 45, arguments)

    whole, batch, lmfit = method("batch", 1), method("batch", every), method("lmfit", every)
    race([whole, batch], 1 if small else REPEATS)
    race([lmfit], 1)
    yield from _tables(whole, batch, lmfit)


def _words(ours: Any, theirs: Any) -> Counter[tuple[str, str]]:
    """Count pairs of statuses by their names."""
    from scanfold.fitting import STATUS

    names = {number_: name for name, number_ in STATUS.items()}
    return Counter((names[int(a)], names[int(b)]) for a, b in zip(ours, theirs, strict=True))


def _tables(*methods: Method) -> Iterator[Table]:
    whole, batch, lmfit = (m.runs[0].answer for m in methods)
    converged = (batch["status"] == lmfit["status"]) & (batch["status"] == 1)
    largest = np.zeros(converged.shape)
    for name in PARAMETERS:
        largest = np.maximum(largest, np.abs(batch[name] - lmfit[name]) / lmfit[f"{name}_stderr"])
    share = float((largest[converged] < 1e-3).mean())
    same = float((batch["status"] == lmfit["status"]).mean())
    figures = Figures()
    figures.add("both converged: parameters within 10⁻³ standard errors", "100 %", f"{share:.2%}", share == 1.0)
    figures.add("positions to which both engines give the same status", "100 %", f"{same:.2%}", same == 1.0)
    yield figures
    table = Table(
        f"Spectra of {whole['points']} points, from HDF5 to memory, one core: the whole map, and some of its rows",
        ("engine", "positions", "seconds, median (min–max)", "fits/s", "memory, MB", "statuses"),
    )
    for method in methods:
        walls = [r.wall for r in method.runs]
        rate = number(method.positions / statistics.median(walls))
        found = statuses(method.runs[0].answer["status"])
        memory = number(max(r.memory for r in method.runs) / 1e6)
        table.rows.append((method.name, f"{method.positions:,}", spread(walls), rate, memory, found))
    most = largest[converged].max(initial=0.0)
    table.notes.append(
        f"Where both converged ({converged.sum():,} positions) their parameters differ by {most:.1e} standard errors "
        "at most. Times include poor fits that are tried again from other starts."
    )
    others = batch["status"] != lmfit["status"]
    pairs = ", ".join(
        f"{count} {a} / {b}" for (a, b), count in _words(batch["status"][others], lmfit["status"][others]).items()
    )
    either = int(((batch["status"] == 1) | (lmfit["status"] == 1))[others].sum())
    table.notes.append(
        f"Statuses differ at {others.sum()} positions (batch / lmfit: {pairs or 'none'}), of which {either} converged "
        "by either engine. A fit without a determined answer ends where its steps lead it, at a bound, in a flat "
        "valley or at the most evaluations allowed, and the two engines' steps differ."
    )
    yield table
