"""Objects to simulate scans of: complex transmission on a square canvas, (object_y, object_x)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from scanfold import _apply
from scanfold._apply import apply_kernel, count_along
from scanfold.conventions import InputError, InputTypeError, Var, unknown
from scanfold.grouping.options import whole
from scanfold.ptycho import _object_kernels as kernels
from scanfold.ptycho.config import MOST_OBJECT, as_array, positive, streams

DIMS = ("object_y", "object_x")
OBJECT = Var("object", DIMS, "complex64", "transmission of the object", "1")
#: Canvases up to this many pixels along a side are made at once; larger ones lazily, in tiles of `TILE`.
WHOLE, TILE = 2048, 1024
#: Canvas of which the number of lines is told, and how far their ends are apart there.
_LINES, _REFERENCE = 400, 392
_SIGMAS = {"lines": ((1.0, 5.0, 10.0), (1.0, 2.0, 5.0)), "leaves": ((1.0,), (1.0,))}


@dataclass(frozen=True)
class _Canvas:
    """From the rows and columns of pixels (n,) to their amplitudes, (n,)."""

    kind: str
    size: int
    key: tuple[int, int]
    options: tuple[Any, ...]

    def __call__(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        y0, x0 = int(rows.min()), int(columns.min())
        window = y0, int(rows.max()) + 1, x0, int(columns.max()) + 1
        made: np.ndarray = _DRAWN[self.kind](self, window)
        return _array(made[rows - y0, columns - x0])

    @property
    def words(self) -> np.ndarray:
        return np.array(self.key, np.uint64)


def _array(made: Any) -> np.ndarray:
    return np.asarray(made)


def _lines(canvas: _Canvas, window: tuple[int, int, int, int]) -> np.ndarray:
    nlines, edge = canvas.options
    shift = (edge - canvas.size) // 2

    def draw(out: np.ndarray, y0: int, x0: int) -> None:
        kernels.draw_lines(out, y0 + shift, x0 + shift, edge, 2.0 * _REFERENCE, nlines, canvas.words)

    return _array(kernels.blurred(draw, window, *_SIGMAS["lines"]))


def _points(canvas: _Canvas, window: tuple[int, int, int, int]) -> np.ndarray:
    def draw(out: np.ndarray, y0: int, x0: int) -> None:
        kernels.draw_points(out, y0, x0, canvas.size, canvas.options[0], canvas.words)

    def once(out: np.ndarray, y0: int, x0: int) -> None:
        out += kernels.blurred(draw, (y0, y0 + out.shape[0], x0, x0 + out.shape[1]), (1.0,), (1.0,))

    y0, y1, x0, x1 = window
    sharp = np.zeros((y1 - y0, x1 - x0))
    once(sharp, y0, x0)
    return _array(sharp + kernels.blurred(once, window, (10.0,), (5.0,)))


def _leaves(canvas: _Canvas, window: tuple[int, int, int, int]) -> np.ndarray:
    def draw(out: np.ndarray, y0: int, x0: int) -> None:
        kernels.draw_leaves(out, y0, x0, canvas.size, canvas.options, canvas.words)

    return _array(kernels.blurred(draw, window, *_SIGMAS["leaves"]))


def _star(canvas: _Canvas, window: tuple[int, int, int, int]) -> np.ndarray:
    spokes, turn = canvas.options
    y0, y1, x0, x1 = window
    middle = (canvas.size - 1) / 2
    y, x = np.arange(y0, y1)[:, None] - middle, np.arange(x0, x1)[None, :] - middle
    radius, angle = np.hypot(y, x), np.arctan2(y, x)
    # the distance to the nearest edge of a spoke, in pixels, makes edges one pixel wide
    wave = np.sin(spokes * angle + turn)
    edge = np.clip(0.5 + wave * radius / spokes, 0.0, 1.0)
    return _array(edge * np.clip(0.5 + 0.45 * canvas.size - radius, 0.0, 1.0))


_DRAWN: dict[str, Callable[[_Canvas, tuple[int, int, int, int]], np.ndarray]] = {
    "lines": _lines, "points": _points, "dead_leaves": _leaves, "siemens_star": _star,
}  # fmt: skip


def lines(
    size: int, seed: int = 0, *, nlines: int | None = None, phase: bool = False, chunks: int | None = None
) -> xr.DataArray:
    """Return random line segments, drawn with the value 1 and blurred to ``G(1) + 2 G(5) + 5 G(10)``.

    ``G(σ)`` is the drawing after a Gaussian filter of σ pixels. The segments lie on a canvas of twice the size (with
    room for the filters) whose opposite edges meet, so that they are as dense everywhere; its middle is returned.

    Parameters
    ----------
    size : int
        Pixels along a side.
    seed : int
        Of the segments.
    nlines : int, optional
        Segments on the canvas; 400 for a size of 392 and in proportion to the area if not given, so that the
        density does not depend on the size.
    phase : bool
        Also a phase, ``π tanh((A − max A / 2) / (3 mean A))`` of the amplitude A; otherwise it is 0.
    chunks : int, optional
        Make the canvas lazily in tiles of this side. If not given, canvases beyond 2048 pixels are, in tiles of
        1024. Tiles make no difference to the values.

    Returns
    -------
    DataArray
        Dims (object_y, object_x), complex64.

    Raises
    ------
    InputError, InputTypeError
        If a number cannot be used.

    Examples
    --------
    >>> lines(392, seed=2).dims, round(float(abs(lines(392, seed=2)).mean()), 1)
    (('object_y', 'object_x'), 1.9)
    """
    edge = max(2 * whole("size", size, least=4, most=MOST_OBJECT), size + 80)
    count = round(_LINES * (edge / (2 * _REFERENCE)) ** 2) if nlines is None else whole("nlines", nlines)
    return _object("lines", size, seed, (max(count, 1), edge), phase, chunks)


def points(
    size: int, seed: int = 0, *, share: float = 0.1, phase: bool = False, chunks: int | None = None
) -> xr.DataArray:
    """Return random point sources: ``I + 5 G(10) I``, where I is ``G(1)`` of points in 10% of the cells.

    Cells are drawn with replacement, so that some hold several points. The other parameters, the result and the
    errors are those of `lines`.

    Parameters
    ----------
    size, seed, phase, chunks
        As of `lines`.
    share : float
        Points for each cell.

    Examples
    --------
    >>> round(float(abs(points(128, seed=1)).mean()), 1)
    0.5
    """
    count = round(positive("share", share) * whole("size", size, least=4, most=MOST_OBJECT) ** 2)
    return _object("points", size, seed, (max(count, 1),), phase, chunks)


def grf(
    size: int, seed: int = 0, *, exponent: float = -0.4, phase: bool = False, chunks: int | None = None
) -> xr.DataArray:
    """Return a Gaussian random field of power ``k^exponent``, scaled to run from 0 to 1.

    It is one Fourier transform of the whole canvas: tiles of a lazy one are cut from a field that is made once, with
    about 16 bytes for each pixel of it.

    Parameters
    ----------
    size, seed, phase, chunks
        As of `lines`.
    exponent : float
        Of the power spectrum.

    Examples
    --------
    >>> field = abs(grf(64))
    >>> float(field.min()), float(field.max())
    (0.0, 1.0)
    """
    if not math.isfinite(exponent):
        raise InputError(f"exponent={exponent}; expected a finite number")
    return _object("grf", size, seed, (float(exponent),), phase, chunks)


def dead_leaves(
    size: int,
    seed: int = 0,
    *,
    radii: tuple[float, float] = (4.0, 64.0),
    phase: bool = False,
    chunks: int | None = None,
) -> xr.DataArray:
    """Return discs that cover each other, of random grey, smoothed with σ = 1 pixel.

    Radii follow ``p(r) ∝ r⁻³``, which makes the statistics of natural images.

    Parameters
    ----------
    size, seed, phase, chunks
        As of `lines`.
    radii : (float, float)
        The smallest and the largest, in pixels.

    Examples
    --------
    >>> float(abs(dead_leaves(64, seed=3)).max()) <= 1
    True
    """
    least, most = (positive("radii", r) for r in radii)
    if least >= most:
        raise InputError(f"radii={radii}; expected the smaller first, such as (4, 64)")
    return _object("dead_leaves", size, seed, (least, most), phase, chunks)


def siemens_star(
    size: int, seed: int = 0, *, spokes: int = 36, phase: bool = False, chunks: int | None = None
) -> xr.DataArray:
    """Return a star of spokes, of the diameter of nine tenths of the canvas; the seed turns it.

    Parameters
    ----------
    size, seed, phase, chunks
        As of `lines`.
    spokes : int
        Bright spokes.

    Examples
    --------
    >>> round(float(abs(siemens_star(128)).mean()), 2)
    0.32
    """
    turn = 2 * math.pi * float(np.random.default_rng(np.random.SeedSequence(seed)).random())
    return _object("siemens_star", size, seed, (whole("spokes", spokes), turn), phase, chunks)


OBJECTS: dict[str, Callable[..., xr.DataArray]] = {
    f.__name__: f for f in (lines, grf, points, dead_leaves, siemens_star)
}


def sim_object_image(size: int, data_source: str = "lines", seed: int = 0, **options: Any) -> xr.DataArray:
    """Return an object by the name of its kind.

    Parameters
    ----------
    size : int
        Pixels along a side.
    data_source : {"lines", "grf", "points", "dead_leaves", "siemens_star"}
        Its kind.
    seed : int
        Of what is random about it.
    **options
        Of the function of that name.

    Examples
    --------
    >>> sim_object_image(64, data_source="grf").dtype
    dtype('complex64')
    """
    if data_source not in OBJECTS:
        raise unknown("data_source", data_source, OBJECTS)
    return OBJECTS[data_source](size, seed, **options)


def _object(kind: str, size: int, seed: int, options: tuple[Any, ...], phase: bool, chunks: int | None) -> xr.DataArray:
    size = whole("size", size, least=4, most=MOST_OBJECT)
    (key,) = streams(seed, 1)
    canvas = _Canvas(kind, size, (int(key[0]), int(key[1])), options)
    tile = whole("chunks", chunks) if chunks is not None else TILE if size > WHOLE else None
    amplitude = _field(canvas, tile) if kind == "grf" else _drawn(canvas, tile)
    if phase:
        amplitude = _with_phase(amplitude)
    made = OBJECT.make(amplitude.astype("complex64"))
    return made.assign_attrs(long_name=f"{kind} of seed {seed}")


def _drawn(canvas: _Canvas, tile: int | None) -> xr.DataArray:
    """Draw a canvas tile by tile."""
    rows, columns = (count_along(d, canvas.size, tile) for d in DIMS)
    # both broadcast to two dimensions, or a tile's rows would not be of one length
    return apply_kernel(canvas, rows, columns, core_dims=[[], []], output={}, token=repr(canvas), dtype="float32")


def _field(canvas: _Canvas, tile: int | None) -> xr.DataArray:
    """Make a random field as a whole, and cut it into tiles: a Fourier transform knows no parts."""
    if tile is None:
        return xr.DataArray(_random_field(canvas), dims=DIMS)
    shape = canvas.size, canvas.size
    made = _apply.prologue(partial(_random_field, canvas), shape=shape, token=repr(canvas), dtype="float32")
    return xr.DataArray(made.rechunk(tile), dims=DIMS)


def _random_field(canvas: _Canvas) -> np.ndarray:
    rng = np.random.Generator(np.random.Philox(key=canvas.words))
    return _array(kernels.random_field(canvas.size, canvas.options[0], rng))


def _with_phase(amplitude: xr.DataArray) -> xr.DataArray:
    """Return A·exp(iφ), φ = π tanh[(A − max A / 2) / (3 mean A)]."""
    double = amplitude.astype(float)
    parts = double.max(), double.mean()
    # of a tiled canvas once, since every tile needs both
    lazy = amplitude.chunks is not None
    both = _apply.prologue(_pair, *(p.data for p in parts), shape=(2,), token="phase") if lazy else _pair(*parts)
    top, mean = xr.DataArray(both, dims="limit")
    turned: xr.DataArray = amplitude * np.exp(1j * np.pi * np.tanh((double - top / 2) / (3 * mean)))
    return turned


def _pair(first: Any, second: Any) -> np.ndarray:
    # single precision, so that the order of the sum over tiles does not show
    return np.array([first, second], np.float32).astype(float)


def checked(image: Any) -> xr.DataArray:
    """Return an object as a complex64 DataArray with our dimensions; lazy if it is.

    Raises
    ------
    InputError, InputTypeError
        If it is no two-dimensional array of numbers.
    """
    array = image if isinstance(image, xr.DataArray) else None
    if array is None:
        values = as_array("the object", image)
        if values.ndim == 3 and values.shape[-1] == 1:
            values = values[..., 0]  # (H, W, 1), as older code returns it
        if values.dtype.kind not in "biufc":
            raise InputTypeError(f"the object holds {values.dtype}; expected complex numbers")
        array = xr.DataArray(values, dims=[f"dim_{i}" for i in range(values.ndim)])
    if array.ndim != 2:
        raise InputError(f"the object has shape {array.shape}; expected two dimensions, (rows, columns)")
    name = {"long_name": array.attrs["long_name"]} if "long_name" in array.attrs else {}
    made = OBJECT.make(array.rename(dict(zip(array.dims, DIMS, strict=True))).drop_vars(array.coords))
    return made.assign_attrs(name)
