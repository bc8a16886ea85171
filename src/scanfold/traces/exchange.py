"""Rates that can be exchanged without changing the curve: reported in one order, with errors that belong to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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


@dataclass(frozen=True)
class Order:
    """Put exchangeable rates in the order of the model.

    Errors become those of the exchanged parameters: J·C·Jᵀ, with J the derivatives of the exchange.
    """

    request: FittingRequest

    def __call__(self, values: Array, errors: Array, cov: Array) -> Array:
        """Change values and errors (N, P) in place, given their covariance (N, m, m).

        Returns (N) the pair of parameters that then correlate most, as fits count them.
        """
        model, varying = self.request.model, self.request.varying
        assert model.ordered is not None
        place = {n: i for i, n in enumerate(model.names)}
        table = {n: values[:, i] for n, i in place.items()}
        waiting = ~np.asarray(model.ordered(table)) & np.isfinite(values).all(axis=1)
        for exchange in exchanges_of(self.request):
            with np.errstate(all="ignore"):
                new = table | exchange(table)
                chosen = np.flatnonzero(waiting & inside(exchange(table), self.request) & model.ordered(new))
            if not chosen.size:
                continue
            cov[chosen] = _carry(exchange, {n: v[chosen] for n, v in table.items()}, varying, cov[chosen])
            for j, name in enumerate(varying):
                errors[chosen, place[name]] = np.sqrt(cov[chosen, j, j])
            changed = {n: new[n][chosen] for n in varying}
            for name, value in changed.items():
                values[chosen, place[name]] = value
            waiting[chosen] = False
        return _most_correlated(cov)


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
