"""Figures of the page as PNG, within a limit of size."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from scanfold.plot import colours, fit, parameter_map
from scanfold.plot.positions import kept, scan_dims

#: Bytes of all PNGs of a page together; in base64 and with the text that stays below 5 MB.
ROOM = 3_300_000
#: Dots per inch, and the fewest that can still be read.
_RESOLUTION, _COARSEST = 110.0, 32.0
#: Up to this many values a histogram shows all, outliers too.
_FEW = 100


def draw(content: Callable[[Any], object], size: tuple[float, float], limit: int) -> bytes:
    """Return a figure as PNG.

    Parameters
    ----------
    content : callable
        Draws into the figure that it gets.
    size : (float, float)
        Width and height in inches.
    limit : int
        Bytes of the PNG: the resolution falls until it is met.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    content(figure)
    dpi, data = _RESOLUTION, _png(figure, _RESOLUTION)
    figure.set_layout_engine("none")
    while len(data) > limit and dpi > _COARSEST:
        # Bytes grow with the area, a little slower for smaller figures.
        dpi = max(_COARSEST, 0.9 * dpi * float(np.sqrt(limit / len(data))))
        data = _png(figure, dpi)
    return data


def _png(figure: Any, dpi: float) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def draw_parameter(figure: Any, fits: xr.Dataset, name: str, query: str | None) -> None:
    """Draw the values, the errors and the histogram of one parameter, of the positions that a query keeps."""
    two = len(scan_dims(fits)) == 2
    axes = figure.subplots(1, 3 if two else 2, width_ratios=(1, 1, 0.8) if two else (2, 0.8))
    parameter_map(fits, name, query=query, ax=axes[0])
    if two:
        parameter_map(fits, name, errors=True, query=query, ax=axes[1])
    values = fits[name].where(kept(fits, query)).values
    values = values[np.isfinite(values)]
    low, high = colours.limits(values) if values.size > _FEW else (-np.inf, np.inf)
    inside = values[(values >= low) & (values <= high)]
    axes[-1].hist(inside, bins=min(60, max(8, int(np.sqrt(inside.size)))), color=colours.COMPONENTS[0])
    part = f"{name}, 2nd to 98th percentile" if values.size > _FEW else name
    axes[-1].set(title="histogram", xlabel=part, ylabel="positions")
    axes[-1].locator_params("x", nbins=5)


def draw_position(
    figure: Any, fits: xr.Dataset, data: xr.DataArray, place: dict[str, int], model: Any, weights: Any
) -> None:
    """Draw the fit at one position and its residual."""
    axes = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    fit(fits, data, model=model, weights=weights, axes=axes, **place)
