"""From what a file holds to a labelled Dataset."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize

from scanfold.conventions import fingerprint
from scanfold.io.chunks import Chunks, plan
from scanfold.io.labels import Contents, Signal


def source(path: str, contents: Contents, signal: Signal) -> dict[str, Any]:
    """Return what identifies the data of a variable: its file and its name there."""
    return fingerprint(path) | {"dataset": signal.data.dataset} | dict(contents.identity)


def assemble(path: str, contents: Contents, wrap: Callable[[Signal], Any]) -> xr.Dataset:
    """Make the Dataset; `wrap` turns a signal into the data of its variable.

    A dimension of the detector without coordinates is counted in pixels.
    """
    signal = contents.signal
    ds = xr.Dataset(attrs={"primary": signal.name, "source": json.dumps(source(path, contents, signal))})
    for each in (signal, *contents.others):
        attrs = {**each.attrs, "source": json.dumps(source(path, contents, each))}
        ds[each.name] = xr.Variable(each.dims, wrap(each), attrs)
    for name, coord in contents.coords.items():
        if name not in ds.data_vars and set(coord.dims) <= set(ds.dims):
            ds = ds.assign_coords({name: xr.Variable(coord.dims, coord.values, dict(coord.attrs))})
    for dim, size in zip(signal.dims, signal.data.shape, strict=True):
        if dim not in ds.coords and dim in contents.detector_dims:
            ds = ds.assign_coords({dim: xr.Variable((dim,), np.arange(size), {"units": "pixel"})})
    return ds


def lazy(path: str, contents: Contents, chunks: Chunks) -> Callable[[Signal], da.Array]:
    """Return the wrapper that makes dask arrays: named by what they read, reading inside each task."""

    def wrap(signal: Signal) -> da.Array:
        data = signal.data
        sizes = plan(
            chunks,
            signal.dims,
            data.shape,
            itemsize=data.dtype.itemsize,
            native=signal.native,
            detector=sum(d in contents.detector_dims for d in signal.dims),
            forced={d: s for d, s in contents.fixed.items() if d in signal.dims},
        )
        # The name is the identity of the file and of the request, so that equal scans make equal graphs.
        name = "scan-" + tokenize(source(path, contents, signal), data.shape, str(data.dtype), signal.dims, sizes)
        meta = np.empty((0,) * data.ndim, data.dtype)
        # Inlined, or all blocks would hang on one root task that is lost with its worker.
        return da.from_array(data, chunks=sizes, name=name, meta=meta, asarray=False, inline_array=True)

    return wrap
