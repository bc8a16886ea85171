"""What every exporter does first and last: check the target, name the variables, compute slab by slab."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import xarray as xr

from scanfold._apply import with_prologues
from scanfold._paths import file_target
from scanfold.conventions import InputError, InputTypeError, primary

#: Bytes of all variables together that are computed at a time, unless one row of blocks holds more.
SLAB = 2**26


def variables(data: xr.Dataset | xr.DataArray) -> xr.Dataset:
    """Return what is to be written as a Dataset; an array without a name is called ``data``.

    Raises
    ------
    InputTypeError
        If it is no xarray object.
    InputError
        If there is nothing in it.
    """
    if isinstance(data, xr.DataArray):
        data = data.to_dataset(name=data.name or "data")
    if not isinstance(data, xr.Dataset):
        raise InputTypeError(f"expected an xarray Dataset or DataArray to export, found {type(data).__name__}")
    if not data.data_vars or not all(data.sizes.values()):
        raise InputError(
            f"nothing to export: the Dataset has {len(data.data_vars)} variables, sizes {dict(data.sizes)}"
        )
    return data


def leading(ds: xr.Dataset) -> xr.DataArray:
    """Return the variable that decides the layout: the primary one, else the first."""
    return primary(ds) if "primary" in ds.attrs else next(iter(ds.data_vars.values()))


def target(path: str | os.PathLike[str], overwrite: bool) -> Path:
    """Return where to write.

    Raises
    ------
    InputError
        If the folder is missing, or something is there and `overwrite` is false.
    """
    found = file_target(path)
    if found.exists() and not overwrite:
        raise InputError(f"{found} exists and is left as it is; pass another path, or overwrite=True")
    return found


def files(path: str | os.PathLike[str], names: list[str], suffix: str, overwrite: bool) -> dict[str, Path]:
    """Return where each variable goes: one into `path` itself, several into a folder of that name.

    Raises
    ------
    InputError
        As of `target`, for each of them.
    """
    if len(names) == 1 and Path(path).suffix:
        return {names[0]: target(path, overwrite)}
    folder = Path(path).expanduser().absolute()
    if folder.suffix:
        raise InputError(
            f"{folder.name!r} is one file, and there are {len(names)} variables ({', '.join(names)}): pass a folder, "
            f"or one variable, such as data[{names[0]!r}]"
        )
    if not folder.parent.is_dir() or (folder.exists() and not folder.is_dir()):
        raise InputError(f"cannot make the folder {folder}: {folder.parent} is none, or a file has its name")
    folder.mkdir(exist_ok=True)
    return {name: target(folder / f"{name}{suffix}", overwrite) for name in names}


def slabs(ds: xr.Dataset, dim: str) -> Iterator[tuple[slice, xr.Dataset]]:
    """Yield the Dataset computed in slabs along one of its dimensions, whole blocks at a time.

    All variables of a slab are computed together, so that what they share is computed once; so is, for all slabs, what
    every block depends on.
    """
    ds = with_prologues(ds)
    size = ds.sizes[dim]
    row = max(1, sum(v.nbytes for v in ds.variables.values() if dim in v.dims) // size)
    # ds.chunks would raise where variables are cut differently
    blocks = [v.chunksizes[dim][0] for v in ds.variables.values() if dim in v.chunksizes]
    block = max(blocks, default=1)
    rows = max(1, SLAB // row // block) * block
    for start in range(0, size, rows):
        part = slice(start, min(start + rows, size))
        yield part, ds.isel({dim: part}).compute()
