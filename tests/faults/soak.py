"""Run after run in one process and on the same two workers, with a line for each of what the three of them hold."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import scanfold as sf

from .jobs import JOBS, POINTS, opened, write

#: Positions of the scan that is fitted, and of one of its blocks.
SCAN, CHUNK = (80, 125), (4, 5)


def soak(folder: Path, seconds: float, log: Path) -> None:
    """Fit, gather and simulate in turn until the time is over; a line of `log` for each round."""
    from scanfold.runs.clients import local_client

    for name in ("fit", "gather", "simulate"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(1)
    center = rng.uniform(4, 6, SCAN)[..., None]
    values = rng.poisson(30 + 200 * np.exp(-((POINTS - center) ** 2) / 0.5)).astype("uint16")
    write(folder / "fit/source.h5", values, (*CHUNK, POINTS.size))
    for name in ("gather", "simulate"):
        JOBS[name].make(folder / name, "h5")
    begun, blocks = time.monotonic(), 0
    with local_client(2) as client:
        family = [psutil.Process(), *map(psutil.Process, client.run(_pid).values())]
        while time.monotonic() - begun < seconds:
            blocks += _many_fits(folder / "fit")
            for name in ("gather", "simulate"):
                JOBS[name].run(folder / name)
                blocks += _forget(folder / name)
            held = [[p.memory_info().rss, p.num_fds()] for p in family]
            with log.open("a") as stream:
                line = {"seconds": time.monotonic() - begun, "blocks": blocks, "held": held}
                stream.write(json.dumps(line) + "\n")


def _pid() -> int:
    return psutil.Process().pid


def _many_fits(folder: Path) -> int:
    """Fit the scan, each of its small chunks as a block."""
    import lmfit

    from scanfold.runs import plan
    from scanfold.runs.store import compute_to

    scan = opened(folder, ("y", "x", "energy")).chunk(y=CHUNK[0], x=CHUNK[1]).assign_coords(energy=POINTS)
    start: dict[str, Any] = {"c": 30, "sigma": {"value": 0.5, "min": 0.05}}
    model = lmfit.models.GaussianModel() + lmfit.models.ConstantModel()
    fits = sf.fit(scan, model, start, dim="energy", likelihood="poisson")
    compute_to(fits, folder / "out.zarr", progress=False, groups=plan.cells(fits))
    return _forget(folder)


def _forget(folder: Path) -> int:
    """Remove what a run left, and return how many blocks it had."""
    count = sum(1 for _ in folder.glob("out.zarr/.scanfold/blocks/*.json"))
    shutil.rmtree(folder / "out.zarr")
    return count


if __name__ == "__main__":
    soak(Path(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]))
