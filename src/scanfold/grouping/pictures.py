"""Pictures: where the groups lie and how often each position is in one, and frames on a logarithmic scale."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from scanfold.conventions import InputError, primary
from scanfold.grouping.overlap import coverage
from scanfold.grouping.positions import positions_of


def draw_groups(plan: xr.Dataset, positions: Any, *, number: int = 12, ax: Any = None) -> Any:
    """Draw all positions, coloured by how many groups they are in, and some groups as outlines.

    Parameters
    ----------
    plan : Dataset
        From `plan_groups`.
    positions : Dataset, DataArray or array
        What it was made for.
    number : int
        How many groups are outlined, the first ones of the plan; their seeds are crosses.
    ax : matplotlib Axes, optional
        Where to draw; otherwise a new figure.

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> from scanfold.grouping import plan_groups
    >>> y, x = np.divmod(np.arange(100), 10)
    >>> points = np.stack([y, x], axis=1)
    >>> draw_groups(plan_groups(points, nsamples=30, gridsize=2), points).get_title()
    '30 groups of 4; 7... % of 100 positions are in one'
    """
    import matplotlib.pyplot as plt

    from scanfold.plot import colours

    y, x = (a.values for a in positions_of(positions))
    if y.size != plan.attrs["n_positions"]:
        raise InputError(f"the plan is of {plan.attrs['n_positions']} positions, and there are {y.size}")
    if ax is None:
        _, ax = plt.subplots(figsize=(6.4, 5.6), layout="constrained")
    seen = coverage(plan)
    count = seen["count"].values
    size = np.clip(8000 / y.size, 1, 24)
    ax.scatter(x[count == 0], y[count == 0], size, color=colours.GREY, label="in no group")
    drawn = ax.scatter(x[count > 0], y[count > 0], size, c=count[count > 0], cmap=colours.SEQUENTIAL, vmin=1)
    ax.figure.colorbar(drawn, ax=ax, label="groups that a position is in", ticks=_whole(count.max()))
    members = plan["nn_indices"].values[:number]
    for row, seed in zip(members, plan["seed_index"].values[:number], strict=True):
        angle = np.arctan2(y[row] - y[row].mean(), x[row] - x[row].mean())
        around = row[np.argsort(angle)]
        ax.fill(x[around], y[around], facecolor="none", edgecolor=colours.BEST, linewidth=1.2)
        ax.plot(x[seed], y[seed], "x", color=colours.BEST, markersize=4)
    ax.set(aspect="equal", xlabel=_label(positions, "x"), ylabel=_label(positions, "y"))
    ax.invert_yaxis()
    ax.set_title(
        f"{plan.sizes['group']} groups of {plan.sizes['channel']}; "
        f"{100 * float(seen['fraction']):.0f} % of {y.size} positions are in one"
    )
    return ax


def draw_patterns(scan: xr.Dataset | xr.DataArray, *, number: int = 8) -> Any:
    """Draw frames on one logarithmic scale, spread evenly over a scan, or the members of the first groups.

    Parameters
    ----------
    scan : Dataset or DataArray
        A scan (position | ky, kx), of which `number` frames are drawn, or gathered groups, a row for each of two.
    number : int
        How many frames of a scan.

    Returns
    -------
    matplotlib Figure
    """
    import matplotlib.pyplot as plt
    from matplotlib.colors import LogNorm

    frames = primary(scan)
    if frames.ndim == 4:
        shown, columns = frames[:2].values.reshape(-1, *frames.shape[2:]), frames.shape[1]
        titles = [f"group {g}, channel {c}" for g in range(min(2, frames.shape[0])) for c in range(columns)]
    else:
        chosen = np.unique(np.linspace(0, frames.shape[0] - 1, number).astype(int))
        shown, columns = frames[chosen].values, min(4, chosen.size)
        titles = [f"{frames.dims[0]} {i}" for i in chosen]
    if frames.attrs.get("kind") == "amplitude":
        shown = shown.astype(float) ** 2
    top = float(np.nanmax(shown))
    if not top > 0:
        raise InputError("the frames that would be drawn hold no intensity; draw others: scan.isel(position=…)")
    rows = -(-len(shown) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(2.1 * columns + 1, 2.3 * rows), layout="constrained", squeeze=False
    )
    for ax in axes.ravel():
        ax.set_axis_off()
    bottom = max(top * 1e-6, float(np.min(shown[shown > 0])))
    norm = LogNorm(bottom, top)
    for ax, frame, title in zip(axes.ravel(), shown, titles, strict=False):
        image = ax.imshow(np.maximum(frame, bottom), norm=norm, cmap="magma")
        ax.set_title(title, fontsize=8)
    figure.colorbar(image, ax=axes, label="intensity")
    return figure


def _whole(most: int) -> list[int]:
    return sorted({int(v) for v in np.linspace(1, max(1, most), 6)})


def _label(positions: Any, axis: str) -> str:
    held: Any = positions.coords if isinstance(positions, xr.Dataset | xr.DataArray) else {}
    units = held[f"position_{axis}"].attrs.get("units") if f"position_{axis}" in held else None
    return f"{axis} ({units})" if units else axis
