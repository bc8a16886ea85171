"""Rates that can be exchanged without changing the curve: reported in one order, with errors that belong to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from scanfold import _apply
from scanfold.fitting.block import CORRELATED
from scanfold.traces.models import Values
from scanfold.traces.request import FittingRequest

Array = npt.NDArray[np.float64]


def exchanges_of(request: FittingRequest) -> list[Callable[[Values], Values]]:
    """Return the exchanges of a model all of whose parameters vary in a request."""
    start = {n: np.float64(p["value"]) for n, p in request.params().items()}
    return [e for e in request.model.exchanges if set(e(start)) <= set(request.varying)]


def inside(values: Values, request: FittingRequest) -> npt.NDArray[np.bool_]:
    """Say where some parameters are numbers inside their bounds."""
    params = request.params()
    within = [(v >= params[n]["min"]) & (v <= params[n]["max"]) for n, v in values.items()]
    return np.asarray(np.logical_and.reduce(within))


def exchangeable(values: Values, request: FittingRequest) -> npt.NDArray[np.bool_]:
    """Say where other parameters, inside the bounds, give the same curve."""
    found = [inside(e(values), request) for e in exchanges_of(request)]
    return np.asarray(np.logical_or.reduce(found)) if found else np.zeros(np.shape(next(iter(values.values()))), bool)


def in_order(fits: xr.Dataset, request: FittingRequest) -> xr.Dataset:
    """Return fits whose exchangeable rates are in the order of the model; they have ``covar``, which is dropped.

    Errors are those of the exchanged parameters: J·C·Jᵀ, with J the derivatives of the exchange.
    """
    names = request.model.names
    arrays = [fits[n] for p in names for n in (p, f"{p}_stderr")]
    bare = [a.drop_vars(list(a.coords)) for a in (*arrays, fits["covar"])]
    core: list[list[str]] = [*([] for _ in arrays), ["param_i", "param_j"]]
    packed = _apply.apply_kernel(
        Order(request), *bare, core_dims=core, output={"result": 2 * len(names) + 1},
        token=f"traces-order-{request.describe()}",
    )  # fmt: skip
    out = fits.drop_vars(["covar", "param_i", "param_j"])
    targets = [n for p in names for n in (p, f"{p}_stderr")] + ["correlated"]
    for i, name in enumerate(targets):
        out[name] = packed.isel(result=i).astype(fits[name].dtype).assign_attrs(fits[name].attrs)
    return out


@dataclass(frozen=True)
class Order:
    """Exchange the rates of some rows: values and errors (N) in turn, covariance (N, m, m) → (N, 2P + 1)."""

    request: FittingRequest

    def __call__(self, *columns: Array) -> Array:
        """Return values and errors in turn, and the pair of parameters that correlate most, as fits count them."""
        model, varying = self.request.model, self.request.varying
        names = model.names
        values = {n: np.array(columns[2 * i], np.float64) for i, n in enumerate(names)}
        errors = {n: np.array(columns[2 * i + 1], np.float64) for i, n in enumerate(names)}
        cov = np.array(columns[-1], np.float64)
        assert model.ordered is not None
        waiting = ~np.asarray(model.ordered(values)) & np.isfinite(np.stack(list(values.values()))).all(axis=0)
        for exchange in exchanges_of(self.request):
            with np.errstate(all="ignore"):
                new = values | exchange(values)
                chosen = np.flatnonzero(waiting & inside(exchange(values), self.request) & model.ordered(new))
            if chosen.size:
                here = {n: v[chosen] for n, v in values.items()}
                cov[chosen] = _carry(exchange, here, varying, cov[chosen])
                for n in varying:
                    values[n][chosen] = new[n][chosen]
                diagonal = np.sqrt(cov[chosen][:, range(len(varying)), range(len(varying))])
                for j, n in enumerate(varying):
                    errors[n][chosen] = diagonal[:, j]
                waiting[chosen] = False
        pairs = [c for n in names for c in (values[n], errors[n])]
        return np.stack([*pairs, _most_correlated(cov)], axis=1)


def _carry(exchange: Callable[[Values], Values], values: Values, varying: tuple[str, ...], cov: Array) -> Array:
    """Return J·C·Jᵀ (N, m, m); what is not known of C stays unknown only in what depends on it."""
    m = len(varying)
    slopes = np.empty((len(cov), m, m))
    for j, name in enumerate(varying):
        step = 1e-6 * np.maximum(np.abs(values[name]), 1e-12)
        high, low = values | {name: values[name] + step}, values | {name: values[name] - step}
        high, low = high | exchange(high), low | exchange(low)
        for i, target in enumerate(varying):
            slopes[:, i, j] = (high[target] - low[target]) / (2.0 * step)
    unknown = ~np.isfinite(cov[:, range(m), range(m)])
    carried = slopes @ np.nan_to_num(cov) @ slopes.transpose(0, 2, 1)
    touched = np.einsum("nij,nj->ni", np.abs(slopes) > 1e-9, unknown) > 0
    carried[touched[:, :, None] | touched[:, None, :]] = np.nan
    return np.asarray(carried)


def _most_correlated(cov: Array) -> Array:
    """Return the number of the pair, from 1, that correlates most where that is beyond the limit, else 0."""
    i, j = np.triu_indices(cov.shape[1], 1)
    if not i.size:
        return np.zeros(len(cov))
    with np.errstate(all="ignore"):
        size = np.nan_to_num(np.abs(cov[:, i, j]) / np.sqrt(cov[:, i, i] * cov[:, j, j]))
    return np.where(size.max(axis=1) > CORRELATED, size.argmax(axis=1) + 1.0, 0.0)
