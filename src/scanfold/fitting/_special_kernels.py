"""Special functions that numba lacks."""

import cmath
import math

import numpy as np

from scanfold._jit_kernels import jit

_jit = jit()
# 2^k for k = −1022 … 1023, and 1/j!: a table and a polynomial, so that the compiler can treat several points at once.
_POWERS = 2.0 ** np.arange(-1022.0, 1024.0)
_LOG2E, _LN2_HIGH, _LN2_LOW = 1.4426950408889634, 6.93147180369123816490e-01, 1.90821492927058770002e-10


@jit(fastmath={"contract"})
def exp_below(x):
    """Return exp(x) for x ≤ 0, to 3·10⁻¹⁶ relative; 0 below −708."""
    bounded = max(x, -708.0)
    k = int(np.floor(bounded * _LOG2E + 0.5))
    r = (bounded - k * _LN2_HIGH) - k * _LN2_LOW
    s = 1.0 / 6227020800.0
    s = s * r + 1.0 / 479001600.0
    s = s * r + 1.0 / 39916800.0
    s = s * r + 1.0 / 3628800.0
    s = s * r + 1.0 / 362880.0
    s = s * r + 1.0 / 40320.0
    s = s * r + 1.0 / 5040.0
    s = s * r + 1.0 / 720.0
    s = s * r + 1.0 / 120.0
    s = s * r + 1.0 / 24.0
    s = s * r + 1.0 / 6.0
    s = s * r + 0.5
    s = s * r + 1.0
    s = s * r + 1.0
    value = s * _POWERS[k + 1022]
    return value if x >= -708.0 else (0.0 if x < -708.0 else x)


@_jit
def faddeeva(z):
    """Return w(z) = exp(−z²) erfc(−iz), for any complex z.

    Poppe and Wijers, ACM TOMS 16 (1990) 38: a Taylor series near the origin, Laplace's continued
    fraction far out, a Taylor expansion about a shifted point between them. Relative error ~1e-14.
    """
    xa, ya = abs(z.real), abs(z.imag)
    x, y = xa / 6.3, ya / 4.4
    rho2 = x * x + y * y
    quarter = complex(xa, ya)
    square = quarter * quarter
    if rho2 < 0.085264:
        rho = (1.0 - 0.85 * y) * math.sqrt(rho2)
        terms = round(6.0 + 72.0 * rho)
        series = complex(1.0 / (2 * terms + 1), 0.0)
        for i in range(terms, 0, -1):
            series = series * square / i + 1.0 / (2 * i - 1)
        # w = exp(−z²)·(1 + 2i/√π ∫₀ᶻ exp(t²) dt), the integral by its Taylor series.
        w = cmath.exp(-square) * (1.0 + 2j / math.sqrt(math.pi) * quarter * series)
    else:
        if rho2 > 1.0:
            h, kept = 0.0, 0
            order = int(3.0 + 1442.0 / (26.0 * math.sqrt(rho2) + 77.0))
        else:
            rho = (1.0 - y) * math.sqrt(1.0 - rho2)
            h = 1.88 * rho
            kept = round(7.0 + 34.0 * rho)
            order = round(16.0 + 26.0 * rho)
        power = (2.0 * h) ** kept if h > 0.0 else 0.0
        r, s = 0j, 0j
        for n in range(order, -1, -1):
            r = 0.5 / (ya + h - 1j * xa + (n + 1) * r)
            if h > 0.0 and n <= kept:
                s = r * (power + s)
                power /= 2.0 * h
        w = 2.0 / math.sqrt(math.pi) * (s if h > 0.0 else r)
        if ya == 0.0:
            w = complex(math.exp(-xa * xa), w.imag)
    if z.imag < 0.0:
        w = 2.0 * cmath.exp(-square) - w
        return w if z.real <= 0.0 else w.conjugate()
    return w if z.real >= 0.0 else w.conjugate()


@_jit
def erfcx(x):
    """Return exp(x²) erfc(x)."""
    return faddeeva(complex(0.0, x)).real


@_jit
def lgamma_real(a, b):
    """Return Re ln Γ(a + ib), a > 0, by Stirling's series after shifting the argument."""
    z = complex(a, b)
    shift = 0.0
    while z.real < 12.0:
        shift += math.log(abs(z))
        z += 1.0
    inv = 1.0 / z
    inv2 = inv * inv
    series = inv * (1.0 / 12.0 + inv2 * (-1.0 / 360.0 + inv2 * (1.0 / 1260.0 + inv2 * (-1.0 / 1680.0 + inv2 / 1188.0))))
    return ((z - 0.5) * cmath.log(z) - z + 0.5 * math.log(2.0 * math.pi) + series).real - shift


@_jit
def betaln(a, b):
    """Return ln B(a, b), a and b > 0."""
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
