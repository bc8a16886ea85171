"""`report`: everything about a run on one self-contained page."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from scanfold._markup import Markup, element, image, page, section, table
from scanfold._paths import file_target, write_whole
from scanfold.conventions import SCAN_DIMS, InputError, ScanError, primary, provenance, versions
from scanfold.fitting.results import parameter_names, summary
from scanfold.io.reopen import reopen
from scanfold.plot.overview import quality
from scanfold.plot.positions import drawable, kept, scan_dims, thin
from scanfold.plot.tally import tally
from scanfold.report import figures, maps, recipe, statistics, traces

#: Maps up to this size are computed at once; larger ones are read variable by variable.
_AT_ONCE = 2**30
#: Pixels along a side of a map, parameters with maps, worst fits shown, rows of a table of all positions.
_PIXELS, _MAPS, _WORST, _ROWS = 600, 40, 6, 60


@dataclass(frozen=True)
class _Run:
    """What the sections are written from."""

    fits: xr.Dataset
    recorded: Mapping[str, Any]
    names: list[str]
    varying: list[str]
    good: str | None
    good_name: str
    limit: int


def report(
    fits: xr.Dataset,
    path: str | Path,
    data: xr.DataArray | xr.Dataset | None = None,
    *,
    model: Callable[..., Any] | None = None,
    weights: Any = None,
) -> Path:
    """Write one self-contained HTML page about a run.

    Of fits it holds what was fitted and how, counts of each status in words, statistics and maps of the parameters,
    the worst fits, and the lines that make the fits again. Of other maps, scans, simulated patterns and groups it
    holds what is in them, maps, some frames, where the groups lie, and how it was made. It is smaller than 5 MB and
    loads nothing.

    Parameters
    ----------
    fits : Dataset
        Of `scanfold.fit`, another operation, or `scanfold.open_scan`: grids, lines, free positions and named groups.
        Lazy fits of up to 1 GiB are computed once; larger ones, and other maps, variable by variable, so save them
        first.
    path : str or Path
        Of the page; an existing file is replaced.
    data : DataArray, or Dataset with a primary variable, optional
        What was fitted, to draw the worst fits; otherwise the recorded file is opened, if all of it was fitted.
        For groups of `scanfold.grouping.plan_groups`, the scan with their positions.
    model : lmfit.Model or callable, optional
        Needed to draw the fits of a function of your own.
    weights : DataArray or array, optional
        The weights of the fit, where they were an array, for the same end.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    InputError
        Before any computing: if `fits` holds nothing, fits have more than two scan dims, or the folder is not there.

    Examples
    --------
    >>> import tempfile, lmfit, scanfold as sf
    >>> line = xr.DataArray([[1.0, 3.1, 4.9, 7.0]], dims=("position", "time"))
    >>> fits = sf.fit(line, lmfit.models.LinearModel(), dim="time")
    >>> page = report(fits, Path(tempfile.mkdtemp()) / "report.html", line)
    >>> "slope" in page.read_text()
    True
    """
    target = file_target(path)
    _check(fits)
    title = str(fits.attrs.get("title") or provenance(fits).get("operation") or "maps")
    if "status" not in fits:
        content = [_header(title, dict(fits.sizes), provenance(fits)), *maps.sections(fits, data, figures.ROOM // 30)]
    else:
        title, content = str(fits.attrs.get("title", "fits")), _of_fits(_load(fits), data, model, weights)
    write_whole(target, page(title, *content, section("How to cite", *_cite(provenance(fits)))).encode())
    return target


def _of_fits(
    run: _Run, data: xr.DataArray | xr.Dataset | None, model: Callable[..., Any] | None, weights: Any
) -> list[Markup]:
    dims = {d: run.fits.sizes[d] for d in scan_dims(run.fits)}
    return [
        _header(run.fits.attrs.get("title", "fits"), dims, run.recorded),
        section("What was fitted", *_what(run)),
        section("What became of the fits", *_status(run)),
        section("Quality of the traces", *traces.quality(run.fits, run.limit)),
        section(f"Parameters of the {run.good_name}", *_parameters(run)),
        section("All positions", *_all_positions(run)),
        section("Worst fits", *_worst(run, data, model, weights)),
        section("To make these fits again", *_again(run)),
    ]


def _check(fits: xr.Dataset) -> None:
    dims = scan_dims(fits)
    if "status" in fits:
        parameter_names(fits)
        missing = [n for n in ("redchi", "nfev", "n_used") if n not in fits]
        if missing:
            raise InputError(f"this Dataset lacks {', '.join(missing)}; expected what sf.fit returns")
        if len(dims) not in (1, 2) or 0 in fits["status"].shape:
            sizes = dict(fits["status"].sizes)
            raise InputError(f"the maps have the shape {sizes}; select until one or two dims are left")


def _load(fits: xr.Dataset) -> _Run:
    names = parameter_names(fits)
    fits = fits[drawable(fits)]
    if fits.nbytes <= _AT_ONCE:
        fits = fits.compute()
    recorded = provenance(fits)
    parameters = recorded.get("options", {}).get("parameters", {})
    varying = [n for n in names if parameters.get(n, {}).get("vary", True)]
    shown = min(len(varying), _MAPS)
    return _Run(fits, recorded, names, varying, *statistics.good_positions(fits), figures.ROOM // (shown + _WORST + 1))


def _header(title: object, sizes: Mapping[Any, int], recorded: Mapping[str, Any]) -> Markup:
    shape = " × ".join(f"{n:,} {d}" for d, n in sizes.items())
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    used = ", ".join(f"{n} {v}" for n, v in recorded.get("versions", versions()).items())
    positions = f"{math.prod(sizes.values()):,} positions ({shape})" if set(sizes) <= set(SCAN_DIMS) else shape
    return element(
        "header",
        element("h1", title),
        element("p", f"{positions}. Page made {made}. Computed with {used}.", class_="note"),
    )


def _what(run: _Run) -> list[Markup]:
    if run.recorded.get("operation") != "fit":
        return [element("p", "The Dataset holds no record of how it was made.")]
    options = run.recorded["options"]
    source = run.recorded.get("inputs", {}).get("data", {}).get("source", {})
    rows: list[list[object]] = [["model", recipe.model_code(options["model"])], *recipe.option_rows(options)]
    if "path" in source:
        when = datetime.fromtimestamp(source.get("mtime_ns", 0) / 1e9, UTC).strftime("%Y-%m-%d %H:%M UTC")
        rows.append(["input file", f"{source['path']}, {source.get('size', 0):,} bytes, changed {when}"])
    if "dataset" in source:
        rows.append(["dataset", source["dataset"]])
    head = ("parameter", "start", "min", "max", "varies", "expression")
    return [table(("", ""), rows), table(head, recipe.parameter_rows(options))]


def _status(run: _Run) -> list[Markup]:
    counts = tally(run.fits)
    rows = [
        [word.replace("_", " "), n, f"{n / counts.positions:.1%}", statistics.MEANINGS.get(word, "")]
        for word, n in sorted(counts.status.items(), key=lambda item: -item[1])
    ]
    picture = figures.draw(lambda figure: quality(run.fits, figure=figure), (10, 7), run.limit)
    text = "Map and counts of the status; histograms of redchi and of the evaluations of the model"
    return [table(("status", "positions", "", "meaning"), rows), image(picture, text)]


def _parameters(run: _Run) -> list[Markup]:
    good = kept(run.fits, run.good).values
    head = ("parameter", "positions", "median", "16th percentile", "84th percentile", "median error")
    parts = [table(head, statistics.parameter_rows(run.fits, run.names, good))]
    small = thin(run.fits, _PIXELS)
    size = (12, 3.4) if len(scan_dims(run.fits)) == 2 else (11, 3.6)
    for name in run.varying[:_MAPS]:
        here = small[[name, f"{name}_stderr", "status"]].compute()
        drawn = figures.draw(partial(figures.draw_parameter, fits=here, name=name, query=run.good), size, run.limit)
        parts += [element("h3", name), image(drawn, f"Values, errors and histogram of {name}")]
    if len(run.varying) > _MAPS:
        parts.append(element("p", f"No maps here of {', '.join(run.varying[_MAPS:])}.", class_="note"))
    if small.sizes != run.fits.sizes:
        parts.append(element("p", "The maps are thinned; the statistics are of all positions.", class_="note"))
    return parts


def _all_positions(run: _Run) -> list[Markup]:
    """Return the table of all positions of short lines and of named groups."""
    if len(scan_dims(run.fits)) != 1 or run.fits["status"].size > _ROWS:
        return []
    frame = summary(run.fits)
    rows = [[v.item() if isinstance(v, np.generic) else v for v in row] for row in frame.itertuples(index=False)]
    return [table(list(frame.columns), rows)]


def _worst(
    run: _Run, data: xr.DataArray | xr.Dataset | None, model: Callable[..., Any] | None, weights: Any
) -> list[Markup]:
    places = statistics.worst(run.fits, _WORST)
    if not places:
        return [element("p", "No position has a fit.")]
    head = [*scan_dims(run.fits), "status", "redchi", *run.varying]
    parts = [
        element("p", "The largest reduced χ² among all positions that kept their numbers.", class_="note"),
        table(head, statistics.position_rows(run.fits, run.varying, places)),
    ]
    try:
        one: Callable[..., object] = partial(traces.draw_cell, fits=run.fits)
        if data is not None or not (traces.of_traces(run.fits) and "source" in run.fits.coords):
            array = reopen(run.recorded.get("inputs", {}).get("data", {})) if data is None else primary(data)
            one = partial(figures.draw_position, fits=run.fits, data=array, model=model, weights=weights)
        for place in places:
            drawn = figures.draw(partial(one, place=place), (7, 4), run.limit)
            where = ", ".join(f"{d} {i}" for d, i in place.items())
            parts.append(image(drawn, f"Data, best fit and residual at {where}"))
    except ScanError as error:
        parts.append(element("p", f"Not drawn: {error}", class_="note"))
    return parts


def _again(run: _Run) -> list[Markup]:
    if run.recorded.get("operation") != "fit":
        return []
    return [
        element("pre", traces.lines(run.fits) if traces.of_traces(run.fits) else recipe.lines(run.recorded)),
        recipe.record(run.recorded),
    ]


def _cite(recorded: Mapping[str, Any]) -> list[Markup]:
    used = recorded.get("versions", versions())
    text = f"scanfold {used.get('scanfold', '')}, with its version"
    if recorded.get("operation") in (None, "fit"):
        text += (
            f"; the parameters, models and statistics are those of lmfit {used.get('lmfit', '')}: M. Newville et al., "
            "LMFIT: Non-Linear Least-Squares Minimization and Curve-Fitting for Python, doi:10.5281/zenodo.598352"
        )
    return [element("p", f"{text}.")]
