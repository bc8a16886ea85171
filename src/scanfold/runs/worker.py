"""What happens inside a worker: compute one block, write its whole chunks, then its ledger entry."""

from __future__ import annotations

import io
import itertools
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from dask.local import get_sync

from scanfold import _apply
from scanfold._paths import content_of, location, make, persist, write_whole, zarr_options
from scanfold.conventions import is_url
from scanfold.runs import graph as graphs
from scanfold.runs.ledger import Ledger, writing

Slices = tuple[slice, ...]


@dataclass(frozen=True)
class Piece:
    """What a block takes from one dask chunk of every variable.

    `rows` are the positions of that chunk, flattened, that the block needs, out of `count`.
    """

    keys: tuple[Any, ...]
    shape: tuple[int, ...]
    rows: tuple[int, int]

    @property
    def count(self) -> int:
        """Number of positions in the dask chunk."""
        return int(np.prod(self.shape))


@dataclass(frozen=True)
class Target:
    """One variable of a block: where it goes, and ``(key, slices of the chunk, slices of the block)`` it is made of."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    region: Slices
    parts: tuple[tuple[Any, Slices, Slices], ...]


@dataclass(frozen=True)
class Block:
    """Everything a worker needs to compute and write one block."""

    name: str
    store: str
    run: str
    positions: int
    graph: graphs.Graph = field(repr=False)
    targets: tuple[Target, ...]
    pieces: tuple[Piece, ...]  # empty unless positions are independent of each other
    scan_ndim: int
    status: dict[str, int]  # flags of the variable `status`, empty if there is none

    @property
    def keys(self) -> list[Any]:
        """All keys of the graph that the block is made of."""
        return [key for target in self.targets for key, _, _ in target.parts]


def run_block(block: Block, max_attempts: int | None = None) -> dict[str, Any]:
    """Compute a block, write it, enter it in the ledger, and return the entry.

    `max_attempts` is how many starts of this block may end without a word (its worker killed)
    before ``{"state": "killer"}`` is returned in place of another try; None does not count them.
    """
    ledger = Ledger(location(block.store))
    if (entry := ledger.entry(block.name)) is not None:
        return entry  # it was finished by a worker that died before it could say so
    with attempt(ledger, block.name, max_attempts) as allowed:
        if not allowed:
            return {"state": "killer"}
        start = time.perf_counter()
        arrays = compute(block)
        return finish(block, arrays, seconds=time.perf_counter() - start)


def run_fragment(block: Block, units: tuple[int, int], max_attempts: int) -> dict[str, Any]:
    """Compute some positions of a block that kills its workers, and keep them in a file of their own."""
    ledger = Ledger(location(block.store))
    name = f"{block.name}-{units[0]}-{units[1]}"
    with attempt(ledger, name, max_attempts) as allowed:
        if not allowed:
            return {"state": "killer"}
        kept = {}
        for number, rows in _overlaps(block.pieces, units):
            piece = block.pieces[number]
            chunks = dict(zip(piece.keys, execute(_restrict(block, {number: rows}), piece.keys), strict=True))
            for target in block.targets:
                chunk = chunks[target.parts[number][0]]
                flat = chunk.reshape((piece.count, *chunk.shape[block.scan_ndim :]))
                kept[f"{number} {rows[0]} {target.name}"] = flat[rows[0] : rows[1]]
        buffer = io.BytesIO()
        np.savez(buffer, **kept)
        path = ledger.part(block.name, units)
        with writing(ledger.folder):
            make(path.parent)
            write_whole(path, buffer.getvalue())
        return {"state": "done"}


def merge_fragments(
    block: Block, fragments: Sequence[tuple[int, int]], condemned: Sequence[tuple[int, int]]
) -> dict[str, Any]:
    """Write a block from its fragments; condemned positions are NaN, with status `crashed`."""
    ledger = Ledger(location(block.store))
    values: dict[Any, np.ndarray] = {}
    for target in block.targets:
        for piece, (key, _, _) in zip(block.pieces, target.parts, strict=True):
            fill = np.nan if np.dtype(target.dtype).kind in "fc" else 0
            tail = target.shape[block.scan_ndim :]
            values[key] = np.full((piece.count, *tail), fill, target.dtype)
    for units in fragments:
        with ledger.part(block.name, units).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            for label in file.files:
                number, first, name = label.split(" ", 2)
                rows = file[label]
                target = next(t for t in block.targets if t.name == name)
                values[target.parts[int(number)][0]][int(first) : int(first) + len(rows)] = rows
    for target in block.targets:
        if target.name == "status" and "crashed" in block.status:
            for units in condemned:
                for number, (first, last) in _overlaps(block.pieces, units):
                    values[target.parts[number][0]][first:last] = block.status["crashed"]
    for target in block.targets:
        for piece, (key, _, _) in zip(block.pieces, target.parts, strict=True):
            values[key] = values[key].reshape(piece.shape + target.shape[block.scan_ndim :])
    return finish(block, _placed(block, values), condemned=sum(last - first for first, last in condemned))


def compute(block: Block) -> dict[str, np.ndarray]:
    """Return the values of every variable of a block; positions outside the block are skipped."""
    rows = {n: p.rows for n, p in enumerate(block.pieces) if p.rows != (0, p.count)}
    keys = block.keys
    return _placed(block, dict(zip(keys, execute(_restrict(block, rows), keys), strict=True)))


def finish(block: Block, arrays: dict[str, np.ndarray], **more: Any) -> dict[str, Any]:
    """Write the whole chunks of a block, and only then its ledger entry."""
    ledger = Ledger(location(block.store))
    with writing_chunks(ledger, [target.name for target in block.targets]):
        for target in block.targets:
            persist(_write, block, target, arrays[target.name])
    entry: dict[str, Any] = {"state": "done", "positions": block.positions, **more}
    if block.status and "status" in arrays:
        found, counts = np.unique(arrays["status"], return_counts=True)
        entry["status"] = {str(int(v)): int(n) for v, n in zip(found, counts, strict=True)}
    ledger.finish(block.name, entry)
    return entry


def _write(block: Block, target: Target, values: np.ndarray) -> None:
    """Write one chunk after another: zarr would copy and compress ten at a time."""
    array = _open(block.store, target.name, block.run)
    cuts = [range(0, n, step) for n, step in zip(values.shape, array.chunks, strict=True)]
    for corner in itertools.product(*cuts):
        ends = [min(c + step, n) for c, step, n in zip(corner, array.chunks, values.shape, strict=True)]
        region = tuple(slice(s.start + c, s.start + e) for s, c, e in zip(target.region, corner, ends, strict=True))
        array[region] = values[tuple(map(slice, corner, ends))]


@contextmanager
def writing_chunks(ledger: Ledger, names: Sequence[str]) -> Iterator[None]:
    """Write chunks of some variables; where the store is deleted meanwhile, zarr makes its folders again: not here."""
    local = not is_url(ledger.store)
    with writing(ledger.folder):
        try:
            if local:
                ledger.blocks.stat()
            yield
        finally:
            if local and not ledger.blocks.exists() and not (ledger.store / "zarr.json").exists():
                for name in names:
                    shutil.rmtree(ledger.store / name, ignore_errors=True)
                with suppress(OSError):
                    ledger.store.rmdir()


class _Rows:
    """A kernel that sees only some positions, if its positions are those of the block."""

    def __init__(self, kernel: _apply._Block, rows: tuple[int, int], count: int):
        self.kernel, self.rows, self.count = kernel, slice(*rows), count

    def __call__(self, *blocks: np.ndarray) -> np.ndarray:
        if positions(self.kernel, blocks) != self.count:
            return self.kernel(*blocks)
        with _apply.only_rows(self.rows):
            return self.kernel(*blocks)


@contextmanager
def single_threaded_libraries() -> Iterator[None]:
    """Run BLAS, OpenMP and numba with one thread: the blocks are what runs in parallel.

    OpenMP and numba keep their number per thread, BLAS per process; all are put back.
    """
    numba = sys.modules.get("numba")
    before = numba.get_num_threads() if numba is not None else None
    limits = limit_libraries()
    try:
        yield
    finally:
        limits.restore_original_limits()
        if numba is not None:
            numba.set_num_threads(before)


def limit_libraries() -> Any:
    """Limit the libraries of this thread, and return what puts BLAS back."""
    if "numba" in sys.modules:
        sys.modules["numba"].set_num_threads(1)  # first: it loads an OpenMP library, which is then limited too
    return _libraries(len(sys.modules)).limit(limits=1)


@lru_cache(maxsize=1)
def _libraries(modules: int) -> Any:
    """Look for BLAS and OpenMP in this process; again only when modules were loaded since, for it takes 2 ms."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def positions(kernel: _apply._Block, blocks: Sequence[np.ndarray]) -> int:
    """Return how many positions a kernel is given."""
    lead = (b.shape[: b.ndim - core] for b, core in zip(blocks, kernel.core, strict=True))
    return int(np.prod(np.broadcast_shapes(*lead)))


def _restrict(block: Block, rows: dict[int, tuple[int, int]]) -> graphs.Graph:
    """Return the block's graph with the kernels of these pieces limited to these rows."""
    graph = block.graph
    for number, limits in rows.items():
        piece = block.pieces[number]
        found = graphs.kernels(graph, piece.keys, block.scan_ndim)
        assert found is not None, "blocks have pieces only if their positions are independent"
        graph = graphs.replace_kernels(graph, found, lambda k, p=piece, r=limits: _Rows(k, r, p.count))  # type: ignore[misc]
    return graph


def execute(graph: graphs.Graph, keys: Sequence[Any]) -> list[np.ndarray]:
    """Return the values of some keys, one task after another."""
    optimised = graphs.optimise(graphs.cut(graph, keys), keys)
    with np.errstate(all="ignore"):  # positions that cannot be fitted say so in `status`
        return [np.asarray(v) for v in get_sync(optimised, list(keys))]


def _placed(block: Block, values: dict[Any, np.ndarray]) -> dict[str, np.ndarray]:
    """Put the chunks of each variable where they belong in its array; what is placed is let go."""
    arrays: dict[str, np.ndarray] = {}
    last = {key: target.name for target in block.targets for key, _, _ in target.parts}
    for target in block.targets:
        if len(target.parts) > 1:
            arrays[target.name] = np.empty(target.shape, target.dtype)
        for key, source, destination in target.parts:
            chunk = values.pop(key) if last[key] == target.name else values[key]
            if len(target.parts) > 1:
                arrays[target.name][destination] = chunk[source]
            else:
                arrays[target.name] = chunk[source]
    return arrays


def _overlaps(pieces: Sequence[Piece], units: tuple[int, int]) -> Iterator[tuple[int, tuple[int, int]]]:
    """Yield ``(piece, its rows)`` for a range of the positions of all pieces in a row."""
    offset = 0
    for number, piece in enumerate(pieces):
        first, last = piece.rows
        low, high = max(units[0], offset), min(units[1], offset + last - first)
        if low < high:
            yield number, (first + low - offset, first + high - offset)
        offset += last - first


@contextmanager
def attempt(ledger: Ledger, name: str, limit: int | None) -> Iterator[bool]:
    """Mark that this block is running, so that a death tells which block it was."""
    if limit is None:
        yield True
        return
    marker = ledger.attempts / name
    starts = content_of(marker) or b""
    allowed = len(starts) < limit
    if allowed:
        with writing(ledger.folder):
            persist(marker.write_bytes, starts + b"x")
    try:
        yield allowed
    finally:
        marker.unlink(missing_ok=True)


@lru_cache(maxsize=256)
def _open(store: str, name: str, run: str) -> Any:
    """Open an array for writing; `run` keeps a store that was started over from being taken for the old one."""
    import zarr

    # An all-zero chunk must leave a file, like any other; opening with this option would ignore it.
    array = zarr.open_array(f"{store}/{name}", mode="r+", **zarr_options(store))
    return array.with_config({"write_empty_chunks": True})
