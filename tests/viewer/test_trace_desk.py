"""The desk for time traces: choose, fit without waiting, look, export."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import scanfold as sf
from scanfold import traces
from scanfold.conventions import InputError
from scanfold.viewer.traces import TraceDesk

TIMES = np.linspace(0.0, 10.0, 40)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    for name in ("a", "b"):
        rates = rng.uniform(0.3, 0.8, 6)
        values = 90 * np.exp(-rates * TIMES[:, None]) + 10 + rng.normal(0, 0.5, (40, 6))
        pd.DataFrame(values, columns=range(6)).assign(time=TIMES).set_index("time").to_csv(tmp_path / f"{name}.csv")
    (tmp_path / "damaged.csv").write_text("time,0\n0,1\n1,x\n")
    return tmp_path


@pytest.fixture
def desk(folder: Path) -> TraceDesk:
    found = sf.explore(folder)
    assert isinstance(found, TraceDesk)
    found.model.value = "exponential_decay"
    return found


def finish(desk: TraceDesk) -> None:
    end = time.monotonic() + 60
    while desk.busy:
        assert time.monotonic() < end
        time.sleep(0.02)
    desk.look()


def test_fits_are_those_of_fit_folder_and_a_damaged_file_is_said(desk: TraceDesk, folder: Path):
    desk.begin()
    finish(desk)
    assert "damaged.csv" in desk._said.object
    assert "line 3" in desk._said.object
    plain = traces.fit_folder(folder, traces.FittingRequest("exponential_decay"), out=folder / "plain", progress=False)
    columns = ["cell_id", "rate", "amplitude", "offset", "status"]
    pd.testing.assert_frame_equal(desk.run.results[columns], plain.results[columns])
    assert desk._bar.value == 100
    assert not desk.start.disabled


def test_starting_does_not_wait(desk: TraceDesk, monkeypatch: pytest.MonkeyPatch):
    import threading

    from scanfold.viewer import traces as module

    gate = threading.Event()
    real = module.fit_folder
    monkeypatch.setattr(module, "fit_folder", lambda *a, **k: (gate.wait(30), real(*a, **k))[1])
    desk.begin()  # returns though the run cannot even begin
    assert desk.busy
    assert desk.start.disabled
    assert not desk.cancel.disabled
    desk.look()
    gate.set()
    finish(desk)
    assert len(desk.run.results) == 12


def test_chosen_cells_go_into_a_folder_of_their_own(desk: TraceDesk, folder: Path):
    desk.file.value = "b.csv"
    desk.cells.value = ["1", "4"]
    desk.subset.value = desk.subset.options[1]
    desk.begin()
    finish(desk)
    assert sorted(desk.run.results["cell_id"].astype(str)) == ["1", "4"]
    assert desk.run.out == folder / "chosen_cells"
    assert not list(folder.glob("*_fitted*"))


def test_fields_make_the_request(desk: TraceDesk):
    value, low, high, fixed = desk._fields["rate"]
    value.value, low.value, high.value, fixed.value = 0.5, 0.1, 2.0, True
    assert desk.request().params()["rate"] == {"value": 0.5, "min": 0.1, "max": 2.0, "vary": False}
    low.value = 3.0
    desk.begin()
    assert desk._said.alert_type == "danger"
    assert "rate" in desk._said.object
    assert not desk.start.disabled


def test_results_follow_the_threshold_and_are_exported(desk: TraceDesk, folder: Path):
    desk.begin()
    finish(desk)
    assert "rate" in desk.parameter.options
    desk.parameter.value = "rate"
    desk.threshold.value = 0.95
    histogram = desk._results[0].object.axes[1]
    good = desk.run.results.query("r_squared > 0.95")["rate"]
    assert sum(patch.get_height() for patch in histogram.patches) == len(good)
    desk.export_pictures()
    assert {p.name for p in (folder / "plots").iterdir()} >= {"quality.png", "rate.png"}


def test_a_damaged_file_is_said_when_it_is_looked_at(desk: TraceDesk):
    desk.file.value = "damaged.csv"
    assert "line 3" in desk._traces[0].object
    assert desk.cells.options == []


def test_a_folder_without_traces(tmp_path: Path):
    with pytest.raises(InputError):
        sf.explore(tmp_path)
