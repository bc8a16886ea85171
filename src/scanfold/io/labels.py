"""What a file says about its arrays: names of dimensions, coordinates, units; and folding a stack into a map."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from scanfold.conventions import DETECTOR_DIMS, SCAN_DIMS, InputError, InputTypeError
from scanfold.io.arrays import FileArray, Folded

#: Points of an axis that has no coordinates in its file up to which it is given some.
MOST_POINTS = 2**24
#: Bytes of a coordinate, which is read when a file is opened, up to which a header is believed.
MOST_COORDINATE = 2**28
#: Attributes of arrays and axes that are kept.
KEPT = ("units", "long_name")


@dataclass(frozen=True)
class Coordinate:
    """Values along dimensions of the signal, read when the file is opened."""

    dims: tuple[str, ...]
    values: np.ndarray
    attrs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Signal:
    """One array of a scan, with its dimensions named."""

    name: str
    data: FileArray
    dims: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    native: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Contents:
    """What is opened from a file: the signal, what belongs to it, and the number of its detector dimensions.

    ``identity`` adds to the identity of a file whose data is in others; ``fixed`` is a chunking that the format forces;
    ``attrs`` are the Dataset's.
    """

    signal: Signal
    detector: int
    coords: Mapping[str, Coordinate] = field(default_factory=dict)
    others: tuple[Signal, ...] = ()
    identity: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, int] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def detector_dims(self) -> tuple[str, ...]:
        """The signal's last dimensions, which belong to the detector."""
        return self.signal.dims[len(self.signal.dims) - self.detector :]


def counted(size: int) -> np.ndarray | None:
    """Return 0, 1, 2 … along an axis; None for one so long that its header is likely wrong."""
    return np.arange(size) if size <= MOST_POINTS else None


def detector_dims(dims: Sequence[str]) -> int:
    """Count the last dimensions that belong to the detector.

    They are those after the scan's; failing that, the last ones with a detector's name; failing that, by convention.

    Examples
    --------
    >>> detector_dims(("y", "x", "raman_shift")), detector_dims(("sample_z", "a", "b", "c"))
    (1, 2)
    >>> detector_dims(("row", "column", "energy"))
    1
    """
    lead = 0
    while lead < len(dims) and dims[lead] in SCAN_DIMS:
        lead += 1
    if lead:
        return len(dims) - lead
    last = 0
    while last < len(dims) and dims[-1 - last] in DETECTOR_DIMS:
        last += 1
    return last or default_detector(len(dims))


def default_detector(ndim: int) -> int:
    """Return how many of `ndim` unnamed dimensions belong to the detector."""
    return min(ndim, 1) if ndim < 3 else 2


def default_dims(ndim: int, detector: int | None = None) -> tuple[str, ...]:
    """Name dimensions about which nothing is known.

    Examples
    --------
    >>> for ndim in range(1, 6):
    ...     print(default_dims(ndim))
    ('index',)
    ('position', 'index')
    ('position', 'ky', 'kx')
    ('y', 'x', 'ky', 'kx')
    ('dim_0', 'y', 'x', 'ky', 'kx')
    """
    detector = default_detector(ndim) if detector is None else min(detector, ndim)
    ends = {0: (), 1: ("index",), 2: ("ky", "kx")}
    last = ends.get(detector, (*(f"frame_{i}" for i in range(detector - 2)), "ky", "kx"))
    lead = ndim - detector
    first = {0: (), 1: ("position",)}.get(lead, (*(f"dim_{i}" for i in range(lead - 2)), "y", "x"))
    return (*first, *last)


def fill_dims(names: Sequence[str | None], detector: int | None = None) -> tuple[str, ...]:
    """Complete names of which some are missing.

    Examples
    --------
    >>> fill_dims([None, None, "energy"], detector=1)
    ('y', 'x', 'energy')
    """
    filled: list[str] = []
    for i, (name, default) in enumerate(zip(names, default_dims(len(names), detector), strict=True)):
        candidates = [name, default] if name else [default]
        taken = {*filled, *(n for n in names[i + 1 :] if n)} if not name else set(filled)
        filled.append(next((c for c in candidates if c not in taken), f"dim_{i}"))
    return tuple(filled)


def dim_name(text: str) -> str:
    """Make a dimension's name of an axis title.

    Examples
    --------
    >>> dim_name("Energy loss")
    'energy_loss'
    """
    return re.sub(r"\W+", "_", text.strip()).strip("_").lower()


def fold(contents: Contents, scan_shape: Sequence[int], where: str) -> Contents:
    """Fold a stack of N frames or spectra into the map ``(y, x, …)``; check an array that is one already.

    Raises
    ------
    InputError
        If the sizes do not fit; it gives N and its factor pairs.
    """
    ny, nx = _scan_shape(scan_shape)
    signal, shape = contents.signal, contents.signal.data.shape
    if shape[0] != ny * nx and shape[:2] == (ny, nx):
        return contents
    if shape[0] != ny * nx or signal.data.ndim < 2:
        raise InputError(
            f"scan_shape={(ny, nx)} does not fit {where} of shape {shape}: it needs {ny * nx} positions, and the first "
            f"dimension has {shape[0]}, which is {_factors(shape[0])} (rows, columns)"
        )
    old = signal.dims[0]
    dims = fill_dims(["y", "x", *(None if d in ("y", "x") else d for d in signal.dims[1:])], contents.detector)
    new = {old: ("y", "x"), **{a: (b,) for a, b in zip(signal.dims[1:], dims[2:], strict=True)}}
    coords = {}
    for name, coord in contents.coords.items():
        sizes = [n for d in coord.dims for n in ((ny, nx) if d == old else (shape[signal.dims.index(d)],))]
        # A position that was called x or y would hide the dimension of that name.
        title = f"position_{name}" if name in ("y", "x") and old in coord.dims else name
        folded = tuple(n for d in coord.dims for n in new[d])
        coords[title] = Coordinate(folded, coord.values.reshape(sizes), coord.attrs)
    return replace(
        contents,
        signal=_folded(signal, new, (ny, nx)),
        others=tuple(_folded(o, new, (ny, nx)) if o.dims[0] == old else o for o in contents.others),
        coords=coords,
        detector=min(contents.detector, len(shape) - 1),
        fixed={d: s for d, s in contents.fixed.items() if d in dims},
    )


def _folded(signal: Signal, new: Mapping[str, tuple[str, ...]], scan_shape: tuple[int, int]) -> Signal:
    native = signal.native
    if native is not None:
        native = (*_fold_chunk(native[0], scan_shape), *native[1:])
    dims = tuple(n for d in signal.dims for n in new.get(d, (d,)))
    return replace(signal, data=Folded.of(signal.data, scan_shape), dims=dims, native=native)


def _fold_chunk(frames: int, scan_shape: tuple[int, int]) -> tuple[int, int]:
    """Return the chunk of the map that a chunk of the stack makes, (1, 1) if it makes none."""
    ny, nx = scan_shape
    if nx % frames == 0:
        return 1, frames
    return (min(frames // nx, ny), nx) if frames % nx == 0 else (1, 1)


def _scan_shape(scan_shape: Sequence[int]) -> tuple[int, int]:
    try:
        ny, nx = scan_shape
        if int(ny) == ny > 0 and int(nx) == nx > 0:
            return int(ny), int(nx)
    except (TypeError, ValueError):
        pass
    raise InputTypeError(f"scan_shape= takes the rows and columns of the map, (ny, nx); found {scan_shape!r}")


def _factors(n: int) -> str:
    pairs = [(a, n // a) for a in range(max(math.isqrt(n), 1), 0, -1) if n % a == 0][:6]
    return " = ".join(f"{a} × {b}" for a, b in pairs)


def rename(contents: Contents, dims: Sequence[str], where: str) -> Contents:
    """Give the signal's dimensions new names, in their order.

    Raises
    ------
    InputError
        If their number does not fit or a name comes twice.
    """
    try:
        names = (dims,) if isinstance(dims, str) else tuple(dims)
    except TypeError:
        raise InputTypeError(f"dims= takes the names of all dimensions, in order; found {dims!r}") from None
    old = contents.signal.dims
    if len(names) != len(old) or not all(isinstance(n, str) and n for n in names) or len(set(names)) != len(names):
        raise InputError(
            f"dims={names} cannot name the {len(old)} dimensions of {where}, shape {contents.signal.data.shape}: "
            f"expected {len(old)} different names, such as {old}"
        )
    new = dict(zip(old, names, strict=True))
    coords = {}
    for name, coord in contents.coords.items():
        title = new.get(name, name)
        if title in names and coord.dims != (name,):
            title = f"position_{title}"
        coords[title] = replace(coord, dims=tuple(new.get(d, d) for d in coord.dims))
    return replace(
        contents,
        signal=replace(contents.signal, dims=names),
        others=tuple(replace(o, dims=tuple(new.get(d, d) for d in o.dims)) for o in contents.others),
        coords=coords,
        detector=detector_dims(names),
        fixed={new.get(d, d): s for d, s in contents.fixed.items()},
    )
