"""Tables and HTML of a GroupedFitResult."""

from __future__ import annotations

import html
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from scanfold import fitting
from scanfold._markup import Markup, overview
from scanfold.bragg.indices import places_of, scan_dims
from scanfold.bragg.measured import Measured, options_of
from scanfold.conventions import InputError
from scanfold.plot.positions import rows_kept, words_of

if TYPE_CHECKING:
    from scanfold.bragg.result import GroupedFitResult

#: Rows of a table on a page: more are for `summary`.
_ROWS = 200


def statuses(fits: xr.Dataset) -> str:
    """Return how many groups there are of each status, in words."""
    status = words_of(fits["status"])
    words = Counter(str(status[tuple(place.values())]) for place in places_of(fits))
    return ", ".join(f"{n} {word.replace('_', ' ')}" for word, n in words.most_common())


def summary(result: GroupedFitResult, query: str | None) -> pd.DataFrame:
    """Return one row for each group; see `GroupedFitResult.summary`."""
    maps = result.compute()
    dims = scan_dims(maps)
    lone = maps.expand_dims("group") if not dims else maps
    bare = lone.drop_vars([c for c in lone.coords if c not in lone.dims or c in (*dims, "group")])
    frame = fitting.summary(bare)
    shape = [maps.sizes[d] for d in dims]
    places = places_of(maps)
    order = [int(np.ravel_multi_index(tuple(p.values()), shape)) if p else 0 for p in places]
    frame = frame.drop(columns=[str(d) for d in bare.dims if d in frame]).iloc[order].reset_index(drop=True)
    frame.insert(0, "index", result.indices)
    frame.insert(list(frame.columns).index("nfev") + 1, "nvarys", len(options_of(maps)["stages"][-1]))
    for dim in dims if len(dims) == 2 else ():
        frame[dim] = maps[dim].values[[p[dim] for p in places]]
    return rows_kept(frame, query)


def as_html(frame: pd.DataFrame) -> str:
    """Return a table as HTML, six digits; text is escaped."""
    shown = frame.head(_ROWS).to_html(index=False, float_format=lambda v: f"{v:.6g}", na_rep="–", border=0)
    more = len(frame) - _ROWS
    return shown + (f"<p>… and {more:,} more rows: <code>result.summary()</code></p>" if more > 0 else "")


def overview_html(result: GroupedFitResult, *, compute: bool = True) -> str:
    """Return what became of all groups and the summary; unless they may be computed, only what is there already."""
    if compute:
        result.compute()
    return overview(result) if result.lazy else overview(result, Markup(as_html(summary(result, None))))


def report_html(result: GroupedFitResult, index: Any) -> str:
    """Return lmfit's report of one group, its stages below."""
    place = result.place(index)
    name = result.indices[places_of(result.fits).index(place)] if place else "0"
    fits = result.compute()
    status = str(words_of(fits["status"].isel(place))).replace("_", " ")
    parts = [f"<h3>{html.escape(name)}: {html.escape(status)}</h3>"]
    try:
        parts.append(result[index]._repr_html_())
    except InputError as error:
        parts.append(f"<p>{html.escape(str(error))}</p>")
    if len(options_of(fits)["stages"]) > 1 and "stage_values" in fits:
        parts.append(
            "<h4>Stages</h4>" + stages_summary(result, index).to_html(float_format=lambda v: f"{v:.6g}", border=0)
        )
    return "\n".join(parts)


def stages_summary(result: GroupedFitResult, index: Any) -> pd.DataFrame:
    """Return the parameters and redchi of one group after each stage; see `GroupedFitResult.stages_summary`.

    Values after each stage are kept by the fit; errors and redchi are those at these values.
    """
    place = result.place(index)
    maps = result.compute()
    options = options_of(maps)
    here = maps.isel(place)
    names = list(result.parameters)
    first = {n: float(s["value"]) if "value" in s else np.nan for n, s in options["parameters"].items()}
    columns: dict[tuple[str, str], list[Any]] = {("Initial", "value"): [first.get(n, np.nan) for n in names] + [np.nan]}
    stage_names = options.get("stage_names", [str(i) for i in range(len(options["stages"]))])
    several = len(options["stages"]) > 1
    if several and "stage_values" not in here:
        raise InputError("the values after each stage were not kept; fit with stages=Stages(…, keep=True)")
    measured = result.measured(place)
    windows = options.get("windows", [None] * len(stage_names))
    for number, (stage, free, window) in enumerate(zip(stage_names, options["stages"], windows, strict=True)):
        last = number == len(options["stages"]) - 1
        values = {
            n: float(here[n]) if last else float(here["stage_values"].isel(stage=number).sel(param=n)) for n in names
        }
        if last:
            errors, redchi = {n: float(here[f"{n}_stderr"]) for n in names}, float(here["redchi"])
        else:
            tied, errors, redchi = at_values(measured.in_window(window), options, values, free)
            values |= tied
        columns[(stage, "value")] = [*(values[n] for n in names), redchi]
        columns[(stage, "stderr")] = [*(errors.get(n, np.nan) for n in names), np.nan]
        columns[(stage, "vary")] = [*(n in free for n in names), None]
    frame = pd.DataFrame(columns, index=[*names, "redchi"])
    frame.columns = pd.MultiIndex.from_tuples(columns)
    return frame


def at_values(
    measured: Measured, options: dict[str, Any], values: dict[str, float], free: list[str]
) -> tuple[dict[str, float], dict[str, float], float]:
    """Return tied values, standard errors of the free parameters, and redchi at some values: no step is made."""
    params: dict[str, Any] = {}
    for name, recorded in options["parameters"].items():
        bounds = {k: recorded[k] for k in ("min", "max") if k in recorded}
        given = {"value": values[name], "vary": name in free, **bounds}
        params[name] = {"expr": recorded["expr"]} if "expr" in recorded else given
    how: dict[str, Any] = {"weights": measured.weights, "likelihood": options["likelihood"]}
    array = measured.values
    if options["likelihood"] == "binomial":
        array, how = measured.counts()
    once = fitting.fit(
        array, measured.model, params, dim=measured.dim, guess="params", retry=False, max_nfev=1, **how
    ).compute()
    tied = {n: float(once[n]) for n, p in params.items() if "expr" in p}
    return tied, {n: float(once[f"{n}_stderr"]) for n in free}, float(once["redchi"])
