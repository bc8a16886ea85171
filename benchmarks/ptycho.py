"""Simulated ptychography: frames per second on one core beside the published way and plain NumPy; to disk, memory."""

from __future__ import annotations

import math
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._process import Method, race
from benchmarks._report import Figures, Table, number, spread

REPEATS = 5
SIZE, NPHOTONS, SEED = 392, 1e9, 3
#: Frames of a run, by what makes them and N.
COUNTS = {
    "scanfold": {64: 8192, 128: 2048},
    "plain NumPy, in batches": {64: 2048, 128: 512},
    "the published way, in SciPy": {64: 64, 128: 32},
}
#: Frames per second and core that are to be reached.
WANTED = {64: 3500, 128: 800}
#: Frames of 64² that are written to a store.
STORED = 100_000


def run(small: bool) -> Iterator[Table]:
    """Yield the tables."""
    repeats = 1 if small else REPEATS
    factories = dict(zip(COUNTS, ("simulated", "batched", "shifted"), strict=True))
    methods = {
        N: [
            Method(name, f"benchmarks.ptycho:{factories[name]}", max(8, by_size[N] // (16 if small else 1)), {"N": N})
            for name, by_size in COUNTS.items()
        ]
        for N in WANTED
    }
    for each in methods.values():
        for method in each:
            method.arguments["count"] = method.positions
        race(each, repeats)
    with tempfile.TemporaryDirectory() as folder:
        count = STORED // 50 if small else STORED
        stored = [
            Method(f"{n:,}", "benchmarks.ptycho:to_store", n, {"count": n, "folder": folder})
            for n in (count // 4, count)
        ]
        race(stored, 1)
    yield _figures(methods, stored)
    for N, each in methods.items():
        yield _table(N, each)
    yield _store_table(stored)


def _scene(N: int, count: int) -> Any:
    from scanfold import ptycho

    return ptycho.generate_simulated_data(
        ptycho.lines(SIZE, seed=2, phase=True), ptycho.default_probe(N), n_images=count, nphotons=NPHOTONS,
        return_patches=False, seed=SEED,
    )  # fmt: skip


@contextmanager
def simulated(N: int, count: int) -> Iterator[Callable[[], float]]:
    """Compute the frames in this thread; return the mean number of photons in one."""
    import dask

    sim = _scene(N, count)

    def work() -> float:
        with dask.config.set(scheduler="sync"):
            frames, s = dask.compute(sim["diffraction"].data, sim["intensity_scale"].data)
        return _photons(frames * np.float32(s))

    yield work


@contextmanager
def batched(N: int, count: int) -> Iterator[Callable[[], float]]:
    """Do the same with NumPy in batches of 64: bilinear patches, numpy.fft, Generator.poisson."""
    image, probe, y, x, s = _arrays(N, count)
    rng = np.random.default_rng(SEED)
    r = np.arange(N)

    def work() -> float:
        total = 0.0
        for first in range(0, count, 64):
            top, left = y[first : first + 64] - N / 2, x[first : first + 64] - N / 2
            i, j = np.floor(top).astype(int), np.floor(left).astype(int)
            v, u = ((top - i)[:, None, None], (left - j)[:, None, None])
            rows, columns = i[:, None, None] + r[:, None], j[:, None, None] + r
            patch = (1 - v) * ((1 - u) * image[rows, columns] + u * image[rows, columns + 1]) + v * (
                (1 - u) * image[rows + 1, columns] + u * image[rows + 1, columns + 1]
            )
            far = np.fft.fftshift(np.abs(np.fft.fft2(patch * probe)) ** 2, axes=(1, 2)) * (s / N) ** 2
            total += _photons(np.sqrt(rng.poisson(far)).astype(np.float32)) * len(far)
        return total / count

    yield work


@contextmanager
def shifted(N: int, count: int) -> Iterator[Callable[[], float]]:
    """Do it as PtychoPINN does for free positions: shift the whole object for each patch, and crop its middle."""
    from scipy import ndimage

    image, probe, y, x, s = _arrays(N, count)
    rng = np.random.default_rng(SEED)
    height, width = image.shape

    def work() -> float:
        frames = np.empty((count, N, N), np.float32)
        for n in range(count):
            offset = height / 2 - y[n], width / 2 - x[n]
            moved = ndimage.shift(image.real, offset, order=1) + 1j * ndimage.shift(image.imag, offset, order=1)
            patch = moved[(height - N) // 2 :, (width - N) // 2 :][:N, :N]
            far = np.fft.fftshift(np.abs(np.fft.fft2(patch * probe)) ** 2) * (s / N) ** 2
            frames[n] = np.sqrt(rng.poisson(far))
        return _photons(frames)

    yield work


def _arrays(N: int, count: int) -> tuple[Any, ...]:
    """Return object, probe, positions and scale as arrays."""
    sim = _scene(N, count)
    names = ("object", "probe", "position_y", "position_x")
    image, probe, y, x = (np.asarray(sim[n].values) for n in names)
    return np.pad(image, ((0, 1), (0, 1)))[: SIZE + 1, : SIZE + 1], probe, y, x, float(sim["intensity_scale"])


def _photons(amplitudes: np.ndarray) -> float:
    return float(np.einsum("nyx,nyx->", amplitudes, amplitudes, dtype=float) / len(amplitudes))


@contextmanager
def to_store(count: int, folder: str) -> Iterator[Callable[[], dict[str, Any]]]:
    """Simulate frames of 64² into a store on the machine's threads, their truth too."""
    import scanfold as sf
    from scanfold import ptycho

    store = Path(folder) / f"{count}.zarr"

    def work() -> dict[str, Any]:
        shutil.rmtree(store, ignore_errors=True)
        sim = ptycho.generate_simulated_data(
            ptycho.lines(SIZE, seed=2, phase=True),
            ptycho.default_probe(64),
            n_images=count,
            nphotons=NPHOTONS,
            seed=SEED,
        )
        sf.save(sim, store, progress=False)
        return {"bytes": sim["diffraction"].nbytes + sim["Y"].nbytes}

    yield work
    shutil.rmtree(store, ignore_errors=True)


def _rates(method: Method) -> list[float]:
    return [method.positions / r.wall for r in method.runs]


def _figures(methods: dict[int, list[Method]], stored: list[Method]) -> Figures:
    figures = Figures()
    for N, (ours, *_) in methods.items():
        rate = statistics.median(_rates(ours))
        figures.add(f"frames of {N}² per second and core", f"≥ {WANTED[N]:,}", number(rate), rate >= WANTED[N])
        worst = max(abs(r.answer / NPHOTONS - 1) for r in ours.runs)
        figures.add(f"photons in a frame of {N}², mean: off by", "≤ 1%", f"{worst:.2%}", worst <= 0.01)
    small, large = (m.runs[0].memory for m in stored)
    times = large / small
    figures.add("memory to a store, four times the frames / once", "≤ 1.2 ×", f"{times:.2f} ×", times <= 1.2)
    return figures


def _table(N: int, methods: list[Method]) -> Table:
    table = Table(
        f"Frames of {N}² with {NPHOTONS:.0e} photons on an object of {SIZE}², free positions, one core, in memory",
        ("method", "frames", "frames/s, median (min–max)", "ours is × this", "mean photons / asked for"),
    )
    ours = statistics.median(_rates(methods[0]))
    for method in methods:
        rates = _rates(method)
        times = number(ours / statistics.median(rates)) if rates else "–"
        answer = f"{method.runs[0].answer / NPHOTONS:.4f}" if rates else "–"
        table.rows.append((method.name, f"{method.positions:,}", spread(rates), times, answer))
    table.notes.append(
        "the published way: PtychoPINN's free positions, whose TensorFlow code is rewritten here with SciPy; "
        "it shifts the whole object for every patch."
    )
    return table


def _store_table(stored: list[Method]) -> Table:
    table = Table(
        "Frames of 64² and the truth at each position, to a compressed zarr store on the machine's threads",
        ("frames", "seconds", "frames/s", "written before compression, MB", "memory, MB"),
    )
    for method in stored:
        run = method.runs[0]
        written, memory = number(run.answer["bytes"] / 1e6), number(run.memory / 1e6)
        rate = number(method.positions / run.wall)
        table.rows.append((method.name, number(math.ceil(run.wall)), rate, written, memory))
    return table
