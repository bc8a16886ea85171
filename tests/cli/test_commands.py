"""The commands from end to end, as a person types them."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import scanfold as sf
from scanfold.cli import COMMANDS, main
from scanfold.fitting import STATUS
from scanfold.io.tables import exactly
from scanfold.testing import peak_scan, raise_if_computes

MODEL = ["--model", "GaussianModel + LinearModel", "--dim", "energy"]


@pytest.fixture(scope="module")
def scan(tmp_path_factory) -> Path:
    """A small map of Gaussian peaks in a zarr store."""
    data, _ = peak_scan({"y": 4, "x": 5}, points=60)
    path = tmp_path_factory.mktemp("scan") / "map.zarr"
    data.to_dataset().assign_attrs(primary="counts").to_zarr(path)
    return path


def fitted(path: Path) -> xr.Dataset:
    return sf.open_scan(path).compute()


@pytest.mark.parametrize("name", [c.replace("_", "-") for c in COMMANDS])
def test_help_has_an_example(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert f"example:\n  scanfold {name}" in capsys.readouterr().out


@pytest.mark.parametrize("start", [["-m", "scanfold"], ["-c", "import sys; from scanfold.cli import main; main()"]])
def test_the_help_starts_without_heavy_imports(start):
    code = "-X importtime".split()
    ran = subprocess.run([sys.executable, *code, *start, "--help"], capture_output=True, text=True, check=True)
    assert "doctor" in ran.stdout
    loaded = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines()}
    assert not loaded & {"numba", "lmfit", "distributed", "matplotlib"}


def test_fit_writes_what_the_library_computes(scan, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    argv = ["fit", str(scan), *MODEL, "--weights", "counts", "--out", "a.zarr", "--csv", "a.csv", "--plots", "maps"]
    argv += ["--report", "a.html", "--select", "energy=2:8", "--param", "sigma=0.5,min=0.1,max=2"]
    assert main(argv) == 0
    from lmfit.models import GaussianModel, LinearModel

    expected = sf.fit(
        sf.open_scan(scan)["counts"].sel(energy=slice(2, 8)),
        GaussianModel() + LinearModel(),
        {"sigma": {"value": 0.5, "min": 0.1, "max": 2}},
        dim="energy",
        weights="counts",
    ).compute()
    found = fitted(tmp_path / "a.zarr")
    for name in expected.data_vars:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=str(name))
    table = pd.read_csv("a.csv", **exactly())
    np.testing.assert_array_equal(table["center"], expected["center"].values.ravel())
    assert "<html" in Path("a.html").read_text()
    assert {p.stem for p in Path("maps").iterdir()} >= {"amplitude", "center", "sigma", "slope", "intercept"}
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if line == "wrote a.zarr"]


def test_a_config_file_gives_the_same_store_and_resumes_it(scan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["fit", str(scan), *MODEL, "--weights", "counts", "--out", "a.zarr"]) == 0
    Path("run.yaml").write_text(
        f"file: {scan}\nmodel: GaussianModel + LinearModel\ndim: energy\nweights: counts\nout: b.zarr\n"
    )
    assert main(["fit", "--config", "run.yaml"]) == 0
    xr.testing.assert_equal(fitted(tmp_path / "a.zarr"), fitted(tmp_path / "b.zarr"))
    # the same work as in a.zarr: the store is taken as it is, not refused
    assert main(["fit", "--config", "run.yaml", "--out", "a.zarr"]) == 0


def test_errors_of_the_data_are_weights(tmp_path):
    data, _ = peak_scan({"position": 6}, points=50)
    data = data.rename("signal")
    ds = xr.Dataset({"signal": data, "sigma_y": np.sqrt(np.maximum(data, 1.0))}, attrs={"primary": "signal"})
    ds.to_zarr(tmp_path / "a.zarr")
    for weights, out in (("1/sigma_y", "given.zarr"), ("counts", "counts.zarr")):
        argv = ["fit", str(tmp_path / "a.zarr"), *MODEL, "--weights", weights, "--out", str(tmp_path / out)]
        assert main(argv) == 0
    given, counts = fitted(tmp_path / "given.zarr"), fitted(tmp_path / "counts.zarr")
    np.testing.assert_allclose(given["center"], counts["center"], rtol=1e-9)


@pytest.mark.parametrize("frames", [False, True])
def test_the_command_that_info_prints_runs_as_it_is(frames, scan, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if frames:
        data, _ = peak_scan({"y": 3, "x": 4})
        np.save("a map.npy", data.values)
        scan = Path("a map.npy")
    assert main(["info", str(scan)]) == 0
    command = capsys.readouterr().out.rstrip().splitlines()[-1].strip()
    words = shlex.split(command)
    assert words[0] == "scanfold"
    assert main(words[1:]) == 0
    store = words[words.index("--out") + 1]
    assert main(["info", store]) == 0
    report = shlex.split(capsys.readouterr().out.rstrip().splitlines()[-1])
    assert report[:2] == ["scanfold", "report"]
    assert Path(report[2]).resolve() == Path(store).resolve()
    assert main(report[1:]) == 0
    assert Path(store).with_suffix(".html").stat().st_size > 10_000


def test_info_shows_arrays_shapes_units_and_reads_nothing(scan, capsys):
    with raise_if_computes():
        assert main(["info", str(scan)]) == 0
    out = capsys.readouterr().out
    assert "counts  (4, 5, 60) float64 [count]" in out
    assert "energy  60 points, 60 in a block, 0 … 10 keV" in out


def test_info_says_which_arrays_could_be_meant(tmp_path, capsys):
    np.savez(tmp_path / "two.npz", first=np.zeros((3, 4, 5)), second=np.zeros((3, 4, 6)))
    assert main(["info", str(tmp_path / "two.npz")]) == 0
    out = capsys.readouterr().out
    assert "first  (3, 4, 5) float64" in out
    assert "dataset=" in out


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["info", "nowhere.h5"], "no file 'nowhere.h5'"),
        (["report", "nowhere.zarr"], "no store"),
        (["fit", "nowhere.h5", *MODEL, "--out", "a.zarr"], "no file"),
        (["fit", "SCAN", *MODEL], "--out missing"),
        (["fit", "SCAN", "--model", "GausianModel", "--dim", "energy", "--out", "a.zarr"], "'GaussianModel'"),
        (["fit", "SCAN", "--model", "GaussianModel", "--dim", "enrgy", "--out", "a.zarr"], "did you mean 'energy'"),
        (["fit", "SCAN", *MODEL, "--out", "a.zarr", "--select", "energy=20:30"], "it runs from 0 to 10 keV"),
        (["fit", "SCAN", *MODEL, "--out", "a.zarr", "--select", "enrgy=2:3"], "did you mean 'energy'"),
        (["fit", "SCAN", *MODEL, "--out", "a.zarr", "--weights", "cnts"], "expected counts, or 1/NAME"),
        (["fit", "SCAN", *MODEL, "--out", "a.zarr", "--weights", "1/cnts"], "did you mean 'counts'"),
        (["fit", "SCAN", *MODEL, "--out", "a.zarr", "--param", "centre=5"], "did you mean 'center'"),
        (["fit", "SCAN", *MODEL, "--out", "a.zarr", "--report", "no/such/a.html"], "there is no folder"),
        (["fit", "SCAN", *MODEL, "--out", "a.zarr", "--csv", "a.zarr"], "a name of its own"),
        (["fit", "SCAN", *MODEL, "--out", "a.zarr", "--csv", "s3://bucket/a.csv"], "are on a file system"),
        (["fit", "SCAN", *MODEL, "--out", "a.zarr", "--method", "simplex"], "method"),
        (["fit", "SCAN", *MODEL, "--out", "taken.txt"], "taken.txt"),
        (["demo", "--size", "3"], "rows and columns"),
        (["fit", "SCAN", *MODEL, "--out", "a.zarr", "--scheduler", "tcp://127.0.0.1:9"], "no scheduler answers"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(argv, says, scan, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("taken.txt").write_text("not a store")
    monkeypatch.setattr("scanfold.runs.clients.TIMEOUT", "1s")
    assert main([str(scan) if a == "SCAN" else a for a in argv]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1, captured.err
    assert captured.err.startswith(f"scanfold {argv[0]}: ")
    assert says in captured.err
    assert [p.name for p in tmp_path.iterdir()] == ["taken.txt"]
    assert Path("taken.txt").read_text() == "not a store"


def test_workers_and_a_scheduler_give_the_same_store(scan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = ["fit", str(scan), *MODEL, "--weights", "counts", "--no-progress"]
    assert main([*argv, "--out", "threads.zarr"]) == 0
    assert main([*argv, "--out", "workers.zarr", "--workers", "2"]) == 0
    from scanfold.runs.clients import local_client

    with local_client(1) as client:
        address = client.scheduler_info()["address"]
        assert main([*argv, "--out", "cluster.zarr", "--scheduler", address]) == 0
    for name in ("workers", "cluster"):
        xr.testing.assert_equal(fitted(tmp_path / f"{name}.zarr"), fitted(tmp_path / "threads.zarr"))


def test_an_interrupt_says_how_to_go_on_and_the_same_command_does(tmp_path):
    data, _ = peak_scan({"y": 24, "x": 10}, points=60)
    data.chunk(y=2).to_dataset().assign_attrs(primary="counts").to_zarr(tmp_path / "map.zarr")
    argv = [sys.executable, "-m", "scanfold", "fit", "map.zarr", *MODEL, "--engine", "lmfit", "--workers", "1"]
    argv += ["--out", "fits.zarr"]
    with subprocess.Popen(argv, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if len(list((tmp_path / "fits.zarr/.scanfold/blocks").glob("*.json"))) > 1:
                os.kill(process.pid, signal.SIGINT)
                break
            time.sleep(0.02)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "run the same command again" in err
    assert "Traceback" not in err
    assert subprocess.run(argv, cwd=tmp_path, check=False).returncode == 0
    fits = fitted(tmp_path / "fits.zarr")
    assert int((fits["status"] == 0).sum()) == 0


def test_doctor_finds_this_machine_well(tmp_path, capsys):
    assert main(["doctor", "--folder", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "2 workers started and stopped, listening on loopback only" in out
    assert out.endswith("all is well\n")
    assert list(tmp_path.iterdir()) == []


def test_doctor_says_what_is_wrong(tmp_path, capsys, monkeypatch):
    from importlib import util

    find = util.find_spec
    monkeypatch.setattr("scanfold.cli.doctor.find_spec", lambda n: None if n == "rsciio" else find(n))
    monkeypatch.setattr("scanfold.cli.doctor._listening", lambda: iter([Exposed()]))
    assert main(["doctor", "--folder", str(tmp_path / "nowhere")]) == 1
    out = capsys.readouterr().out
    assert 'pip install "scanfold[vendor]"' in out
    assert "FAILED  writing" in out
    assert "FAILED  cluster     listens beyond this machine, on 0.0.0.0:8787" in out
    assert out.endswith("2 checks failed\n")


class Exposed:
    ip, port = "0.0.0.0", 8787


def test_the_demo_recovers_its_truth_and_cleans_up(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--size", "40,50", "--out", "demo"]) == 0
    out = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.split()[:1]}
    for name in ("amplitude", "center", "sigma", "slope", "intercept"):
        _, _, mean, width = map(float, rows[name])
        # 2000 fits: the mean of the pulls is known to 0.022, their width to 0.016; four times that
        assert abs(mean) < 0.09, (name, mean)
        assert abs(width - 1) < 0.064, (name, width)
    assert sorted(p.name for p in Path("demo").iterdir()) == ["fits.zarr", "maps", "report.html"]
    fits = fitted(tmp_path / "demo" / "fits.zarr")
    assert fits.sizes == {"y": 40, "x": 50}
    assert float((fits["status"] == STATUS["converged"]).mean()) > 0.98
