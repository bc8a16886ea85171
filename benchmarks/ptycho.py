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

from benchmarks._process import Method, Run, race
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
#: Frames that are written to a store: their number, N, photons, whether counts without the truth.
STORED = (
    (25_000, 64, NPHOTONS, False),
    (100_000, 64, NPHOTONS, False),
    (1_000_000, 32, NPHOTONS, False),
    (1_000_000, 16, 100.0, True),
)
#: Twice the distance between groups of a scan on a grid.
OUTER = 16


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
    for N, each in methods.items():
        for method in each:
            method.arguments["count"] = method.positions
        each += [
            Method(
                f"floor: {what}",
                f"benchmarks.ptycho:{factory}",
                each[0].positions,
                {"N": N, "count": each[0].positions},
            )
            for what, factory in (
                ("one FFT for each frame", "transformed"),
                ("one Poisson draw for each pixel", "drawn"),
            )
        ]
        race(each, repeats)
    grid = [
        Method(name, f"benchmarks.ptycho:{factory}", arguments={"outer": 8 * OUTER if small else OUTER})
        for name, factory in (("scanfold", "on_a_grid"), ("the published way, in NumPy", "on_a_grid_at_once"))
    ]
    race(grid, repeats)
    with tempfile.TemporaryDirectory() as folder:
        stored = []
        for count, N, nphotons, counts in STORED:
            arguments = {"count": count // 500 if small else count, "N": N, "nphotons": nphotons, "counts": counts}
            stored.append(Method(f"{N}²", "benchmarks.ptycho:to_store", arguments["count"],
                                 {**arguments, "folder": folder}))  # fmt: skip
            race(stored[-1:], 0)
    yield _figures(methods, stored)
    for N, each in methods.items():
        yield _table(N, each)
    yield _grid_table(grid)
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


@contextmanager
def transformed(N: int, count: int) -> Iterator[Callable[[], None]]:
    """Transform as many frames, and nothing else: SciPy's FFT, complex64, in batches of 64."""
    from scipy import fft

    waves = np.random.default_rng(SEED).normal(size=(64, N, N)).astype(np.complex64)

    def work() -> None:
        for _ in range(0, count, 64):
            fft.fft2(waves, workers=1)

    yield work


@contextmanager
def drawn(N: int, count: int) -> Iterator[Callable[[], None]]:
    """Draw as many Poisson counts of the frames' mean, and nothing else, with NumPy's generator."""
    rng = np.random.default_rng(SEED)
    means = np.full((64, N, N), NPHOTONS / N**2)

    def work() -> None:
        for _ in range(0, count, 64):
            rng.poisson(means)

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
def on_a_grid(outer: int) -> Iterator[Callable[[], dict[str, float]]]:
    """Simulate groups of 2 × 2 frames of 64² on a grid, and their truth, in this thread."""
    import dask

    from scanfold import ptycho

    def work() -> dict[str, float]:
        sim = ptycho.mk_simdata(1, SIZE, ptycho.default_probe(64), outer, gridsize=2, nphotons=NPHOTONS, phase=True)
        with dask.config.set(scheduler="sync"):
            made = sim[["X", "Y_I", "Y_phi", "intensity_scale"]].compute()
        return _grid_answer(made["X"].values * np.float32(made["intensity_scale"]), made.nbytes)

    yield work


@contextmanager
def on_a_grid_at_once(outer: int) -> Iterator[Callable[[], dict[str, float]]]:
    """Do it as PtychoPINN does on a grid, all frames in each step."""
    from scipy import fft

    from scanfold import ptycho

    image = ptycho.lines(SIZE, seed=2, phase=True).values
    probe = ptycho.default_probe(64).values
    rng = np.random.default_rng(SEED)

    def work() -> dict[str, float]:
        big = np.lib.stride_tricks.sliding_window_view(image, (68, 68))[:: outer // 2, :: outer // 2]
        big = big.reshape(-1, 68, 68)
        patches = np.stack([big[:, i : i + 64, j : j + 64] for i in (0, 4) for j in (0, 4)], axis=1)
        waves = patches * probe
        s = math.sqrt(NPHOTONS / float(np.mean(np.sum(np.abs(waves) ** 2, axis=(2, 3)))))
        far = fft.fftshift(np.abs(fft.fft2(waves * np.float32(s), workers=1)) ** 2, axes=(2, 3)) / 64**2
        X = np.sqrt(rng.poisson(far)).astype(np.float32) / np.float32(s)
        X, Y_I, Y_phi = (np.moveaxis(a, 1, -1).copy() for a in (X, np.abs(waves), np.angle(patches)))
        return _grid_answer(X * np.float32(s), X.nbytes + Y_I.nbytes + Y_phi.nbytes)

    yield work


def _grid_answer(amplitudes: np.ndarray, size: int) -> dict[str, float]:
    groups, channels = amplitudes.shape[0], amplitudes.shape[-1]
    photons = float(np.einsum("byxc,byxc->", amplitudes, amplitudes, dtype=float)) / (groups * channels)
    return {"frames": groups * channels, "photons": photons, "bytes": size}


@contextmanager
def to_store(count: int, N: int, nphotons: float, counts: bool, folder: str) -> Iterator[Callable[[], dict[str, Any]]]:
    """Simulate frames into a store on the machine's threads, their truth too unless they are counts."""
    import scanfold as sf
    from scanfold import ptycho

    store = Path(folder) / f"{count} {N}.zarr"

    def work(count: int = count) -> dict[str, Any]:
        shutil.rmtree(store, ignore_errors=True)
        sim = ptycho.generate_simulated_data(
            ptycho.lines(SIZE, seed=2, phase=True), ptycho.default_probe(N), n_images=count, nphotons=nphotons,
            counts=counts, return_patches=not counts, seed=SEED,
        )  # fmt: skip
        sf.save(sim, store, progress=False)
        written = sum(sim[n].nbytes for n in ("diffraction", "Y") if n in sim)
        return {"bytes": written}

    work(50)  # what is loaded and compiled at first use stays out of the figures
    yield work
    shutil.rmtree(store, ignore_errors=True)


def _only(method: Method) -> Run:
    if method.first is None:
        raise RuntimeError(f"{method.name}: {method.skipped}")
    return method.first


def _rates(method: Method) -> list[float]:
    return [method.positions / r.wall for r in method.runs]


def _figures(methods: dict[int, list[Method]], stored: list[Method]) -> Figures:
    figures = Figures()
    for N, (ours, *_) in methods.items():
        rate = statistics.median(_rates(ours))
        figures.add(f"frames of {N}² per second and core", f"≥ {WANTED[N]:,}", number(rate), rate >= WANTED[N])
        worst = max(abs(r.answer / NPHOTONS - 1) for r in ours.runs)
        figures.add(f"photons in a frame of {N}², mean: off by", "≤ 1%", f"{worst:.2%}", worst <= 0.01)
    once, *others = (_only(m).memory for m in stored)
    for method, memory in zip(stored[1:], others, strict=True):
        name = f"memory to a store, {method.positions:,} frames of {method.name} / {stored[0].positions:,} of 64²"
        figures.add(name, "≤ 1.2 ×", f"{memory / once:.2f} ×", memory / once <= 1.2)
    return figures


def _table(N: int, methods: list[Method]) -> Table:
    table = Table(
        f"Frames of {N}² with {NPHOTONS:.0e} photons on an object of {SIZE}², free positions, one core, in memory",
        ("method", "frames", "frames/s, median (min–max)", "ours is × this", "memory, MB", "mean photons / asked for"),
    )
    ours = statistics.median(_rates(methods[0]))
    for method in methods:
        rates = _rates(method)
        times = number(ours / statistics.median(rates)) if rates else "–"
        answer = f"{method.runs[0].answer / NPHOTONS:.4f}" if rates and method.runs[0].answer else "–"
        memory = number(max((r.memory for r in method.runs), default=float("nan")) / 1e6)
        table.rows.append((method.name, f"{method.positions:,}", spread(rates), times, memory, answer))
    table.notes.append(
        "the published way: PtychoPINN's free positions, whose TensorFlow code is rewritten here with SciPy; "
        "it shifts the whole object for every patch."
    )
    return table


def _grid_table(methods: list[Method]) -> Table:
    table = Table(
        f"Groups of 2 × 2 frames of 64² on a grid over an object of {SIZE}², and their truth, one core, in memory",
        ("method", "frames", "frames/s, median (min–max)", "memory, MB", "memory / output", "mean photons / asked for"),
    )
    for method in methods:
        answer = method.runs[0].answer
        rates = [answer["frames"] / r.wall for r in method.runs]
        memory = statistics.median(r.memory for r in method.runs)
        table.rows.append((method.name, f"{answer['frames']:,}", spread(rates), number(memory / 1e6),
                           f"{memory / answer['bytes']:.2f} ×", f"{answer['photons'] / NPHOTONS:.4f}"))  # fmt: skip
    table.notes.append("the published way: PtychoPINN's scan on a grid, rewritten with NumPy and SciPy's FFT.")
    return table


def _store_table(stored: list[Method]) -> Table:
    table = Table(
        "To a compressed zarr store on the machine's threads: amplitudes and the truth at each position, or counts",
        ("frames", "of", "photons in each", "seconds", "frames/s", "written before compression, MB", "memory, MB"),
    )
    for method in stored:
        run = _only(method)
        written, memory = number(run.answer["bytes"] / 1e6), number(run.memory / 1e6)
        rate, photons = number(method.positions / run.wall), f"{method.arguments['nphotons']:.0e}"
        row = (f"{method.positions:,}", method.name, photons, number(math.ceil(run.wall)), rate, written, memory)
        table.rows.append(row)
    return table
