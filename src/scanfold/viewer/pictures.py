"""The figures: a map that is clicked, and the spectrum, trace or pattern of one position."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from bokeh.models import ColorBar, FactorRange, FixedTicker, LinearColorMapper, LogColorMapper, Range1d
from bokeh.plotting import ColumnDataSource, figure

from scanfold.plot import colours
from scanfold.plot.positions import axis_of, label_of

#: Pixels of a map along each dim that are sent to the browser.
MOST = 1200
#: Longest side of a map, in pixels of the screen.
FRAME = 440
#: Points of a cloud that are sent to the browser.
POINTS = 50_000
TOOLS = "pan,wheel_zoom,box_zoom,reset,save"


def palette(name: str) -> list[str]:
    """Return 256 colours of matplotlib's map of that name."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(c) for c in colormaps[name](np.linspace(0, 1, 256))]


def _mapper(values: np.ndarray, log: bool = False) -> Any:
    if log and np.isfinite(values).any() and np.nanmax(values) > 0:
        low = float(np.nanmin(values[values > 0]))
        return LogColorMapper(
            palette(colours.SEQUENTIAL), low=low, high=float(np.nanmax(values)), nan_color=colours.GREY
        )
    low, high, name = colours.norm_and_map(values)
    return LinearColorMapper(palette(name), low=low, high=high, nan_color=colours.GREY)


def extent(ds: xr.Dataset, dim: str) -> tuple[float, float, str]:
    """Return the outer edges of the pixels along a dim, and what to call it; indices where it is not even."""
    axis = axis_of(ds, dim)
    values = axis.values
    steps = np.diff(values)
    if values.size > 1 and np.allclose(steps, steps[0], rtol=1e-3) and steps[0] != 0:
        return float(values[0] - steps[0] / 2), float(values[-1] + steps[0] / 2), axis.label
    return -0.5, values.size - 0.5, axis.label if values.size == 1 else f"{dim} (index)"


def _figure(title: str, across: str, up: str, **more: Any) -> Any:
    """Return an empty figure that is clicked."""
    return figure(
        title=title, x_axis_label=across, y_axis_label=up, tools=f"tap,{TOOLS}", toolbar_location="above", **more
    )


def image(
    ds: xr.Dataset,
    values: np.ndarray,
    dims: tuple[str, str],
    title: str,
    *,
    log: bool = False,
    words: Mapping[str, int] | None = None,
) -> Any:
    """Draw a map, or a pattern, with its first row at the top.

    Parameters
    ----------
    ds : Dataset
        Holds the coordinates.
    values : ndarray (rows, columns)
        NaN is grey.
    dims : (str, str)
        Of rows and columns.
    title : str
    log : bool
        Logarithmic colours.
    words : mapping of str to int, optional
        Meanings of the values of a flag variable: one colour each.
    """
    (top, bottom, rows), (left, right, columns) = (extent(ds, d) for d in dims)
    steps = [max(1, -(-n // MOST)) for n in values.shape]
    sent = values[:: steps[0], :: steps[1]].astype(np.float32)
    p = _figure(title, columns, rows, x_range=Range1d(left, right), y_range=Range1d(bottom, top))
    # square pixels: a figure of given ranges does not keep their proportions by itself
    across, up = abs(right - left), abs(bottom - top)
    p.frame_width = int(FRAME * min(1.0, max(across / up, 0.2)))
    p.frame_height = int(FRAME * min(1.0, max(up / across, 0.2)))
    # bokeh counts rows and columns with the coordinates, whatever way these run on the screen
    sent = sent[:: -1 if bottom < top else 1, :: -1 if right < left else 1]
    mapper, ticks = (_mapper(sent, log), {}) if words is None else _categories(words)
    if words is not None:
        codes = np.array(list(words.values()))
        sent = np.where(np.isfinite(sent), np.searchsorted(np.sort(codes), sent), np.nan).astype(np.float32)
    p.image(
        [sent], x=min(left, right), y=min(bottom, top), dw=abs(right - left), dh=abs(bottom - top), color_mapper=mapper
    )
    p.add_layout(ColorBar(color_mapper=mapper, **ticks), "right")
    return p


def _categories(words: Mapping[str, int]) -> tuple[Any, dict[str, Any]]:
    """Return the colours of flags in the order of their values, and the words beside the colour bar."""
    ordered = sorted(words, key=lambda word: words[word])
    chosen = dict(zip(words, colours.status_colours(words), strict=True))
    mapper = LinearColorMapper([chosen[w] for w in ordered], low=-0.5, high=len(ordered) - 0.5, nan_color=colours.GREY)
    places = list(range(len(ordered)))
    return mapper, {
        "ticker": FixedTicker(ticks=places),
        "major_label_overrides": dict(zip(places, ordered, strict=True)),
    }


def line(ds: xr.Dataset, values: np.ndarray, dim: str, title: str) -> Any:
    """Draw a map over one scan dim as points over it; named positions are ticks."""
    axis = axis_of(ds, dim)
    named: dict[str, Any] = {} if axis.words is None else {"x_range": FactorRange(*axis.words)}
    p = _figure(title, axis.label, "", **named)
    p.frame_width = p.frame_height = FRAME
    p.scatter(axis.values if axis.words is None else axis.words, values, size=6, color=colours.COMPONENTS[0])
    return p


def cloud(y: xr.DataArray, x: xr.DataArray, values: np.ndarray, title: str) -> Any:
    """Draw a map over free positions as coloured points where these are."""
    labels = [label_of(x), label_of(y)]
    p = _figure(title, *labels, match_aspect=True)
    p.frame_width = p.frame_height = FRAME
    step = max(1, values.size // POINTS)
    mapper = _mapper(values)
    points = ColumnDataSource({"x": x.values[::step], "y": y.values[::step], "v": values[::step].astype(np.float32)})
    p.scatter("x", "y", source=points, size=5, color={"field": "v", "transform": mapper})
    p.y_range.flipped = True
    p.add_layout(ColorBar(color_mapper=mapper), "right")
    return p


def spectrum(x: xr.DataArray, data: np.ndarray, fit: np.ndarray | None, title: str, label: str) -> Any:
    """Draw what was measured at one position and, below it, what the fit leaves.

    Parameters
    ----------
    x : DataArray (n,)
        The axis.
    data, fit : ndarray (n,)
        Measured values and the best fit, or None.
    title, label : str
        Of the figure, and of what was measured.
    """
    from bokeh.layouts import column

    axis = label_of(x)
    options: dict[str, Any] = {"tools": TOOLS, "width": 620, "toolbar_location": "above"}
    top = figure(title=title, y_axis_label=label, height=380 if fit is not None else 520, **options)
    top.scatter(x.values, data, size=4, color=colours.DATA, legend_label="data")
    if fit is None:
        top.xaxis.axis_label = axis
        return top
    top.line(x.values, fit, line_width=2, color=colours.BEST, legend_label="best fit")
    below = figure(x_range=top.x_range, x_axis_label=axis, y_axis_label="residual", height=160, **options)
    below.toolbar_location = None
    below.line(x.values[[0, -1]], [0, 0], color=colours.LEFT_OUT)
    below.scatter(x.values, data - fit, size=4, color=colours.DATA)
    return column(top, below)
