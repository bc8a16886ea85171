"""Maps of one variable over the scan: an image, coloured points, a line with its errors, or bars."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from scanfold.conventions import InputError, unknown
from scanfold.plot import colours
from scanfold.plot.axes import given_or_new
from scanfold.plot.positions import Axis, axis_of, dot_size, drawable, kept, label_of, plain, scan_dims, used_in

_KINDS = ("auto", "image", "points", "line", "bars")
#: Coordinates of free positions.
_PLACES = ("position_y", "position_x")
#: Characters of a name at a tick.
_LONGEST = 18
_Array = npt.NDArray[np.float64]


def parameter_map(
    fits: xr.Dataset,
    name: str,
    *,
    errors: bool = False,
    query: str | None = None,
    kind: str = "auto",
    ax: Any = None,
    **kw: Any,
) -> Any:
    """Draw one variable over the scan.

    Parameters
    ----------
    fits : Dataset
        Of `scanfold.fit`; what is drawn is computed if lazy.
    name : str
        A parameter, or any other variable with one number at each position, such as "redchi".
    errors : bool
        Draw the standard error of the parameter instead.
    query : str, optional
        A pandas query on the variables and coordinates at each position, such as
        ``"status == 'converged' and redchi < 2"``. Positions that it leaves out, and those without a
        fitted value, are grey.
    kind : {"auto", "image", "points", "line", "bars"}
        An image for two scan dims. For one: coloured points at the coordinates ``position_y`` and ``position_x`` of
        free positions; bars where positions are named, and else a line, both with one standard error.
    ax : matplotlib Axes, optional
        Where to draw; otherwise a new figure.
    **kw
        For `Axes.imshow` or `Axes.pcolormesh`, `Axes.scatter`, `Axes.plot`, or `Axes.bar`. Without ``vmin`` and
        ``vmax`` the colours of an image or of points run from the 2nd to the 98th percentile, symmetric about zero
        for signed values.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    InputError
        For unknown names, a query that cannot be used, or a kind that does not fit the scan dims.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> fits = xr.Dataset({"center": (("y", "x"), np.ones((3, 4)), {"long_name": "peak", "units": "1/cm"})})
    >>> ax = parameter_map(fits, "center", ax=Figure().add_subplot())
    >>> ax.get_title()
    'center'
    """
    dims = scan_dims(fits)
    kind = _kind(fits, dims, kind)
    shown = _variable(fits, name, errors)
    beside = f"{name}_stderr" if not errors and kind in ("line", "bars") and f"{name}_stderr" in fits else None
    wanted = [n for n in (shown, beside, *used_in(str(query or ""), fits)) if n in fits.data_vars]
    maps = fits[list(dict.fromkeys(wanted))].compute()
    keep = kept(maps, query).transpose(*dims).values
    values = maps[shown].transpose(*dims).values.astype(np.float64)
    error = None if beside is None else maps[beside].transpose(*dims).values
    ax = given_or_new(ax)
    label = label_of(fits[shown])
    axes = [axis_of(fits, d) for d in dims]
    if kind == "image":
        _image(ax, values, keep, axes[0], axes[1], label, kw)
    elif kind == "points":
        _points(ax, values, keep, [fits[n] for n in _PLACES], label, kw)
    elif kind == "line":
        _line(ax, values, error, keep, axes[0], label, kw)
    else:
        _bars(ax, values, error, keep, axes[0], label, kw)
    _title(ax, plain(shown), int((~(keep & np.isfinite(values))).sum()), values.size, query)
    return ax


def _kind(fits: xr.Dataset, dims: tuple[str, ...], kind: str) -> str:
    if kind not in _KINDS:
        raise unknown("kind", kind, _KINDS)
    if len(dims) not in (1, 2):
        raise InputError(f"the maps have the scan dims {dims}; select until one or two are left: fits.isel(…)")
    if len(dims) == 2:
        if kind not in ("auto", "image"):
            raise InputError(f"kind={kind!r} needs one scan dim, found {dims}; select a row: fits.isel({dims[0]}=0)")
        return "image"
    if kind == "image":
        raise InputError(f"kind='image' needs two scan dims, found {dims}; use 'line' or 'bars'")
    placed = all(n in fits.coords and fits[n].dims == dims for n in _PLACES)
    if kind == "points" and not placed:
        raise InputError(f"kind='points' needs the coordinates {' and '.join(_PLACES)} along {dims[0]!r}")
    if kind == "auto" and placed and dims == ("position",):
        return "points"
    named = axis_of(fits, dims[0]).words is not None or dims[0] == "group"
    return kind if kind != "auto" else "bars" if named else "line"


def _variable(fits: xr.Dataset, name: str, errors: bool) -> str:
    names = drawable(fits)
    if name not in names:
        raise unknown("variable", name, names)
    if not errors:
        return name
    if f"{name}_stderr" not in names:
        raise unknown("variable with errors", name, [n for n in names if f"{n}_stderr" in names])
    return f"{name}_stderr"


def _title(ax: Any, title: str, left_out: int, count: int, query: str | None) -> None:
    """Write the title and, below it, how many positions are grey and why."""
    ax.set_title(title, pad=6 if not left_out else 16)
    if left_out:
        reason = "not fitted" if query is None else "not fitted, or left out by the query"
        note = f"grey: {left_out:,} of {count:,} positions {reason}"
        ax.annotate(note, (0.5, 1), (0, 4), "axes fraction", "offset points", ha="center", fontsize="x-small")


def _image(
    ax: Any, values: _Array, keep: npt.NDArray[np.bool_], rows: Axis, columns: Axis, label: str, kw: dict[str, Any]
) -> None:
    shown = np.ma.masked_invalid(np.where(keep, values, np.nan))
    chosen, extend = _colours_of(shown, kw)
    draw_grid(ax, shown, rows, columns, chosen)
    image = ax.images[-1] if ax.images else ax.collections[-1]
    ax.figure.colorbar(image, ax=ax, label=label, extend=extend)


def _colours_of(shown: Any, kw: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the options that colour some values, and at which ends the colour bar is pointed."""
    low, high, cmap = colours.norm_and_map(shown.filled(np.nan), kw.get("vmin"), kw.get("vmax"))
    chosen = dict(kw)
    if "norm" not in kw:
        chosen |= {"vmin": low, "vmax": high}
    chosen["cmap"] = colours.grey_map(kw.get("cmap", cmap))
    finite = shown.compressed()
    below, above = bool((finite < low).any()), bool((finite > high).any())
    return chosen, {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[below, above]


def _points(
    ax: Any, values: _Array, keep: npt.NDArray[np.bool_], places: list[xr.DataArray], label: str, kw: dict[str, Any]
) -> None:
    """Draw free positions where they are; those that are left out are grey, and below the others."""
    shown = np.ma.masked_invalid(np.where(keep, values, np.nan))
    chosen, extend = _colours_of(shown, kw)
    y, x = (p.values for p in places)
    there = ~np.ma.getmaskarray(shown)
    size = chosen.pop("s", dot_size(values.size))
    ax.scatter(x[~there], y[~there], size, color=colours.GREY, linewidth=0)
    drawn = ax.scatter(x[there], y[there], size, c=values[there], **{"linewidth": 0} | chosen)
    ax.figure.colorbar(drawn, ax=ax, label=label, extend=extend)
    up, across = map(label_of, places)
    ax.set(xlabel=across, ylabel=up, aspect="equal")


def draw_grid(ax: Any, values: Any, rows: Axis, columns: Axis, options: dict[str, Any]) -> None:
    """Draw values (y, x) where their coordinates say, the first row at the bottom as in xarray's own plots."""
    (y, step_y), (x, step_x) = _regular(rows.values), _regular(columns.values)
    if step_y and step_x:
        flip = values[:: 1 if step_y > 0 else -1, :: 1 if step_x > 0 else -1]
        half_y, half_x = abs(step_y) / 2, abs(step_x) / 2
        extent = (x.min() - half_x, x.max() + half_x, y.min() - half_y, y.max() + half_y)
        ax.imshow(flip, **{"extent": extent, "origin": "lower", "interpolation": "nearest"} | options)
    else:
        ax.set_facecolor(colours.GREY)
        ax.pcolormesh(x, y, values, **{"shading": "nearest", "rasterized": True} | options)
    ax.set_aspect("equal" if rows.units == columns.units and rows.words is columns.words else "auto")
    ax.set(xlabel=columns.label, ylabel=rows.label)
    ax.locator_params("x", nbins=4)
    for axis, which in ((columns, ax.xaxis), (rows, ax.yaxis)):
        if axis.words is not None:
            name_ticks(which, axis.words)


def _regular(values: _Array) -> tuple[_Array, float]:
    """Return the values and their step, 0 where steps differ by more than a hundredth of one."""
    steps = np.diff(values)
    if not steps.size:
        return values, 1.0
    mean = float(steps.mean())
    return values, mean if mean and np.abs(steps - mean).max() < 0.01 * abs(mean) else 0.0


def name_ticks(axis: Any, words: list[str]) -> None:
    """Write names at the ticks: all of them up to 40, else every n-th."""
    step = -(-len(words) // 40)
    # Long names often begin alike: both ends stay.
    words = [w if len(w) <= _LONGEST else f"{w[: _LONGEST // 2 - 1]}…{w[-_LONGEST // 2 :]}" for w in words]
    crowded = axis.axis_name == "x" and (len(words) > 8 or max(map(len, words)) > 8)
    slant = {"rotation": 90} if len(words) > 12 else {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}
    axis.set_ticks(range(0, len(words), step), words[::step], **(slant if crowded else {}))


def _line(
    ax: Any, values: _Array, error: _Array | None, keep: npt.NDArray[np.bool_], along: Axis, label: str,
    kw: dict[str, Any],
) -> None:  # fmt: skip
    shown = np.where(keep, values, np.nan)
    options = {"color": colours.COMPONENTS[0], "marker": ".", "markersize": 4, "linewidth": 1.2} | kw
    (line,) = ax.plot(along.values, shown, **options)
    if error is not None:
        low, high = shown - error, shown + error
        ax.fill_between(along.values, low, high, color=line.get_color(), alpha=0.25, linewidth=0)
    _bound(ax, shown, error)
    left_out = ~np.isfinite(shown)
    _grey(ax, along.values[left_out], np.where(keep, np.nan, values)[left_out])
    ax.set(xlabel=along.label, ylabel=label)
    if along.words is not None:
        name_ticks(ax.xaxis, along.words)


def _bars(
    ax: Any, values: _Array, error: _Array | None, keep: npt.NDArray[np.bool_], along: Axis, label: str,
    kw: dict[str, Any],
) -> None:  # fmt: skip
    shown = np.where(keep, values, np.nan)
    words = along.words if along.words is not None else [f"{v:g}" for v in along.values]
    place = np.arange(len(words), dtype=np.float64)
    options = {"color": colours.COMPONENTS[4], "edgecolor": "none", "width": 0.7} | kw
    ax.bar(place, shown, yerr=error, error_kw={"elinewidth": 1.2, "capsize": 3}, **options)
    _bound(ax, shown, error, zero=True)
    left_out = ~np.isfinite(shown)
    _grey(ax, place[left_out], np.where(keep, np.nan, values)[left_out])
    ax.set(xlabel=along.label, ylabel=label, xlim=(-0.6, len(words) - 0.4))
    name_ticks(ax.xaxis, words)


def _bound(ax: Any, shown: _Array, error: _Array | None, zero: bool = False) -> None:
    """Limit the y axis to the values and errors of their own size: one huge error must not flatten the rest."""
    finite = shown[np.isfinite(shown)]
    if not finite.size:
        return
    span = float(np.ptp(finite)) or float(np.abs(finite).max()) or 1.0
    reach = np.zeros_like(shown) if error is None else np.minimum(np.nan_to_num(error), span)
    low, high = float(np.nanmin(shown - reach)), float(np.nanmax(shown + reach))
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    margin = 0.06 * (high - low) or 0.06 * span
    ax.set_ylim(low - (margin if low or not zero else 0), high + (margin if high or not zero else 0))


def _grey(ax: Any, x: _Array, values: _Array) -> None:
    """Mark positions left out: grey crosses at their values, ticks at the bottom where there is none."""
    there = np.isfinite(values)
    ax.plot(x[there], values[there], "x", color=colours.LEFT_OUT, markersize=4, scaley=False)
    ax.plot(x[~there], np.zeros((~there).sum()), "|", color=colours.LEFT_OUT, markersize=8,
            transform=ax.get_xaxis_transform(), clip_on=False)  # fmt: skip
