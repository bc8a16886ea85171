"""Scans five times larger than the memory of the workers: none is killed."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import lmfit
import numpy as np
import pytest
import xarray as xr

import scanfold as sf
from scanfold import _apply, conventions, detectors, grouping, ptycho, runs, traces
from scanfold.runs import plan

from .jobs import RINGS

pytestmark = [pytest.mark.matrix, pytest.mark.trial]

#: Bytes that each of two workers may hold, of which Python with the libraries of a fit takes half before any data;
#: those that go in, or come out.
LIMIT = 640 * 2**20
SIZE = 5 * 2 * LIMIT


def peak() -> int:
    """Return the most bytes that this process held since `forget`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 2**10


def forget() -> int:
    """Let the most that this process held be what it holds now, and return that."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def spilled(dask_worker) -> int:
    """Return how many bytes of results a worker has put on the disk."""
    return sum(getattr(dask_worker.data, "spilled_total", (0, 0)))


@pytest.fixture
def projected(monkeypatch) -> list[float]:
    """Return the bytes that plans project for their blocks, as they are made."""
    found: list[float] = []
    predict = plan.predict

    def noted(scan, number, fitted, cost, threads):
        found.append(cost["peak"] + plan._bytes(scan.ds, fitted))
        return predict(scan, number, fitted, cost, threads)

    monkeypatch.setattr(plan, "predict", noted)
    return found


@pytest.fixture
def on_small_workers(note, projected, tmp_path) -> Callable[[Callable[[Path, int], None]], None]:
    """Return the function that does a job on two workers, and asserts that they outlive it and hold little.

    That is, where a plan was made, no more than 1.2 times what it projected for a block and what the workers hold
    after the same job on little data, with all libraries and code.
    """

    def do(job: Callable[[Path, int], None]) -> None:
        from distributed import Client, LocalCluster

        with (
            LocalCluster(
                n_workers=2, threads_per_worker=1, memory_limit=LIMIT, host="127.0.0.1", dashboard_address="127.0.0.1:0"
            ) as cluster,
            Client(cluster) as client,
        ):
            born = set(client.nthreads())
            for folder, size in ((tmp_path / "little", SIZE // 200), (tmp_path / "all", SIZE)):
                projected.clear()
                folder.mkdir()
                before = client.run(forget)
                job(folder, size)
            after = client.run(peak)
            most, data = max(after.values()), max(after[a] - before[a] for a in after)
            text = f"at most {most / 2**20:.0f} MiB each ({most / LIMIT:.0%}), {data / 2**20:.0f} of them data"
            note(text + (f" where {max(projected) / 2**20:.0f} were projected" if projected else ""))
            assert set(client.nthreads()) == born
            assert set(client.run(spilled).values()) == {0}
            assert most <= 0.7 * LIMIT
            assert not projected or most <= 1.2 * (max(before.values()) + max(projected))

    return do


def scan(chunks: tuple[tuple[int, ...], ...]) -> xr.DataArray:
    """Return a scan, made chunk by chunk: each value is its first index plus its last."""

    def chunk(block_info=None):
        spans = block_info[None]["array-location"]
        shape = tuple(b - a for a, b in spans)
        first, last = (np.arange(*spans[i], dtype="f4") for i in (0, 2))
        return np.broadcast_to(first[:, None, None], shape) + last

    data = da.map_blocks(chunk, chunks=chunks, dtype="f4", meta=np.empty((0, 0, 0), "f4"))
    return xr.DataArray(data, dims=("energy", "y", "x"), name="counts")


def test_frames_become_spectra(on_small_workers):
    """A scan of 5 times the memory of two workers (6,400 MiB, 2 × 640 MiB): frames to spectra."""

    def transpose(folder: Path, size: int) -> None:
        count = size // 2**22
        frames = scan(((4,) * (count // 4), (1024,), (1024,)))
        saved = runs.transpose_scan(frames, folder / "a.zarr", dim="energy", progress=False)["counts"]
        np.testing.assert_array_equal(saved[:, 700, 300], np.arange(count, dtype="f4") + 300)

    on_small_workers(transpose)


def test_maps_are_made_of_it(on_small_workers):
    """The same scan: maps, within 1.2 times the projected memory."""

    def most(folder: Path, size: int) -> None:
        count = size // 2**22
        spectra = scan(((count,), (64,) * 16, (128,) * 8)).transpose("y", "x", "energy")
        top = _apply.apply_kernel(
            lambda block: block.max(-1)[:, None], spectra, core_dims=[["energy"]], output={"value": 1}, token="max"
        )
        saved = runs.save(top.isel(value=0).to_dataset(name="top"), folder / "a.zarr", progress=False)
        np.testing.assert_array_equal(saved["top"][5], np.arange(1024.0) + count - 1)

    on_small_workers(most)


def made(values: np.ndarray, shape: tuple[int, ...], chunks: tuple[int, ...], dims: tuple[str, ...]) -> xr.DataArray:
    """Return a scan of NaN, or of zeros, that holds some spectra, or frames, at the first position of every chunk."""

    def chunk(block_info=None):
        nothing = np.nan if values.dtype.kind == "f" else 0
        out = np.full([b - a for a, b in block_info[None]["array-location"]], nothing, values.dtype)
        out[(0,) * (out.ndim - values.ndim)] = values
        return out

    regular = tuple((c,) * (n // c) for n, c in zip(shape, chunks, strict=True))
    data = da.map_blocks(chunk, chunks=regular, dtype=values.dtype, meta=np.empty((0,) * len(shape), values.dtype))
    return xr.DataArray(data, dims=dims, name="counts")


def _fit(folder: Path, size: int) -> None:
    points = np.linspace(0, 10, 1024)
    spectrum = (30 + 200 * np.exp(-((points - 5) ** 2) / 0.5)).round().astype("f4")
    rows = size // (1024 * 1024 * 4)
    scan = made(spectrum, (rows, 1024, 1024), (1, 1024, 1024), ("y", "x", "energy")).assign_coords(energy=points)
    model = lmfit.models.GaussianModel() + lmfit.models.ConstantModel()
    fits = sf.fit(scan, model, {"c": 30, "sigma": 0.5}, dim="energy", weights="counts", guess="params")
    saved = sf.save(fits.assign_coords(energy=points), folder / "out.zarr", progress=False)
    good = conventions.flags(saved["status"])["converged"]
    assert (saved["status"][:, 0] == good).all()
    assert (saved["status"][:, 1:] != good).all()


def _bragg(folder: Path, size: int) -> None:
    from scanfold import bragg

    wavelength = np.linspace(1.5, 5, 512)
    model = bragg.TransmissionModel(bragg.CrossSection(iron="Fe_sg229_Iron-alpha"), vary_basic=True)
    curve = model.evaluate({}, wavelength, flight_path=9.0, bin_width=wavelength[1] - wavelength[0])
    spectrum = np.random.default_rng(1).poisson(1000 * curve).astype("f4")
    rows = size // (1024 * 512 * 4)
    scan = made(spectrum, (rows, 1024, 512), (1, 1024, 512), ("y", "x", "wavelength"))
    beam = xr.DataArray(np.full(512, 1000.0), dims="wavelength", coords={"wavelength": wavelength})
    data = bragg.Data.from_grouped(scan.assign_coords(wavelength=wavelength), beam, L=9.0, tstep=1e-5)
    found: Any = model.fit(data, wlmin=1.5, wlmax=5.0, likelihood="poisson").save(folder / "out.zarr")
    status = getattr(found, "fits", found)["status"]
    good = conventions.flags(status)["converged"]
    assert (status[:, 0] == good).all()
    assert (status[:, 1:] != good).all()


def _traces(folder: Path, size: int) -> None:
    times = np.arange(2000) / 4.0
    cell = 500 * np.exp(-times * 0.1) + 20
    content = "time," + ",".join(map(str, range(400))) + "\n"
    zeros = ",0.00000000000000" * 399
    content += "".join(f"{t},{v:.6g}{zeros}\n" for t, v in zip(times, cell, strict=True))
    first = folder / "source.0000.csv"
    first.write_text(content)
    count = size // first.stat().st_size + 1
    for number in range(1, count):
        os.link(first, folder / f"source.{number:04}.csv")  # one file under many names
    (folder / "out").mkdir()
    run = traces.fit_folder(folder, traces.FittingRequest("maturation"), out=folder / "out", progress=False)
    assert not run.failures
    assert len(list((folder / "out").glob("*.csv"))) == count


def _gather(folder: Path, size: int) -> None:
    rng = np.random.default_rng(3)
    frames = made(np.full((64, 64), 7, "f4"), (600, 64, 64), (20, 64, 64), ("position", "ky", "kx"))
    y, x = rng.uniform(0, 100, (2, 600))
    scan = frames.assign_coords(position_y=("position", y), position_x=("position", x))
    groups = size // (4 * 64 * 64 * 4)
    planned = grouping.plan_groups(scan, nsamples=groups, gridsize=2, enable_oversampling=True, K=12, seed=4)
    gathered = grouping.gather(scan, planned, chunks=64)
    assert sum(v.nbytes for v in gathered.data_vars.values()) >= size
    sf.save(gathered, folder / "out.zarr", progress=False)


def _simulate(folder: Path, size: int) -> None:
    image, probe = ptycho.lines(256, seed=4, phase=True), ptycho.default_probe(64)
    count = size // (64 * 64 * 4)
    sim = ptycho.generate_simulated_data(image.values, probe, n_images=count, nphotons=1e6, chunks=256, seed=7)
    assert sum(v.nbytes for v in sim.data_vars.values()) >= size
    sf.save(sim, folder / "out.zarr", progress=False)


def _polar_map(folder: Path, size: int) -> None:
    ky, kx = np.mgrid[0:64, 0:64] - 31.5
    disc = (1 + 30 / (1 + np.exp(2 * (np.hypot(ky, kx) - 10)))).round().astype("uint16")
    rows = size // (1024 * 64 * 64 * 2)
    scan = made(disc, (rows, 1024, 64, 64), (1, 512, 64, 64), ("y", "x", "ky", "kx"))
    labels = np.arange(rows * 1024).reshape(rows, 1024) // 160 % 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        detectors.polarisation_map(scan, labels, RINGS, folder / "out", progress=False)


LARGE = {
    "fit": _fit, "bragg": _bragg, "traces": _traces, "gather": _gather, "simulate": _simulate, "polar-map": _polar_map,
}  # fmt: skip


@pytest.mark.parametrize("name", LARGE)
def test_a_job_of_five_times_the_memory(name, on_small_workers):
    """Input, or output, of 5 times the memory of two workers: none killed, no spill, peak ≤ 1.2 × the projection."""
    on_small_workers(LARGE[name])
