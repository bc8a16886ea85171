"""The page: choices above, the map on the left, the position that was clicked on the right."""

from __future__ import annotations

from typing import Any

import numpy as np
import panel as pn
import xarray as xr
from bokeh.events import Tap
from bokeh.models import Span

from scanfold.conventions import InputError, ScanError, flags
from scanfold.plot import colours
from scanfold.plot.positions import axis_of, indices, kept, label_of, readable, words_of
from scanfold.viewer import Shown, pictures
from scanfold.viewer.sources import Sources


class Explorer(Shown):
    """A map and one position of it, linked.

    Parameters
    ----------
    sources : Sources
        What is shown.

    Attributes
    ----------
    page : panel.Column
        What a notebook or a browser shows.
    """

    def __init__(self, sources: Sources):
        self.sources = sources
        names = list(map(str, sources.maps.data_vars))
        self._name = pn.widgets.Select(name="map", options=names, value=names[0], width=240)
        self._query = pn.widgets.TextInput(name="show where", placeholder="status == 'converged'", width=320)
        self._log = pn.widgets.Checkbox(name="logarithmic pattern", visible=self._has_patterns())
        self._place = {
            d: pn.widgets.IntInput(name=d, value=n // 2, start=0, end=n - 1, width=90) for d, n in self._sizes().items()
        }
        self._map = pn.Column()
        self._here = pn.Column()
        self._note = pn.pane.Alert(sources.note, alert_type="light", visible=bool(sources.note))
        self._values = pn.pane.DataFrame(width=620)
        for widget in (self._name, self._query):
            widget.param.watch(lambda _: self._draw_map(), "value")
        for widget in (self._log, *self._place.values()):
            widget.param.watch(lambda _: self._draw_here(), "value")
        self.page = pn.Column(
            pn.Row(self._name, self._query, *self._place.values(), self._log),
            self._note,
            pn.Row(self._map, pn.Column(self._here, self._values)),
        )
        self._draw_map()
        self._draw_here()

    def _sizes(self) -> dict[str, int]:
        owner = self.sources.maps if self.sources.scan is None else self.sources.scan
        return {d: int(owner.sizes[d]) for d in self.sources.dims}

    def _has_patterns(self) -> bool:
        scan = self.sources.scan
        return scan is not None and scan.ndim == len(self.sources.dims) + 2

    def __repr__(self) -> str:
        maps = self.sources.maps
        sizes = " × ".join(f"{d} {n}" for d, n in maps.sizes.items())
        return f"<Explorer: {len(maps)} maps over {sizes}; at {self.position}>"

    @property
    def position(self) -> dict[str, int]:
        """The position that is shown, as indices into the scan."""
        return {d: int(w.value) for d, w in self._place.items()}

    @property
    def _index(self) -> dict[str, int]:
        """The position as indices into the maps, which may have every n-th position of the scan only."""
        step, maps = self.sources.step, self.sources.maps
        return {d: min(i // step, maps.sizes[d] - 1) for d, i in self.position.items()}

    def select(self, **position: Any) -> dict[str, int]:
        """Show a position; whole numbers count along a dim, others are looked up in its coordinate.

        Returns
        -------
        dict
            The indices.

        Raises
        ------
        InputError
            If there is no such position.
        """
        owner = self.sources.maps
        if self.sources.step > 1 and self.sources.scan is not None:
            scan = self.sources.scan
            owner = scan.isel({d: 0 for d in scan.dims if d not in self.sources.dims}).to_dataset(name="scan")
        place = indices(owner, position)
        with pn.io.hold():
            for dim, index in place.items():
                self._place[dim].value = index
        return place

    def _draw_map(self) -> None:
        """Draw the chosen map; a query that cannot be used is said and leaves the map whole."""
        maps, name, dims = self.sources.maps, str(self._name.value), self.sources.dims
        shown = maps[name].compute()
        values = shown.values.astype(np.float64)
        self._say(self.sources.note)
        if self._query.value.strip():
            try:
                values = np.where(kept(maps, self._query.value).values, values, np.nan)
            except ScanError as error:
                self._say(str(error))
        title = label_of(shown)
        where = [maps.coords[n] for n in ("position_y", "position_x") if n in maps.coords and maps[n].dims == dims]
        self._free = len(dims) == 1 and len(where) == 2
        if len(dims) == 2:
            words = flags(shown) if "flag_meanings" in shown.attrs else None
            drawn = pictures.image(maps, values, (dims[0], dims[1]), title, words=words)
        elif self._free:
            drawn = pictures.cloud(where[0], where[1], values, title)
        else:
            drawn = pictures.line(maps, values, dims[0], title)
        drawn.on_event(Tap, self._clicked)
        self._marks = [Span(dimension=d, line_color=colours.BEST, line_width=1) for d in ("width", "height")]
        for mark in self._marks:
            drawn.add_layout(mark)
        self._mark()
        self._map[:] = [pn.pane.Bokeh(drawn)]

    def _say(self, text: str) -> None:
        """Show a note above the map; none if there is nothing to say."""
        self._note.object, self._note.visible = text, bool(text)

    def _clicked(self, event: Any) -> None:
        """Show the position nearest to a click."""
        step, dims, maps = self.sources.step, self.sources.dims, self.sources.maps
        if self._free:
            (dim,) = dims
            y, x = maps["position_y"].values, maps["position_x"].values
            place = {dim: int(np.nanargmin((y - event.y) ** 2 + (x - event.x) ** 2)) * step}
        else:
            at = {dims[-1]: event.x, dims[0]: event.y} if len(dims) == 2 else {dims[0]: event.x}
            place = {d: int(np.abs(self._drawn_axis(d) - float(v)).argmin()) * step for d, v in at.items()}
        with pn.io.hold():
            for d, index in place.items():
                self._place[d].value = min(index, self._place[d].end)

    def _drawn_axis(self, dim: str) -> np.ndarray:
        """Return the coordinates at which positions are drawn along a dim."""
        left, right, _ = pictures.extent(self.sources.maps, dim)
        size = self.sources.maps.sizes[dim]
        if len(self.sources.dims) == 2:
            return left + (np.arange(size) + 0.5) * (right - left) / size
        axis = axis_of(self.sources.maps, dim)
        return axis.values if axis.words is None else axis.values + 0.5

    def _mark(self) -> None:
        """Put the cross where the position is."""
        dims, maps, index = self.sources.dims, self.sources.maps, self._index
        across, up = self._marks[1], self._marks[0]
        if self._free:
            across.location = float(maps["position_x"].values[index[dims[0]]])
            up.location = float(maps["position_y"].values[index[dims[0]]])
            return
        across.location = float(self._drawn_axis(dims[-1])[index[dims[-1]]])
        up.visible = len(dims) == 2
        if up.visible:
            up.location = float(self._drawn_axis(dims[0])[index[dims[0]]])

    def _draw_here(self) -> None:
        """Draw what was measured at the position, and list its values."""
        self._mark()
        place = self.position
        self._values.object = _table(self.sources.maps.isel(self._index).compute())
        scan = self.sources.scan
        if scan is None:
            return
        here = scan.isel(place).compute()
        label = label_of(scan, scan.name or "data")
        title = ", ".join(f"{d} = {i}" for d, i in place.items())
        if here.ndim == 1:
            x = here[here.dims[0]]
            drawn = pictures.spectrum(x, here.values, self._curve(place, here), title, label)
        elif here.ndim == 2:
            dims = (str(here.dims[0]), str(here.dims[1]))
            drawn = pictures.image(
                here.to_dataset(name="here"), here.values, dims, f"{label}, {title}", log=self._log.value
            )
        else:
            raise InputError(f"{scan.name!r} has {here.ndim} dims at each position; expected one or two")
        self._here[:] = [pn.pane.Bokeh(drawn)]

    def _curve(self, place: dict[str, int], here: xr.DataArray) -> np.ndarray | None:
        """Return the best fit at a position; None where there is none, or its model is not known here."""
        if self.sources.fits is None:
            return None
        from scanfold.fitting import evaluate

        try:
            curve = evaluate(self.sources.fits.isel(place).compute(), data=here, model=self.sources.model)["best_fit"]
        except ScanError as error:
            self._say(str(error))
            return None
        return np.asarray(curve.values)


def _table(here: xr.Dataset) -> Any:
    """Return one row for each value at a position, with its error and units."""
    import pandas as pd

    rows = {}
    for name, value in here.data_vars.items():
        if str(name).endswith("_stderr") and str(name).removesuffix("_stderr") in here:
            continue
        text = str(words_of(value)) if "flag_meanings" in value.attrs else f"{value.item():.6g}"
        error = f"± {here[f'{name}_stderr'].item():.2g}" if f"{name}_stderr" in here else ""
        rows[str(name)] = {"value": text, "error": error, "units": readable(value.attrs.get("units", ""))}
    return pd.DataFrame.from_dict(rows, orient="index")
