"""Neighbour groups: plans beside group-then-sample, 10⁷ positions to a store, gathering frames from a store."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks._process import Method, race
from benchmarks._report import Figures, Table, number, spread

GRIDSIZE, K = 2, 7
#: Groups of a plan whose members are looked at.
CHECKED = 512
Work = Iterator[Callable[[], Any]]


def points(count: int) -> npt.NDArray[np.float64]:
    """Return random positions, one in each unit of area on average."""
    return np.random.default_rng(0).uniform(0, np.sqrt(count), (count, 2))


@contextlib.contextmanager
def plan(count: int, nsamples: int) -> Work:
    """Sample, then group."""
    from scanfold.grouping import plan_groups

    placed = points(count)
    plan_groups(placed[:100], nsamples=9, gridsize=GRIDSIZE)  # imports

    def work() -> tuple[npt.NDArray[np.int64], ...]:
        made = plan_groups(placed, nsamples=nsamples, gridsize=GRIDSIZE, K=K)
        return tuple(np.asarray(made[n][:CHECKED].values) for n in ("seed_index", "nn_indices"))

    yield work


@contextlib.contextmanager
def tree_alone(count: int, nsamples: int) -> Work:
    """Make SciPy's tree and ask it for the neighbours of as many positions, no more."""
    from scipy.spatial import cKDTree

    placed = points(count)
    seeds = placed[np.random.default_rng(1).choice(count, nsamples, replace=False)]

    yield lambda: cKDTree(placed).query(seeds, k=K + 1)[1].size


def are_neighbours(count: int, seeds: npt.NDArray[np.int64], groups: npt.NDArray[np.int64]) -> float:
    """Return the share of groups whose members are all among the seed and its K nearest, by SciPy's tree."""
    from scipy.spatial import cKDTree

    placed = points(count)
    near = cKDTree(placed).query(placed[seeds], k=K + 1)[1]
    return float(np.mean([np.isin(group, row).all() for group, row in zip(groups, near, strict=True)]))


@contextlib.contextmanager
def group_then_sample(count: int, nsamples: int) -> Work:
    """Make groups around all positions, leave out equal ones, sample from them: the published way until 2025."""
    from scipy.spatial import cKDTree

    placed, size = points(count), GRIDSIZE**2

    def work() -> int:
        rng = np.random.default_rng(0)
        near = cKDTree(placed).query(placed, k=K + 1)[1]
        each = min(50, (K + 1) // size + 1)
        groups = [np.sort(rng.choice(row, size, replace=False)) for row in near for _ in range(each)]
        unique = np.unique(np.array(groups), axis=0)
        return len(unique[rng.choice(len(unique), nsamples, replace=False)])

    yield work


@contextlib.contextmanager
def explosion(count: int, nsamples: int) -> Work:
    """Make `nsamples` groups around every position: the way before that."""
    from scipy.spatial import cKDTree

    placed, size = points(count), GRIDSIZE**2

    def work() -> int:
        rng = np.random.default_rng(0)
        near = cKDTree(placed).query(placed, k=K + 1)[1]
        rows = [[rng.permutation(row[1:])[:size] for _ in range(nsamples)] for row in near]
        return len(np.array(rows).reshape(-1, size))

    yield work


@contextlib.contextmanager
def index(folder: str) -> Work:
    """Sort the positions of a store into an index."""
    import shutil

    from scanfold.grouping import index_positions

    def work() -> int:
        shutil.rmtree(f"{folder}/scan.zarr.positions", ignore_errors=True)
        return len(index_positions(f"{folder}/scan.zarr"))

    yield work


@contextlib.contextmanager
def positions_alone(folder: str) -> Work:
    """Read the positions of a store, and do nothing with them."""
    import zarr

    yield lambda: sum(
        zarr.open_array(f"{folder}/scan.zarr/{n}", mode="r")[:].size for n in ("position_y", "position_x")
    )


@contextlib.contextmanager
def streamed(folder: str) -> Work:
    """Plan a group around every position of an index, into a store."""
    import scanfold as sf
    from scanfold.grouping import open_index, plan_groups

    def work() -> int:
        found = open_index(f"{folder}/scan.zarr.positions")
        made = plan_groups(found, nsamples=len(found), gridsize=GRIDSIZE, K=K)
        return sf.save(made, f"{folder}/plan.zarr", resume=False, progress=False).sizes["group"]

    yield work


@contextlib.contextmanager
def indexed(folder: str, nsamples: int) -> Work:
    """Plan a few groups over an index that is opened for them."""
    from scanfold.grouping import open_index, plan_groups

    def work() -> int:
        found = open_index(f"{folder}/scan.zarr.positions")
        return plan_groups(found, nsamples=nsamples, gridsize=GRIDSIZE, K=K).sizes["group"]

    yield work


@contextlib.contextmanager
def gathered(folder: str, nsamples: int, way: str) -> Work:
    """Gather frames of groups from a store: in tile order, in the plan's order, or one read per group."""
    import scanfold as sf
    from scanfold.grouping import gather, plan_groups, to_legacy_dict

    scan = sf.open_scan(f"{folder}/frames.zarr", format="ptycho")
    made = plan_groups(scan, nsamples=nsamples, gridsize=GRIDSIZE, K=K)

    def blocks() -> int:
        groups = gather(scan, made, order="tile" if way == "tile" else "plan", chunks=64)
        frames = groups["diffraction"]
        return sum(int(frames[i : i + 64].values.sum(dtype=np.int64)) for i in range(0, nsamples, 64))

    def alone() -> int:
        import zarr

        frames = zarr.open_array(f"{folder}/frames.zarr", path="diffraction", mode="r")
        return sum(1 for row in made["nn_indices"].values for i in row if frames[int(i)].shape)

    def dictionary() -> int:
        found = to_legacy_dict(gather(scan, made))
        return int(found["diffraction"].nbytes + found["X_full"].nbytes)

    yield {"tile": blocks, "plan": blocks, "alone": alone, "dictionary": dictionary}[way]


def write_positions(folder: str, count: int) -> None:
    """Write random positions as a store, a million at a time."""
    import dask.array as da
    import xarray as xr

    import scanfold as sf

    numbers = da.random.default_rng(0)
    held = {
        n: ("position", numbers.uniform(0, np.sqrt(count), count, chunks=2**20)) for n in ("position_y", "position_x")
    }
    sf.save(xr.Dataset(held), f"{folder}/scan.zarr", progress=False)


def write_frames(folder: str, count: int, size: int = 64) -> None:
    """Write frames of a raster, row after row, 128 in a chunk."""
    import xarray as xr

    import scanfold as sf

    y, x = np.divmod(np.arange(count), int(np.sqrt(count)))
    frames = np.random.default_rng(0).poisson(3, (count, size, size)).astype(np.uint16)
    scan = xr.Dataset({"diffraction": (("position", "ky", "kx"), frames)}, attrs={"primary": "diffraction"})
    scan = scan.assign_coords(position_y=("position", y.astype(float)), position_x=("position", x.astype(float)))
    sf.save(scan.chunk(position=128), f"{folder}/frames.zarr", progress=False)


def run(small: bool) -> Iterator[Table]:
    """Yield the tables."""
    figures = Figures()
    tables = [_plans(small, figures)]
    with tempfile.TemporaryDirectory(prefix="grouping-") as folder:
        tables.append(_large(folder, 10**5 if small else 10**7, figures, small))
        tables.append(_frames(folder, 2000 if small else 50_000, figures, small))
    yield figures
    yield from tables


def _plans(small: bool, figures: Figures) -> Table:
    def method(name: str, function: str, count: int, nsamples: int) -> Method:
        return Method(name, f"benchmarks.grouping:{function}", count, {"count": count, "nsamples": nsamples})

    million = 10**5 if small else 10**6
    ours = method("scanfold", "plan", 10**4, 512)
    before = method("group, then sample", "group_then_sample", 10**4, 512)
    oldest = method("512 groups around every position", "explosion", 1000, 512)
    few, every = method("scanfold", "plan", million, 512), method("scanfold", "plan", million, million)
    floors = [method("cKDTree and its query alone", "tree_alone", m.positions, m.arguments["nsamples"])
              for m in (ours, few, every)]  # fmt: skip
    race([ours, before, few, every, *floors], 1 if small else 3)
    race([oldest], 1)
    table = Table(
        "Plans of groups of 4 among the 7 nearest, random positions in memory",
        ("method", "positions", "groups", "seconds, median (min–max)", "memory, MB"),
    )
    for m in (ours, before, oldest, floors[0], few, floors[1], every, floors[2]):
        row = (m.name, f"{m.positions:,}", f"{m.arguments['nsamples']:,}")
        table.rows.append((*row, spread([r.wall for r in m.runs]), number(_memory(m))))
    table.notes.append("512 groups around every position: on a tenth of the positions, each with all its groups.")
    for m in (ours, few, every):
        share = are_neighbours(m.positions, *m.runs[0].answer)
        figures.add(f"{m.positions:,} positions, {m.arguments['nsamples']:,} groups: of those looked at, members among "
                    f"the {K} nearest of the seed", "100 %", f"{share:.2%}", share == 1.0)  # fmt: skip
    speed, lean = _wall(before) / _wall(ours), _memory(before) / max(_memory(ours), 0.01)
    figures.add("10,000 positions, 512 groups: group, then sample / ours", "≥ 30 ×", f"{number(speed)} ×", speed >= 30)
    figures.add("the same, memory", "≥ 10 ×", f"{number(lean)} ×", lean >= 10)
    speed = 10 * _wall(oldest) / _wall(ours)
    figures.add(
        "512 groups around every position (scaled to 10,000) / ours", "≥ 1,000 ×", f"{number(speed)} ×", speed >= 1000
    )
    figures.add(f"{million:,} positions, a group around each", "≤ 2 s", f"{number(_wall(every))} s", _wall(every) <= 2)
    figures.add(f"{million:,} positions, 512 groups", "≤ 0.3 s", f"{number(_wall(few))} s", _wall(few) <= 0.3)
    return table


def _large(folder: str, count: int, figures: Figures, small: bool) -> Table:
    write_positions(folder, count)
    methods = [
        Method("index", "benchmarks.grouping:index", count, {"folder": folder}),
        Method("a group around each, to a store", "benchmarks.grouping:streamed", count, {"folder": folder}),
        Method(
            "512 groups, opening the index", "benchmarks.grouping:indexed", 512, {"folder": folder, "nsamples": 512}
        ),
    ]
    methods.append(Method("floor: reading the positions alone", "benchmarks.grouping:positions_alone", count,
                          {"folder": folder}))  # fmt: skip
    for method in methods:
        race([method], 1 if small else 3)
    table = Table(f"{count:,} random positions in zarr", ("step", "seconds, median (min–max)", "memory, MB"))
    table.rows = [(m.name, spread([r.wall for r in m.runs]), number(_memory(m))) for m in methods]
    table.rows.append(("the same, first in its process", number(methods[2].first.wall if methods[2].first else 0), ""))
    both = _wall(methods[0]) + _wall(methods[1])
    wanted = 15 * count / 10**7
    figures.add(
        f"{count:,} positions, a group around each, to a store",
        f"≤ {number(wanted)} s",
        f"{number(_wall(methods[1]))} s",
        _wall(methods[1]) <= wanted,
    )
    figures.add("the same with the making of the index", f"≤ {number(wanted)} s", f"{number(both)} s", both <= wanted)
    most = max(_memory(m) for m in methods[:3])
    figures.add("memory of the same", "≤ 500 MB", f"{number(most)} MB", most <= 500)
    return table


def _frames(folder: str, count: int, figures: Figures, small: bool) -> Table:
    write_frames(folder, count)
    ways = {
        "tile": "batches of 64 in tile order",
        "plan": "batches of 64 in the plan's order",
        "alone": "a twentieth of the groups, one read per frame",
    }
    groups = count // 25
    methods = {
        way: Method(name, "benchmarks.grouping:gathered", n, {"folder": folder, "nsamples": n, "way": way})
        for way, name in ways.items()
        for n in [groups // 20 if way == "alone" else groups]
    }
    race(list(methods.values()), 1 if small else 3)
    if methods["tile"].runs[0].answer != methods["plan"].runs[0].answer:
        raise RuntimeError("the order in which groups are gathered changes what is gathered")
    arguments = {"folder": folder, "nsamples": count // 10, "way": "dictionary"}
    legacy = Method("dictionary", "benchmarks.grouping:gathered", count // 10, arguments)
    race([legacy], 1)
    table = Table(
        f"{groups:,} groups of 4 frames of {count:,} (64 × 64, uint16, 128 in a chunk, raster)",
        ("way", "seconds, median (min–max)", "memory, MB"),
    )
    table.rows = [(m.name, spread([r.wall for r in m.runs]), number(_memory(m))) for m in methods.values()]
    table.notes.append("Both orders gather the same frames: their counts add up to one number.")
    share = _memory(legacy) * 2**20 / legacy.runs[0].answer
    figures.add(
        f"memory of {count // 10:,} groups as PtychoPINN's dictionary / its arrays",
        "≤ 1.5 ×",
        f"{number(share)} ×",
        share <= 1.5,
    )
    return table


def _wall(method: Method) -> float:
    return float(np.median([r.wall for r in method.runs])) if method.runs else float("nan")


def _memory(method: Method) -> float:
    """Return megabytes that the first run added, at its peak: later ones reuse what the first got."""
    return method.first.memory / 2**20 if method.first else float("nan")
