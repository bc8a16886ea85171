"""Jorgensen's profile of a neutron pulse, as a function to look at."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def jorgensen(delta: Any, alpha: float, beta: float, sigma: float = 0.0) -> npt.NDArray[np.float64]:
    """Return h(Δ): back-to-back exponentials, convolved with a Gaussian, of area 1.

    h = αβ/(2(α + β))·[eᵘ erfc y + eᵛ erfc z] with u = α(ασ² + 2Δ)/2, v = β(βσ² − 2Δ)/2, y = (ασ² + Δ)/(√2 σ),
    z = (βσ² − Δ)/(√2 σ) [1]_; through erfcx, which neither overflows nor loses digits.

    Parameters
    ----------
    delta : array of shape (n,)
        Time after the mean of the Gaussian (µs).
    alpha, beta : float
        Rates of rise and decay (µs⁻¹).
    sigma : float
        Standard deviation of the Gaussian (µs); 0 leaves the exponentials.

    Returns
    -------
    array of shape (n,)
        In µs⁻¹.

    References
    ----------
    .. [1] J. D. Jorgensen et al., J. Appl. Cryst. 11 (1978) 385; R. B. Von Dreele et al., ibid. 15 (1982) 581.

    Examples
    --------
    >>> jorgensen([-50.0, 0.0, 50.0], 0.1, 0.03, 8.0).round(5).tolist()
    [0.00021, 0.01636, 0.0053]
    """
    from scipy.special import erfc, erfcx

    d = np.atleast_1d(np.asarray(delta, np.float64))
    scale = alpha * beta / (2.0 * (alpha + beta))
    if sigma <= 0.0:
        return np.asarray(2.0 * scale * np.exp(np.where(d < 0.0, alpha * d, -beta * d)))
    total = np.zeros(d.shape)
    gauss = np.exp(-0.5 * (d / sigma) ** 2)
    for rate, t in ((alpha, d), (beta, -d)):
        z = (rate * sigma**2 + t) / (np.sqrt(2.0) * sigma)
        exponent = np.minimum(0.5 * rate * (rate * sigma**2 + 2.0 * t), 700.0)
        total += np.where(z >= 0.0, gauss * erfcx(np.maximum(z, 0.0)), np.exp(exponent) * erfc(z))
    return scale * total
