"""Text tables, such as CSV: columns found by their names, read fast and without the GIL."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from scanfold.conventions import InputError
from scanfold.io.arrays import reading

#: Column → the names that it may have in a file, in lower case; in the order of files that name none of them.
Aliases = Mapping[str, Sequence[str]]
_SEPARATORS = (",", ";", "\t")


def read_table(path: str, aliases: Aliases) -> npt.NDArray[np.float64]:
    r"""Read the wanted columns of a text table.

    Columns are separated by commas, semicolons, tabs or spaces, as the first line shows; that line holds names unless
    it holds numbers only. If none of the names is known, columns are taken in the order of `aliases`: all of
    them if the table has as many, or else without the first.

    Parameters
    ----------
    path : str
        The file.
    aliases : mapping of str to sequence of str
        Columns, and the names of each in lower case.

    Returns
    -------
    ndarray (columns, rows)
        NaN for columns and values that are missing.

    Raises
    ------
    InputError
        If the file cannot be read, is empty, or holds what is no number.

    Examples
    --------
    >>> import tempfile, os
    >>> path = os.path.join(tempfile.mkdtemp(), "spectrum.csv")
    >>> _ = open(path, "w").write("stack,counts\n1,20\n2,30\n")
    >>> read_table(path, {"tof": ["tof", "stack"], "counts": ["counts"], "err": ["err"]}).tolist()
    [[1.0, 2.0], [20.0, 30.0], [nan, nan]]
    """
    from scanfold.io import _text_kernels

    with reading(path):
        with open(path, "rb") as file:
            content = file.read()
    text = np.frombuffer(content, np.uint8)
    start = 3 if content.startswith(b"\xef\xbb\xbf") else 0  # a byte-order mark
    while start < len(content) and content[start] in b"\r\n":
        start += 1
    end = content.find(b"\n", start)
    first = content[start : len(content) if end < 0 else end]
    if not first.strip():
        raise InputError(f"{path!r} is empty; expected a table with a column of numbers")
    below = len(content) if end < 0 else end + 1
    second = content[below : max(content.find(b"\n", below), below)]
    separator, skip, wanted = _layout(first, second, tuple((k, tuple(v)) for k, v in aliases.items()))
    body = below if skip else start
    out = np.empty((len(wanted), content.count(b"\n", body) + 1))
    rows = _text_kernels.parse(text, body, ord(separator), np.array(wanted, np.int64), out)
    if rows < 0:
        return _with_pandas(path, separator, skip, wanted)
    if rows == 0:
        raise InputError(f"{path!r} has no rows below its header; expected a table with a column of numbers")
    return out[:, :rows]


def _layout(
    first: bytes, second: bytes, aliases: tuple[tuple[str, tuple[str, ...]], ...]
) -> tuple[str, bool, tuple[int, ...]]:
    """Return the separator, whether the first line is a header, and the place of each wanted column (-1: none)."""
    separator, header, places = _columns(first, aliases)
    if header:
        # A table that was written with row numbers may have no name for them.
        unnamed = _fields(second, separator) == _fields(first, separator) + 1
        places = tuple(p + unnamed if p >= 0 else p for p in places)
    return separator, header, places


def _fields(line: bytes, separator: str) -> int:
    return len(line.split()) if separator == " " else line.count(separator.encode()) + 1


@lru_cache(maxsize=64)
def _columns(first: bytes, aliases: tuple[tuple[str, tuple[str, ...]], ...]) -> tuple[str, bool, tuple[int, ...]]:
    line = first.decode("utf-8", errors="replace").rstrip("\r")
    separator = next((s for s in _SEPARATORS if s in line), " ")
    fields = [f.strip().strip("\"'") for f in (line.split() if separator == " " else line.split(separator))]
    header = not all(_numeric(f) for f in fields)
    places = {name: -1 for name, _ in aliases}
    if header:
        lower = [re.sub(r"\s*[\[(].*$", "", f).strip().lower() for f in fields]  # names may carry units
        for name, known in aliases:
            places[name] = next((lower.index(k) for k in known if k in lower), -1)
    if max(places.values()) < 0:
        names = [n for n, _ in aliases]
        # One column is the quantity itself, which every file has; the axis comes before it, the error after.
        order = names[1:2] if len(fields) == 1 else names[: len(fields)]
        places.update({name: i for i, name in enumerate(order)})
    return separator, header, tuple(places.values())


def _numeric(field: str) -> bool:
    try:
        float(field or "nan")
    except ValueError:
        return False
    return True


def exactly() -> dict[str, Any]:
    """Return the option of pandas by which what was written is read back to the last bit; from 3.1 on it always is."""
    import pandas as pd

    version = tuple(int(part) for part in pd.__version__.split(".")[:2])
    return {} if version >= (3, 1) else {"float_precision": "round_trip"}


def _with_pandas(path: str, separator: str, header: bool, wanted: Sequence[int]) -> npt.NDArray[np.float64]:
    """Read what is not plain: quoted numbers, more digits than a float has, comments that are none."""
    import pandas as pd

    with reading(path):
        frame = pd.read_csv(
            path, sep=r"\s+" if separator == " " else separator, header=0 if header else None, index_col=False,
            skipinitialspace=True, **exactly(),
        )  # fmt: skip
    out = np.full((len(wanted), len(frame)), np.nan)
    for i, column in enumerate(wanted):
        if not 0 <= column < frame.shape[1]:
            continue
        with reading(path):  # a whole number may have more digits than a float takes
            values = pd.to_numeric(frame.iloc[:, column], errors="coerce")
        bad = values.isna() & frame.iloc[:, column].notna()
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise InputError(
                f"{path!r} has {frame.iloc[row, column]!r} in column {frame.columns[column]!r}, row {row + 1}; "
                "expected a number"
            )
        out[i] = values.to_numpy(np.float64)
    return out
