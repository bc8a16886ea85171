"""A user's function as a leaf: compiled by numba, its derivatives by central differences."""

from numba import carray, njit
from numba.core.errors import NumbaError
from numba.np.unsafe.ndarray import to_fixed_tuple

from scanfold._jit_kernels import callback
from scanfold.fitting._expression_kernels import RELATIVE_STEP
from scanfold.fitting._lineshape_kernels import LEAF


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
    def leaf(n, k_, x, p, aux, aux_size, y, jac):
        x_, p_, y_, jac_ = carray(x, n), carray(p, k), carray(y, n), carray(jac, (k, n))
        for j in range(k):
            keep = p_[j]
            step = RELATIVE_STEP * (abs(keep) if keep != 0.0 else 1.0)
            p_[j] = keep - step
            fill(x_, p_, y_)
            p_[j] = keep + step
            fill(x_, p_, jac_[j])
            for i in range(n):
                jac_[j, i] = (jac_[j, i] - y_[i]) / ((keep + step) - (keep - step))
            p_[j] = keep
        fill(x_, p_, y_)

    return callback(LEAF, leaf, cache=False)
