"""Where the groups lie, and how often each position is in one."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from scanfold.conventions import InputError
from scanfold.grouping.overlap import coverage
from scanfold.grouping.positions import positions_of
from scanfold.plot import colours
from scanfold.plot.axes import given_or_new
from scanfold.plot.positions import dot_size


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
    y, x = (a.values for a in positions_of(positions))
    if y.size != plan.attrs["n_positions"]:
        raise InputError(f"the plan is of {plan.attrs['n_positions']} positions, and there are {y.size}")
    ax = given_or_new(ax)
    seen = coverage(plan)
    count = seen["count"].values
    size = dot_size(y.size)
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


def _whole(most: int) -> list[int]:
    return sorted({int(v) for v in np.linspace(1, max(1, most), 6)})


def _label(positions: Any, axis: str) -> str:
    held: Any = positions.coords if isinstance(positions, xr.Dataset | xr.DataArray) else {}
    units = held[f"position_{axis}"].attrs.get("units") if f"position_{axis}" in held else None
    return f"{axis} ({units})" if units else axis
