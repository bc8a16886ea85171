"""HyperSpy's own file, written by RosettaSciIO."""

from __future__ import annotations

import os
from collections.abc import Hashable
from typing import Any

import numpy as np
import xarray as xr

from scanfold._paths import replace_file
from scanfold.conventions import DETECTOR_DIMS, InputError, versions
from scanfold.export.slabs import files, variables


def export_hspy(data: xr.Dataset | xr.DataArray, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a signal as HyperSpy does: navigation over scan dims, signal over detector dims.

    Parameters
    ----------
    data : DataArray or Dataset
        One variable makes one file, several a folder with a file of each; a lazy one is written block by block. Of a
        map, which has no detector dims, the last two dims are the signal: an image.
    path : path
        A ``.hspy`` file, or the folder for several variables.
    overwrite : bool
        Whether to replace files that are there.

    Raises
    ------
    InputError
        If RosettaSciIO is not installed (extra ``vendor``), a coordinate is not of numbers, or the target exists.
    """
    try:
        from rsciio.hspy import file_writer
    except ImportError:
        raise InputError('.hspy files are written by RosettaSciIO; pip install "scanfold[vendor]"') from None
    ds = variables(data)
    signals = {str(n): _signal(v) for n, v in ds.data_vars.items() if v.ndim}
    for name, file in files(path, list(signals), ".hspy", overwrite).items():
        with replace_file(file) as temporary:
            hidden = temporary.with_suffix(".hspy")  # the writer insists on its suffix
            try:
                file_writer(str(hidden), signals[name], show_progressbar=False)
                hidden.replace(temporary)
            finally:
                hidden.unlink(missing_ok=True)


def _signal(array: xr.DataArray) -> dict[str, Any]:
    """Return the dictionary that RosettaSciIO writes."""
    detector: list[Hashable] = [d for d in array.dims if d in DETECTOR_DIMS] or list(array.dims[-2:])
    array = array.transpose(..., *detector)
    general = {"title": str(array.attrs.get("long_name", array.name))}
    quantity = str(array.attrs.get("units", ""))
    return {
        "data": array.data,
        "axes": [_axis(array, i, str(d), d not in detector) for i, d in enumerate(array.dims)],
        "metadata": {
            "General": {**general, "original_provenance": str(array.attrs.get("provenance", ""))},
            "Signal": {"signal_type": "", "quantity": f"{general['title']} ({quantity})" if quantity else ""},
        },
        "original_metadata": {k: v for k, v in array.attrs.items() if isinstance(v, str | int | float)},
        "learning_results": {},
        "attributes": {"_lazy": array.chunks is not None, "ragged": False},
        "models": {},
        "tmp_parameters": {},
        "package_info": {"package": "scanfold", "package_version": versions()["scanfold"]},
    }


def _axis(array: xr.DataArray, number: int, dim: str, navigate: bool) -> dict[str, Any]:
    axis: dict[str, Any] = {"name": dim, "size": array.sizes[dim], "navigate": navigate, "is_binned": False}
    if dim not in array.coords:
        return axis | {"_type": "UniformDataAxis", "units": "", "scale": 1.0, "offset": 0.0}
    values = array[dim].values
    if values.dtype.kind not in "iuf":
        raise InputError(
            f"coordinate {dim!r} is of {values.dtype}; .hspy axes are of numbers. Write it with export_csv"
        )
    axis["units"] = str(array[dim].attrs.get("units", ""))
    step = (values[-1] - values[0]) / max(values.size - 1, 1) or 1.0
    if np.allclose(values, values[0] + step * np.arange(values.size), rtol=0, atol=1e-9 * abs(step)):
        return axis | {"_type": "UniformDataAxis", "scale": float(step), "offset": float(values[0])}
    return axis | {"_type": "DataAxis", "axis": values.astype(float)}
