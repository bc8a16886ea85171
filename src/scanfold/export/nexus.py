"""NeXus: one HDF5 file that is NXdata to beam-line programs and netCDF to xarray."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

import h5py
import numpy as np
import xarray as xr

from scanfold._paths import replace_file
from scanfold.conventions import InputError, versions
from scanfold.export.slabs import leading, slabs, target, variables

#: Where the data are, for ``xarray.open_dataset(path, group=GROUP)``.
GROUP = "/entry/data"
#: How errors end here, and in NeXus.
OURS, THEIRS = "_stderr", "_errors"


def export_nexus(data: xr.Dataset | xr.DataArray, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write one file that is NeXus (NXdata) and netCDF4 at once.

    The group ``/entry/data`` is a NXdata whose signal is the Dataset's primary
    variable, or its first; further variables on the same dimensions are its
    auxiliary signals, and the error of ``name`` is ``name_errors``, as NeXus
    has it (``name_stderr`` here). Variables on other dimensions have a NXdata of their
    own beside it. Dimensions are HDF5 scales, so that
    ``xarray.open_dataset(path, group="/entry/data", engine="h5netcdf")`` reads the same
    file. How the data were made stands in ``/entry/process``.

    Parameters
    ----------
    data : Dataset or DataArray
        Maps or scans of any dims; lazy ones are computed slab by slab along
        the first dim.
    path : path
        The file, commonly ``.nxs``.
    overwrite : bool
        Whether to replace a file that is there.

    Raises
    ------
    InputError
        If the file exists, its folder does not, or a variable is not of real numbers or text.

    Notes
    -----
    NXdata: https://manual.nexusformat.org/classes/base_classes/NXdata.html.
    A dimension without a coordinate gets one that counts pixels.

    Examples
    --------
    >>> import tempfile
    >>> maps = xr.Dataset({"center": ("x", [1.0, 2.0])}, coords={"x": [0.0, 0.5]})
    >>> path = tempfile.mkdtemp() + "/maps.nxs"
    >>> export_nexus(maps, path)
    >>> h5py.File(path)["entry/data"].attrs["signal"]
    'center'
    """
    ds = _with_axes(variables(data))
    _require_storable(ds)
    place = target(path, overwrite)
    with replace_file(place) as temporary, h5py.File(temporary, "w", track_order=True) as file:
        file.attrs.update(
            NX_class="NXroot", default="entry", file_name=place.name, file_time=_now(), creator="scanfold"
        )
        entry = _group(file, "entry", "NXentry", default="data")
        entry["title"] = str(ds.attrs.get("title") or place.stem)
        _describe(entry, ds)
        parts = _parts(ds)
        for name, part in parts.items():
            _lay_out(_group(entry, name, "NXdata"), part)
        entry["data"].attrs.update({key: value for key, value in ds.attrs.items() if _is_plain(value)})
        _fill(entry, ds, parts)


def _name(name: str) -> str:
    return name.removesuffix(OURS) + THEIRS if name.endswith(OURS) else name


def _with_axes(ds: xr.Dataset) -> xr.Dataset:
    """Give every dimension a coordinate: HDF5 scales and NXdata both name axes by their values."""
    missing = {d: (d, np.arange(n)) for d, n in ds.sizes.items() if d not in ds.coords}
    return ds.assign_coords(missing)


def _require_storable(ds: xr.Dataset) -> None:
    for name, variable in ds.variables.items():
        if variable.dtype.kind in "biuf" or _is_text(variable):
            continue
        hint = f"; write data[{name!r}].real and .imag" if variable.dtype.kind == "c" else ""
        raise InputError(f"variable {name!r} is of {variable.dtype}, which netCDF does not hold{hint}")


def _is_text(variable: xr.Variable) -> bool:
    if variable.dtype.kind in "UT":
        return True
    return variable.dtype.kind == "O" and all(isinstance(v, str) for v in np.ravel(variable.values))


def _group(parent: h5py.Group, name: str, kind: str, **attrs: Any) -> h5py.Group:
    group = parent.create_group(name, track_order=True)
    group.attrs.update(attrs | {"NX_class": kind})
    return group


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _describe(entry: h5py.Group, ds: xr.Dataset) -> None:
    """Write how the data were made."""
    process = _group(entry, "process", "NXprocess")
    process["program"] = "scanfold"
    process["version"] = versions()["scanfold"]
    process["date"] = _now()
    if "provenance" in ds.attrs:
        note = _group(process, "provenance", "NXnote")
        note["type"] = "application/json"
        note["data"] = str(ds.attrs["provenance"])


def _create(group: h5py.Group, name: str, variable: xr.Variable) -> None:
    """Make one empty dataset, with the attributes that netCDF and NeXus share."""
    dtype = h5py.string_dtype() if _is_text(variable) else variable.dtype
    attrs = {key: value for key, value in variable.attrs.items() if _is_plain(value)}
    if variable.dtype.kind == "b":
        # as xarray writes truth values into netCDF, which has none
        dtype, attrs["dtype"] = np.dtype("int8"), "bool"
    if "ancillary_variables" in attrs:
        attrs["ancillary_variables"] = " ".join(map(_name, str(attrs["ancillary_variables"]).split()))
    packed = {"compression": "gzip", "compression_opts": 1, "shuffle": True} if variable.size > 2**16 else {}
    group.create_dataset(name, variable.shape, dtype, **packed).attrs.update(attrs)


def _is_plain(value: Any) -> bool:
    array = np.asarray(value)
    return array.dtype.kind in "biuf" or isinstance(value, str)


def _parts(ds: xr.Dataset) -> dict[str, xr.Dataset]:
    """Return what goes into each NXdata: all signals of one have the same dims. That of the first is ``data``."""
    first = leading(ds)
    by_dims: dict[tuple[object, ...], list[str]] = {first.dims: [str(first.name)]}
    for name, variable in ds.data_vars.items():
        if name != first.name:
            by_dims.setdefault(variable.dims, []).append(str(name))
    return {"data" if dims == first.dims else names[0]: ds[names] for dims, names in by_dims.items()}


def _lay_out(group: h5py.Group, part: xr.Dataset) -> None:
    """Make the datasets of one NXdata, its dimensions, and say what each of them is."""
    for name, variable in part.variables.items():
        _create(group, _name(str(name)), variable)
    for number, dim in enumerate(part.sizes):  # HDF5's scales are the dimensions of netCDF
        group[str(dim)].make_scale(str(dim))
        group[str(dim)].attrs["_Netcdf4Dimid"] = np.int32(number)
    for name in set(part.variables) - set(part.sizes):
        for axis, dim in enumerate(part[name].dims):
            group[_name(str(name))].dims[axis].attach_scale(group[str(dim)])
    signal, *others = [
        str(n) for n in part.data_vars if not str(n).endswith(OURS) or str(n).removesuffix(OURS) not in part
    ]
    dims = part[signal].dims
    group.attrs["signal"] = _name(signal)
    if dims:
        group.attrs["axes"] = np.array([str(d) for d in dims], h5py.string_dtype())
    if others:
        group.attrs["auxiliary_signals"] = np.array([_name(n) for n in others], h5py.string_dtype())
    beside = [_name(str(n)) for n, c in part.coords.items() if n not in dims and c.ndim]
    for name, coordinate in part.coords.items():
        if coordinate.ndim:
            group.attrs[f"{_name(str(name))}_indices"] = [dims.index(d) for d in coordinate.dims]
    for name in part.data_vars if beside else ():
        group[_name(str(name))].attrs["coordinates"] = " ".join(beside)


def _fill(entry: h5py.Group, ds: xr.Dataset, parts: dict[str, xr.Dataset]) -> None:
    """Write the values: what lies along the first dimension slab by slab, the rest as it is."""
    first = next(iter(next(iter(parts.values())).sizes), None)
    rest = xr.Dataset({n: v for n, v in ds.variables.items() if first not in v.dims}).compute()
    whole = [(slice(None), rest)]
    along = slabs(ds.drop_vars(list(rest.variables)), str(first)) if first is not None else ()
    for rows, slab in (*whole, *along):
        for group, part in parts.items():
            for name in set(part.variables) & set(slab.variables):
                where = tuple(rows if d == first else slice(None) for d in part[name].dims)
                entry[f"{group}/{_name(str(name))}"][where] = slab[name].values
