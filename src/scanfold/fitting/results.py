"""The Dataset that a fit returns: its variables and their units; what is read off it, as a table or a warning."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import lmfit
import numpy as np
import numpy.typing as npt
import xarray as xr

from scanfold import _columns, _folds
from scanfold.conventions import InputError, Var, flags
from scanfold.fitting.block import FitBlock, columns
from scanfold.fitting.components import Component
from scanfold.fitting.parameters import ParameterTable
from scanfold.fitting.status import STATUS
from scanfold.plot.positions import rows_kept, scan_dims

if TYPE_CHECKING:
    import pandas as pd

#: The variables of every fit, beside the parameters and their ``_stderr``.
STATISTICS = (
    Var("chisqr", ("...",), "float64", "sum of squared weighted residuals (Poisson: deviance)"),
    Var("redchi", ("...",), "float64", "chisqr per degree of freedom"),
    Var("rsquared", ("...",), "float64", "coefficient of determination, unweighted"),
    Var("aic", ("...",), "float64", "Akaike information criterion"),
    Var("bic", ("...",), "float64", "Bayesian information criterion"),
    Var("nfev", ("...",), "int32", "evaluations of the model"),
    Var("success", ("...",), "bool", "the optimiser converged"),
    Var("status", ("...",), "int8", "what became of the fit", flags=STATUS),
    Var("n_used", ("...",), "int32", "points used in the fit"),
)
#: Units of the parameters of each leaf, in its order: y of the data, x of the axis, a (area) y·x, r (rate) 1/x;
#: "-" where there are none, or where they depend on the value of another parameter.
_UNITS = {
    "gaussian": "axx", "lorentzian": "axx", "split_lorentzian": "axxx", "voigt": "axxx", "pvoigt": "axx-",
    "moffat": "yxx-", "pearson4": "axx--", "pearson7": "axx-", "breit_wigner": "yxx-", "damped_oscillator": "yx-",
    "dho": "axxx", "expgaussian": "axxr", "skewed_gaussian": "axx-", "skewed_voigt": "axxx-", "thermal": "-xx",
    "bose": "yxx", "fermi": "yxx", "logistic": "yxx", "doniach": "-xx-", "exponential": "yx", "step": "yxx",
    "rectangle": "yxxxx", "sine": "yr-", "expsine": "yr-r",
}  # fmt: skip
#: Units of what lmfit derives from them.
_DERIVED = {"fwhm": "x", "height": "y", "position": "x"}


def check_names(names: list[str], array: xr.DataArray) -> None:
    """Raise if a parameter would hide a dimension, a coordinate or a statistic in the result."""
    taken = (
        {str(d) for d in array.dims}
        | {str(c) for c in array.coords}
        | {v.name for v in STATISTICS}
        | {"covar", "correlated"}
    )
    for name in names:
        if name in taken:
            raise InputError(
                f"parameter {name!r} has the name of a dimension, coordinate or statistic of the result; give the "
                f"model a prefix, or rename: data.rename({name}=…)"
            )


def unpack(
    packed: xr.DataArray,
    block: FitBlock,
    array: xr.DataArray,
    dim: str,
    table: ParameterTable,
    provenance: str,
    more: Sequence[Var] = (),
) -> xr.Dataset:
    """Turn packed rows (scan dims, result), with `more` behind what a block packs, into the Dataset of a fit."""
    problem = block.problem
    place = columns(problem, block.covariance)
    packed = packed.drop_vars(list(packed.coords))  # its coordinates are those of the data; slices are cheaper without
    units = parameter_units(problem.components, str(array.attrs.get("units", "")), _units(array, dim))
    picked: list[tuple[Var, int]] = []
    for i, name in enumerate(table.names):
        unit = units.get(name)
        value = Var(name, ("...",), "float64", f"fitted {name}", unit, ancillary=(f"{name}_stderr", "status"))
        error = Var(f"{name}_stderr", ("...",), "float64", f"standard error of {name}", unit)
        picked += [(value, place["values"].start + i), (error, place["stderr"].start + i)]
    picked += [(var, place[var.name].start) for var in STATISTICS]
    free = [table.names[i] for i in problem.free[-1]]
    pairs = {f"{a}~{b}": k + 1 for k, (a, b) in enumerate(combinations(free, 2))}
    correlated = Var("correlated", ("...",), "int16", "parameters correlated beyond 0.99", flags={"none": 0, **pairs})
    picked.append((correlated, place["correlated"].start))
    picked += [(var, place["width"].stop + i) for i, var in enumerate(more)]
    made = _columns.columns(packed.data, [(i, var.dtype) for var, i in picked])
    variables = {
        var.name: xr.Variable(packed.dims[:-1], data, var.attrs()) for (var, _), data in zip(picked, made, strict=True)
    }
    if block.covariance:
        covar = Var("covar", ("...", "param_i", "param_j"), "float64", "covariance of the varying parameters")
        variables["covar"] = covar.make(_fold(packed, place["covar"], {"param_i": free, "param_j": free})).variable
    if problem.keep_stages:
        stages = Var("stage_values", ("...", "stage", "param"), "float64", "parameters after each stage")
        labels = {"stage": list(problem.stage_names), "param": table.names}
        variables["stage_values"] = stages.make(_fold(packed, place["stages"], labels)).variable
    coords = {n: c for n, c in array.coords.items() if dim not in c.dims}
    out = xr.Dataset(variables, coords=coords)
    named = {"param_i": free, "param_j": free, "param": table.names, "stage": problem.stage_names}
    for axis, labels_ in named.items():
        if axis in out.dims:
            out = out.assign_coords({axis: np.array(labels_, object)})
    out.attrs = {"title": f"fits of {array.name or 'data'}", "provenance": provenance}
    return out


def _fold(packed: xr.DataArray, where: slice, labels: dict[str, list[str]]) -> xr.DataArray:
    """Reshape packed columns to the dims of `labels`."""
    sizes = [len(v) for v in labels.values()]
    part = packed.isel(result=where)
    shape = (*part.shape[:-1], *sizes)
    return xr.DataArray(part.data.reshape(shape), dims=(*part.dims[:-1], *labels))


def _units(array: xr.DataArray, dim: str) -> str:
    return str(array[dim].attrs.get("units", "")) if dim in array.coords else ""


def parameter_units(components: tuple[Component, ...], y: str, x: str) -> dict[str, str]:
    """Return the units of the parameters that are known, from those of the data (y) and the axis (x)."""
    if not x or not y:
        return {}
    units: dict[str, str] = {}
    known = {"x": x, "y": y, "a": f"({y})*({x})", "r": f"1/({x})"}
    for component in components:
        kinds = _UNITS.get(component.leaf, "")
        units |= {n: known[k] for n, k in zip(component.names, kinds, strict=False) if k in known}
        units |= {n: _coefficient(y, x, p) for n, p in zip(component.names, component.powers, strict=False)}
        prefix = component.names[0].removesuffix("amplitude")
        if kinds:
            units |= {prefix + name: known[kind] for name, kind in _DERIVED.items()}
    return units


def _coefficient(y: str, x: str, power: int) -> str:
    """Return the units of the coefficient of a power of x."""
    return y if power == 0 else f"({y})/({x})" if power == 1 else f"({y})/({x})**{power}"


def plain_parameters(table: ParameterTable) -> lmfit.Parameters:
    """Return lmfit Parameters from plain names and numbers."""
    params = lmfit.Parameters()
    for i, name in enumerate(table.names):
        value = float(table.value[i])
        params.add(
            name,
            value=value if np.isfinite(value) else -np.inf,
            min=float(np.nan_to_num(table.low[i], nan=-np.inf, neginf=-np.inf, posinf=np.inf)),
            max=float(np.nan_to_num(table.high[i], nan=np.inf, neginf=-np.inf, posinf=np.inf)),
            vary=bool(table.vary[i]),
        )
    for name, text in table.expressions:
        params[name].expr = text
    return params


def summary(fits: xr.Dataset, *, query: str | None = None) -> pd.DataFrame:
    """Tabulate fits: one row per position.

    Parameters
    ----------
    fits : Dataset
        Of `scanfold.fit`; computed once if lazy.
    query : str, optional
        A pandas query on the columns, such as ``"success and redchi < 2"``.

    Returns
    -------
    DataFrame
        Positions, success, status (in words), redchi, chisqr, rsquared, nfev, each parameter and ``<name>_err``.
        `scanfold.export_csv` writes the maps themselves, however large.
    """
    names = parameter_names(fits)
    order = ["success", "status", "redchi", "chisqr", "rsquared", "nfev"]
    wanted = [*order, *(n for name in names for n in (name, f"{name}_stderr"))]
    loaded = fits[wanted].compute()
    frame = loaded.to_dataframe().reset_index()
    words = {v: k for k, v in STATUS.items()}
    frame["status"] = frame["status"].map(words)
    frame = frame.rename(columns={f"{n}_stderr": f"{n}_err" for n in names})
    front = [str(d) for d in loaded.dims]
    columns_ = [c for c in frame.columns if c not in front and c not in order]
    frame = frame[[*front, *order, *columns_]]
    return rows_kept(frame, query)


def parameter_names(fits: xr.Dataset) -> list[str]:
    """Return the names of the fitted parameters of a Dataset of fits."""
    scan_dims(fits)
    names = [str(n) for n in fits.data_vars if f"{n}_stderr" in fits.data_vars]
    if not names or "status" not in fits:
        raise InputError(f"this Dataset holds no fits: it has {', '.join(map(str, fits.data_vars)) or 'no variables'}")
    return names


def warn_correlated(fits: xr.Dataset) -> None:
    """Warn of a pair of parameters that the data do not tell apart over most of the map.

    Parameters
    ----------
    fits : Dataset
        Of `scanfold.fit`, computed or in a store: its maps ``correlated`` and ``status`` are read.
    """
    names = {value: name for name, value in flags(fits["correlated"]).items()}
    believed = fits["status"].isin([STATUS["converged"], STATUS["poor_fit"]])
    pairs = fits["correlated"].where(believed, -1)
    counts: Counter[int] = _folds.reduce_blocks(pairs, _count, _add, Counter).compute()
    total = sum(n for pair, n in counts.items() if pair >= 0)
    pairs_found = [(n, names[pair]) for pair, n in counts.items() if pair > 0]
    correlated = sum(n for n, _ in pairs_found)
    if correlated > total / 2:
        most = ", ".join(f"{name.replace('~', ' and ')} at {n:,}" for n, name in sorted(pairs_found, reverse=True)[:3])
        warnings.warn(
            f"at {correlated:,} of {total:,} positions two parameters correlate beyond 0.99 ({most}): the data do not "
            f"tell them apart. Fix one, tie them with expr, or fit a simpler model",
            stacklevel=2,
        )


def _count(block: npt.NDArray[np.int64]) -> Counter[int]:
    values, counts = np.unique(block, return_counts=True)
    return Counter(dict(zip(values.tolist(), counts.tolist(), strict=True)))


def _add(parts: list[Counter[int]]) -> Counter[int]:
    return sum(parts, Counter())
