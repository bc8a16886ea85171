"""``Dataset.scanfold`` and ``DataArray.scanfold``: forwards, nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

if TYPE_CHECKING:
    import pandas as pd


class _Plots:
    """The pictures of `scanfold.plot`, of one Dataset of fits."""

    def __init__(self, fits: xr.Dataset):
        self._fits = fits

    def parameter_map(self, name: str, **options: Any) -> Any:
        """Draw one variable over the scan; see `scanfold.plot.parameter_map`."""
        from scanfold.plot import parameter_map

        return parameter_map(self._fits, name, **options)

    def fit(self, data: xr.DataArray | xr.Dataset, **position: Any) -> Any:
        """Draw the fit at one position; see `scanfold.plot.fit`."""
        from scanfold.plot import fit

        return fit(self._fits, data, **position)

    def quality(self, **options: Any) -> Any:
        """Draw what became of all fits; see `scanfold.plot.quality`."""
        from scanfold.plot import quality

        return quality(self._fits, **options)


@xr.register_dataset_accessor("scanfold")  # type: ignore[no-untyped-call]
class DatasetAccessor:
    """scanfold's operations on a Dataset.

    Examples
    --------
    >>> import lmfit, scanfold as sf
    >>> scan, _ = sf.testing.peak_scan({"position": 3})
    >>> model = lmfit.models.GaussianModel() + lmfit.models.LinearModel()
    >>> fits = scan.scanfold.fit(model, dim="energy", weights="counts")
    >>> list(fits.scanfold.summary()["status"])
    ['converged', 'converged', 'converged']
    """

    def __init__(self, ds: xr.Dataset):
        self._ds = ds

    def fit(self, model: Any, params: Any = None, **options: Any) -> xr.Dataset:
        """Fit a model to every position; see `scanfold.fit`."""
        from scanfold.fitting import fit

        return fit(self._ds, model, params, **options)

    def summary(self, **options: Any) -> pd.DataFrame:
        """Tabulate fits; see `scanfold.summary`."""
        from scanfold.fitting import summary

        return summary(self._ds, **options)

    @property
    def plot(self) -> _Plots:
        """Pictures of fits; see `scanfold.plot`."""
        return _Plots(self._ds)

    def report(self, path: str | Path, data: xr.DataArray | xr.Dataset | None = None, **options: Any) -> Path:
        """Write a page about fits; see `scanfold.report`."""
        from scanfold.report import report

        return report(self._ds, path, data, **options)

    def save(self, store: str | Path, **options: Any) -> xr.Dataset:
        """Compute into a store, block by block; see `scanfold.save`."""
        from scanfold.runs import save

        return save(self._ds, store, **options)


@xr.register_dataarray_accessor("scanfold")  # type: ignore[no-untyped-call]
class DataArrayAccessor:
    """scanfold's operations on a DataArray."""

    def __init__(self, array: xr.DataArray):
        self._array = array

    def fit(self, model: Any, params: Any = None, **options: Any) -> xr.Dataset:
        """Fit a model to every position; see `scanfold.fit`."""
        from scanfold.fitting import fit

        return fit(self._array, model, params, **options)
