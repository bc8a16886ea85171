"""The transmission in nbragg's form, to reproduce published fits: the response acts on σ, sample by sample."""

import math

import numpy as np
from numba import carray

from scanfold._jit_kernels import jit
from scanfold.bragg._detector_kernels import detect, index_of, is_active
from scanfold.bragg._sections_kernels import last_points
from scanfold.bragg._sigma_kernels import (
    ALPHA0,
    ATOMS,
    DENSITY,
    PHASES,
    TAPS,
    TAPS_AT,
    TEMPERATURES,
    THICKNESS,
    VOLUME,
    fractions,
    lattice_lengths,
    phase_at,
    phase_section,
    role,
)
from scanfold.bragg._transmission_kernels import acts_before, all_planes, by_fraction, first_planes, section_slope
from scanfold.fitting._special_kernels import erfcx

_jit = jit()
_fast = jit(fastmath={"reassoc", "contract", "nsz"})
_STEP = 1.0e-5


@_jit
def jorgensen(delta, alpha, beta, sigma):
    """Return Jorgensen's profile but for its norm: eᵘ erfc y + eᵛ erfc z, by erfcx; exponentials where σ = 0."""
    if sigma <= 0.0:
        return 2.0 * math.exp(alpha * delta) if delta < 0.0 else 2.0 * math.exp(-beta * delta)
    root = math.sqrt(2.0) * sigma
    y, z = (alpha * sigma * sigma + delta) / root, (beta * sigma * sigma - delta) / root
    gauss = math.exp(-0.5 * (delta / sigma) ** 2)
    rise = gauss * erfcx(y) if y >= 0.0 else math.exp(0.5 * alpha * (alpha * sigma**2 + 2.0 * delta)) * math.erfc(y)
    fall = gauss * erfcx(z) if z >= 0.0 else math.exp(0.5 * beta * (beta * sigma**2 - 2.0 * delta)) * math.erfc(z)
    return rise + fall


@_jit
def sample_taps(p, aux, taps):
    """Fill taps with the profile on its own grid, of sum 1: per 0.1 of a sample's step, or in µs at d = 2 Å."""
    values = np.zeros(7)
    for j in range(7):
        index = index_of(aux, ALPHA0 + j)
        values[j] = p[index] if index >= 0 else 0.0
    d = 2.0
    alpha, beta = values[0] + values[1] / d, values[2] + values[3] / d**4
    sigma = math.sqrt(values[4] ** 2 + (values[5] * d) ** 2 + (values[6] * d * d) ** 2)
    at, total = int(aux[TAPS_AT]), 0.0
    for j in range(taps.size):
        taps[j] = jorgensen(aux[at + j], alpha, beta, sigma)
        total += taps[j]
    for j in range(taps.size):
        taps[j] /= total


@_fast
def reflected(values, taps, out):
    """Fill out (n): Σ taps[j]·values[i + h − j], h half the number of taps; values is mirrored at its ends."""
    n, size = values.size, taps.size
    half = size // 2
    wide = np.empty(n + size)
    for i in range(wide.size):
        k = (i - (size - 1 - half)) % (2 * n)
        wide[i] = values[k] if k < n else values[2 * n - 1 - k]
    for i in range(n):
        s = 0.0
        for j in range(size):
            s += taps[j] * wide[i + size - 1 - j]
        out[i] = s


@_jit
def smoothed(values, taps, out):
    """Fill out with values after the response, if there is one."""
    if taps.size == 0:
        out[:] = values
    else:
        reflected(values, taps, out)


@_jit
def density_of(p, aux, v):
    """Return Σ v·n, atoms per barn and cm."""
    total = 0.0
    for i in range(v.size):
        at = phase_at(aux, i)
        a, b, c = lattice_lengths(p, aux, at)
        total += v[i] * aux[at + ATOMS] / (aux[at + VOLUME] * a * b * c)
    return total


@_jit
def compat_transmission(x, p, aux, y, jac):
    """Fill y (n) and jac (k, n) at rising wavelengths x (n)."""
    if not np.isfinite(p).all():  # sizes below follow from parameters
        y[:], jac[:] = np.nan, 0.0
        return
    phases, n = int(aux[PHASES]), x.size
    jac[:] = 0.0
    first = first_planes(aux)
    planes = first[phases]
    d, q, on = np.empty(planes), np.empty(planes), np.empty(planes, np.int64)
    nodes, v = np.empty(int(aux[TEMPERATURES])), np.empty(phases)
    all_planes(p, aux, first, d, q, nodes)
    last_points(2.0 * d, x, on)
    fractions(p, aux, v)
    sections, total = np.empty((phases, n)), np.zeros(n)
    for i in range(phases):
        part = slice(first[i], first[i + 1])
        phase_section(p, aux, i, nodes, x, d[part], q[part], on[part], sections[i])
        for j in range(n):
            total[j] += v[i] * sections[i, j]
    # nbragg keeps the number density that it started with.
    scale = aux[DENSITY] / density_of(p, aux, v)
    thickness = role(p, aux, THICKNESS, 1.0)
    taps = np.empty(int(aux[TAPS]))
    sample_taps(p, aux, taps)
    work, slope, shift = np.empty(n), np.empty(n), np.empty(planes)
    smoothed(total, taps, work)
    for j in range(n):
        y[j] = math.exp(-thickness * scale * work[j])
    for index in range(p.size):
        if not is_active(aux, index):
            continue
        if index == index_of(aux, THICKNESS):
            for j in range(n):
                jac[index, j] = -scale * work[j] * y[j]
        elif acts_before(aux, index):
            if by_fraction(aux, index, sections, v, total, slope):
                by_density(p, aux, index, total, slope)
            else:
                section_slope(p, aux, first, index, d, q, nodes, on, x, sections, v, slope, shift)
            smoothed(slope, taps, jac[index])
            for j in range(n):
                jac[index, j] *= -thickness * scale * y[j]
    by_response(p, aux, total, thickness * scale, taps, y, jac)
    detect(x, p, aux, y, jac)


@_jit
def by_density(p, aux, index, total, slope):
    """Correct slope (n) of Σ v·section by a log ratio for what that does to the density it is divided by."""
    v, keep, h = np.empty(int(aux[PHASES])), p[index], 1.0e-5
    fractions(p, aux, v)
    middle = density_of(p, aux, v)
    p[index] = keep + h
    fractions(p, aux, v)
    above = density_of(p, aux, v)
    p[index] = keep - h
    fractions(p, aux, v)
    change = (above - density_of(p, aux, v)) / (2.0 * h * middle)
    p[index] = keep
    for j in range(slope.size):
        slope[j] -= total[j] * change


@_jit
def by_response(p, aux, total, factor, taps, y, jac):
    """Fill the derivatives by the parameters of the response, from central differences of its taps."""
    upper, lower = np.empty(taps.size), np.empty(taps.size)
    for which in range(7):
        index = index_of(aux, ALPHA0 + which)
        if not is_active(aux, index) or taps.size == 0:
            continue
        keep = p[index]
        h = _STEP * (abs(keep) if keep != 0.0 else 1.0)
        p[index] = keep + h
        sample_taps(p, aux, upper)
        p[index] = keep - h
        sample_taps(p, aux, lower)
        p[index] = keep
        for j in range(taps.size):
            upper[j] = (upper[j] - lower[j]) / (2.0 * h)
        reflected(total, upper, jac[index])
        for j in range(y.size):
            jac[index, j] *= -factor * y[j]


def compat(n, k, x, p, aux, aux_size, y, jac):
    """Transmission at wavelengths, the response acting on σ."""
    compat_transmission(carray(x, n), carray(p, k), carray(aux, aux_size), carray(y, n), carray(jac, (k, n)))
