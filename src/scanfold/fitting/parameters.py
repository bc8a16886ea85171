"""What the user says of the parameters, as one table: values, bounds, what varies, expressions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import lmfit
import numpy as np
import numpy.typing as npt
import xarray as xr

from scanfold.conventions import InputError, InputTypeError, unknown
from scanfold.fitting.expressions import MAX_LENGTH, symbols, translate

_FIELDS = ("value", "min", "max")
_KEYS = (*_FIELDS, "vary", "expr")


@dataclass
class ParameterTable:
    """All parameters of a model, in order.

    Attributes
    ----------
    names : list of str
    value, low, high : arrays of shape (P,)
        Common to all positions; NaN where a position has its own.
    vary : array of bool, shape (P,)
    expressions : list of (str, str)
        Names and expressions, in the order in which they can be evaluated.
    own : dict of (index, field) to DataArray
        Values and bounds over the scan dims; field is 0 value, 1 min, 2 max.
    """

    names: list[str]
    value: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    vary: npt.NDArray[np.bool_]
    expressions: list[tuple[str, str]]
    own: dict[tuple[int, int], xr.DataArray] = field(default_factory=dict)


def read_parameters(
    model: lmfit.Model, params: lmfit.Parameters | Mapping[str, Any] | None, scan: Mapping[str, int]
) -> ParameterTable:
    """Make the table from what the user gave and the model's own hints.

    Parameters
    ----------
    model : lmfit.Model
    params : lmfit.Parameters, mapping or None
        A mapping takes names to numbers, DataArrays over the scan dims, or mappings with any of
        value, min, max (numbers or DataArrays), vary, expr.
    scan : mapping of str to int
        The scan dims and their sizes.

    Raises
    ------
    InputError, InputTypeError
        Unknown or missing names, min > max, values on the wrong dims, circular or unsafe expressions.
    """
    hints = model.make_params()
    own: dict[tuple[str, int], xr.DataArray] = {}
    if params is None:
        merged = hints
    elif isinstance(params, lmfit.Parameters):
        merged = params
        missing = [n for n in hints if n not in params and not hints[n].expr]
        if missing:
            raise InputError(f"params lacks {', '.join(missing)}; start from model.make_params()")
    elif isinstance(params, Mapping):
        merged, own = _merge(hints, params, scan)
    else:
        raise InputTypeError(f"params is a {type(params).__name__}; expected lmfit.Parameters or a mapping of names")
    return _table(merged, hints, own)


def _merge(
    hints: lmfit.Parameters, params: Mapping[str, Any], scan: Mapping[str, int]
) -> tuple[lmfit.Parameters, dict[tuple[str, int], xr.DataArray]]:
    """Lay the user's mapping over the model's hints."""
    own: dict[tuple[str, int], xr.DataArray] = {}
    merged = hints.copy()
    for name, given in params.items():
        settings = _settings(name, given)
        if name not in merged:
            if "expr" not in settings:
                raise unknown("parameter", name, hints)
            try:
                merged.add(name)
            except (KeyError, AttributeError, ValueError, SyntaxError):  # of lmfit: a word of Python, no text, …
                raise InputError(f"{name!r} cannot name a parameter; expected letters and digits") from None
        for key in _FIELDS:
            if isinstance(settings.get(key), xr.DataArray):
                own[name, _FIELDS.index(key)] = _own(name, key, settings.pop(key), scan)
        if "min" in settings and "max" in settings and not settings["min"] < settings["max"]:
            raise _crossed(name, settings["min"], settings["max"])
        if settings.get("expr") is not None:
            _checked(name, settings["expr"], {*merged, *params})
        elif merged[name].expr and settings:
            # A number, bound or `vary` given for a parameter that a hint ties unties it, as in lmfit.
            settings.setdefault("vary", True)
            settings["expr"] = ""
        try:
            merged[name].set(**settings)
        except (NameError, SyntaxError, ValueError) as error:
            raise InputError(f"parameter {name!r}: {error}") from None
    return merged, own


def _settings(name: str, given: Any) -> dict[str, Any]:
    if isinstance(given, lmfit.Parameter):
        return {"value": given.value, "min": given.min, "max": given.max, "vary": given.vary, "expr": given.expr}
    if not isinstance(given, Mapping):
        given = {"value": given}
    for key in given:
        if key not in _KEYS:
            raise unknown(f"setting of parameter {name!r}", key, _KEYS)
    settings = dict(given)
    for key, kinds in (("vary", (bool, np.bool_)), ("expr", (str, type(None)))):
        if key in settings and not isinstance(settings[key], kinds):
            raise InputTypeError(f"{key} of parameter {name!r} is {settings[key]!r}; expected a {kinds[0].__name__}")
    for key in _FIELDS:
        value = settings.get(key)
        if value is None:
            settings.pop(key, None)
        elif not isinstance(value, xr.DataArray):
            try:
                settings[key] = float(value)
            except (TypeError, ValueError, OverflowError):
                raise InputTypeError(
                    f"{key} of parameter {name!r} is {value!r}; expected a number or a DataArray over the scan dims"
                ) from None
    return settings


def _own(name: str, key: str, array: xr.DataArray, scan: Mapping[str, int]) -> xr.DataArray:
    for dim, size in array.sizes.items():
        if dim not in scan:
            raise InputError(
                f"{key} of parameter {name!r} has dimension {dim!r}; expected only scan dims: {', '.join(scan)}"
            )
        if size != scan[str(dim)]:
            raise InputError(
                f"{key} of parameter {name!r} has {size} points along {dim!r}; the scan has {scan[str(dim)]}"
            )
    return array.astype(np.float64)


def _crossed(name: str, low: object, high: object, where: str = "") -> InputError:
    return InputError(f"parameter {name!r} has min {low} and max {high}{where}; min must be less than max")


def _checked(name: str, expression: str, names: Iterable[str]) -> None:
    """Raise unless an expression is arithmetic on parameters: nothing else may reach lmfit's interpreter."""
    if len(expression) > MAX_LENGTH:
        raise InputError(f"expr of parameter {name!r} has {len(expression)} characters; at most {MAX_LENGTH} are taken")
    translate(expression, {n: i for i, n in enumerate(names)})


def _table(
    merged: lmfit.Parameters, hints: lmfit.Parameters, own: Mapping[tuple[str, int], xr.DataArray]
) -> ParameterTable:
    names = list(merged)
    used = {s for p in merged.values() if p.expr for s in symbols(p.expr, names)}
    for name in names:
        if name not in hints and name not in used and not merged[name].expr:
            raise unknown("parameter", name, hints)
        if merged[name].expr and (name not in hints or merged[name].expr != hints[name].expr):
            _checked(name, merged[name].expr, names)
        if not merged[name].min < merged[name].max:
            raise _crossed(name, merged[name].min, merged[name].max)
    # lmfit evaluates an expression when its value is asked for; ours are evaluated by the kernel.
    value = np.array([np.nan if p.expr else float(p._val) for p in merged.values()])
    table = ParameterTable(
        names,
        value,
        np.array([float(p.min) for p in merged.values()]),
        np.array([float(p.max) for p in merged.values()]),
        np.array([bool(p.vary) and not p.expr for p in merged.values()]),
        _ordered({n: merged[n].expr for n in names if merged[n].expr}, names),
        {(names.index(n), f): array for (n, f), array in own.items()},
    )
    _check_own_bounds(table)
    for index, which in table.own:
        (table.value, table.low, table.high)[which][index] = np.nan
    return table


def _check_own_bounds(table: ParameterTable) -> None:
    """Raise where bounds given per position cross; lazy ones are left to the kernel."""
    for index in {i for i, which in table.own if which > 0}:
        low = table.own.get((index, 1), xr.DataArray(table.low[index]))
        high = table.own.get((index, 2), xr.DataArray(table.high[index]))
        if low.chunks is None and high.chunks is None:
            crossed = ~(low < high)
            if bool(crossed.any()):
                at = {str(d): int(i[0]) for d, i in zip(crossed.dims, np.nonzero(crossed.values), strict=True)}
                ends = [float(b.isel({d: i for d, i in at.items() if d in b.dims})) for b in (low, high)]
                raise _crossed(table.names[index], ends[0], ends[1], f" at {at}")


def _ordered(expressions: Mapping[str, str], names: Iterable[str]) -> list[tuple[str, str]]:
    """Sort expressions so that each comes after those it uses."""
    known = set(names)
    ordered: list[tuple[str, str]] = []
    waiting = dict(expressions)
    for name, text in expressions.items():
        for symbol in symbols(text, known):
            if symbol not in known:
                raise unknown(f"name in expr of parameter {name!r}:", symbol, known)
    while waiting:
        ready = [n for n, text in waiting.items() if not symbols(text, known) & set(waiting)]
        if not ready:
            raise InputError(f"the expressions of {', '.join(waiting)} refer to each other in a circle")
        ordered += [(n, waiting.pop(n)) for n in ready]
    return ordered
