"""Every example runs as it is, and draws pictures that are not empty."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import pytest

DOCS = Path(__file__).parent.parent / "docs"
EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("plot_*.py"))


#: The pictures of the README, and the examples that make them:
#: ``SCANFOLD_EXAMPLES_OUTPUT=docs python examples/plot_traces.py`` writes docs/traces.png anew, and what else it draws.
PICTURES = {
    "bragg_imaging": "plot_bragg_imaging",
    "raman_maps": "plot_raman_map",
    "simulated": "plot_simulate_ptychography",
    "traces": "plot_traces",
    "virtual_detectors": "plot_virtual_detectors",
}
#: Examples that take measurements where they are at hand, and what they say of them then.
MEASURED = {
    "plot_raman_map": ["(y: 49, x: 45, raman_shift: 394)", "no_signal"],
    "plot_bragg_samples": ["iron_powder", "large_grain_steel_67deg"],
    "plot_group_ptychography": ["(position: 516, ky: 128, kx: 128"],
}


def run(example: Path, folder: Path, environment: dict[str, str]) -> str:
    environment = environment | {"SCANFOLD_EXAMPLES_OUTPUT": str(folder), "MPLBACKEND": "Agg"}
    ran = subprocess.run([sys.executable, str(example)], cwd=folder, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.stem)
def test_the_example_runs_and_draws(example, tmp_path):
    run(example, tmp_path, {k: v for k, v in os.environ.items() if k != "SCANFOLD_REAL_DATA"})
    pictures = list(tmp_path.glob("*.png"))
    assert pictures
    wanted = [name for name, script in PICTURES.items() if script == example.stem]
    assert set(wanted) <= {picture.stem for picture in pictures}
    for name in wanted:  # the one in the README is of this script: it has its size
        sizes = [matplotlib.image.imread(folder / f"{name}.png").shape[:2] for folder in (tmp_path, DOCS)]
        assert sizes[0] == sizes[1], name
    for picture in pictures:
        pixels = matplotlib.image.imread(picture)[..., :3]
        coloured = pixels.max(axis=2) - pixels.min(axis=2) > 0.2  # empty axes, and their words, have no colour
        assert coloured.mean() > 0.002, f"{picture.name} is empty"


@pytest.mark.parametrize("name", MEASURED)
def test_the_example_on_measurements(name, real_data, tmp_path):
    example = next(e for e in EXAMPLES if e.stem == name)
    out = run(example, tmp_path, os.environ | {"SCANFOLD_REAL_DATA": str(real_data.absolute())})
    for words in MEASURED[name]:
        assert words in out


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.stem)
def test_the_example_opens_as_a_notebook(example):
    jupytext = pytest.importorskip("jupytext", reason="jupytext is not installed")
    book = jupytext.read(example)
    assert book.cells[0].cell_type == "markdown"
    assert book.cells[0].source.startswith("# ")
    code = [cell.source for cell in book.cells if cell.cell_type == "code"]
    assert len(code) >= 3
    for source in code:
        compile(source, example.name, "exec")
        assert "# %%" not in source
    assert sum(cell.cell_type == "markdown" for cell in book.cells) >= 2


def test_an_example_runs_as_a_notebook(tmp_path, monkeypatch):
    jupytext = pytest.importorskip("jupytext", reason="jupytext is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    monkeypatch.delenv("SCANFOLD_EXAMPLES_OUTPUT", raising=False)
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    book = jupytext.read(next(e for e in EXAMPLES if e.stem == "plot_own_format"))
    nbclient.NotebookClient(book, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [o for cell in book.cells if cell.cell_type == "code" for o in cell.outputs]
    assert any("image/png" in o.get("data", {}) for o in shown)
    assert any("holds other work" in o.get("text", "") for o in shown)


def test_there_are_examples():
    assert {e.stem for e in EXAMPLES} >= {
        *PICTURES.values(),
        "plot_laptop_to_cluster",
        "plot_out_of_core",
        "plot_own_format",
    }
