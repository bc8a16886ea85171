"""Folders: a file of results for each file, whatever befalls one of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scanfold import traces
from scanfold.conventions import InputError, RunError
from scanfold.io.tables import exactly
from scanfold.runs.ledger import Ledger
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


def test_every_cell_has_a_row_with_every_column(folder: Path):
    values, _ = cases.traces("maturation", 4, seed=9)
    values[1], values[2, 1:], values[3] = np.nan, np.nan, 5.0
    cases.write_wide(folder / "bad cells.csv", values)
    frame = pd.read_csv(fit(folder).out / f"bad cells{ENDING}", **exactly())
    assert frame["cell_id"].tolist() == [0, 1, 2, 3]
    wanted = ["model_type", "success", "status", "message", "r_squared", "redchi", "n_used", "nfev", "at_bound"]
    wanted += [n for p in REQUEST.model.names for n in (p, f"{p}_stderr")]
    assert set(wanted) <= set(frame.columns)
    assert frame["status"].tolist() == ["converged", "too_few_points", "too_few_points", "no_signal"]
    assert frame["r_squared"][3] == 0
    assert frame["message"][2] == "1 usable points for 4 parameters; one more is needed for errors"
    assert frame.loc[[1, 2], ["km", "delta", "r_squared"]].isna().all(axis=None)
    assert frame["km"][0] == 1.28
    assert frame["km_stderr"][0] == 0
    tidy = pd.read_csv(folder / f"f0{ENDING}", **exactly())
    assert list(tidy.columns[:2]) == ["fov", "cell"]


def test_results_are_those_of_the_file_alone_to_the_last_bit(folder: Path):
    results = fit(folder).results
    for name in ("f0", "f1"):
        fits = traces.fit_trace_data(traces.load_analysis_csv(folder / f"{name}.csv"), REQUEST).compute()
        rows = results[results["file"] == name + ENDING]
        for variable in ("delta", "delta_stderr", "redchi", "runs_z"):
            np.testing.assert_array_equal(rows[variable], fits[variable].values)


def test_one_table_and_one_dataset_over_all_files(folder: Path):
    run = fit(folder)
    results, ds = run.results, run.dataset
    assert traces.load_fitted(folder).equals(results)
    assert dict(ds.sizes) == {"cell": 12}
    np.testing.assert_array_equal(ds["delta"], results["delta"])
    assert ds["delta"].attrs["units"] == "1/h"
    assert ds["status"].attrs["flag_meanings"].startswith("converged")
    assert Path(str(ds["source"].values[0])).name == "f0.csv"
    assert ds["label"].values[:4].tolist() == ["fov_003_cell_0", "fov_003_cell_1", "fov_003_cell_2", "0"]


def test_the_older_layout_loads_too(tmp_path: Path):
    rows = "cell_id,model_type,success,r_squared,t0,ktl,delta,beta,offset\n0,trivial,True,0.95,2,20,0.1,0.05,0\n"
    (tmp_path / "old_fitted.csv").write_text(rows + "1,trivial,False,0.0,2,20,0.07,0.04,0\n")
    frame = traces.load_fitted(tmp_path)
    assert frame[["file", "cell_id", "r_squared"]].values.tolist() == [
        ["old_fitted.csv", "0", 0.95], ["old_fitted.csv", "1", 0.0],
    ]  # fmt: skip
    assert traces.quality(frame).shares == {"good": 50.0, "fair": 0.0, "poor": 0.0, "failed": 50.0}
    (tmp_path / "not_fitted.csv").write_text("time,0\n0,1\n")
    with pytest.raises(InputError, match=r"not_fitted\.csv lacks the column 'model_type'"):
        traces.load_fitted(tmp_path)


def test_the_same_lines_again_touch_nothing_and_new_files_are_added(folder: Path):
    fit(folder)
    before = contents(folder)
    asked = []
    assert fit(folder, progress=lambda done, total: asked.append((done, total))).progress == (5, 5)
    assert asked == [(5, 5)]
    assert contents(folder) == before
    cases.write_tidy(folder / "new.csv", cases.traces("maturation", 2, seed=8)[0])
    cases.write_wide(folder / "f1.csv", cases.traces("maturation", 3, seed=7)[0])
    fit(folder)
    after = contents(folder)
    assert set(after) - set(before) == {f"new{ENDING}"}
    assert [n for n in before if after[n] != before[n]] == [f"f1{ENDING}"]


def test_other_work_and_the_work_of_others_are_left_alone(folder: Path):
    fit(folder)
    before = contents(folder)
    with pytest.raises(InputError, match=r"parameters\.km\.value: 1\.28 in the store, 2\.0 now"):
        fit(folder, FittingRequest("maturation", {"km": 2.0}))
    assert contents(folder) == before
    (folder / f"f2{ENDING}").write_text("mine\n")
    for resume in (True, False):
        with pytest.raises(InputError, match=r"f2_fitted_maturation\.csv was changed since"):
            fit(folder, resume=resume)
    (folder / f"f2{ENDING}").unlink()
    (folder / "f0_fitted_trivial.csv").write_text("somebody's\n")
    with pytest.raises(InputError, match="was not written by scanfold"):
        fit(folder, FittingRequest("trivial"))
    fit(folder)
    assert contents(folder)[f"f2{ENDING}"][0] == before[f"f2{ENDING}"][0]
    again = fit(folder, resume=False)
    assert {n: c for n, (c, _) in contents(folder).items() if ENDING in n} == {n: c for n, (c, _) in before.items()}
    assert len(again.paths) == 4


def test_out_suffix_files_and_cells(folder: Path, tmp_path: Path):
    run = fit(folder, out=tmp_path / "out", suffix="_fitted", files=["f1.csv", 1], cells=[0, 2])
    assert sorted(contents(tmp_path / "out")) == ["f0_fitted.csv", "f1_fitted.csv"]
    assert not contents(folder)
    assert len(run.results) == 4
    with pytest.raises(InputError, match="did you mean '_fitted'"):
        fit(folder, suffix="_fited")
    with pytest.raises(InputError, match=r"did you mean 'f1\.csv'"):
        fit(folder, files=["f1.cvs"])
    with pytest.raises(InputError, match="give out="):
        fit(folder, cells=[0])
    missing = fit(folder, out=tmp_path / "other", files=["f0.csv"], cells=["nobody"])
    assert "unknown cell 'nobody'" in missing.failures["f0.csv"]


def test_two_files_with_one_result_are_refused(folder: Path):
    (folder / "f0.CSV").write_bytes((folder / "f0.csv").read_bytes())
    with pytest.raises(InputError, match="have one result"):
        fit(folder)
    assert not contents(folder)


def test_a_folder_that_is_being_written_is_refused(folder: Path):
    with Ledger(folder).locked(), pytest.raises(RunError, match="another run is writing"):
        fit(folder)


def test_progress_tells_of_every_file(folder: Path, capsys):
    told = []
    fit(folder, progress=lambda done, total: told.append((done, total)))
    assert [t[0] for t in told] == [1, 2, 3, 4, 5]
    assert "5 files, 12 cells in " in (said := capsys.readouterr().err)
    assert " converged" in said
    assert "1 failed" in said


def test_a_run_in_the_background(folder: Path):
    run = fit(folder, block=False)
    assert run.wait(60) is run
    assert run.done
    assert run.progress == (5, 5)
    assert run.cells == len(run.results) == 12
    locked = Ledger(folder).locked()
    (folder / f"f0{ENDING}").unlink()
    with locked:
        failed = fit(folder, block=False)
        with pytest.raises(RunError, match="another run"):
            failed.wait(60)


def many(folder: Path, count: int) -> None:
    values, _ = cases.traces("maturation", 5)
    for i in range(count):
        cases.write_tidy(folder / f"m{i:03d}.csv", values * (1 + i / 100), fov=i)


def test_a_cancelled_run_leaves_whole_files_and_goes_on(tmp_path: Path):
    many(tmp_path, 40)
    run = fit(tmp_path, block=False)
    while not run.progress[0] and not run.done:
        time.sleep(0.005)
    run.cancel()
    run.wait(60)
    first = contents(tmp_path)
    assert 0 < len(first) < 40
    assert len(run.results) == 5 * len(first)
    assert all(len(traces.load_fitted(tmp_path / name)) == 5 for name in first)
    assert not list(tmp_path.glob(".*.partial"))
    again = fit(tmp_path)
    assert again.progress == (40, 40)
    assert again.cells == 200
    assert {n: contents(tmp_path)[n] for n in first} == first


SCRIPT = """
import sys
from scanfold.traces import FittingRequest, fit_folder
fit_folder({folder!r}, FittingRequest("maturation"), progress=False)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_goes_on_and_leaves_what_an_undisturbed_one_does(tmp_path: Path, how: signal.Signals):
    folder, whole = tmp_path / "killed", tmp_path / "whole"
    for path in (folder, whole):
        path.mkdir()
        many(path, 40)
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(folder=str(folder))], stderr=subprocess.PIPE, text=True, env=os.environ
    )
    limit = time.monotonic() + 60
    while len(contents(folder)) < 4 and time.monotonic() < limit:
        time.sleep(0.005)
    process.send_signal(how)
    _, said = process.communicate(timeout=60)
    kept = contents(folder)
    assert 4 <= len(kept) < 40
    if how == signal.SIGINT:
        assert "Run the same lines to go on" in said
    fit(folder)
    fit(whole)
    after = contents(folder)
    assert {n: after[n] for n in kept} == kept, "finished files were touched"
    assert {n: c for n, (c, _) in after.items()} == {n: c for n, (c, _) in contents(whole).items()}
    entries = [json.loads(p.read_text()) for p in (folder / ".scanfold" / "blocks").glob("*.json")]
    assert len(entries) == 40


def test_a_corrupt_file_among_fifty(tmp_path: Path):
    many(tmp_path, 49)
    (tmp_path / "m020b.csv").write_bytes(os.urandom(3000))
    run = fit(tmp_path)
    assert len(contents(tmp_path)) == 49
    assert list(run.failures) == ["m020b.csv"]
    assert len(run.results) == 245


def test_any_function_is_fitted_from_a_folder(tmp_path: Path, monkeypatch):
    from scanfold.traces import models

    monkeypatch.setattr(models, "_registered", {})

    def line(t, slope, start):
        return slope * t + start

    traces.register_model(line, {"slope": 1, "start": 0}, {"slope": (-9, 9), "start": (-99, 99)})
    values = 2.0 * cases.TIMES + 3 + np.sin(9 * cases.TIMES)
    cases.write_wide(tmp_path / "a.csv", values[None])
    run = fit(tmp_path, FittingRequest("line"))
    assert run.paths[0].name == "a_fitted_line.csv"
    assert run.results["slope"][0] == pytest.approx(np.polyfit(cases.TIMES, values, 1)[0], rel=1e-6)
    assert traces.discover_csv_files(tmp_path) == [tmp_path / "a.csv"]
