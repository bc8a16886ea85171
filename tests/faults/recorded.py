"""The tables of the matrix: what each trial of each job found, and the rows of the floor with the tests that hold them.

A test says what it found by pytest's ``record_property("found", …)``; a row of the floor is held by tests wherever
they are, which the matrix runs too.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .jobs import JOBS

ROOT = Path(__file__).parents[2]
HERE = "tests/faults/"


@dataclass(frozen=True)
class Row:
    """What is asked, what it must come to, and the tests that hold it (files, or single tests of them)."""

    asked: str
    wanted: str
    tests: tuple[str, ...]


_FLOOR = HERE + "test_floor.py::test_"
_STORAGE = HERE + "test_storage.py::test_"
_LIMITS = HERE + "test_limits.py::test_"
FLOOR = {
    "R1": Row(
        "SIGKILL of a random worker every 4 s, 36,864 positions", "≥ 10 kills, bytes equal, ≤ 2.5 × the time without",
        (_FLOOR + "workers_are_killed_all_the_time",),
    ),
    "R2": Row(
        "all workers are killed while they start", "back in 10 s, or an error within 60 s",
        (_FLOOR + "all_workers_are_killed_at_the_start", _FLOOR + "workers_that_die_at_once"),
    ),
    "R3": Row(
        "SIGKILL of the run at 10 moments, resume", "files identical, no orphans after 5 s",
        (_FLOOR + "the_run_is_killed_ten_times",),
    ),
    "R4": Row("SIGSTOP of a worker", "done, ≤ ttl + clean", (_FLOOR + "a_worker_is_stopped_for_good",)),
    "R5": Row(
        "input 5 × the memory of two workers of 640 MiB", "peak ≤ 70 % of the limit, no restarts",
        (HERE + "test_large_scans.py",),
    ),
    "R6": Row(
        "one position segfaults, one takes 2 GiB", "both condemned, others identical",
        (_FLOOR + "positions_that_kill",),
    ),
    "R7": Row(
        "1,000 fuzzed inputs (1,000 of each format: *inputs*, *words*)",
        "one error of ours, the data, or no checksum; no crash, no hang > 10 s", (_LIMITS + "fuzzed_inputs",),
    ),
    "R8": Row(
        "12 hostile inputs or more", "nothing runs; refused < 1 s, < 300 MiB", (_LIMITS + "hostile_inputs",),
    ),
    "R9": Row("20 changed options or inputs", "20 refusals naming the key", (_LIMITS + "changed_work",)),
    "R10": Row("two runs, one store", "second refused", (_STORAGE + "two_runs_on_one_store",)),
    "R11": Row(
        "disk full, read-only output", "one-line error; resume completes",
        tuple(_STORAGE + name for name in ("files_may_not_grow", "the_disk_is_full", "the_target_is_read_only")),
    ),
    "R12": Row("200 chunkings (Hypothesis)", "same values, same bits", (_LIMITS + "two_hundred_chunkings",)),
    "R13": Row(
        "NaN, inf, negative, dead, saturated, constant, one-point pixels", "right status; neighbours bit-equal",
        ("tests/inputs/test_edges.py", "tests/fitting/test_bad_positions.py"),
    ),
    "R14": Row("10⁵ blocks, trivial kernel", "first < 5 s, client < 500 MiB", (_LIMITS + "many_blocks",)),
    "R15": Row(
        "an hour's soak (*soak*, by itself)", "< 1 MiB per 1,000 blocks, handles flat", (HERE + "test_soak.py",),
    ),
    "R16": Row("misaligned plan: two blocks, one chunk", "refused", (_LIMITS + "misaligned_plans",)),
    "R17": Row(
        "listening sockets of our clusters", "all loopback",
        (
            "tests/runs/test_faults.py::test_the_default_cluster_listens_on_loopback_only_and_leaves_the_environment",
            "tests/cluster/test_commands_on_a_cluster.py::test_all_processes_listen_on_loopback_only",
        ),
    ),
    "R18": Row(
        "40 wrong shapes, lengths, dimensions, coordinates", "error before any compute: found, expected, fix",
        (
            "tests/fitting/test_input_errors.py",
            "tests/inputs/test_edges.py::test_gather_refuses",
            "tests/inputs/test_edges.py::test_simulate_refuses",
            "tests/detectors/test_labels_and_statistics.py::"
            "test_labels_that_cannot_be_used_are_refused_before_the_scan_is_read",
            "tests/runs/test_save.py::test_bad_arguments_are_refused_before_computing",
        ),
    ),
    "R19": Row(
        "threads inside workers", "BLAS and numba: 1",
        (
            "tests/runs/test_faults.py::test_the_default_cluster_listens_on_loopback_only_and_leaves_the_environment",
            "tests/runs/test_faults.py::test_threads_run_blas_with_one_thread_and_put_it_back",
        ),
    ),
    "R20": Row(
        "file being written; filter missing; HDF5 truncated mid-chunk", "cause and cure in the message",
        (
            "tests/io/test_open_hdf5.py::test_locked_file_names_both_causes",
            "tests/io/test_open_hdf5.py::test_missing_filter_names_the_extra",
            "tests/io/test_open_hdf5.py::test_truncated_file_is_named",
            HERE + "test_sources.py::test_the_source_is_cut_off",
        ),
    ),
    "R21": Row("1 % random I/O errors", "same bytes", (_LIMITS + "random_trouble_with_files",)),
    "R22": Row(
        "8 threads reading numeric HDF5, 10⁴ reads", "no difference",
        ("tests/io/test_open_hdf5.py::test_threads_read_the_same",),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What became of one test: the job it was for, if any, "passed", "failed" or "skipped", and what it found."""

    job: str
    outcome: str
    found: str


def elsewhere() -> list[str]:
    """Return the tests outside this folder that hold a row."""
    return sorted({test for row in FLOOR.values() for test in row.tests if not test.startswith(HERE)})


class Matrix:
    """Runs what holds the floor too, and writes the tables once all trials were run."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.titles: dict[str, str] = {}
        self.outcomes: defaultdict[str, list[Outcome]] = defaultdict(list)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Count the tests that hold a row among the trials."""
        for item in items:
            if not item.nodeid.startswith(HERE):
                item.add_marker("matrix")

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
        """Note the outcome of a test."""
        report = (yield).get_result()
        if report.when != "call" and report.outcome == "passed":
            return
        name = item.nodeid.partition("[")[0]
        found = "; ".join(str(text) for what, text in report.user_properties if what == "found")
        job = str(item.callspec.params.get("name", "")) if hasattr(item, "callspec") else ""
        self.titles[name] = " ".join(str(getattr(item, "function", item).__doc__).split()).rstrip(".")
        self.outcomes[name].append(Outcome(job, report.outcome, found))

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write the tables, if the run came to its end."""
        missing = set(Path(__file__).parent.glob("test_*.py")) - {item.path for item in session.items}
        if exitstatus > 1 or missing or session.config.option.collectonly:
            return
        sys.path.insert(0, str(ROOT))
        from benchmarks._report import write

        title = "Six jobs that are killed, starved, cut off and lied to: what must hold, and what each did."
        command, seconds = "pytest tests/faults -m matrix", time.monotonic() - self.begun
        write("faults", title, [self._trials(), self._floor()], command, seconds)

    def _trials(self) -> Any:
        """Return the table of the trials that jobs went through."""
        from benchmarks._report import Table

        table = Table("Trials", ("trial", *JOBS))
        for name, outcomes in self.outcomes.items():
            cells = {o.job: _cell(o) for o in outcomes if o.job in JOBS}
            if cells:
                table.rows.append((self.titles[name], *(cells.get(job, "") for job in JOBS)))
        return table

    def _floor(self) -> Any:
        """Return the table of the floor."""
        from benchmarks._report import Table

        table = Table("The floor", ("", "what happens", "must come to", "found"))
        for name, row in FLOOR.items():
            outcomes = [o for t, found in self.outcomes.items() if t.startswith(row.tests) for o in found]
            table.rows.append((name, row.asked, row.wanted, _found(outcomes)))
        return table


def _cell(outcome: Outcome) -> str:
    if outcome.outcome == "failed":
        return f"**fails** {outcome.found}".rstrip()
    return "–" if outcome.outcome == "skipped" else outcome.found or "holds"


def _found(outcomes: list[Outcome]) -> str:
    """Say what became of the tests of a row: what they found themselves, or how many hold."""
    if not outcomes:
        return "**not run**"
    if len({o.job for o in outcomes} & set(JOBS)) > 1 or not any(o.found for o in outcomes):
        counts = {kind: sum(o.outcome == kind for o in outcomes) for kind in ("passed", "failed", "skipped")}
        words = {"passed": "holds", "failed": "**fails**", "skipped": "not run here"}
        return ", ".join(f"{words[kind]} ({count})" for kind, count in counts.items() if count)
    return "; ".join(f"{o.job} {_cell(o)}".strip() for o in outcomes)
