"""Pictures of a GroupedFitResult."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from scanfold import plot
from scanfold.bragg.fitted import edges, fitted_cross_section
from scanfold.bragg.indices import indices_of, places_of, scan_dims
from scanfold.conventions import InputError, unknown
from scanfold.plot import colours
from scanfold.plot.axes import given_or_new
from scanfold.plot.positions import drawable, plain

if TYPE_CHECKING:
    from scanfold.bragg.result import GroupedFitResult

#: nbragg's words for the kinds of maps, and ours.
_KINDS = {None: "auto", "auto": "auto", "pcolormesh": "image", "line": "line", "errorbar": "line", "bar": "bars"}


def group(result: GroupedFitResult, index: Any, ax: Any, kw: dict[str, Any]) -> Any:
    """Draw the fit of one group; return the Axes of the fit."""
    place = result.place(index)
    measured = result.measured()
    figure = plot.fit(
        result.compute(), measured.values, model=measured.model, weights=measured.weights, axes=ax, **place
    )
    top = figure.axes[0] if ax is None else np.ravel(ax)[0]
    if place:
        top.set_title(plain(top.get_title().partition(", ")[2] if len(place) == 1 else _after(top.get_title())))
        top.set_title(plain(f"{result.indices[places_of(result.fits).index(place)]}: ") + top.get_title())
    top.set(**kw)
    return top


def _after(title: str) -> str:
    """Return what follows the two coordinates of a grid in a title."""
    return ", ".join(title.split(", ")[2:])


def parameter_map(
    result: GroupedFitResult, name: str, query: str | None, kind: str | None, errors: bool, ax: Any, title: str | None,
    kw: dict[str, Any],
) -> Any:  # fmt: skip
    """Draw one variable over the groups; return the Axes."""
    if kind not in _KINDS:
        raise unknown("kind", kind, [k for k in _KINDS if k])
    maps = result.compute()
    known = drawable(maps)
    if name not in known and name.endswith("_err") and f"{name.removesuffix('_err')}_stderr" in known:
        name, errors = name.removesuffix("_err"), True
    if name not in known:
        raise unknown("parameter or statistic", name, [n for n in known if not n.endswith("_stderr")])
    how = _KINDS[kind]
    if not scan_dims(maps):
        raise InputError("one spectrum has no map; result.summary() has its numbers")
    if len(scan_dims(maps)) == 2 and how in ("line", "bars"):
        maps = in_a_row(maps)
    ax = plot.parameter_map(maps, name, errors=errors, query=query, kind=how, ax=ax, **kw)
    if title is not None:
        ax.set_title(title)
    return ax


def in_a_row(maps: xr.Dataset) -> xr.Dataset:
    """Return the groups of a grid one after the other, named by their indices."""
    dims = scan_dims(maps)
    places = [tuple(p.values()) for p in places_of(maps)]
    names = xr.Variable("group", np.array(indices_of(maps), object))
    flat = {
        n: xr.Variable("group", v.transpose(*dims).values[tuple(np.array(places).T)], v.attrs)
        for n, v in maps.data_vars.items()
        if v.dims == dims
    }
    return xr.Dataset(flat, coords={"group": names}, attrs=maps.attrs)


def total_xs(
    result: GroupedFitResult, index: Any, dspace: bool, split: bool, dspace_min: float, logy: bool, ax: Any
) -> Any:
    """Draw the cross section of the fitted material; return the Axes."""
    if not hasattr(result.model, "cross_section"):
        raise InputError("this model has no cross section; fit a bragg.TransmissionModel")
    place = result.place(index)
    measured = result.measured(place)
    values = {n: float(p.value) for n, p in result[index].params.items()}
    axis = measured.values["wavelength"].values
    wavelength = np.linspace(float(axis[0]), float(axis[-1]), 2000)
    fitted = fitted_cross_section(result.model.cross_section, values)
    table = fitted.total(wavelength, temperature=values.get("temp", 293.15), split=True)
    ax = given_or_new(ax)
    if split and len(table.columns) > 2:
        for i, (name, weight) in enumerate(fitted.weights.items()):
            colour = colours.COMPONENTS[i % len(colours.COMPONENTS)]
            ax.plot(wavelength, table[name], "--", color=colour, linewidth=1.1, label=plain(f"{name}, {weight:.1%}"))
    ax.plot(wavelength, table["total"], color=colours.BEST, linewidth=1.6, label="total")
    if dspace:
        top = float(table["total"].max())
        ax.set_ylim(top=top * (2.0 if logy else 1.12))  # room for the names of the planes
        _edges(ax, fitted, wavelength, dspace_min, values.get("temp", 293.15))
    if logy:
        ax.set_yscale("log")
    ax.set(xlabel="wavelength [Å]", ylabel="cross section [barn per atom]", xlim=(wavelength[0], wavelength[-1]))
    name = result.indices[places_of(result.fits).index(place)] if place else ""
    ax.set_title(plain(f"{name}: total cross section".removeprefix(": ")))
    if split and len(table.columns) > 2:
        ax.legend(fontsize="small", frameon=False)
    return ax


def _edges(ax: Any, cross_section: Any, wavelength: Any, dspace_min: float, temperature: float) -> None:
    """Mark λ = 2d of the planes, with their names where there is room."""
    last = np.inf
    room = 0.02 * (wavelength[-1] - wavelength[0])
    for edge, label in sorted(edges(cross_section, dspace_min, temperature), reverse=True):
        if not wavelength[0] < edge < wavelength[-1]:
            continue
        ax.axvline(edge, color=colours.LEFT_OUT, linewidth=0.6, linestyle=":")
        if last - edge > room:
            ax.annotate(plain(label), (edge, 1), (0, -2), ("data", "axes fraction"), "offset points", rotation=90,
                        va="top", ha="right", fontsize="x-small", color=colours.LEFT_OUT)  # fmt: skip
            last = edge


def stages(result: GroupedFitResult, index: Any, names: Any, axes: Any) -> Any:
    """Draw redchi and some parameters after each stage; return the figure."""
    table = result.stages_summary(index)
    done = [s for s in dict.fromkeys(table.columns.get_level_values(0)) if s != "Initial"]
    if names is None:
        varied = [n for n in table.index if n != "redchi" and any(bool(table.loc[n, (s, "vary")]) for s in done)]
        names = varied[:5]
    wrong = [n for n in names if n not in table.index]
    if wrong:
        raise unknown("parameter", wrong[0], [str(n) for n in table.index])
    if axes is None:
        import matplotlib.pyplot as plt

        shape = (1 + len(names), 1)
        axes = plt.subplots(*shape, sharex=True, layout="constrained", figsize=(6, 1.6 + 1.3 * shape[0]))[1]
    axes = np.ravel(axes)
    if len(axes) < 1 + len(names):
        raise InputError(f"{len(axes)} axes for redchi and {len(names)} parameters; pass {1 + len(names)}")
    at = np.arange(len(done))
    for i, (ax, name) in enumerate(zip(axes, ["redchi", *names], strict=False)):
        values = np.array([table.loc[name, (s, "value")] for s in done], float)
        errors = np.array([table.loc[name, (s, "stderr")] for s in done], float)
        free = np.array([name == "redchi" or bool(table.loc[name, (s, "vary")]) for s in done])
        colour = colours.BEST if i == 0 else colours.COMPONENTS[(i - 1) % len(colours.COMPONENTS)]
        ax.errorbar(at, values, errors, color=colour, linewidth=1.2, elinewidth=0.8, capsize=3)
        ax.plot(at[free], values[free], "o", color=colour, markersize=5)
        ax.plot(at[~free], values[~free], "o", color="white", markeredgecolor=colour, markersize=5)
        ax.set_ylabel(plain(name))
    axes[0].set_yscale("log")
    axes[len(names)].set_xticks(at, [plain(s) for s in done])
    axes[len(names)].set_xlabel("after stage (open: not varied in it)")
    return axes[0].figure
