"""Constraint expressions: a whitelist of the syntax tree, never ``eval``.

Names, numbers, arithmetic and the functions below are translated into the code
of the stack machine in `_expression_kernels`; anything else is refused.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Container, Mapping

import numpy as np
import numpy.typing as npt

from scanfold.conventions import InputError
from scanfold.fitting import _expression_kernels as op

#: Longest expression that is taken from a user, in characters.
MAX_LENGTH = 200

_CONSTANTS = {"pi": math.pi, "e": math.e}
_BINARY = {ast.Add: op.ADD, ast.Sub: op.SUB, ast.Mult: op.MUL, ast.Div: op.DIV, ast.Pow: op.POW}
#: Names are those of lmfit's interpreter, so that both engines take the same expressions.
_FUNCTIONS = {
    "sqrt": op.SQRT, "exp": op.EXP, "log": op.LOG, "ln": op.LOG, "log10": op.LOG10, "log1p": op.LOG1P,
    "expm1": op.EXPM1, "sin": op.SIN, "cos": op.COS, "tan": op.TAN, "arcsin": op.ASIN, "asin": op.ASIN,
    "arccos": op.ACOS, "acos": op.ACOS, "arctan": op.ATAN, "atan": op.ATAN, "sinh": op.SINH, "cosh": op.COSH,
    "tanh": op.TANH, "abs": op.ABS, "erf": op.ERF, "erfc": op.ERFC, "gamfcn": op.GAMMA, "loggammafcn": op.LGAMMA,
    "square": op.SQUARE, "sign": op.SIGN, "floor": op.FLOOR, "ceil": op.CEIL,
}  # fmt: skip
_FUNCTIONS_OF_TWO = {
    "arctan2": op.ATAN2, "atan2": op.ATAN2, "max": op.MAX, "min": op.MIN, "pow": op.POW, "betalnfnc": op.BETALN,
}  # fmt: skip
FUNCTIONS = tuple(sorted({*_FUNCTIONS, *_FUNCTIONS_OF_TWO}))


def translate(expression: str, names: Mapping[str, int], *, x: str | None = None) -> npt.NDArray[np.float64]:
    """Translate an expression into stack-machine code.

    Parameters
    ----------
    expression : str
        Python arithmetic on parameter names.
    names : mapping of str to int
        Parameters and their positions.
    x : str, optional
        Name of the independent variable, where there is one.

    Returns
    -------
    array of shape (length, 2)
        Pairs of operation and argument, postfix.

    Raises
    ------
    InputError
        For anything that is not arithmetic on these names.

    Examples
    --------
    >>> translate("2*sigma", {"sigma": 0}).tolist()
    [[0.0, 2.0], [1.0, 0.0], [5.0, 0.0]]
    """
    translator = _Translator(expression, names, x)
    try:
        translator.visit(_parse(expression).body)
    except RecursionError:
        raise InputError(f"expression {expression[:80]!r} is nested too deeply") from None
    return np.array(translator.code, dtype=np.float64).reshape(-1, 2)


def symbols(expression: str, names: Container[str] = ()) -> set[str]:
    """Return the names an expression uses: not its functions, nor constants that are not among `names`."""
    tree = _parse(expression)
    called = {id(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
    used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and id(n) not in called}
    return {n for n in used if n in names or n not in _CONSTANTS}


def _parse(expression: str) -> ast.Expression:
    try:
        return ast.parse(expression.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"expression {expression[:80]!r} is not Python arithmetic: {error}") from None


class _Translator:
    """One pass over the tree, writing postfix code."""

    def __init__(self, expression: str, names: Mapping[str, int], x: str | None):
        self.expression, self.names, self.x = expression, names, x
        self.code: list[tuple[float, float]] = []

    def refuse(self, what: str) -> InputError:
        return InputError(
            f"expression {self.expression[:80]!r} holds {what}; expected names ({', '.join(self.names)}), numbers, "
            f"+ - * / ** and the functions {', '.join(FUNCTIONS)}"
        )

    def emit(self, operation: int, argument: float = 0.0) -> None:
        self.code.append((float(operation), float(argument)))

    def visit(self, node: ast.expr) -> None:
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
            self.emit(op.CONST, _as_float(node.value))
        elif isinstance(node, ast.Name):
            self.name(node.id)
        elif isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            self.visit(node.left)
            self.visit(node.right)
            self.emit(_BINARY[type(node.op)])
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            self.visit(node.operand)
            if isinstance(node.op, ast.USub):
                self.emit(op.NEG)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            self.call(node.func.id, node.args)
        else:
            raise self.refuse(f"{ast.unparse(node)[:40]!r}")

    def name(self, name: str) -> None:
        # A parameter may be called e or gamma: parameters come first.
        if name in self.names:
            self.emit(op.PARAM, self.names[name])
        elif name == self.x:
            self.emit(op.X)
        elif name in _CONSTANTS:
            self.emit(op.CONST, _CONSTANTS[name])
        else:
            raise self.refuse(f"the unknown name {name!r}")

    def call(self, name: str, args: list[ast.expr]) -> None:
        if name == "real" and len(args) == 1:
            self.real(args[0])
        elif name in _FUNCTIONS and len(args) == 1:
            self.visit(args[0])
            self.emit(_FUNCTIONS[name])
        elif name in _FUNCTIONS_OF_TWO and len(args) == 2:
            self.visit(args[0])
            self.visit(args[1])
            self.emit(_FUNCTIONS_OF_TWO[name])
        else:
            raise self.refuse(f"the call {name!r} with {len(args)} arguments")

    def real(self, node: ast.expr) -> None:
        """Translate real(wofz(i·y)) = erfcx(y) and real(loggammafcn(a + i·b)): what lmfit's own hints hold."""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 1:
            real, imaginary = _parts(node.args[0])
            if node.func.id == "wofz" and real is None and imaginary is not None:
                self.visit(imaginary)
                self.emit(op.ERFCX)
                return
            if node.func.id == "loggammafcn" and real is not None and imaginary is not None:
                self.visit(real)
                self.visit(imaginary)
                self.emit(op.LGAMMA_REAL)
                return
        self.visit(node)


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _parts(node: ast.expr) -> tuple[ast.expr | None, ast.expr | None]:
    """Split an expression with imaginary constants into its real and imaginary part; None is zero."""
    if isinstance(node, ast.Constant) and isinstance(node.value, complex):
        return None, ast.Constant(node.value.imag)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.Div):
        (a, b), (c, d) = _parts(node.left), _parts(node.right)
        if b is None and d is None:
            return node, None
        if d is None and c is not None:
            return (ast.BinOp(a, node.op, c) if a else None), (ast.BinOp(b, node.op, c) if b else None)
        if b is None and a is not None and isinstance(node.op, ast.Mult):
            return (ast.BinOp(a, node.op, c) if c else None), (ast.BinOp(a, node.op, d) if d else None)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        (a, b), (c, d) = _parts(node.left), _parts(node.right)
        return (ast.BinOp(a, node.op, c) if a and c else a or c), (ast.BinOp(b, node.op, d) if b and d else b or d)
    return node, None
