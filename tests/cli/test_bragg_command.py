"""``scanfold bragg`` from end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scanfold import bragg
from scanfold.cli import main
from scanfold.io.tables import exactly


@pytest.fixture(scope="module")
def counts(tmp_path_factory) -> Path:
    """Counts of a row of four pixels of iron, 0.5 to 2 cm thick."""
    folder = tmp_path_factory.mktemp("counts")
    rng = np.random.default_rng(4)
    channel = np.arange(150, 550)
    wavelength = 3956.034 * 20e-6 * channel / 9
    model = bragg.TransmissionModel(bragg.CrossSection(iron="Fe_sg229_Iron-alpha"), vary_basic=True)
    for x in range(4):
        signal = 2000 * model.evaluate({"thickness": 0.5 * (x + 1)}, wavelength, flight_path=9)
        for kind, expected in (("signal", signal), ("ob", np.full(channel.size, 2000.0))):
            table = pd.DataFrame({"stack": channel, "counts": rng.poisson(expected)})
            table.to_csv(folder / f"{kind}_x{x}_y0.csv", index=False)
    return folder


def arguments(counts: Path, *more: str) -> list[str]:
    files = ["--signal", f"{counts}/signal_*.csv", "--openbeam", f"{counts}/ob_*.csv", "--tstep", "20e-6"]
    window = ["--wlmin", "1.5", "--wlmax", "4.7"]
    return ["bragg", *files, "--material", "Fe_sg229_Iron-alpha", *window, "--no-progress", *more]


def test_it_writes_what_the_library_computes(counts, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    argv = arguments(counts, "--out", "fits.zarr", "--csv", "fits.csv", "--plots", "maps", "--report", "fits.html")
    assert main([*argv, "--rebin", "tof=2", "--start", "thickness=0.8"]) == 0
    out = capsys.readouterr().out
    for name in ("fits.zarr", "fits.csv", "maps/thickness.png", "fits.html"):
        assert f"wrote {name}" in out
        assert Path(name).exists()
    result = bragg.GroupedFitResult.load("fits.zarr")
    frame = pd.read_csv("fits.csv", **exactly())
    pulls = (frame["thickness"] - [0.5, 1.0, 1.5, 2.0]) / frame["thickness_err"]
    assert pulls.abs().max() < 4
    assert frame["thickness_err"].max() < 0.03
    assert list(frame["index"]) == result.indices == ["(0,0)", "(1,0)", "(2,0)", "(3,0)"]
    # the same work again is done already
    assert main([*argv, "--rebin", "tof=2", "--start", "thickness=0.8"]) == 0
    # and other work does not replace it
    assert main([*argv, "--rebin", "tof=4"]) == 2
    assert "holds other work" in capsys.readouterr().err


def test_selected_groups_into_json(counts, tmp_path):
    path = tmp_path / "fits.json"
    assert main(arguments(counts, "--out", str(path), "--query", "x >= 2", "--vary", "background")) == 0
    result = bragg.GroupedFitResult.load(path)
    assert result.indices == ["(2,0)", "(3,0)"]
    assert "bg0" in result.parameters


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--out", "fits.csv"], "ends in .zarr or .json"),
        (["--out", "f.zarr", "--material", "Fe_sg229_Iron-alfa"], "did you mean 'Fe_sg229_Iron-alpha'"),
        (["--out", "f.zarr", "--vary", "lattices"], "did you mean 'lattice'"),
        (["--out", "f.zarr", "--start", "thick=1"], "did you mean 'thickness'"),
        (["--out", "f.zarr", "--wlmin", "50", "--wlmax", "60"], "no data between"),
        (["--out", "f.zarr", "--csv", "no/such/fits.csv"], "there is no folder"),
        (["--out", "f.zarr", "--signal", "nothing_*.csv"], "no file matches"),
        (["--out", "f.zarr", "--rebin", "tof"], "expected --rebin DIM=N"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(
    counts, tmp_path, monkeypatch, capsys, more, message
):
    monkeypatch.chdir(tmp_path)
    assert main(arguments(counts, *more)) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
