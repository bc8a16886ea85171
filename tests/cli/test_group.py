"""``scanfold group``: the plan, the frames and the picture that were asked for."""

import numpy as np
import pytest

import scanfold as sf
from scanfold import grouping
from scanfold.cli import main


@pytest.fixture
def scan(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "run.npz",
        diff3d=rng.uniform(size=(60, 8, 8)).astype("f4"),
        xcoords=rng.uniform(0, 50, 60),
        ycoords=rng.uniform(0, 50, 60),
        probeGuess=np.ones((8, 8), "c8"),
        object_index=np.arange(60) % 2,
    )
    return tmp_path / "run.npz"


def test_plan_frames_and_picture(scan, tmp_path, capsys):
    out, frames, picture = tmp_path / "plan.zarr", tmp_path / "groups.zarr", tmp_path / "groups.png"
    arguments = ["--nsamples", "20", "--gridsize", "2", "--seed", "3", "--partition", "object_index", "--no-progress"]
    code = main(["group", str(scan), *arguments, "--out", str(out), "--gather", str(frames), "--plot", str(picture),
                 "--report", str(tmp_path / "groups.html")])  # fmt: skip
    assert code == 0
    page = (tmp_path / "groups.html").read_text()
    assert "positions in a group" in page
    assert page.count("<img") == 2  # the groups on the scan, and how far their members are
    assert "20 groups of 4, " in capsys.readouterr().out
    opened = sf.open_scan(scan, format="ptycho")
    expected = grouping.plan_groups(opened, nsamples=20, gridsize=2, seed=3, partition="object_index")
    np.testing.assert_array_equal(sf.open_scan(out)["nn_indices"], expected.nn_indices)
    gathered = sf.open_scan(frames)
    np.testing.assert_array_equal(gathered.diffraction, opened.diffraction.values[gathered.nn_indices.values])
    assert picture.stat().st_size > 5000


def test_an_index_is_planned_on(scan, tmp_path, capsys):
    index = grouping.index_positions(sf.open_scan(scan, format="ptycho"), tmp_path / "run.positions")
    assert main(["group", index.path, "--nsamples", "5", "--out", str(tmp_path / "plan.zarr"), "--no-progress"]) == 0
    assert "5 groups of 1" in capsys.readouterr().out
    code = main(
        ["group", index.path, "--nsamples", "5", "--out", str(tmp_path / "b.zarr"), "--plot", str(tmp_path / "p.png")]
    )
    assert code == 2
    assert "an index holds positions only" in capsys.readouterr().err


def test_an_index_is_made_beside_a_store(scan, tmp_path, capsys):
    store = tmp_path / "run.zarr"
    sf.save(sf.open_scan(scan, format="ptycho"), store, progress=False)
    options = ["--nsamples", "5", "--gridsize", "2", "--no-progress"]
    assert main(["group", str(store), "--index", *options, "--out", str(tmp_path / "a.zarr")]) == 0
    assert (tmp_path / "run.zarr.positions" / "index.json").is_file()
    assert main(["group", str(store), *options, "--out", str(tmp_path / "b.zarr")]) == 0
    a, b = (sf.open_scan(tmp_path / name)["nn_indices"] for name in ("a.zarr", "b.zarr"))
    np.testing.assert_array_equal(a, b)


def test_what_cannot_be_done_is_said(scan, tmp_path, capsys):
    out = str(tmp_path / "plan.zarr")
    assert main(["group", str(scan), "--nsamples", "61", "--out", out]) == 2
    assert "nsamples=61 groups from 60 positions" in capsys.readouterr().err
    assert main(["group", str(scan), "--nsamples", "5", "--out", str(tmp_path / "no" / "plan.zarr")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert main(["group", str(scan), "--nsamples", "5", "--out", out, "--plot", str(tmp_path / "groups.npy")]) == 2
    assert "expected the name of a picture, which ends in" in capsys.readouterr().err
    assert not (tmp_path / "plan.zarr").exists()
