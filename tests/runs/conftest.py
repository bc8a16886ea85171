"""Fixtures of the tests of runs."""

from pathlib import Path

import pytest


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    """Return a folder in which kernels leave a file per call."""
    folder = tmp_path / "calls"
    folder.mkdir()
    return folder
