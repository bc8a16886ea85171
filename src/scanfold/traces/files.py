"""CSV files of traces as labelled Datasets, and back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from scanfold._paths import file_target, replace_file
from scanfold.conventions import InputError, primary, require_dim
from scanfold.io.arrays import FileArray, Region
from scanfold.io.assemble import assemble, lazy
from scanfold.io.labels import Contents, Coordinate, Signal
from scanfold.traces.discovery import per_hour
from scanfold.traces.tables import KEPT, Table, read_table


@dataclass(frozen=True)
class TraceArray(FileArray):
    """The values of a CSV file, which is read whole when any of them are asked for."""

    feature: str | None = None

    def read(self, region: Region) -> np.ndarray:
        """Read the file, and return a box."""
        values = read_table(self.path, self.feature).values
        if values.shape != self.shape:
            raise InputError(f"{self.path} had {self.shape} cells and times when it was opened, now {values.shape}")
        return values[region]


def load_analysis_csv(path: str | Path, *, feature: str | None = None) -> xr.Dataset:
    r"""Open a CSV file of traces as a labelled, lazy Dataset (cell | time), with times in h.

    Parameters
    ----------
    path : str or Path
        One of three layouts; a first line ``# Time units: min`` may say what its times are in.

        - *wide*: the first column is the time, each other one a cell (``0, 1, …``, ``fov_001_cell_3``, or any name);
        - *tidy*: columns ``time, fov, cell, value``; cells may have different times;
        - the table that traces are made from: ``fov, cell, frame, time, good, position_x, position_y, …`` and
          ``{feature}_ch_{id}``; without a line that says otherwise its times are in min, those of the others in h.
    feature : str, optional
        Which ``{feature}_ch_{id}`` to take, where there are several.

    Returns
    -------
    Dataset
        ``value(cell, time)``, or the feature's name, NaN where a cell has no value; coordinates ``time`` in h, ``cell``
        (labels), ``fov`` and ``cell_id`` where the file names both, ``good``, ``position_x``, ``position_y``.
        The file is read now, to check it and for the coordinates; its values when they are computed.

    Raises
    ------
    InputError
        Naming file, column and line: for what is no number, times that do not rise, missing columns, unknown units, an
        empty or damaged file.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.csv"
    >>> _ = path.write_text("# Time units: min\ntime,0,1\n0,1.5,2\n30,1.6,\n")
    >>> traces = load_analysis_csv(path)
    >>> traces["value"].shape, traces["time"].values.tolist()
    ((2, 2), [0.0, 0.5])
    """
    name = Path(path).expanduser().absolute()
    if not name.is_file():
        raise InputError(f"no file {str(path)!r}")
    table = read_table(name, feature)
    contents = _contents(name, table, feature)
    return assemble(str(name), contents, lazy(contents, {"cell": -1, "time": -1}))


def load_now(path: Path, feature: str | None) -> xr.Dataset:
    """Do what `load_analysis_csv` does, with the values in memory: the file is read once."""
    table = read_table(path, feature)
    return assemble(str(path), _contents(path, table, feature), lambda signal, source: table.values)


def _contents(path: Path, table: Table, feature: str | None) -> Contents:
    """Say what a table holds, as readers of other formats do."""
    words = {
        "fov": "field of view", "cell_id": "cell", "good": "kept by who made the traces", "position_x": "position x",
        "position_y": "position y",
    }  # fmt: skip
    coords = {n: Coordinate(("cell",), v, {"long_name": words[n]}) for n, v in table.coords.items()}
    coords["cell"] = Coordinate(("cell",), np.array(table.cells, object), {"long_name": "cell"})
    coords["time"] = Coordinate(("time",), table.time, {"units": "h", "long_name": "time"})
    values = TraceArray(str(path), table.name, table.values.shape, table.values.dtype, feature)
    return Contents(Signal(table.name, values, ("cell", "time")), detector=1, coords=coords)


def write_analysis_csv(traces: xr.Dataset | xr.DataArray, path: str | Path) -> Path:
    """Write traces as CSV, at one stroke; `load_analysis_csv` reads it back to the last bit.

    Parameters
    ----------
    traces : Dataset with a primary variable, or DataArray
        Dims ``cell`` and ``time``, times in the units of the coordinate (h without). With a coordinate ``fov`` the file
        is tidy (``time, fov, cell, value``, and ``good``, ``position_x``, ``position_y`` where they are there);
        otherwise wide.
    path : str or Path
        Of the file; one that is there is replaced.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        For other dims.

    Examples
    --------
    >>> import tempfile
    >>> traces = xr.DataArray([[1.0, 2.0]], dims=("cell", "time"), coords={"cell": ["7"], "time": [0.0, 0.5]})
    >>> print(write_analysis_csv(traces, Path(tempfile.mkdtemp()) / "a.csv").read_text())
    # Time units: h
    time,7
    0.0,1.0
    0.5,2.0
    """
    import pandas as pd

    array = primary(traces)
    for dim in ("cell", "time"):
        require_dim(array, dim)
    if array.ndim != 2:
        raise InputError(f"traces have the dims {array.dims}; expected cell and time")
    array = in_hours(array).transpose("cell", "time").compute()
    cells = array["cell"].values if "cell" in array.coords else np.arange(array.sizes["cell"])
    if "fov" in array.coords:
        columns = {"time": np.tile(array["time"].values, array.sizes["cell"])}
        ids = array["cell_id"].values if "cell_id" in array.coords else cells
        kept = {n: array[n].values for n in KEPT if n in array.coords and array[n].dims == ("cell",)}
        for name, each in {"fov": array["fov"].values, "cell": ids, **kept}.items():
            columns[name] = np.repeat(each, array.sizes["time"])
        frame = pd.DataFrame({**columns, "value": array.values.ravel()})
    else:
        frame = pd.DataFrame(array.values.T, columns=[str(c) for c in cells])
        frame.insert(0, "time", array["time"].values)
    target = file_target(path)
    with replace_file(target) as temporary:
        temporary.write_text("# Time units: h\n" + frame.to_csv(index=False), encoding="utf-8")
    return target


def in_hours(array: xr.DataArray) -> xr.DataArray:
    """Return traces with their times in h.

    Raises
    ------
    InputError
        If there is no time, or its units are none of time.
    """
    require_dim(array, "time")
    if "time" not in array.coords:
        raise InputError("the traces have no coordinate 'time'; give one in h: traces.assign_coords(time=…)")
    factor = per_hour(array["time"].attrs.get("units", "h"), "coordinate 'time'")
    if factor == 1.0:
        return array
    hours = (array["time"] / factor).assign_attrs(array["time"].attrs | {"units": "h"})
    return array.assign_coords(time=hours)
