"""Every command that computes does so on workers that were started elsewhere, over TLS, with the same results."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import xarray as xr
import yaml

import scanfold as sf
from scanfold import bragg, traces
from scanfold.cli import main
from scanfold.testing import peak_scan, synthetic_raw_data

from .conftest import flags, make_certificates


def make_fit(folder: Path) -> list[str]:
    data, _ = peak_scan({"y": 6, "x": 5}, points=60)
    data.to_dataset().assign_attrs(primary="counts").to_zarr(folder / "map.zarr")
    return ["fit", "map.zarr", "--model", "GaussianModel + LinearModel", "--dim", "energy", "--weights", "counts"]


def make_bragg(folder: Path) -> list[str]:
    channel = np.arange(150, 550)
    wavelength = 3956.034 * 20e-6 * channel / 9
    model = bragg.TransmissionModel(bragg.CrossSection(iron="Fe_sg229_Iron-alpha"), vary_basic=True)
    for x in range(2):
        signal = 2000 * model.evaluate({"thickness": 0.5 * (x + 1)}, wavelength, flight_path=9)
        for kind, counts in (("signal", signal), ("ob", np.full(channel.size, 2000.0))):
            table = pd.DataFrame({"stack": channel, "counts": np.rint(counts)})
            table.to_csv(folder / f"{kind}_x{x}_y0.csv", index=False)
    files = ["--signal", "signal_*.csv", "--openbeam", "ob_*.csv", "--tstep", "20e-6"]
    return ["bragg", *files, "--material", "Fe_sg229_Iron-alpha", "--wlmin", "1.5", "--wlmax", "4.7"]


def make_traces(folder: Path) -> list[str]:
    times = np.arange(60) / 3.0
    signal = traces.get_model("maturation").function(times, 0.2, 900.0, 1.28, 0.05, 5.22e-3, 10.0, 1.0)
    noise = np.random.default_rng(0).standard_normal((2, 60))
    (folder / "experiment").mkdir()
    for name in "ab":
        frame = pd.DataFrame({"time": times * 60, "0": signal + 30 * noise[0], "1": 2 * signal + 30 * noise[1]})
        (folder / f"experiment/{name}.csv").write_text("# Time units: min\n" + frame.to_csv(index=False))
    return ["traces", "experiment", "--model", "Maturation"]


def make_group(folder: Path) -> list[str]:
    synthetic_raw_data(60, N=8, seed=1).to_npz(folder / "run.npz")
    return ["group", "run.npz", "--nsamples", "20", "--gridsize", "2"]


def make_simulate(folder: Path) -> list[str]:
    return ["simulate", "--n-images", "20", "--size", "80", "--N", "16", "--nphotons", "1e5"]


def make_polar_map(folder: Path) -> list[str]:
    labels = np.arange(30).reshape(5, 6) % 2
    ky, kx = np.mgrid[:20, :22]
    beam = 40.0 * (np.hypot(ky - 9.5, kx - 10.5) < 5) + 1
    spots = [20.0 * (np.hypot(ky - y, kx - 10.5) < 2) for y in (3, 16)]
    rng = np.random.default_rng(0)
    np.save(folder / "grid.npy", rng.poisson([[beam + spots[c] for c in row] for row in labels]).astype("uint16"))
    np.savez(folder / "labels.npz", cluster_labels=labels.ravel())
    config = {"templates": {"roi_r": [0, 9]}, "preprocess": {"central_mask_px": 0}, "dpc": {"roi": [0, 9]}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return ["polar-map", "--data", "grid.npy", "--labels", "labels.npz", "--config", "config.yaml", "--chunks", "7"]


COMMANDS = {
    "fit": make_fit,
    "bragg": make_bragg,
    "traces": make_traces,
    "group": make_group,
    "simulate": make_simulate,
    "polar-map": make_polar_map,
}


def outputs(command: str, name: str) -> list[str]:
    if command == "group":
        return ["--out", f"{name}.plan.zarr", "--gather", f"{name}.zarr"]
    return ["--out", name if command in ("traces", "polar-map") else f"{name}.zarr"]


def results(command: str, name: str) -> xr.Dataset | list[bytes]:
    if command == "traces":
        return [path.read_bytes() for path in sorted(Path(name).glob("*.csv"))]
    (store,) = [Path(f"{name}.zarr")] if command != "polar-map" else Path(name).glob("*.zarr")
    return sf.open_scan(store).compute()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_gives_on_a_cluster_what_it_gives_here(command, tls_cluster, tmp_path, monkeypatch, capsys):
    if command == "bragg":
        pytest.importorskip("NCrystal", reason="cross sections come from NCrystal")
    monkeypatch.chdir(tmp_path)
    argv = [*COMMANDS[command](tmp_path), "--no-progress"]
    assert main([*argv, *outputs(command, "here")]) == 0
    before = tls_cluster.executed()
    assert main([*argv, *outputs(command, "there"), *tls_cluster.options]) == 0, capsys.readouterr().err
    assert tls_cluster.executed() > before
    here, there = results(command, "here"), results(command, "there")
    if isinstance(here, list):
        assert here == there
        assert here
    else:
        xr.testing.assert_equal(here, there)


def test_all_processes_listen_on_loopback_only(tls_cluster):
    def listening(pid: int) -> list[str]:
        return [c.laddr.ip for c in psutil.Process(pid).net_connections("inet") if c.status == "LISTEN"]

    for process in tls_cluster.processes:
        limit = time.monotonic() + 60
        while len(listening(process.pid)) < 2:  # the comm and the dashboard; a worker may still be coming up
            assert time.monotonic() < limit
            time.sleep(0.1)
        assert set(listening(process.pid)) == {"127.0.0.1"}


def test_a_client_of_a_notebook_is_used(tls_cluster, tmp_path):
    from distributed import Client
    from distributed.security import Security

    names = {"tls-ca-file": "tls_ca_file", "tls-cert": "tls_client_cert", "tls-key": "tls_client_key"}
    security = Security(**{names[k]: v for k, v in tls_cluster.tls.items()}, require_encryption=True)
    scan = xr.DataArray(np.arange(12.0).reshape(6, 2), dims=("y", "x"), name="counts").chunk(y=2)
    before = tls_cluster.executed()
    with Client(tls_cluster.address, security=security):
        saved = sf.save(2 * scan, tmp_path / "doubled.zarr", progress=False)
        assert float(saved["counts"].sum()) == 132.0
    assert tls_cluster.executed() > before


WRONG = {
    "plain tcp to a scheduler with certificates": (lambda c: ["--scheduler", c.address.replace("tls", "tcp")],
                                                   "answers to tls:// only"),
    "no certificates": (lambda c: ["--scheduler", c.address], "pass --tls-ca-file, --tls-cert, --tls-key"),
    "no key": (lambda c: c.options[:-2], "pass --tls-key"),
    "a file that is not there": (lambda c: [*c.options[:-1], "lost.pem"], "lost.pem"),
    "certificates without tls": (lambda c: ["--scheduler", "tcp://127.0.0.1:1", *c.options[2:]],
                                 "--tls-ca-file goes with --scheduler tls://"),
}  # fmt: skip


@pytest.mark.parametrize(("given", "said"), WRONG.values(), ids=WRONG)
def test_wrong_certificates_are_said_before_anything_is_written(
    given, said, tls_cluster, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("scanfold.runs.clients.TIMEOUT", "1s")
    assert main([*make_simulate(tmp_path), "--out", "sim.zarr", *given(tls_cluster)]) == 2
    assert said in capsys.readouterr().err
    assert not Path("sim.zarr").exists()


def test_certificates_of_another_authority_are_refused(tls_cluster, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("scanfold.runs.clients.TIMEOUT", "1s")
    make_certificates(tmp_path)
    other = flags({"tls-ca-file": "ca.pem", "tls-cert": "cert.pem", "tls-key": "key.pem"})
    assert main([*make_simulate(tmp_path), "--out", "sim.zarr", "--scheduler", tls_cluster.address, *other]) == 2
    assert "another authority" in capsys.readouterr().err
