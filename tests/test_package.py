"""What is said outside the code agrees with it: versions, the README's commands and lines, CI."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml

import scanfold as sf
from scanfold.cli import COMMANDS, make_parser
from scanfold.cli.fit import gather
from scanfold.cli.models import parse_model
from scanfold.fitting import STATUS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Return the code blocks of the README in a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def test_versions_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert sf.__version__ == project["version"] == citation["version"]
    assert f"## {sf.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert project["license"] == citation["license"]


def test_the_command_and_the_xarray_engine_are_installed():
    (command,) = (e for e in metadata.entry_points(group="console_scripts") if e.name == "scanfold")
    assert command.load()(["info", "nowhere.h5"]) == 2
    assert "scanfold" in {e.name for e in metadata.entry_points(group="xarray.backends")}


def test_import_loads_nothing_heavy():
    heavy = {"numba", "lmfit", "matplotlib", "distributed", "xarray", "dask", "h5py", "zarr", "pandas", "scipy"}
    code = f"import sys, scanfold; print(sorted(set(sys.modules) & {heavy!r}))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_the_commands_of_the_readme_exist():
    text = "\n".join(blocks("sh")).replace("\\\n", " ")
    commands = [
        shlex.split(c.split("#")[0]) for line in text.splitlines() for c in line.split("&&") if "scanfold " in c
    ]
    assert {c[1] for c in commands} >= {"info", "fit", "demo"}
    commands = [c for c in commands if "--help-config" not in c]  # prints and exits: tests/cli/test_polar_map.py
    for _, *argv in commands:
        arguments = make_parser().parse_args(argv)
        assert arguments.command.replace("-", "_") in COMMANDS
        if arguments.command == "fit":
            parse_model(gather(arguments)["model"])


def test_the_lines_of_the_readme_run(tmp_path, monkeypatch):
    import h5py

    monkeypatch.chdir(tmp_path)
    from scanfold.cli.demo import make_scan

    scan = make_scan(6, 5)["counts"].compute()
    with h5py.File("raman_map.h5", "w") as file:
        data = file.create_group("entry/data")
        file.attrs["default"], file["entry"].attrs["default"], data.attrs["signal"] = "entry", "data", "counts"
        file["entry"].attrs["NX_class"], data.attrs["NX_class"] = "NXentry", "NXdata"
        data.attrs["axes"] = list(scan.dims)
        data["counts"] = scan.values
        for dim in scan.dims:
            data[dim] = scan[dim].values
    lines = next(block for block in blocks("python") if "sf.fit(" in block)
    names: dict[str, object] = {}
    exec(compile(lines, "README.md", "exec"), names)
    assert set(names["fits"]["status"].values.ravel()) <= set(STATUS.values())
    assert float(names["fits"]["center"].compute().median()) == pytest.approx(1001, abs=3)


def test_the_lines_of_the_readme_on_virtual_detectors_run(tmp_path, monkeypatch):
    import h5py
    import numpy as np

    monkeypatch.chdir(tmp_path)
    ky, kx = np.mgrid[:32, :32] - 15.5
    labels = np.arange(64).reshape(8, 8) % 2
    expected = 1 + 40 * (np.hypot(ky, kx) < 6) + 20 * (np.hypot(ky - 10, kx * (1 - 2 * labels[..., None, None])) < 3)
    with h5py.File("scan.h5", "w") as file:
        file["patterns"] = np.random.default_rng(0).poisson(expected).reshape(64, 32, 32).astype("uint16")
    np.savez("clusters.npz", labels=labels)
    lines = next(block for block in blocks("python") if "det.virtual_maps(" in block)
    lines = lines.replace("(256, 256)", "(8, 8)").replace("(8, 80)", "(4, 15)")
    names: dict[str, object] = {"sf": sf}
    exec(compile(lines, "README.md", "exec"), names)
    assert names["field"]["Ex"].sel(detector="disc").shape == (8, 8)


def run_lines(mark: str, replaced: dict[str, str]) -> dict[str, object]:
    """Run the lines of the README that have a mark, with some numbers made smaller, and return their names."""
    (lines,) = (block for block in blocks("python") if mark in block)
    for large, small in replaced.items():
        assert large in lines
        lines = lines.replace(large, small)
    names: dict[str, object] = {"sf": sf}
    exec(compile(lines, "README.md", "exec"), names)
    return names


def test_the_lines_of_the_readme_on_bragg_edges_run(tmp_path, monkeypatch):
    pytest.importorskip("NCrystal", reason="cross sections need NCrystal")
    import numpy as np
    import pandas as pd

    from scanfold import bragg

    monkeypatch.chdir(tmp_path)
    (tmp_path / "imaging").mkdir()
    iron = bragg.TransmissionModel(bragg.CrossSection(iron="Fe_sg229_Iron-alpha"), vary_basic=True)
    channel = np.arange(1, 1201)
    wavelength = 3956.034 * 10e-6 * channel / 9
    transmission = np.ones(channel.size)
    transmission[300:] = iron.evaluate({"thickness": 0.8}, wavelength[300:])
    rng = np.random.default_rng(2)
    for x, y in np.ndindex(2, 2):
        for name, expected in (("signal", 3000 * transmission), ("ob", np.full(channel.size, 3000.0))):
            table = pd.DataFrame({"stack": channel, "counts": rng.poisson(expected)})
            table.to_csv(f"imaging/{name}_x{x}_y{y}.csv", index=False)
    names = run_lines("bragg.Data.from_grouped(", {})
    np.testing.assert_allclose(names["result"].fits["thickness"], 0.8, atol=0.03)
    assert len(bragg.GroupedFitResult.load("imaging_results.zarr").indices) == 4


def test_the_lines_of_the_readme_on_traces_run(tmp_path, monkeypatch):
    import numpy as np
    import pandas as pd

    from scanfold import traces

    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiment").mkdir()
    minutes = np.arange(120) * 10.0
    model = traces.get_model("maturation")
    curve = model.function(minutes / 60, **{**model.defaults, "t0": 1.0, "ktl": 1000.0, "km": 1.28, "delta": 0.1})
    noise = np.random.default_rng(6).normal(0, 0.02 * curve.max(), (3, minutes.size))
    table = pd.DataFrame({"time": minutes, **{str(i): curve + noise[i] for i in range(3)}})
    Path("experiment/cells.csv").write_text("# Time units: min\n" + table.to_csv(index=False))
    names = run_lines("traces.fit_folder(", {})
    np.testing.assert_allclose(names["run"].dataset["delta"], 0.1, rtol=0.5)


def test_the_lines_of_the_readme_on_ptychography_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    smaller = {"lines(392": "lines(160", "100_000": "300", "nsamples=512": "nsamples=64", "guard=60.0": "guard=8.0"}
    names = run_lines("grouping.iter_batches(", smaller)
    assert names["plan"].sizes["group"] == 64
    batch = next(iter(names["batches"]))
    assert batch["diffraction"].shape[1:] == (64, 64, 4)


def test_the_readme_names_every_status():
    table = set(re.findall(r"^\| `(\w+)` \|", README, re.M))
    assert table == set(STATUS)


def test_the_files_that_the_readme_points_to_are_there():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_ci_calls_the_test_command_of_the_readme():
    (command,) = (b.strip() for b in blocks("sh") if "pytest" in b)
    assert command in (ROOT / ".ci" / "run").read_text()


def test_the_picture_is_small():
    assert all(p.stat().st_size < 200_000 for p in (ROOT / "docs").glob("*.png"))
