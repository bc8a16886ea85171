"""What every trial starts from, and the table of what all of them found.

``pytest tests/faults -m matrix`` runs every trial of every job, and writes the table into ``benchmarks/README.md``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from . import harness
from .jobs import JOBS, Clean

BEGUN = time.monotonic()
#: What was found, by the title of a trial, then by job.
FOUND = pytest.StashKey[dict[str, dict[str, str]]]()


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Clean]:
    """Return the uninterrupted run of a job by its name; it is made once."""
    made: dict[str, Clean] = {}

    def run(name: str) -> Clean:
        if name not in made:
            job, folder = JOBS[name], tmp_path_factory.mktemp(f"clean-{name}")
            job.make(folder, "h5")
            begun = time.monotonic()
            code, text = harness.start(job, folder).wait()
            assert code == 0, text
            seconds = time.monotonic() - begun
            made[name] = Clean(job, folder, harness.results(job, folder), len(harness.entries(folder)), seconds)
        return made[name]

    return run


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Return the function that says what a trial found, for the table."""

    def say(text: str) -> None:
        request.node.user_properties.append(("found", text))

    return say


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Enter the outcome of a trial in the table."""
    report = (yield).get_result()
    if item.get_closest_marker("matrix") is None or not (report.when == "call" or report.outcome != "passed"):
        return
    text = dict(report.user_properties).get("found", "holds")
    if report.failed:
        text = "**fails**"
    elif report.skipped:
        text = "–"
    title = " ".join(str(item.function.__doc__).split()).rstrip(".")  # type: ignore[attr-defined]
    job = item.callspec.params.get("name", "all") if hasattr(item, "callspec") else "all"
    item.config.stash.setdefault(FOUND, {}).setdefault(title, {})[job] = text


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the table, if all trials were run."""
    options = session.config.option
    missing = set(Path(__file__).parent.glob("test_*.py")) - {item.path for item in session.items}
    if options.markexpr != "matrix" or options.keyword or options.collectonly or missing:
        return
    found = session.config.stash.get(FOUND, {})
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from benchmarks._report import Table, write

    table = Table("Trials", ("trial", *JOBS))
    for title, cells in found.items():
        whole = cells.get("all")
        table.rows.append((title, *([whole, *[""] * (len(JOBS) - 1)] if whole else [cells.get(n, "") for n in JOBS])))
    title = "Six jobs that are killed, starved, cut off and lied to: what must hold, and what each did."
    write("faults", title, [table], "pytest tests/faults -m matrix", time.monotonic() - BEGUN)
