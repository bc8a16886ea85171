"""Pictures of complex waves and of diffraction frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from scanfold.conventions import InputError, InputTypeError, primary
from scanfold.plot.axes import given_or_new
from scanfold.plot.colours import SEQUENTIAL, grey_map
from scanfold.plot.positions import plain

_Array = npt.NDArray[np.float64]
#: Percentile of the amplitude that is drawn brightest.
_BRIGHTEST = 99.5
#: Lightness and chroma of the brightest colours in Oklab: hues of equal lightness.
_LIGHTNESS, _CHROMA = 0.78, 0.12
#: Decades that a picture of frames spans below their brightest pixel.
_DECADES = 5


def complex_image(array: xr.DataArray | npt.ArrayLike, *, ax: Any = None, colorbar: bool = True) -> Any:
    """Draw a complex wave: its phase as hue, its amplitude as brightness.

    Hues are equally bright (in Oklab), so that brightness shows the amplitude only; it saturates at the 99.5th
    percentile.

    Parameters
    ----------
    array : array (ny, nx)
        A probe, an object, or a patch of one; computed if lazy.
    ax : matplotlib Axes, optional
        Where to draw; otherwise a new figure.
    colorbar : bool
        Draw the hues of the phase beside it.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    InputError
        If the array has not two dimensions.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> complex_image(np.exp(1j * np.arange(12).reshape(3, 4)), ax=Figure().add_subplot()).get_title()
    'phase as hue, amplitude as brightness'
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    values = np.asarray(array)
    if values.dtype.kind not in "biufc":
        raise InputTypeError(f"the array holds {values.dtype}; expected complex numbers")
    if values.ndim != 2:
        raise InputError(
            f"the array has shape {values.shape}; expected two dimensions, such as probe[0] of several modes"
        )
    amplitude = np.abs(values)
    finite = amplitude[np.isfinite(amplitude)]
    top = float(np.percentile(finite, _BRIGHTEST)) if finite.size else 1.0
    ax = given_or_new(ax)
    ax.imshow(_rgb(np.angle(values), np.clip(amplitude / (top or 1.0), 0, 1)), interpolation="nearest")
    name = array.attrs.get("long_name") if isinstance(array, xr.DataArray) else None
    ax.set_title(plain(name) if name else "phase as hue, amplitude as brightness")
    if isinstance(array, xr.DataArray):
        ax.set(ylabel=plain(f"{array.dims[0]} [pixel]"), xlabel=plain(f"{array.dims[1]} [pixel]"))
    if colorbar and ax.figure is not None:
        hues = ListedColormap(_rgb(np.linspace(-np.pi, np.pi, 256), np.ones(256)))
        bar = ax.figure.colorbar(ScalarMappable(Normalize(-np.pi, np.pi), hues), ax=ax, ticks=[-np.pi, 0, np.pi])
        bar.ax.set_yticklabels(["−π", "0", "π"])
        bar.set_label("phase [rad]")
    return ax


def _rgb(phase: _Array, brightness: _Array) -> _Array:
    """Return sRGB of a hue in Oklab (Ottosson 2020, bottosson.github.io/posts/oklab), black where it is dark."""
    phase, brightness = np.nan_to_num(phase), np.nan_to_num(brightness)
    lightness = _LIGHTNESS * brightness
    a, b = _CHROMA * brightness * np.cos(phase), _CHROMA * brightness * np.sin(phase)
    cones = np.stack([
        lightness + 0.3963377774 * a + 0.2158037573 * b,
        lightness - 0.1055613458 * a - 0.0638541728 * b,
        lightness - 0.0894841775 * a - 1.2914855480 * b,
    ], axis=-1) ** 3  # fmt: skip
    linear = cones @ np.array([
        [4.0767416621, -1.2684380046, -0.0041960863],
        [-3.3077115913, 2.6097574011, -0.7034186147],
        [0.2309699292, -0.3413193965, 1.7076147010],
    ])  # fmt: skip
    linear = np.clip(linear, 0, 1)
    return np.asarray(np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055))


def patterns(scan: xr.Dataset | xr.DataArray, numbers: Sequence[int] | None = None, *, figure: Any = None) -> Any:
    """Draw some diffraction frames on one logarithmic scale.

    Parameters
    ----------
    scan : Dataset or DataArray
        Frames over ``ky`` and ``kx``; over groups and channels too. Only those that are drawn are read.
    numbers : sequence of int, optional
        Which, counted over all other dimensions; six from the whole scan if not given.
    figure : matplotlib Figure, optional
        Where to draw; otherwise a new one.

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    InputError
        If the scan has no frames, or a number is outside it.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> frames = xr.DataArray(np.ones((20, 8, 8)), dims=("position", "ky", "kx"))
    >>> len(patterns(frames, [3, 7], figure=Figure()).axes)
    3
    """
    from matplotlib.colors import LogNorm

    frames = primary(scan)
    if not {"ky", "kx"} <= set(map(str, frames.dims)):
        raise InputError(f"{frames.name!r} has dimensions {frames.dims}; expected frames over ky and kx")
    others = [d for d in frames.dims if d not in ("ky", "kx")]
    sizes = [frames.sizes[d] for d in others]
    count = int(np.prod(sizes))
    chosen = np.unique(np.linspace(0, count - 1, 6).astype(int)) if numbers is None else np.asarray(numbers, int)
    if not chosen.size or chosen.min() < 0 or chosen.max() >= count:
        raise InputError(f"numbers={numbers}; expected some from 0 to {count - 1}")
    places = [dict(zip(others, (int(i) for i in np.unravel_index(n, sizes)), strict=True)) for n in chosen]
    images = [np.asarray(frames.isel(place).transpose("ky", "kx"), np.float64) for place in places]
    if figure is None:
        import matplotlib.pyplot as plt

        columns = min(len(images), 6)
        rows = -(-len(images) // columns)
        figure = plt.figure(figsize=(2.1 * columns + 1, 2.2 * rows + 0.4), layout="constrained")
    top = max(max(float(np.nanmax(i)) for i in images), np.finfo(float).tiny)
    positive = [float(i[i > 0].min()) for i in images if (i > 0).any()]
    low = max(min(positive, default=top / 10), top / 10**_DECADES)
    norm = LogNorm(min(low, top / 10), top)
    _draw(figure, images, places, norm, str(frames.attrs.get("long_name", frames.name or "")))
    return figure


def _draw(figure: Any, images: Sequence[_Array], places: Sequence[dict[Any, int]], norm: Any, label: str) -> None:
    columns = min(len(images), 6)
    axes = figure.subplots(-(-len(images) // columns), columns, squeeze=False).ravel()
    cmap = grey_map(SEQUENTIAL)
    cmap = cmap.with_extremes(bad=cmap(0.0))  # no photon: the darkest
    shown = None
    for ax, image, place in zip(axes, images, places, strict=False):
        shown = ax.imshow(np.ma.masked_less_equal(image, 0), norm=norm, cmap=cmap, interpolation="nearest")
        ax.set_title(", ".join(f"{d} {n}" for d, n in place.items()), fontsize="small")
        ax.set(xticks=[], yticks=[])
    for ax in axes[len(images) :]:
        ax.set_axis_off()
    figure.colorbar(shown, ax=list(axes), label=plain(label), shrink=0.8)
