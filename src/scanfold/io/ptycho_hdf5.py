"""Ptychography in HDF5: CXI, NXcxi_ptycho, PtyPy's .ptyd, and any file whose fields are named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np

from scanfold.conventions import InputError
from scanfold.io.arrays import FileArray, Joined
from scanfold.io.hdf5 import array, examined, listing
from scanfold.io.labels import MOST_COORDINATE, Contents, Coordinate
from scanfold.io.layout import attributes
from scanfold.io.listing import shown
from scanfold.io.ptycho import assembled
from scanfold.io.views import Unfolded

#: Layouts by the fields that they have, the first whose frames and positions are there. Tables of positions have the
#: columns x, y(, z) in CXI, and y, x in .ptyd.
LAYOUTS: tuple[dict[str, str], ...] = (
    {
        "diffraction": "entry_1/instrument_1/detector_1/data",
        "position_x": "entry_1/sample_1/transformations/x",
        "position_y": "entry_1/sample_1/transformations/y",
        "probe": "entry_1/instrument_1/beam_1/illumination",
        "energy": "entry_1/instrument_1/beam_1/energy",
        "distance": "entry_1/instrument_1/detector_1/distance",
        "detector_pixel": "entry_1/instrument_1/detector_1/x_pixel_size",
    },
    {
        "diffraction": "entry_1/data_1/data",
        "table_xy": "entry_1/data_1/translation",
        "probe": "entry_1/instrument_1/source_1/illumination",
        "energy": "entry_1/instrument_1/source_1/energy",
        "distance": "entry_1/instrument_1/detector_1/distance",
        "detector_pixel": "entry_1/instrument_1/detector_1/x_pixel_size",
    },
    {
        "diffraction": "entry_1/instrument_1/detector_1/data",
        "table_xy": "entry_1/sample_1/geometry_1/translation",
        "probe": "entry_1/instrument_1/source_1/illumination",
        "energy": "entry_1/instrument_1/source_1/energy",
        "distance": "entry_1/instrument_1/detector_1/distance",
        "detector_pixel": "entry_1/instrument_1/detector_1/x_pixel_size",
    },
)
_PTYD = {"energy": "meta/energy", "distance": "meta/distance", "pixel_size": "meta/psize"}
_SCALARS = {
    "energy": "photon energy",
    "distance": "distance from sample to detector",
    "detector_pixel": "width of a detector pixel",
    "pixel_size": "width of a pixel of the object",
}
#: Units where the file says none, by its layout.
_UNITS = {"energy": "J", "distance": "m", "detector_pixel": "m", "pixel_size": "m"}


def contents(path: str, named: Mapping[str, str], kind: str | None, locking: bool | None) -> Contents:
    """Open a file of one of the layouts, or with named fields."""
    with examined(path, locking) as file:
        if not named and "chunks" in file and isinstance(file["chunks"], h5py.Group):
            return _ptyd(path, file, kind, locking)
        fields = _layout(path, file, named)
        for name, at in fields.items():
            if at not in file or not isinstance(file[at], h5py.Dataset):
                field = "positions" if name.startswith("table") else name
                raise InputError(f"no dataset {at!r} for {field!r} in {path!r}; it has {shown(listing(file))}")
        small, units = _positions(path, file, fields)
        frames: FileArray = array(path, file, fields["diffraction"], locking)
        if frames.ndim == 4:
            small = {n: _over_grid(n, v, frames.shape[:2]) for n, v in small.items()}
            frames = Unfolded.of(frames)
        arrays = {"diffraction": frames}
        for name in ("probe", "object", "Y"):
            if name in fields:
                arrays[name] = array(path, file, fields[name], locking)
        natives = {"diffraction": file[fields["diffraction"]].chunks}
        scalars = {n: s for n in _SCALARS if n in fields and (s := _scalar(file[fields[n]], n)) is not None}
        return assembled(path, arrays, small, units, kind or "intensity", natives, scalars=scalars)


def _layout(path: str, file: h5py.File, named: Mapping[str, str]) -> dict[str, str]:
    if named:
        fields = dict(named)
        if "positions" in fields:
            fields["table_yx"] = fields.pop("positions")
        if "diffraction" in fields:
            return fields
    for layout in LAYOUTS:
        needed = [n for n in layout if n == "diffraction" or n.startswith(("position", "table"))]
        if all(layout[n] in file for n in needed):
            return {n: at for n, at in layout.items() if at in file} | dict(named)
    raise InputError(
        f"{path!r} follows none of the layouts CXI, NXcxi_ptycho and .ptyd; name its arrays: "
        f"fields={{'diffraction': …, 'positions': …}}. It has {shown(listing(file))}"
    )


def _positions(path: str, file: h5py.File, fields: Mapping[str, str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read everything that has one value for each position, and its units."""
    small: dict[str, np.ndarray] = {}
    units: dict[str, str] = {}
    for name, at in fields.items():
        if name in _SCALARS or name in ("diffraction", "probe", "object", "Y"):
            continue
        values = _read(path, file[at])
        # what a layout of the field does not say is in metres; in a file with named fields nothing is guessed
        unit = attributes(file[at]).get("units") or ("m" if "energy" in fields or at.startswith("entry_1/") else "")
        if name.startswith("table"):
            if values.ndim != 2 or values.shape[1] < 2:
                raise InputError(f"positions {at!r} of {path!r} have shape {values.shape}; expected (M, 2)")
            first = ("position_x", "position_y") if name == "table_xy" else ("position_y", "position_x")
            small |= dict(zip(first, values.T[:2], strict=True))
            units |= dict.fromkeys(first, unit)
        else:
            small[name], units[name] = values, unit
    return small, units


def _read(path: str, node: h5py.Dataset) -> np.ndarray:
    if node.dtype.kind not in "biuf":
        raise InputError(f"positions {node.name!r} of {path!r} are of type {node.dtype}; expected numbers")
    if node.size * node.dtype.itemsize > MOST_COORDINATE:
        raise InputError(f"{node.name!r} of {path!r} claims {node.shape} values; the file's header is wrong")
    return np.asarray(node[()])


def _over_grid(name: str, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Spread positions along one side of a raster over all of it."""
    if values.size == shape[0] * shape[1]:
        return values.reshape(-1)
    along_y = name.endswith("y")
    if values.shape == (shape[0 if along_y else 1],):
        return np.broadcast_to(values[:, None] if along_y else values, shape).reshape(-1)
    return values


def _scalar(node: h5py.Dataset, name: str) -> Coordinate | None:
    values = np.asarray(node[()]) if node.dtype.kind in "biuf" and node.size <= 3 else np.empty(0)
    if not values.size:
        return None
    attrs = {"units": attributes(node).get("units") or _UNITS[name], "long_name": _SCALARS[name]}
    return Coordinate((), np.asarray(values.reshape(-1)[0]), attrs)


def _ptyd(path: str, file: h5py.File, kind: str | None, locking: bool | None) -> Contents:
    """Join the chunks of a .ptyd file, in the order of their numbers."""
    chunks = [
        file["chunks"][k] for k in sorted(file["chunks"], key=lambda k: int(k) if k.isdigit() else -1) if k.isdigit()
    ]
    missing = [c.name for c in chunks if "data" not in c or "positions" not in c]
    if not chunks or missing:
        raise InputError(f"{path!r} has {missing or 'no chunks'} without data and positions; expected chunks/0/data, …")
    parts = [array(path, file, f"{c.name.strip('/')}/data", locking) for c in chunks]
    frames = Joined.of(path, "chunks", parts) if len(parts) > 1 else parts[0]
    table = np.concatenate([_read(path, c["positions"]) for c in chunks])
    small = {"position_y": table[:, 0], "position_x": table[:, 1]}
    natives: dict[str, Any] = {"diffraction": chunks[0]["data"].chunks}
    scalars = {n: s for n, at in _PTYD.items() if at in file and (s := _scalar(file[at], n)) is not None}
    if "energy" in scalars:
        keV = dict(scalars["energy"].attrs) | {"units": "keV"}
        scalars["energy"] = Coordinate((), scalars["energy"].values, keV)
    units = dict.fromkeys(small, "m")
    return assembled(path, {"diffraction": frames}, small, units, kind or "intensity", natives, scalars=scalars)
