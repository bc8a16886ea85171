"""``Dataset.scanfold`` and ``DataArray.scanfold``: forwards, nothing else."""

from __future__ import annotations

from collections.abc import Sequence
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


class _Forwards:
    """What a Dataset and a DataArray share."""

    def __init__(self, obj: Any):
        self._obj = obj

    def fit(self, model: Any, params: Any = None, **options: Any) -> xr.Dataset:
        """Fit a model to every position; see `scanfold.fit`."""
        from scanfold.fitting import fit

        return fit(self._obj, model, params, **options)

    def save(self, store: str | Path, **options: Any) -> xr.Dataset:
        """Compute into a store, block by block; see `scanfold.save`."""
        from scanfold.runs import save

        return save(self._obj, store, **options)

    def explore(self, data: xr.DataArray | xr.Dataset | None = None, **options: Any) -> Any:
        """Look at it by clicking; see `scanfold.explore`."""
        from scanfold.viewer import explore

        return explore(self._obj, data, **options)

    def export_csv(self, path: str | Path, **options: Any) -> None:
        """Write a table, a row for each position; see `scanfold.export_csv`."""
        from scanfold.export import export_csv

        export_csv(self._obj, path, **options)

    def export_hspy(self, path: str | Path, **options: Any) -> None:
        """Write HyperSpy's file; see `scanfold.export_hspy`."""
        from scanfold.export import export_hspy

        export_hspy(self._obj, path, **options)

    def export_nexus(self, path: str | Path, **options: Any) -> None:
        """Write a file that is NeXus and netCDF; see `scanfold.export_nexus`."""
        from scanfold.export import export_nexus

        export_nexus(self._obj, path, **options)

    def export_tiff(self, path: str | Path, **options: Any) -> None:
        """Write images for ImageJ; see `scanfold.export_tiff`."""
        from scanfold.export import export_tiff

        export_tiff(self._obj, path, **options)


@xr.register_dataset_accessor("scanfold")  # type: ignore[no-untyped-call]
class DatasetAccessor(_Forwards):
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

    def summary(self, **options: Any) -> pd.DataFrame:
        """Tabulate fits; see `scanfold.summary`."""
        from scanfold.fitting import summary

        return summary(self._obj, **options)

    @property
    def plot(self) -> _Plots:
        """Pictures of fits; see `scanfold.plot`."""
        return _Plots(self._obj)

    def report(self, path: str | Path, data: xr.DataArray | xr.Dataset | None = None, **options: Any) -> Path:
        """Write a page about fits; see `scanfold.report`."""
        from scanfold.report import report

        return report(self._obj, path, data, **options)


@xr.register_dataarray_accessor("scanfold")  # type: ignore[no-untyped-call]
class DataArrayAccessor(_Forwards):
    """scanfold's operations on a DataArray."""

    def transpose_scan(self, store: str | Path, *, dim: str | Sequence[str], **options: Any) -> xr.Dataset:
        """Rewrite it so that other dims are whole in each chunk; see `scanfold.transpose_scan`."""
        from scanfold.runs import transpose_scan

        return transpose_scan(self._obj, store, dim=dim, **options)
