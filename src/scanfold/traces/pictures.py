"""Pictures of fits of traces: their quality, histograms of parameters, cells in their places, single traces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scanfold.conventions import InputError, unknown
from scanfold.plot import colours, fit
from scanfold.plot.axes import given_or_new
from scanfold.plot.positions import plain, rows_kept
from scanfold.traces.files import in_hours, load_analysis_csv
from scanfold.traces.fit import frame_weights, select_cells
from scanfold.traces.models import get_model
from scanfold.traces.quality import FAIR, GOOD, grade, r_squared_of
from scanfold.traces.request import FittingRequest

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

#: Colours of good, fair and poor: green, orange, red, of those that colour-blind readers tell apart.
GRADES = {"good": colours.COMPONENTS[1], "fair": colours.COMPONENTS[3], "poor": colours.BEST}
BINS = 30


def quality_chart(results: pd.DataFrame, *, ax: Any = None) -> Any:
    """Draw R² of all cells, sorted: green above 0.9, orange above 0.7, red below; failed cells are counted.

    Parameters
    ----------
    results : DataFrame
        Of `load_fitted` or ``FolderRun.results``.
    ax : matplotlib Axes, optional
        Where to draw; otherwise a new figure.

    Returns
    -------
    matplotlib Axes
    """
    ax = given_or_new(ax)
    values = r_squared_of(results)
    values = np.sort(values[~np.isnan(values)])[::-1]
    grades, place = grade(values), np.arange(values.size)
    for name, colour in GRADES.items():
        here = grades == name
        share = 100.0 * here.sum() / max(len(results), 1)
        ax.scatter(place[here], values[here], s=9, color=colour, label=f"{name}: {share:.1f} %", linewidths=0)
    failed = len(results) - values.size
    if failed:
        ax.scatter([], [], s=0, label=f"failed: {100.0 * failed / len(results):.1f} %")
    for level in (GOOD, FAIR):
        ax.axhline(level, color=colours.LEFT_OUT, linewidth=0.8, linestyle=":")
    low = float(values.min()) if values.size else 0.0
    ax.set(
        title=f"{len(results):,} cells",
        xlabel="cells, best first",
        ylabel="R²",
        ylim=(max(min(low, 0.0), -1.0) - 0.03, 1.03),
    )
    ax.legend(fontsize="small", frameon=False, loc="lower left", markerscale=2)
    return ax


def parameter_histogram(results: pd.DataFrame, name: str, *, query: str | None = None, ax: Any = None) -> Any:
    """Draw the histogram of a parameter, with its mean and standard deviation.

    Parameters
    ----------
    results : DataFrame
        Of `load_fitted` or ``FolderRun.results``.
    name : str
        A parameter, or any other column of numbers.
    query : str, optional
        A pandas query on the columns, such as ``"r_squared > 0.9 and status == 'converged'"``.
    ax : matplotlib Axes, optional
        Where to draw; otherwise a new figure.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    InputError
        For a column that is not there, or a query that cannot be used.
    """
    values, label = _column(results, name, query)
    ax = given_or_new(ax)
    finite = values[np.isfinite(values)]
    ax.hist(finite, bins=BINS, color=colours.COMPONENTS[0])
    ax.margins(y=0.1)
    ax.set(xlabel=label, ylabel="cells")
    text = f"{finite.mean():.4g} ± {finite.std():.3g}" if finite.size else "no values"
    ax.set_title(plain(f"{name}: {text}, {finite.size:,} of {len(results):,} cells"), fontsize="medium")
    if query is not None:
        ax.annotate(plain(query), (0.99, 0.98), xycoords="axes fraction", ha="right", va="top", fontsize="x-small")
    return ax


def position_scatter(results: pd.DataFrame, name: str, *, query: str | None = None, ax: Any = None) -> Any:
    """Draw the cells where they are, coloured by a parameter.

    Parameters
    ----------
    results : DataFrame
        With ``position_x`` and ``position_y``, which the table that traces are made from has.
    name, query, ax
        As for `parameter_histogram`; cells that the query leaves out are grey.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    InputError
        If the results have no positions, or as for `parameter_histogram`.
    """
    if not {"position_x", "position_y"} <= set(results.columns):
        raise InputError("the results have no position_x and position_y; traces with positions have them")
    results = results.reset_index(drop=True)  # joined tables may number their rows alike
    values, label = _column(results, name, query)
    ax = given_or_new(ax)
    chosen = results.index.isin(rows_kept(results, query).index)
    shown = np.full(len(results), np.nan)
    shown[chosen] = values
    known = np.isfinite(shown)
    x, y = results["position_x"].to_numpy(float), results["position_y"].to_numpy(float)
    ax.scatter(x[~known], y[~known], s=12, color=colours.GREY, linewidths=0)
    low, high, cmap = colours.norm_and_map(shown[known])
    drawn = ax.scatter(x[known], y[known], s=16, c=shown[known], cmap=cmap, vmin=low, vmax=high, linewidths=0)
    ax.figure.colorbar(drawn, ax=ax, label=label)
    ax.set(xlabel="position x", ylabel="position y", title=plain(name))
    ax.set_aspect("equal")
    ax.invert_yaxis()
    return ax


def plot_trace(fits: xr.Dataset, cell: int | str, *, axes: Any = None) -> Any:
    """Draw a trace, its fit and the residual, from the file that it is of.

    Parameters
    ----------
    fits : Dataset
        ``FolderRun.dataset``, or a part of it: its coordinate ``source`` says where the traces are.
    cell : int or str
        Place along ``cell``, or label.
    axes : pair of matplotlib Axes, optional
        Where to draw; otherwise a new figure.

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    InputError
        If there is no such cell, or its file does not have it any more.
    """
    labels = fits["label"].values
    if isinstance(cell, str) and cell not in labels:
        raise unknown("cell", cell, map(str, labels))
    if not isinstance(cell, str) and not -len(labels) <= cell < len(labels):
        raise InputError(f"cell={cell!r} is outside the {len(labels)} cells")
    place = list(labels).index(cell) if isinstance(cell, str) else int(cell) % len(labels)
    here = fits.isel(cell=[place])
    request = FittingRequest.from_record(fits.attrs["request"])
    traces = load_analysis_csv(str(here["source"].values[0]), feature=fits.attrs.get("feature"))
    label = str(labels[place])
    trace = in_hours(select_cells(traces[traces.attrs["primary"]], label))
    named = here.assign_coords(cell=[label])
    return fit(named, trace, model=request.model.function, weights=frame_weights(trace, request), axes=axes, cell=0)


def export_plots(results: pd.DataFrame, out: str | Path, *, query: str | None = None) -> list[Path]:
    """Write PNG files: ``quality``, ``<parameter>`` and, where cells have places, ``<parameter>_positions``.

    Parameters
    ----------
    results : DataFrame
        Of one model.
    out : str or Path
        The folder; made if it is not there.
    query : str, optional
        Which cells the histograms show; see `parameter_histogram`.

    Returns
    -------
    list of Path

    Raises
    ------
    InputError
        If the folder cannot be made, or the query not be used.
    """
    from matplotlib.figure import Figure

    rows_kept(results, query)
    target = Path(out).expanduser()
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {target}: {error.strerror}") from None
    pictures: dict[str, Any] = {"quality": lambda ax: quality_chart(results, ax=ax)}
    for name in varied(results):
        pictures[name] = lambda ax, n=name: parameter_histogram(results, n, query=query, ax=ax)
        if {"position_x", "position_y"} <= set(results.columns):
            pictures[f"{name}_positions"] = lambda ax, n=name: position_scatter(results, n, query=query, ax=ax)
    paths = []
    for name, content in pictures.items():
        figure = Figure(figsize=(6.4, 4.4), layout="constrained")
        content(figure.add_subplot())
        paths.append(target / f"{name}.png")
        figure.savefig(paths[-1], dpi=150)
    return paths


def varied(results: pd.DataFrame) -> list[str]:
    """Return the parameters that were fitted: those with an error, or all of the older layout."""
    names = [n for kind in dict.fromkeys(results["model_type"]) for n in get_model(kind).names if n in results]
    errors = [n for n in dict.fromkeys(names) if f"{n}_stderr" in results]
    fixed = {n for n in errors if (results[f"{n}_stderr"].fillna(0.0) == 0.0).all()}
    return [n for n in dict.fromkeys(names) if n not in fixed or len(fixed) == len(errors)]


def _column(results: pd.DataFrame, name: str, query: str | None) -> tuple[Any, str]:
    """Return a column of the cells that a query keeps, and its name with units."""
    numbers = [str(c) for c in results.columns if results[c].dtype.kind in "iuf"]
    if name not in numbers:
        raise unknown("column", name, numbers)
    kinds = set(results["model_type"])
    units = get_model(next(iter(kinds))).units.get(name, "") if len(kinds) == 1 else ""
    label = name if units in ("", "1") else f"{name} [{units}]"
    return rows_kept(results, query)[name].to_numpy(float), plain(label)
