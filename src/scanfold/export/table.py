"""CSV: one row per position."""

from __future__ import annotations

import os

import numpy as np
import xarray as xr

from scanfold._paths import replace_file
from scanfold.conventions import InputError, flags
from scanfold.export.slabs import leading, slabs, target, variables


def export_csv(data: xr.Dataset | xr.DataArray, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a table: one row per position, one column per variable.

    The columns are the dimensions, the coordinates on them, then the variables; flags such as ``status`` are written
    in words, and errors of fits are called ``<name>_err``, as in `scanfold.summary`. Numbers are written so that they
    read back exactly.

    Parameters
    ----------
    data : Dataset or DataArray
        Maps; the dims of the primary variable, or of the first, are the rows. Variables on other dims (a covariance)
        are left out.
    path : path
        The file.
    overwrite : bool
        Whether to replace a file that is there.

    Raises
    ------
    InputError
        If the file exists, its folder does not, or that variable has no dims.

    Examples
    --------
    >>> import tempfile
    >>> maps = xr.Dataset({"center": ("x", [1.5, 2.0])}, coords={"x": [0.0, 0.5]})
    >>> path = tempfile.mkdtemp() + "/maps.csv"
    >>> export_csv(maps, path)
    >>> print(open(path).read())
    x,center
    0.0,1.5
    0.5,2.0
    """
    ds = variables(data)
    dims = leading(ds).dims
    if not dims:
        raise InputError(f"the variable {leading(ds).name!r} is one number, of no position; nothing to make rows of")
    kept = [n for n, v in ds.variables.items() if v.dims and set(v.dims) <= set(dims)]
    ds = ds.drop_vars([n for n in ds.variables if n not in kept])
    coords = [str(n) for n in ds.coords if n not in dims]
    order = [*map(str, dims), *coords, *map(str, ds.data_vars)]
    fitted = [n for n in order if "status" in ds and f"{n}_stderr" in ds]
    errors = {f"{n}_stderr": f"{n}_err" for n in fitted}
    with replace_file(target(path, overwrite)) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        for part, slab in slabs(_counted(ds, dims), str(dims[0])):
            frame = slab.to_dataframe(dim_order=list(dims)).reset_index()[order]
            for name in order:
                if "flag_meanings" in ds[name].attrs:
                    frame[name] = frame[name].map({value: word for word, value in flags(ds[name]).items()})
            frame.rename(columns=errors).to_csv(file, index=False, header=part.start == 0)


def _counted(ds: xr.Dataset, dims: tuple[object, ...]) -> xr.Dataset:
    """Give numbers to the positions of dimensions without coordinates: a slab would start at 0 again."""
    return ds.assign_coords({d: np.arange(ds.sizes[d]) for d in dims if d not in ds.coords})
