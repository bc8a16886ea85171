"""The kinetic models as plain functions of arrays; fits use the same, compiled, with derivatives.

Times are in h, rates in 1/h, signals in the units of the data. τ = t − t0; the signal is 0 for τ ≤ 0, and `offset` is
always added. Parameters broadcast against the times.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

#: Below this product of τ and the widest difference of rates, a series: each difference loses digits.
_NEAR, _TERMS = 0.1, 10


def _since(t: Any, t0: Any) -> Array:
    """Return τ, 0 before t0."""
    return np.asarray(np.maximum(np.asarray(t, np.float64) - t0, 0.0))


def _s1(a: Any, b: Any, tau: Array) -> Array:
    """Return (e^(−aτ) − e^(−bτ))/(b − a), and its limit τ·e^(−aτ) where the rates are equal."""
    low, z = np.minimum(a, b), np.abs(np.subtract(b, a)) * tau
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(z > 0.0, -np.expm1(-z) / z, 1.0)
    return np.asarray(tau * np.exp(-low * tau) * mean)


def _s2(a: Any, b: Any, c: Any, tau: Array) -> Array:
    """Return the second divided difference of e^(−xτ) over the rates a, b, c."""
    low, middle, high = np.sort(np.stack(np.broadcast_arrays(a, b, c)).astype(np.float64), axis=0)
    x, y = (middle - low) * tau, (high - low) * tau
    series, power, h, factor = np.zeros(np.shape(y)), np.ones(np.shape(y)), np.ones(np.shape(y)), 0.5
    for k in range(_TERMS):
        series = series + factor * h
        power = power * np.minimum(x, _NEAR)
        h = h * np.minimum(y, _NEAR) + power
        factor /= -(k + 3)
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = (_s1(low, middle, tau) - _s1(middle, high, tau)) / (high - low)
    return np.asarray(np.where(y < _NEAR, tau**2 * np.exp(-low * tau) * series, apart))


def trivial(t: Any, t0: Any, ktl: Any, delta: Any, beta: Any, offset: Any) -> Array:
    """Protein from decaying mRNA: ktl/(δ − β) · (1 − e^(−(δ−β)τ)) · e^(−βτ) + offset.

    Rate equations: m' = −δ·m, m(t0) = 1; g' = ktl·m − β·g, g(t0) = 0.

    Parameters
    ----------
    t : array
        Times, h.
    t0 : float
        When translation begins, h.
    ktl : float
        Rate of translation times the amount of mRNA, signal/h.
    delta, beta : float
        Rates of decay of mRNA and of protein, 1/h. Exchanging them changes nothing.
    offset : float
        Signal before t0.

    Examples
    --------
    >>> trivial([0.0, 2.0, 12.0], t0=2, ktl=20, delta=0.07, beta=0.07, offset=5).round(3).tolist()
    [5.0, 5.0, 104.317]
    """
    return np.asarray(ktl * _s1(delta, beta, _since(t, t0)) + offset)


def maturation(t: Any, t0: Any, ktl: Any, km: Any, delta: Any, beta: Any, offset: Any, scale: Any) -> Array:
    """Protein that matures before it is seen, from decaying mRNA.

    scale · (ktl · [e^(−(β+km)τ)/(β−δ+km) − e^(−βτ)/(β−δ) + km·e^(−δτ)/((β−δ)(β−δ+km))] + offset).
    Rate equations: m' = −δ·m, m(t0) = 1; u' = ktl·m − (β + km)·u; g' = km·u − β·g; u(t0) = g(t0) = 0.

    Parameters
    ----------
    t : array
        Times, h.
    t0 : float
        When translation begins, h.
    ktl : float
        Rate of translation times the amount of mRNA, signal/h.
    km : float
        Rate of maturation, 1/h.
    delta, beta : float
        Rates of decay of mRNA and of protein, 1/h.
    offset : float
        Signal before t0, over `scale`.
    scale : float
        Factor of the whole signal; `ktl` and `offset` take all of it.

    References
    ----------
    km and beta of eGFP: Nanomedicine (2019), doi:10.1016/j.nano.2019.102077, Table 1.

    Examples
    --------
    >>> maturation([0.0, 10.0], 0, ktl=1000, km=1.28, delta=0.01, beta=0.00522, offset=0, scale=1).round(1).tolist()
    [0.0, 8558.6]
    """
    shape = np.multiply(km, _s2(delta, beta, np.add(beta, km), _since(t, t0)))
    return np.asarray(scale * (ktl * shape + offset))


def maturation_blocked(t: Any, t0: Any, G0: Any, Gu0: Any, km: Any, beta: Any, offset: Any) -> Array:
    """Protein after translation was blocked: G0·e^(−βτ) + Gu0·(e^(−βτ) − e^(−(β+km)τ)) + offset.

    Rate equations: u' = −(β + km)·u, u(t0) = Gu0; g' = km·u − β·g, g(t0) = G0.

    Parameters
    ----------
    t : array
        Times, h.
    t0 : float
        When translation was blocked, h.
    G0, Gu0 : float
        Mature and immature protein at t0, in units of the signal.
    km, beta : float
        Rates of maturation and of decay, 1/h.
    offset : float
        Signal before t0.

    Examples
    --------
    >>> maturation_blocked([0.0, 1.0], 0, G0=0, Gu0=100, km=1.28, beta=0, offset=1).round(2).tolist()
    [1.0, 73.2]
    """
    tau = _since(t, t0)
    mature, made = np.exp(-beta * tau), -np.expm1(-km * tau)
    return np.asarray(np.where(tau > 0.0, (G0 + Gu0 * made) * mature, 0.0) + offset)


def two_stage(t: Any, t0: Any, ktl: Any, km: Any, beta: Any, offset: Any) -> Array:
    """Protein that matures from a given amount: ktl·(1 − e^(−km·τ))·e^(−βτ) + offset.

    It is `maturation_blocked` with G0 = 0 and Gu0 = ktl.

    Parameters
    ----------
    t : array
        Times, h.
    t0 : float
        When maturation begins, h.
    ktl : float
        Immature protein at t0, in units of the signal.
    km, beta : float
        Rates of maturation and of decay, 1/h.
    offset : float
        Signal before t0.

    Examples
    --------
    >>> two_stage([0.0, 1.0], 0, ktl=100, km=1.28, beta=0, offset=1).round(2).tolist()
    [1.0, 73.2]
    """
    return maturation_blocked(t, t0, 0.0, ktl, km, beta, offset)


def exponential_decay(t: Any, amplitude: Any, rate: Any, offset: Any, t0: Any) -> Array:
    """Decay from a plateau: amplitude·e^(−rate·τ) + offset, and amplitude + offset before t0.

    Rate equation: g' = −rate·g, g(t0) = amplitude.

    Parameters
    ----------
    t : array
        Times, h.
    amplitude, offset : float
        In units of the signal.
    rate : float
        1/h.
    t0 : float
        When the decay begins, h.

    Examples
    --------
    >>> exponential_decay([0.0, 2.0], amplitude=100, rate=0.5, offset=10, t0=0).round(3).tolist()
    [110.0, 46.788]
    """
    return np.asarray(amplitude * np.exp(-np.multiply(rate, _since(t, t0))) + offset)


_ALL: tuple[Any, ...] = (trivial, maturation, maturation_blocked, two_stage, exponential_decay)
for _function in _ALL:
    _function.compiled_leaf = f"scanfold.traces._kinetics_kernels:{_function.__name__}"
