"""Statistics of a run: which positions are good, what their parameters are, which fits are worst."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from scanfold._markup import number
from scanfold.conventions import flags
from scanfold.plot.positions import axis_of, scan_dims, words_of

#: What each status means, for a reader who has not read the manual.
MEANINGS = {
    "converged": "fitted; nothing speaks against it",
    "max_nfev": "stopped at the limit of model evaluations; the numbers are those reached there",
    "at_bound": "a parameter lies at one of its bounds; its error is not to be trusted",
    "too_few_points": "fewer usable points than parameters; no numbers",
    "singular": "the data do not determine all parameters; no errors",
    "no_signal": "the model is no better than its background alone; the numbers describe noise",
    "poor_fit": "the reduced χ² is far above what the weights or the noise allow; the model does not describe the data",
    "invalid_model": "the model gave NaN or infinity; no numbers",
    "failed": "the fit stopped with an error; no numbers",
    "crashed": "the process died at this position; no numbers",
}
Mask = npt.NDArray[np.bool_]


def good_positions(fits: xr.Dataset) -> tuple[str | None, str]:
    """Return the query for the positions that statistics are made of, and what they are called."""
    if (fits["status"] == flags(fits["status"])["converged"]).any():
        return "status == 'converged'", "positions that converged"
    return None, "positions with values, since none converged"


def parameter_rows(fits: xr.Dataset, names: list[str], good: Mask) -> list[list[Any]]:
    """Return a row for each parameter: count, median, 16th and 84th percentile, median error."""
    rows = []
    for name in names:
        values = fits[name].transpose(*scan_dims(fits)).values[good]
        errors = fits[f"{name}_stderr"].transpose(*scan_dims(fits)).values[good]
        values, errors = values[np.isfinite(values)], errors[np.isfinite(errors)]
        low, median, high = np.percentile(values, (16, 50, 84)) if values.size else (np.nan,) * 3
        error = float(np.median(errors)) if errors.size else np.nan
        rows.append([name, int(values.size), float(median), float(low), float(high), error])
    return rows


def worst(fits: xr.Dataset, count: int) -> list[dict[str, int]]:
    """Return the positions with the largest redchi among those that kept their numbers, the worst first."""
    dims = scan_dims(fits)
    redchi = fits["redchi"].transpose(*dims).values
    flat = np.where(np.isfinite(redchi), redchi, -np.inf).ravel()
    count = min(count, int(np.isfinite(redchi).sum()))
    largest = np.argpartition(-flat, max(count - 1, 0))[:count]
    order = largest[np.lexsort((largest, -flat[largest]))]
    places = np.unravel_index(order, redchi.shape)
    return [{d: int(p[i]) for d, p in zip(dims, places, strict=True)} for i in range(count)]


def position_rows(fits: xr.Dataset, names: list[str], places: list[dict[str, int]]) -> list[list[object]]:
    """Return a row for each position: where it is, status, redchi, and value ± error of each parameter."""
    dims = scan_dims(fits)
    rows: list[list[object]] = []
    # One selection for all positions: a lazy store is read once.
    index = {d: xr.DataArray([p[d] for p in places], dims="row") for d in dims}
    wanted = ["status", "redchi", *(n for name in names for n in (name, f"{name}_stderr"))]
    here = fits[wanted].isel(index).compute()
    words = words_of(here["status"])
    for i, place in enumerate(places):
        values = [f"{number(float(here[n][i]))} ± {number(float(here[f'{n}_stderr'][i]))}" for n in names]
        rows.append([*(named(fits, d, place[d]) for d in dims), words[i], float(here["redchi"][i]), *values])
    return rows


def named(fits: xr.Dataset, dim: str, index: int) -> object:
    """Return the name of a position where it has one, else its index."""
    return str(fits[dim].values[index]) if dim in fits.coords and axis_of(fits, dim).words else index
