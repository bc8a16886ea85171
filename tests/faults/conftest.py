"""What every trial starts from, and the table of what all of them found.

``pytest tests/faults -m matrix`` runs every trial of every job, and writes the table into ``benchmarks/README.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from . import harness, recorded
from .jobs import JOBS, Clean


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Clean]:
    """Return the uninterrupted run of a job by its name; it is made once."""
    made: dict[str, Clean] = {}

    def run(name: str) -> Clean:
        if name not in made:
            job, folder = JOBS[name], tmp_path_factory.mktemp(f"clean-{name}")
            job.make(folder, "h5")
            made[name] = harness.undisturbed(job, folder)
        return made[name]

    return run


@pytest.fixture
def note(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Return the function that says what a trial found, for the table."""
    return lambda text: record_property("found", text)


def pytest_configure(config: pytest.Config) -> None:
    """Run the tests that hold the floor too, and write the tables, where the whole matrix is asked for."""
    whole = [Path(arg).resolve() for arg in config.args] == [Path(__file__).parent]
    if config.option.markexpr == "matrix" and whole and not config.option.keyword:
        config.args += [str(recorded.ROOT / test) for test in recorded.elsewhere()]
        config.pluginmanager.register(recorded.Matrix())
