"""Which files of a folder hold traces, what their results are called, and what their times are in."""

from __future__ import annotations

import re
from pathlib import Path

from scanfold._paths import local
from scanfold.conventions import InputError, unknown
from scanfold.traces.models import list_models

#: Words for units of time, and how many of each are an hour.
UNITS = {
    **dict.fromkeys(("s", "sec", "seconds"), 3600.0),
    **dict.fromkeys(("m", "min", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 1.0),
}
SOURCE = "_traces"


def per_hour(word: str, where: object) -> float:
    """Return how many of a unit of time make an hour.

    Raises
    ------
    InputError
        For any other word; it names `where` and lists the known ones.

    Examples
    --------
    >>> per_hour("Min", "a.csv")
    60.0
    """
    found = UNITS.get(str(word).strip().lower())
    if found is None:
        raise InputError(f"{where}: time units {word!r}; expected one of {', '.join(UNITS)}")
    return found


def result_endings() -> tuple[str, ...]:
    """Return how the stems of results end; asking for plug-ins takes time, so ask once for many files."""
    return ("_fitted", *(f"_fitted_{m}" for m in list_models()))


def is_result(path: Path, endings: tuple[str, ...] | None = None) -> bool:
    """Say whether a file is called like a result: ``…_fitted.csv`` or ``…_fitted_<model>.csv``.

    Examples
    --------
    >>> [is_result(Path(n)) for n in ("a_fitted.csv", "a_fitted_Maturation.csv", "well_fitted_lens.csv")]
    [True, True, False]
    """
    return path.stem.lower().endswith(result_endings() if endings is None else endings)


def discover_csv_files(path: str | Path) -> list[Path]:
    """Return the files of traces: one file, or those of a folder (not of its subfolders), sorted by name.

    Parameters
    ----------
    path : str or Path
        A file, or a folder. Of a folder the files that end in ``.csv``, in any case, are taken but for results
        (``…_fitted.csv``, ``…_fitted_<model>.csv``) and the tables that traces are made from (``…_traces.csv``).

    Returns
    -------
    list of Path

    Raises
    ------
    InputError
        If there is no such path, or no file of traces.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("b.csv", "A.CSV", "a_fitted_trivial.csv", "a_traces.csv", "notes.txt"):
    ...     (folder / name).touch()
    >>> [p.name for p in discover_csv_files(folder)]
    ['A.CSV', 'b.csv']
    """
    found = local(path, "folders of traces").absolute()
    if found.is_file():
        if is_result(found):
            raise InputError(f"{found} is called like a result of fits; load it with load_fitted")
        return [found]
    if not found.is_dir():
        raise InputError(f"no file or folder {str(path)!r}; pass a CSV file, or the folder that holds them")
    # Other systems leave hidden files beside others on shared disks, ._a.csv beside a.csv.
    there = (p for p in found.iterdir() if p.suffix.lower() == ".csv" and not p.name.startswith("."))
    tables = sorted(p for p in there if p.is_file())
    endings = result_endings()
    traces = [p for p in tables if not is_result(p, endings) and not p.stem.lower().endswith(SOURCE)]
    if not traces:
        sources = [p.name for p in tables if p.stem.lower().endswith(SOURCE)]
        hint = f"; it has {sources[0]}, which is fitted by its own path with feature=…" if sources else ""
        raise InputError(f"no CSV files of traces in {found}{hint}")
    return traces


def result_path(path: Path, out: Path, suffix: str) -> Path:
    """Return where the result of a file goes.

    Examples
    --------
    >>> print(result_path(Path("in/a.CSV"), Path("out"), "_fitted_trivial").as_posix())
    out/a_fitted_trivial.csv
    """
    return out / f"{path.stem}{suffix}.csv"


def check_suffix(suffix: str | None, model: str) -> str:
    """Return the end of the names of results: ``_fitted_<model>``, or ``_fitted`` if asked for."""
    valid = (f"_fitted_{model}", "_fitted")
    if suffix is None:
        return valid[0]
    if suffix not in valid:
        raise unknown("suffix", suffix, valid)
    return suffix


def cell_name(fov: object, cell: object) -> str:
    """Return the label of a cell of a field of view.

    Examples
    --------
    >>> cell_name(1, 3)
    'fov_001_cell_3'
    """
    return f"fov_{fov:03d}_cell_{cell}" if isinstance(fov, int) else f"fov_{fov}_cell_{cell}"


def parse_cell(label: str) -> tuple[int, int] | None:
    """Return field of view and cell of a label that names both.

    Examples
    --------
    >>> parse_cell("fov_001_cell_3"), parse_cell("12")
    ((1, 3), None)
    """
    match = re.fullmatch(r"fov_(\d+)_cell_(\d+)", label.strip())
    return (int(match[1]), int(match[2])) if match else None


def result_stem(name: str, model: str) -> str:
    """Return the stem of the file that a result is of.

    Examples
    --------
    >>> result_stem("a_fitted_trivial.csv", "trivial"), result_stem("a_fitted.csv", "trivial")
    ('a', 'a')
    """
    stem = Path(name).stem
    return re.sub(rf"_fitted(_{re.escape(model)})?$", "", stem, flags=re.IGNORECASE)
