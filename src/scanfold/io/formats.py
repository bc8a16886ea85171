"""Which format a file has: by what it begins with, then by its name."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import h5py
import xarray as xr

from scanfold._paths import absolute, exists, is_zarr, opened, read
from scanfold.conventions import InputError, fingerprint, is_url, unknown
from scanfold.io.arrays import reading
from scanfold.io.labels import Contents, fold, rename
from scanfold.io.rows import remember


@dataclass(frozen=True)
class Format:
    """A format: its name, the suffixes of its files, the module that reads it, how its files begin."""

    name: str
    suffixes: tuple[str, ...]
    module: str
    magic: tuple[bytes, ...] = ()

    def load(self) -> Any:
        """Import the module."""
        return import_module(f"scanfold.io.{self.module}")


HDF5 = Format("HDF5", (".h5", ".hdf5", ".hdf", ".nxs", ".nx", ".hspy", ".nc", ".he5", ".cxi", ".mat"), "hdf5")
ZARR = Format("zarr", (".zarr", ".zspy"), "zarr")
NPZ = Format("NPZ", (".npz",), "numpy", (b"PK\x03\x04", b"PK\x05\x06"))
NPY = Format("NPY", (".npy",), "numpy", (b"\x93NUMPY",))
TIFF = Format("TIFF", (".tif", ".tiff"), "tiff", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"))
VENDOR = Format("a vendor's format", (), "vendor")
FORMATS = (HDF5, ZARR, NPZ, NPY, TIFF, VENDOR)


def format_of(path: str) -> Format:
    """Recognise the format of a file or folder.

    Raises
    ------
    InputError
        If it is none of the known ones; it lists them.
    """
    if is_url(path):
        return _remote_format(path)
    file = Path(path)
    if file.is_dir():
        if is_zarr(path):
            return ZARR
        from scanfold.io.tiff import frames

        if frames(file):
            return TIFF
        raise InputError(
            f"{path!r} is a folder, neither a zarr store nor one of TIFF frames, nor does it hold one store"
        )
    if file.stat().st_size == 0:
        raise InputError(f"{path!r} is empty")
    return _by_content(path) or _by_suffix(path)


def _remote_format(url: str) -> Format:
    """Recognise what is behind a URL; only formats that are read in parts are opened there."""
    if is_zarr(url):
        return ZARR
    with reading(url), opened(url, 2**10) as stream:
        if stream.read(8) == b"\x89HDF\r\n\x1a\n":
            return HDF5
    found = _by_suffix(url)
    if found in (HDF5, ZARR):
        return found
    raise InputError(
        f"{url!r} is {found.name}; at URLs zarr and HDF5 are opened, which are read in parts. Copy it here first: "
        f'fsspec.filesystem("{url.partition("://")[0]}").get({url!r}, {Path(url).name!r})'
    )


def _by_content(path: str) -> Format | None:
    with open(path, "rb") as stream:
        head = stream.read(8)
    suffix = Path(path).suffix.lower()
    if h5py.is_hdf5(path):
        return VENDOR if suffix == ".emd" and _velox(path) else HDF5
    if suffix in ZARR.suffixes or suffix == ".prz":
        return None
    return next((f for f in FORMATS if head.startswith(f.magic)), None) if head else None


def _velox(path: str) -> bool:
    """Tell whether an EMD file is one of Velox, which has another layout of the same name."""
    try:
        with h5py.File(path, "r") as file:
            return "Data" in file and any(k in file["Data"] for k in ("Image", "Spectrum", "SpectrumStream"))
    except (OSError, KeyError, RuntimeError):
        return False


def _by_suffix(path: str) -> Format:
    from scanfold.io import vendor

    suffix = Path(path).suffix.lower()
    for known in FORMATS:
        if suffix in known.suffixes:
            return known
    if suffix[1:] in vendor.SUFFIXES:
        return VENDOR
    known_suffixes = ", ".join(f"{f.name} ({' '.join(f.suffixes)})" for f in FORMATS[:-1])
    raise InputError(
        f"{path!r} is of no format that is known here: {known_suffixes}, folders of TIFF frames, "
        f"and with the extra vendor: {' '.join('.' + s for s in sorted(vendor.SUFFIXES))}"
    )


def contents_of(
    path: str,
    *,
    dataset: str | None,
    scan_shape: Sequence[int] | None,
    dims: Sequence[str] | None,
    locking: bool | None,
    format: str | None = None,
    fields: Mapping[str, str] | None = None,
    kind: str | None = None,
) -> Contents:
    """Open the metadata of a file of any known format, folded and renamed as asked."""
    contents: Contents
    if format is None:
        if fields is not None or kind is not None:
            raise InputError("fields= and kind= go with format='ptycho'; pass it too")
        contents = format_of(path).load().contents(path, dataset, locking)
    elif isinstance(format, str) and format == "ptycho":
        from scanfold.io import ptycho

        contents = ptycho.contents(path, dataset, locking, fields=fields, kind=kind)
    else:
        raise unknown("format", format, ["ptycho"])
    where = f"dataset {contents.signal.data.dataset!r} of {path!r}"
    if 0 in (contents.signal.data.shape or (0,)):
        raise InputError(f"{where} has shape {contents.signal.data.shape}: there is no scan in it")
    if scan_shape is not None:
        contents = fold(contents, scan_shape, where)
    if dims is not None:
        contents = rename(contents, dims, where)
    if contents.signal.name in contents.signal.dims:
        contents = replace(contents, signal=replace(contents.signal, name="data"))
    return contents


def existing(path: str | os.PathLike[str]) -> str:
    """Return the path of a file that exists.

    Raises
    ------
    InputError
        If there is none; it gives the nearest names in the folder.
    """
    try:
        text = absolute(path)
        if is_url(text):
            with reading(text):
                if exists(text):
                    return text
            raise InputError(f"there is nothing at {text!r}")
        found = Path(text)
        found.stat()
    except FileNotFoundError:
        pass
    except (OSError, ValueError, TypeError, RuntimeError) as error:  # too long, a zero in it, no home of that name
        if isinstance(error, InputError):
            raise
        raise InputError(f"{str(path)[:200]!r} is no path of a file: {error}"[:500]) from None
    if found.is_file() or found.is_dir():
        return str(found)
    if found.exists():
        raise InputError(f"{str(path)!r} is neither a file nor a folder but a pipe or device; copy it to a file")
    if not found.parent.is_dir():
        raise InputError(f"no file {str(path)!r}: there is no folder {str(found.parent)!r}")
    near = difflib.get_close_matches(found.name, [p.name for p in found.parent.iterdir()], n=3)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise InputError(f"no file {str(path)!r}{hint}")


def openable(path: str | os.PathLike[str]) -> str:
    """Return the path of what is to be opened, which exists; a folder of results stands for the only store in it.

    Raises
    ------
    InputError
        As `existing`.
    """
    from scanfold.io.tiff import frames

    name = existing(path)
    if is_url(name) or not os.path.isdir(name) or is_zarr(name):
        return name
    stores = [str(p) for p in Path(name).glob("*.zarr") if saved(str(p))]
    return stores[0] if len(stores) == 1 and not frames(Path(name)) else name


def saved(path: str) -> bool:
    """Tell whether a folder is a store that `scanfold.save` wrote."""
    try:
        root = json.loads(read(path, "zarr.json"))
        return "scanfold_format" in root.get("attributes", {})
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return False


def open_saved(path: str) -> xr.Dataset:
    """Open a store that `scanfold.save` wrote, as it was saved; an unfinished one warns."""
    from scanfold.io.zarr import ZarrArray
    from scanfold.runs import open_store

    ds: xr.Dataset = open_store(path)
    identity = fingerprint(path)
    for name, variable in ds.variables.items():
        chunks = variable.encoding.get("chunks")
        plain = variable.dtype.kind in "biufc" and not {"scale_factor", "add_offset"} & set(variable.encoding)
        if variable.chunks is not None and chunks and plain:
            data = ZarrArray(path, str(name), variable.shape, variable.dtype)
            remember(variable.data.name, data, chunks[0])
    for name in ds.data_vars:
        ds[name].attrs["source"] = json.dumps(identity | {"dataset": str(name)})
    return ds.assign_attrs(source=json.dumps(identity | {"dataset": ""}))
