"""From moments of frames to centres of mass and their standard errors; and gates applied to moments."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def centre_of_mass(total: Array, first: Array) -> Array:
    """Return the centre of mass (…, 2) from the sum of the counts (…) and of counts times position (…, 2).

    NaN where the sum is not positive: an empty frame has no centre.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(first / np.where(total > 0, total, np.nan)[..., None])


def shot_noise(total: Array, com: Array, squares: Array) -> Array:
    r"""Return the standard error of a centre of mass from the counting statistics of the frame.

    .. math:: s^2(C_a) = \sum_k G^2 (k_a - C_a)^2 I / (\sum_k G I)^2

    Parameters
    ----------
    total : ndarray (…)
        Sum of G I.
    com : ndarray (…, 2)
        Centre of mass C.
    squares : ndarray (…, 5)
        Sums of G² I, G² k_y I, G² k_x I, G² k_y² I, G² k_x² I.
    """
    spread = squares[..., 3:5] - 2 * com * squares[..., 1:3] + com**2 * squares[..., :1]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.sqrt(np.maximum(spread, 0.0)) / np.where(total > 0, total, np.nan)[..., None])


def corrected(com: Array, center: Array, response: Array) -> tuple[Array, Array]:
    """Return the shift that a gated centre of mass tells of, and the squares of what errors are multiplied by.

    Parameters
    ----------
    com : ndarray (…, 2)
        Gated centre of mass.
    center : ndarray (…, 2)
        That of the mean pattern, the shift of which is taken as zero.
    response : ndarray (…, 2, 2)
        Shift in the gate for a unit shift of the pattern.
    """
    inverse = inverted_matrices(response)
    return np.einsum("...ab,...b->...a", inverse, com - center), inverse**2


def inverted_matrices(matrices: Array) -> Array:
    """Return the inverses of 2 × 2 matrices, NaN where there is none."""
    a, b, c, d = (matrices[..., i, j] for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)))
    determinant = a * d - b * c
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 1.0 / np.where(np.abs(determinant) > 1e-12, determinant, np.nan)
    return np.stack([np.stack([d, -b], -1), np.stack([-c, a], -1)], -2) * scale[..., None, None]
