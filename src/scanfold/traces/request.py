"""What is to be fitted, checked once: model, starts, bounds, what is fixed, weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from scanfold._markup import overview, table
from scanfold.conventions import InputError, InputTypeError, unknown
from scanfold.traces.models import TraceModel, check_bounds, get_model


@dataclass(frozen=True)
class FittingRequest:
    """What to fit to every trace.

    Parameters
    ----------
    model_type : str
        Name of a model; see `scanfold.traces.models.list_models`. Case does not count.
    model_params : mapping of str to float, optional
        Starts, and values of what is fixed, that replace the model's. Where the model says how, fits find the starts
        of what varies and is not given here from each trace.
    model_bounds : mapping of str to (float, float), optional
        Bounds that replace the model's.
    fixed : sequence of str, optional
        The parameters that do not vary, instead of the model's own; ``()`` lets all vary.
    weights : float, "counts" or sequence of float, optional
        1/σ of each point: one number, 1/√max(data, 1), or one number per frame. None estimates the noise of each trace
        from its second differences.

    Raises
    ------
    InputError, InputTypeError
        For an unknown model or parameter, bounds that cross, or a start outside its bounds.

    Examples
    --------
    >>> request = FittingRequest("maturation", {"km": 1.5}, {"delta": (1e-4, 5)})
    >>> request.params()["delta"]
    {'value': 0.01, 'min': 0.0001, 'max': 5.0, 'vary': True}
    """

    model_type: str
    model_params: Mapping[str, float] | None = None
    model_bounds: Mapping[str, tuple[float, float]] | None = None
    fixed: Sequence[str] | None = None
    weights: float | str | Sequence[float] | None = None

    def __post_init__(self) -> None:
        model = get_model(self.model_type)
        object.__setattr__(self, "model_type", model.name)
        for name, kind in (("model_params", Mapping), ("model_bounds", Mapping)):
            given = getattr(self, name)
            if given is not None and not isinstance(given, kind):
                raise InputTypeError(f"{name} is a {type(given).__name__}; expected a mapping of parameters, or None")
            for key in given or {}:
                if key not in model.names:
                    raise unknown(f"parameter of {model.name} in {name}", key, model.names)
            object.__setattr__(self, name, dict(given or {}))
        fixed = model.fixed if self.fixed is None else (self.fixed,) if isinstance(self.fixed, str) else self.fixed
        if not isinstance(fixed, Sequence | Set):
            raise InputTypeError(f"fixed is {fixed!r}; expected names of parameters, such as ['offset']")
        for key in fixed:
            if key not in model.names:
                raise unknown(f"parameter of {model.name} in fixed", key, model.names)
        object.__setattr__(self, "fixed", tuple(n for n in model.names if n in fixed))
        if len(self.fixed or ()) == len(model.names):
            raise InputError("fixed names all parameters; leave one out, to be fitted")
        for name, settings in self.params().items():
            check_bounds(model.name, name, (settings["min"], settings["max"]), settings["value"])
        object.__setattr__(self, "weights", _weights(self.weights))

    @property
    def model(self) -> TraceModel:
        """The model."""
        return get_model(self.model_type)

    @property
    def varying(self) -> tuple[str, ...]:
        """The parameters that vary."""
        return tuple(n for n in self.model.names if n not in (self.fixed or ()))

    def _repr_html_(self) -> str:
        rows = [[n, p["value"], p["min"], p["max"], "" if p["vary"] else "fixed"] for n, p in self.params().items()]
        return overview(f"FittingRequest {self.model_type}", table(["parameter", "start", "min", "max", ""], rows))

    def params(self) -> dict[str, dict[str, Any]]:
        """Return value, min, max and vary of each parameter, as `scanfold.fit` takes them."""
        model = self.model
        bounds = {**model.bounds, **(self.model_bounds or {})}
        values = {**model.defaults, **(self.model_params or {})}
        try:
            return {
                n: {"value": float(values[n]), "min": float(bounds[n][0]), "max": float(bounds[n][1]),
                    "vary": n not in (self.fixed or ())}
                for n in model.names
            }  # fmt: skip
        except (TypeError, ValueError, LookupError, OverflowError) as error:
            raise InputTypeError(
                f"model_params takes numbers, model_bounds pairs of numbers, such as {{'delta': (1e-5, 11)}}: {error}"
            ) from None

    @classmethod
    def from_record(cls, record: str) -> FittingRequest:
        """Return the request that a Dataset of fits was made by, as its ``attrs["request"]`` says."""
        found = json.loads(record)
        params = found["parameters"]
        values = {n: params[n]["value"] for n in found["given"]}
        bounds = {n: (p["min"], p["max"]) for n, p in params.items()}
        return cls(
            found["model_type"], values, bounds, [n for n, p in params.items() if not p["vary"]], found["weights"]
        )

    def describe(self) -> dict[str, Any]:
        """Return the request as plain data: what results are made of."""
        weights = list(self.weights) if isinstance(self.weights, tuple) else self.weights
        given = list(self.model_params or {})
        return {"model_type": self.model_type, "parameters": self.params(), "given": given, "weights": weights}


def _weights(given: Any) -> Any:
    if given is None:
        return None
    if isinstance(given, str):
        if given != "counts":
            raise unknown("weights", given, ["counts"])
        return given
    try:
        values = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        raise InputTypeError(f"weights is {given!r}; expected 1/σ as a number or one per frame, or 'counts'") from None
    if values.ndim > 1 or not np.isfinite(values).all() or not (values >= 0).all() or not (values > 0).any():
        raise InputError("weights must be 1/σ: finite, positive, one number or one per frame")
    return float(values) if values.ndim == 0 else tuple(values.tolist())
