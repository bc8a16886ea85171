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
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scanfold._markup import overview
from scanfold._paths import exists
from scanfold.conventions import InputError, describe_input, fingerprint, is_url
from scanfold.grouping._neighbour_kernels import SLACK, nearest, reach
from scanfold.grouping.positions import flat, index_dtype, lazy_labels, lazy_positions
from scanfold.grouping.sorting import CHUNK, FORMAT, LEAF, sort_positions
from scanfold.grouping.space import Done, threads
from scanfold.io import open_scan

Array = npt.NDArray[Any]

#: Bytes of a file of an index up to which all of it is checked when the index is opened.
CHECKED = 2**26
#: Runs of rows with gaps up to this many are read as one; between those of a label may be some of another.
_GAP = 2 * LEAF
#: Pairs of points and leaves that are compared at once; where there would be more, a leaf counts as near any point.
_PAIRS = 2**22


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
    partition : str
        Name of the labels that groups never mix; empty if there are none.
    """

    path: str
    count: int
    dtype: str
    units: str
    identity: dict[str, Any]
    partition: str = ""

    def __len__(self) -> int:
        """Return how many positions there are."""
        return self.count

    def __repr__(self) -> str:
        labels = f", by {self.partition}" if self.partition else ""
        return f"<grouping.PositionIndex: {self.count:,} positions in {self.units or 'no units'}{labels}; {self.path}>"

    def _repr_html_(self) -> str:
        return overview(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel without the tables, which are read again from the folder."""
        return PositionIndex, tuple(getattr(self, f.name) for f in fields(self))

    @cached_property
    def _tiles(self) -> Array:
        """Of each tile: first row, last row, first leaf, last leaf, label."""
        return np.asarray(np.load(Path(self.path) / "tiles.npy"))

    @cached_property
    def _boxes(self) -> Array:
        """The box of each tile: low y, low x, high y, high x."""
        return np.asarray(np.load(Path(self.path) / "tile_boxes.npy"))

    @cached_property
    def _leaves(self) -> tuple[Array, Array]:
        """Of each leaf, in the order of rows: first and last row; its box."""
        return np.load(Path(self.path) / "leaves.npy"), np.load(Path(self.path) / "leaf_boxes.npy")

    @cached_property
    def sizes(self) -> Array:
        """How many positions have each label; without labels all have the label 0."""
        tiles = self._tiles
        return np.bincount(tiles[:, 4], weights=tiles[:, 1] - tiles[:, 0]).astype(np.int64)

    def labels(self, indices: Array) -> Array:
        """Return the labels of some indices, whole numbers."""
        if not self.partition:
            return np.zeros(np.shape(indices), np.int32)
        return np.asarray(np.memmap(Path(self.path) / "labels.bin", np.int32, "r", shape=(self.count,))[indices])

    def at(self, indices: Array) -> Array:
        """Return the positions (…, 2) of some indices, in float64."""
        stored = np.memmap(Path(self.path) / "positions.bin", self.dtype, "r", shape=(self.count, 2))
        return np.asarray(stored[indices], np.float64)

    def parts(self) -> Iterator[Array]:
        """Yield all positions (n, 2) in the order of their indices, in float64, some at a time."""
        with open(Path(self.path) / "positions.bin", "rb") as file:
            for first in range(0, self.count, CHUNK):
                yield np.fromfile(file, self.dtype, 2 * min(CHUNK, self.count - first)).reshape(-1, 2).astype(float)

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

    def search(self, seeds: Array, k: int, done: Done) -> None:
        """Search the k nearest other positions of each of some seeds, as `Space` has it."""
        points, labels = self.at(seeds), self.labels(seeds)
        tile = self._tile_of(points, labels)
        by_tile = np.argsort(tile, kind="stable")
        parts = np.split(by_tile, np.flatnonzero(np.diff(tile[by_tile])) + 1)
        with threads() as pool:

            def search(rows: Array) -> None:
                done(rows, *self.near(points[rows], seeds[rows], int(labels[rows[0]]), k))

            for _ in pool.map(search, parts):
                pass

    def near(self, points: Array, own: Array, label: int, k: int) -> tuple[Array, Array]:
        """Search neighbours as `search` does, of points of one label that lie together."""
        indices, distances = np.empty((len(points), k), np.int64), np.empty((len(points), k))
        left, margin = np.arange(len(points)), self._margin(points[0], label, k)
        while left.size:
            members, index = self._around(points[left], label, margin)
            found, apart = nearest(members, index, points[left], own[left], k)
            good = (found[:, -1] >= 0) & (apart[:, -1] * (1 + SLACK) < margin) | (index.size == self.sizes[label])
            if left.size == len(points) and good.all():
                return found, apart
            indices[left[good]], distances[left[good]] = found[good], apart[good]
            left, margin = left[~good], 2 * margin
        return indices, distances

    def tiles_of(self, first: int, last: int) -> Iterator[tuple[Array, Array, int]]:
        """Yield the positions of some sorted rows, their indices and their label, tile by tile."""
        starts = self._tiles[:, 0]
        cuts = [first, *starts[(starts > first) & (starts < last)].tolist(), last]
        for low, high in itertools.pairwise(cuts):
            yield *self.rows(low, high), int(self._tiles[np.searchsorted(starts, low, side="right") - 1, 4])

    def _tile_of(self, points: Array, labels: Array) -> Array:
        """Return a tile of its label whose box each point is in."""
        out = np.zeros(len(points), np.int64)
        step = max(1, _PAIRS // len(self._boxes))
        for some in (slice(first, first + step) for first in range(0, len(points), step)):
            p = points[some, None]
            inside = _meets(self._boxes, np.concatenate([p, p], axis=2))
            out[some] = (inside & (labels[some, None] == self._tiles[:, 4])).argmax(axis=1)
        return out

    def _margin(self, point: Array, label: int, k: int) -> float:
        """Return a distance within which a point should have k neighbours, by how dense its tile is."""
        tile = int(self._tile_of(point[None], np.array([label]))[0])
        low, high = self._boxes[tile].reshape(2, 2)
        return reach(high - low, int(self._tiles[tile, 1] - self._tiles[tile, 0]), k)

    def _around(self, points: Array, label: int, margin: float) -> tuple[Array, Array]:
        """Return all positions of a label within a margin of each point, and some others."""
        y, x = points.T
        whole = np.array([y.min() - margin, x.min() - margin, y.max() + margin, x.max() + margin])
        spans, leaves = self._leaves
        tiles = self._tiles[_meets(self._boxes, whole) & (self._tiles[:, 4] == label)]
        near = np.concatenate([np.arange(t[2], t[3]) for t in tiles]) if len(tiles) else np.empty(0, np.int64)
        near = near[_meets(leaves[near], whole)]
        if len(points) < near.size < _PAIRS // len(points):
            boxes = np.concatenate([points - margin, points + margin], axis=1)
            near = near[_meets(leaves[near], boxes[:, None]).any(axis=0)]
        found = [self.rows(first, last) for first, last in _runs(spans[near], 0 if self.partition else _GAP)]
        if not found:
            return np.empty((0, 2)), np.empty(0, np.int64)
        members, index = (np.concatenate(parts) for parts in zip(*found, strict=True))
        y, x = members.T
        inside = (y >= whole[0]) & (y <= whole[2]) & (x >= whole[1]) & (x <= whole[3])
        return members[inside], index[inside]


def _meets(boxes: Array, box: Array) -> Array:
    """Tell which boxes (n, 4) meet a box (4,), or each of some (m, 1, 4)."""
    low_y, low_x, high_y, high_x = np.moveaxis(box, -1, 0)
    meets = (boxes[:, 0] <= high_y) & (boxes[:, 2] >= low_y)
    return np.asarray(meets & (boxes[:, 1] <= high_x) & (boxes[:, 3] >= low_x))


def _runs(spans: Array, gap: int) -> Iterator[tuple[int, int]]:
    """Join spans of rows, sorted by their first, whose gaps are short."""
    if not len(spans):
        return
    first, last = spans[0]
    for low, high in spans[1:]:
        if low > last + gap:
            yield int(first), int(last)
            first = low
        last = max(last, high)
    yield int(first), int(last)


def index_positions(
    positions: Any, path: str | os.PathLike[str] | None = None, *, partition: Any = None
) -> PositionIndex:
    """Sort positions into a spatial index on disk, out of core; made once, it is opened when it is asked for again.

    Parameters
    ----------
    positions : path, Dataset or array
        A store, or a scan with ``position_y`` and ``position_x`` (lazy or not), or an (n, 2) array with columns y, x.
    path : path, optional
        The folder to make; beside the store by default, with ``.positions`` after its name.
    partition : str or array, optional
        A label of each position (or the name of the scan's variable): groups never mix labels.

    Returns
    -------
    PositionIndex
        For `plan_groups` in place of the scan. On disk it takes two copies of the positions and their indices.

    Raises
    ------
    InputError
        If positions are missing or not finite, labels are of another number, or `path` is something else already.

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
    y, x = (flat(a) for a in lazy_positions(positions))
    labels = lazy_labels(partition, positions, y.size)
    identity: dict[str, Any] = {"position_y": describe_input(y), "position_x": describe_input(x)}
    if store is not None:
        identity = {"source": fingerprint(store)}
    if labels is not None:
        identity["partition"] = (
            partition if store is not None and isinstance(partition, str) else describe_input(labels)
        )
    folder = Path(path)
    if folder.exists():
        found = open_index(folder)
        if found.identity == identity:
            return found
    partial = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}.partial")
    partial.mkdir(parents=True)
    try:
        dtype = sort_positions(y, x, labels, partial)
        name = "" if labels is None else partition if isinstance(partition, str) else "labels"
        made = PositionIndex(str(folder.absolute()), y.size, dtype, y.attrs.get("units", ""), identity, name)
        (partial / "index.json").write_text(_description(made, partial), encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return made


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
        if made.pop("format") != FORMAT:
            raise ValueError("of another version")
        if made.pop("checksum") != _checksum(json.dumps(made, sort_keys=True).encode()):
            raise ValueError("index.json is damaged")
        for name, (size, checksum) in made.pop("files").items():
            file = folder / name
            if file.stat().st_size != size or (size <= CHECKED and _checksum(file.read_bytes()) != checksum):
                raise ValueError(f"{name} is damaged")
        found = PositionIndex(str(folder.absolute()), **made)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{str(path)!r} is no index of positions ({error}); make one: index_positions(scan, path)"
        ) from None
    source = found.identity.get("source")
    if source and exists(source["path"]) and fingerprint(source["path"]) != source:
        raise InputError(
            f"{source['path']} changed after its index {str(path)!r} was made; delete the index, and make it again"
        )
    return found


def _description(index: PositionIndex, folder: Path) -> str:
    """Describe an index whose files are in a folder, with what tells whether they are damaged."""
    made: dict[str, Any] = {f.name: getattr(index, f.name) for f in fields(index) if f.name != "path"}
    made["files"] = {file.name: _size_and_checksum(file) for file in sorted(folder.iterdir())}
    made["checksum"] = _checksum(json.dumps(made, sort_keys=True).encode())
    return json.dumps({"format": FORMAT, **made})


def _checksum(content: bytes) -> int:
    return zlib.crc32(content)


def _size_and_checksum(file: Path) -> tuple[int, int]:
    size = file.stat().st_size
    return size, _checksum(file.read_bytes()) if size <= CHECKED else 0
