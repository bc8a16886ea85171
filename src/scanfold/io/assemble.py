"""From what a file holds to a labelled Dataset."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize

from scanfold.conventions import InputError, InputTypeError, fingerprint
from scanfold.io.chunks import Chunks, plan
from scanfold.io.labels import Contents, Signal, counted
from scanfold.io.rows import remember

#: Makes the data of a variable from a signal and what identifies it.
Wrap = Callable[[Signal, Mapping[str, Any]], Any]


def assemble(path: str, contents: Contents, wrap: Wrap) -> xr.Dataset:
    """Make the Dataset; a dimension of the detector without coordinates is counted in pixels."""
    identity = fingerprint(path) | dict(contents.identity)
    signal = contents.signal
    source = identity | {"dataset": signal.data.dataset}
    ds = xr.Dataset(attrs={**contents.attrs, "primary": signal.name, "source": json.dumps(source)})
    for each in (signal, *contents.others):
        source = identity | {"dataset": each.data.dataset}
        ds[each.name] = xr.Variable(each.dims, wrap(each, source), {**each.attrs, "source": json.dumps(source)})
    for name, coord in contents.coords.items():
        # A coordinate of several dimensions cannot have the name of one of them.
        title = f"position_{name}" if name in ds.dims and coord.dims != (name,) else name
        if title not in ds.data_vars and set(coord.dims) <= set(ds.dims):
            ds = ds.assign_coords({title: xr.Variable(coord.dims, coord.values, dict(coord.attrs))})
    for dim, size in zip(signal.dims, signal.data.shape, strict=True):
        if dim not in ds.coords and dim in contents.detector_dims and (pixels := counted(size)) is not None:
            ds = ds.assign_coords({dim: xr.Variable((dim,), pixels, {"units": "pixel"})})
    return ds


def lazy(contents: Contents, chunks: Chunks) -> Wrap:
    """Return what makes dask arrays: named by what they read, reading inside each task."""

    def wrap(signal: Signal, source: Mapping[str, Any]) -> da.Array:
        data = signal.data
        try:
            sizes = plan(
                _of(chunks, signal, contents.signal),
                signal.dims,
                data.shape,
                itemsize=data.dtype.itemsize,
                native=signal.native,
                detector=sum(d in contents.detector_dims for d in signal.dims),
                forced={d: s for d, s in contents.fixed.items() if d in signal.dims},
            )
        except (InputError, InputTypeError) as error:
            raise type(error)(f"{data.path!r}: {error}") from None
        # The name is the identity of the file and of the request, so that equal scans make equal graphs.
        name = "scan-" + tokenize(dict(source), data.shape, str(data.dtype), signal.dims, sizes)
        meta = np.empty((0,) * data.ndim, data.dtype)
        # Inlined, or all blocks would hang on one root task that is lost with its worker.
        remember(name, data, signal.native[0] if signal.native else 1)
        return da.from_array(data, chunks=sizes, name=name, meta=meta, asarray=False, inline_array=True)

    return wrap


def _of(chunks: Chunks, signal: Signal, main: Signal) -> Chunks:
    """Return what the chunks that were asked for, which are of the main signal, are for another one."""
    if signal.dims == main.dims:
        return chunks
    return {d: c for d, c in chunks.items() if d in signal.dims} if isinstance(chunks, Mapping) else "auto"
