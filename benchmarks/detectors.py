"""Centre of mass and both passes of virtual detectors, beside LiberTEM, pyxem, py4DSTEM, plain loops; memory, size."""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks._process import Method, race
from benchmarks._report import Figures, Table, number

SIDE, DETECTOR, CLUSTERS, WORKERS = 128, 128, 8, 2
REPEATS = 5
#: Different frames that a scan is made of.
POOL = 1024
#: Scans of these many times the first, for the cost per GB.
SIZES = (1, 4, 15)
#: Seconds of the reference script's three passes, log on, over as many frames: measured once, on another machine of two
#: cores.
SCRIPT = 9.9
#: Bytes of each worker's memory in the trial of a large scan.
LIMIT = 768 * 2**20
Array = npt.NDArray[Any]


def run(small: bool) -> Iterator[Table]:
    """Yield the tables."""
    side = 16 if small else SIDE
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "scan.h5"
        write(path, side, side)
        labels = Path(name) / "labels.npy"
        np.save(labels, np.random.default_rng(2).integers(0, CLUSTERS, (side, side)))
        here, file = "benchmarks.detectors:", {"path": str(path)}
        both = {"path": str(path), "labels": str(labels)}
        coms = [
            Method("scanfold, threads", f"{here}ours", arguments=file),
            Method("scanfold, distributed, 2 processes", f"{here}ours_distributed", arguments=file),
            Method("LiberTEM, inline", f"{here}libertem", arguments={**file, "inline": True}),
            Method("LiberTEM, its default", f"{here}libertem", arguments={**file, "inline": False}),
            Method("pyxem, lazy", f"{here}pyxem", arguments=file),
            Method("py4DSTEM", f"{here}py4dstem", arguments=file),
            Method("plain NumPy, float64", f"{here}plain_com", arguments=file),
            Method("reading alone", "benchmarks._files:read_only", arguments=file),
        ]
        race(coms, 1 if small else REPEATS)
        zarr = Path(name) / "scan.zarr"
        write_zarr(zarr, path)
        reads = [
            Method("scanfold, threads", f"{here}ours", arguments={"path": str(zarr)}),
            Method("reading and decompressing alone", "benchmarks._files:read_only", arguments={"path": str(zarr)}),
        ]
        race(reads, 1 if small else REPEATS)
        passes = [
            Method("scanfold, log", f"{here}passes", arguments={**both, "log": True}),
            Method("scanfold, no log", f"{here}passes", arguments={**both, "log": False}),
            Method("three passes of plain loops, log", f"{here}plain_passes", arguments=both),
            Method(
                f"one GEMM with {CLUSTERS} templates, float32 in memory", f"{here}gemm", arguments={"frames": side**2}
            ),
        ]
        race(passes, 1 if small else 3)
        gigabytes = side**2 * DETECTOR**2 * 2 / 1e9
        yield _figures(coms, reads, passes, gigabytes)
        yield _table(f"Centre of mass, contiguous HDF5, {gigabytes:.2f} GB of uint16, {WORKERS} cores", coms, gigabytes)
        yield _table(f"Centre of mass, zarr with LZ4, chunks (16, 16, 128, 128), {gigabytes:.2f} GB", reads, gigabytes)
        yield _table(
            f"Templates, gates, {CLUSTERS} contrast maps, centres of mass, {gigabytes:.2f} GB", passes, gigabytes
        )
    yield _sizes(side)


def _figures(coms: list[Method], reads: list[Method], passes: list[Method], gigabytes: float) -> Figures:
    figures = Figures()
    rate = {m.name: gigabytes / _median(m) for m in coms if m.runs}
    ours = rate["scanfold, threads"]
    figures.add("centre of mass, HDF5, threads", "≥ 6 GB/s", f"{number(ours)} GB/s", ours >= 6)
    peers = [v for n, v in rate.items() if n.startswith("LiberTEM")]
    if peers:
        ratio = ours / max(peers)
        figures.add("centre of mass / LiberTEM's best", "≥ 1.5 ×", f"{number(ratio)} ×", ratio >= 1.5)
    share = _median(reads[1]) / _median(reads[0])
    figures.add("zarr: rate / decompression alone", "≥ 80 %", f"{share:.0%}", share >= 0.8)
    cluster = rate["scanfold, distributed, 2 processes"]
    figures.add("centre of mass, distributed", "≥ 3 GB/s", f"{number(cluster)} GB/s", cluster >= 3)
    ratio = _median(passes[2]) / _median(passes[0])
    figures.add("both passes, log / three passes of plain loops", "≥ 15 ×", f"{number(ratio)} ×", ratio >= 15)
    if gigabytes > 0.5:
        ratio = SCRIPT / _median(passes[0])
        figures.add(f"both passes, log / {SCRIPT} s of the script itself", "≥ 15 ×", f"{number(ratio)} ×", ratio >= 15)
    return figures


def _median(method: Method) -> float:
    return statistics.median(r.wall for r in method.runs)


def _table(caption: str, methods: list[Method], gigabytes: float) -> Table:
    table = Table(caption, ("method", "s, median (min–max)", "GB/s", "memory, MB", "largest difference from ours"))
    first = methods[0].runs[0].answer
    for method in methods:
        if method.skipped:
            table.rows.append((method.name, method.skipped, "–", "–", "–"))
            continue
        walls = [r.wall for r in method.runs]
        memory = statistics.median(r.memory for r in method.runs) / 1e6
        answer = method.runs[0].answer
        alike = "–" if answer is None or first is None else f"{np.abs(answer - first).max():.1e} px"
        seconds = f"{number(_median(method))} ({number(min(walls))}–{number(max(walls))})"
        table.rows.append((method.name, seconds, number(gigabytes / _median(method)), number(memory), alike))
    return table


def _sizes(side: int) -> Table:
    """Return what both passes cost per GB as the scan grows, on two workers of little memory."""
    table = Table(
        f"Both passes with log through `save`, {WORKERS} workers of {LIMIT / 2**20:.0f} MiB",
        ("scan, GB", "× memory of all workers", "s per GB", "peak of a worker, MiB", "workers killed"),
    )
    with tempfile.TemporaryDirectory() as name:
        for times in SIZES:
            path = Path(name) / f"scan{times}.h5"
            write(path, side * times, side)
            method = Method("size", "benchmarks.detectors:whole_run", arguments={"path": str(path), "side": side})
            race([method], 1)
            path.unlink()
            size = times * side**2 * DETECTOR**2 * 2
            if not method.runs:
                table.rows.append((number(size / 1e9), number(size / (WORKERS * LIMIT)), method.skipped, "–", "–"))
                continue
            got = method.runs[0]
            peak, killed = got.answer
            table.rows.append((number(size / 1e9), number(size / (WORKERS * LIMIT)), number(got.wall / (size / 1e9)),
                               number(peak / 2**20), str(killed)))  # fmt: skip
    return table


def pool() -> Array:
    """Return frames of a beam that moves and Bragg discs that turn, as uint16."""
    rng = np.random.default_rng(0)
    ky, kx = np.arange(DETECTOR)[:, None], np.arange(DETECTOR)
    frames = np.empty((POOL, DETECTOR, DETECTOR), np.uint16)
    for i, (dy, dx, angle) in enumerate(rng.normal(size=(POOL, 3))):
        y, x = ky - 63.3 - dy, kx - 64.1 - dx
        pattern = 0.5 + 30 / (1 + np.exp(2 * (np.hypot(y, x) - 16)))
        pattern += 8 / (1 + np.exp(2 * (np.hypot(y - 40 * np.sin(angle), x - 40 * np.cos(angle)) - 8)))
        frames[i] = rng.poisson(pattern)
    return frames


def write(path: Path, rows: int, columns: int) -> None:
    """Write a scan (y, x, ky, kx): contiguous HDF5."""
    import h5py

    frames, rng = pool(), np.random.default_rng(1)
    with h5py.File(path, "w") as file:
        data = file.create_dataset("patterns", (rows, columns, DETECTOR, DETECTOR), "uint16")
        for row in range(rows):
            data[row] = frames[rng.integers(POOL, size=columns)]


def write_zarr(path: Path, source: Path) -> None:
    """Write the same scan as zarr with LZ4."""
    import h5py
    import zarr

    with h5py.File(source) as file:
        data = file["patterns"]
        codec = zarr.codecs.BloscCodec(cname="lz4", clevel=5, shuffle="shuffle")
        chunks = (16, 16, DETECTOR, DETECTOR)
        group = zarr.open_group(path, mode="w")
        array = group.create_array("patterns", shape=data.shape, dtype="uint16", chunks=chunks, compressors=codec,
                                   dimension_names=["y", "x", "ky", "kx"])  # fmt: skip
        for first in range(0, data.shape[0], 16):
            array[first : first + 16] = data[first : first + 16]


def _scan(path: str) -> Any:
    import scanfold as sf

    return sf.open_scan(path)["patterns"]


@contextmanager
def ours(path: str) -> Iterator[Callable[[], Any]]:
    """Find centres of mass on threads."""
    import dask

    from scanfold import detectors as det

    with dask.config.set(scheduler="threads", num_workers=WORKERS):
        yield lambda: _both(det.center_of_mass(_scan(path)).compute())


def _both(maps: Any) -> Array:
    return np.stack([maps["com_y"].values, maps["com_x"].values])


@contextmanager
def ours_distributed(path: str) -> Iterator[Callable[[], Any]]:
    """Find centres of mass on worker processes."""
    from scanfold import detectors as det
    from scanfold.runs.clients import local_client

    with local_client(WORKERS):
        yield lambda: _both(det.center_of_mass(_scan(path)).compute())


@contextmanager
def gemm(frames: int) -> Iterator[Callable[[], None]]:
    """Multiply as many frames with all templates, one matrix after the other, on as many threads: the floor of maps."""
    from concurrent.futures import ThreadPoolExecutor

    size = 256
    block = pool()[:size].reshape(size, -1).astype(np.float32)
    templates = np.random.default_rng(3).normal(size=(DETECTOR**2, CLUSTERS)).astype(np.float32)

    with ThreadPoolExecutor(WORKERS) as threads:
        yield lambda: list(threads.map(lambda _: float((block @ templates)[0, 0]), range(frames // size))) and None


@contextmanager
def libertem(path: str, inline: bool) -> Iterator[Callable[[], Any]]:
    """Find centres of mass with LiberTEM."""
    from libertem.api import Context
    from libertem.udf.com import CoMUDF

    context = Context.make_with("inline") if inline else Context.make_with(cpus=WORKERS)
    with context:
        dataset = context.load("hdf5", path=path, ds_path="patterns")

        def work() -> Array:
            udf = CoMUDF.with_params(cy=0, cx=0)
            found = context.run_udf(dataset=dataset, udf=udf)["field"].data
            return np.moveaxis(np.asarray(found), -1, 0)

        yield work


@contextmanager
def pyxem(path: str) -> Iterator[Callable[[], Any]]:
    """Find centres of mass with pyxem."""
    import dask
    import dask.array as da
    import h5py
    from pyxem.signals import LazyDiffraction2D

    with h5py.File(path) as file, dask.config.set(scheduler="threads", num_workers=WORKERS):
        signal = LazyDiffraction2D(da.from_array(file["patterns"], chunks=(16, 16, -1, -1)))

        def work() -> Array:
            shifts = signal.get_direct_beam_position(method="center_of_mass")
            if getattr(shifts, "_lazy", False):
                shifts.compute(show_progressbar=False)
            return (DETECTOR / 2 - np.moveaxis(np.asarray(shifts.data), -1, 0))[::-1]

        yield work


@contextmanager
def py4dstem(path: str) -> Iterator[Callable[[], Any]]:
    """Find centres of mass with py4DSTEM, which reads the scan into memory, and fits their plane too."""
    import h5py
    import py4DSTEM

    def work() -> Array:
        with h5py.File(path) as file:
            cube = py4DSTEM.DataCube(file["patterns"][...])
        cube.calibration.set_Q_pixel_size(1.0)
        cube.calibration.set_Q_pixel_units("A^-1")
        dpc = py4DSTEM.process.phase.DPC(cube, energy=300e3, verbose=False)
        dpc.preprocess(force_com_rotation=0, force_com_transpose=False, plot_center_of_mass=False, plot_rotation=False)
        return np.stack([dpc._com_measured_x, dpc._com_measured_y])

    yield work


@contextmanager
def plain_com(path: str) -> Iterator[Callable[[], Any]]:
    """Find centres of mass in float64, 1,024 frames at a time."""
    import h5py

    def work() -> Array:
        with h5py.File(path) as file:
            data = file["patterns"]
            rows = max(1, 1024 // data.shape[1])
            found = [_gated(data[r : r + rows].astype(np.float64), 1.0) for r in range(0, data.shape[0], rows)]
            return np.concatenate(found, axis=1)

    yield work


def _gated(frames: Array, gate: Any) -> Array:
    ky, kx = np.arange(frames.shape[-2])[:, None], np.arange(frames.shape[-1])
    weighted = frames * gate
    total = weighted.sum(axis=(-2, -1)) + 1e-8
    return np.stack([(weighted * k).sum(axis=(-2, -1)) / total for k in (ky, kx)])


@contextmanager
def passes(path: str, labels: str, log: bool) -> Iterator[Callable[[], Any]]:
    """Make templates, gates, contrast maps and centres of mass through the public operations on Dask."""
    import dask

    from scanfold import detectors as det

    with dask.config.set(scheduler="threads", num_workers=WORKERS):

        def work() -> None:
            scan = _scan(path)
            tmpl = det.templates(det.cluster_statistics(scan, labels, log=log).compute(), central_mask_px=8)
            gates = det.gates(tmpl, roi_r=(8, 80))
            det.virtual_maps(scan, tmpl, gates, labels=labels).compute()

        yield work


@contextmanager
def plain_passes(path: str, labels: str) -> Iterator[Callable[[], Any]]:
    """Do the same in three passes, 1,024 frames at a time, in float64: statistics, scores, adaptive centres of mass."""
    import h5py

    def chunks() -> Iterator[tuple[Array, Array]]:
        numbers = np.load(labels)
        with h5py.File(path) as file:
            data = file["patterns"]
            rows = max(1, 1024 // data.shape[1])
            for first in range(0, data.shape[0], rows):
                yield data[first : first + rows].reshape(-1, DETECTOR, DETECTOR), numbers[first : first + rows].ravel()

    def work() -> None:
        mask = np.hypot(np.arange(DETECTOR)[:, None] - 63.3, np.arange(DETECTOR) - 64.1) > 8
        count = np.zeros(CLUSTERS)
        sums, total, squares = np.zeros((CLUSTERS, DETECTOR, DETECTOR)), 0.0, 0.0
        for frames, label in chunks():
            signal = (np.log1p(frames.astype(np.float32)) * mask).astype(np.float64)
            total, squares = total + signal.sum(axis=0), squares + (signal**2).sum(axis=0)
            for c in range(CLUSTERS):
                count[c] += (label == c).sum()
                sums[c] += signal[label == c].sum(axis=0)
        mean = total / count.sum()
        std = np.sqrt(np.maximum(squares / count.sum() - mean**2, 0) + 1e-12)
        template = (sums / count[:, None, None] - mean) / (std + 1e-6 * np.median(std))
        template /= np.sqrt((template**2).sum(axis=(1, 2)))[:, None, None]
        gates = (template >= np.percentile(template, 90, axis=(1, 2))[:, None, None]).astype(float)
        for frames, _ in chunks():
            signal = np.log1p(frames.astype(np.float32)) * mask
            scaled = (signal - mean) / (std + 1e-6 * np.median(std))
            np.stack([(scaled * t).sum(axis=(1, 2)) for t in template])
        for frames, label in chunks():
            _gated(frames.astype(np.float64), gates[label])

    yield work


@contextmanager
def whole_run(path: str, side: int) -> Iterator[Callable[[], Any]]:
    """Save both passes of a scan larger than the memory of its workers; return their peak and how many were killed."""
    import scanfold as sf
    from benchmarks._process import peak_memory
    from scanfold import detectors as det
    from scanfold.runs.clients import local_client

    def state() -> dict[str, float]:
        import os

        return {"pid": os.getpid(), "peak": peak_memory()}

    with local_client(WORKERS, LIMIT) as client:

        def work() -> tuple[float, int]:
            scan = _scan(path)
            shape = (scan.sizes["y"], scan.sizes["x"])
            labels = np.random.default_rng(2).integers(0, CLUSTERS, shape)
            before = {s["pid"] for s in client.run(state).values()}
            stats = det.cluster_statistics(scan, labels, log=True).compute()
            tmpl = det.templates(stats, central_mask_px=8)
            store = Path(path).with_suffix(".maps.zarr")
            sf.save(det.virtual_maps(scan, tmpl, det.gates(tmpl, roi_r=(8, 80))), store, progress=False)
            shutil.rmtree(store)
            after = client.run(state).values()
            return max(s["peak"] for s in after), len(before - {s["pid"] for s in after})

        yield work
