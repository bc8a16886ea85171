"""How good fits of traces are: R², and what R² does not tell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scanfold._markup import overview, table
from scanfold.conventions import InputError, InputTypeError, unknown
from scanfold.traces.discovery import result_stem
from scanfold.traces.exchange import exchangeable
from scanfold.traces.models import get_model
from scanfold.traces.request import FittingRequest
from scanfold.traces.results import load_fitted

if TYPE_CHECKING:
    import pandas as pd

#: R² above which a fit is called good, and fair.
GOOD, FAIR = 0.9, 0.7
#: A relative error above which a parameter is not known; z of the runs test that 1 % of random residuals fall below.
UNKNOWN, RUNS = 0.5, -2.326


@dataclass(frozen=True)
class Quality:
    """The quality of fits of traces.

    Attributes
    ----------
    cells : int
        All of them.
    shares : dict
        Percentages of all cells: ``good`` (R² > 0.9), ``fair`` (0.7 < R² ≤ 0.9), ``poor`` (R² ≤ 0.7), ``failed`` (no
        numbers).
    reasons : DataFrame
        Reasons for doubt that R² does not show, one row each: ``reason``, ``fitted`` and ``good``, the percentages of
        the fitted and of the good cells that have it.
    doubted : float
        Percentage of the good cells that have any.
    """

    cells: int
    shares: dict[str, float]
    reasons: pd.DataFrame
    doubted: float

    def __str__(self) -> str:
        """Return it as a few lines."""
        parts = ", ".join(f"{share:.1f} % {name}" for name, share in self.shares.items())
        lines = [f"{self.cells:,} cells: {parts} (good: R² > {GOOD}, fair: > {FAIR})"]
        reasons = zip(self.reasons["reason"].astype(str), self.reasons["fitted"].to_numpy(float), strict=True)
        lines += [f"  {share:5.1f} % of the fitted: {reason}" for reason, share in reasons if share > 0.0]
        return "\n".join([*lines, f"{self.doubted:.1f} % of the good have a reason for doubt"])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        shares = table(["cells", "%"], self.shares.items())
        return overview(str(self).splitlines()[0], shares, table(list(self.reasons), self.reasons.values.tolist()))


def grade(r_squared: Any) -> Any:
    """Return ``good``, ``fair``, ``poor``, or ``failed`` for NaN.

    Examples
    --------
    >>> grade(np.array([0.95, 0.9, 0.7, np.nan])).tolist()
    ['good', 'fair', 'poor', 'failed']
    """
    values = np.asarray(r_squared, np.float64)
    return np.select([np.isnan(values), values > GOOD, values > FAIR], ["failed", "good", "fair"], "poor")


def quality(results: pd.DataFrame, request: FittingRequest | None = None) -> Quality:
    """Judge the fits of traces.

    Parameters
    ----------
    results : DataFrame
        Of `load_fitted` or ``FolderRun.results``, of one model.
    request : FittingRequest, optional
        Theirs; without it what varied is told from the errors, and bounds are the model's.

    Returns
    -------
    Quality

    Raises
    ------
    InputError
        If there are no results, or those of several models.
    """
    kinds = sorted(set(results["model_type"])) if len(results) else []
    if len(kinds) != 1:
        what = f"of several models ({', '.join(kinds)}): select one" if kinds else "of no cell"
        raise InputError(f"the results are {what}, such as results.query(\"model_type == 'maturation'\")")
    grades = grade(r_squared_of(results))
    shares = {name: 100.0 * float((grades == name).mean()) for name in ("good", "fair", "poor", "failed")}
    fitted, good = grades != "failed", grades == "good"
    marks = _reasons(results, request or _guess_request(results, kinds[0]))
    rows = {
        "reason": list(marks),
        "fitted": [_percent(m, fitted) for m in marks.values()],
        "good": [_percent(m, good) for m in marks.values()],
    }
    any_of = np.logical_or.reduce([*marks.values(), np.zeros(len(results), bool)])
    import pandas as pd

    return Quality(len(results), shares, pd.DataFrame(rows), _percent(any_of, good))


def r_squared_of(results: pd.DataFrame) -> Any:
    """Return R², NaN where there is no fit: the older layout has start values there, and 0."""
    values = results["r_squared"].to_numpy(np.float64)
    if "status" in results:
        return values
    return np.where(results["success"].astype(bool), values, np.nan)


def _percent(mask: Any, among: Any) -> float:
    return 100.0 * float(np.asarray(mask)[among].mean()) if among.any() else 0.0


def _guess_request(results: pd.DataFrame, name: str) -> FittingRequest:
    """Return a request under which results could have been made: parameters without any error were fixed."""
    model = get_model(name)
    fixed = [n for n in model.names if f"{n}_stderr" in results and (results[f"{n}_stderr"].fillna(0.0) == 0.0).all()]
    return FittingRequest(name, fixed=model.fixed if len(fixed) == len(model.names) else fixed)


def _reasons(results: pd.DataFrame, request: FittingRequest) -> dict[str, Any]:
    """Return, by reason, which cells have it; the older layout has no columns for most."""
    marks: dict[str, Any] = {}
    words = results["at_bound"].astype(str).str.split() if "at_bound" in results else None
    for name in request.varying:
        if words is not None:
            marks[f"{name} is at a bound"] = words.map(lambda found, n=name: n in found).to_numpy(bool)
    if "correlated" in results:
        for pair in sorted(set(results["correlated"].astype(str)) - {"", "nan"}):
            text = f"{' and '.join(pair.split('~'))} correlate beyond 0.99"
            marks[text] = (results["correlated"] == pair).to_numpy(bool)
    for name in _sized(request):
        if f"{name}_stderr" in results:
            error, value = results[f"{name}_stderr"].to_numpy(float), results[name].to_numpy(float)
            with np.errstate(all="ignore"):
                marks[f"the error of {name} is above {UNKNOWN:.0%}, or unknown"] = ~(error <= UNKNOWN * np.abs(value))
    values = {n: results[n].to_numpy(float) for n in request.model.names if n in results}
    if len(values) == len(request.model.names):
        with np.errstate(all="ignore"):
            marks["rates can be exchanged without changing the curve"] = exchangeable(values, request)
    if "runs_z" in results:
        marks["residuals are correlated (runs test, 1 %)"] = (results["runs_z"] < RUNS).to_numpy(bool)
    if "status" in results:
        marks["residuals are larger than the noise"] = (results["status"] == "poor_fit").to_numpy(bool)
        marks["no better than a constant"] = (results["status"] == "no_signal").to_numpy(bool)
    return marks


def _sized(request: FittingRequest) -> list[str]:
    """Return the parameters that vary and whose size means something: rates and amounts, no times and offsets."""
    params = request.params()
    return [n for n in request.varying if params[n]["min"] >= 0.0 and request.model.units.get(n) != "h"]


def compare_models(*results: Any, criterion: str = "bic") -> pd.DataFrame:
    """Say for each cell which of several models describes it best, by an information criterion.

    Parameters
    ----------
    *results : DataFrame, FolderRun, or path
        Results of the same files with different models, two or more; one table may hold several models.
    criterion : {"bic", "aic"}
        Lower is better.

    Returns
    -------
    DataFrame
        One row for every cell: ``source``, ``fov, cell`` or ``cell_id``, ``best`` (empty where no model was fitted),
        ``weight``, the probability of the best among the models, and for each model ``delta_<model>``, its criterion
        less the lowest; NaN where it was not fitted.

    Raises
    ------
    InputError
        For fewer than two models, or results without the criterion.

    Notes
    -----
    A difference below 2 decides nothing, and above 10 decides (K. P. Burnham and D. R. Anderson, Model selection and
    multimodel inference, Springer 2002). Models are compared only where they used the same points.

    Examples
    --------
    >>> import pandas as pd
    >>> def table(model, bic):
    ...     return pd.DataFrame({"file": f"a_fitted_{model}.csv", "cell_id": ["0", "1"], "model_type": model,
    ...                          "n_used": 9, "bic": bic})
    >>> found = compare_models(table("trivial", [1.0, 9.0]), table("maturation", [5.0, np.nan]))
    >>> found[["cell_id", "best", "delta_maturation"]].values.tolist()
    [['0', 'trivial', 4.0], ['1', 'trivial', nan]]
    """
    import pandas as pd

    if criterion not in ("aic", "bic"):
        raise unknown("criterion", criterion, ("aic", "bic"))
    joined = pd.concat([_table(r) for r in results], ignore_index=True) if results else pd.DataFrame({"model_type": []})
    models = list(dict.fromkeys(joined["model_type"]))
    if len(models) < 2:
        raise InputError(f"to compare takes the results of two models or more, found {', '.join(models) or 'none'}")
    if criterion not in joined:
        raise InputError(f"the results have no {criterion}: they are of an older layout; fit the files again")
    joined["source"] = [result_stem(f, m) for f, m in zip(joined["file"], joined["model_type"], strict=True)]
    keys = ["source", *(k for k in ("fov", "cell", "cell_id") if k in joined)]
    number = joined.groupby(keys, dropna=False, sort=False).ngroup().to_numpy()
    out = joined[keys].iloc[np.unique(number, return_index=True)[1]].reset_index(drop=True)
    values, used = np.full((2, len(out), len(models)), np.nan)
    place = joined["model_type"].map(models.index).to_numpy()
    values[number, place], used[number, place] = joined[criterion], joined["n_used"]
    with np.errstate(invalid="ignore"):
        values[np.fmax.reduce(used, axis=1) != np.fmin.reduce(used, axis=1)] = np.nan
    there = ~np.isnan(values)
    delta = values - np.where(there, values, np.inf).min(axis=1, keepdims=True)
    first = np.array(models, object)[np.where(there, delta, np.inf).argmin(axis=1)]
    out["best"] = np.where(there.any(axis=1), first, "")
    total = np.nansum(np.exp(-0.5 * delta), axis=1)
    out["weight"] = np.where(total > 0.0, 1.0 / np.maximum(total, 1.0), np.nan)
    for i, name in enumerate(models):
        out[f"delta_{name}"] = delta[:, i]
    return out


def _table(results: Any) -> pd.DataFrame:
    """Return the table of a run, of a path, or the table itself."""
    import pandas as pd

    found = load_fitted(results) if isinstance(results, str | Path) else getattr(results, "results", results)
    if not isinstance(found, pd.DataFrame):
        raise InputTypeError(f"results is a {type(results).__name__}; expected a DataFrame, a FolderRun, or a path")
    return found
