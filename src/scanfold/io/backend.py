"""The entry point that makes ``xr.open_dataset(path, engine="scanfold")`` work."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing

from scanfold.io.arrays import FileArray
from scanfold.io.assemble import assemble
from scanfold.io.formats import contents_of, existing
from scanfold.io.labels import Signal


class IndexedArray(BackendArray):
    """A `FileArray` as xarray indexes it."""

    def __init__(self, data: FileArray):
        self.data, self.shape, self.dtype = data, data.shape, data.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray:
        """Read a selection."""
        found: np.ndarray = indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self.data.__getitem__
        )
        return found


def _wrap(signal: Signal, source: Mapping[str, Any]) -> indexing.LazilyIndexedArray:
    return indexing.LazilyIndexedArray(IndexedArray(signal.data))


class ScanfoldBackend(BackendEntrypoint):
    """Every file that `scanfold.open_scan` opens, as an xarray engine; it never claims a file by itself."""

    description = "Scans: HDF5 (NeXus, EMD), zarr, NPZ, TIFF and microscope makers' formats"
    open_dataset_parameters: ClassVar[Any] = (
        "filename_or_obj",
        "drop_variables",
        "dataset",
        "scan_shape",
        "dims",
        "locking",
    )

    def open_dataset(  # type: ignore[override]
        self,
        filename_or_obj: str | os.PathLike[Any],
        *,
        drop_variables: str | Iterable[str] | None = None,
        dataset: str | None = None,
        scan_shape: Sequence[int] | None = None,
        dims: Sequence[str] | None = None,
        locking: bool | None = None,
    ) -> xr.Dataset:
        """Open a scan; the options are those of `scanfold.open_scan`."""
        path = existing(os.fspath(filename_or_obj))
        contents = contents_of(path, dataset=dataset, scan_shape=scan_shape, dims=dims, locking=locking)
        ds = assemble(path, contents, _wrap)
        for signal in (contents.signal, *contents.others):
            if signal.native is not None:
                ds[signal.name].encoding["preferred_chunks"] = dict(zip(signal.dims, signal.native, strict=True))
        dropped = [drop_variables] if isinstance(drop_variables, str) else list(drop_variables or [])
        return ds.drop_vars(dropped, errors="ignore")

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Leave every file to the engines made for it, unless this one is named."""
        return False
