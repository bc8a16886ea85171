"""An lmfit model taken apart: its components, how they join, and how each can be evaluated."""

from __future__ import annotations

import functools
import inspect
import operator
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import lmfit
import numpy as np
import numpy.typing as npt
from dask.base import tokenize
from lmfit import lineshapes, models

from scanfold.conventions import unknown
from scanfold.fitting._expression_kernels import ACCURATE
from scanfold.fitting.expressions import symbols, translate

Array = npt.NDArray[np.float64]

_OPERATORS = {operator.add: -1, operator.sub: -2, operator.mul: -3, operator.truediv: -4}
_FORMS = {"linear": 0.0, "atan": 1.0, "arctan": 1.0, "erf": 2.0, "logistic": 3.0}
_THERMAL = {"bose": -1.0, "maxwell": 0.0, "fermi": 1.0}
#: lmfit functions that have a compiled leaf of the same parameters, in the same order.
_LEAF_OF = {
    getattr(lineshapes, name): leaf
    for name, leaf in {
        "gaussian": "gaussian", "lorentzian": "lorentzian", "split_lorentzian": "split_lorentzian", "voigt": "voigt",
        "pvoigt": "pvoigt", "moffat": "moffat", "pearson4": "pearson4", "pearson7": "pearson7",
        "students_t": "students_t", "breit_wigner": "breit_wigner", "lognormal": "lognormal",
        "damped_oscillator": "damped_oscillator", "dho": "dho", "expgaussian": "expgaussian", "doniach": "doniach",
        "skewed_gaussian": "skewed_gaussian", "skewed_voigt": "skewed_voigt", "thermal_distribution": "thermal",
        "bose": "bose", "fermi": "fermi", "logistic": "logistic", "step": "step", "rectangle": "rectangle",
        "exponential": "exponential", "powerlaw": "powerlaw", "sine": "sine", "expsine": "expsine",
    }.items()
}  # fmt: skip
_POWERS = {lineshapes.linear: (1, 0), lineshapes.parabolic: (2, 1, 0)}


class Unsupported(Exception):
    """A model that only lmfit itself can evaluate; the message says why."""


@dataclass(frozen=True)
class Component:
    """One leaf of a model.

    Attributes
    ----------
    leaf : str
        Name of a compiled leaf, ``"module:function"`` of one that a function brings, or ``"user"``.
    names : tuple of str
        Parameters, prefix included, in the order of the leaf.
    aux : array
        Constants of the leaf: basis functions on x, the form of a step, the code of an expression.
    powers : tuple of int
        Exponents of x, for polynomials.
    function : callable, optional
        The user's function, and the names of its parameters, without prefix.
    """

    leaf: str
    names: tuple[str, ...]
    aux: Array = field(default_factory=lambda: np.zeros(0))
    powers: tuple[int, ...] = ()
    function: Callable[..., Any] | None = None
    arguments: tuple[str, ...] = ()

    def constants(self, x: Array) -> Array:
        """Return the constants of the leaf on an axis: `aux`, or what its function makes of it in each process."""
        make = getattr(self.function, "constants", None) if ":" in self.leaf else None
        return self.aux if make is None else np.asarray(make(x), np.float64)

    def __dask_tokenize__(self) -> Any:
        """Identify the component by content: a function by its code, so that a re-run notebook cell is the same."""
        return self.leaf, self.names, tokenize(self.aux), function_token(self.function)


def take_apart(model: lmfit.Model, x: Array) -> tuple[list[Component], list[int]]:
    """Return the components of a model on the axis x, and the postfix list that joins them.

    Numbers ≥ 0 in the list are components; −1 … −4 are + − · /.

    Raises
    ------
    Unsupported
        If a part has another operator, several independent variables, or complex values.
    InputError
        For a form that a step does not have.
    """
    if isinstance(model, lmfit.model.CompositeModel):
        if model.op not in _OPERATORS:
            raise Unsupported(f"components are joined by {getattr(model.op, '__name__', model.op)}, not + - * /")
        left, left_ops = take_apart(model.left, x)
        right, right_ops = take_apart(model.right, x)
        shifted = [o + len(left) if o >= 0 else o for o in right_ops]
        return left + right, [*left_ops, *shifted, _OPERATORS[model.op]]
    return [_component(model, x)], [0]


def _component(model: lmfit.Model, x: Array) -> Component:
    prefix = model.prefix
    if isinstance(model, models.ComplexConstantModel):
        raise Unsupported("the model is complex")
    if isinstance(model, models.ConstantModel):
        return _polynomial((prefix + "c",), (0,), x)
    if isinstance(model, models.PolynomialModel):
        count = model.poly_degree + 1
        return _polynomial(tuple(f"{prefix}c{i}" for i in range(count)), tuple(range(count)), x)
    if isinstance(model, models.SplineModel):
        unit = np.eye(model.nknots)
        rows = [model.func(x, **{f"s{j}": v for j, v in enumerate(row)}) for row in unit]
        return Component("basis", tuple(f"{prefix}s{j}" for j in range(model.nknots)), np.array(rows, float).ravel())
    if isinstance(model, models.ExpressionModel):
        return _expression(model)
    if (whole := own_component(model, x)) is not None:
        return whole
    arguments, options = _arguments(model)
    if model.func in _POWERS:
        return _polynomial(tuple(prefix + a for a in arguments), _POWERS[model.func], x)
    if model.func in _LEAF_OF and _takes_all(model, arguments):
        leaf = _LEAF_OF[model.func]
        form = str(options.get("form", "bose" if leaf == "thermal" else "linear")).lower()
        table = _THERMAL if leaf == "thermal" else _FORMS
        if form not in table:
            raise unknown(f"form of {type(model).__name__}", form, table)
        aux = np.array([table[form]]) if leaf in ("thermal", "step", "rectangle") else np.zeros(0)
        return Component(leaf, tuple(prefix + a for a in arguments if a != "form"), aux)
    own = getattr(model.func, "compiled_leaf", "")
    if own and not options and _takes_all(model, arguments):
        return Component(own, tuple(prefix + a for a in arguments))
    # numba takes arguments by position: a function with options among them is left to NumPy, which takes names.
    signature = inspect.signature(model.func).parameters
    by_position = all(p.kind is not p.KEYWORD_ONLY for p in signature.values())
    direct = not options and by_position and list(signature)[1:] == arguments
    function = model.func if direct else functools.partial(model.func, **options)
    names = tuple(prefix + a for a in arguments)
    return Component("user", names, np.full(1, ACCURATE), function=function, arguments=tuple(arguments))


def own_component(model: lmfit.Model, x: Array) -> Component | None:
    """Return the component that a model's function makes of itself, if it does.

    Such a function has ``component(prefix, x)``, which returns a Component with a leaf ``"module:function"`` and itself
    as function, and ``constants(x)``, the constants of the leaf on an axis, which stay in the process that makes them.
    """
    make = getattr(model.func, "component", None)
    return None if make is None else make(model.prefix, x)


def _polynomial(names: tuple[str, ...], powers: tuple[int, ...], x: Array) -> Component:
    return Component("basis", names, np.array([x**p for p in powers], float).ravel(), powers)


def _expression(model: lmfit.models.ExpressionModel) -> Component:
    if len(model.independent_vars) != 1:
        raise Unsupported(f"it has {len(model.independent_vars)} independent variables")
    variable = model.independent_vars[0]
    names = sorted(symbols(model.expr) - {variable}, key=model.param_names.index)
    code = translate(model.expr, {n: i for i, n in enumerate(names)}, x=variable)
    return Component("expression", tuple(names), code.ravel())


def _arguments(model: lmfit.Model) -> tuple[list[str], dict[str, Any]]:
    """Return the parameters of a model's function in calling order, and its options."""
    variables = independent_variables(model)
    if len(variables) != 1:
        raise Unsupported(f"it has {len(variables)} independent variables")
    try:
        signature = list(inspect.signature(model.func).parameters.values())
    except (TypeError, ValueError):
        raise Unsupported("its function has no signature") from None
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in signature):
        raise Unsupported("its function takes *args or **kwargs")
    names = [p.name for p in signature]
    if names[0] != variables[0]:
        raise Unsupported(f"its independent variable {variables[0]!r} is not the first argument")
    options = dict(model.opts)
    # lmfit counts an argument whose default is None (Voigt's gamma) as a parameter only where there is a hint for it.
    return [n for n in names[1:] if model.prefix + n in model.param_names or n in model.param_hints], options


def _takes_all(model: lmfit.Model, arguments: list[str]) -> bool:
    """Say whether all arguments of a model's function are parameters, as its compiled leaf needs."""
    signature = list(inspect.signature(model.func).parameters)
    return [n for n in signature[1:] if n != "form"] == [n for n in arguments if n != "form"]


def inputs(model: lmfit.Model) -> set[str]:
    """Return the parameters that a model's functions take, without those that are only derived."""
    if isinstance(model, lmfit.model.CompositeModel):
        return inputs(model.left) | inputs(model.right)
    roots = set(getattr(model, "_param_root_names", None) or (n.removeprefix(model.prefix) for n in model.param_names))
    arguments = inspect.signature(model.func).parameters
    return {model.prefix + n for n in roots | {n for n in model.param_hints if n in arguments}}


def make_model(function: Callable[..., Any]) -> lmfit.Model:
    """Return the model of a function; lmfit asks for its name, which a partial or an object lacks."""
    if not hasattr(function, "__name__"):
        name = getattr(getattr(function, "func", None), "__name__", type(function).__name__)
        function = functools.partial(function)
        function.__name__ = name  # type: ignore[attr-defined]
    return lmfit.Model(function)


def independent_variables(model: lmfit.Model) -> list[str]:
    """Return the variables of a model that are not options, as which lmfit counts arguments with words as defaults."""
    if isinstance(model, lmfit.model.CompositeModel):
        return list(dict.fromkeys(independent_variables(model.left) + independent_variables(model.right)))
    if isinstance(model, models.ExpressionModel):
        return list(model.independent_vars)
    arguments = inspect.signature(model.func).parameters
    words = {n for n, p in arguments.items() if p.default is not p.empty and type(p.default) not in (int, float)}
    return [str(v) for v in model.independent_vars if v not in words | set(model.opts)]


def left_out(model: lmfit.Model) -> dict[str, Any]:
    """Return the options of a model that were not given, and their defaults: ``Model.fit`` asks for them."""
    if isinstance(model, lmfit.model.CompositeModel):
        return {**left_out(model.left), **left_out(model.right)}
    arguments = {} if isinstance(model, models.ExpressionModel) else inspect.signature(model.func).parameters
    options = [v for v in model.independent_vars if v not in independent_variables(model) and v not in model.opts]
    return {v: arguments[v].default for v in options if v in arguments}


def model_token(model: lmfit.Model) -> str:
    """Return a hash of what a model computes: the same in every process, whatever the names of files."""
    if isinstance(model, lmfit.model.CompositeModel):
        operation = getattr(model.op, "__name__", repr(model.op))
        return str(tokenize(operation, model_token(model.left), model_token(model.right)))
    if isinstance(model, models.ExpressionModel):
        return str(tokenize(model.expr, model.independent_vars, model.prefix))
    return str(tokenize(type(model).__name__, model.prefix, function_token(model.func), model.opts))


def function_token(function: Callable[..., Any] | None) -> str:
    """Return a hash of what a function does: its code, defaults, closure, and the globals it uses."""
    return "" if function is None else tokenize(_content(function, depth=4))


def _content(value: Any, depth: int) -> Any:
    if isinstance(value, functools.partial):
        return "partial", _content(value.func, depth), value.args, sorted(value.keywords.items())
    if isinstance(value, types.MethodType):
        return "method", _content(value.__func__, depth), _state(value.__self__)
    if isinstance(value, types.FunctionType) and depth > 0:
        cells = [c.cell_contents for c in value.__closure__ or ()]
        used = [value.__globals__[n] for n in _global_names(value.__code__) if n in value.__globals__]
        parts = [_content(v, depth - 1) for v in (*cells, *used)]
        return _code(value.__code__), value.__defaults__, value.__kwdefaults__, parts
    if isinstance(value, types.ModuleType | types.BuiltinFunctionType | np.ufunc | type):
        return getattr(value, "__name__", repr(type(value)))
    if isinstance(value, types.FunctionType):
        return value.__module__, value.__qualname__
    if callable(value) and isinstance(type(value).__call__, types.FunctionType) and depth > 0:
        return "object", _content(type(value).__call__, depth - 1), _state(value)
    if callable(value) and hasattr(value, "__name__"):
        return getattr(value, "__module__", ""), value.__name__
    return value


def _state(value: Any) -> Any:
    """Return what an object holds: hashing the object itself would depend on where its class was defined."""
    return type(value).__qualname__, sorted(vars(value).items()) if hasattr(value, "__dict__") else value


def _code(code: types.CodeType) -> Any:
    constants = [_code(c) if isinstance(c, types.CodeType) else repr(c) for c in code.co_consts]
    return code.co_code.hex(), constants, code.co_names, code.co_varnames


def _global_names(code: types.CodeType) -> list[str]:
    inner = [n for c in code.co_consts if isinstance(c, types.CodeType) for n in _global_names(c)]
    return sorted({*code.co_names, *inner})
