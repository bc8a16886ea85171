"""Ptychography: diffraction at positions, with what belongs to it, from the layouts that the field uses.

A scan has the frames ``diffraction (position, ky, kx)`` with zero frequency in the middle, the coordinates
``position_y, position_x`` (where the beam was) and, if the file tells them apart, ``position_y_nominal,
position_x_nominal`` (where it was meant to be), and as far as they are there ``probe ([mode,] probe_y, probe_x)``,
``object (object_y, object_x)`` and ``Y (position, probe_y, probe_x)``, the object under the beam. ``attrs["kind"]``
is "amplitude" or "intensity". Of an NPZ file, ``norm_Y_I`` is the coordinate ``intensity_scale``, and what its
metadata say of photons, ``attrs["nphotons"]``.
"""

from __future__ import annotations

import json
import math
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import h5py
import numpy as np
import xarray as xr

from scanfold.conventions import InputError, InputTypeError, is_url, require_word, unknown
from scanfold.io import numpy as npz
from scanfold.io.arrays import FileArray, reading
from scanfold.io.formats import HDF5, format_of
from scanfold.io.labels import Contents, Coordinate, Signal
from scanfold.io.views import Centred, LastFirst, Squeezed

KINDS = ("amplitude", "intensity")
#: What `fields=` may name.
FIELDS = ("diffraction", "position_y", "position_x", "position_y_nominal", "position_x_nominal", "positions", "probe",
          "object", "Y", "scan_index", "object_index")  # fmt: skip

#: Names of NPZ members, the first that is there.
_FRAMES = ("diff3d", "diffraction", "data")
_MEMBERS = {
    "position_x": ("xcoords", "xcoords_start"),
    "position_y": ("ycoords", "ycoords_start"),
    "position_x_nominal": ("xcoords_start",),
    "position_y_nominal": ("ycoords_start",),
    "scan_index": ("scan_index",),
    "object_index": ("object_index",),
    "probe": ("probeGuess", "probe"),
    "object": ("objectGuess",),
    "Y": ("Y", "ground_truth_patches"),
}
_LONG = {
    "position_y": "position of the beam along y",
    "position_x": "position of the beam along x",
    "position_y_nominal": "intended position of the beam along y",
    "position_x_nominal": "intended position of the beam along x",
    "scan_index": "scan that the frame is of",
    "object_index": "object that the frame is of",
    "probe": "illumination",
    "object": "transmission of the object",
    "Y": "transmission of the object under the beam",
    "intensity_scale": "factor from amplitudes to square roots of photons",
}


def contents(
    path: str, dataset: str | None, locking: bool | None, *, fields: Mapping[str, str] | None, kind: str | None
) -> Contents:
    """Open a ptychography file: its frames, positions, probe and object.

    Raises
    ------
    InputError
        If frames or positions are missing, or do not fit each other; it says what is there.
    """
    if not isinstance(fields, Mapping | None):
        raise InputTypeError(f"fields= is a {type(fields).__name__}; expected a mapping of names, {', '.join(FIELDS)}")
    for name in fields or {}:
        require_word("field", name, FIELDS)
    if kind is not None:
        require_word("kind", kind, KINDS)
    named = dict(fields or {})
    if dataset is not None:
        named["diffraction"] = dataset
    with reading(path, dataset):
        remote = is_url(path)
        if not remote and zipfile.is_zipfile(path):
            return _npz(path, named, kind)
        if format_of(path) is HDF5 if remote else h5py.is_hdf5(path):
            from scanfold.io.ptycho_hdf5 import contents as of_hdf5

            return of_hdf5(path, named, kind, locking)
    raise InputError(
        f"{path!r} is no file of a ptychography layout; they are NPZ (not truncated) and HDF5: CXI, NXcxi_ptycho, "
        ".ptyd, or any with fields={'diffraction': …, 'positions': …}"
    )


def require_scan(store: xr.Dataset, path: str, **given: Any) -> xr.Dataset:
    """Return a saved store, after checking that it is a ptychography scan."""
    wrong = [f"{n}=" for n, v in given.items() if v is not None]
    missing = [n for n in ("diffraction", "position_y", "position_x") if n not in store.variables]
    if wrong or missing:
        raise InputError(
            f"{path!r} is a store that scanfold wrote, "
            + (
                f"without {', '.join(missing)}: it is no ptychography scan"
                if missing
                else f"and opens as it is; leave out {', '.join(wrong)}"
            )
        )
    return store


def _npz(path: str, named: Mapping[str, str], kind: str | None) -> Contents:
    members = npz.headers(path)
    names = {k: next((n for n in candidates if n in members), None) for k, candidates in _MEMBERS.items()}
    names["diffraction"] = next((n for n in _FRAMES if n in members), None)
    names["positions"] = "scan" if "scan" in members and names["position_x"] is None else None
    names |= named
    for field, name in names.items():
        if name is not None and name not in members:
            raise unknown(f"array for the field {field!r}", name, members)
    if names["diffraction"] is None:
        raise InputError(f"{path!r} has no frames: expected diff3d or diffraction (M, N, N), found {_shown(members)}")
    # the tike project writes data, scan and probe, frames in the order of the FFT
    tike = names["diffraction"] == "data" and names["positions"] == "scan"
    longest = max(members[names["diffraction"]][1].shape, default=0)
    for name in (n for k, n in names.items() if n and k not in ("diffraction", *_ARRAYS)):
        if math.prod(members[name][1].shape) > 4 * longest:
            raise InputError(
                f"{name!r} of {path!r} has shape {members[name][1].shape}, and the frames {names['diffraction']!r} "
                f"{members[names['diffraction']][1].shape}; expected one value for each frame"
            )
    small = {k: _small(path, n, members) for k, n in names.items() if n and k not in ("diffraction", *_ARRAYS)}
    if "positions" in small:
        table = small.pop("positions")
        if table.ndim != 2 or table.shape[1] < 2:
            raise InputError(f"{names['positions']!r} of {path!r} has shape {table.shape}; expected (M, 2), rows first")
        small["position_y"], small["position_x"] = table[:, 0], table[:, 1]
    arrays = {k: npz.member(path, n, members) for k, n in names.items() if n and k in ("diffraction", *_ARRAYS)}
    units = dict.fromkeys(("position_y", "position_x", "position_y_nominal", "position_x_nominal"), "pixel")
    scalars = {"intensity_scale": _intensity_scale(path, members)} if "norm_Y_I" in members else {}
    made = assembled(path, arrays, small, units, kind, {}, corner=tike, scalars=scalars)
    fixed = {}
    if not made.signal.data.in_parts:
        fixed = npz.compressed(made.signal)
    attrs = _described(_metadata(path, members)) if "_metadata" in members else {}
    return replace(made, fixed=fixed, attrs={**made.attrs, **attrs})


#: Pixels along a side of a frame that are believed.
MOST_SIDE = 2**16
_ARRAYS = ("probe", "object", "Y")


def _small(path: str, name: str, members: Mapping[str, tuple[zipfile.ZipInfo, npz.Header]]) -> np.ndarray:
    found = npz.member(path, name, members)
    return found[(slice(None),) * found.ndim]


def _metadata(path: str, members: Mapping[str, tuple[zipfile.ZipInfo, npz.Header]]) -> str:
    """Return the JSON that a file describes itself with; never unpickled."""
    if members["_metadata"][1].dtype.kind not in "US":
        warnings.warn(
            f"_metadata of {path!r} is a pickled object, which could run code: it is left out",
            UserWarning,
            stacklevel=2,
        )
        return ""
    with np.load(path, allow_pickle=False) as archive:
        found = archive["_metadata"].reshape(-1)[0]
    return found.decode() if isinstance(found, bytes) else str(found)


def _intensity_scale(path: str, members: Mapping[str, tuple[zipfile.ZipInfo, npz.Header]]) -> Coordinate:
    header = members["norm_Y_I"][1]
    if header.dtype.kind not in "biuf" or math.prod(header.shape) != 1:
        raise InputError(f"norm_Y_I of {path!r} is {header.shape} {header.dtype}; expected one number")
    with np.load(path, allow_pickle=False) as archive:
        value = np.asarray(archive["norm_Y_I"], float).reshape(())
    return Coordinate((), value, {"long_name": _LONG["intensity_scale"]})


def _described(text: str) -> dict[str, Any]:
    """Return what metadata are as attributes: the text, and the photons that it names.

    The gridsize binds those who group a scan that was simulated for it here; elsewhere it is a note.
    """
    try:
        found = json.loads(text)
        physics = found["physics_parameters"]
        names = ("nphotons", "gridsize") if found.get("provenance") else ("nphotons",)
        known = {n: physics[n] for n in names if isinstance(physics.get(n), int | float)}
    except (ValueError, TypeError, KeyError, AttributeError):
        known = {}  # some other text
    return {"metadata": text, **known} if text else {}


def _shown(members: Mapping[str, tuple[zipfile.ZipInfo, npz.Header]]) -> str:
    return ", ".join(f"{n} {h.shape} {h.dtype}" for n, (_, h) in members.items()) or "no arrays"


def assembled(
    path: str,
    arrays: Mapping[str, FileArray],
    small: Mapping[str, np.ndarray],
    units: Mapping[str, str],
    kind: str | None,
    natives: Mapping[str, tuple[int, ...] | None],
    *,
    corner: bool = False,
    scalars: Mapping[str, Coordinate] | None = None,
) -> Contents:
    """Put the pieces of a file together, after checking that they fit.

    Raises
    ------
    InputError
        If they do not.
    """
    for name in ("position_y", "position_x"):
        if name not in small:
            raise InputError(
                f"{path!r} has no {name}: expected xcoords and ycoords, or name the arrays: "
                "fields={'position_y': …, 'position_x': …}"
            )
    count = small["position_y"].size
    frames = _frames(path, arrays["diffraction"], count)
    native = natives.get("diffraction") if frames.shape == arrays["diffraction"].shape else None
    for name, values in small.items():
        if values.ndim != 1 or values.size != frames.shape[0]:
            raise InputError(
                f"{path!r}: {name} has shape {values.shape} and there are {frames.shape[0]} frames {frames.shape}; "
                "expected one value for each"
            )
    kind = kind or (
        "amplitude" if frames.dtype.kind == "f" and frames.dataset in ("diff3d", "diffraction") else "intensity"
    )
    attrs = {"kind": kind, "long_name": f"diffraction, {kind}"}
    signal = Signal("diffraction", Centred.of(frames) if corner else frames, ("position", "ky", "kx"), attrs, native)
    coords = {
        name: Coordinate(
            ("position",), values, {"long_name": _LONG[name], **({"units": units[name]} if units.get(name) else {})}
        )
        for name, values in small.items()
    }
    for dim, size in zip(("ky", "kx"), frames.shape[1:], strict=True):
        pixels = np.arange(size) - size // 2
        coords[dim] = Coordinate((dim,), pixels, {"units": "pixel", "long_name": "distance from zero frequency"})
    coords |= scalars or {}
    others = tuple(_other(path, name, arrays[name], frames) for name in _ARRAYS if name in arrays)
    return Contents(signal, 2, coords, others, attrs={"kind": kind})


def _frames(path: str, data: FileArray, count: int) -> FileArray:
    """Return the frames with positions first, checked to be square."""
    if data.ndim != 3:
        raise InputError(
            f"{data.dataset!r} of {path!r} has shape {data.shape}; expected frames (M, N, N), one for each position"
        )
    if data.shape[0] != count and data.shape[2] == count:
        data = LastFirst.of(data)
    if data.shape[0] != count:
        raise InputError(
            f"{path!r} has {count} positions and frames {data.shape}; expected as many frames: ({count}, N, N)"
        )
    if data.shape[1] != data.shape[2]:
        raise InputError(f"the frames of {path!r} are {data.shape[1]} × {data.shape[2]}; expected square ones, N × N")
    if data.shape[1] > MOST_SIDE:
        raise InputError(f"{path!r} claims frames of {data.shape[1]:,} pixels a side; its header is wrong")
    return data


def _other(path: str, name: str, data: FileArray, frames: FileArray) -> Signal:
    """Label the probe, the object, or the object under the beam."""
    n = frames.shape[1]
    attrs = {"long_name": _LONG[name]}
    if data.ndim > 2 and data.shape[-1] == 1:
        data = Squeezed.of(data)
    if name == "object":
        if data.ndim != 2:
            raise InputError(f"the object {data.dataset!r} of {path!r} has shape {data.shape}; expected (H, W)")
        return Signal("object", data, ("object_y", "object_x"), attrs)
    if name == "probe" and data.shape == (n, n):
        return Signal("probe", data, ("probe_y", "probe_x"), attrs)
    if name == "probe" and data.ndim == 3 and data.shape[1:] == (n, n):
        return Signal("probe", data, ("mode", "probe_y", "probe_x"), attrs)
    if name == "probe" and data.ndim == 3 and data.shape[:2] == (n, n):
        return Signal("probe", LastFirst.of(data), ("mode", "probe_y", "probe_x"), attrs)
    if name == "Y" and data.shape[:3] == frames.shape and data.ndim == 3:
        return Signal("Y", data, ("position", "probe_y", "probe_x"), attrs)
    raise InputError(
        f"the {name} {data.dataset!r} of {path!r} has shape {data.shape}, and the frames are {n} × {n}; expected "
        f"{'(N, N) or (modes, N, N)' if name == 'probe' else '(M, N, N)'} with N = {n}"
    )
