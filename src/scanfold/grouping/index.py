"""A spatial index of positions on disk: neighbours of some of 10⁸ positions without holding them.

Positions are sorted into tiles, strips of equal counts along one axis that are cut along the other, and each tile into
leaves of a few hundred. What is near a place lies in a few runs of rows, which are all that is read.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import uuid
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from scanfold._paths import exists
from scanfold.conventions import InputError, describe_input, fingerprint, is_url
from scanfold.grouping._neighbour_kernels import SLACK, nearest, reach
from scanfold.grouping.positions import index_dtype, lazy_positions
from scanfold.grouping.space import threads
from scanfold.io import open_scan

Array = npt.NDArray[Any]

FORMAT = 2
#: Bytes of a file of an index up to which all of it is checked when the index is opened.
CHECKED = 2**26
#: Positions of a tile, which one tree takes, and of a leaf, the least that is read.
TILE, LEAF = 2**16, 2**8
#: Positions that are sorted at a time when an index is made.
CHUNK = 2**20
#: Runs of rows with gaps up to this many are read as one.
_GAP = 2 * LEAF


@dataclass(frozen=True)
class PositionIndex:
    """Positions sorted in space, in a folder of files; `plan_groups` takes it in place of a scan.

    Parameters
    ----------
    path : str
        The folder.
    count : int
        How many positions.
    dtype : str
        Of their coordinates.
    units : str
        Of their coordinates; empty if unknown.
    identity : mapping
        What the index was made of.
    """

    path: str
    count: int
    dtype: str
    units: str
    identity: dict[str, Any]

    def __len__(self) -> int:
        """Return how many positions there are."""
        return self.count

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel without the tables, which are read again from the folder."""
        return PositionIndex, (self.path, self.count, self.dtype, self.units, self.identity)

    @cached_property
    def _tiles(self) -> Array:
        """Of each tile: first row, last row, first leaf, last leaf."""
        return np.asarray(np.load(Path(self.path) / "tiles.npy"))

    @cached_property
    def _boxes(self) -> Array:
        """The box of each tile: low y, low x, high y, high x."""
        return np.asarray(np.load(Path(self.path) / "tile_boxes.npy"))

    @cached_property
    def _leaves(self) -> tuple[Array, Array]:
        """Of each leaf, in the order of rows: first and last row; its box."""
        return np.load(Path(self.path) / "leaves.npy"), np.load(Path(self.path) / "leaf_boxes.npy")

    def at(self, indices: Array) -> Array:
        """Return the positions (…, 2) of some indices, in float64."""
        stored = np.memmap(Path(self.path) / "positions.bin", self.dtype, "r", shape=(self.count, 2))
        return np.asarray(stored[indices], np.float64)

    def rows(self, first: int, last: int) -> tuple[Array, Array]:
        """Return the positions (n, 2) of some sorted rows, in float64, and their indices."""
        points = self._read("sorted.bin", self.dtype, first, last, 2).astype(np.float64)
        indices = self._read("indices.bin", index_dtype(self.count), first, last, 1).ravel().astype(np.int64)
        if not np.isfinite(points).all() or (indices < 0).any() or (indices >= self.count).any():
            raise InputError(f"the index {self.path} is damaged; delete it, and make it again")
        return points, indices

    def _read(self, name: str, dtype: npt.DTypeLike, first: int, last: int, width: int) -> Array:
        size = np.dtype(dtype).itemsize * width
        with open(Path(self.path) / name, "rb") as file:
            found = np.fromfile(file, dtype, (last - first) * width, offset=first * size)
        if found.size != (last - first) * width:
            raise InputError(f"the index {self.path} is damaged; delete it, and make it again")
        return found.reshape(-1, width)

    def search(self, seeds: Array, k: int) -> tuple[Array, Array]:
        """Return the k nearest other positions of each seed, by distance and then index, and their distances."""
        points = self.at(seeds)
        indices, distances = np.full((seeds.size, k), -1), np.full((seeds.size, k), np.inf)
        tile = self._tile_of(points)
        by_tile = np.argsort(tile, kind="stable")
        parts = np.split(by_tile, np.flatnonzero(np.diff(tile[by_tile])) + 1)
        with threads() as pool:
            for rows, found, apart in pool.map(lambda rows: (rows, *self.near(points[rows], seeds[rows], k)), parts):
                indices[rows], distances[rows] = found, apart
        return indices, distances

    def near(self, points: Array, own: Array, k: int) -> tuple[Array, Array]:
        """Search neighbours as `search` does, of points that lie together."""
        indices, distances = np.empty((len(points), k), np.int64), np.empty((len(points), k))
        left, margin = np.arange(len(points)), self._margin(points[0], k)
        while left.size:
            members, index = self._around(points[left], margin)
            found, apart = nearest(members, index, points[left], own[left], k)
            good = (found[:, -1] >= 0) & ((apart[:, -1] * (1 + SLACK) < margin) | (index.size == self.count))
            if left.size == len(points) and good.all():
                return found, apart
            indices[left[good]], distances[left[good]] = found[good], apart[good]
            left, margin = left[~good], 2 * margin
        return indices, distances

    def tiles_of(self, first: int, last: int) -> Iterator[tuple[Array, Array]]:
        """Yield the positions of some sorted rows, and their indices, tile by tile."""
        starts = self._tiles[:, 0]
        cuts = [first, *starts[(starts > first) & (starts < last)].tolist(), last]
        for low, high in itertools.pairwise(cuts):
            yield self.rows(low, high)

    def _tile_of(self, points: Array) -> Array:
        """Return a tile whose box each point is in."""
        out = np.zeros(len(points), np.int64)
        for first in range(0, len(points), 2**12):
            p = points[first : first + 2**12, None]
            inside = ((p >= self._boxes[:, :2]) & (p <= self._boxes[:, 2:])).all(axis=2)
            out[first : first + 2**12] = inside.argmax(axis=1)
        return out

    def _margin(self, point: Array, k: int) -> float:
        """Return a distance within which a point should have k neighbours, by how dense its tile is."""
        tile = int(self._tile_of(point[None])[0])
        low, high = self._boxes[tile].reshape(2, 2)
        return reach(high - low, int(self._tiles[tile, 1] - self._tiles[tile, 0]), k)

    def _around(self, points: Array, margin: float) -> tuple[Array, Array]:
        """Return all positions within a margin of each point, and others; few points are looked at one by one."""
        y, x = points.T
        whole = np.array([y.min() - margin, x.min() - margin, y.max() + margin, x.max() + margin])
        spans, leaves = self._leaves
        tiles = self._tiles[_meets(self._boxes, whole)]
        near = np.concatenate([np.arange(t[2], t[3]) for t in tiles]) if len(tiles) else np.empty(0, np.int64)
        wanted = _meets(leaves[near], whole)
        if len(points) <= LEAF:
            boxes = np.concatenate([points - margin, points + margin], axis=1)
            wanted = np.logical_or.reduce([_meets(leaves[near], box) for box in boxes])
        found = [self.rows(first, last) for first, last in _runs(spans[near[wanted]])]
        if not found:
            return np.empty((0, 2)), np.empty(0, np.int64)
        members, index = (np.concatenate(parts) for parts in zip(*found, strict=True))
        y, x = members.T
        inside = (y >= whole[0]) & (y <= whole[2]) & (x >= whole[1]) & (x <= whole[3])
        return members[inside], index[inside]


def _meets(boxes: Array, box: Array) -> Array:
    return np.asarray(((boxes[:, :2] <= box[2:]) & (boxes[:, 2:] >= box[:2])).all(axis=1))


def _runs(spans: Array) -> Iterator[tuple[int, int]]:
    """Join spans of rows, sorted by their first, whose gaps are short."""
    if not len(spans):
        return
    first, last = spans[0]
    for low, high in spans[1:]:
        if low > last + _GAP:
            yield int(first), int(last)
            first = low
        last = max(last, high)
    yield int(first), int(last)


def index_positions(positions: Any, path: str | os.PathLike[str] | None = None) -> PositionIndex:
    """Sort positions into a spatial index on disk, out of core; made once, it is opened when it is asked for again.

    Parameters
    ----------
    positions : path, Dataset or array
        A store, or a scan with ``position_y`` and ``position_x`` (lazy or not), or an (n, 2) array with columns y, x.
    path : path, optional
        The folder to make; beside the store by default, with ``.positions`` after its name.

    Returns
    -------
    PositionIndex
        For `plan_groups` in place of the scan. On disk it takes two copies of the positions and their indices.

    Raises
    ------
    InputError
        If positions are missing or not finite, or `path` is something else already.

    Examples
    --------
    >>> import tempfile
    >>> from scanfold.grouping import plan_groups
    >>> points = np.random.default_rng(0).uniform(0, 100, (5000, 2))
    >>> index = index_positions(points, tempfile.mkdtemp() + "/scan.positions")
    >>> plan = plan_groups(index, nsamples=10, gridsize=2)
    >>> plan.identical(plan_groups(points, nsamples=10, gridsize=2).assign_attrs(plan.attrs))
    True
    """
    store = positions if isinstance(positions, str | os.PathLike) else None
    if store is not None:
        path = f"{os.fspath(store).rstrip('/')}.positions" if path is None else path
        positions = open_scan(store)
    if path is None:
        raise InputError("pass the folder for the index: index_positions(scan, 'scan.positions')")
    if is_url(path):
        raise InputError(f"an index is mapped into memory, found the URL {path!r}; pass path= a folder here")
    y, x = lazy_positions(positions)
    folder = Path(path)
    identity: dict[str, Any] = {"position_y": describe_input(y), "position_x": describe_input(x)}
    if store is not None:
        identity = {"source": fingerprint(store)}
    if folder.exists():
        found = open_index(folder)
        if found.identity == identity:
            return found
    partial = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}.partial")
    partial.mkdir(parents=True)
    try:
        made = _build(y, x, partial, identity)
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return PositionIndex(str(folder.absolute()), made["count"], made["dtype"], made["units"], identity)


def open_index(path: str | os.PathLike[str]) -> PositionIndex:
    """Open what `index_positions` made.

    Raises
    ------
    InputError
        If it is none, or the scan that it was made of has changed since.
    """
    folder = Path(path)
    try:
        made = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        if made["format"] != FORMAT:
            raise ValueError(f"format {made['format']}")
        if made.pop("checksum") != _checksum(json.dumps(made, sort_keys=True).encode()):
            raise ValueError("index.json is damaged")
        for name, (size, checksum) in made["files"].items():
            found = (folder / name).stat().st_size
            if found != size or (size <= CHECKED and _checksum((folder / name).read_bytes()) != checksum):
                raise ValueError(f"{name} is damaged")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{str(path)!r} is no index of positions ({error}); make one: index_positions(scan, path)"
        ) from None
    source = made["identity"].get("source")
    if source and exists(source["path"]) and fingerprint(source["path"]) != source:
        raise InputError(
            f"{source['path']} changed after its index {str(path)!r} was made; delete the index, and make it again"
        )
    return PositionIndex(str(folder.absolute()), made["count"], made["dtype"], made["units"], made["identity"])


def _build(y: xr.DataArray, x: xr.DataArray, folder: Path, identity: dict[str, Any]) -> dict[str, Any]:
    """Sort the positions: copy them, spread them over strips, then sort one strip after the other."""
    dtype = np.dtype("float32") if y.dtype == x.dtype == np.dtype("float32") else np.dtype("float64")
    made = {
        "format": FORMAT,
        "count": y.size,
        "dtype": dtype.name,
        "units": y.attrs.get("units", ""),
        "identity": identity,
    }
    sample = _copy(y, x, folder / "positions.bin", dtype)
    along = int(np.argmax(np.ptp(sample, axis=0)))
    strips = max(1, round(np.sqrt(y.size / TILE)))
    edges = np.unique(np.quantile(sample[:, along], np.linspace(0, 1, strips + 1)[1:-1]))
    sizes = _spread(folder, dtype, y.size, along, edges)
    _sort(folder, dtype, y.size, along, sizes)
    made["files"] = {file.name: _size_and_checksum(file) for file in sorted(folder.iterdir())}
    made["checksum"] = _checksum(json.dumps(made, sort_keys=True).encode())
    (folder / "index.json").write_text(json.dumps(made), encoding="utf-8")
    return made


def _checksum(content: bytes) -> int:
    return zlib.crc32(content)


def _size_and_checksum(file: Path) -> tuple[int, int]:
    size = file.stat().st_size
    return size, _checksum(file.read_bytes()) if size <= CHECKED else 0


def _copy(y: xr.DataArray, x: xr.DataArray, path: Path, dtype: np.dtype[Any]) -> Array:
    """Write the positions one after the other, and return about a million of them."""
    step, sample, wrong = -(-y.size // 2**20), [], 0
    with open(path, "wb") as file:
        for first in range(0, y.size, CHUNK):
            some = slice(first, first + CHUNK)
            points = np.stack([y[some].values, x[some].values], axis=1).astype(dtype, copy=False)
            wrong += int((~np.isfinite(points).all(axis=1)).sum())
            points.tofile(file)
            sample.append(points[(-first) % step :: step].astype(np.float64))
    if wrong:
        raise InputError(f"{wrong} of {y.size} positions are NaN or infinite; leave them out of the scan")
    return np.concatenate(sample)


def _spread(folder: Path, dtype: np.dtype[Any], count: int, along: int, edges: Array) -> Array:
    """Write each position, with its index, into the file of its strip; return how many each has."""
    record = _record(dtype, count)
    sizes = np.zeros(edges.size + 1, np.int64)
    with open(folder / "positions.bin", "rb") as source, ExitStack() as stack:
        files = [stack.enter_context(open(folder / f"strip-{i}", "wb")) for i in range(edges.size + 1)]
        for first in range(0, count, CHUNK):
            points = np.fromfile(source, dtype, 2 * min(CHUNK, count - first)).reshape(-1, 2)
            strip = np.searchsorted(edges, points[:, along], side="right").astype(np.uint16)
            order = np.argsort(strip, kind="stable")
            rows = np.empty(len(points), record)
            rows["point"], rows["index"] = points[order], order + first
            ends = np.cumsum(np.bincount(strip, minlength=sizes.size))
            for i, (low, high) in enumerate(zip(ends - np.bincount(strip, minlength=sizes.size), ends, strict=True)):
                rows[low:high].tofile(files[i])
                sizes[i] += int(high) - int(low)
    return sizes


def _sort(folder: Path, dtype: np.dtype[Any], count: int, along: int, sizes: Array) -> None:
    """Sort each strip into tiles and leaves, and write their tables."""
    record = _record(dtype, count)
    tiles: list[tuple[int, int, int, int]] = []
    leaves: list[Array] = []
    boxes: list[Array] = []
    start = 0
    with open(folder / "sorted.bin", "wb") as points_file, open(folder / "indices.bin", "wb") as index_file:
        for i in np.flatnonzero(sizes):
            file = folder / f"strip-{i}"
            strip = np.fromfile(file, record)
            file.unlink()
            strip = strip[np.argsort(strip["point"][:, 1 - along], kind="stable")]
            for tile in np.array_split(strip, -(-strip.size // TILE)):
                ordered, ends = _leaves_of(tile, along)
                ordered["point"].tofile(points_file)
                ordered["index"].tofile(index_file)
                starts = np.r_[0, ends[:-1]]
                boxes.append(
                    np.hstack([f.reduceat(ordered["point"], starts, axis=0) for f in (np.minimum, np.maximum)])
                )
                leaves.append(start + np.stack([starts, ends], axis=1))
                first = tiles[-1][3] if tiles else 0
                tiles.append((start, start + tile.size, first, first + ends.size))
                start += tile.size
    for file in folder.glob("strip-*"):  # those that no position is in
        file.unlink()
    leaf_boxes = np.concatenate(boxes).astype(np.float64)
    tile_boxes = [(*leaf_boxes[a:b, :2].min(axis=0), *leaf_boxes[a:b, 2:].max(axis=0)) for _, _, a, b in tiles]
    tables = {"tiles": np.array(tiles), "tile_boxes": np.array(tile_boxes), "leaves": np.concatenate(leaves)}
    for name, table in (tables | {"leaf_boxes": leaf_boxes}).items():
        np.save(folder / f"{name}.npy", table)


def _leaves_of(tile: Array, along: int) -> tuple[Array, Array]:
    """Order the rows of a tile by leaves, strips cut again; return where each leaf ends."""
    across = max(1, round(np.sqrt(tile.size / LEAF)))
    by_strip = np.argsort(tile["point"][:, along], kind="stable")
    strip = np.empty(tile.size, np.int64)
    strip[by_strip] = np.arange(tile.size) * across // tile.size
    order = np.lexsort((tile["point"][:, 1 - along], strip))
    return tile[order], -(-np.arange(1, across * across + 1) * tile.size // (across * across))


def _record(dtype: np.dtype[Any], count: int) -> np.dtype[Any]:
    return np.dtype([("point", dtype, 2), ("index", index_dtype(count))])
