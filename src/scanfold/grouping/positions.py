"""The positions of a scan, as every operation on them takes them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from scanfold.conventions import InputError, InputTypeError, unknown

Array = npt.NDArray[Any]

#: Names of the coordinates that hold positions: where the beam was, and where it was meant to be.
TRUE, NOMINAL = ("position_y", "position_x"), ("position_y_nominal", "position_x_nominal")
#: Positions of a raster of so many are spread over it at once.
SMALL = 2**20
#: Lazy positions up to this many are read when they are needed; more want an index.
MOST = 2**24
#: Coordinates up to which squares of distances are numbers.
FARTHEST = 1e150


def positions_of(obj: Any, names: tuple[str, str] = TRUE) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the positions along y and along x, each over one dimension, in memory.

    Parameters
    ----------
    obj : Dataset, DataArray or (n, 2) array
        A scan with the coordinates (or variables) `names`, over the same dimensions or, of a raster, one over each; an
        array has columns y, x.

    Raises
    ------
    InputError, InputTypeError
        If there are none, their lengths differ, some are not finite, or there are too many lazy ones to be read.
    """
    y, x = lazy_positions(obj, names)
    if y.chunks is not None and y.size > MOST:
        raise InputError(
            f"{y.size:,} lazy positions are too many to hold at once (at most {MOST:,}); make an index of them first: "
            "index = grouping.index_positions(scan, 'positions.index'), then plan_groups(index, …)"
        )
    for each in (y, x):
        if each.dtype.kind not in "biuf":
            raise InputTypeError(f"positions {each.name!r} have dtype {each.dtype}; expected numbers")
    y, x = (flat(a.astype("float64").compute()) for a in (y, x))
    wrong = np.flatnonzero(~(np.isfinite(y.values) & np.isfinite(x.values)))
    if wrong.size:
        shown = ", ".join(map(str, wrong[:5])) + (", …" if wrong.size > 5 else "")
        raise InputError(
            f"{wrong.size} of {y.size} positions are NaN or infinite (at {shown}); leave them out: "
            "scan.isel(position=np.isfinite(scan.position_y.values))"
        )
    farthest = max(float(np.abs(a.values).max(initial=0.0)) for a in (y, x))
    if farthest > FARTHEST:
        raise InputError(f"a position is {farthest:g} away from 0; squares of such distances are no numbers")
    return y, x


def lazy_positions(obj: Any, names: tuple[str, str] = TRUE) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the positions along y and along x as they are, lazy or not; there are as many of both."""
    if isinstance(obj, xr.Dataset | xr.DataArray) and not _is_table(obj, names):
        y, x = _of_scan(obj, names)
    else:
        y, x = _of_table(obj, names)
    if y.dims != x.dims or y.shape != x.shape:
        raise InputError(f"{names[0]} has {dict(y.sizes)} and {names[1]} {dict(x.sizes)}; expected as many of both")
    return y, x


def index_dtype(count: int) -> type[np.int32] | type[np.int64]:
    """Return the smallest type that holds the indices of so many positions."""
    return np.int32 if count <= 2**31 else np.int64


def _is_table(obj: xr.Dataset | xr.DataArray, names: tuple[str, str]) -> bool:
    return isinstance(obj, xr.DataArray) and obj.ndim == 2 and obj.shape[1] == 2 and names[0] not in obj.coords


def _of_scan(obj: xr.Dataset | xr.DataArray, names: tuple[str, str]) -> tuple[xr.DataArray, xr.DataArray]:
    dims = scan_dims(obj, names)
    y, x = (obj[n].reset_coords(drop=True) for n in names)
    if y.dims == x.dims == dims:
        return y, x
    sizes = {str(d): a.sizes[d] for a in (y, x) for d in a.dims}
    if math.prod(sizes.values()) > SMALL:  # rows of a raster, some at a time
        rows = {dims[0]: max(1, SMALL * sizes[dims[0]] // math.prod(sizes.values()))} if dims else {}
        y, x = (a.chunk({d: rows.get(str(d), -1) for d in a.dims}) for a in (y, x))
    return tuple(a.broadcast_like(b).transpose(*dims).assign_attrs(a.attrs) for a, b in ((y, x), (x, y)))  # type: ignore[return-value]


def scan_dims(obj: xr.Dataset | xr.DataArray, names: tuple[str, str] = TRUE) -> tuple[str, ...]:
    """Return the dimensions that the positions of a scan are over, in the order of its frames.

    A raster may have ``position_y (y)`` and ``position_x (x)``: each row has one y, each column one x.

    Raises
    ------
    InputError
        If there are no such coordinates.
    """
    held = set(obj.variables) if isinstance(obj, xr.Dataset) else set(obj.coords)
    if not set(names) <= held:
        raise InputError(
            f"found no positions: expected the coordinates {names[0]} and {names[1]}, found "
            f"{', '.join(map(str, held)) or 'none'}. Assign them: "
            f"scan.assign_coords({names[0]}=('position', y), {names[1]}=('position', x))"
        )
    found = [str(d) for d in dict.fromkeys((*obj[names[0]].dims, *obj[names[1]].dims))]
    frames = obj if isinstance(obj, xr.DataArray) else obj.get(obj.attrs.get("primary", ""))
    order = [] if frames is None else [str(d) for d in frames.dims]
    return tuple(sorted(found, key=lambda d: order.index(d) if d in order else -1))


def _of_table(obj: Any, names: tuple[str, str]) -> tuple[xr.DataArray, xr.DataArray]:
    values = obj.data if isinstance(obj, xr.DataArray) else np.asarray(obj)
    if values.ndim != 2 or values.shape[1] != 2 or values.dtype.kind not in "biuf":
        raise InputTypeError(
            f"expected a scan with positions, or an (n, 2) array of numbers with columns y, x; found "
            f"{type(obj).__name__} of shape {getattr(values, 'shape', ())}"
        )
    return tuple(xr.DataArray(values[:, i], dims="position", name=names[i]) for i in range(2))  # type: ignore[return-value]


def flat(array: xr.DataArray) -> xr.DataArray:
    """Lay a grid of positions out as a line, row after row, lazily if it is lazy."""
    if array.ndim == 1:
        return array
    return xr.DataArray(array.data.reshape(-1), dims="position", name=array.name, attrs=array.attrs)


def lazy_labels(partition: Any, scan: Any, count: int) -> xr.DataArray | None:
    """Return a label for each of `count` positions, as it is, lazy or not; None where there are none.

    Parameters
    ----------
    partition : str, array or None
        The name of a variable of the scan, or the labels.

    Raises
    ------
    InputError
        If there is no such variable, or not one label for each position.
    """
    if partition is None:
        return None
    if isinstance(partition, str):
        if not isinstance(scan, xr.Dataset | xr.DataArray) or (partition not in scan.coords and partition not in scan):
            held = list(map(str, getattr(scan, "variables", getattr(scan, "coords", ()))))
            raise unknown("variable for partition=", partition, held)
        partition = scan[partition]
    if not isinstance(partition, xr.DataArray):
        values = np.asarray(partition)
        partition = xr.DataArray(values, dims=[f"dim_{i}" for i in range(values.ndim)], name="partition")
    if partition.size != count:
        raise InputError(f"partition has {partition.size} labels for {count} positions; expected one for each")
    return flat(partition.reset_coords(drop=True))


def to_pixels(scan: xr.Dataset, *, pixel_size: float | None = None, affine: Any = None) -> xr.Dataset:
    """Return a scan with its positions, true and nominal, in pixels of the object.

    Parameters
    ----------
    scan : Dataset
        Positions in metres, or in pixels already.
    pixel_size : float, optional
        Metres in a pixel of the object. Where the scan has ``energy``, ``distance`` and ``detector_pixel``, it is
        λ z / (N Δ), λ = hc / E; where it has ``pixel_size``, that.
    affine : (2, 2) or (2, 3) array, optional
        Applied to (y, x) in pixels after that: a rotation, a shear, and in a third column a shift.

    Raises
    ------
    InputError
        If positions are in metres and the size of a pixel is unknown.

    Examples
    --------
    >>> scan = xr.Dataset(coords={n: ("position", [0.0, 2e-6], {"units": "m"}) for n in TRUE})
    >>> to_pixels(scan, pixel_size=5e-7, affine=[[0, 1, 10], [1, 0, 0]]).position_y.values.tolist()
    [10.0, 14.0]
    """
    units = {str(scan[n].attrs.get("units", "")) for n in TRUE if n in scan.variables}
    step = 1.0
    if units == {"m"}:
        step = _object_pixel(scan) if pixel_size is None else pixel_size
    elif units != {"pixel"}:
        raise InputError(f"positions have units {sorted(units)}; expected both in m, or both in pixel")
    matrix = np.eye(2, 3) if affine is None else np.asarray(affine, float)
    if matrix.shape not in ((2, 2), (2, 3)):
        raise InputError(f"affine has shape {matrix.shape}; expected (2, 2), or (2, 3) with a shift in pixels")
    matrix = np.concatenate([matrix, np.zeros((2, 3 - matrix.shape[1]))], axis=1)
    out = {}
    for names in (TRUE, NOMINAL):
        if names[0] in scan.variables:
            y, x = (scan[n] / step for n in names)
            for name, row in zip(names, matrix, strict=True):
                out[name] = (row[0] * y + row[1] * x + row[2]).assign_attrs({**scan[name].attrs, "units": "pixel"})
    return scan.assign_coords(out)


def _object_pixel(scan: xr.Dataset) -> float:
    if "pixel_size" in scan.variables:
        return float(scan["pixel_size"])
    missing = [n for n in ("energy", "distance", "detector_pixel") if n not in scan.variables]
    if missing or "kx" not in scan.sizes:
        raise InputError(f"positions are in m and the scan has no {', '.join(missing)}; pass pixel_size= in m")
    joules = {"J": 1.0, "eV": 1.602176634e-19, "keV": 1.602176634e-16}
    units = scan["energy"].attrs.get("units")
    if units not in joules:
        raise InputError(f"energy in {units!r}; expected J, eV or keV, or pass pixel_size= in m")
    wavelength = 6.62607015e-34 * 299_792_458 / (float(scan["energy"]) * joules[units])
    return wavelength * float(scan["distance"]) / (scan.sizes["kx"] * float(scan["detector_pixel"]))
