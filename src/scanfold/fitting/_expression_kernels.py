"""A stack machine for constraint expressions.

Code is an array of ``(operation, argument)`` pairs in postfix order, made by
`scanfold.fitting.expressions` from a checked syntax tree.
"""

import math

import numpy as np

from scanfold._jit_kernels import jit
from scanfold.fitting._special_kernels import betaln, erfcx, lgamma_real

_jit = jit()
#: Step of central differences, relative to the parameter (absolute where that is 0): ∛ε, the optimum for a parameter
#: on its own scale. A feature farther from zero than about 10⁵ of its widths needs a shifted axis.
RELATIVE_STEP = 6.0554544523933395e-06
#: Relative step of forward differences, √ε: half as many calls of a function that is not ours.
FORWARD_STEP = 1.4901161193847656e-08
#: Which differences a user's function is given, as its `aux` says.
ROUGH, ACCURATE = 0.0, 1.0
#: A forward step that changes the function by less than this part of it tells rounding: it is widened by WIDER,
#: up to WIDENINGS times (a centre near 0, of a peak that is wide beside it).
TOO_LITTLE, WIDER, WIDENINGS = 1.0e-10, 1.0e3, 3

CONST, PARAM, X, ADD, SUB, MUL, DIV, POW, NEG = range(9)
(
    SQRT, EXP, LOG, LOG10, LOG1P, EXPM1, SIN, COS, TAN, ASIN, ACOS, ATAN, SINH, COSH, TANH, ABS,
    ERF, ERFC, ERFCX, GAMMA, LGAMMA, SQUARE, SIGN, FLOOR, CEIL,
) = range(20, 45)  # fmt: skip
ATAN2, MAX, MIN, BETALN, LGAMMA_REAL = range(60, 65)


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
def run_code(code, params, x, stack):
    """Evaluate one expression: code of shape (length, 2), parameters, the independent variable, room for its values."""
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
