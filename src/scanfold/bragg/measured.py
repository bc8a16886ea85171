"""What a fit saw of the data: its window, its axis, its weights, and the model as lmfit has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import lmfit
import numpy as np
import xarray as xr

from scanfold.bragg.data import Data
from scanfold.bragg.stages import within
from scanfold.conventions import InputError, provenance
from scanfold.fitting import model_of


@dataclass(frozen=True)
class Measured:
    """The values that were fitted along their dim, their weights, the model.

    Attributes
    ----------
    values : DataArray
        (scan dims, dim), or (dim) at one place.
    weights : DataArray or None
        1/σ, where the fit had an array of them.
    model : lmfit.Model
    dim : str
    dataset : Dataset
        All of the data in the window of the fits.
    window : pair of float, optional
        That of the last stage, outside of which `values` are NaN.
    """

    values: xr.DataArray
    weights: xr.DataArray | None
    model: lmfit.Model
    dim: str
    dataset: xr.Dataset
    window: Sequence[float | None] | None = None

    def in_window(self, window: Sequence[float | None] | None) -> Measured:
        """Return what another stage saw."""
        values = within(self.dataset["transmission"], self.dim, window)
        return replace(self, values=values, window=window)

    def counts(self) -> tuple[xr.DataArray, dict[str, Any]]:
        """Return the signal counts, and the open beam beside them as `scanfold.fit` takes it."""
        from scanfold.bragg.fits import counts_of

        counts, beside = counts_of(self.dataset)
        return within(counts, self.dim, self.window), beside

    @classmethod
    def of(cls, fits: xr.Dataset, model: Any, data: Data | None, place: Mapping[str, int] | None) -> Measured:
        """Find in the data what the record of the fits describes.

        Raises
        ------
        InputError
            If data or model are missing, or the data are others.
        """
        options = options_of(fits)
        if data is None:
            raise InputError("the data are not at hand: the result was saved without; pass them: load(file, data=…)")
        ds = (
            data.dataset
            if place is None
            else data.dataset.isel({d: i for d, i in place.items() if d in data.dataset.dims})
        )
        dim = str(options["dim"])
        ds = windowed(ds, options["axis"], dim)
        weights = 1.0 / ds["transmission_err"] if options["weights"] == "array" else None
        whole = cls(ds["transmission"], weights, lmfit_model(fits, model, ds), dim, ds)
        return whole.in_window(options["windows"][-1]) if "windows" in options else whole


def options_of(fits: xr.Dataset) -> dict[str, Any]:
    """Return the options of a fit from its record.

    Raises
    ------
    InputError
        If there is none.
    """
    recorded = provenance(fits)
    if "options" not in recorded:
        raise InputError("these fits have no record of how they were made; pass what a fit returned")
    return dict(recorded["options"])


def windowed(ds: xr.Dataset, axis: Mapping[str, Any], dim: str) -> xr.Dataset:
    """Return the bins that were fitted, along the dim of the fit.

    Raises
    ------
    InputError
        If the data do not have them.
    """
    if dim not in ds.coords:
        raise InputError(f"the fits are along {dim!r}, which the data do not have")
    values = ds[dim].values
    along = str(ds[dim].dims[0])
    inside = (values >= axis["first"]) & (values <= axis["last"])
    places = np.flatnonzero(inside)
    if places.size != axis["points"]:
        raise InputError(
            f"the fits have {axis['points']} bins from {axis['first']:.6g} to {axis['last']:.6g} along {dim}, and the "
            f"data have {places.size} there; pass the data that were fitted"
        )
    out = ds.isel({along: slice(int(places[0]), int(places[-1]) + 1)})
    return out if along == dim else out.swap_dims({along: dim})


def lmfit_model(fits: xr.Dataset, model: Any, ds: xr.Dataset) -> lmfit.Model:
    """Return the model as lmfit has it: itself, that of a TransmissionModel, or the one that the record names."""
    if model is None or isinstance(model, lmfit.Model):
        return model_of(fits, model)
    from scanfold.bragg.fits import instrument_model

    return instrument_model(model, options_of(fits)["parameters"], ds)
