"""Every example runs as it is, and draws pictures that are not empty."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("plot_*.py"))


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
    for picture in pictures:
        pixels = matplotlib.image.imread(picture)[..., :3]
        coloured = pixels.max(axis=2) - pixels.min(axis=2) > 0.2  # empty axes, and their words, have no colour
        assert coloured.mean() > 0.002, f"{picture.name} is empty"


def test_the_raman_example_on_the_real_map(real_data, tmp_path):
    example = next(e for e in EXAMPLES if e.stem == "plot_raman_map")
    out = run(example, tmp_path, os.environ | {"SCANFOLD_REAL_DATA": str(real_data.absolute())})
    assert "(y: 49, x: 45, raman_shift: 394)" in out
    assert "no_signal" in out


def test_there_are_examples():
    assert {e.stem for e in EXAMPLES} >= {"plot_raman_map", "plot_fit_any_model", "plot_out_of_core"}
