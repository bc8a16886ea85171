"""What is refused before any computing: data, axis, weights, model and options of a fit."""

from __future__ import annotations

from typing import Any

import lmfit
import numpy as np
import xarray as xr

from scanfold.conventions import InputError, InputTypeError, require_bool, require_dim, require_word, unknown
from scanfold.fitting.components import independent_variables, make_model
from scanfold.fitting.problem import LIKELIHOODS, Array

_ENGINES = ("auto", "batch", "lmfit")
_GUESSES = ("auto", "model", "mean", "params")


def check_options(engine: str, guess: str, likelihood: str, errors: str) -> None:
    """Raise unless each option is one of its valid words."""
    for kind, value, valid in (
        ("engine", engine, _ENGINES),
        ("guess", guess, _GUESSES),
        ("likelihood", likelihood, LIKELIHOODS),
        ("errors", errors, ("flag", "raise")),
    ):
        require_word(kind, value, valid)


def check_numbers(max_nfev: Any, poor_fit: Any, no_signal: Any, covariance: Any, retry: Any) -> None:
    """Raise unless limits are numbers, and switches true or false."""
    numbers: Any = (int, float, np.floating, np.integer)
    for name, value in (("poor_fit", poor_fit), ("no_signal", no_signal)):
        if isinstance(value, bool) or not isinstance(value, numbers) or not abs(value) < 1e300:
            raise InputTypeError(f"{name} is {value!r}; expected a number")
    require_bool(covariance=covariance, retry=retry)
    if max_nfev is not None:
        if isinstance(max_nfev, bool) or not isinstance(max_nfev, int | np.integer):
            raise InputTypeError(f"max_nfev is {max_nfev!r}; expected a whole number")
        if max_nfev < 1:
            raise InputError(f"max_nfev is {max_nfev}; expected at least 1")


def check_model(model: Any) -> lmfit.Model:
    """Return the model, made from a function if need be; raise unless it has one axis and is real."""
    if isinstance(model, type) and issubclass(model, lmfit.Model):
        raise InputTypeError(f"model is the class {model.__name__}; make one: {model.__name__}()")
    if not isinstance(model, lmfit.Model):
        if not callable(model):
            raise InputTypeError(f"model is a {type(model).__name__}; expected an lmfit.Model or a function f(x, a, b)")
        model = make_model(model)
    variables = independent_variables(model)
    if len(variables) != 1:
        raise InputError(f"the model has the independent variables {', '.join(variables)}; a fit along one dim has one")
    if isinstance(model, lmfit.models.ComplexConstantModel):
        raise InputError("the model is complex; a fit needs real values")
    return model


def check_labels(what: str, array: xr.DataArray, data: xr.DataArray) -> None:
    """Raise where an array is labelled otherwise than the data: by position it would be on other points."""
    for dim in array.dims:
        if dim in array.indexes and dim in data.indexes and not array.indexes[dim].equals(data.indexes[dim]):
            raise InputError(
                f"{what} and data have different coordinates along {dim!r}; type {what.split()[0]}.reindex_like(data), "
                f"or drop them with .drop_vars({dim!r})"
            )


def check_data(array: xr.DataArray, dim: str) -> xr.DataArray:
    """Return the data with `dim` last; raise unless they are numbers and whole along it."""
    require_dim(array, dim)
    if array.dtype.kind not in "iufb":
        raise InputTypeError(f"data {array.name!r} has dtype {array.dtype}; expected real numbers")
    if array.sizes[dim] == 0:
        raise InputError(f"data {array.name!r} has no points along {dim!r}; check the selection")
    chunks = dict(zip(array.dims, array.chunks or (), strict=False))
    if len(chunks.get(dim, ())) > 1:
        raise InputError(
            f"data {array.name!r} is split into {len(chunks[dim])} chunks along {dim!r}, which a fit needs whole; "
            f"type .chunk({{{dim!r}: -1}}) for a scan whose chunks are small, or open it with chunks that keep {dim!r} "
            f"whole; for frames written one after the other use sf.transpose_scan"
        )
    return array.transpose(..., dim)


def axis(array: xr.DataArray, dim: str) -> Array:
    """Return the independent variable (n): the coordinate of `dim`, or 0, 1, 2 … without one."""
    if dim not in array.coords:
        return np.arange(array.sizes[dim], dtype=np.float64)
    x = np.asarray(array[dim].values)
    if x.dtype.kind not in "iuf":
        raise InputTypeError(f"coordinate {dim!r} has dtype {x.dtype}; a fit needs real numbers, e.g. time in seconds")
    x = np.ascontiguousarray(x, np.float64)
    if not np.isfinite(x).all():
        raise InputError(f"coordinate {dim!r} has values that are NaN or inf; select those that are finite")
    return x


def check_weights(weights: Any, likelihood: str, array: xr.DataArray, dim: str) -> xr.DataArray | str | None:
    """Return the weights with `dim` last, "counts", or None; raise unless they fit the data."""
    if weights is None:
        return None
    if likelihood != "gaussian":
        raise InputError(f"likelihood={likelihood!r} takes the weight of each point from its counts; leave weights out")
    if isinstance(weights, str):
        if weights != "counts":
            raise unknown("weights", weights, ["counts"])
        return weights
    if not isinstance(weights, xr.DataArray):
        try:
            values = np.asarray(weights)
        except ValueError:
            raise InputTypeError(f"weights is {weights!r}; expected a number for each point of {dim!r}") from None
        if values.shape != (array.sizes[dim],):
            raise InputError(
                f"weights has shape {values.shape}; expected ({array.sizes[dim]},), one per point of {dim!r}"
            )
        weights = xr.DataArray(values, dims=dim)
    if weights.dtype.kind not in "iufb":
        raise InputTypeError(f"weights has dtype {weights.dtype}; expected real numbers")
    check_labels("weights", weights, array)
    for name, size in weights.sizes.items():
        if array.sizes.get(name) != size:
            raise InputError(
                f"weights has {size} points along {name!r}; data has {array.sizes.get(name, 'no such dim')}"
            )
    if dim not in weights.dims:
        raise InputError(f"weights lacks the dimension {dim!r}; multiply them by a DataArray of ones over it")
    aligned: xr.DataArray = weights.transpose(..., dim).drop_vars(list(weights.coords))
    return aligned


def check_reference(reference: Any, likelihood: str, array: xr.DataArray, dim: str) -> xr.DataArray | None:
    """Return reference counts and then exposures along ``reference`` (2n), or None where there are none."""
    if (reference is None) != (likelihood != "binomial"):
        found = "there is none" if reference is None else f"likelihood is {likelihood!r}"
        raise InputError(f"likelihood='binomial' and reference=counts belong together; {found}")
    if reference is None:
        return None
    counts, exposure = reference if isinstance(reference, tuple) else (reference, 1.0)
    if not isinstance(counts, xr.DataArray):
        raise InputTypeError(f"reference is a {type(counts).__name__}; expected a DataArray of counts over {dim!r}")
    if not isinstance(exposure, xr.DataArray):
        exposure = xr.full_like(array[dim], float(exposure), dtype=np.float64)
    parts: list[Any] = [check_weights(part, "gaussian", array, dim) for part in (counts, exposure)]
    whole: xr.DataArray = xr.concat([p.astype(np.float64).drop_attrs() for p in parts], dim=dim)
    ordered = whole.rename({dim: "reference"}).transpose(..., "reference")
    return ordered if ordered.chunks is None else ordered.chunk(reference=-1)
