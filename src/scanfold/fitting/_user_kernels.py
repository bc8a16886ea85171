"""A user's function as a leaf: from its formula, or compiled by numba as it is, its derivatives by differences.

Forward differences on the way to the minimum, where half as many calls matter, central ones to settle it: `aux` holds
which.
"""

import math

import numpy as np
from numba import carray, njit
from numba.core.errors import NumbaError
from numba.np.unsafe.ndarray import to_fixed_tuple

from scanfold._jit_kernels import callback
from scanfold.fitting._expression_kernels import ACCURATE, FORWARD_STEP, RELATIVE_STEP, TOO_LITTLE, WIDENINGS, WIDER
from scanfold.fitting._lineshape_kernels import LEAF
from scanfold.fitting._lm_kernels import dot


def compile_formula(text, k):
    """Compile leaf(x, p, y, jac), as `scanfold.fitting.formulas.source` writes it."""
    scope = {"math": math, "np": np}
    exec(text, scope)
    fill = njit(nogil=True, error_model="numpy")(scope["leaf"])

    def leaf(n, k_, x, p, aux, aux_size, y, jac):
        fill(carray(x, n), carray(p, k), carray(y, n), carray(jac, (k, n)))

    return callback(LEAF, leaf, cache=False)


def compile_leaf(function, k):
    """Compile function(x, p0 … pk-1) for the whole axis or, where that fails, point by point.

    Raises what numba raises.
    """
    jitted = njit(nogil=True, error_model="numpy")(function)

    @njit(nogil=True, error_model="numpy")
    def on_axis(x, p, y):
        y[:] = jitted(x, *to_fixed_tuple(p, k))

    @njit(nogil=True, error_model="numpy")
    def by_point(x, p, y):
        for i in range(x.size):
            y[i] = jitted(x[i], *to_fixed_tuple(p, k))

    try:
        return _leaf_of(on_axis, k)
    except NumbaError as first:
        try:
            return _leaf_of(by_point, k)
        except NumbaError:
            raise first from None


def _leaf_of(fill, k):
    def forward(x, p, y, jac):
        fill(x, p, y)
        too_little = TOO_LITTLE * TOO_LITTLE * dot(y, y)
        for j in range(k):
            keep = p[j]
            step = FORWARD_STEP * (abs(keep) if keep != 0.0 else 1.0)
            for _ in range(WIDENINGS + 1):
                p[j] = keep + step
                fill(x, p, jac[j])
                for i in range(y.size):
                    jac[j, i] -= y[i]
                if not dot(jac[j], jac[j]) < too_little:
                    break
                step *= WIDER
            inverse = 1.0 / (p[j] - keep)
            for i in range(y.size):
                jac[j, i] *= inverse
            p[j] = keep

    def central(x, p, y, jac):
        for j in range(k):
            keep = p[j]
            step = RELATIVE_STEP * (abs(keep) if keep != 0.0 else 1.0)
            p[j] = keep - step
            fill(x, p, y)
            p[j] = keep + step
            fill(x, p, jac[j])
            inverse = 1.0 / ((keep + step) - (keep - step))
            for i in range(y.size):
                jac[j, i] = (jac[j, i] - y[i]) * inverse
            p[j] = keep
        fill(x, p, y)

    forward, central = (njit(nogil=True, error_model="numpy")(f) for f in (forward, central))

    def leaf(n, k_, x, p, aux, aux_size, y, jac):
        x_, p_, y_, jac_ = carray(x, n), carray(p, k), carray(y, n), carray(jac, (k, n))
        if carray(aux, aux_size)[0] == ACCURATE:
            central(x_, p_, y_, jac_)
        else:
            forward(x_, p_, y_, jac_)

    return callback(LEAF, leaf, cache=False)
