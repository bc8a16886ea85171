"""How a run is cut into blocks: output-aligned, on a regular grid, of about a second of work."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from scanfold import conventions
from scanfold.conventions import SCAN_DIMS, InputError
from scanfold.runs import graph as graphs
from scanfold.runs.worker import Block, Piece, Target

#: Seconds of work in a block that a run aims at, and the least it accepts for the sake of parallelism.
AIM, LEAST = 1.0, 0.05
#: Share of a worker's memory that a block may take.
SHARE = 0.7
#: Bytes of output up to which cells are joined; and those of a chunk of the store, which is read as a whole.
JOINED, CHUNK = 2**25, 2**24
#: Positions computed to predict the rest.
TRIAL = 50


@dataclass(frozen=True)
class Group:
    """Lazy variables over the same block dimensions, computed together.

    Parameters
    ----------
    dims : tuple of str
        Dimensions that are cut: scan dimensions, and others with several chunks.
    names : tuple of str
        Variables.
    block : tuple of int
        Shape of a block along `dims`.
    chunks : tuple of int
        Shape of a zarr chunk along `dims`: a block, or a part of one.
    """

    dims: tuple[str, ...]
    names: tuple[str, ...]
    block: tuple[int, ...]
    chunks: tuple[int, ...]


def block_dims(ds: xr.Dataset) -> dict[tuple[str, ...], list[str]]:
    """Group the lazy variables of a Dataset by the dimensions that blocks cut."""
    lazy = {str(n): v for n, v in ds.variables.items() if v.chunks is not None}
    several = {d for v in lazy.values() for d, c in zip(v.dims, v.chunks or (), strict=True) if len(c) > 1}
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, variable in lazy.items():
        dims = tuple(str(d) for d in variable.dims if d in SCAN_DIMS or d in several)
        known = next((g for g in groups if set(g) == set(dims)), dims)
        groups.setdefault(known, []).append(name)
    return _joined(groups, lazy, several)


def _joined(
    groups: dict[tuple[str, ...], list[str]], lazy: Mapping[str, xr.Variable], several: set[Any]
) -> dict[tuple[str, ...], list[str]]:
    """Join variables over more dimensions to those over fewer that the same tasks make: the rest are kept whole."""
    layers = {dims: {layer for n in names for layer in lazy[n].data.dask.layers} for dims, names in groups.items()}
    for more in sorted(groups, key=len, reverse=True):
        for fewer in groups:
            rest = set(more) - set(fewer)
            if fewer and set(fewer) < set(more) and not rest & several and layers[more] & layers[fewer]:
                groups[fewer] += groups.pop(more)
                layers[fewer] |= layers.pop(more)
                break
    return groups


def require_storable(ds: xr.Dataset) -> None:
    """Raise unless every lazy variable is of numbers.

    Raises
    ------
    InputError
        Naming the variable and what to type.
    """
    for name, variable in ds.variables.items():
        if name not in ds.coords and variable.chunks is not None and variable.dtype.kind not in "biufc":
            raise InputError(
                f"variable {name!r} is lazy and of dtype {variable.dtype}; only numbers are written block by block. "
                f"Load it first: ds[{name!r}].load()"
            )


class Scan:
    """A Dataset as a run sees it: its groups, their grids, and the graph that blocks are cut from."""

    def __init__(self, ds: xr.Dataset, groups: Sequence[Group], store: str, run: str):
        self.ds, self.groups, self.store, self.run = ds, list(groups), store, run
        status = ds.variables.get("status")
        self._independent: dict[Group, bool] = {}
        self._cached_edges: dict[tuple[str, int], np.ndarray] = {}
        self.flags = conventions.flags(ds["status"]) if status is not None and "flag_values" in status.attrs else {}

    @cached_property
    def graph(self) -> graphs.Graph:
        """The graph of all lazy variables."""
        lazy = [str(n) for n, v in self.ds.variables.items() if v.chunks is not None]
        return graphs.materialise(self.ds, lazy) if lazy else {}

    @property
    def positions(self) -> int:
        """How many positions all blocks have."""
        return sum(math.prod(self.ds.sizes[d] for d in group.dims) for group in self.groups)

    def keys(self, name: str) -> list[Any]:
        """Return all keys of a variable."""
        data = self.ds.variables[name].data
        return [(data.name, *index) for index in itertools.product(*map(range, data.numblocks))]

    def grid(self, group: Group) -> tuple[int, ...]:
        """Return how many blocks a group has along each of its dimensions."""
        return tuple(math.ceil(self.ds.sizes[d] / b) for d, b in zip(group.dims, group.block, strict=True))

    def names(self) -> Iterator[tuple[str, int]]:
        """Yield the name and the number of positions of every block."""
        for number, group in enumerate(self.groups):
            for index in itertools.product(*map(range, self.grid(group))):
                yield ".".join(map(str, (number, *index))), self._positions(group, index)

    def _positions(self, group: Group, index: Sequence[int]) -> int:
        region = self._region(group, index)
        return math.prod(s.stop - s.start for s in region.values())

    def _region(self, group: Group, index: Sequence[int]) -> dict[str, slice]:
        return {
            d: slice(i * b, min((i + 1) * b, self.ds.sizes[d]))
            for d, i, b in zip(group.dims, index, group.block, strict=True)
        }

    def block(self, name: str) -> Block:
        """Cut one block out of the scan."""
        number, *index = map(int, name.split("."))
        group = self.groups[number]
        region = self._region(group, index)
        targets = tuple(self._target(group, n, region) for n in group.names)
        keys = [key for t in targets for key, _, _ in t.parts]
        graph = graphs.cut(self.graph, keys)
        return Block(
            name=name,
            store=self.store,
            run=self.run,
            positions=self._positions(group, index),
            graph=graph,
            targets=targets,
            pieces=self._pieces(group, targets, region, graph),
            scan_ndim=len(group.dims),
            status=self.flags,
        )

    def _target(self, group: Group, name: str, region: Mapping[str, slice]) -> Target:
        variable = self.ds.variables[name]
        where = tuple(region.get(str(d), slice(0, n)) for d, n in zip(variable.dims, variable.shape, strict=True))
        overlaps = [self._overlaps(name, axis, s) for axis, s in enumerate(where)]
        parts = tuple(
            ((variable.data.name, *(o[0] for o in chosen)), tuple(o[1] for o in chosen), tuple(o[2] for o in chosen))
            for chosen in itertools.product(*overlaps)
        )
        return Target(name, str(variable.dtype), tuple(s.stop - s.start for s in where), where, parts)

    def _edges(self, name: str, axis: int) -> np.ndarray:
        """Return where the dask chunks of a variable begin and end along an axis."""
        cached = self._cached_edges
        if (name, axis) not in cached:
            chunks = self.ds.variables[name].data.chunks[axis]
            cached[name, axis] = np.concatenate([[0], np.cumsum(chunks)])
        return cached[name, axis]

    def _overlaps(self, name: str, axis: int, where: slice) -> list[tuple[int, slice, slice]]:
        """Return ``(chunk number, slice of the chunk, slice of the block)`` along an axis."""
        edges = self._edges(name, axis)
        first = int(np.searchsorted(edges, where.start, side="right")) - 1
        last = max(int(np.searchsorted(edges, where.stop, side="left")), first + 1)
        found = []
        for number in range(first, last):
            low, high = max(int(edges[number]), where.start), min(int(edges[number + 1]), where.stop)
            origin = int(edges[number])
            found.append((number, slice(low - origin, high - origin), slice(low - where.start, high - where.start)))
        return found

    def _pieces(
        self, group: Group, targets: Sequence[Target], region: Mapping[str, slice], graph: graphs.Graph
    ) -> tuple[Piece, ...]:
        """Return the pieces of a block whose positions are independent, else none."""
        ndim = len(group.dims)
        if group not in self._independent:
            self._independent[group] = self._aligned(group) and (
                graphs.kernels(graph, [t.parts[0][0] for t in targets], ndim) is not None
            )
        if not self._independent[group]:
            return ()
        chunks = self.ds.variables[group.names[0]].data.chunks
        pieces = []
        for parts in zip(*(t.parts for t in targets), strict=True):
            keys = tuple(key for key, _, _ in parts)
            index, source = parts[0][0][1 : 1 + ndim], parts[0][1][:ndim]
            shape = tuple(int(chunks[a][i]) for a, i in enumerate(index))
            first = np.ravel_multi_index([s.start for s in source], shape)
            last = np.ravel_multi_index([s.stop - 1 for s in source], shape)
            pieces.append(Piece(keys, shape, (int(first), int(last) + 1)))
        return tuple(pieces)

    def _aligned(self, group: Group) -> bool:
        """Tell whether the variables of a group share their leading dimensions and chunks."""
        ndim = len(group.dims)
        variables = [self.ds.variables[n] for n in group.names]
        return all(v.dims[:ndim] == group.dims for v in variables) and (
            len({v.data.chunks[:ndim] for v in variables}) == 1
        )

    def middle(self, number: int) -> Block:
        """Return the block in the middle of a group, for a trial."""
        return self.block(".".join(map(str, (number, *(n // 2 for n in self.grid(self.groups[number]))))))


def cells(ds: xr.Dataset) -> list[Group]:
    """Return the finest groups: blocks that are one dask chunk of every variable, where their chunks allow it."""
    groups = []
    for dims, names in block_dims(ds).items():
        if dims:
            empty = [d for d in dims if ds.sizes[d] == 0]
            if empty:
                raise InputError(f"there is nothing to compute: {names[0]!r} has no points along {empty[0]!r}")
            shape = tuple(step(ds, names, d) for d in dims)
            groups.append(Group(dims, tuple(names), shape, shape))
    return groups


def step(ds: xr.Dataset, names: Sequence[str], dim: str) -> int:
    """Return the smallest regular step whose multiples are chunk edges of all variables.

    Where that is much longer than the chunks, because they are irregular, it is the longest chunk: then
    blocks are sliced from chunks, some of which two blocks compute.
    """
    lengths = [c for n in names for d, c in zip(ds[n].dims, ds[n].chunks or (), strict=True) if d == dim]
    size = ds.sizes[dim]
    edges: list[set[int]] = [set(np.cumsum(c).tolist()) for c in lengths]
    shared = set.intersection(*edges)
    longest = max(max(c) for c in lengths)
    for step in sorted(shared):
        if step > 4 * longest:
            break
        if all(multiple in shared for multiple in range(step, size, step)):
            return step
    return min(longest, size) or 1


def fit_blocks(scan: Scan, costs: Mapping[int, Mapping[str, float]], threads: int, memory: float) -> list[Group]:
    """Merge or split the cells of each group to come near a second of work per block.

    Parameters
    ----------
    scan : Scan
        Cut into cells.
    costs : mapping
        For each group, by its number, what `trial.try_rows` found.
    threads : int
        Worker threads; each should have several blocks, so that they end together.
    memory : float
        Bytes that one of them has.

    Raises
    ------
    InputError
        If one cell does not fit in memory, with the chunks to type.
    """
    fitted = []
    for number, group in enumerate(scan.groups):
        sizes = [scan.ds.sizes[d] for d in group.dims]
        grid = scan.grid(group)
        bytes_out = _bytes(scan.ds, group)
        cost = costs.get(number)
        block = scan.middle(number)
        # Twice what is read: a kernel may copy it, to make it contiguous or float.
        peak = max(2 * graphs.read_bytes(block.graph, block.keys), cost["peak"] if cost else 0) + bytes_out
        _require_memory(group, peak + bytes_out, memory)
        if cost is None:
            fitted.append(group)
            continue
        rows = math.prod(group.block)
        seconds = cost["fixed"] + cost["per_row"] * rows
        aim = min(max(seconds * math.prod(grid) / (4 * threads), LEAST), AIM)
        independent = bool(cost.get("independent"))
        if seconds > 2 * aim and independent and cost["per_row"] * rows > 2 * cost["fixed"]:
            fitted.append(_resize(scan.ds, group, _split(group.block, sizes, cost, aim)))
        else:
            room = max(1.0, min(SHARE * memory - peak, JOINED) / max(bytes_out, 1))
            fitted.append(_resize(scan.ds, group, _merge(group.block, grid, min(aim / max(seconds, 1e-9), room))))
    return fitted


def predict(scan: Scan, number: int, fitted: Group, cost: Mapping[str, float], threads: int) -> tuple[float, str]:
    """Return how many seconds the blocks of a group will take, and that in words."""
    cell = scan.groups[number]
    rows = math.prod(fitted.block)
    # A block of several cells reads each; one that is part of a cell reads it whole.
    seconds = cost["fixed"] * max(1.0, rows / math.prod(cell.block)) + cost["per_row"] * rows
    blocks = math.prod(math.ceil(scan.ds.sizes[d] / b) for d, b in zip(fitted.dims, fitted.block, strict=True))
    total = blocks * seconds / min(threads, blocks)
    shape = " × ".join(f"{d} {n}" for d, n in zip(fitted.dims, fitted.block, strict=True))
    memory = (cost["peak"] + _bytes(scan.ds, fitted)) / 2**20
    return total, (
        f"about {total:.0f} s on {threads} threads: "
        f"{blocks} blocks of {shape}, {seconds:.1f} s and {memory:.0f} MiB each"
    )


def _resize(ds: xr.Dataset, group: Group, shape: Sequence[int]) -> Group:
    """Return a group with blocks of this shape, written in chunks that are halves of it until they are short."""
    block = Group(group.dims, group.names, tuple(shape), tuple(shape))
    chunks, largest = list(shape), max(_bytes(ds, replace(block, names=(name,))) for name in group.names)
    while largest > CHUNK and (even := [axis for axis, n in enumerate(chunks) if n % 2 == 0]):
        axis = max(even, key=lambda axis: chunks[axis])
        chunks[axis], largest = chunks[axis] // 2, largest // 2
    return replace(block, chunks=tuple(chunks))


def _bytes(ds: xr.Dataset, group: Group) -> int:
    """Return the bytes of output of one block."""
    total = 0
    for name in group.names:
        blocks = dict(zip(group.dims, group.block, strict=True))
        total += math.prod(blocks.get(str(d), n) for d, n in ds[name].sizes.items()) * ds[name].dtype.itemsize
    return total


def _merge(cell: Sequence[int], grid: Sequence[int], wanted: float) -> list[int]:
    """Join up to `wanted` cells, growing the shortest side first."""
    factors = [1] * len(cell)
    while True:
        open_axes = [a for a in range(len(cell)) if factors[a] < grid[a]]
        axes = [a for a in open_axes if math.prod(factors) // factors[a] * min(2 * factors[a], grid[a]) <= wanted]
        if not axes:
            break
        axis = min(axes, key=lambda a: factors[a] * cell[a])
        factors[axis] = min(2 * factors[axis], grid[axis])
    return [c * f for c, f in zip(cell, factors, strict=True)]


def _split(cell: Sequence[int], sizes: Sequence[int], cost: Mapping[str, float], aim: float) -> list[int]:
    """Cut a cell along its leading sides, so that the positions of a block follow each other."""
    # Every part reads the whole chunk: parts shorter than the reading would mostly read.
    share = max(aim - cost["fixed"], 2 * cost["fixed"], LEAST)
    rows = max(1, round(share / cost["per_row"]))
    shape = list(cell)
    for axis, size in enumerate(sizes):
        tail = math.prod(shape[axis + 1 :])
        wanted = max(1, rows // tail)
        if wanted >= shape[axis]:
            break
        # Blocks lie on a regular grid over all cells: their length divides the cell's, if there are several.
        lengths = [n for n in range(1, cell[axis] + 1) if cell[axis] >= size or cell[axis] % n == 0]
        shape[axis] = max(n for n in lengths if n <= wanted)
        if shape[axis] > 1:
            break
    return shape


def require_whole_chunks(groups: Sequence[Group], sizes: Mapping[Any, int]) -> None:
    """Raise unless every block is of whole chunks of the store: two blocks must never write to one chunk.

    Raises
    ------
    InputError
        Naming the dimension, the block and the chunk.
    """
    for group in groups:
        for dim, block, chunk in zip(group.dims, group.block, group.chunks, strict=True):
            if block < 1 or chunk < 1 or (block % chunk and block < sizes[dim]):
                raise InputError(
                    f"blocks of {block} along {dim!r} are not of whole chunks of {chunk}: two blocks would write to "
                    "one chunk. Pass resume=False to start over, with a plan that is made anew"
                )


def _require_memory(group: Group, needed: float, memory: float) -> None:
    if needed <= SHARE * memory:
        return
    shape = list(group.block)
    left = needed
    while left > SHARE * memory and max(shape) > 1:
        axis = shape.index(max(shape))
        left *= math.ceil(shape[axis] / 2) / shape[axis]
        shape[axis] = math.ceil(shape[axis] / 2)
    raise InputError(
        f"a block of {dict(zip(group.dims, group.block, strict=True))} needs about {needed / 2**20:.0f} MiB, more than "
        f"{SHARE:.0%} of the {memory / 2**20:.0f} MiB of a worker thread; {less_memory(group, shape)}"
    )


def less_memory(group: Group, shape: Sequence[int] | None = None) -> str:
    """Return what to do so that blocks of a group need less memory; its blocks are halved if no shape is given."""
    if shape is None:
        longest = max(group.block)
        shape = [math.ceil(n / 2) if n == longest else n for n in group.block]
    chunks = ", ".join(f"{d}={n}" for d, n in zip(group.dims, shape, strict=True))
    return f"use smaller chunks: scan.chunk({chunks}), or workers with more memory or fewer threads each"


def to_json(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Return groups as plain data."""
    return [asdict(g) for g in groups]


def from_json(content: Sequence[Mapping[str, Any]]) -> list[Group]:
    """Return groups from plain data."""
    return [Group(tuple(g["dims"]), tuple(g["names"]), tuple(g["block"]), tuple(g["chunks"])) for g in content]
