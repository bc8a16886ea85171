"""``scanfold polar-map`` from its flags to its folder, and what it says where they are wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml

from scanfold.cli import main, make_parser
from scanfold.cli.polar_map import open_frames
from scanfold.detectors import outputs
from scanfold.detectors.config import resolve

CONFIG = {"templates": {"roi_r": [0, 9]}, "preprocess": {"central_mask_px": 0}, "dpc": {"roi": [0, 9]}}


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    labels = np.arange(30).reshape(5, 6) % 2
    ky, kx = np.mgrid[:20, :22]
    beam = 40.0 * (np.hypot(ky - 9.5, kx - 10.5) < 5) + 1
    spots = [20.0 * (np.hypot(ky - y, kx - 10.5) < 2) for y in (3, 16)]
    frames = rng.poisson([[beam + spots[c] for c in row] for row in labels]).astype("uint16")
    np.save(tmp_path / "stack.npy", frames.reshape(30, 20, 22))
    np.save(tmp_path / "grid.npy", frames)
    np.savez(tmp_path / "labels.npz", other=np.zeros(3), cluster_labels=labels.ravel())
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    return tmp_path


def run(scan: Path, *more: str) -> int:
    given = ["--data", str(scan / "stack.npy"), "--scan-shape", "5", "6", "--labels", str(scan / "labels.npz")]
    return main(["polar-map", *given, "--config", str(scan / "config.yaml"), "--out", str(scan / "out"), *more])


def test_a_run_with_workers_leaves_a_folder_and_a_page(scan, capsys):
    assert run(scan, "--workers", "2", "--chunks", "7", "--no-progress") == 0
    assert "report.html" in capsys.readouterr().out
    page = (scan / "out/report.html").read_text()
    assert page.count("data:image/png;base64,") >= 6
    assert "share of the labels" in page
    assert "<script" not in page
    maps = xr.open_zarr(scan / "out/polar_map.zarr")
    assert maps["score"].shape == (5, 6, 2)
    assert np.array_equal(maps["assignment"].values.ravel(), np.load(scan / "labels.npz")["cluster_labels"])


def test_chunks_change_nothing(scan, monkeypatch):
    monkeypatch.setattr(outputs.Folder, "draw", lambda *given: None)
    assert run(scan, "--no-progress") == 0
    first = xr.open_zarr(scan / "out/polar_map.zarr").load()
    assert run(scan, "--no-progress", "--chunks", "4", "--no-resume") == 0
    again = xr.open_zarr(scan / "out/polar_map.zarr").load()
    np.testing.assert_array_equal(again["mean"], first["mean"])
    np.testing.assert_allclose(again["score"], first["score"], atol=1e-5 * float(first["score"].std()))


@pytest.mark.parametrize(("chunks", "shape"), [(7, (1, 6)), (12, (2, 6)), (4, (1, 4)), (1, (1, 1))])
def test_chunks_are_frames(scan, chunks, shape):
    options = {"data": scan / "stack.npy", "dset": None, "format": None, "scan_shape": [5, 6], "chunks": chunks}
    found = open_frames(options)
    assert found.dims == ("y", "x", "ky", "kx")
    assert tuple(c[0] for c in found.chunks[:2]) == shape
    assert open_frames({**options, "scan_shape": None}).chunks[0][0] == chunks


WRONG = {
    "shape of a stack": (["--scan-shape", "5", "7"], "35"),
    "shape of a grid": (["--data", "grid.npy", "--scan-shape", "6", "5"], "leave --scan-shape out"),
    "no such file": (["--data", "nothing.npy"], "nothing.npy"),
    "two clusters of workers": (["--workers", "2", "--scheduler", "tcp://127.0.0.1:1"], "give one of them"),
    "unknown key": (["--config", "wrong.yaml"], "did you mean 'baseline'"),
    "no display": (["--interactive-center"], "no display"),
    "spacing without clicks": (["--known-spacing", "1.9"], "--interactive-kspace"),
    "no such device": (["--device", "tpu"], "expected cpu"),
}


@pytest.mark.parametrize(("flags", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_flags_are_one_clear_line(scan, flags, message, capsys, monkeypatch):
    (scan / "wrong.yaml").write_text("dpc: {base_line: median}")
    monkeypatch.chdir(scan)
    assert run(scan, *flags) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("scanfold polar-map: ")
    assert not (scan / "out").exists()


def test_every_promised_flag_is_there():
    text = make_parser().parse_args
    flags = ["--data", "a", "--dset", "b", "--labels", "c", "--scan-shape", "2", "3", "--out", "d", "--config", "e",
             "--device", "cuda:0", "--chunks", "5", "--interactive-center", "--interactive-kspace", "--known-spacing",
             "1.9", "--scheduler", "f", "--workers", "2"]  # fmt: skip
    found = vars(text(["polar-map", *flags]))
    assert (found["scan_shape"], found["device"], found["known_spacing"]) == ([2, 3], "cuda:0", 1.9)


def test_the_printed_configuration_is_the_default_one(capsys):
    with pytest.raises(SystemExit) as left:
        main(["polar-map", "--help-config"])
    assert left.value.code == 0
    assert resolve(yaml.safe_load(capsys.readouterr().out)) == resolve(None)


def test_labels_or_their_number_are_needed(scan, capsys):
    with pytest.raises(SystemExit):
        main(["polar-map", "--data", str(scan / "stack.npy"), "--out", "out"])
    assert "--clusters" in capsys.readouterr().err
