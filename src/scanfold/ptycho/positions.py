"""Scan positions that a simulation draws: nominal ones, and the true ones beside them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from scanfold._apply import apply_kernel, count_along
from scanfold.conventions import InputError, InputTypeError, Var, require_word
from scanfold.grouping.options import whole
from scanfold.ptycho import _position_kernels as kernels
from scanfold.ptycho.config import positive, streams

#: True positions, and nominal ones where they differ.
POSITIONS = (
    Var("position_y", ("position",), "float64", "true position along the object's rows", "pixel"),
    Var("position_x", ("position",), "float64", "true position along the object's columns", "pixel"),
    Var("position_y_nominal", ("position",), "float64", "nominal position along the object's rows", "pixel"),
    Var("position_x_nominal", ("position",), "float64", "nominal position along the object's columns", "pixel"),
)
#: Standard deviations at which jitter is cut, so that a margin holds every patch.
CUT = 4.0
#: More positions than these are made lazily, so many in a chunk.
EAGER, CHUNK = 2**24, 2**16


@dataclass(frozen=True)
class _Positions:
    """From numbers of positions (n,) to nominal and true y, x, (n, 4)."""

    pattern: str
    box: tuple[float, float, float, float]
    options: tuple[Any, ...]
    jitter: float
    keys: tuple[tuple[int, int], tuple[int, int]]

    def __call__(self, numbers: np.ndarray) -> np.ndarray:
        keys = [np.array(k, np.uint64) for k in self.keys]
        numbers = np.ascontiguousarray(numbers, np.int64)
        options = (keys[0],) if self.pattern == "uniform" else self.options
        nominal = _function(self.pattern)(numbers, self.box, *options)
        true = nominal
        if self.jitter:
            true = nominal + kernels.jitter(numbers, self.jitter, CUT * self.jitter, keys[1])
        return np.concatenate([true, nominal], axis=1)


def _function(pattern: str) -> Callable[..., np.ndarray]:
    return kernels.PATTERNS[pattern]


def scan_positions(
    pattern: str,
    n: int,
    object_shape: Sequence[int],
    N: int,
    *,
    buffer: float = 0.0,
    jitter: float = 0.0,
    shape: tuple[int, int] | None = None,
    turns: tuple[int, int] | None = None,
    chunks: int | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Return `n` positions on an object, such that every patch of ``(N, N)`` pixels lies inside it.

    A patch's pixel (r, c) is the object's at ``(y − N/2 + r, x − N/2 + c)``.

    Parameters
    ----------
    pattern : {"uniform", "raster", "spiral", "fermat", "lissajous"}
        Independent uniform positions; rows; an Archimedean or a Fermat spiral of even density; a Lissajous figure.
    n : int
        Positions.
    object_shape : (int, int)
        Rows and columns of the object.
    N : int
        Pixels along a side of a patch.
    buffer : float
        Least distance of a nominal position from the object's edges, in pixels; where patches or jitter need more,
        more is kept.
    jitter : float
        Standard deviation in pixels, along y and x, of true positions from nominal ones; cut at four of them.
    shape : (int, int), optional
        Rows and columns of a raster; as square as possible if not given.
    turns : (int, int), optional
        Oscillations of a Lissajous figure along y and x; about ``√n / 2``, and one more, if not given.
    chunks : int, optional
        Make them lazily, so many in a chunk. If not given, more than 2²⁴ are, 2¹⁶ in a chunk.
    seed : int
        Of uniform positions and of the jitter.

    Returns
    -------
    Dataset
        `position_y`, `position_x`, and with jitter `position_y_nominal`, `position_x_nominal`, over
        (position). A position depends on its number and the options only.

    Raises
    ------
    InputError
        If the object is too small, or an option cannot be.

    Examples
    --------
    >>> scan = scan_positions("raster", 6, (100, 120), 64, shape=(2, 3))
    >>> scan["position_y"].values.tolist(), scan["position_x"].values.tolist()
    ([32.0, 32.0, 32.0, 68.0, 68.0, 68.0], [32.0, 60.0, 88.0, 32.0, 60.0, 88.0])
    """
    n, jitter = whole("n", n), positive("jitter", jitter, zero=True)
    box = _box(object_shape, whole("N", N), positive("buffer", buffer, zero=True), jitter)
    keys = tuple(tuple(int(w) for w in key) for key in streams(seed, 2))
    kernel = _Positions(pattern, box, _options(pattern, n, shape, turns), jitter, keys)  # type: ignore[arg-type]
    chunk = whole("chunks", chunks) if chunks is not None else CHUNK if n > EAGER else None
    numbers = count_along("position", n, chunk)
    made = apply_kernel(kernel, numbers, core_dims=[[]], output={"axis": 4}, token=repr(kernel))
    variables = {v.name: v.make(made.isel(axis=i)) for i, v in enumerate(POSITIONS) if jitter or i < 2}
    return xr.Dataset(variables)


def _box(object_shape: Sequence[int], N: int, buffer: float, jitter: float) -> tuple[float, float, float, float]:
    """Return y0, y1, x0, x1 between which nominal positions may lie."""
    margin = max(buffer, N / 2 + math.ceil(CUT * jitter))
    height, width = (whole("object_shape", v) for v in object_shape)
    if min(height, width) < 2 * margin:
        raise InputError(
            f"an object of {height} × {width} pixels has no room for positions {margin:g} pixels from all its edges "
            f"(N={N}, buffer={buffer:g}, jitter={jitter:g}); it needs {math.ceil(2 * margin)} pixels along each side"
        )
    return margin, height - margin, margin, width - margin


def _options(pattern: str, n: int, shape: tuple[int, int] | None, turns: tuple[int, int] | None) -> tuple[Any, ...]:
    """Return what the kernel of a pattern takes besides numbers and box."""
    require_word("pattern", pattern, kernels.PATTERNS)
    if shape is not None and pattern != "raster":
        raise InputError(f"shape= is of pattern='raster'; found pattern={pattern!r}")
    if turns is not None and pattern != "lissajous":
        raise InputError(f"turns= is of pattern='lissajous'; found pattern={pattern!r}")
    if pattern == "raster":
        rows = max(1, math.isqrt(n))
        shape = (rows, -(-n // rows)) if shape is None else _pair("shape", shape)
        if shape[0] * shape[1] < n:
            raise InputError(f"shape={tuple(shape)} has {shape[0] * shape[1]} positions; n={n} does not fit")
        return (shape,)
    if pattern == "lissajous":
        most = max(1, round(math.sqrt(n) / 2))
        return n, (most, most + 1) if turns is None else _pair("turns", turns)
    return () if pattern == "uniform" else (n,)


def _pair(name: str, value: Any) -> tuple[int, int]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise InputTypeError(f"{name}={value!r}; expected two whole numbers, such as ({name}_y, {name}_x)")
    return whole(name, value[0]), whole(name, value[1])


def given(positions: Any, object_shape: Sequence[int], N: int) -> xr.Dataset:
    """Return positions of the user as a Dataset.

    Parameters
    ----------
    positions : Dataset, or pair of array-likes
        `position_y` and `position_x`, or ``(y, x)``; in memory.
    object_shape, N
        Of the object and of a patch.

    Raises
    ------
    InputError
        If they are not finite, of unequal length, or a patch reaches outside the object.
    """
    if isinstance(positions, xr.Dataset):
        found: Mapping[str, Any] = {v.name: positions[v.name] for v in POSITIONS if v.name in positions}
        positions = tuple(positions.get(name, ()) for name in ("position_y", "position_x"))
    else:
        found = {}
    try:
        y, x = (np.asarray(p, float) for p in positions)
    except (TypeError, ValueError):
        raise InputTypeError(
            f"positions= is a {type(positions).__name__}; expected the name of a pattern, or (y, x), two arrays"
        ) from None
    if y.ndim != 1 or y.shape != x.shape or not y.size:
        raise InputError(f"positions= takes two arrays of one length; found shapes {y.shape} and {x.shape}")
    require_inside(y, x, object_shape, N)
    made = dict(zip(("position_y", "position_x"), (y, x), strict=True))
    nominal = {k: np.asarray(v, float) for k, v in found.items() if k.endswith("nominal")}
    return xr.Dataset({v.name: v.make(xr.DataArray((made | nominal)[v.name], dims="position"))
                       for v in POSITIONS if v.name in made | nominal})  # fmt: skip


def require_inside(y: np.ndarray, x: np.ndarray, object_shape: Sequence[int], N: int) -> None:
    """Raise unless every patch lies inside the object; the error says where the first that does not is."""
    height, width = object_shape
    inside = (y >= N / 2) & (y <= height - N / 2) & (x >= N / 2) & (x <= width - N / 2)
    if not inside.all():
        first = int(np.flatnonzero(~inside)[0])
        raise InputError(
            f"{int((~inside).sum())} of {y.size} positions are not finite, or their patch of {N} × {N} pixels reaches "
            f"outside the object of {height} × {width}; the first is number {first} at y={y[first]:g}, x={x[first]:g}. "
            f"Allowed: y from {N / 2:g} to {height - N / 2:g}, x from {N / 2:g} to {width - N / 2:g}"
        )
