"""A user's function as a formula: recorded by calling it once with symbols, differentiated, and written as a kernel.

Whatever is made of arithmetic and the functions below can be recorded. A function that asks for a value (an `if`, an
index, a sum over the axis) cannot, and is left as it is: differences give its derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.mixins import NDArrayOperatorsMixin
from scipy import special

from scanfold.fitting import _expression_kernels as op

#: Operations of more nodes are not worth the time that it takes to compile them.
MOST = 2000

#: How a kernel writes an operation on {0} and {1} …
_CODE = {
    "add": "{0} + {1}", "subtract": "{0} - {1}", "multiply": "{0} * {1}", "divide": "{0} / {1}",
    "power": "{0} ** {1}", "negative": "-{0}", "absolute": "abs({0})", "sqrt": "np.sqrt({0})", "exp": "math.exp({0})",
    "expm1": "math.expm1({0})", "log": "np.log({0})", "log1p": "np.log1p({0})", "log2": "np.log2({0})",
    "log10": "np.log10({0})", "sin": "math.sin({0})", "cos": "math.cos({0})", "tan": "math.tan({0})",
    "arcsin": "np.arcsin({0})", "arccos": "np.arccos({0})", "arctan": "math.atan({0})",
    "arctan2": "math.atan2({0}, {1})", "sinh": "math.sinh({0})", "cosh": "math.cosh({0})", "tanh": "math.tanh({0})",
    "erf": "math.erf({0})", "erfc": "math.erfc({0})", "sign": "np.sign({0})",
    "log_positive": "(math.log({0}) if {0} > 0.0 else 0.0)",
}  # fmt: skip
#: … and its derivatives by them, of operands a, b and value y.
_SLOPES: dict[str, tuple[Callable[[Any, Any, Any], Any], ...]] = {
    "add": (lambda a, b, y: 1.0, lambda a, b, y: 1.0),
    "subtract": (lambda a, b, y: 1.0, lambda a, b, y: -1.0),
    "multiply": (lambda a, b, y: b, lambda a, b, y: a),
    "divide": (lambda a, b, y: 1.0 / b, lambda a, b, y: -y / b),
    "power": (lambda a, b, y: b * a ** (b - 1.0), lambda a, b, y: y * _log_positive(a)),
    "negative": (lambda a, b, y: -1.0,),
    "absolute": (lambda a, b, y: _node("sign", a),),
    "sqrt": (lambda a, b, y: 0.5 / y,),
    "exp": (lambda a, b, y: y,),
    "expm1": (lambda a, b, y: y + 1.0,),
    "log": (lambda a, b, y: 1.0 / a,),
    "log1p": (lambda a, b, y: 1.0 / (1.0 + a),),
    "log2": (lambda a, b, y: 1.0 / math.log(2.0) / a,),
    "log10": (lambda a, b, y: 1.0 / math.log(10.0) / a,),
    "sin": (lambda a, b, y: np.cos(a),),
    "cos": (lambda a, b, y: -np.sin(a),),
    "tan": (lambda a, b, y: 1.0 + y * y,),
    "arcsin": (lambda a, b, y: 1.0 / np.sqrt(1.0 - a * a),),
    "arccos": (lambda a, b, y: -1.0 / np.sqrt(1.0 - a * a),),
    "arctan": (lambda a, b, y: 1.0 / (1.0 + a * a),),
    "arctan2": (lambda a, b, y: b / (a * a + b * b), lambda a, b, y: -a / (a * a + b * b)),
    "sinh": (lambda a, b, y: np.cosh(a),),
    "cosh": (lambda a, b, y: np.sinh(a),),
    "tanh": (lambda a, b, y: 1.0 - y * y,),
    "erf": (lambda a, b, y: 2.0 / math.sqrt(math.pi) * np.exp(-a * a),),
    "erfc": (lambda a, b, y: -2.0 / math.sqrt(math.pi) * np.exp(-a * a),),
    "sign": (lambda a, b, y: 0.0,),
}
_ALIKE: dict[str, Callable[..., Any]] = {
    "square": lambda a: a * a,
    "reciprocal": lambda a: 1.0 / a,
    "exp2": lambda a: np.exp(math.log(2.0) * a),
    "positive": lambda a: a,
    "float_power": lambda a, b: a**b,
    "deg2rad": lambda a: a * (math.pi / 180.0),
    "radians": lambda a: a * (math.pi / 180.0),
    "expit": lambda a: 1.0 / (1.0 + np.exp(-a)),
}
#: What the code of an expression does, on numbers and on symbols.
_STEPS: dict[int, np.ufunc] = {
    op.ADD: np.add, op.SUB: np.subtract, op.MUL: np.multiply, op.DIV: np.divide, op.POW: np.power, op.ATAN2: np.arctan2,
    op.NEG: np.negative, op.SQRT: np.sqrt, op.EXP: np.exp, op.LOG: np.log, op.LOG10: np.log10, op.LOG1P: np.log1p,
    op.EXPM1: np.expm1, op.SIN: np.sin, op.COS: np.cos, op.TAN: np.tan, op.ASIN: np.arcsin, op.ACOS: np.arccos,
    op.ATAN: np.arctan, op.SINH: np.sinh, op.COSH: np.cosh, op.TANH: np.tanh, op.ABS: np.absolute,
    op.ERF: special.erf, op.ERFC: special.erfc, op.SQUARE: np.square, op.SIGN: np.sign,
}  # fmt: skip


class NotAFormula(Exception):
    """A function does more than arithmetic; the message says what."""


class Symbol(NDArrayOperatorsMixin):
    """A number that is not known yet: the axis, a parameter, or what an operation makes of others.

    Attributes
    ----------
    tape : list of Symbol
        All symbols of one recording, operands before what is made of them.
    operation : str
        Name of the operation, ``"x"``, or ``"p"`` for the parameter whose number is its operand.
    operands : tuple of Symbol or float
    varies, fitted : bool
        Whether it depends on the axis, and on a parameter.
    """

    def __init__(self, tape: list[Symbol], operation: str, operands: tuple[Any, ...] = ()):
        if len(tape) >= MOST:
            raise NotAFormula(f"it has more than {MOST} operations")
        self.tape, self.operation, self.operands = tape, operation, operands
        below = [o for o in operands if isinstance(o, Symbol)]
        self.varies: bool = operation == "x" or any(o.varies for o in below)
        self.fitted: bool = operation == "p" or any(o.fitted for o in below)
        tape.append(self)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        name = ufunc.__name__
        if method != "__call__" or options or not (name in _CODE or name in _ALIKE):
            raise NotAFormula(f"it uses {name}")
        operands = [_operand(i) for i in inputs]
        return _ALIKE[name](*operands) if name in _ALIKE else _node(name, *operands)

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise NotAFormula("it asks for a value")

    __array__ = __array_function__ = __bool__ = __float__ = __int__ = __complex__ = __index__ = _refuse
    __len__ = __iter__ = __getitem__ = __contains__ = __round__ = _refuse


def _operand(value: Any) -> Any:
    """Return an operand as a symbol or a float."""
    if isinstance(value, Symbol):
        return value
    if isinstance(value, int | float | np.floating | np.integer) and not isinstance(value, bool):
        return float(value)
    raise NotAFormula(f"it uses a {type(value).__name__}")


def _node(name: str, *operands: Any) -> Any:
    """Return an operation on operands, of which one at least is a symbol; simplified where the other is 1, −1 or 2."""
    tape = next(o.tape for o in operands if isinstance(o, Symbol))
    a, b = operands[0], operands[-1]
    if name == "multiply" and not isinstance(a, Symbol):
        a, b = b, a
    known = None if isinstance(b, Symbol) else b
    if known == 1.0 and name in ("multiply", "divide", "power"):
        return a
    if known == -1.0 and name == "multiply":
        return Symbol(tape, "negative", (a,))
    if known == 2.0 and name == "power":
        return Symbol(tape, "multiply", (a, a))
    return Symbol(tape, name, operands)


def record(function: Callable[..., Any], count: int) -> tuple[Symbol, list[Any]]:
    """Return the value of function(x, p0 … p(count−1)) as a symbol, and its derivatives by the parameters.

    The derivatives, symbols or floats, are collected from the value down: adjoints (reverse accumulation, Griewank
    and Walther, Evaluating Derivatives, 2008, ch. 3), so that they cost a few times what the value does, however many
    parameters there are.

    Raises
    ------
    NotAFormula
        If the function does more than arithmetic.
    """
    tape: list[Symbol] = []
    x = Symbol(tape, "x")
    parameters = [Symbol(tape, "p", (float(j),)) for j in range(count)]
    value = function(x, *parameters)
    if not isinstance(value, Symbol):
        raise NotAFormula(f"it returns a {type(value).__name__}")
    adjoints: dict[int, Any] = {id(value): 1.0}
    for symbol in tape[::-1]:
        if id(symbol) not in adjoints or symbol.operation not in _SLOPES:
            continue
        above, operands = adjoints[id(symbol)], symbol.operands
        for operand, slope in zip(operands, _SLOPES[symbol.operation], strict=True):
            if isinstance(operand, Symbol) and operand.fitted:
                step = above * slope(operands[0], operands[-1], symbol)
                before = adjoints.get(id(operand))
                adjoints[id(operand)] = step if before is None else before + step
    return value, [adjoints.get(id(p), 0.0) for p in parameters]


def follow(code: npt.NDArray[np.float64], x: Any, p: Sequence[Any]) -> Any:
    """Return the value of an expression, whose code `expressions.translate` made, for numbers or symbols.

    Raises
    ------
    NotAFormula
        If it has functions that formulas have not.
    """
    stack: list[Any] = []
    for operation, argument in code.tolist():
        if operation in (op.CONST, op.PARAM, op.X):
            stack.append(argument if operation == op.CONST else x if operation == op.X else p[int(argument)])
        elif (step := _STEPS.get(int(operation))) is None:
            raise NotAFormula(f"it has the operation {operation:.0f}")
        else:
            stack[-step.nin :] = [step(*stack[-step.nin :])]
    return stack[-1]


def source(value: Symbol, derivatives: Sequence[Any]) -> str:
    """Return the text of ``leaf(x, p, y, jac)``: y (n) and jac (k, n) for an axis x (n) and parameters p (k).

    What does not vary along the axis is computed once. A derivative that is not finite where the value is (of |x − c|
    to a power at its kink, of a function that has saturated) counts as 0 there.
    """
    used = _needed([value, *(d for d in derivatives if isinstance(d, Symbol))])
    names: dict[int, str] = {}
    known: dict[str, str] = {}
    before: list[str] = []
    inside: list[str] = []
    for symbol in (s for s in value.tape if id(s) in used):
        code = _code(symbol, names)
        if code not in known:
            known[code] = f"v{len(known)}"
            (inside if symbol.varies else before).append(f"{known[code]} = {code}")
        names[id(symbol)] = known[code]
    filled = [f"y[i] = {names[id(value)]}"]
    for j, derivative in enumerate(derivatives):
        name = _name(derivative, names)
        guard = f" if abs({name}) < np.inf else 0.0" if isinstance(derivative, Symbol) else ""
        filled.append(f"jac[{j}, i] = {name}{guard}")
    lines = ["def leaf(x, p, y, jac):", *(f"    {line}" for line in before), "    for i in range(x.size):"]
    return "\n".join([*lines, *(f"        {line}" for line in [*inside, *filled])])


def _needed(wanted: Sequence[Symbol]) -> set[int]:
    """Return the identities of symbols and of all that they are made of."""
    found: set[int] = set()
    waiting = list(wanted)
    while waiting:
        symbol = waiting.pop()
        if id(symbol) not in found:
            found.add(id(symbol))
            waiting += [o for o in symbol.operands if isinstance(o, Symbol)]
    return found


def _code(symbol: Symbol, names: dict[int, str]) -> str:
    if symbol.operation in ("x", "p"):
        return "x[i]" if symbol.operation == "x" else f"p[{symbol.operands[0]:.0f}]"
    operands = [_name(o, names) for o in symbol.operands]
    exponent = symbol.operands[-1]
    if symbol.operation == "power" and not isinstance(exponent, Symbol) and exponent in range(-16, 17):
        operands[1] = f"({exponent:.0f})"  # as whole numbers powers are products
    return _CODE[symbol.operation].format(*operands)


def _name(operand: Any, names: dict[int, str]) -> str:
    if isinstance(operand, Symbol):
        return names[id(operand)]
    return f"({operand!r})" if math.isfinite(operand) else f"np.{'nan' if math.isnan(operand) else 'inf'}"


def _log_positive(a: Any) -> Any:
    """Return ln a where a power of a changes with its exponent; 0 for a ≤ 0."""
    return _node("log_positive", a) if isinstance(a, Symbol) else math.log(a) if a > 0.0 else 0.0
