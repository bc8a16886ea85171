"""Bad input of every kind: its data, or one error that names it; `python -m benchmarks inputs words` tries more."""

from __future__ import annotations

import pytest

from . import files, hostile, trials, words

pytest.importorskip("rsciio", reason='the extra is not installed: pip install "scanfold[vendor]"')
pytest.importorskip("NCrystal", reason='the extra is not installed: pip install "scanfold[bragg]"')

#: Inputs for each trial; seeds that once failed are among them.
FEW = 12
#: Inputs beyond those that once were a library's error.
FOUND = {
    "zarr v2": [160], "zarr v2 of xarray": [805], "unfinished store of ours, resumed": [126],
    "a maker's format (.blo)": [498], "counts, one spectrum (CSV)": [219], "counts, groups (CSV)": [312],
}  # fmt: skip


def _run(table, names, seeds):
    return trials.run([(table, n) for n in names], seeds)


@pytest.fixture(scope="module")
def tried():
    return _run("files", files.TRIALS, range(FEW)) | trials.draw("words", words.TRIALS, 3 * FEW)


@pytest.mark.parametrize("name", [*files.TRIALS, *words.TRIALS])
def test_damaged_input(tried, name):
    tally = tried[name]
    assert not tally.failures, tally.smallest or tally.failures[:3]
    assert tally.counts["refused"] >= tally.total // 5


def test_what_was_found_once():
    tallies = _run("files", FOUND, FOUND)
    assert {n: t.failures for n, t in tallies.items() if t.failures} == {}
    assert sum(t.total for t in tallies.values()) == len(FOUND)


def test_checksums_reveal_damage(tried):
    for name in ("store of ours", "HDF5, gzip chunks", "NPZ, compressed", "labels, NPZ"):
        assert not tried[name].counts["wrong"], name


def test_hostile_input():
    tallies = _run("hostile", hostile.TRIALS, range(1))
    assert {n: t.failures for n, t in tallies.items() if t.failures} == {}
    assert {n for n, t in tallies.items() if t.counts["refused"] != 1} == set()


def test_a_trial_sees_what_must_not_happen(tmp_path, monkeypatch):
    """The watch itself: hanging, dying, growing, writing and running are each told apart."""
    monkeypatch.setattr(trials, "PATIENCE", 4.0)
    found = _run("mischief", ["sleeps", "dies", "grows", "writes", "unpickles", "divides", "behaves"], range(1))
    told = {n: next(iter(t.counts)) for n, t in found.items()}
    assert told == {
        "sleeps": "hang", "dies": "crash", "grows": "memory", "writes": "touched", "unpickles": "ran",
        "divides": "library", "behaves": "refused",
    }  # fmt: skip
