"""Kinetic models as compiled leaves: values and derivatives of a whole trace.

All are sums of exponentials of the rates. Where rates are close their coefficients grow without bound, and only
differences count: there the sums are divided differences S of exp(−rate·τ), which are smooth, from series.
S1(a, b) = ∫₀¹ τ exp(−(a + (b − a)s)τ) ds; S2, S3 likewise over more rates (Hermite–Genocchi), and
∂S1(a, b)/∂a = −S2(a, a, b).
"""

import math

from numba import carray

from scanfold._jit_kernels import jit
from scanfold.fitting._special_kernels import exp_below

_jit = jit()
#: Below this product of τ and a difference of rates, series: closed forms have errors of 10⁻¹¹ there, derivatives 10⁻⁸.
NEAR = 0.005
#: Terms of the series, enough for products up to WIDE.
TERMS, WIDE = 9, 0.1


@_jit
def s1(a, b, tau):
    """Return S1(a, b) at τ."""
    z = (b - a) * tau
    if abs(z) >= WIDE:
        return (math.exp(-a * tau) - math.exp(-b * tau)) / (b - a)
    term, total = 1.0, 0.0
    for k in range(TERMS):
        total += term
        term *= -z / (k + 2)
    return tau * math.exp(-a * tau) * total


@_jit
def s2_double(a, b, tau):
    """Return S2(a, a, b) at τ."""
    z = (b - a) * tau
    if abs(z) >= WIDE:
        return (tau * math.exp(-a * tau) - s1(a, b, tau)) / (b - a)
    term, total = 0.5, 0.0
    for k in range(TERMS):
        total += term
        term *= -z / (k + 3)
    return tau * tau * math.exp(-a * tau) * total


@_jit
def _widest(a, b, c):
    """Return which pair of rates is farthest apart: 0 (a, b), 1 (a, c), 2 (b, c); and how far."""
    ab, ac, bc = abs(b - a), abs(c - a), abs(c - b)
    if ab >= ac and ab >= bc:
        return 0, ab
    return (1, ac) if ac >= bc else (2, bc)


@_jit
def _series(a, b, c, doubled, tau):
    """Return S2(a, b, c), or S3(a, a, b, c) if doubled, of close rates: Σ (−τ)^k h_k/(k + m)!, about rate a.

    h_k is the complete homogeneous polynomial of the rates' differences from a; its own are 0 and add nothing.
    """
    x, y = (b - a) * tau, (c - a) * tau
    total, h, power, factor = 0.0, 1.0, 1.0, 1.0 / 6.0 if doubled else 0.5
    order = 3 if doubled else 2
    for k in range(TERMS):
        total += factor * h
        power *= x
        h = h * y + power
        factor *= -1.0 / (k + order + 1)
    return tau**order * math.exp(-a * tau) * total


@_jit
def s2(a, b, c, tau):
    """Return S2(a, b, c) at τ."""
    pair, width = _widest(a, b, c)
    if width * tau < WIDE:
        return _series(a, b, c, False, tau)
    if pair == 0:
        return (s1(a, c, tau) - s1(b, c, tau)) / (b - a)
    if pair == 1:
        return (s1(a, b, tau) - s1(c, b, tau)) / (c - a)
    return (s1(b, a, tau) - s1(c, a, tau)) / (c - b)


@_jit
def s3_double(a, b, c, tau):
    """Return S3(a, a, b, c) at τ."""
    pair, width = _widest(a, b, c)
    if width * tau < WIDE:
        return _series(a, b, c, True, tau)
    if pair == 0:
        return (s2_double(a, c, tau) - s2(a, b, c, tau)) / (b - a)
    if pair == 1:
        return (s2_double(a, b, tau) - s2(a, b, c, tau)) / (c - a)
    return (s2_double(a, b, tau) - s2_double(a, c, tau)) / (c - b)


@_jit
def decays(x, t0, rate, out):
    """Fill out with e^(−rate·τ), τ not below 0: a loop of its own vectorises."""
    for i in range(x.size):
        out[i] = exp_below(-rate * max(x[i] - t0, 0.0))


def trivial(n, k, x, p, aux, aux_size, y, jac):
    """Fill ktl·S1(delta, beta) + offset; p = t0, ktl, delta, beta, offset."""
    x_, p_, y_, jac_ = carray(x, n), carray(p, 5), carray(y, n), carray(jac, (5, n))
    t0, ktl, delta, beta, offset = p_[0], p_[1], p_[2], p_[3], p_[4]
    gap = delta - beta
    inverse = 1.0 / gap if gap != 0.0 else 0.0
    by_ktl, e_delta, e_beta = jac_[1], jac_[2], jac_[3]
    decays(x_, t0, delta, e_delta)
    decays(x_, t0, beta, e_beta)
    for i in range(n):
        by_ktl[i] = (e_beta[i] - e_delta[i]) * inverse
        jac_[0, i] = ktl * (beta * by_ktl[i] - e_delta[i]) if x_[i] > t0 else 0.0
        y_[i] = ktl * by_ktl[i] + offset
    for i in range(n):
        tau = max(x_[i] - t0, 0.0)
        e_delta[i] = -ktl * (by_ktl[i] - tau * e_delta[i]) * inverse
        e_beta[i] = -ktl * (tau * e_beta[i] - by_ktl[i]) * inverse
        jac_[4, i] = 1.0
    for i in range(n):
        tau = x_[i] - t0
        if tau > 0.0 and abs(gap) * tau < NEAR:
            shape = s1(delta, beta, tau)
            y_[i] = ktl * shape + offset
            jac_[0, i] = ktl * (beta * shape - math.exp(-delta * tau))
            jac_[1, i] = shape
            jac_[2, i] = -ktl * s2_double(delta, beta, tau)
            jac_[3, i] = -ktl * s2_double(beta, delta, tau)


def maturation(n, k, x, p, aux, aux_size, y, jac):
    """Fill scale·(ktl·km·S2(delta, beta, beta + km) + offset); p = t0, ktl, km, delta, beta, offset, scale."""
    x_, p_, y_, jac_ = carray(x, n), carray(p, 7), carray(y, n), carray(jac, (7, n))
    t0, ktl, km, delta, beta, offset, scale = p_[0], p_[1], p_[2], p_[3], p_[4], p_[5], p_[6]
    gamma = beta + km
    high = scale * ktl
    near = min(abs(delta - beta), abs(delta - gamma), km)
    apart = near > 0.0
    by_p, by_q = (1.0 / (beta - delta), 1.0 / (gamma - delta)) if apart else (0.0, 0.0)
    a, b, c = km * by_p * by_q, -by_p, by_q
    value, by_t0, by_ktl = y_, jac_[0], jac_[1]
    e_g, e_d, e_b = jac_[2], jac_[3], jac_[4]
    decays(x_, t0, beta + km, e_g)
    decays(x_, t0, delta, e_d)
    decays(x_, t0, beta, e_b)
    for i in range(n):
        on = high if x_[i] > t0 else 0.0
        by_ktl[i] = (scale if x_[i] > t0 else 0.0) * (a * e_d[i] + b * e_b[i] + c * e_g[i])
        by_t0[i] = on * (delta * a * e_d[i] + beta * b * e_b[i] + gamma * c * e_g[i])
    for i in range(n):
        tau = max(x_[i] - t0, 0.0)
        on = high if x_[i] > t0 else 0.0
        d, e, g = e_d[i], e_b[i], e_g[i]
        turn = a * (by_p + by_q) * d - by_p * by_p * e + by_q * by_q * g
        e_g[i] = on * (by_q * by_q * (d - g) - tau * c * g)
        e_d[i] = on * (turn - tau * a * d)
        e_b[i] = on * (-turn - tau * (b * e + c * g))
    for i in range(n):
        value[i] = ktl * by_ktl[i] + scale * offset
        jac_[5, i] = scale
    for i in range(n):
        tau = x_[i] - t0
        if tau > 0.0 and near * tau < NEAR:
            _maturation_near(tau, i, ktl, km, delta, beta, offset, scale, y_, jac_)
    for i in range(n):
        jac_[6, i] = y_[i] / scale if scale != 0.0 else 0.0


@_jit
def _maturation_near(tau, i, ktl, km, delta, beta, offset, scale, y, jac):
    """Fill one point where rates are close, or little time has passed."""
    gamma, high = beta + km, scale * ktl
    shape = s2(delta, beta, gamma, tau)
    by_gamma = s3_double(gamma, delta, beta, tau)
    y[i] = high * km * shape + scale * offset
    jac[0, i] = -high * km * (s1(delta, gamma, tau) - beta * shape)
    jac[1, i] = scale * km * shape
    jac[2, i] = high * (shape - km * by_gamma)
    jac[3, i] = -high * km * s3_double(delta, beta, gamma, tau)
    jac[4, i] = -high * km * (s3_double(beta, delta, gamma, tau) + by_gamma)


def maturation_blocked(n, k, x, p, aux, aux_size, y, jac):
    """Fill G0·e^(−βτ) + Gu0·(e^(−βτ) − e^(−(β+km)τ)) + offset; p = t0, G0, Gu0, km, beta, offset."""
    x_, p_, y_, jac_ = carray(x, n), carray(p, 6), carray(y, n), carray(jac, (6, n))
    t0, mature, immature, km, beta, offset = p_[0], p_[1], p_[2], p_[3], p_[4], p_[5]
    for i in range(n):
        tau = max(x_[i] - t0, 0.0)
        on = 1.0 if x_[i] > t0 else 0.0
        e_b, e_g = on * exp_below(-beta * tau), on * exp_below(-(beta + km) * tau)
        y_[i] = mature * e_b + immature * (e_b - e_g) + offset
        jac_[0, i] = beta * mature * e_b + immature * (beta * e_b - (beta + km) * e_g)
        jac_[1, i] = e_b
        jac_[2, i] = e_b - e_g
        jac_[3, i] = immature * tau * e_g
        jac_[4, i] = -tau * (mature * e_b + immature * (e_b - e_g))
        jac_[5, i] = 1.0


def two_stage(n, k, x, p, aux, aux_size, y, jac):
    """Fill ktl·(1 − e^(−km·τ))·e^(−βτ) + offset; p = t0, ktl, km, beta, offset."""
    x_, p_, y_, jac_ = carray(x, n), carray(p, 5), carray(y, n), carray(jac, (5, n))
    t0, ktl, km, beta, offset = p_[0], p_[1], p_[2], p_[3], p_[4]
    for i in range(n):
        tau = max(x_[i] - t0, 0.0)
        on = 1.0 if x_[i] > t0 else 0.0
        e_b, e_g = on * exp_below(-beta * tau), on * exp_below(-(beta + km) * tau)
        y_[i] = ktl * (e_b - e_g) + offset
        jac_[0, i] = ktl * (beta * e_b - (beta + km) * e_g)
        jac_[1, i] = e_b - e_g
        jac_[2, i] = ktl * tau * e_g
        jac_[3, i] = -ktl * tau * (e_b - e_g)
        jac_[4, i] = 1.0


def exponential_decay(n, k, x, p, aux, aux_size, y, jac):
    """Fill amplitude·e^(−rate·τ) + offset, amplitude + offset before t0; p = amplitude, rate, offset, t0."""
    x_, p_, y_, jac_ = carray(x, n), carray(p, 4), carray(y, n), carray(jac, (4, n))
    amplitude, rate, offset, t0 = p_[0], p_[1], p_[2], p_[3]
    for i in range(n):
        tau = max(x_[i] - t0, 0.0)
        e = exp_below(-rate * tau)
        y_[i] = amplitude * e + offset
        jac_[0, i] = e
        jac_[1, i] = -amplitude * tau * e
        jac_[2, i] = 1.0
        jac_[3, i] = amplitude * rate * e if x_[i] > t0 else 0.0
