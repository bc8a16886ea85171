"""Models from text: names of lmfit's models, arithmetic between them, constants as their options. Never ``eval``."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from scanfold.conventions import InputError

if TYPE_CHECKING:
    import lmfit

#: Longest model that is taken, in characters.
MAX_LENGTH = 2000

_SYMBOLS: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}


def parse_model(text: str) -> lmfit.Model:
    """Make a model from text.

    Parameters
    ----------
    text : str
        Names of lmfit's models of one variable, called with constants or bare, joined by ``+ - * /``.

    Returns
    -------
    lmfit.Model

    Raises
    ------
    InputError
        For anything else; it says which part, and gives the nearest right name.

    Examples
    --------
    >>> model = parse_model('LorentzianModel(prefix="p1_") + LinearModel')
    >>> sorted(model.param_names)
    ['intercept', 'p1_amplitude', 'p1_center', 'p1_sigma', 'slope']
    """
    if len(text) > MAX_LENGTH:
        raise InputError(f"the model has {len(text)} characters; at most {MAX_LENGTH} are taken")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(
            f"model {text[:80]!r} cannot be read: {error}; write it as \"LorentzianModel(prefix='p1_') + LinearModel\""
        ) from None
    return _build(tree.body, text)


def _build(node: ast.expr, text: str) -> lmfit.Model:
    from scanfold.fitting.registry import joined, named_model

    if isinstance(node, ast.BinOp) and type(node.op) in _SYMBOLS:
        return joined(_SYMBOLS[type(node.op)], _build(node.left, text), _build(node.right, text))
    if isinstance(node, ast.Name):
        return named_model(node.id, {})
    if (
        not isinstance(node, ast.Call)
        or not isinstance(node.func, ast.Name)
        or any(k.arg is None for k in node.keywords)
    ):
        raise _refused(node, text)
    name, options = node.func.id, {str(k.arg): _constant(k.value, text) for k in node.keywords}
    positional = [_constant(a, text) for a in node.args]
    if name == "ExpressionModel":
        if options or len(positional) != 1 or not isinstance(positional[0], str):
            raise InputError("ExpressionModel takes one text and no options: ExpressionModel('a * exp(-x / tau)')")
        options = {"expr": positional[0], "independent_vars": ["x"]}
    elif positional:
        raise InputError(f"{name} takes options by name, such as {name}(prefix='p1_'); found {positional[0]!r}")
    return named_model(name, options)


def _constant(node: ast.expr, text: str) -> Any:
    """Return the value of a number, text, or list of numbers."""
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise _refused(node, text) from None
    items = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(v, str | int | float | bool) for v in items):
        raise _refused(node, text)
    return value


def _refused(node: ast.expr, text: str) -> InputError:
    part = ast.get_source_segment(text.strip(), node) or text
    return InputError(
        f"{part[:80]!r} in the model is not taken; a model is made of the names of lmfit's models, "
        f"+ - * /, brackets, and constants as options, such as PolynomialModel(degree=3)"
    )
