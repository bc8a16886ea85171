"""``scanfold traces`` from end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scanfold import traces
from scanfold.cli import main
from scanfold.io.tables import exactly


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    times = np.arange(80) / 3.0
    random = np.random.default_rng(0)
    for i in range(3):
        signal = traces.get_model("maturation").function(times, 0.2, 900.0, 1.28, 0.05 + 0.02 * i, 5.22e-3, 10.0, 1.0)
        frame = pd.DataFrame({"time": times * 60, "0": signal, "1": 2 * signal} | {"2": signal[::-1]})
        frame[["0", "1", "2"]] += 30 * random.standard_normal((80, 3))
        Path("experiment").mkdir(exist_ok=True)
        Path(f"experiment/f{i}.csv").write_text("# Time units: min\n" + frame.to_csv(index=False))
    return tmp_path / "experiment"


ARGV = ["traces", "experiment", "--model", "Maturation", "--set", "km=1.5", "--bound", "delta=1e-5,11", "--no-progress"]


def test_everything_in_one_command(folder: Path, capsys):
    more = [
        "--out",
        "results",
        "--report",
        "r.html",
        "--plots",
        "plots",
        "--csv",
        "all.csv",
        "--fixed",
        "km,scale,beta",
    ]
    assert main([*ARGV, *more]) == 0
    said = capsys.readouterr().out
    assert "9 cells:" in said
    assert "wrote r.html" in said
    frame = pd.read_csv("all.csv", **exactly())
    assert (frame["km"] == 1.5).all()
    assert sorted(p.name for p in Path("results").glob("*.csv")) == [f"f{i}_fitted_maturation.csv" for i in range(3)]
    assert {p.name for p in Path("plots").glob("*.png")} >= {"quality.png", "delta.png"}
    request = traces.FittingRequest("maturation", {"km": 1.5}, {"delta": (1e-5, 11)})
    run = traces.fit_folder(folder, request, out="by hand", progress=False)
    np.testing.assert_array_equal(run.results["delta"], frame["delta"])


def test_a_bad_file_is_told_and_is_the_exit_code(folder: Path, capsys):
    (folder / "f3.csv").write_text("time,0\n0,oops\n")
    assert main(ARGV) == 2
    said = capsys.readouterr().out
    assert "not fitted: f3.csv" in said
    assert "'oops' is no number" in said
    assert len(list(folder.glob("*_fitted_maturation.csv"))) == 3


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--set", "km"], "such as km=1.28"),
        (["--set", "kmm=1"], "did you mean 'km'"),
        (["--bound", "delta=1"], "expected two numbers"),
        (["--bound", "delta=3,1"], "the first must be less"),
        (["--weights", "some"], "expected a number"),
        (["--report", "nowhere/r.html"], "there is no folder"),
        (["--suffix", "_done"], "unknown suffix"),
        (["--feature", "area"], "has no features to choose from"),
        (["--plots", "experiment/f0.csv"], "is a file; expected a folder"),
    ],
)
def test_what_cannot_be_used_is_one_line(folder: Path, more: list[str], says: str, capsys):
    assert main([*ARGV, *more]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.splitlines()) == 1
    assert not list(folder.glob("*_fitted*"))
    assert not (folder / ".scanfold").exists()
