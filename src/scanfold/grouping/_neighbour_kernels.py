"""The nearest neighbours of chosen points, found in pieces of space with a margin that is checked.

Of equally distant points those of lower index are nearer, so that the answer does not depend on how the space was
cut. Trees are SciPy's cKDTree, unbalanced: a piece is small, and balancing would take longer than asking.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

Points = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
#: Rows of the answer, indices of the points that were searched, and how far around each row's seed they are all there.
Piece = tuple[Indices, Indices, Any]

#: Up to this many points make one tree; more are cut into pieces of about PIECE.
ONE_TREE, PIECE = 2**15, 50_000
#: Distances that differ by less, relatively, count as equal when a search decides whether it has seen enough.
SLACK = 1e-9
#: Most distances that are held at a time where many points lie at one place.
_MOST = 2**22


def neighbours(
    points: Points,
    seeds: Indices,
    k: int,
    done: Callable[[Indices, Indices, Points], Any],
    *,
    each: Callable[..., Iterable[Any]] = map,
    piece: int | None = None,
) -> None:
    """Find the k nearest other points of each seed.

    Parameters
    ----------
    points : (n, 2) float64
        All finite; n > k.
    seeds : (s,) int64
        Indices into `points`, each once.
    k : int
        How many; the seed itself is left out by its index, so that points at the same place are safe.
    done : callable
        ``done(rows, indices, distances)`` is called for some rows of `seeds` at a time, in any order and by any thread,
        with their neighbours (r, k) by distance, then index. Each row comes once.
    each : callable
        Calls a function on each of some pieces, as `map` does: that of a pool of threads searches several at a time.
    piece : int, optional
        About how many points make a piece.
    """
    count = len(points)
    if count <= ONE_TREE and piece is None:
        done(np.arange(seeds.size), *nearest(points, np.arange(count), points[seeds], seeds, k))
        return
    missed = np.ones(seeds.size, bool)

    def search(part: Piece) -> None:
        rows, members, safe = part
        found, apart = nearest(points[members], members, points[seeds[rows]], seeds[rows], k)
        good = (found[:, -1] >= 0) & ((apart[:, -1] * (1 + SLACK) < safe) | (members.size == count))
        if not good.all():
            rows, found, apart = rows[good], found[good], apart[good]
        missed[rows] = False
        done(rows, found, apart)

    if seeds.size * 150 >= count:
        # a pool takes all pieces at once: strips are sorted while those before are searched
        for _ in each(search, _pieces(points, seeds, k, piece or PIECE)):
            pass
    side = reach(extent(points), count, k)
    while (left := np.flatnonzero(missed)).size:
        search(_around(points, seeds, left, side))
        side *= 2


def extent(points: Points) -> Points:
    """Return how far points (n, 2) reach along each axis; by columns, which takes a tenth of the time of rows."""
    return np.array([np.ptp(points[:, axis]) for axis in range(2)])


def reach(extent: Points, count: int, k: int) -> float:
    """Return a distance within which a point in the middle has clearly more than k neighbours, on a plane or a line."""
    plane = np.sqrt(float(np.prod(extent)) * 2 * (k + 1) / count)
    return max(plane, 2 * (k + 1) * float(extent.max()) / count) or 1.0


def nearest(points: Points, index: Indices, queries: Points, own: Indices, k: int) -> tuple[Indices, Points]:
    """Return the k nearest of some points to each query, without the point that is the query itself.

    Parameters
    ----------
    points : (n, 2) float64
    index : (n,) int64
        Their indices in the whole, which are returned and decide between equal distances.
    queries : (s, 2) float64
    own : (s,) int64
        The index of the point that is the query itself.
    k : int
        Where there are fewer others, indices end with -1 and distances with inf.
    """
    indices, distances = np.full((len(queries), k), -1), np.full((len(queries), k), np.inf)
    tree = cKDTree(points, leafsize=32, balanced_tree=False, compact_nodes=False)
    left, ask = np.arange(len(queries)), min(k + 2, len(points))
    while left.size:
        unclear = []
        for some in np.array_split(left, -(-left.size * ask // _MOST)):
            apart, found = tree.query(queries[some], k=[*range(1, ask + 1)])
            found = index[found]
            plain = _plain(apart, found, own[some], k)
            if plain.any():
                rows = some[plain]
                indices[rows], distances[rows] = found[plain, 1 : k + 1], apart[plain, 1 : k + 1]
            if not plain.all():
                some, apart, found = some[~plain], apart[~plain], found[~plain]
                clear = _clear(apart, found, own[some], k, ask == len(points))
                _fill(indices, distances, some[clear], apart[clear], found[clear], own[some[clear]])
                unclear.append(some[~clear])
        left, ask = np.concatenate([left[:0], *unclear]), min(2 * ask, len(points))
    return indices, distances


def _plain(apart: Points, found: Indices, own: Indices, k: int) -> npt.NDArray[np.bool_]:
    """Tell which rows are the query itself and then k others and one more, each clearly farther than the one before."""
    if apart.shape[1] < k + 2:
        return np.zeros(own.size, bool)
    plain = found[:, 0] == own
    for c in range(1, k + 1):
        plain &= apart[:, c] * (1 + SLACK) < apart[:, c + 1]
    return plain


def _clear(apart: Points, found: Indices, own: Indices, k: int, whole: bool) -> npt.NDArray[np.bool_]:
    """Tell which rows hold the k nearest for certain: the last one found is clearly farther than the k-th other."""
    if whole:
        return np.ones(len(apart), bool)
    # without the query itself in the row, all of it is at the query's own place
    return (apart[:, k] * (1 + SLACK) < apart[:, -1]) & (found == own[:, None]).any(axis=1)


def _fill(indices: Indices, distances: Points, rows: Indices, apart: Points, found: Indices, own: Indices) -> None:
    """Write the nearest of each row, by distance and then index, without the query itself."""
    width = min(indices.shape[1], apart.shape[1] - 1)
    by_index = np.argsort(found, axis=1)
    found, apart = np.take_along_axis(found, by_index, 1), np.take_along_axis(apart, by_index, 1)
    apart = np.where(found == own[:, None], np.inf, apart)
    order = np.argsort(apart, axis=1, kind="stable")[:, :width]
    indices[rows, :width] = np.take_along_axis(found, order, 1)
    distances[rows, :width] = np.take_along_axis(apart, order, 1)


def _pieces(points: Points, seeds: Indices, k: int, piece: int) -> Iterator[Piece]:
    """Yield pieces, strip after strip: strips of equal counts along y, cut into equal counts along x."""
    count = len(points)
    cuts = max(1, round(np.sqrt(count / piece)))
    place = np.full(count, -1, np.int64)
    place[seeds] = np.arange(seeds.size)
    by_y = np.argsort(points[:, 0], kind="stable")
    y = points[by_y, 0]
    edges = np.linspace(0, count, cuts + 1).astype(int)
    for first, last in np.stack([edges[:-1], edges[1:]], axis=1):
        own_points = points[by_y[first:last]]
        margin = reach(extent(own_points), last - first, k)
        low, high = np.searchsorted(y, y[first] - margin), np.searchsorted(y, y[last - 1] + margin, "right")
        strip = by_y[low:high]
        by_x = np.argsort(points[strip, 1], kind="stable")
        own = np.zeros(strip.size, bool)
        own[first - low : last - low] = True
        yield from _cut(points, strip[by_x], own[by_x], place, margin, cuts)


def _cut(
    points: Points, strip: Indices, own: npt.NDArray[np.bool_], place: Indices, margin: float, cuts: int
) -> Iterator[Piece]:
    """Cut a strip that is sorted by x; `own` are the points that are not of its margin."""
    x, inner = points[strip, 1], np.flatnonzero(own)
    for some in np.array_split(inner, cuts):
        rows = place[strip[some]]
        rows = rows[rows >= 0]
        if rows.size:
            low, high = np.searchsorted(x, x[some[0]] - margin), np.searchsorted(x, x[some[-1]] + margin, "right")
            yield rows, strip[low:high], margin


def _around(points: Points, seeds: Indices, rows: Indices, side: float) -> Piece:
    """Return all points in the cells, of this side, that seeds are in or next to."""
    low = np.array([points[:, axis].min() for axis in range(2)])
    y, x = (((points[:, a] - low[a]) / side).astype(np.int64) + 1 for a in range(2))
    marked = np.zeros((int(y.max()) + 2, int(x.max()) + 2), bool)
    at = seeds[rows]
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            marked[y[at] + dy, x[at] + dx] = True
    members = np.flatnonzero(marked[y, x])
    inside = (points[at] - low) / side - np.stack([y[at] - 1, x[at] - 1], axis=1)
    return rows, members, (1 + np.minimum(inside, 1 - inside).min(axis=1)) * side * (1 - SLACK)
