"""Folders: a file of results for each file, whatever befalls one of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from scanfold import traces
from scanfold.traces import FittingRequest, fit_folder

from . import cases

REQUEST = FittingRequest("maturation")
ENDING = "_fitted_maturation.csv"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four files of three cells, wide and tidy, and a damaged one."""
    for i in range(4):
        values, _ = cases.traces("maturation", 3, seed=i)
        (cases.write_wide if i % 2 else cases.write_tidy)(tmp_path / f"f{i}.csv", values, units="min")
    (tmp_path / "damaged.csv").write_text("time,0,1\n0,1,2\n1,oops,3\n")
    return tmp_path


def fit(folder: Path, request: FittingRequest = REQUEST, **options: object) -> traces.FolderRun:
    return fit_folder(folder, request, **{"progress": False, **options})


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return content and time of every result."""
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.glob("*_fitted*.csv")}


def test_every_file_has_results_and_the_damaged_one_a_reason(folder: Path):
    run = fit(folder)
    assert sorted(contents(folder)) == [f"f{i}{ENDING}" for i in range(4)]
    assert list(run.failures) == ["damaged.csv"]
    assert "line 3, column '0': 'oops' is no number" in run.failures["damaged.csv"]
    assert run.progress == (5, 5)
    assert run.done
    assert len(run.results) == 12
    assert run.results["file"].nunique() == 4
    assert (run.results["status"] == "converged").sum() >= 10
