"""What figures of scans are drawn on: grids and free positions alike, with scale bars."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from scanfold.detectors.frames import pixel_steps
from scanfold.plot.colours import BEST, COMPONENTS, DATA, GREY, STATUS
from scanfold.plot.positions import plain, readable

Array = npt.NDArray[Any]
#: Colours of clusters: Okabe and Ito's.
PALETTE = (*COMPONENTS, BEST, STATUS["at_bound"], DATA)
#: How units are written in figures.
_SYMBOLS = {"1/angstrom": "Å⁻¹", "1/nm": "nm⁻¹", "angstrom": "Å", "pixel": "px", "um": "µm", "dimensionless": ""}


def new_figure(width: float, height: float) -> Any:
    """Return a figure of this size in inches, apart from pyplot: no window opens, nothing is kept."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def symbol(units: object) -> str:
    """Return units as they are written.

    Examples
    --------
    >>> symbol("1/angstrom"), symbol("V")
    ('Å⁻¹', 'V')
    """
    return _SYMBOLS.get(str(units), readable(units))


def unit_text(array: xr.DataArray) -> str:
    """Return the units of an array as they are written, empty without any."""
    return plain(symbol(array.attrs.get("units", "")))


def colour_bar(figure: Any, image: Any, axes: Any, array: xr.DataArray, name: str, **where: Any) -> None:
    """Draw a colour bar with units; it says where values lie beyond its ends."""
    units = unit_text(array)
    label = f"{name} [{units}]".strip() if units else name
    values = np.abs(array.values[np.isfinite(array.values)])
    beyond = bool(values.size) and image.norm.vmax is not None and float(values.max()) > image.norm.vmax
    extend = "neither" if not beyond else "both" if image.norm.vmin < 0 else "max"
    figure.colorbar(image, ax=axes, label=label, shrink=0.85, extend=extend, **where)


def nice_length(span: float) -> float:
    """Return a round length near a fifth of a span.

    Examples
    --------
    >>> nice_length(128), nice_length(1.0)
    (20.0, 0.2)
    """
    aim = span / 5
    power = 10.0 ** math.floor(math.log10(aim))
    return max(f * power for f in (1, 2, 5) if f * power <= aim * (1 + 1e-9))


def pattern_scale(ds: xr.Dataset) -> tuple[float, str]:
    """Return the size of a detector pixel along kx and its unit."""
    if "ky" not in ds.coords or "kx" not in ds.coords:
        return 1.0, "pixel"
    (_, step), units = pixel_steps(ds["mean_counts"])
    return abs(step), units


def scale_bar(ax: Any, step: float, units: str) -> None:
    """Draw a bar of a round length at the lower left, where one unit of the axes is `step` in `units`."""
    left, right = sorted(ax.get_xlim())
    bottom, top = ax.get_ylim()
    length = nice_length((right - left) * step)
    x, y = left + 0.05 * (right - left), bottom + 0.06 * (top - bottom)
    for colour, width in (("black", 5), ("white", 2.5)):
        ax.plot([x, x + length / step], [y, y], color=colour, linewidth=width, solid_capstyle="butt",
                scalex=False, scaley=False)  # fmt: skip
    text = ax.text(x, y + 0.03 * (top - bottom), f"{length:g} {symbol(units)}".strip(), color="white",
                   fontsize="small", va="bottom")  # fmt: skip
    from matplotlib.patheffects import withStroke

    text.set_path_effects([withStroke(linewidth=2, foreground="black")])


class Surface:
    """Where values of scan positions are drawn: an image, points at free positions, or a strip of a line.

    Parameters
    ----------
    ds : Dataset
        Maps; their positions are in its coordinates.
    """

    def __init__(self, ds: xr.Dataset):
        self.shape = ds["frame_valid"].shape
        dims = ds["frame_valid"].dims
        places = [ds.coords.get(f"position_{a}") for a in "yx"]
        self.points: tuple[Array, Array] | None = None
        if len(self.shape) == 1 and all(p is not None and p.dims == dims for p in places):
            self.points = tuple(np.asarray(p.values, float) for p in places if p is not None)  # type: ignore[assignment]
        self.step, self.units = self._step(ds, dims, places)
        self._longest = 3.0

    def _step(self, ds: xr.Dataset, dims: Any, places: Any) -> tuple[float, str]:
        """Return the length of a unit of the axes."""
        if self.points is not None:
            return 1.0, str(places[1].attrs.get("units", "pixel"))
        last = dims[-1]
        values = ds[last].values if last in ds.coords and ds.sizes[last] > 1 else None
        if len(self.shape) != 2 or values is None or values.dtype.kind not in "iuf":
            return 1.0, "pixel"
        return abs(float(values[-1] - values[0])) / (len(values) - 1), str(ds[last].attrs.get("units", "pixel"))

    def size(self, longest: float) -> tuple[float, float]:
        """Return width and height, in inches, of a panel."""
        self._longest = longest
        if self.points is not None:
            spans = [max(float(np.ptp(p)), 1e-12) for p in self.points]
        elif len(self.shape) == 2:
            spans = [float(n) for n in self.shape]
        else:
            return longest, 1.2
        height, width = (max(longest * s / max(spans), 0.3 * longest) for s in spans)
        return width, height

    def draw(self, ax: Any, values: Array, *, bar: bool = True, **options: Any) -> Any:
        """Draw numbers (*scan), or colours (*scan, 3), and a scale bar; return the image."""
        ax.set(xticks=[], yticks=[])
        if "cmap" in options and isinstance(options["cmap"], str):
            from matplotlib import colormaps

            options["cmap"] = colormaps[options["cmap"]].with_extremes(bad=GREY)
        if self.points is not None:
            image = self._scatter(ax, values, options)
        else:
            shown = values if len(self.shape) == 2 else values[None]
            aspect = "equal" if len(self.shape) == 2 else "auto"
            image = ax.imshow(shown, interpolation="nearest", aspect=aspect, **options)
        if bar and (self.points is not None or len(self.shape) == 2):
            scale_bar(ax, self.step, self.units)
        return image

    def _scatter(self, ax: Any, values: Array, options: dict[str, Any]) -> Any:
        assert self.points is not None
        y, x = self.points
        width, height = (max(float(np.ptp(p)), 1e-12) for p in (x, y))
        pad = 0.5 * math.sqrt(width * height / len(x))
        ax.set(xlim=(x.min() - pad, x.max() + pad), ylim=(y.max() + pad, y.min() - pad), aspect="equal")
        ax.set_facecolor("#d9d9d9")
        # As large as the room that each position has, in points.
        side = 72 * self._longest * 2 * pad / max(width, height)
        return ax.scatter(x, y, c=values, s=max(side, 1.5) ** 2, linewidths=0, plotnonfinite=True, **options)

    def arrow_step(self, most: int) -> float:
        """Return the distance of arrows in units of the axes."""
        if self.points is not None:
            return max(float(np.ptp(p)) for p in self.points) / most
        return float(max(1, -(-max(self.shape) // most))) if len(self.shape) == 2 else self.shape[0] / most

    def arrows(self, ex: Array, ey: Array, most: int) -> tuple[Array, Array, Array, Array]:
        """Return places and means of vectors over squares, at most so many along the longer side: x, y, u, v."""
        if self.points is not None:
            y, x = self.points
        elif len(self.shape) == 2:
            y, x = (i.ravel().astype(float) for i in np.indices(self.shape))
        else:
            y, x = np.zeros(self.shape), np.arange(self.shape[0], dtype=float)
        step = self.arrow_step(most) or 1.0
        u, v = ex.ravel(), ey.ravel()
        known = np.isfinite(u) & np.isfinite(v)
        square = np.stack([np.floor((p - p.min()) / step + 1e-9) for p in (y, x)])[:, known]
        _, owner, count = np.unique(square, axis=1, return_inverse=True, return_counts=True)
        means = [np.bincount(owner.ravel(), p[known]) / count for p in (x, y, u, v)]
        return means[0], means[1], means[2], means[3]
