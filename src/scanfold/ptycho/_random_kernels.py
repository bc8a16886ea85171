"""Random numbers by counter: the draw of a pixel depends on its number and the seed, on nothing drawn before.

The generator is Philox-4x32-10 of Salmon, Moraes, Dror and Shaw (2011), doi:10.1145/2063384.2063405.
"""

import math

import numpy as np

from scanfold._jit_kernels import jit

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_UNIT32 = 2.0**-32
#: Mean from which Poisson numbers are drawn by rejection.
_REJECTION = 10.0
_LOG_FACTORIAL = np.array([math.lgamma(k + 1.0) for k in range(128)])
_INVERSE = np.array([0.0] + [1.0 / k for k in range(1, 128)])


@jit()
def philox(c0, c1, c2, c3, k0, k1):
    """Return four random words of 32 bits (as uint64) of a counter of four words and a key of two."""
    for _ in range(10):
        p0, p1 = _M0 * c0, _M1 * c2
        c0, c1, c2, c3 = (p1 >> _HALF) ^ c1 ^ k0, p1 & _LOW, (p0 >> _HALF) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    return c0, c1, c2, c3


@jit()
def draw(number, use, key):
    """Return four words for the `number`-th thing; `use` keeps apart what is drawn for it."""
    n = np.uint64(number)
    return philox(n & _LOW, n >> _HALF, np.uint64(use), np.uint64(0), np.uint64(key[0]), np.uint64(key[1]))


@jit()
def unit(word):
    """Return a word as a number inside (0, 1)."""
    return (np.float64(np.int64(word)) + 0.5) * _UNIT32


@jit()
def uniform_numbers(numbers, use, key):
    """Return two uniform numbers for each of some numbered things, (n, 2)."""
    out = np.empty((numbers.size, 2))
    for i in range(numbers.size):
        w = draw(numbers[i], use, key)
        out[i, 0], out[i, 1] = unit(w[0]), unit(w[1])
    return out


@jit()
def normal_numbers(numbers, use, key):
    """Return two normal numbers for each of some numbered things, (n, 2), by Box and Muller."""
    out = np.empty((numbers.size, 2))
    for i in range(numbers.size):
        w = draw(numbers[i], use, key)
        radius, angle = math.sqrt(-2 * math.log(unit(w[0]))), 2 * math.pi * unit(w[1])
        out[i, 0], out[i, 1] = radius * math.cos(angle), radius * math.sin(angle)
    return out


@jit()
def words(position, key, first, second):
    """Fill two words (uint32) for each pixel of a position; the counter's last words are the position."""
    n, half = np.uint64(position), first.size // 2
    low, high, k0, k1 = n & _LOW, n >> _HALF, np.uint64(key[0]), np.uint64(key[1])
    for i in range(half):
        w0, w1, w2, w3 = philox(np.uint64(i), np.uint64(0), low, high, k0, k1)
        first[i], second[i], first[half + i], second[half + i] = w0, w1, w2, w3


@jit()
def poisson_frame(mean, position, key, first, second, out):
    """Draw a Poisson number for each pixel of a position; `first`, `second` are room for an even number of words.

    Large means mostly need no more than one look at a pixel's first words: the first loop, which has no branches.
    """
    words(position, key, first, second)
    for i in range(mean.size):
        m = mean[i]
        b = 0.931 + 2.53 * math.sqrt(m)
        a = -0.059 + 0.02483 * b
        u = (np.float64(np.int64(first[i])) + 0.5) * _UNIT32 - 0.5
        us = 0.5 - abs(u)
        k = np.floor((2.0 * a / us + b) * u + m + 0.43)
        v = (np.float64(np.int64(second[i])) + 0.5) * _UNIT32
        quick = (m >= _REJECTION) & (us >= 0.07) & (v <= 0.9277 - 3.6224 / (b - 2.0))
        out[i] = k if quick else -1.0
    k0, k1 = np.uint64(key[0]), np.uint64(key[1])
    for i in range(mean.size):
        if out[i] >= 0.0:
            continue
        if mean[i] >= _REJECTION:
            out[i] = _rejected(mean[i], np.uint64(first[i]), np.uint64(second[i]), np.uint64(i), position, k0, k1)
        elif mean[i] > 0.0:
            out[i] = _inverted(mean[i], (np.float64(np.int64(first[i])) + 0.5) * _UNIT32, second[i])
        else:
            out[i] = 0.0


@jit()
def _rejected(mean, w0, w1, pixel, position, k0, k1):
    """Return a Poisson number of a mean from 10 on, by the transformed rejection PTRS of Hörmann (1993).

    doi:10.1016/0167-6687(93)90997-4. The words are the pixel's first; a rejection takes further ones, of counters
    that are the pixel's own.
    """
    b = 0.931 + 2.53 * math.sqrt(mean)
    a = -0.059 + 0.02483 * b
    n, trial = np.uint64(position), 0
    while True:
        u, v = unit(w0) - 0.5, unit(w1)
        us = 0.5 - abs(u)
        k = np.floor((2.0 * a / us + b) * u + mean + 0.43)
        if us >= 0.07 and v <= 0.9277 - 3.6224 / (b - 2.0):
            return k
        if k >= 0.0 and not (us < 0.013 and v > us):
            if math.log(v * (1.1239 + 1.1328 / (b - 3.4)) / (a / (us * us) + b)) <= log_probability(k, mean):
                return k
        trial += 1
        w0, w1, _, _ = philox(pixel, np.uint64(trial), n & _LOW, n >> _HALF, k0, k1)


@jit()
def _inverted(mean, u, word):
    """Return the Poisson number of a mean below 10 at which the distribution function passes u, refined by a word."""
    if u <= 1.0 - mean:  # less than exp(-mean)
        return 0.0
    u += (np.float64(np.int64(word)) * _UNIT32 - 0.5) * _UNIT32
    probability = math.exp(-mean)
    total, k = probability, 0
    while u > total and k < _INVERSE.size - 1:
        k += 1
        probability *= mean * _INVERSE[k]
        total += probability
    return float(k)


@jit()
def log_probability(k, mean):
    """Return log(meanᵏ exp(−mean) / k!), without the loss of digits that large means would bring."""
    if k < _LOG_FACTORIAL.size:
        return k * math.log(mean) - mean - _LOG_FACTORIAL[int(k)]
    # Stirling's series; what is left out is below 1e-12
    inverse = 1.0 / k
    series = inverse * (1.0 / 12.0 - inverse * inverse / 360.0)
    return k * math.log(mean * inverse) + (k - mean) - 0.5 * math.log(2.0 * math.pi * k) - series
