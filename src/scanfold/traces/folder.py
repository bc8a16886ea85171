"""Fit whole folders: a file of results beside each file of traces, resumed where it was interrupted."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from scanfold._markup import overview, table
from scanfold._paths import local
from scanfold.conventions import InputError, InputTypeError, ScanError, provenance, unknown
from scanfold.fitting import STATUS
from scanfold.runs import FileRun, FileTask
from scanfold.traces.discovery import check_suffix, discover_csv_files, result_path
from scanfold.traces.files import load_now
from scanfold.traces.fit import fit_now, probe
from scanfold.traces.models import TraceModel, restore
from scanfold.traces.pictures import export_plots, plot_trace
from scanfold.traces.quality import Quality, quality
from scanfold.traces.request import FittingRequest
from scanfold.traces.results import gather, to_csv, to_frame
from scanfold.traces.tables import read_table

if TYPE_CHECKING:
    import pandas as pd

Progress = bool | Callable[[int, int], None]


@dataclass(frozen=True)
class FitFile:
    """Fit one file: its path → the CSV of its results. The model travels along, for workers that do not know it."""

    request: FittingRequest
    model: TraceModel
    cells: tuple[Any, ...] | None
    feature: str | None

    def __call__(self, path: Path) -> tuple[bytes, dict[str, Any]]:
        """Read, fit, and tabulate."""
        restore(self.model)
        fits = fit_now(load_now(path, self.feature), self.request, self.cells)
        frame = to_frame(fits, self.request)
        status = Counter(fits["status"].values.tolist())
        return to_csv(frame), {"cells": len(frame), "status": {str(k): n for k, n in sorted(status.items())}}


class FolderRun:
    """A run of fits over files, finished or not.

    Attributes
    ----------
    request : FittingRequest
    files : list of Path
        That are fitted.
    out : Path
        Folder of the results.
    """

    def __init__(self, run: FileRun, request: FittingRequest, feature: str | None):
        self.request, self.feature, self._run = request, feature, run
        self.files = [task.source for task in run.tasks]
        self.out = run.tasks[0].target.parent
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    @property
    def failures(self) -> dict[str, str]:
        """Files that could not be fitted, by name, and why."""
        return {path.name: reason for path, reason in self._run.failures.items()}

    @property
    def progress(self) -> tuple[int, int]:
        """Files done, failed ones too, and files in all."""
        return len(self._run.finished) + len(self._run.failures), len(self.files)

    @property
    def cells(self) -> int:
        """Cells in the files that are finished."""
        return sum(int(entry["cells"]) for entry in list(self._run.entries.values()))

    @property
    def done(self) -> bool:
        """Whether nothing of it runs any more."""
        return self._thread is None or not self._thread.is_alive()

    def cancel(self) -> None:
        """Stop after the files in hand; what is finished stays, and running again goes on from there."""
        self._run.cancelled.set()

    def wait(self, timeout: float | None = None) -> FolderRun:
        """Wait until the run ends, and raise what ended it.

        Raises
        ------
        RunError
            If the folder cannot be written to, or no worker is left.
        TimeoutError
            If it still runs after `timeout` seconds.
        """
        if self._thread is not None:
            self._thread.join(timeout)
            if self._thread.is_alive():
                raise TimeoutError(f"{self.progress[0]} of {len(self.files)} files are done after {timeout} s")
        if self._error is not None:
            raise self._error
        return self

    @property
    def paths(self) -> list[Path]:
        """Files of results that are finished, in the order of the files."""
        return sorted((task.target for task in list(self._run.finished)), key=lambda p: p.name)

    @property
    def results(self) -> pd.DataFrame:
        """One row for every cell of the files that are finished, with the file of each row."""
        return gather(self.paths)

    @property
    def dataset(self) -> xr.Dataset:
        """The results as a labelled Dataset over ``cell``: each parameter and its error, with units, and ``status``."""
        from scanfold.traces.dataset import to_dataset

        sources = {task.target.name: task.source for task in self._run.tasks}
        found = to_dataset(self.results, self.request, sources, self.feature)
        return found.assign_attrs(failures=json.dumps(self.failures))

    def quality(self) -> Quality:
        """Judge the fits that are finished; see `scanfold.traces.quality`."""
        return quality(self.results, self.request)

    def export_plots(self, out: str | Path, *, query: str | None = None) -> list[Path]:
        """Write the quality chart, histograms and maps of positions as PNG files; see `export_plots`."""
        return export_plots(self.results, out, query=query)

    def plot_trace(self, file: str | int, cell: str | int, *, axes: Any = None) -> Any:
        """Draw a trace of a file (its name or place), its fit and the residual; see `scanfold.traces.plot_trace`."""
        (path,) = _choose(self.files, [file])
        fits = self.dataset
        here = fits.isel(cell=fits["source"].values == str(path))
        if not here.sizes["cell"]:
            raise InputError(f"{path.name} has no results; it is of: {', '.join(p.name for p in self.paths)}")
        return plot_trace(here, cell, axes=axes)

    def start(self, show: bool, tell: Callable[[int, int], None] | None) -> None:
        """Begin in a thread."""
        self._thread = threading.Thread(target=self._go, args=(show, tell), daemon=True)
        self._thread.start()

    def _go(self, show: bool, tell: Callable[[int, int], None] | None) -> None:
        try:
            self._run.run(show, tell)
        except BaseException as error:
            self._error = error

    def __repr__(self) -> str:
        done, total = self.progress
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return f"<FolderRun {self.request.model_type}: {done} of {total} files{failed}, results in {self.out}>"

    def _repr_html_(self) -> str:
        rows = []
        for task in self._run.tasks:
            entry, failure = self._run.entries.get(task), self._run.failures.get(task.source)
            names = {str(code): name for name, code in self._run.flags.items()}
            status = ", ".join(f"{n} {names.get(code, code)}" for code, n in (entry or {}).get("status", {}).items())
            rows.append([task.source.name, entry["cells"] if entry else "", status or failure or "not yet fitted"])
        return overview(self, table(["file", "cells", "status"], rows))


def fit_folder(
    path: str | Path,
    request: FittingRequest,
    *,
    out: str | Path | None = None,
    files: Sequence[str | int] | None = None,
    cells: Sequence[str | int] | None = None,
    feature: str | None = None,
    suffix: str | None = None,
    resume: bool = True,
    progress: Progress = True,
    block: bool = True,
) -> FolderRun:
    r"""Fit every trace of a folder, and write a file of results for each file.

    A file that cannot be read is reported and the others go on; a cell that cannot be fitted has a row that says why.
    Run again with the same lines it does only what is missing: files that are new, changed, or were not finished.
    What each result was made from is kept in a folder ``.scanfold`` beside the results.

    Parameters
    ----------
    path : str or Path
        A folder, or one file; see `discover_csv_files` and `load_analysis_csv`.
    request : FittingRequest
        What to fit.
    out : str or Path, optional
        Folder of the results, beside the files if not given.
    files : sequence of str or int, optional
        Some files only, by name or place, to try a request first.
    cells : sequence of str or int, optional
        Some cells of each file only, by label or place. Such results need a folder of their own: give `out`.
    feature : str, optional
        Which ``{feature}_ch_{id}`` to take of a table that traces are made from.
    suffix : str, optional
        ``"_fitted"`` names results ``<stem>_fitted.csv``; otherwise they are ``<stem>_fitted_<model>.csv``.
    resume : bool
        False makes all results again.
    progress : bool or callable
        Show a bar (a line every 10 s where there is no terminal) of files, with the cells in them so far and how many
        are flagged; a callable is called with (files done, files in all) besides.
    block : bool
        False returns at once, while the run goes on.

    Returns
    -------
    FolderRun

    Raises
    ------
    InputError
        Before anything is computed or written: no files, unknown names, or results that are somebody else's or of
        another request.
    RunError
        If the folder cannot be written to, or another run writes to it.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> folder = Path(tempfile.mkdtemp())
    >>> times = np.linspace(0, 10, 40)
    >>> rows = "".join(f"{t},{90 * np.exp(-t / 2) + 10}\n" for t in times)
    >>> _ = (folder / "a.csv").write_text("time,0\n" + rows)
    >>> run = fit_folder(folder, FittingRequest("exponential_decay", fixed=["t0"]), progress=False)
    >>> run.results[["file", "cell_id", "status", "rate"]].round(3).values.tolist()
    [['a_fitted_exponential_decay.csv', '0', 'converged', 0.5]]
    """
    if not isinstance(request, FittingRequest):
        raise InputTypeError(f"request is a {type(request).__name__}; expected FittingRequest('maturation', …)")
    found = _choose(discover_csv_files(path), files)
    if feature is not None:
        _require_feature(found, feature)
    folder = found[0].parent if out is None else _make(local(out, "results of traces"))
    if cells is not None and out is None:
        raise InputError("results of some cells would stand where those of all belong; give out= a folder of its own")
    ending = check_suffix(suffix, request.model_type)
    tasks = [FileTask(p, result_path(p, folder, ending)) for p in found]
    chosen = None if cells is None else tuple(cells)
    options = {"request": request.describe(), "feature": feature, "cells": chosen}
    run = FileRun(
        tasks, FitFile(request, request.model, chosen, feature), options, resume=resume, label="traces",
        releases_gil=_releases_gil(request), counted="cells", flags=STATUS,
    )  # fmt: skip
    folder_run = FolderRun(run, request, feature)
    show, tell = bool(progress), progress if callable(progress) else None
    if block:
        run.run(show, tell)
    else:
        folder_run.start(show, tell)
    return folder_run


def _require_feature(found: list[Path], feature: str) -> None:
    """Refuse a feature that no file has, before anything is written."""
    errors = []
    for path in found:
        try:
            read_table(path, feature)
            return
        except ScanError as error:
            errors.append(error)
    raise errors[0]


def _choose(found: list[Path], files: Sequence[str | int] | None) -> list[Path]:
    """Return some of the files, by name or place."""
    if files is None:
        return found
    names = [p.name for p in found]
    chosen = []
    for each in [files] if isinstance(files, str | int) else files:
        if isinstance(each, int) and -len(found) <= each < len(found):
            chosen.append(found[each])
        elif each in names:
            chosen.append(found[names.index(str(each))])
        else:
            raise unknown("file", each, names)
    if not chosen:
        raise InputError("files= names none; leave it out to fit all")
    return list(dict.fromkeys(chosen))


def _make(folder: Path) -> Path:
    found = folder.expanduser().absolute()
    try:
        found.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {found}: {error.strerror}; pass another out=") from None
    return found


def _releases_gil(request: FittingRequest) -> bool:
    """Say whether threads will do, and compile now what they would all compile at once.

    Raises
    ------
    InputError
        If the model cannot be fitted at all.
    """
    try:
        fits = probe(request).compute(scheduler="synchronous")
    except ScanError:
        raise
    except Exception as error:
        raise InputError(
            f"the model {request.model_type!r} cannot be fitted: {type(error).__name__}: {error}"
        ) from error
    return bool(provenance(fits).get("releases_gil", True))
