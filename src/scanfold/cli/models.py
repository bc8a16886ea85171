"""Models from text: names of lmfit's models, arithmetic between them, constants as their options. Never ``eval``."""

from __future__ import annotations

import ast
import inspect
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from scanfold.conventions import InputError, unknown

if TYPE_CHECKING:
    import lmfit

#: Longest model that is taken, in characters.
MAX_LENGTH = 2000

_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def model_classes() -> dict[str, type[lmfit.Model]]:
    """Return lmfit's models of one real variable by name."""
    from lmfit import Model, models

    found = {n: c for n, c in vars(models).items() if inspect.isclass(c) and issubclass(c, Model) and c is not Model}
    return {n: c for n, c in found.items() if "2d" not in n and "Complex" not in n}


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


def _build(node: ast.expr, text: str) -> Any:
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, right = _build(node.left, text), _build(node.right, text)
        try:
            return _OPERATORS[type(node.op)](left, right)
        except NameError:
            shared = ", ".join(sorted(set(left.param_names) & set(right.param_names)))
            raise InputError(
                f"two parts of the model have parameters of the same name ({shared}); "
                f"tell them apart with prefix=, as in GaussianModel(prefix='p1_') + GaussianModel(prefix='p2_')"
            ) from None
    if isinstance(node, ast.Name):
        return _make(node.id, [], {}, text)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if any(k.arg is None for k in node.keywords):
            raise _refused(node, text)
        options = {str(k.arg): _constant(k.value, text) for k in node.keywords}
        return _make(node.func.id, [_constant(a, text) for a in node.args], options, text)
    raise _refused(node, text)


def _make(name: str, positional: list[Any], options: dict[str, Any], text: str) -> lmfit.Model:
    classes = model_classes()
    if name not in classes:
        raise unknown("model", name, classes)
    if name == "ExpressionModel":
        return _expression(positional, options)
    if positional:
        raise InputError(f"{name} takes options by name, such as {name}(prefix='p1_'); found {positional[0]!r}")
    accepted = _accepted(classes[name])
    for option in options:
        if option not in accepted:
            raise unknown(f"option of {name}", option, accepted)
    forms = getattr(classes[name], "valid_forms", ())
    if "form" in options and options["form"] not in forms:
        raise unknown(f"form of {name}", options["form"], forms)
    try:
        model = classes[name](**options)
    except (TypeError, ValueError, IndexError) as error:
        raise InputError(f"{name} in the model: {error}") from None
    if not model.param_names:
        raise InputError(f"{name} in the model has no parameters with {options}")
    return model


def _accepted(cls: type[lmfit.Model]) -> list[str]:
    """Return the options that text may set; the others of lmfit's models take objects."""
    return [n for n in inspect.signature(cls).parameters if n in ("prefix", "degree", "form", "xknots")]


def _expression(positional: list[Any], options: dict[str, Any]) -> lmfit.Model:
    """Make an ExpressionModel whose text has passed the whitelist of constraint expressions."""
    from lmfit.models import ExpressionModel

    from scanfold.fitting.expressions import symbols, translate

    if options or len(positional) != 1 or not isinstance(positional[0], str):
        raise InputError("ExpressionModel takes one text and no options: ExpressionModel('a * exp(-x / tau)')")
    formula = positional[0]
    names = sorted(symbols(formula) - {"x"})
    translate(formula, {n: i for i, n in enumerate(names)}, x="x")
    return ExpressionModel(formula, independent_vars=["x"])


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
