"""Choices that depend on the choices before them."""

import numpy as np

from scanfold._jit_kernels import jit


@jit()
def disk(points, extent, radius, wanted):
    """Return up to `wanted` indices of points (n, 2), first come first served, that are at least `radius` apart.

    Points are sorted into cells as wide as the radius, so that only those in neighbouring cells are compared.
    """
    side = max(radius, np.sqrt(extent[0] * extent[1] / points.shape[0]), extent.max() / 4096, 1e-300)
    rows, columns = int(extent[0] / side) + 3, int(extent[1] / side) + 3
    head = np.full((rows, columns), -1, np.int64)
    following = np.full(points.shape[0], -1, np.int64)
    chosen = np.empty(wanted, np.int64)
    count = 0
    for i in range(points.shape[0]):
        if count == wanted:
            break
        cy, cx = int(points[i, 0] / side) + 1, int(points[i, 1] / side) + 1
        free = True
        for y in range(cy - 1, cy + 2):
            for x in range(cx - 1, cx + 2):
                j = head[y, x]
                while j >= 0 and free:
                    dy, dx = points[i, 0] - points[j, 0], points[i, 1] - points[j, 1]
                    free = dy * dy + dx * dx >= radius * radius
                    j = following[j]
        if free:
            following[i] = head[cy, cx]
            head[cy, cx] = i
            chosen[count] = i
            count += 1
    return chosen[:count]


@jit()
def disjoint(candidates, valid, seeds, with_seed, used, wanted, out):
    """Give each seed in turn its first free candidates; positions that a group has are free no more.

    Parameters
    ----------
    candidates : (b, K) int64
        In the order in which they are to be taken.
    valid : (b,) int64
        How many of the first may be.
    seeds : (b,) int64
    with_seed : bool
        Whether the seed is a member too, and must be free.
    used : (n,) bool
        Written.
    wanted : int
        End after as many groups.
    out : (b, c) int64
        Columns of `candidates`; written for seeds that get a group.

    Returns
    -------
    (b,) bool
        Which seeds got one.
    """
    size = out.shape[1]
    made = np.zeros(candidates.shape[0], np.bool_)
    count = 0
    for b in range(candidates.shape[0]):
        if count == wanted:
            break
        if with_seed and used[seeds[b]]:
            continue
        at = 0
        for column in range(valid[b]):
            if at < size and not used[candidates[b, column]]:
                out[b, at] = column
                at += 1
        if at == size:
            made[b] = True
            count += 1
            used[seeds[b]] |= with_seed
            for c in range(size):
                used[candidates[b, out[b, c]]] = True
    return made
