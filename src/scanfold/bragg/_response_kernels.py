"""What a detector makes of a transmission: convolution with the time structure of the neutron pulse.

The transmission is constant on each of a list of segments, which tile equal cells and are cut wherever there is an
edge. A *channel* is such a function, or its derivative by a parameter: the latter has, beside its values, impulses
at the edges that the parameter moves. Exponentials are filters whose states and integrals over a segment have
closed forms, so that an edge counts where it is, not in which cell; Gaussian, square and measured responses are
taps on the cells.
"""

import math

import numpy as np

from scanfold._jit_kernels import jit

_jit = jit()
_fast = jit(fastmath={"reassoc", "contract", "nsz"})
#: Cell integrals are of this many standard deviations of a Gaussian to either side.
REACH = 6.0


@_jit
def cell_sums(length, cell, first, last, values, impulses, moved, out):
    """Fill out (cells) with integrals of a channel over the cells of the segments first … last − 1."""
    for j in range(first, last):
        out[cell[j]] += values[j] * length[j]
        if moved:
            out[cell[j]] += impulses[j]


@_jit
def decays(length, first, last, step, rate, out):
    """Fill out (segments first … last − 1) with exp(−rate·length)."""
    whole = math.exp(-rate * step)
    for j in range(first, last):
        out[j] = whole if length[j] == step else math.exp(-rate * length[j])


@_fast
def first_filtered(length, cell, first, last, backwards, values, rate, decay, out, by_rate):
    """Add to out (cells) the integrals over each cell of ∫ rate·e^(−rate·Δ) f(x − Δ) dΔ, Δ > 0; backwards of f(x + Δ).

    by_rate (cells) gets their derivatives by the rate. Beyond the first segment f is as on it. The state y obeys
    y′ = rate·(f − y), hence ∫y = ∫f − Δy/rate.
    """
    begin, end, turn = (last - 1, first - 1, -1) if backwards else (first, last, 1)
    y, z, inverse = values[begin], 0.0, 1.0 / rate
    for j in range(begin, end, turn):
        f, left = values[j], decay[j]
        new = left * y + (1.0 - left) * f
        slope = left * z + (f - y) * length[j] * left
        gained = (new - y) * inverse
        out[cell[j]] += f * length[j] - gained
        by_rate[cell[j]] += (gained - (slope - z)) * inverse
        y, z = new, slope


@_fast
def filtered(length, cell, first, last, backwards, values, impulses, moved, rate, decay, out):
    """Add to out (cells) what `first_filtered` does, of a channel that has impulses where it is moved."""
    begin, end, turn = (last - 1, first - 1, -1) if backwards else (first, last, 1)
    y, inverse = values[begin], 1.0 / rate
    for j in range(begin, end, turn):
        f, left = values[j], decay[j]
        if moved and backwards and j < last - 1:
            y += rate * impulses[j]
        new = left * y + (1.0 - left) * f
        out[cell[j]] += f * length[j] - (new - y) * inverse
        y = new + rate * impulses[j] if moved and not backwards else new


@_jit
def gaussian_moments(a, b, width, out):
    """Fill out with ∫ xⁿ G(x) dx over [a, b], n = 0 … 3, of the normal density of standard deviation `width`."""
    norm, r2 = 1.0 / (width * math.sqrt(2.0 * math.pi)), width * width
    ga, gb = norm * math.exp(-0.5 * a * a / r2), norm * math.exp(-0.5 * b * b / r2)
    root = width * math.sqrt(2.0)
    # erfc of the nearer end keeps the digits of the tails.
    if a >= 0.0:
        out[0] = 0.5 * (math.erfc(a / root) - math.erfc(b / root))
    elif b <= 0.0:
        out[0] = 0.5 * (math.erfc(-b / root) - math.erfc(-a / root))
    else:
        out[0] = 0.5 * (math.erf(b / root) - math.erf(a / root))
    out[1] = r2 * (ga - gb)
    out[2] = r2 * (out[0] + a * ga - b * gb)
    out[3] = r2 * (2.0 * out[1] + a * a * ga - b * b * gb)


@_jit
def square_moments(a, b, width, out):
    """Fill out with ∫ xⁿ dx / width over the part of [a, b] within ±width/2, n = 0 … 3."""
    low, high = max(a, -0.5 * width), min(b, 0.5 * width)
    for n in range(4):
        out[n] = (high ** (n + 1) - low ** (n + 1)) / ((n + 1) * width) if high > low else 0.0


@_jit
def taps_of(square, width, taps):
    """Fill taps (2·h + 1): weights of cells −h … h of a Gaussian or square response of a width in cells.

    The function between the cells is Keys' cubic (IEEE Trans. ASSP 29 (1981) 1153) through the cells, integrated
    with the response in closed form: exact for parabolas, whatever the width.
    """
    half = (taps.size - 1) // 2
    taps[:] = 0.0
    m, t = np.empty(4), np.empty(4)
    for j in range(-half + 1, half - 1):
        if square:
            square_moments(float(j), j + 1.0, width, m)
        else:
            gaussian_moments(float(j), j + 1.0, width, m)
        # moments of x − j
        t[0], t[1] = m[0], m[1] - j * m[0]
        t[2] = m[2] - 2.0 * j * m[1] + j * j * m[0]
        t[3] = m[3] - 3.0 * j * m[2] + 3.0 * j * j * m[1] - j * j * j * m[0]
        taps[half + j - 1] += 0.5 * (-t[1] + 2.0 * t[2] - t[3])
        taps[half + j] += 0.5 * (2.0 * t[0] - 5.0 * t[2] + 3.0 * t[3])
        taps[half + j + 1] += 0.5 * (t[1] + 4.0 * t[2] - 3.0 * t[3])
        taps[half + j + 2] += 0.5 * (-t[2] + t[3])


@_jit
def half_taps(square, width):
    """Return how many cells to either side taps of a width (cells) reach."""
    return math.ceil(0.5 * width if square else REACH * width) + 3


@_fast
def convolve(values, taps, begin, end, first, last, out):
    """Fill out[first:last]: Σ taps[h + k]·values[c − k]; beyond begin … end − 1, values goes on as it ends there."""
    half = (taps.size - 1) // 2
    for c in range(first, last):
        s = 0.0
        if c - half >= begin and c + half < end:
            for k in range(taps.size):
                s += taps[k] * values[c + half - k]
        else:
            for k in range(taps.size):
                s += taps[k] * values[min(max(c + half - k, begin), end - 1)]
        out[c] = s


@_jit
def smear(square, width, sums, begin, end, first, last, out, by_width):
    """Convolve channels (c, cells) with a Gaussian or square of a width in cells, for the cells first … last − 1.

    Cells begin … end − 1 of them are known. by_width (cells) is filled with the derivative of the first channel.
    """
    half = half_taps(square, width)
    taps, lower = np.empty(2 * half + 1), np.empty(2 * half + 1)
    taps_of(square, width, taps)
    for r in range(sums.shape[0]):
        convolve(sums[r], taps, begin, end, first, last, out[r])
    h = 1.0e-4 * width
    taps_of(square, width + h, taps)
    taps_of(square, width - h, lower)
    for k in range(taps.size):
        taps[k] = (taps[k] - lower[k]) / (2.0 * h)
    convolve(sums[0], taps, begin, end, first, last, by_width)


@_jit
def mix(alpha, beta, step, rise, fall, by_alpha, by_beta):
    """Join both exponentials in place: fall (channels, cells) becomes (α·fall + β·rise)/(α + β), per unit of length.

    by_alpha and by_beta (cells) come as derivatives of the filters, and become those of the first channel.
    """
    share, rest = alpha / (alpha + beta) / step, beta / (alpha + beta) / step
    tilt_alpha, tilt_beta = beta / (alpha + beta) ** 2 / step, -alpha / (alpha + beta) ** 2 / step
    for c in range(by_alpha.size):
        gap = fall[0, c] - rise[0, c]
        by_alpha[c] = tilt_alpha * gap + rest * by_alpha[c]
        by_beta[c] = tilt_beta * gap + share * by_beta[c]
    for n in range(fall.shape[0]):
        for c in range(by_alpha.size):
            fall[n, c] = share * fall[n, c] + rest * rise[n, c]
