"""Open again what a record says that a run read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import xarray as xr

from scanfold.conventions import DETECTOR_DIMS, InputError, ScanError, describe_input, primary
from scanfold.io import open_scan


def reopen(described: Mapping[str, Any]) -> xr.DataArray:
    """Return the scan that a record describes, if its file still gives the same array.

    It is tried as `open_scan` opens it, with the names of its dimensions, and folded to its shape; a selection, or
    what was computed from a file, cannot be had again.

    Parameters
    ----------
    described : mapping
        Of `conventions.describe_input`.

    Raises
    ------
    InputError
        If no file is recorded, it cannot be opened, has changed, or only a part of it was used.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> path = f"{tempfile.mkdtemp()}/frames.npy"
    >>> np.save(path, np.ones((6, 4, 4)))
    >>> scan = open_scan(path, scan_shape=(2, 3))
    >>> reopen(describe_input(scan["data"])).sizes["y"]
    2
    """
    source = described.get("source", {})
    if "path" not in source:
        raise InputError("the record names no input file; pass what was measured: data=…")
    for options in _ways(described):
        try:
            opened = open_scan(source["path"], dataset=source.get("dataset") or None, **options)
            array = opened[described["name"]] if described.get("name") in opened else primary(opened)
            if describe_input(array) == described:
                return array
        except ScanError as error:
            if not options:
                raise InputError(f"{error}; pass what was measured: data=…") from error
    raise InputError(f"a part of {source['path']} was used, or it has changed; pass what was measured: data=…")


def _ways(described: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the options with which it may have been opened."""
    dims, shape = described.get("dims", []), described.get("shape", [])
    outer = [n for d, n in zip(dims, shape, strict=True) if d not in DETECTOR_DIMS]
    yield {}
    yield {"dims": dims}
    if len(outer) == 2:
        yield {"scan_shape": outer}
