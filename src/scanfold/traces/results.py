"""Fits of traces as tables: one row for every cell, in CSV files that other tools read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from scanfold.conventions import InputError, flags
from scanfold.io.tables import exactly
from scanfold.traces.discovery import is_result, result_endings
from scanfold.traces.request import FittingRequest
from scanfold.traces.tables import KEPT

if TYPE_CHECKING:
    import pandas as pd

#: What a row says beside the cell and the parameters, and which variable of the fits it is.
NUMBERS = {"r_squared": "rsquared", "redchi": "redchi", "n_used": "n_used", "nfev": "nfev"}
MORE = {"chisqr": "chisqr", "aic": "aic", "bic": "bic", "noise": "noise", "runs_z": "runs_z"}
_WORDS = {
    "converged": "", "max_nfev": "stopped after the most evaluations allowed",
    "singular": "no errors: the data do not determine all parameters",
    "no_signal": "no better than a constant", "poor_fit": "residuals larger than the noise allows",
    "invalid_model": "the model gave NaN or infinity", "failed": "the fit stopped with an error",
    "crashed": "the process died",
}  # fmt: skip


def to_frame(fits: xr.Dataset, request: FittingRequest) -> pd.DataFrame:
    """Tabulate fits: one row for every cell.

    Parameters
    ----------
    fits : Dataset
        Of `fit_trace_data`, over ``cell``; computed once if lazy.
    request : FittingRequest
        Theirs.

    Returns
    -------
    DataFrame
        ``fov, cell`` (or ``cell_id``, where there are no fields of view), ``model_type, success, status, message,
        r_squared, redchi, n_used, nfev``, every parameter and ``<name>_stderr``, ``at_bound``, and what the quality is
        judged by. A fit without numbers has NaN.
    """
    import pandas as pd

    here = fits.compute()
    words = {v: k for k, v in flags(here["status"]).items()}
    status = [words.get(int(s), "crashed") for s in here["status"].values]
    columns: dict[str, Any] = _cells(here)
    columns["model_type"], columns["success"] = request.model_type, here["success"].values
    columns["status"], columns["message"] = status, ""
    columns |= {name: here[variable].values for name, variable in NUMBERS.items()}
    # There is nothing to explain in a constant trace.
    constant = (here["status"] == flags(here["status"])["no_signal"]) & here["noise"].isnull()
    columns["r_squared"] = np.where(constant, 0.0, columns["r_squared"])
    for name in request.model.names:
        columns[name], columns[f"{name}_stderr"] = here[name].values, here[f"{name}_stderr"].values
    bounds = at_bounds(here, request)
    columns["at_bound"] = [" ".join(names) for names in bounds]
    columns |= {name: here[variable].values for name, variable in MORE.items()}
    pairs = {v: k for k, v in flags(here["correlated"]).items()}
    columns["correlated"] = [pairs[int(p)].replace("none", "") for p in here["correlated"].values]
    columns["message"] = [
        _message(s, int(n), b, request) for s, n, b in zip(status, columns["n_used"], bounds, strict=True)
    ]
    return pd.DataFrame(columns)


def _cells(fits: xr.Dataset) -> dict[str, Any]:
    """Return the columns that say which cell it is, and where."""
    labels = fits["cell"].values if "cell" in fits.coords else np.arange(fits.sizes["cell"])
    if "fov" in fits.coords:
        columns = {"fov": fits["fov"].values, "cell": fits["cell_id"].values}
    else:
        columns = {"cell_id": labels}
    return columns | {name: fits[name].values for name in KEPT if name in fits.coords}


def at_bounds(fits: xr.Dataset, request: FittingRequest) -> list[list[str]]:
    """Return the parameters of each cell that are at a bound, or within a hundredth of their error of it."""
    found: list[list[str]] = [[] for _ in range(fits.sizes["cell"])]
    for name, p in request.params().items():
        if p["vary"]:
            values, errors = fits[name].values, np.nan_to_num(fits[f"{name}_stderr"].values)
            at = np.zeros(values.shape, bool)
            for bound in (b for b in (p["min"], p["max"]) if np.isfinite(b)):
                scale = min(p["max"] - p["min"], max(abs(bound), abs(p["value"] - bound)))
                at |= np.abs(values - bound) <= np.maximum(1e-6 * scale, 0.01 * errors)
            for i in np.flatnonzero(at):
                found[i].append(name)
    return found


def _message(status: str, used: int, bounds: list[str], request: FittingRequest) -> str:
    if status == "too_few_points":
        return f"{used} usable points for {len(request.varying)} parameters; one more is needed for errors"
    if status == "at_bound":
        params = request.params()
        ends = " or ".join(f"{params[n]['min']:g} or {params[n]['max']:g}" for n in bounds[:1])
        return f"{', '.join(bounds) or 'a parameter'} at a bound" + (f" ({ends})" if len(bounds) == 1 else "")
    return _WORDS.get(status, status)


def to_csv(frame: pd.DataFrame) -> bytes:
    """Return a table as the bytes of a CSV file; numbers are read back to the last bit."""
    return bytes(frame.to_csv(index=False).encode())


def read_result(path: Path) -> pd.DataFrame:
    """Read a file of results: ours, or the older layout ``cell_id, model_type, success, r_squared`` and parameters.

    Raises
    ------
    InputError
        If it holds no results.
    """
    import pandas as pd

    words = {"status": str, "message": str, "at_bound": str, "correlated": str, "cell_id": str}
    try:
        frame: pd.DataFrame = pd.read_csv(path, dtype={k: object for k in words}, **exactly())
    except (ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read as CSV: {' '.join(str(error).split())}") from None
    missing = [c for c in ("model_type", "success", "r_squared") if c not in frame.columns]
    if missing:
        raise InputError(f"{path} lacks the column {missing[0]!r}; expected results of fits")
    for name in words:
        if name in frame.columns:
            frame[name] = frame[name].fillna("").astype(object)
    return frame


def load_fitted(path: str | Path) -> pd.DataFrame:
    """Gather the results of a folder, or of one file, into one table.

    Parameters
    ----------
    path : str or Path
        A file of results, or a folder that holds some (``…_fitted.csv``, ``…_fitted_<model>.csv``).

    Returns
    -------
    DataFrame
        With a column ``file``, the name of the file, first.

    Raises
    ------
    InputError
        If there are none, or one holds no results.
    """
    found = Path(path).expanduser().absolute()
    if found.is_file():
        return gather([found])
    if not found.is_dir():
        raise InputError(f"no file or folder {str(path)!r}; pass the folder of the results")
    endings = result_endings()
    paths = sorted(p for p in found.iterdir() if p.suffix.lower() == ".csv" and is_result(p, endings))
    if not paths:
        raise InputError(f"no results in {found}; expected files …_fitted.csv or …_fitted_<model>.csv")
    return gather(paths)


def gather(paths: list[Path]) -> pd.DataFrame:
    """Join files of results, with the name of each in a column ``file``."""
    import pandas as pd

    if not paths:
        return pd.DataFrame({"file": []})
    frames = []
    for path in paths:
        frame = read_result(path)
        frame.insert(0, "file", path.name)
        frames.append(frame)
    joined = pd.concat(frames, ignore_index=True)
    # Files with fields of view and files without: numbers stay whole.
    for name in ("fov", "cell"):
        if name in joined and joined[name].isna().any() and joined[name].dtype.kind == "f":
            joined[name] = joined[name].astype("Int64")
    if "cell_id" in joined:
        joined["cell_id"] = joined["cell_id"].fillna("")
    return joined
