"""Sections about what is no fit: maps of any kind, scans, simulated patterns, groups of positions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from scanfold._markup import Markup, element, image, section, table
from scanfold.conventions import InputError, primary, provenance
from scanfold.plot import colours, complex_image, parameter_map, patterns
from scanfold.plot.positions import dot_size, label_of, maps_in, plain, thin, titled
from scanfold.report import figures, recipe

#: Maps with pictures, pixels along a side of one, frames averaged, groups counted, positions drawn.
_MAPS, _PIXELS, _FRAMES, _GROUPS, _POINTS = 24, 600, 64, 200_000, 20_000
#: Pixels along a side of a wave, and inches of a picture that has another beside it.
_WAVE, _HALF = 800, (4.9, 3.9)


def sections(ds: xr.Dataset, scan: xr.DataArray | xr.Dataset | None, limit: int) -> list[Markup]:
    """Return the sections of a page about a Dataset that holds no fits.

    Parameters
    ----------
    ds : Dataset
        Maps, a scan, simulated patterns, or groups of positions.
    scan : DataArray or Dataset, optional
        What groups were planned for, where they do not hold its positions themselves.
    limit : int
        Bytes of each picture.
    """
    grouped = "nn_indices" in ds.variables
    return [
        section("What is in it", *_contents(ds)),
        section("Maps", *([] if grouped else _maps(ds, limit))),
        section("Groups", *(_groups(ds, scan, limit) if grouped else [])),
        section("Positions", *_positions(ds, limit)),
        section("Frames", *_frames(ds, limit)),
        section("Waves", *_waves(ds, limit)),
        section("How it was made", *_recipe(ds)),
    ]


def _contents(ds: xr.Dataset) -> list[Markup]:
    rows = []
    for name in [*ds.data_vars, *(n for n in ds.coords if n not in ds.dims)]:
        sizes = " × ".join(f"{n:,} {d}" for d, n in ds[name].sizes.items()) or "one value"
        about = ds[name].attrs
        rows.append([name, about.get("long_name", ""), about.get("units", ""), sizes, str(ds[name].dtype)])
    return [table(("name", "what it is", "units", "size", "kind of number"), rows)]


def _maps(ds: xr.Dataset, limit: int) -> list[Markup]:
    """Return the statistics and pictures of all maps; nothing where there is no map."""
    try:
        maps = maps_in(ds)
    except InputError:
        return []
    names = [str(n) for n in maps.data_vars]
    shown = [n for n in names if not n.partition(" ")[0].endswith("_stderr")][:_MAPS]
    rows, parts = [], []
    for name in names:
        one = maps[[name]].compute()
        values = np.asarray(one[name].values, np.float64)
        finite = values[np.isfinite(values)]
        low, middle, high = np.percentile(finite, (2, 50, 98)) if finite.size else (np.nan,) * 3
        rows.append([name, finite.size / values.size, float(low), float(middle), float(high)])
        if name in shown and finite.size and finite.min() < finite.max():  # a map of one value needs no picture
            small = thin(one, _PIXELS)
            parts.append(image(figures.draw(partial(_draw_map, maps=small, name=name), _HALF, limit), f"Map of {name}"))
    return [table(("map", "part with a value", "2nd percentile", "median", "98th percentile"), rows), *parts]


def _draw_map(figure: Any, maps: xr.Dataset, name: str) -> None:
    parameter_map(maps, name, ax=figure.add_subplot())


def _groups(ds: xr.Dataset, scan: xr.DataArray | xr.Dataset | None, limit: int) -> list[Markup]:
    """Return how many positions the groups hold, how often each, and where the groups are."""
    from scanfold.grouping import coverage

    some = ds.isel(group=slice(0, _GROUPS))
    seen = coverage(some)
    count = seen["count"].values
    rows: list[list[object]] = [
        ["groups", ds.sizes["group"]],
        ["members of each", ds.sizes["channel"]],
        ["positions", int(count.size)],
        ["positions in a group", f"{float(seen['fraction']):.1%}"],
        ["groups that a position is in, on average", float(count.mean())],
        ["most", int(count.max())],
    ]
    rows += [["groups with the members of an earlier one", int(seen["duplicates"])]] if "duplicates" in seen else []
    note = f"Counted are the first {_GROUPS:,} groups." if ds.sizes["group"] > _GROUPS else ""
    parts = [table(("", ""), rows), element("p", note, class_="note")]
    drawing = _drawing(some, seen["count"], scan)
    if drawing is not None:
        text = "Positions, coloured by how many groups they are in"
        parts.append(image(figures.draw(drawing, (8, 6), limit), text))
    if "distance" in some:
        drawn = figures.draw(partial(_draw_distances, distance=some["distance"]), (7, 3.4), limit)
        parts.append(image(drawn, "Histogram of the distances of the members from their seeds"))
    return parts


def _drawing(some: xr.Dataset, count: xr.DataArray, scan: Any) -> Callable[[Any], None] | None:
    """Return what draws the groups: on the scan's positions, or on those that they hold; None without positions."""
    if scan is not None:
        return partial(_draw_groups, plan=some, scan=scan)
    if "position_y" not in some.variables:
        return None
    numbers, first = np.unique(some["nn_indices"].values, return_index=True)
    places = {n: ("position", some[n].values.ravel()[first], some[n].attrs) for n in ("position_y", "position_x")}
    seen = xr.Dataset({"count": ("position", count.values[numbers], count.attrs)}, coords=places)
    return partial(_draw_counts, seen=seen)


def _draw_counts(figure: Any, seen: xr.Dataset) -> None:
    parameter_map(seen, "count", ax=figure.add_subplot()).invert_yaxis()


def _draw_groups(figure: Any, plan: xr.Dataset, scan: Any) -> None:
    from scanfold.grouping import draw_groups

    draw_groups(plan, scan, ax=figure.add_subplot())


def _draw_distances(figure: Any, distance: xr.DataArray) -> None:
    ax = figure.add_subplot()
    ax.hist(distance.values.ravel(), bins=60, color=colours.COMPONENTS[0])
    ax.set(xlabel=titled("distance from the seed", distance.attrs.get("units")), ylabel="members")


def _positions(ds: xr.Dataset, limit: int) -> list[Markup]:
    """Return a picture of free positions; nothing where there are none."""
    if any(n not in ds.coords or ds[n].dims != ("position",) for n in ("position_y", "position_x")):
        return []
    step = -(-ds.sizes["position"] // _POINTS)
    places = ds[["position_y", "position_x"]].isel(position=slice(None, None, step)).compute()
    drawn = figures.draw(partial(_draw_positions, places=places), (6, 5), limit)
    few = f"Every {step}th of them" if step > 1 else "All of them"
    return [element("p", f"{few}.", class_="note"), image(drawn, "Where the positions are")]


def _draw_positions(figure: Any, places: xr.Dataset) -> None:
    ax = figure.add_subplot()
    y, x = places["position_y"], places["position_x"]
    ax.scatter(x, y, dot_size(x.size), color=colours.COMPONENTS[0], linewidth=0)
    ax.set(xlabel=label_of(x), ylabel=label_of(y), aspect="equal")
    ax.invert_yaxis()


def _frames(ds: xr.Dataset, limit: int) -> list[Markup]:
    """Return the mean of some frames of the scan, evenly spread, and a few of them; nothing without frames."""
    try:
        frames = primary(ds)
    except InputError:
        return []
    if not {"ky", "kx"} <= set(map(str, frames.dims)) or frames.ndim < 3:
        return []
    outer = [d for d in frames.dims if d not in ("ky", "kx")]
    step = {d: slice(None, None, -(-frames.sizes[d] // round(_FRAMES ** (1 / len(outer))))) for d in outer}
    some = frames.isel(step).compute()
    mean = some.mean(outer).expand_dims(mean=1)
    mean.attrs |= {"long_name": str(frames.attrs.get("long_name", frames.name or "mean"))}
    number = int(np.prod([some.sizes[d] for d in outer]))
    parts = [
        element("p", f"The mean of {number} frames, evenly spread, and some single ones, on logarithmic scales.",
                class_="note"),
        image(figures.draw(partial(_draw_frames, frames=mean), _HALF, limit), "Mean frame"),
        image(figures.draw(partial(_draw_frames, frames=frames), (11, 2.6), limit), "Single frames"),
    ]  # fmt: skip
    if "intensity_scale" in ds and frames.attrs.get("kind") == "amplitude":
        photons = float((some.astype(np.float64) ** 2).sum()) * float(ds["intensity_scale"]) ** 2 / number
        asked = ds.attrs.get("nphotons")
        rows = [["photons in a frame, mean of these", photons], *([["asked for", float(asked)]] if asked else [])]
        parts.insert(0, table(("", ""), rows))
    return parts


def _draw_frames(figure: Any, frames: xr.DataArray) -> None:
    patterns(frames, figure=figure)
    if "mean" in frames.dims:
        figure.axes[0].set_title("")


def _waves(ds: xr.Dataset, limit: int) -> list[Markup]:
    """Return pictures of the complex images: object and probe, the first mode of several."""
    parts = []
    for name, wave in ds.data_vars.items():
        if wave.dtype.kind != "c" or "position" in wave.dims or "group" in wave.dims:
            continue
        first = wave.isel(dict.fromkeys(wave.dims[:-2], 0))
        first = first[:: -(-first.shape[0] // _WAVE), :: -(-first.shape[1] // _WAVE)].compute()
        drawn = figures.draw(partial(_draw_wave, wave=first), _HALF, limit)
        parts += [image(drawn, f"{name}: phase as hue, amplitude as brightness")]
    return parts


def _draw_wave(figure: Any, wave: xr.DataArray) -> None:
    ax = complex_image(wave, ax=figure.add_subplot())
    ax.set_title(plain(wave.name))


def _recipe(ds: xr.Dataset) -> list[Markup]:
    recorded = provenance(ds)
    if not recorded:
        return [element("p", "The Dataset holds no record of how it was made.")]
    rows: list[list[object]] = [["operation", recorded.get("operation", "")]]
    for name, about in recorded.get("inputs", {}).items():
        sizes = " × ".join(f"{n:,} {d}" for d, n in zip(about.get("dims", []), about.get("shape", []), strict=False))
        rows.append([name, ", ".join(filter(None, [about.get("source", {}).get("path"), sizes]))])
    rows += [[name, _word(value)] for name, value in recorded.get("options", {}).items()]
    return [table(("", ""), rows), recipe.record(recorded)]


def _word(value: object) -> object:
    """Return an option as it is read; long ones are in the record below."""
    if isinstance(value, bool | int | float | str) and len(str(value)) < 80:
        return str(value)
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{k}: {v}" for k, v in value.items() if v is not None)[:80] or "none"
    return f"{str(value)[:80]}…" if len(str(value)) > 80 else str(value)
