"""Figures of patterns, templates and gates, of contrast maps, centres of mass and fields.

Images have the first row of the scan at the top: x points to the right, y down, and so do arrows and colour wheels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from scanfold.detectors.canvas import (
    PALETTE,
    Array,
    Surface,
    colour_bar,
    new_figure,
    pattern_scale,
    scale_bar,
    unit_text,
)
from scanfold.plot.colours import BEST, DIVERGING, GREY, LEFT_OUT, SEQUENTIAL

#: Clusters side by side, arrows along the longer side of a quiver plot.
COLUMNS, ARROWS = 8, 32


def montage(ds: xr.Dataset) -> Any:
    """Draw mean pattern, template and gate of each cluster, one above the other, about the cross of the beam.

    Parameters
    ----------
    ds : Dataset
        With what `templates` and `gates` return.

    Returns
    -------
    matplotlib Figure
    """
    count = ds.sizes["cluster"]
    columns, blocks = min(count, COLUMNS), -(-count // COLUMNS)
    figure = new_figure(1.9 * columns + 1.0, 6.0 * blocks)
    axes = figure.subplots(3 * blocks, columns, squeeze=False)
    patterns = np.log10(1 + np.maximum(ds["cluster_counts"].values, 0.0))
    template = ds["template"].values
    limit = float(np.nanpercentile(np.abs(template[:, ds["used"].values]), 99.5)) or 1.0
    rows = (
        (patterns, {"cmap": SEQUENTIAL, "vmin": 0, "vmax": float(np.nanmax(patterns))}, "log₁₀(1 + mean counts)"),
        (template, {"cmap": DIVERGING, "vmin": -limit, "vmax": limit}, "template (norm 1)"),
        (ds["gate"].values, {"cmap": SEQUENTIAL, "vmin": 0, "vmax": 1}, "gate (weight)"),
    )
    center = ds["center"].values
    for each in axes.flat:
        each.set_axis_off()
    for row, (values, options, name) in enumerate(rows):
        image = None
        for number, label in enumerate(ds["cluster"].values):
            block, column = divmod(number, COLUMNS)
            ax = axes[3 * block + row, column]
            ax.set_axis_on()
            ax.set(xticks=[], yticks=[])
            image = ax.imshow(values[number], interpolation="nearest", **options)
            ax.plot(center[1], center[0], "+", color=LEFT_OUT, markersize=6, markeredgewidth=0.7)
            if row == 0:
                ax.set_title(f"cluster {label}", fontsize="medium")
            if row == 2:
                ax.set_xlabel(f"covers {float(ds['coverage'][number]):.0%}")
        for block in range(blocks):
            figure.colorbar(image, ax=list(axes[3 * block + row]), label=name, shrink=0.9, pad=0.01)
    scale_bar(axes[0, 0], *pattern_scale(ds))
    return figure


def mean_pattern(ds: xr.Dataset, number: int) -> Any:
    """Draw the mean counts of one cluster in log scale, with coordinates."""
    figure = new_figure(5.0, 4.3)
    ax = figure.add_subplot()
    values = np.log10(1 + np.maximum(ds["cluster_counts"].values[number], 0.0))
    image = ax.imshow(values, cmap=SEQUENTIAL, interpolation="nearest")
    center = ds["center"].values
    ax.plot(center[1], center[0], "+", color=BEST, markersize=10)
    ax.set(title=f"mean of cluster {ds['cluster'].values[number]}", xlabel="kx [pixel]", ylabel="ky [pixel]")
    scale_bar(ax, *pattern_scale(ds))
    figure.colorbar(image, ax=ax, label="log₁₀(1 + mean counts)")
    return figure


def hsv_map(ds: xr.Dataset, detectors: Sequence[str]) -> Any:
    """Draw the direction of the field as hue and its magnitude as brightness, with a colour wheel.

    Parameters
    ----------
    ds : Dataset
        With ``Ex, Ey`` by detector.
    detectors : sequence of str
        One panel each.

    Returns
    -------
    matplotlib Figure
    """
    surface = Surface(ds)
    width, height = surface.size(4.2)
    figure = new_figure(width * len(detectors) + 1.5, height + 0.5)
    axes = figure.subplots(1, len(detectors) + 1, squeeze=False, width_ratios=[width] * len(detectors) + [1.5])[0]
    tops = {}
    for ax, name in zip(axes, detectors, strict=False):
        ey, ex = (ds[n].sel(detector=name).values for n in ("Ey", "Ex"))
        tops[name] = robust_top(np.hypot(ex, ey))
        surface.draw(ax, colours_of(ex, ey, tops[name]))
        ax.set_title(f"{name}, brightest at {tops[name]:.3g} {unit_text(ds['Ex'])}".rstrip(), fontsize="medium")
    _wheel(axes[-1])
    return figure


def colours_of(ex: Array, ey: Array, top: float) -> Array:
    """Return colours (…, 3) of vectors: hue from the angle, full saturation, brightness up to `top`; grey for NaN.

    Examples
    --------
    >>> colours_of(np.array([-1.0, np.nan]), np.array([0.0, 0.0]), 1.0).round(2)
    array([[1.  , 0.  , 0.  ],
           [0.74, 0.74, 0.74]])
    """
    from matplotlib.colors import hsv_to_rgb, to_rgb

    known = np.isfinite(ex) & np.isfinite(ey)
    u, v = np.where(known, ex, 0.0), np.where(known, ey, 0.0)
    hue = (np.arctan2(v, u) + np.pi) / (2 * np.pi) % 1.0
    value = np.clip(np.hypot(u, v) / top, 0.0, 1.0)
    colours: Array = hsv_to_rgb(np.stack([hue, np.ones_like(hue), value], axis=-1))
    colours[~known] = to_rgb(GREY)
    return colours


def robust_top(magnitude: Array) -> float:
    """Return the 99th percentile of the finite values, 1 if that is zero."""
    finite = magnitude[np.isfinite(magnitude)]
    return (float(np.percentile(finite, 99)) if finite.size else 0.0) or 1.0


def _wheel(ax: Any) -> None:
    """Draw the colours of all directions; what points to the right on the map is right on the wheel."""
    axis = np.linspace(-1, 1, 201)
    x, y = np.meshgrid(axis, axis)
    colours = colours_of(x, y, 1.0)
    opaque = (np.hypot(x, y) <= 1).astype(float)
    ax.imshow(np.concatenate([colours, opaque[..., None]], axis=-1), extent=(-1, 1, 1, -1))
    ax.set(xlim=(-1.5, 1.5), ylim=(1.5, -1.5))
    ax.set_axis_off()
    for text, place in (("+x", (1.25, 0)), ("−x", (-1.25, 0)), ("+y", (0, 1.25)), ("−y", (0, -1.25))):
        ax.text(*place, text, ha="center", va="center")


def quiver(ds: xr.Dataset, detector: str) -> Any:
    """Draw the field as arrows on its magnitude; arrows are means over the squares that they stand in.

    Parameters
    ----------
    ds : Dataset
        With ``Ex, Ey`` by detector.
    detector : str
        Which.

    Returns
    -------
    matplotlib Figure
    """
    surface = Surface(ds)
    width, height = surface.size(5.4)
    figure = new_figure(width + 1.2, height + 0.4)
    ax = figure.add_subplot()
    ey, ex = (ds[n].sel(detector=detector).values for n in ("Ey", "Ex"))
    magnitude = np.hypot(ex, ey)
    top = robust_top(magnitude)
    image = surface.draw(ax, magnitude, cmap=SEQUENTIAL, vmin=0, vmax=top)
    x, y, u, v = surface.arrows(ex, ey, ARROWS)
    step = surface.arrow_step(ARROWS)
    typical = robust_top(np.hypot(u, v))
    ax.quiver(x, y, u, v, angles="xy", scale_units="xy", scale=typical / (1.2 * step), pivot="mid", color="white",
              units="xy", width=0.1 * step, headwidth=3.5, headlength=4, headaxislength=3.5, edgecolor="black",
              linewidth=0.3)  # fmt: skip
    ax.set_title(f"field, detector {detector}", fontsize="medium")
    colour_bar(figure, image, ax, ds["E_mag"], "|E|")
    return figure


def com_components(ds: xr.Dataset) -> Any:
    """Draw the centre of mass along x and y: for each detector both in one colour scale, symmetric about zero."""
    detectors = [str(d) for d in ds["detector"].values]
    surface = Surface(ds)
    width, height = surface.size(2.4)
    figure = new_figure(width * len(detectors) + 0.5, 2 * height + 1.3)
    axes = figure.subplots(2, len(detectors), squeeze=False)
    for column, detector in enumerate(detectors):
        both = ds[["com_x", "com_y"]].sel(detector=detector)
        limit = robust_top(np.abs(np.stack([both["com_x"].values, both["com_y"].values])))
        for row, name in enumerate(("com_x", "com_y")):
            options = {"cmap": DIVERGING, "vmin": -limit, "vmax": limit}
            image = surface.draw(axes[row, column], both[name].values, bar=not (row or column), **options)
        axes[0, column].set_title(detector.replace("_", " "), fontsize="medium")
        colour_bar(figure, image, list(axes[:, column]), both["com_x"], "", location="bottom")
    for row, name in enumerate(("com_x", "com_y")):
        place = {"rotation": 90, "ha": "right", "va": "center"}
        axes[row, 0].annotate(name, (0, 0.5), (-4, 0), "axes fraction", "offset points", **place)
    return figure


def contrast_maps(ds: xr.Dataset) -> Any:
    """Draw the contrast of every cluster in one scale; below, the most likely cluster and its probability."""
    labels = [int(c) for c in ds["cluster"].values]
    surface = Surface(ds)
    width, height = surface.size(2.6)
    columns = min(max(len(labels), 2), 4)
    rows = -(-len(labels) // columns) + 1
    figure = new_figure((width + 0.2) * columns + 0.8, (height + 0.35) * rows)
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat[len(labels) :]:
        ax.set_axis_off()
    limit = robust_top(np.abs(ds["score"].values))
    image = None
    for number, label in enumerate(labels):
        values = ds["score"][..., number].values
        image = surface.draw(axes.flat[number], values, cmap=DIVERGING, vmin=-limit, vmax=limit, bar=number == 0)
        axes.flat[number].set_title(f"contrast of cluster {label}", fontsize="medium")
    figure.colorbar(image, ax=list(axes[:-1].flat), label="score", shrink=0.8)
    _assignment(figure, axes[-1, 0], surface, ds, labels)
    axes[-1, 1].set_axis_on()
    image = surface.draw(axes[-1, 1], ds["confidence"].values, cmap=SEQUENTIAL, vmin=0, vmax=1, bar=False)
    axes[-1, 1].set_title("confidence", fontsize="medium")
    figure.colorbar(image, ax=axes[-1, 1], shrink=0.8)
    return figure


def _assignment(figure: Any, ax: Any, surface: Surface, ds: xr.Dataset, labels: list[int]) -> None:
    from matplotlib.colors import BoundaryNorm, ListedColormap

    place = np.searchsorted(labels, ds["assignment"].values).astype(float)
    place[ds["assignment"].values < 0] = np.nan
    colours = ListedColormap([PALETTE[i % len(PALETTE)] for i in range(len(labels))]).with_extremes(bad=GREY)
    norm = BoundaryNorm(np.arange(len(labels) + 1) - 0.5, len(labels))
    ax.set_axis_on()
    image = surface.draw(ax, place, cmap=colours, norm=norm, bar=False)
    ax.set_title("most likely cluster", fontsize="medium")
    bar = figure.colorbar(image, ax=ax, shrink=0.8, ticks=range(len(labels)))
    bar.ax.set_yticklabels([str(v) for v in labels])


def confidence_histogram(ds: xr.Dataset) -> Any:
    """Draw how sure the assignments are."""
    figure = new_figure(5.0, 3.4)
    ax = figure.add_subplot()
    values = ds["confidence"].values
    values = values[np.isfinite(values)]
    ax.hist(values, bins=np.linspace(0, 1, 41), color=PALETTE[0])
    if values.size:
        ax.axvline(float(values.mean()), color=PALETTE[3], label=f"mean {values.mean():.2f}")
        ax.axvline(1 / ds.sizes["cluster"], color="black", linestyle=":", label="by chance")
        ax.legend(frameon=False)
    ax.set(xlabel="probability of the most likely cluster", ylabel="positions", xlim=(0, 1))
    return figure


def split_halves(ds: xr.Dataset) -> Any:
    """Draw how well the templates of two halves agree, beside other clusters and shuffled labels."""
    figure = new_figure(max(6.0, 0.8 * ds.sizes["cluster"] + 3), 3.4)
    axes = figure.subplots(1, 2, sharey=True)
    place = np.arange(ds.sizes["cluster"])
    for ax, name in zip(axes, ("correlation", "ssim"), strict=True):
        kinds = {"": (PALETTE[0], "two halves"), "_other": (PALETTE[1], "half of another cluster, largest"),
                 "_shuffled": (GREY, "two halves, shuffled labels")}  # fmt: skip
        for i, (kind, (color, label)) in enumerate(kinds.items()):
            if name + kind in ds:
                ax.bar(place + 0.27 * (i - 1), ds[name + kind].values, 0.27, color=color, label=label)
        ax.axhline(0.5, color="black", linestyle=":", linewidth=1)
        ax.axhline(0, color="black", linewidth=0.6)
        ax.set(title=name if name != "ssim" else "structural similarity", xlabel="cluster")
        ax.set_xticks(place, [str(c) for c in ds["cluster"].values])
    figure.legend(
        *axes[0].get_legend_handles_labels(), frameon=False, ncols=3, loc="outside lower center", fontsize="small"
    )
    return figure


def derived(ds: xr.Dataset) -> Any:
    """Draw divergence, curl, charge and phase, those that there are."""
    names = [n for n in ("divergence", "curl", "charge", "phase") if n in ds]
    surface = Surface(ds)
    width, height = surface.size(3.0)
    figure = new_figure((width + 0.9) * len(names), height + 0.4)
    for ax, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        limit = robust_top(np.abs(ds[name].values))
        image = surface.draw(ax, ds[name].values, cmap=DIVERGING, vmin=-limit, vmax=limit)
        ax.set_title(name, fontsize="medium")
        colour_bar(figure, image, ax, ds[name], "")
    return figure
