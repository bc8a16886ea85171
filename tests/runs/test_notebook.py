"""In a notebook a run shows a bar, and what it returns has a picture of itself in HTML."""

from __future__ import annotations

from pathlib import Path

import pytest

CODE = """
import lmfit, scanfold as sf
scan, _ = sf.testing.peak_scan({"y": 20, "x": 30})
fits = sf.fit(scan.chunk(y=5), lmfit.models.GaussianModel() + lmfit.models.LinearModel(), dim="energy")
fits = sf.save(fits, "fits.zarr")
fits
"""


def test_a_run_in_a_notebook_shows_a_bar(tmp_path: Path):
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CODE)])
    nbclient.NotebookClient(book, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = book.cells[0].outputs
    (bar,) = [o.data for o in outputs if "<progress" in o.get("data", {}).get("text/html", "")]
    # the bar is updated in its place: the last state is what the notebook keeps
    assert '<progress value="600" max="600"' in bar["text/html"]
    assert bar["text/plain"].startswith("save: 600 of 600 positions")
    (shown,) = [o.data["text/html"] for o in outputs if o.output_type == "execute_result"]
    assert "amplitude" in shown
