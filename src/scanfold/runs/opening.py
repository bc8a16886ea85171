"""Opening the zarr stores that runs write: damage is one error that names store and variable, whenever it is met."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.backends.zarr import ZarrBackendEntrypoint
from xarray.core import indexing

from scanfold._paths import persist, zarr_options
from scanfold.conventions import InputError, ReadError, ScanError


class StoredArray(BackendArray):
    """A variable of a store, whose chunks are checked as they are read."""

    def __init__(self, path: str, name: str, variable: xr.Variable):
        self.path, self.name, self.variable = path, name, variable
        self.shape, self.dtype = variable.shape, variable.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray:
        """Read a selection."""
        found: np.ndarray = indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._read
        )
        return found

    def _read(self, key: Any) -> np.ndarray:
        try:
            return persist(lambda: np.asarray(self.variable[key].values))
        except ScanError:
            raise
        except Exception as error:
            raise damaged(self.path, f"variable {self.name!r} of the store", error) from error


class StoreBackend(ZarrBackendEntrypoint):
    """The zarr engine of xarray, with every variable checked as it is read."""

    def open_dataset(self, filename_or_obj: Any, **options: Any) -> xr.Dataset:  # type: ignore[override]
        """Open a store."""
        ds = super().open_dataset(filename_or_obj, **options)
        path = str(filename_or_obj)
        lazy = {
            name: xr.Variable(
                v.dims, indexing.LazilyIndexedArray(StoredArray(path, str(name), v)), v.attrs, dict(v.encoding)
            )
            for name, v in ds.variables.items()
            if name not in ds.indexes
        }
        return ds.assign_coords({n: v for n, v in lazy.items() if n in ds.coords}).assign(
            {n: v for n, v in lazy.items() if n in ds.data_vars}
        )


def open_zarr(path: Path) -> xr.Dataset:
    """Open a zarr store lazily, in its own chunks.

    Raises
    ------
    InputError
        If its metadata or a coordinate is damaged; and for a damaged chunk when it is computed.
    """
    try:
        opened: xr.Dataset = xr.open_dataset(str(path), engine=StoreBackend, chunks={}, **zarr_options(path))
    except ScanError:
        raise
    except Exception as error:
        raise damaged(str(path), "the store", error) from error
    return opened


def damaged(path: str, what: str, error: Exception) -> InputError:
    """Make the error for something in a store that cannot be read."""
    kind = ReadError if isinstance(error, OSError) else InputError
    return kind(
        f"cannot read {what} {path!r}: {type(error).__name__}: {error}. A file in it is damaged or missing; save it "
        "again"
    )
