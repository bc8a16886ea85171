"""The best of a grid of starts for each trace; the parameters that a model is linear in are solved for."""

import numpy as np

from scanfold._jit_kernels import jit
from scanfold.fitting._lm_kernels import dot

_jit = jit()
#: What is added to the diagonal of the normal equations, in parts of it, so that curves that are alike have a solution.
RIDGE = 1.0e-10


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
def inverses(basis, out):
    """Fill out (G, L, L) with the inverses of the normal equations of each point, and return their matrices."""
    points, size, _ = basis.shape
    grams, work, unit, column = np.empty_like(out), np.empty((size, size)), np.zeros(size), np.empty(size)
    low, high = np.full(size, -np.inf), np.full(size, np.inf)
    for g in range(points):
        for j in range(size):
            for k in range(j + 1):
                grams[g, j, k] = grams[g, k, j] = dot(basis[g, j], basis[g, k])
        for j in range(size):
            unit[:] = 0.0
            unit[j] = 1.0
            _solve(grams[g], unit, low, high, work, column)
            out[g, :, j] = column
    return grams


@_jit
def _cost(gram, rhs, solution):
    """Return what a solution adds to the cost of no curve at all."""
    cost = 0.0
    for j in range(rhs.size):
        cost -= 2.0 * solution[j] * rhs[j]
        for k in range(rhs.size):
            cost += solution[j] * solution[k] * gram[j, k]
    return cost


@_jit
def best_of_grid(basis, base, data, low, high, chosen, coefficients):
    """Fill chosen (N) and coefficients (N, L): the curve of the grid that leaves least of each trace without gaps.

    Curves are base[g] + Σ_l coefficients[l]·basis[g, l]. Shapes: basis (G, L, n), base (G, n) or (0, n) for none,
    data (N, n), low and high (L).
    """
    points, size, n = basis.shape
    inverse = np.empty((points, size, size))
    grams = inverses(basis, inverse)
    rest, rhs, solution = np.empty(n), np.empty(size), np.empty(size)
    # A curve that is the same at all points of the grid, as that of an offset, is multiplied once.
    same = np.zeros(size, np.bool_)
    for j in range(size):
        same[j] = base.shape[0] == 0 and (basis[:, j] == basis[0, j]).all()
    for r in range(data.shape[0]):
        lowest = np.inf
        row = data[r]
        for j in range(size):
            if same[j]:
                rhs[j] = dot(basis[0, j], row)
        for g in range(points):
            cost = 0.0
            if base.shape[0]:
                for i in range(n):
                    rest[i] = row[i] - base[g, i]
                cost = dot(rest, rest)
            for j in range(size):
                if not same[j]:
                    rhs[j] = dot(basis[g, j], rest if base.shape[0] else row)
            for j in range(size):
                value = 0.0
                for k in range(size):
                    value += inverse[g, j, k] * rhs[k]
                solution[j] = min(max(value, low[j]), high[j])
            cost += _cost(grams[g], rhs, solution)
            if cost < lowest:
                lowest = cost
                chosen[r] = g
                coefficients[r] = solution


@_jit
def best_of_grid_with_gaps(basis, base, data, keep, low, high, chosen, coefficients):
    """Do what `best_of_grid` does for traces of which only some points count, keep (N, n)."""
    points, size, n = basis.shape
    gram, curves, work = np.empty((size, size)), np.empty((size, n)), np.empty((size, size))
    rest, rhs, solution = np.empty(n), np.empty(size), np.empty(size)
    for r in range(data.shape[0]):
        lowest = np.inf
        for g in range(points):
            for i in range(n):
                before = base[g, i] if base.shape[0] else 0.0
                rest[i] = data[r, i] - before if keep[r, i] else 0.0
                for j in range(size):
                    curves[j, i] = basis[g, j, i] if keep[r, i] else 0.0
            for j in range(size):
                rhs[j] = dot(curves[j], rest)
                for k in range(j + 1):
                    gram[j, k] = gram[k, j] = dot(curves[j], curves[k])
            _solve(gram, rhs, low, high, work, solution)
            cost = dot(rest, rest) + _cost(gram, rhs, solution)
            if cost < lowest:
                lowest = cost
                chosen[r] = g
                coefficients[r] = solution
