"""Models as plain names and numbers, so that a store can be read without running what it holds."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from typing import Any

import lmfit
from lmfit import models

from scanfold.conventions import InputError, unknown
from scanfold.fitting.expressions import MAX_LENGTH, symbols, translate

_OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
_SYMBOLS = {function: symbol for symbol, function in _OPERATORS.items()}
#: The models that a name can stand for: lmfit's, of one real variable.
MODELS: dict[str, type[lmfit.Model]] = {
    name: getattr(models, name)
    for name in sorted(dir(models))
    if name.endswith("Model") and name not in ("Model", "Gaussian2dModel", "ComplexConstantModel")
}
#: What describes a model of this name, beside its prefix.
_OPTIONS = {
    "PolynomialModel": ("degree",),
    "SplineModel": ("xknots",),
    "ExpressionModel": ("expr", "independent_vars"),
    "StepModel": ("form",),
    "RectangleModel": ("form",),
    "ThermalDistributionModel": ("form",),
}


def describe_model(model: lmfit.Model) -> dict[str, Any]:
    """Return a model as names and numbers; `build_model` is the way back.

    A user's function is described by its name only.

    Examples
    --------
    >>> from lmfit.models import GaussianModel, LinearModel
    >>> describe_model(GaussianModel() + LinearModel())["op"]
    '+'
    """
    if isinstance(model, lmfit.model.CompositeModel):
        symbol = _SYMBOLS.get(model.op, getattr(model.op, "__name__", "?"))
        return {"op": symbol, "left": describe_model(model.left), "right": describe_model(model.right)}
    name = type(model).__name__
    described: dict[str, Any] = {"model": name}
    if model.prefix:
        described["prefix"] = model.prefix
    if MODELS.get(name) is not type(model):
        function = model.func
        while isinstance(function, functools.partial):
            function = function.func
        name = getattr(function, "__qualname__", type(function).__qualname__)
        return described | {"function": f"{function.__module__}.{name}"}
    if isinstance(model, models.PolynomialModel):
        described["degree"] = model.poly_degree
    elif isinstance(model, models.SplineModel):
        described["xknots"] = [float(k) for k in model.xknots]
    elif isinstance(model, models.ExpressionModel):
        described |= {"expr": model.expr, "independent_vars": list(model.independent_vars)}
    elif "form" in model.opts:
        described["form"] = model.opts["form"]
    return described


def build_model(described: dict[str, Any]) -> lmfit.Model:
    """Return the model that names and numbers describe.

    Raises
    ------
    InputError
        For a user's function (it must be passed), or a name that is not in `MODELS`.
    """
    if "op" in described:
        if described["op"] not in _OPERATORS:
            raise unknown("operator of models", described["op"], _OPERATORS)
        return joined(described["op"], build_model(described["left"]), build_model(described["right"]))
    if "function" in described:
        raise InputError(f"the model is a function of yours, {described['function']}; pass it: model=…")
    return named_model(described.get("model"), {k: v for k, v in described.items() if k != "model"})


def joined(symbol: str, left: lmfit.Model, right: lmfit.Model) -> lmfit.Model:
    """Return two models joined by ``+ - * /``.

    Raises
    ------
    InputError
        For two parameters of one name.
    """
    try:
        return _OPERATORS[symbol](left, right)
    except NameError:
        shared = ", ".join(sorted(set(left.param_names) & set(right.param_names)))
        raise InputError(
            f"two parts of the model have parameters of the same name ({shared}); "
            f"tell them apart with prefix=, as in GaussianModel(prefix='p1_') + GaussianModel(prefix='p2_')"
        ) from None


def named_model(name: Any, options: Mapping[str, Any]) -> lmfit.Model:
    """Return lmfit's model of a name.

    Raises
    ------
    InputError
        For a name that is not in `MODELS`, or an option that it does not take from text; it gives the nearest one.
    """
    if name not in MODELS:
        raise unknown("model", name, MODELS)
    # Options that an edited file might add, such as init_script, could run code.
    accepted = ("prefix", *_OPTIONS.get(name, ()))
    for option in options:
        if option not in accepted:
            raise unknown(f"option of {name}", option, accepted)
    forms = getattr(MODELS[name], "valid_forms", ())
    if "form" in options and options["form"] not in forms:
        raise unknown(f"form of {name}", options["form"], forms)
    try:
        if name == "ExpressionModel":
            _check_expression(**options)
        model = MODELS[name](**options)
    except InputError:
        raise
    except (TypeError, ValueError, IndexError) as error:
        raise InputError(f"{name} cannot be made from {dict(options)}: {error}") from None
    if not model.param_names:
        raise InputError(f"{name} in the model has no parameters with {dict(options)}")
    return model


def _check_expression(expr: str, independent_vars: list[str], prefix: str = "") -> None:
    """Raise unless an expression is arithmetic: lmfit would run anything."""
    if len(expr) > MAX_LENGTH:
        raise InputError(f"the expression of the model has {len(expr)} characters; at most {MAX_LENGTH}")
    (variable,) = independent_vars
    names = sorted(symbols(expr) - {variable})
    translate(expr, {n: i for i, n in enumerate(names)}, x=variable)
