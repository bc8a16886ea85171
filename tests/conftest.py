"""What every test shares."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

# a failing draw is printed as a @reproduce_failure line; timing on a shared machine is no failure
settings.register_profile("scanfold", deadline=None, print_blob=True)
settings.load_profile("scanfold")
os.environ["MPLBACKEND"] = "Agg"
# a shell's background jobs ignore interrupts and their children inherit that: tests that interrupt a child need them
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real measurements that SCANFOLD_REAL_DATA names."""
    folder = os.environ.get("SCANFOLD_REAL_DATA")
    if not folder:
        pytest.skip("SCANFOLD_REAL_DATA is not set: it names the folder of real measurements (not in the repo)")
    path = Path(folder)
    if not path.is_dir():
        pytest.fail(f"SCANFOLD_REAL_DATA={folder} is no folder")
    return path
