"""Kinetic models by name: what is fitted, with defaults, bounds, units, and what may be exchanged unseen."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import numpy as np

from scanfold._markup import element, overview, table
from scanfold.conventions import InputError, InputTypeError, unknown
from scanfold.traces.kinetics import exponential_decay, maturation, maturation_blocked, trivial, two_stage

__all__ = [
    "ENTRY_POINTS",
    "TraceModel",
    "exponential_decay",
    "get_model",
    "list_models",
    "maturation",
    "maturation_blocked",
    "register_model",
    "trivial",
    "two_stage",
]

#: Plug-ins: each entry point of this group is a `TraceModel`, or a function that returns one.
ENTRY_POINTS = "scanfold.trace_models"
Numbers = Mapping[str, float]
Bounds = Mapping[str, tuple[float, float]]
#: Arrays of the parameters of many cells.
Values = dict[str, Any]


@dataclass(frozen=True)
class TraceModel:
    """A model of time traces.

    Parameters
    ----------
    name : str
        Lower case.
    function : callable
        ``f(t, a, b, …)`` of times in h; parameters broadcast against the times.
    defaults : mapping of str to float
        Start of every parameter of the function, in its order.
    bounds : mapping of str to (float, float)
        Of every parameter.
    units : mapping of str to str
        ``"h"``, ``"1/h"``, or ``"signal"`` times either, where known.
    fixed : tuple of str
        Parameters that do not vary unless asked to.
    linear : tuple of str
        Parameters that the function is linear in, together: fits start from the best point of a grid of the others.
    kinks : tuple of str
        Times at which the curve has a kink or a jump: fits look for their best place on both sides of where they end.
    exchanges : tuple of callables
        Each takes arrays of the parameters and returns those that change, to others that give the same curve; NaN
        where there are none. They hold where all that change vary.
    ordered : callable, optional
        Takes arrays of the parameters, and says which are in the order that results are reported in.
    source : str
        Where the model is from.
    """

    name: str
    function: Callable[..., Any]
    defaults: Numbers
    bounds: Bounds
    units: Mapping[str, str] = field(default_factory=dict)
    fixed: tuple[str, ...] = ()
    linear: tuple[str, ...] = ()
    kinks: tuple[str, ...] = ()
    exchanges: tuple[Callable[[Values], Values], ...] = ()
    ordered: Callable[[Values], Any] | None = None
    source: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Parameters, in the order of the function."""
        return tuple(self.defaults)

    @property
    def formula(self) -> str:
        """First lines of the function's docstring."""
        return (inspect.getdoc(self.function) or "").split("\n\n")[0]

    def _repr_html_(self) -> str:
        rows = [
            [n, v, *self.bounds[n], self.units.get(n, ""), "fixed" if n in self.fixed else ""]
            for n, v in self.defaults.items()
        ]
        formula = element("pre", self.formula)
        return overview(
            f"TraceModel {self.name}", formula, table(["parameter", "start", "min", "max", "units", ""], rows)
        )


def exchange_trivial(p: Values) -> Values:
    """Exchange the two rates of `trivial`: the curve is symmetric in them."""
    return {"delta": p["beta"], "beta": p["delta"]}


def exchange_maturation(p: Values) -> Values:
    """Exchange δ and β of `maturation`: km′ = km + β − δ, ktl′ = ktl·km/km′."""
    return _matured(p, p["km"] + p["beta"] - p["delta"]) | {"delta": p["beta"], "beta": p["delta"]}


def exchange_maturation_fast(p: Values) -> Values:
    """Exchange δ and β + km of `maturation`, where δ > β: δ′ = β + km, km′ = δ − β, ktl′ = ktl·km/km′."""
    return _matured(p, p["delta"] - p["beta"]) | {"delta": p["beta"] + p["km"]}


def _matured(p: Values, km: Any) -> Values:
    """Return km and the ktl that keeps ktl·km, NaN where km is not positive."""
    km = np.where(km > 0.0, km, np.nan)
    return {"km": km, "ktl": p["ktl"] * p["km"] / km}


def ordered_trivial(p: Values) -> Any:
    """Say where β ≤ δ."""
    return p["beta"] <= p["delta"]


def ordered_maturation(p: Values) -> Any:
    """Say where β ≤ δ ≤ β + km: mRNA decays faster than protein, and maturation is the fastest."""
    return (p["beta"] <= p["delta"]) & (p["delta"] <= p["beta"] + p["km"])


_TIME, _RATE, _SIGNAL, _SPEED = "h", "1/h", "signal", "signal/h"
_UNITS = {
    "t0": _TIME, "ktl": _SPEED, "km": _RATE, "delta": _RATE, "beta": _RATE, "offset": _SIGNAL, "scale": "1",
    "G0": _SIGNAL, "Gu0": _SIGNAL, "amplitude": _SIGNAL, "rate": _RATE,
}  # fmt: skip
_LINEAR = ("ktl", "G0", "Gu0", "amplitude", "offset")
_OFFSET = (-1e6, 1e6)
_EGFP = "doi:10.1016/j.nano.2019.102077, Table 1"


def _built_in(
    function: Callable[..., Any], settings: Mapping[str, tuple[float, float, float]], **more: Any
) -> TraceModel:
    """Make a model of (default, low, high) for each parameter."""
    defaults = {n: s[0] for n, s in settings.items()}
    bounds = {n: (s[1], s[2]) for n, s in settings.items()}
    units = {n: _UNITS[n] for n in settings}
    linear = tuple(n for n in settings if n in _LINEAR)
    return TraceModel(function.__name__, function, defaults, bounds, units, linear=linear, **more)


_START, _KM, _BETA = (0.0, -1.0, 1.0), (1.28, 1e-5, 30.0), (5.22e-3, 1e-5, 10.0)
_AMOUNT, _BASE = (100.0, 0.0, 1e6), (0.0, *_OFFSET)
_MODELS = {
    model.name: model
    for model in (
        _built_in(
            trivial,
            {"t0": (2.0, 0.0, 30.0), "ktl": (20.0, 1.0, 1e6), "delta": (0.07, 1e-5, 10.1),
             "beta": (0.0436275356035, 1e-5, 10.0), "offset": _BASE},
            kinks=("t0",), exchanges=(exchange_trivial,), ordered=ordered_trivial,
        ),
        _built_in(
            maturation,
            {"t0": _START, "ktl": (1e3, 1.0, 5e8), "km": _KM, "delta": (1e-2, 1e-5, 11.0), "beta": _BETA,
             "offset": _BASE, "scale": (1.0, 1e-6, 1e6)},
            fixed=("km", "beta", "scale"), exchanges=(exchange_maturation, exchange_maturation_fast),
            ordered=ordered_maturation, source=_EGFP,
        ),
        _built_in(
            maturation_blocked,
            {"t0": _START, "G0": _AMOUNT, "Gu0": _AMOUNT, "km": _KM, "beta": _BETA, "offset": _BASE},
            fixed=("km", "beta"), kinks=("t0",), source=_EGFP,
        ),
        _built_in(
            two_stage,
            {"t0": _START, "ktl": _AMOUNT, "km": _KM, "beta": _BETA, "offset": _BASE},
            fixed=("km", "beta"), kinks=("t0",), source=_EGFP,
        ),
        _built_in(
            exponential_decay,
            {"amplitude": (100.0, 1.0, 1e4), "rate": (0.1, 1e-3, 1.0), "offset": (10.0, -1e3, 1e3),
             "t0": (0.0, 0.0, 100.0)},
            kinks=("t0",),
        ),
    )
}  # fmt: skip
# The amount at the start, not the speed of making it.
_MODELS["two_stage"].units["ktl"] = _SIGNAL  # type: ignore[index]
_registered: dict[str, TraceModel] = {}


def register_model(
    function: Callable[..., Any],
    defaults: Numbers,
    bounds: Bounds,
    *,
    name: str | None = None,
    fixed: Sequence[str] = (),
    units: Mapping[str, str] | None = None,
) -> TraceModel:
    """Make a function a model that can be fitted by its name.

    Packages offer theirs by an entry point of the group ``scanfold.trace_models``: a `TraceModel`, or a function that
    returns one.

    Parameters
    ----------
    function : callable
        ``f(t, a, b, …)`` of times in h. What numba can compile, or what broadcasts over arrays of parameters, is fast.
    defaults : mapping of str to float
        Start of each parameter.
    bounds : mapping of str to (float, float)
        Of each parameter; start inside.
    name : str, optional
        The function's own if not given; case does not count.
    fixed : sequence of str
        Parameters that do not vary unless a request says so.
    units : mapping of str to str, optional
        Such as ``{"rate": "1/h"}``.

    Returns
    -------
    TraceModel

    Raises
    ------
    InputError, InputTypeError
        For names that are not parameters of the function, bounds that cross, a start outside, or a name that is taken.

    Examples
    --------
    >>> def ramp(t, slope, start):
    ...     return slope * t + start
    >>> register_model(ramp, {"slope": 1, "start": 0}, {"slope": (0, 10), "start": (-5, 5)}).names
    ('slope', 'start')
    """
    if not callable(function):
        raise InputTypeError(f"function is a {type(function).__name__}; expected f(t, a, b, …)")
    title = str(name or getattr(function, "__name__", "")).lower()
    if not title.isidentifier():
        raise InputError(f"{title!r} cannot name a model; give name= with letters, digits and underscores")
    if title in _MODELS:
        raise InputError(f"{title!r} is a model of scanfold; give another name=")
    parameters = list(inspect.signature(function).parameters)[1:]
    for kind, given in (("default", defaults), ("bounds", bounds)):
        for key in given:
            if key not in parameters:
                raise unknown(f"parameter of {title} in {kind}", key, parameters)
        if missing := [p for p in parameters if p not in given]:
            raise InputError(f"model {title!r}: {kind} lacks {', '.join(missing)}")
    for key in fixed:
        if key not in parameters:
            raise unknown(f"parameter of {title} in fixed", key, parameters)
    for key in parameters:
        check_bounds(title, key, bounds[key], defaults[key])
    model = TraceModel(
        title, function, {p: float(defaults[p]) for p in parameters},
        {p: (float(bounds[p][0]), float(bounds[p][1])) for p in parameters}, dict(units or {}), tuple(fixed),
    )  # fmt: skip
    _registered[title] = model
    return model


def check_bounds(model: str, name: str, bounds: Any, start: Any) -> None:
    """Raise unless bounds are two numbers in order with the start between them."""
    try:
        low, high = (float(b) for b in bounds)
        value = float(start)
    except (TypeError, ValueError):
        raise InputTypeError(
            f"model {model!r}: bounds of {name!r} are {bounds!r} and its start is {start!r}; expected (low, high) and "
            f"a number"
        ) from None
    if math.isnan(low) or math.isnan(high) or not low < high:
        raise InputError(f"model {model!r}: bounds of {name!r} are ({low:g}, {high:g}); the first must be less")
    if not low <= value <= high:
        raise InputError(
            f"model {model!r}: {name!r} starts at {value:g}, outside its bounds ({low:g}, {high:g}); "
            f"move one of them: model_params={{{name!r}: …}} or model_bounds={{{name!r}: (…, …)}}"
        )


def get_model(name: str) -> TraceModel:
    """Return a model by its name; case does not count.

    Raises
    ------
    InputError
        For an unknown name; it lists the known ones.

    Examples
    --------
    >>> get_model("Maturation").fixed
    ('km', 'beta', 'scale')
    """
    if not isinstance(name, str):
        raise InputTypeError(f"a model is given by its name, found {type(name).__name__}; such as 'maturation'")
    key = name.strip().lower()
    known = _MODELS | _registered
    if key in known:
        return known[key]
    for title, entry in _plug_ins():
        if title == key:
            return _load(title, entry)
    raise unknown("model", name, list_models())


def list_models() -> list[str]:
    """Return the names of all models: built-in, registered, and of plug-ins that are installed.

    Examples
    --------
    >>> list_models()[:5]
    ['trivial', 'maturation', 'maturation_blocked', 'two_stage', 'exponential_decay']
    """
    return list(dict.fromkeys([*_MODELS, *_registered, *(title for title, _ in _plug_ins())]))


def _plug_ins() -> Iterator[tuple[str, metadata.EntryPoint]]:
    for entry in metadata.entry_points(group=ENTRY_POINTS):
        yield entry.name.lower(), entry


def _load(title: str, entry: metadata.EntryPoint) -> TraceModel:
    try:
        made = entry.load()
        model = made if isinstance(made, TraceModel) else made()
    except Exception as error:
        raise InputError(f"the plug-in {title!r} ({entry.value}) does not load: {error}") from error
    if not isinstance(model, TraceModel):
        raise InputTypeError(f"the plug-in {title!r} ({entry.value}) gave a {type(model).__name__}, not a TraceModel")
    _registered[title] = model
    return model


def restore(model: TraceModel) -> None:
    """Make a model known in this process, which may be a worker's."""
    if model.name not in _MODELS:
        _registered[model.name] = model
