"""``scanfold doctor``: what scanfold needs, whether it is here, and whether it works."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from scanfold.cli.info import size

HELP = "check versions, extras, memory, writing to a folder, and a small cluster"
EXAMPLE = "scanfold doctor --folder /scratch/me"

PACKAGES = ("scanfold", "numpy", "scipy", "xarray", "dask", "distributed", "zarr", "h5py", "lmfit", "numba",
            "matplotlib", "pandas")  # fmt: skip
#: Extra, the module that it brings, and what for.
EXTRAS = (
    ("hdf5", "hdf5plugin", "HDF5 files with blosc, bitshuffle, lz4, zstd compression"),
    ("remote", "s3fs", "scans and stores at s3:// and https://"),
    ("cluster", "dask_jobqueue", "workers that SLURM and other queues hand out, certificates"),
    ("vendor", "rsciio", "microscopes' own formats: dm3, dm4, mib, blo, tvips, wdf, bcf"),
    ("bragg", "NCrystal", "cross sections for Bragg edges"),
    ("stem", "skimage", "structural similarity, k-means of frames"),
    ("explore", "panel", "maps to click through in a browser"),
    ("gpu", "cupy", "products on a graphics card"),
)
#: HDF5's numbers of the filters that files of detectors have.
FILTERS = {"gzip": 1, "lzf": 32000, "blosc": 32001, "lz4": 32004, "bitshuffle": 32008, "zstd": 32015, "blosc2": 32026}


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, whether it is as it should be, and what was found."""

    name: str
    state: str  # "ok", "missing" (an extra) or "FAILED"
    found: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("--folder", default=".", help="folder that results will be written to (default: this one)")


def run(arguments: argparse.Namespace) -> int:
    """Print the checks as they end."""
    failed = 0
    for check in checks(Path(arguments.folder)):
        print(f"{check.state:<8}{check.name:<12}{check.found}", flush=True)
        failed += check.state == "FAILED"
    print(f"{failed} checks failed" if failed else "all is well")
    return 1 if failed else 0


def checks(folder: Path) -> Iterator[Check]:
    """Yield all checks."""
    yield Check("python", "ok", f"{platform.python_version()} on {platform.platform()}, {sys.executable}")
    yield from _packages()
    yield from _extras()
    yield _filters()
    yield _machine()
    yield _writing(folder)
    yield _cluster()


def _packages() -> Iterator[Check]:
    for name in PACKAGES:
        try:
            yield Check(name, "ok", metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Check(name, "FAILED", f"not installed; type: pip install {name}")


def _extras() -> Iterator[Check]:
    for extra, module, purpose in EXTRAS:
        if find_spec(module) is None:
            yield Check(f"[{extra}]", "missing", f'optional: {purpose}; type: pip install "scanfold[{extra}]"')
        else:
            yield Check(f"[{extra}]", "ok", purpose)


def _filters() -> Check:
    import h5py

    if find_spec("hdf5plugin") is not None:
        import hdf5plugin  # noqa: F401  (registers its filters)
    missing = [n for n, number in FILTERS.items() if not h5py.h5z.filter_avail(number)]
    present = ", ".join(n for n in FILTERS if n not in missing)
    if not missing:
        return Check("filters", "ok", present)
    return Check("filters", "missing", f'{present}; not {", ".join(missing)}; type: pip install "scanfold[hdf5]"')


def _machine() -> Check:
    import psutil

    memory = psutil.virtual_memory()
    return Check("machine", "ok", f"{os.cpu_count()} cores, {size(memory.available)} of {size(memory.total)} free")


def _writing(folder: Path) -> Check:
    """Save a small lazy scan there and read it again."""
    import numpy as np
    import xarray as xr

    from scanfold.runs import save

    values = np.arange(2**16, dtype="float64").reshape(256, 256)
    try:
        with tempfile.TemporaryDirectory(prefix="scanfold-doctor-", dir=folder) as inside:
            lazy = xr.DataArray(values, dims=("y", "x"), name="values").chunk(y=64)
            saved = save(lazy, Path(inside) / "store.zarr", progress=False)
            if not np.array_equal(saved["values"].values, values):
                return Check("writing", "FAILED", f"what was read from {folder} is not what was written")
            free = shutil.disk_usage(inside).free
    except Exception as error:
        return Check("writing", "FAILED", f"in {folder.resolve()}: {error}; pass another folder with --folder")
    return Check("writing", "ok", f"to {folder.resolve()}, {size(free)} free")


def _cluster() -> Check:
    """Start two workers, have them add, and look at where they listen."""
    from scanfold.runs.clients import local_client

    try:
        with local_client(2, 256 * 2**20) as client:
            total = client.submit(sum, [1, 2, 3]).result(timeout=30)
            exposed = sorted(
                {f"{a.ip}:{a.port}" for a in _listening() if not a.ip.startswith("127.") and a.ip != "::1"}
            )
    except Exception as error:
        return Check("cluster", "FAILED", f"{type(error).__name__}: {error}")
    if exposed:
        return Check("cluster", "FAILED", f"listens beyond this machine, on {', '.join(exposed)}")
    return Check(
        "cluster", "ok" if total == 6 else "FAILED", "2 workers started and stopped, listening on loopback only"
    )


def _listening() -> Iterator[Any]:
    """Yield the addresses on which this process and its children listen."""
    import psutil

    me = psutil.Process()
    for process in [me, *me.children(recursive=True)]:
        try:
            yield from (c.laddr for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN)
        except psutil.Error:
            continue
