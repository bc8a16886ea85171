"""Zarr stores of versions 2 and 3: plain arrays and groups, those that xarray wrote, and HyperSpy's .zspy."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from scanfold._paths import zarr_options
from scanfold.conventions import InputError, is_url
from scanfold.io import hyperspy
from scanfold.io.arrays import FileArray, Region, reading
from scanfold.io.labels import MOST_COORDINATE, Contents, Coordinate, Signal, default_detector, detector_dims, fill_dims
from scanfold.io.listing import ArrayInfo, choose, shown


def store(path: str) -> Any:
    """Return what zarr opens: the path of a folder, a URL, or a zip file's store."""
    return zarr.storage.ZipStore(path, mode="r") if Path(path).is_file() else path


@dataclass(frozen=True)
class ZarrArray(FileArray):
    """An array of a zarr store."""

    def read(self, region: Region) -> np.ndarray:
        """Open the array, read one box."""
        how = zarr_options(self.path)
        return np.asarray(zarr.open_array(store(self.path), path=self.dataset, mode="r", **how)[region])


@dataclass(frozen=True, eq=False)
class XarrayVariable(FileArray):
    """A variable of a store that xarray wrote; xarray decodes it (scale, offset, fill values, dates)."""

    variable: xr.Variable

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """Identify it by where it is: to identify a Variable, Dask would read it, and again for each task."""
        return (type(self).__name__, self.path, self.dataset, self.shape, str(self.dtype))

    def read(self, region: Region) -> np.ndarray:
        """Read one box."""
        return np.asarray(self.variable[region].values)


@contextmanager
def other_folders() -> Iterator[None]:
    """Let zarr say nothing about folders in a store that are not its own, such as the ledger of a run."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Object at .* is not recognized")
        yield


def arrays_of(node: Any) -> dict[str, Any]:
    """Return the arrays of an open store by name; a store that is one array has no name."""
    if isinstance(node, zarr.Array):
        return {"": node}
    with other_folders():
        return {name: found for name, found in node.members(max_depth=None) if isinstance(found, zarr.Array)}


def _dims(array: Any) -> tuple[str | None, ...] | None:
    """Return the names of dimensions that the array carries, in the way of either version."""
    names = array.metadata.dimension_names if array.metadata.zarr_format == 3 else array.attrs.get("_ARRAY_DIMENSIONS")
    return tuple(names) if names and len(names) == array.ndim else None


def _infos(found: dict[str, Any]) -> list[ArrayInfo]:
    return [
        ArrayInfo(
            name=name,
            shape=tuple(a.shape),
            dtype=str(a.dtype),
            chunks=tuple(a.chunks),
            compression=" + ".join(type(c).__name__.removesuffix("Codec").lower() for c in a.compressors) or None,
            units=a.attrs.get("units"),
            numeric=a.dtype.kind in "biufc",
        )
        for name, a in found.items()
    ]


def arrays(path: str) -> list[ArrayInfo]:
    """Describe the arrays of a store without reading them."""
    with reading(path):
        return _infos(arrays_of(zarr.open(store(path), mode="r", **zarr_options(path))))


def contents(path: str, dataset: str | None, locking: bool | None) -> Contents:
    """Open a store's metadata and coordinates."""
    with reading(path, dataset):
        root = zarr.open(store(path), mode="r", **zarr_options(path))
        found = arrays_of(root)
        if not found and is_url(path):
            raise InputError(
                f"{path!r} is a zarr group whose server does not list what is in it; consolidate its metadata where it "
                "was written: zarr.consolidate_metadata(store)"
            )
        coordinates = {n for n, a in found.items() if a.ndim == 1 and _dims(a) == (n.rsplit("/", 1)[-1],)}
        name = _named(path, root, found, coordinates, dataset)
        array = found[name]
        if array.ndim == 0 or 0 in array.shape or array.dtype.kind not in "biufc":
            raise InputError(
                f"array {name!r} of {path!r} has shape {array.shape} and dtype {array.dtype}, which is no "
                f"numeric scan; name another one with dataset=: {shown(_infos(found))}"
            )
        names = _dims(array)
        if names and all(names) and name:
            return _from_xarray(path, name)
        return _plain(path, root, name, array, names)


def _named(path: str, root: Any, found: dict[str, Any], coordinates: set[str], dataset: str | None) -> str:
    if dataset is None:
        primary = root.attrs.get("primary")
        if primary in found:
            return str(primary)
        if len(found) == 1:
            return next(iter(found))
        return choose(_infos({n: a for n, a in found.items() if n not in coordinates}), path)
    name = dataset.strip("/")
    if name in found:
        return name
    inside = {n: a for n, a in found.items() if n.startswith(f"{name}/") and n not in coordinates}
    if not inside:
        raise InputError(f"no array {dataset!r} in {path!r}; it has {shown(_infos(found))}")
    return next(iter(inside)) if len(inside) == 1 else choose(_infos(inside), f"{path}::{name}")


def _plain(path: str, root: Any, name: str, array: Any, names: tuple[str | None, ...] | None) -> Contents:
    """Label an array that xarray did not write: by HyperSpy's axes beside it, else by default."""
    group, _, title = name.rpartition("/")
    parent = root if not group else root[group]
    detector: int | None = None
    values: dict[int, Any] = {}
    if not isinstance(parent, zarr.Array) and "axis-0" in parent:
        axes = [dict(parent[f"axis-{i}"].attrs) for i in range(array.ndim)]
        names, detector, values = _hyperspy(axes, array.shape)
    dims = fill_dims(names or [None] * array.ndim, detector)
    if detector is None:
        detector = detector_dims(dims) if names else default_detector(array.ndim)
    attrs = {k: array.attrs[k] for k in ("units", "long_name") if isinstance(array.attrs.get(k), str)}
    data = ZarrArray(path, name, tuple(array.shape), array.dtype)
    coords = {dims[i]: Coordinate((dims[i],), v, a) for i, (v, a) in values.items()}
    return Contents(Signal(title or "data", data, dims, attrs, tuple(array.chunks)), detector, coords)


def _hyperspy(axes: list[dict[str, Any]], shape: tuple[int, ...]) -> tuple[tuple[str | None, ...], int, dict[int, Any]]:
    names, detector, values = hyperspy.from_axes(axes, shape)
    return tuple(names), detector, values


def _from_xarray(path: str, name: str) -> Contents:
    group, _, title = name.rpartition("/")
    with other_folders():
        ds = xr.open_dataset(
            store(path), engine="zarr", group=group or None, chunks=None, cache=False,
            # A web server lists nothing: what there is stands in the consolidated metadata.
            consolidated=None if is_url(path) else False, **zarr_options(path),
        )  # fmt: skip
    variables = {str(k): v.variable for k, v in ds.data_vars.items()}
    dims = tuple(map(str, variables[title].dims))
    signals = {
        key: Signal(
            key,
            XarrayVariable(path, f"{group}/{key}".strip("/"), tuple(v.shape), v.dtype, v),
            tuple(map(str, v.dims)),
            dict(v.attrs),
            _chunks(v),
        )
        for key, v in variables.items()
        if v.dtype.kind in "biufc"
    }
    coords = {}
    for key, coord in ds.coords.items():
        if math.prod(coord.shape) * coord.dtype.itemsize > MOST_COORDINATE:
            raise InputError(f"coordinate {key!r} of {path!r} claims {coord.shape} values; its metadata is wrong")
        coords[str(key)] = Coordinate(tuple(map(str, coord.dims)), np.asarray(coord.values), dict(coord.attrs))
    others = tuple(s for key, s in signals.items() if key != title)
    return Contents(signals[title], detector_dims(dims), coords, others)


def _chunks(variable: xr.Variable) -> tuple[int, ...] | None:
    chunks = variable.encoding.get("chunks")
    return tuple(chunks) if chunks and len(chunks) == variable.ndim else None
