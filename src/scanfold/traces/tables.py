"""One CSV file of traces, read and checked: wide, tidy, or the table that traces are made from."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from scanfold.conventions import InputError, unknown
from scanfold.io.tables import exactly
from scanfold.traces.discovery import cell_name, parse_cell, per_hour

if TYPE_CHECKING:
    import pandas as pd

_UNITS_LINE = re.compile(r"#\s*time\s+units?\s*:(.*)", re.IGNORECASE)
TIDY = ("time", "fov", "cell", "value")
UPSTREAM = ("fov", "cell", "frame", "time")
_FEATURE = re.compile(r".+_ch_\w+$")
#: What is kept of each cell, and how the rows of a cell become one number.
KEPT = {"good": "min", "position_x": "mean", "position_y": "mean"}


@dataclass(frozen=True)
class Table:
    """Traces in memory.

    Attributes
    ----------
    time : array (n,)
        In h, rising.
    values : array (cells, n)
        NaN where a cell has no value.
    cells : list of str
        Labels.
    coords : dict of str to array (cells,)
        Field of view and number where the file names both, whether it is good, where it is.
    name : str
        What was measured.
    """

    time: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]
    cells: list[str]
    coords: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    name: str = "value"


def read_table(path: str | Path, feature: str | None = None) -> Table:
    """Read a file of any layout.

    Raises
    ------
    InputError
        That names the file and, where there is one, the column and the line.
    """
    path = Path(path)
    units, skip = _head(path)
    frame = _read(path, skip)
    lower = {str(c).strip().lower(): str(c) for c in frame.columns}
    if {"model_type", "r_squared"} <= set(lower):
        raise InputError(f"{path} holds results of fits, not traces; load it with load_fitted")
    if feature is not None and "frame" not in lower:
        raise InputError(f"{path} has no features to choose from; leave feature={feature!r} out")
    if set(TIDY) <= set(lower):
        return _tidy(path, frame.rename(columns={v: k for k, v in lower.items()}), "value", units or "h")
    if {"fov", "cell"} & set(lower):
        return _upstream(path, frame.rename(columns={v: k for k, v in lower.items()}), feature, units or "min")
    return _wide(path, frame, units or "h")


def _head(path: Path) -> tuple[str, int]:
    """Return the units that the first lines name, and how many lines to skip."""
    units, skip = "", 0
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for line in lines:
                if not line.startswith("#"):
                    break
                skip += 1
                if match := _UNITS_LINE.match(line):
                    units = match[1].strip(" ,;\t\r\n")
                    per_hour(units, path)
            else:
                raise InputError(f"{path} is empty; expected a line of column names, and rows")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is no text in UTF-8 ({error.reason} at byte {error.start}); save it as CSV UTF-8"
        ) from None
    _check_names(path, line, skip + 1)
    return units, skip


def _check_names(path: Path, line: str, number: int) -> None:
    """Raise for column names that are twice there, are none, or are not separated by commas."""
    try:
        names = [n.strip() for n in next(csv.reader([line]))]
    except (csv.Error, StopIteration):
        names = []
    if not any(names):
        raise InputError(f"{path}, line {number}: expected column names")
    if len(names) == 1 and (";" in line or "\t" in line):
        raise InputError(
            f"{path}, line {number}: columns are separated by {';' if ';' in line else 'tabs'}; use commas"
        )
    twice = sorted({n for n in names if names.count(n) > 1 and n})
    if twice:
        raise InputError(f"{path}, line {number}: column {twice[0]!r} is there {names.count(twice[0])} times")
    if all(_is_number(n) for n in names):
        raise InputError(f"{path}, line {number}: {names[0]!r} … are numbers; expected column names, such as time,0,1")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read(path: Path, skip: int) -> pd.DataFrame:
    """Read all rows, indexed by their line in the file; rows without anything are left out."""
    import pandas as pd

    try:
        # Blank lines are read, to count lines.
        frame: pd.DataFrame = pd.read_csv(
            path, skiprows=skip, encoding="utf-8-sig", skip_blank_lines=False,
            skipinitialspace=True, low_memory=False, on_bad_lines="error", **exactly(),
        )  # fmt: skip
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read as CSV: {' '.join(str(error).split())}") from None
    if not isinstance(frame.index, pd.RangeIndex):
        raise InputError(f"{path}, line {skip + 2}: more fields than the {len(frame.columns)} column names above")
    frame.index = pd.RangeIndex(skip + 2, skip + 2 + len(frame))
    _require_whole(path, frame)
    frame = frame.dropna(how="all")
    if frame.empty:
        raise InputError(f"{path} has no rows below its column names")
    return frame


def _require_whole(path: Path, frame: pd.DataFrame) -> None:
    """Raise if the file ends in the middle of a line, as one does whose copying broke off."""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 2**20))
        last = stream.read().rpartition(b"\n")[2]
    if last.strip() and last.count(b",") + 1 < len(frame.columns):
        raise InputError(
            f"{path}, line {frame.index[-1]}: the file ends after {last.count(b',') + 1} of {len(frame.columns)} "
            "fields; it may have been cut off: copy it again, or end that line"
        )


def _numbers(path: Path, column: pd.Series, *, whole: bool = False) -> npt.NDArray[np.float64]:
    """Return a column as numbers; `whole` has no gaps."""
    import pandas as pd

    values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    wrong = np.isnan(values) & column.notna().to_numpy()
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise InputError(f"{path}, line {column.index[at]}, column {column.name!r}: {column.iloc[at]!r} is no number")
    if whole and not np.isfinite(values).all():
        at = int(np.flatnonzero(~np.isfinite(values))[0])
        raise InputError(
            f"{path}, line {column.index[at]}, column {column.name!r}: expected a number, found {values[at]}"
        )
    return values


def _check_times(path: Path, times: npt.NDArray[np.float64], lines: pd.Index, whose: str = "") -> None:
    """Raise unless times rise."""
    steps = np.diff(times)
    if (steps > 0).all():
        return
    at = int(np.flatnonzero(steps <= 0)[0]) + 1
    what = f"time {times[at]:g} is there twice" if steps[at - 1] == 0 else f"time {times[at]:g} after {times[at - 1]:g}"
    raise InputError(f"{path}, line {lines[at]}, column 'time': {what}{whose}; times must rise")


def _wide(path: Path, frame: pd.DataFrame, units: str) -> Table:
    first = str(frame.columns[0])
    if len(frame.columns) < 2:
        raise InputError(f"{path} has the column {first!r} only; expected the times first, and one column per cell")
    times = _numbers(path, frame[first].rename("time"), whole=True)
    _check_times(path, times, frame.index)
    cells = [str(c).strip() for c in frame.columns[1:]]
    rest = frame[frame.columns[1:]]
    if all(t.kind in "iuf" for t in rest.dtypes):
        values = np.ascontiguousarray(rest.to_numpy(np.float64).T)
    else:
        values = np.stack([_numbers(path, rest[c]) for c in rest.columns])
    parsed = [parse_cell(c) for c in cells]
    coords = {}
    if all(p is not None for p in parsed):
        pairs = np.array(parsed, np.int64)
        coords = {"fov": pairs[:, 0], "cell_id": pairs[:, 1]}
    return Table(times / per_hour(units, path), values, cells, coords)


def _upstream(path: Path, frame: pd.DataFrame, feature: str | None, units: str) -> Table:
    missing = [c for c in (UPSTREAM if "frame" in frame.columns else TIDY) if c not in frame.columns]
    features = [str(c) for c in frame.columns if _FEATURE.fullmatch(str(c))]
    if missing or not features:
        what = f"column {missing[0]!r}" if missing else "any column {feature}_ch_{id}"
        raise InputError(
            f"{path} lacks {what}; expected time, fov, cell, value, or fov, cell, frame, time and {{feature}}_ch_{{id}}"
        )
    if feature is None and len(features) > 1:
        raise InputError(f"{path} has several features; choose one: feature={features[0]!r}, of {', '.join(features)}")
    chosen = features[0] if feature is None else feature.lower()
    if chosen not in features:
        raise unknown(f"feature of {path}", feature, features)
    return _tidy(path, frame, chosen, units)


def _tidy(path: Path, frame: pd.DataFrame, value: str, units: str) -> Table:
    """Make a table of one row per cell and time; cells may have other times, and are sorted."""
    import pandas as pd

    for name in ("fov", "cell"):
        if frame[name].isna().any():
            line = frame.index[int(frame[name].isna().to_numpy().argmax())]
            raise InputError(f"{path}, line {line}, column {name!r}: expected a {name}, found nothing")
    times = _numbers(path, frame["time"], whole=True)
    values = _numbers(path, frame[value])
    codes, fovs, cells = _pairs(_plain(frame["fov"]), _plain(frame["cell"]))
    _check_order(path, codes, lambda i: f" in fov {fovs[i]}, cell {cells[i]}", times, frame.index)
    axis, place = np.unique(times, return_inverse=True)
    out = np.full((fovs.size, axis.size), np.nan)
    out[codes, place] = values
    coords: dict[str, npt.NDArray[Any]] = {"fov": fovs, "cell_id": cells}
    for name, how in KEPT.items():
        if name in frame.columns:
            column = frame[name].map(_truth) if name == "good" else frame[name]
            per_cell = pd.Series(_numbers(path, column)).groupby(codes).agg(how).to_numpy()
            coords[name] = per_cell.astype(bool) if name == "good" else per_cell
    labels = [cell_name(f, c) for f, c in zip(fovs.tolist(), cells.tolist(), strict=True)]
    return Table(axis / per_hour(units, path), out, labels, coords, value)


def _truth(value: Any) -> Any:
    return {"true": 1, "false": 0}.get(str(value).strip().lower(), value)


def _plain(column: pd.Series) -> npt.NDArray[Any]:
    """Return names of fields or cells: whole numbers where all are."""
    values = column.to_numpy()
    if values.dtype.kind == "f" and (values == np.floor(values)).all():
        return values.astype(np.int64)
    return values if values.dtype.kind in "iu" else values.astype(str).astype(object)


def _pairs(
    fov: npt.NDArray[Any], cell: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the number of each row's cell, and field of view and cell of each number, sorted."""
    fovs, f = np.unique(fov, return_inverse=True)
    cells, c = np.unique(cell, return_inverse=True)
    found, codes = np.unique(f * cells.size + c, return_inverse=True)
    return codes, fovs[found // cells.size], cells[found % cells.size]


def _check_order(
    path: Path,
    codes: npt.NDArray[np.intp],
    whose: Callable[[int], str],
    times: npt.NDArray[np.float64],
    lines: pd.Index,
) -> None:
    """Raise unless the times of each cell rise from row to row."""
    order = np.argsort(codes, kind="stable")
    steps, same = np.diff(times[order]), np.diff(codes[order]) == 0
    if not (same & (steps <= 0)).any():
        return
    # The earliest line that is wrong.
    wrong = int(order[1:][same & (steps <= 0)].min())
    rows = np.flatnonzero(codes == codes[wrong])
    _check_times(path, times[rows], lines[rows], whose(int(codes[wrong])))
