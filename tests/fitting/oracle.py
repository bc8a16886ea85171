"""What `lmfit.Model.fit`, called directly in a loop, gives: the reference of `scanfold.fit`.

lmfit stops at a relative step of 1.5e-8 in chi-square, which leaves parameters up to 10⁻³ stderr from
the minimum; an oracle that is to judge 10⁻³ stderr must be closer, so it runs to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lmfit
import numpy as np
import xarray as xr

from .cases import coordinate

STATISTICS = ("chisqr", "redchi", "rsquared", "aic", "bic")
TIGHT = {"ftol": 1e-14, "xtol": 1e-14}


def fit_each(
    model: lmfit.Model,
    data: xr.DataArray,
    params: Callable[[int], lmfit.Parameters] | lmfit.Parameters,
    weights: np.ndarray | None = None,
    **kwargs: Any,
) -> dict[str, np.ndarray]:
    """Fit every row of the scan by itself, without its NaN points; return arrays by variable name."""
    found: dict[str, list[float]] = {}
    for i, row in enumerate(data.values):
        keep = np.isfinite(row)
        chosen = None if weights is None else np.broadcast_to(weights, data.shape)[i][keep]
        start = params(i) if callable(params) else params
        variable = {coordinate(model): data.x.values[keep].copy()}
        # a forward difference of the machine's own precision, for the stderr
        result = model.fit(row[keep], start, weights=chosen, fit_kws={"epsfcn": 0, **TIGHT}, **variable, **kwargs)
        for name, value in _variables(result).items():
            found.setdefault(name, []).append(value)
    return {name: np.array(values, float) for name, values in found.items()}


def assert_agrees(fits: xr.Dataset, expected: dict[str, np.ndarray], *, stderr: bool = True) -> None:
    """Assert parameters within 10⁻³ stderr, stderr within 1 %, statistics to 10⁻⁶, at every position.

    A parameter whose stderr is zero (fixed) must be equal to it to rounding.
    """
    names = [name.removesuffix("_stderr") for name in expected if name.endswith("_stderr")]
    missing = [name for name in names if name not in fits]
    assert not missing, f"no variable for {missing}; there are {list(fits)}"
    problems = []
    for name in names:
        value, error = expected[name], expected[f"{name}_stderr"]
        allowed = np.where(error > 0, 1e-3 * error, 1e-9 * np.abs(value) + 1e-12)
        off = np.abs(fits[name].values - value)
        if not np.all(off <= allowed):
            problems.append(f"{name}: {fits[name].values} for {value}; off by {off / allowed * 1e-3} stderr")
        if stderr and not np.allclose(fits[f"{name}_stderr"].values, error, rtol=0.01, atol=0, equal_nan=True):
            problems.append(f"{name}_stderr: {fits[f'{name}_stderr'].values} for {error}")
    for name in STATISTICS:
        if not np.allclose(fits[name].values, expected[name], rtol=1e-6, atol=1e-9):
            problems.append(f"{name}: {fits[name].values} for {expected[name]}")
    assert not problems, "\n".join(problems)


def _variables(result: lmfit.model.ModelResult) -> dict[str, float]:
    out = {name: getattr(result, name) for name in STATISTICS}
    for name, parameter in result.params.items():
        out[name] = parameter.value
        out[f"{name}_stderr"] = np.nan if parameter.stderr is None else parameter.stderr
    return out
