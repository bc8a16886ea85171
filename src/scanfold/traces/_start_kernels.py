"""The best of a grid of starts for each trace; the parameters that a model is linear in are solved for."""

import numpy as np

from scanfold._jit_kernels import jit

_jit = jit()
# Sums may be reordered by the compiler, always in the same way: they vectorise.
_fast = jit(fastmath={"reassoc", "contract", "nsz"})
#: What is added to the diagonal of the normal equations, in parts of it, so that curves that are alike have a solution.
RIDGE = 1.0e-10


@_fast
def _dot(a, b):
    total = 0.0
    for i in range(a.size):
        total += a[i] * b[i]
    return total


@_jit
def _solve(gram, rhs, low, high, work, out):
    """Solve gram·out = rhs in scaled form by Cholesky, then clip to the bounds; all (L) or (L, L)."""
    size = rhs.size
    for j in range(size):
        scale_j = np.sqrt(gram[j, j]) if gram[j, j] > 0.0 else 1.0
        for k in range(j + 1):
            scale_k = np.sqrt(gram[k, k]) if gram[k, k] > 0.0 else 1.0
            s = gram[j, k] / (scale_j * scale_k) + (RIDGE if j == k else 0.0)
            for i in range(k):
                s -= work[j, i] * work[k, i]
            work[j, k] = np.sqrt(max(s, RIDGE)) if j == k else s / work[k, k]
    for j in range(size):
        s = rhs[j] / (np.sqrt(gram[j, j]) if gram[j, j] > 0.0 else 1.0)
        for i in range(j):
            s -= work[j, i] * out[i]
        out[j] = s / work[j, j]
    for j in range(size - 1, -1, -1):
        s = out[j]
        for i in range(j + 1, size):
            s -= work[i, j] * out[i]
        out[j] = s / work[j, j]
    for j in range(size):
        value = out[j] / (np.sqrt(gram[j, j]) if gram[j, j] > 0.0 else 1.0)
        out[j] = min(max(value, low[j]), high[j])


@_jit
def best_of_grid(basis, base, data, keep, low, high, chosen, coefficients):
    """Fill chosen (N) and coefficients (N, L): the curve of the grid that leaves least of each trace.

    Curves are base[g] + Σ_l coefficients[l]·basis[g, l]. Shapes: basis (G, L, n), base (G, n), data (N, n), keep (N, n)
    or (N, 0) without gaps, low and high (L).
    """
    points, size, n = basis.shape
    grams = np.empty((points, size, size))
    curves = np.empty((size, n))
    rest, rhs, solution, work = np.empty(n), np.empty(size), np.empty(size), np.empty((size, size))
    for r in range(data.shape[0]):
        gaps = keep.shape[1] > 0
        lowest = np.inf
        chosen[r] = 0
        for g in range(points):
            for i in range(n):
                rest[i] = data[r, i] - base[g, i] if not gaps or keep[r, i] else 0.0
            if gaps or r == 0:
                for j in range(size):
                    for i in range(n):
                        curves[j, i] = basis[g, j, i] if not gaps or keep[r, i] else 0.0
                    for k in range(j + 1):
                        grams[g, j, k] = grams[g, k, j] = _dot(curves[j], curves[k])
            for j in range(size):
                rhs[j] = _dot(basis[g, j], rest)
            _solve(grams[g], rhs, low, high, work, solution)
            cost = _dot(rest, rest)
            for j in range(size):
                cost -= 2.0 * solution[j] * rhs[j]
                for k in range(size):
                    cost += solution[j] * solution[k] * grams[g, j, k]
            if cost < lowest:
                lowest = cost
                chosen[r] = g
                coefficients[r] = solution
