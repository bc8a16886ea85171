"""Sorting positions into tiles and leaves on disk, out of core: what `index_positions` makes.

Positions are spread over strips, files that each fit into memory, and these are sorted one after the other. Where
there are labels, strips follow each other by label first, and no tile has two.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from scanfold.conventions import InputError
from scanfold.grouping.positions import index_dtype
from scanfold.grouping.space import threads

Array = npt.NDArray[Any]
Key = Callable[[Array], Array]

FORMAT = 3
#: Positions of a tile, which one tree takes, and of a leaf, the least that is read.
TILE, LEAF = 2**16, 2**8
#: Positions that are sorted at a time.
CHUNK = 2**20


def sort_positions(y: xr.DataArray, x: xr.DataArray, labels: xr.DataArray | None, folder: Path) -> str:
    """Write all files of an index but its description; return the dtype of its coordinates.

    Parameters
    ----------
    y, x : DataArray
        Over one dimension, lazy or not.
    labels : DataArray, optional
        Over the same.
    folder : Path
        Empty.
    """
    dtype = np.dtype("float32") if y.dtype == x.dtype == np.dtype("float32") else np.dtype("float64")
    sample = _copy(y, x, labels, folder, dtype)
    along = int(np.argmax(np.ptp(sample["point"], axis=0)))
    low, extent = float(sample["point"][:, along].min()), float(np.ptp(sample["point"][:, along])) or 1.0

    def key(rows: Array) -> Array:
        """Return numbers that order positions by label, and then along the longer side of the scan."""
        return rows["label"] + np.clip((rows["point"][:, along] - low) / extent, 0, 1 - 2**-20)

    strips = max(1, round(np.sqrt(y.size / TILE)))
    edges = np.unique(np.quantile(key(sample), np.linspace(0, 1, strips + 1)[1:-1]))
    _spread(folder, y.size, dtype, labels is not None, key, edges)
    _sort(folder, y.size, dtype, along, edges.size + 1)
    return dtype.name


def _record(dtype: np.dtype[Any], count: int) -> np.dtype[Any]:
    return np.dtype([("point", dtype, 2), ("index", index_dtype(count)), ("label", np.int32)])


def _copy(y: xr.DataArray, x: xr.DataArray, labels: xr.DataArray | None, folder: Path, dtype: np.dtype[Any]) -> Array:
    """Write positions and labels one after the other, and return about a million of them."""
    step, sample, wrong = -(-y.size // 2**20), [], 0
    names = None if labels is None else _names(labels)
    with ExitStack() as stack:
        points_file = stack.enter_context(open(folder / "positions.bin", "wb"))
        labels_file = None if names is None else stack.enter_context(open(folder / "labels.bin", "wb"))
        for some in _chunks(y.size):
            points = np.stack([y[some].values, x[some].values], axis=1).astype(dtype, copy=False)
            finite = np.isfinite(points)
            if not finite.all():  # of whole arrays this is 50 times as fast as of pairs
                wrong += int((~finite.all(axis=1)).sum())
            points.tofile(points_file)
            taken = slice((-some.start) % step, None, step)
            rows = np.zeros(points[taken].shape[0], _record(np.dtype("float64"), y.size))
            rows["point"] = points[taken]
            if labels is not None and names is not None and labels_file is not None:
                numbers = np.searchsorted(names, labels[some].values).astype(np.int32)
                numbers.tofile(labels_file)
                rows["label"] = numbers[taken]
            sample.append(rows)
    if wrong:
        raise InputError(f"{wrong} of {y.size} positions are NaN or infinite; leave them out of the scan")
    return np.concatenate(sample)


def _names(labels: xr.DataArray) -> Any:
    found = np.unique(labels[:0].values)
    for some in _chunks(labels.size):
        found = np.union1d(found, labels[some].values)
    return found


def _chunks(count: int) -> Iterator[slice]:
    for first in range(0, count, CHUNK):
        yield slice(first, min(first + CHUNK, count))


def _spread(
    folder: Path, count: int, dtype: np.dtype[Any], labelled: bool, key: Callable[[Array], Array], edges: Array
) -> None:
    """Write each position, with its index and label, into the file of its strip."""
    with ExitStack() as stack:
        source = stack.enter_context(open(folder / "positions.bin", "rb"))
        labels = stack.enter_context(open(folder / "labels.bin", "rb")) if labelled else None
        files = [stack.enter_context(open(folder / f"strip-{i}", "wb")) for i in range(edges.size + 1)]
        for some in _chunks(count):
            rows = np.zeros(some.stop - some.start, _record(dtype, count))
            rows["point"] = np.fromfile(source, dtype, 2 * rows.size).reshape(-1, 2)
            rows["index"] = np.arange(some.start, some.stop)
            if labels is not None:
                rows["label"] = np.fromfile(labels, np.int32, rows.size)
            strip = np.searchsorted(edges, key(rows), side="right").astype(np.uint16)
            rows = rows[np.argsort(strip, kind="stable")]
            each = np.bincount(strip, minlength=edges.size + 1)
            for i, (low, high) in enumerate(itertools.pairwise([0, *np.cumsum(each).tolist()])):
                rows[low:high].tofile(files[i])


def _sort(folder: Path, count: int, dtype: np.dtype[Any], along: int, strips: int) -> None:
    """Sort each strip into tiles and leaves, and write their tables."""
    tiles: list[tuple[int, int, int, int, int]] = []
    leaves: list[Array] = []
    boxes: list[Array] = []
    start = 0

    def sort(i: int) -> list[tuple[Array, Array]]:
        strip = np.fromfile(folder / f"strip-{i}", _record(dtype, count))
        (folder / f"strip-{i}").unlink()
        return [_leaves_of(tile, along) for tile in _tiles_of(strip, along)]

    with open(folder / "sorted.bin", "wb") as points_file, open(folder / "indices.bin", "wb") as index_file:
        for ordered, ends in itertools.chain.from_iterable(_ahead(sort, range(strips))):
            points = np.ascontiguousarray(ordered["point"])  # with gaps, each number would be written by itself
            points.tofile(points_file)
            np.ascontiguousarray(ordered["index"]).tofile(index_file)
            starts = np.r_[0, ends[:-1]]
            corners = [f.reduceat(points, starts, axis=0) for f in (np.minimum, np.maximum)]
            boxes.append(np.hstack(corners))
            leaves.append(start + np.stack([starts, ends], axis=1))
            first = tiles[-1][3] if tiles else 0
            tiles.append((start, start + ordered.size, first, first + ends.size, int(ordered["label"][0])))
            start += ordered.size
    leaf_boxes = np.concatenate(boxes).astype(np.float64)
    tile_boxes = [(*leaf_boxes[a:b, :2].min(axis=0), *leaf_boxes[a:b, 2:].max(axis=0)) for _, _, a, b, _ in tiles]
    tables = {"tiles": np.array(tiles), "tile_boxes": np.array(tile_boxes), "leaves": np.concatenate(leaves)}
    for name, table in (tables | {"leaf_boxes": leaf_boxes}).items():
        np.save(folder / f"{name}.npy", table)


def _ahead(function: Callable[[int], Any], numbers: Iterable[int]) -> Iterator[Any]:
    """Call a function on some numbers, in threads, two calls ahead of what is taken."""
    with threads() as pool:
        waiting: deque[Any] = deque()
        for number in numbers:
            waiting.append(pool.submit(function, number))
            if len(waiting) > 2:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _tiles_of(strip: Array, along: int) -> Iterator[Array]:
    """Cut a strip by label, and across."""
    across, label = np.ascontiguousarray(strip["point"][:, 1 - along]), strip["label"]
    several = strip.size and label.min() < label.max()
    strip = strip[np.lexsort((across, label)) if several else np.argsort(across, kind="stable")]
    edges = np.flatnonzero(np.diff(strip["label"])) + 1
    for part in np.split(strip, edges) if strip.size else []:
        yield from np.array_split(part, -(-part.size // TILE))


def _leaves_of(tile: Array, along: int) -> tuple[Array, Array]:
    """Order the rows of a tile by leaves, strips cut again; return where each leaf ends."""
    across = max(1, round(np.sqrt(tile.size / LEAF)))
    by_strip = np.argsort(np.ascontiguousarray(tile["point"][:, along]), kind="stable")
    strip = np.empty(tile.size, np.int64)
    strip[by_strip] = np.arange(tile.size) * across // tile.size
    order = np.lexsort((tile["point"][:, 1 - along], strip))
    return tile[order], -(-np.arange(1, across * across + 1) * tile.size // (across * across))
