"""A stack machine for constraint expressions, and the special functions that numba lacks.

Code is an array of ``(operation, argument)`` pairs in postfix order, made by
`scanfold.fitting.expressions` from a checked syntax tree.
"""

import cmath
import math

import numpy as np

from scanfold.fitting._jit_kernels import jit

_jit = jit()
#: Step of central differences, relative to the parameter (absolute where that is 0): ∛ε, the optimum for a parameter
#: on its own scale. A feature farther from zero than about 10⁵ of its widths needs a shifted axis.
RELATIVE_STEP = 6.0554544523933395e-06

CONST, PARAM, X, ADD, SUB, MUL, DIV, POW, NEG = range(9)
(
    SQRT, EXP, LOG, LOG10, LOG1P, EXPM1, SIN, COS, TAN, ASIN, ACOS, ATAN, SINH, COSH, TANH, ABS,
    ERF, ERFC, ERFCX, GAMMA, LGAMMA, SQUARE, SIGN, FLOOR, CEIL,
) = range(20, 45)  # fmt: skip
ATAN2, MAX, MIN, BETALN, LGAMMA_REAL = range(60, 65)


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


@_jit
def _unary(op, a):
    if op == NEG:
        return -a
    if op == SQRT:
        return math.sqrt(a) if a >= 0.0 else np.nan
    if op == EXP:
        return math.exp(a)
    if op == LOG:
        return np.log(a)
    if op == LOG10:
        return np.log10(a)
    if op == LOG1P:
        return np.log1p(a)
    if op == EXPM1:
        return math.expm1(a)
    if op == SIN:
        return math.sin(a)
    if op == COS:
        return math.cos(a)
    if op == TAN:
        return math.tan(a)
    if op == ASIN:
        return math.asin(a) if abs(a) <= 1.0 else np.nan
    if op == ACOS:
        return math.acos(a) if abs(a) <= 1.0 else np.nan
    if op == ATAN:
        return math.atan(a)
    if op == SINH:
        return math.sinh(a)
    if op == COSH:
        return math.cosh(a)
    if op == TANH:
        return math.tanh(a)
    if op == ABS:
        return abs(a)
    if op == ERF:
        return math.erf(a)
    if op == ERFC:
        return math.erfc(a)
    if op == ERFCX:
        return erfcx(a)
    if op == GAMMA:
        return math.gamma(a)
    if op == LGAMMA:
        return math.lgamma(a)
    if op == SQUARE:
        return a * a
    if op == SIGN:
        return float(np.sign(a))
    if op == FLOOR:
        return float(math.floor(a))
    return float(math.ceil(a))


@_jit
def _binary(op, a, b):
    if op == ADD:
        return a + b
    if op == SUB:
        return a - b
    if op == MUL:
        return a * b
    if op == DIV:
        return a / b
    if op == POW:
        return a**b
    if op == ATAN2:
        return math.atan2(a, b)
    if op == MAX:
        return max(a, b)
    if op == MIN:
        return min(a, b)
    if op == BETALN:
        return betaln(a, b)
    return lgamma_real(a, b)


@_jit
def run_code(code, params, x):
    """Evaluate one expression: code of shape (length, 2), parameters, the independent variable."""
    stack = np.empty(code.shape[0] + 1)
    top = 0
    for i in range(code.shape[0]):
        op = int(code[i, 0])
        if op == CONST:
            stack[top] = code[i, 1]
            top += 1
        elif op == PARAM:
            stack[top] = params[int(code[i, 1])]
            top += 1
        elif op == X:
            stack[top] = x
            top += 1
        elif op in (ADD, SUB, MUL, DIV, POW) or op >= ATAN2:
            top -= 1
            stack[top - 1] = _binary(op, stack[top - 1], stack[top])
        else:
            stack[top - 1] = _unary(op, stack[top - 1])
    return stack[0]
