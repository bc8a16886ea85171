"""Sections of the page that fits of time traces have besides: their quality, filtered histograms, places of cells."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import xarray as xr

from scanfold._markup import Markup, element, image, table
from scanfold.report import figures

#: Which cells the histograms of this section show.
GOOD = "r_squared > 0.9"
#: Parameters with histograms at most.
_MOST = 8


def of_traces(fits: xr.Dataset) -> bool:
    """Say whether these are fits of time traces, over cells."""
    return "request" in fits.attrs and fits["status"].dims == ("cell",)


def quality(fits: xr.Dataset, limit: int) -> list[Markup]:
    """Return R² of all cells, what it hides, and histograms of the parameters of the good ones; nothing for others."""
    if not of_traces(fits):
        return []
    from scanfold.traces import quality as judge
    from scanfold.traces import quality_chart
    from scanfold.traces.request import FittingRequest
    from scanfold.traces.results import to_frame

    request = FittingRequest.from_record(fits.attrs["request"])
    frame = to_frame(fits, request)
    found = judge(frame, request)
    shares = ", ".join(f"{share:.1f}% {name}" for name, share in found.shares.items())
    text = (
        f"Of {found.cells:,} cells {shares}: R² above 0.9 is good, above 0.7 fair. R² does not see what follows: "
        f"{found.doubted:.1f}% of the good cells have at least one of these reasons for doubt."
    )
    rows = [
        [row["reason"], f"{row['fitted']:.1f}%", f"{row['good']:.1f}%"]
        for row in found.reasons.to_dict("records")
        if row["fitted"] > 0.0
    ]
    chart = figures.draw(lambda figure: quality_chart(frame, ax=figure.add_subplot()), (7, 4), limit)
    failures = json.loads(fits.attrs.get("failures", "{}"))
    parts = (
        [element("h3", "Files that could not be fitted"), table(("file", "reason"), failures.items())]
        if failures
        else []
    )
    parts += [element("p", text), image(chart, "R² of all cells, the best first")]
    parts += [table(("reason for doubt", "of the fitted", "of the good"), rows)] if rows else []
    for name in request.varying[:_MOST]:
        drawn = figures.draw(partial(_draw_parameter, frame=frame, name=name), (11, 3.6), limit)
        parts.append(image(drawn, f"Histogram of {name} of the good cells, and where they are if that is known"))
    return parts


def _draw_parameter(figure: Any, frame: Any, name: str) -> None:
    from scanfold.traces import parameter_histogram, position_scatter

    placed = {"position_x", "position_y"} <= set(frame.columns)
    axes = figure.subplots(1, 2) if placed else [figure.add_subplot()]
    parameter_histogram(frame, name, query=GOOD, ax=axes[0])
    if placed:
        position_scatter(frame, name, query=GOOD, ax=axes[1])


def draw_cell(figure: Any, fits: xr.Dataset, place: dict[str, int]) -> None:
    """Draw the trace of a cell from its file, the fit and the residual."""
    from scanfold.traces import plot_trace

    plot_trace(fits, place["cell"], axes=figure.subplots(2, 1, sharex=True, height_ratios=(3, 1)))


def lines(fits: xr.Dataset) -> str:
    """Return the Python lines that make the fits again."""
    from scanfold.traces.request import FittingRequest

    request = FittingRequest.from_record(fits.attrs["request"])
    folders = {str(Path(str(s)).parent) for s in fits["source"].values} if "source" in fits.coords else set()
    where = repr(folders.pop()) if len(folders) == 1 else "…"
    feature = f", feature={fits.attrs['feature']!r}" if "feature" in fits.attrs else ""
    return "\n".join(
        [
            "from scanfold import traces",
            "",
            "request = traces.FittingRequest(",
            f"    {request.model_type!r},",
            f"    model_params={request.model_params!r},",
            f"    model_bounds={request.model_bounds!r},",
            f"    fixed={request.fixed!r},",
            f"    weights={request.weights!r},",
            ")",
            f"run = traces.fit_folder({where}, request{feature})",
        ]
    )
