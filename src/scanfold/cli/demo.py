"""``scanfold demo``: a scan larger than the memory of its workers, fitted, drawn, and held against its truth."""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import numpy.typing as npt

from scanfold.cli.info import size
from scanfold.cli.options import scan_shape, taken
from scanfold.conventions import InputError

HELP = "make a scan larger than the memory allowed to it, fit it, and compare with the truth"
EXAMPLE = "scanfold demo --out demo"

SEED = 20
POINTS = 400
#: The part of the spectrum that is fitted, in 1/cm.
WINDOW = (970.0, 1030.0)
WORKERS, MEMORY = 2, 512 * 2**20
#: Rows of the map in one chunk of the file.
ROWS = 8

Array = npt.NDArray[np.float64]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument(
        "--out", metavar="FOLDER", default="scanfold_demo", help="where to write (default: %(default)s)"
    )
    parser.add_argument("--size", metavar="NY,NX", default="880,800", help="size of the map (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="keep the scan, which is deleted otherwise")


def shifts() -> Array:
    """Return the axis of the spectra, in 1/cm."""
    return np.linspace(900.0, 1140.0, POINTS)


def truth(y: Array, x: Array) -> dict[str, Array]:
    """Return the true parameters where `y` and `x` run from 0 to 1: a line, but in small holes, on a background."""
    hole = np.sin(40 * x + 5 * y) * np.cos(40 * y - 3 * x) > 0.999
    return {
        "amplitude": np.where(hole, 0.0, 9000.0 + 6000.0 * np.sin(9 * x + 2 * y) * np.cos(7 * y - 3 * x)),
        "center": 1001.0 + 2.0 * np.sin(4 * x) * np.sin(5 * y),
        "sigma": 2.5 + 0.8 * x * y,
        "slope": 0.05 - 0.1 * x + 0.0 * y,
        "intercept": 60.0 + 100.0 * x + 20.0 * y,
    }


@dataclass(frozen=True)
class Rows:
    """Make rows of the map, each with its own generator: row numbers (n,) → counts (n, nx, points)."""

    ny: int
    nx: int

    def __call__(self, numbers: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        """Draw the counts."""
        axis, x = shifts(), np.arange(self.nx) / self.nx
        out = np.empty((numbers.size, self.nx, POINTS), np.float32)
        for place, number in enumerate(np.asarray(numbers, np.int64)):
            p = {k: v[:, None] for k, v in truth(np.full(self.nx, number / self.ny), x).items()}
            line = p["amplitude"] * p["sigma"] / np.pi / ((axis - p["center"]) ** 2 + p["sigma"] ** 2)
            generator = np.random.Generator(np.random.Philox(key=[SEED, int(number)]))
            out[place] = generator.poisson(line + p["slope"] * axis + p["intercept"])
        return out


def make_scan(ny: int, nx: int) -> Any:
    """Return the scan as a lazy Dataset, (y, x | raman_shift)."""
    import xarray as xr

    from scanfold._apply import apply_kernel, count_along

    counts = apply_kernel(
        Rows(ny, nx),
        count_along("y", ny, ROWS),
        core_dims=[[]],
        output={"x": nx, "raman_shift": POINTS},
        token=f"demo-{SEED}-{ny}-{nx}-{POINTS}",
        dtype="float32",
    )
    axes = {"y": np.arange(ny), "x": np.arange(nx), "raman_shift": shifts()}
    units = {"y": "um", "x": "um", "raman_shift": "1/cm"}
    coords = {d: (d, v.astype(float), {"units": units[d]}) for d, v in axes.items()}
    counts = counts.assign_coords(coords).assign_attrs(units="count", long_name="Raman counts")
    return xr.Dataset({"counts": counts}, attrs={"primary": "counts"})


def run(arguments: argparse.Namespace) -> int:
    """Make, fit, draw, compare."""
    ny, nx = scan_shape(taken("scan_shape", arguments.size))
    nbytes = ny * nx * POINTS * 4
    folder = Path(arguments.out)
    _prepare(folder, nbytes)
    from scanfold.cli.pictures import draw_maps
    from scanfold.report import report
    from scanfold.runs.clients import local_client

    start = time.monotonic()
    print(
        f"A scan of {ny} x {nx} spectra of {POINTS} points: {size(nbytes)}. "
        f"{WORKERS} workers of {size(MEMORY)} each: {size(WORKERS * MEMORY)} in all."
    )
    with local_client(WORKERS, MEMORY) as client:
        fits = _compute(folder, ny, nx)
        peak = max(client.run(_peak_memory).values())
    print(f"A worker took {size(peak)} at most, of {size(MEMORY)}.")
    with _timed("maps and report"):
        draw_maps(fits, folder / "maps")
        report(fits, folder / "report.html")
    loaded = fits.compute()
    for line in compare(loaded):
        print(line)
    if not arguments.keep:
        shutil.rmtree(folder / "scan.zarr")
    print(f"Wrote fits.zarr, maps and report.html in {folder}: {time.monotonic() - start:.0f} s in all.")
    return 0


def _compute(folder: Path, ny: int, nx: int) -> Any:
    """Write the scan and its fits, both block by block, and return the fits."""
    from scanfold.io import open_scan
    from scanfold.runs import save

    # without the scan, fits that are there are those of an earlier demo
    resume = (folder / "scan.zarr").exists()
    # once here, while the workers draw counts, rather than in each of them: numba keeps what it compiled on disk
    compiling = Thread(target=lambda: fit_line(make_scan(1, 1)).compute(scheduler="synchronous"))
    with _timed("making the scan, and compiling the model"):
        compiling.start()
        save(make_scan(ny, nx), folder / "scan.zarr", resume=resume)
        compiling.join()
    with _timed("fitting"):
        return save(fit_line(open_scan(folder / "scan.zarr")), folder / "fits.zarr", resume=resume)


def fit_line(scan: Any) -> Any:
    """Return the fits of the line, lazily."""
    from lmfit.models import LinearModel, LorentzianModel

    from scanfold.fitting import fit

    window = scan["counts"].sel(raman_shift=slice(*WINDOW))
    return fit(window, LorentzianModel() + LinearModel(), dim="raman_shift", likelihood="poisson")


def _prepare(folder: Path, nbytes: int) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}; pass another one with --out") from None
    free = shutil.disk_usage(folder).free
    if free < 1.5 * nbytes:
        raise InputError(f"{folder} has {size(free)} free; the demo needs {size(1.5 * nbytes)}; pass another --out")


@contextmanager
def _timed(what: str) -> Iterator[None]:
    print(f"{what} ...", flush=True)
    start = time.monotonic()
    yield
    print(f"{what}: {time.monotonic() - start:.1f} s", flush=True)


def _peak_memory() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def compare(fits: Any) -> Iterator[str]:
    """Yield a table of recovered and true values, over the positions that have a line."""
    from scanfold.fitting import STATUS

    ny, nx = fits.sizes["y"], fits.sizes["x"]
    true = truth(*np.meshgrid(np.arange(ny) / ny, np.arange(nx) / nx, indexing="ij"))
    line = true["amplitude"] > 0
    status = fits["status"].values
    good = line & (status == STATUS["converged"])
    yield ""
    yield f"{good.sum():,} fits with a line, recovered against true:"
    yield f"{'parameter':<10}{'true mean':>12}{'recovered':>12}{'pull mean':>11}{'pull width':>11}"
    for name, values in true.items():
        found, errors = fits[name].values[good], fits[f"{name}_stderr"].values[good]
        pulls = (found - values[good]) / errors
        yield f"{name:<10}{values[good].mean():>12.5g}{found.mean():>12.5g}{pulls.mean():>11.3f}{pulls.std():>11.3f}"
    yield "(a pull is (recovered - true) / error: mean 0 and width 1 where the errors are right)"
    yield f"with a line:    {good.sum() / max(line.sum(), 1):8.3%} converged"
    flagged = (status[~line] != STATUS["converged"]).sum()
    yield f"without a line: {flagged / max((~line).sum(), 1):8.3%} flagged, not believed"
    yield ""
