"""The six jobs: a small input on disk, the lines that a user types, and what they leave."""

from __future__ import annotations

import ctypes
import json
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from runs import toys
from zarr.codecs import ZstdCodec

import scanfold as sf

POINTS = np.linspace(0, 10, 60)
#: Rings that suit a detector of 32 × 32.
RINGS = {"templates": {"roi_r": [2, 14]}, "preprocess": {"central_mask_px": 2}, "dpc": {"roi": [2, 14]}}


@dataclass(frozen=True)
class Job:
    """One job.

    Parameters
    ----------
    name : str
    make : callable
        ``make(folder, form)`` writes the input, in HDF5 ("h5") or zarr.
    run : callable
        ``run(folder)`` does the job; the second time it goes on.
    out : str
        What it writes, in that folder.
    files : bool
        Whether a finished unit is a file of results, not a block of a store.
    """

    name: str
    make: Callable[[Path, str], None]
    run: Callable[[Path], Any]
    out: str = "out.zarr"
    files: bool = False

    def source(self, folder: Path) -> Path:
        """Return the input that trials damage."""
        return next(iter(sorted(folder.glob("source.*"))))


@dataclass(frozen=True)
class Clean:
    """An uninterrupted run of a job: its folder, what it left, its units, its seconds."""

    job: Job
    folder: Path
    results: dict[str, np.ndarray | bytes]
    units: int
    seconds: float


def each(*always: str) -> pytest.MarkDecorator:
    """Put every job through a trial; those that are named in every run of the tests, the others in the matrix."""
    rest = [pytest.param(name, marks=pytest.mark.trial) for name in JOBS if name not in always]
    return pytest.mark.parametrize("name", [*always, *rest])


def write(path: Path, values: np.ndarray, chunks: tuple[int, ...]) -> None:
    """Write an array with checksums, as HDF5 or zarr."""
    if path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file.create_dataset("data", data=values, chunks=chunks, fletcher32=True)
    else:
        zarr.create_array(str(path), data=values, chunks=chunks, compressors=[ZstdCodec(checksum=True)])


def opened(folder: Path, dims: tuple[str, ...]) -> xr.DataArray:
    """Open the input again."""
    ds = sf.open_scan(next(folder.glob("source.*")), dims=dims)
    return ds[ds.attrs["primary"]]


def _make_fit(folder: Path, form: str) -> None:
    y, x = np.mgrid[0:192, 0:128]
    center, height = 5 + np.sin(y / 15)[..., None], 200 + x[..., None]
    expected = 30 + height * np.exp(-((POINTS - center) ** 2) / 0.5)
    values = np.random.default_rng(1).poisson(expected).astype("uint16")
    write(folder / f"source.{form}", values, (12, 32, POINTS.size))


def _run_fit(folder: Path) -> Any:
    import lmfit

    scan = opened(folder, ("y", "x", "energy")).assign_coords(energy=POINTS)
    model = lmfit.models.GaussianModel() + lmfit.models.ConstantModel()
    start = {"c": 30, "sigma": {"value": 0.5, "min": 0.05}}
    fits = sf.fit(scan, model, start, dim="energy", likelihood="poisson")
    return sf.save(fits, folder / "out.zarr", progress=False)


def _make_bragg(folder: Path, form: str) -> None:
    from scanfold import bragg

    model = bragg.TransmissionModel(bragg.CrossSection(iron="Fe_sg229_Iron-alpha"), vary_basic=True)
    tof = np.arange(1, 201) * 5e-5
    curve = model.evaluate({}, _wavelength(tof), flight_path=9.0, bin_width=_wavelength(tof)[1] - _wavelength(tof)[0])
    rng = np.random.default_rng(2)
    counts = rng.poisson(400 * curve, (64, 72, 200)).astype("uint16")
    write(folder / f"source.{form}", np.moveaxis(counts, -1, 0).copy(), (200, 8, 12))
    np.save(folder / "openbeam.npy", rng.poisson(400, 200).astype(float))


def _wavelength(tof: np.ndarray) -> np.ndarray:
    return 3956.034 * tof / 9.0


def _run_bragg(folder: Path) -> Any:
    from scanfold import bragg

    model = bragg.TransmissionModel(bragg.CrossSection(iron="Fe_sg229_Iron-alpha"), vary_basic=True)
    source = next(folder.glob("source.*"))
    data = bragg.Data.from_grouped(source, np.load(folder / "openbeam.npy"), tstep=5e-5)
    return model.fit(data, wlmin=1.0, wlmax=4.0, likelihood="poisson").save(folder / "out.zarr")


def _make_traces(folder: Path, form: str) -> None:
    times = np.arange(90) / 4.0
    for number in range(12):
        rng = np.random.default_rng(number)
        rate, height = rng.uniform(0.05, 0.4, (2, 40))
        values = 500 * height * np.exp(-times[:, None] * rate) + 20 + rng.normal(size=(90, 40))
        rows = [",".join(["time", *map(str, range(40))])]
        rows += [",".join(f"{v:.5g}" for v in (t, *row)) for t, row in zip(times, values, strict=True)]
        (folder / f"source.{number:02}.csv").write_text("\n".join(rows) + "\n")


def _run_traces(folder: Path) -> Any:
    from scanfold.traces import FittingRequest, fit_folder

    (folder / "out").mkdir(exist_ok=True)
    run = fit_folder(folder, FittingRequest("maturation"), out=folder / "out", progress=False)
    if run.failures:
        raise sf.ScanError(json.dumps(run.failures))
    return run


def _make_gather(folder: Path, form: str) -> None:
    rng = np.random.default_rng(3)
    write(folder / f"source.{form}", rng.poisson(3.0, (600, 64, 64)).astype("uint16"), (20, 64, 64))
    np.save(folder / "positions.npy", rng.uniform(0, 100, (600, 2)))


def _run_gather(folder: Path) -> Any:
    from scanfold import grouping

    y, x = np.load(folder / "positions.npy").T
    frames = opened(folder, ("position", "ky", "kx"))
    scan = frames.assign_coords(position_y=("position", y), position_x=("position", x))
    plan = grouping.plan_groups(scan, nsamples=1500, gridsize=2, enable_oversampling=True, K=10, seed=4)
    return sf.save(grouping.gather(scan, plan, chunks=25), folder / "out.zarr", progress=False)


def _make_simulate(folder: Path, form: str) -> None:
    from scanfold import ptycho

    image = ptycho.lines(256, seed=4, phase=True).values
    write(folder / f"source.{form}", np.stack([image.real, image.imag]).astype("f4"), (1, 64, 64))


def _run_simulate(folder: Path) -> Any:
    from scanfold import ptycho

    parts = opened(folder, ("part", "object_y", "object_x"))
    image = (parts[0] + 1j * parts[1]).drop_vars(list(parts.coords), errors="ignore")
    probe = ptycho.default_probe(64)
    sim = ptycho.generate_simulated_data(image, probe, n_images=1600, nphotons=1e6, chunks=40, seed=7)
    return sf.save(sim, folder / "out.zarr", progress=False)


def _make_polar_map(folder: Path, form: str) -> None:
    rng = np.random.default_rng(5)
    labels = np.arange(40 * 48).reshape(40, 48) // 160 % 3
    ky, kx = np.mgrid[0:32, 0:32] - 15.5
    disc = 30 / (1 + np.exp(2 * (np.hypot(ky, kx) - 5)))
    spots = [6 * np.exp(-((ky - 9 * np.sin(2.1 * n)) ** 2 + (kx - 9 * np.cos(2.1 * n)) ** 2) / 5) for n in range(3)]
    frames = rng.poisson((1 + disc + np.array(spots))[labels]).astype("uint16")
    write(folder / f"source.{form}", frames, (4, 48, 32, 32))
    np.save(folder / "labels.npy", labels)


def _run_polar_map(folder: Path) -> Any:
    from scanfold import detectors

    scan = opened(folder, ("y", "x", "ky", "kx"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return detectors.polarisation_map(scan, folder / "labels.npy", RINGS, folder / "out", progress=False)


JOBS: Mapping[str, Job] = {
    job.name: job
    for job in (
        Job("fit", _make_fit, _run_fit),
        Job("bragg", _make_bragg, _run_bragg),
        Job("traces", _make_traces, _run_traces, "out", files=True),
        Job("gather", _make_gather, _run_gather),
        Job("simulate", _make_simulate, _run_simulate),
        Job("polar-map", _make_polar_map, _run_polar_map, "out"),
    )
}


def _run_slow(sides: tuple[int, int], folder: Path) -> Any:
    maps = toys.maps(toys.scan(*sides, y=2, x=sides[1]), toys.Kernel(delay=0.002), gil=True)
    return sf.save(maps, folder / "out.zarr", progress=False)


#: Positions of 2 ms each, by a kernel that holds the interpreter: it asks for processes of its own. 9,216, and 36,864.
SLOW = Job("slow", write, partial(_run_slow, (96, 96)))
LONG = Job("long", write, partial(_run_slow, (192, 192)))


class Fatal(toys.Kernel):
    """A kernel that ends its worker at two positions: one is a segmentation fault, one takes 2 GiB and keeps it."""

    def _misbehave(self, number: int) -> None:
        if number == 2:
            ctypes.string_at(0)
        if number == 5:
            held = np.ones(2**28)
            time.sleep(10)  # a worker looks after its memory now and then
            del held


def _run_fatal(folder: Path) -> Any:
    return sf.save(toys.maps(toys.scan(3, 4, y=1, x=4), Fatal(), gil=True), folder / "out.zarr", progress=False)


FATAL = Job("fatal", write, _run_fatal)
