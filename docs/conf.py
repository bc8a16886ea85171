"""How the documentation is built: ``sphinx-build -W docs site``; the pages of the reference come from docstrings."""

from __future__ import annotations

import importlib
from pathlib import Path

import scanfold

project = "scanfold"
author = "The scanfold developers"
release = version = scanfold.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc"]
html_theme = "pydata_sphinx_theme"
html_theme_options = {"show_prev_next": False}
exclude_patterns = ["site"]
autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

HERE = Path(__file__).parent
#: The rooms whose public names make the reference, in the order of a scan's way through them.
ROOMS = ("io", "fitting", "bragg", "traces", "grouping", "ptycho", "detectors", "runs", "plot", "report", "export",
         "viewer", "testing")  # fmt: skip


def write_reference() -> None:
    """Write a page for each room from its ``__all__``, so that no public name is forgotten."""
    folder = HERE / "reference"
    folder.mkdir(exist_ok=True)
    for room in ROOMS:
        module = importlib.import_module(f"scanfold.{room}")
        names = "\n   ".join(name for name in module.__all__ if callable(getattr(module, name)))
        title = f"scanfold.{room}"
        page = (
            f"{title}\n{'=' * len(title)}\n\n.. automodule:: {title}\n   :no-members:\n\n"
            f".. currentmodule:: {title}\n\n.. autosummary::\n   :toctree: generated\n   :nosignatures:\n\n   {names}\n"
        )
        (folder / f"{room}.rst").write_text(page, encoding="utf-8")


write_reference()
