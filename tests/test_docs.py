"""The documentation builds from the docstrings without a warning, and no public name is missing from it."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"


def test_the_documentation_builds_and_has_every_public_name(tmp_path: Path):
    pytest.importorskip("sphinx", reason='the documentation needs Sphinx: pip install "scanfold[docs]"')
    source = tmp_path / "docs"
    source.mkdir()
    for page in [DOCS / "conf.py", *DOCS.glob("*.rst")]:
        (source / page.name).write_text(page.read_text(encoding="utf-8"), encoding="utf-8")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", str(source), str(tmp_path / "site")]
    ran = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"MPLBACKEND": "Agg"})
    assert ran.returncode == 0, ran.stderr
    for page in (source / "reference").glob("*.rst"):
        module = importlib.import_module(f"scanfold.{page.stem}")
        html = (tmp_path / "site" / "reference" / f"{page.stem}.html").read_text(encoding="utf-8")
        for name in module.__all__:
            assert name in html or not callable(getattr(module, name)), f"{page.stem}.{name}"
    assert "reference/testing" in (source / "index.rst").read_text(encoding="utf-8")
