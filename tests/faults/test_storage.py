"""Disks that are full or read-only, stores that vanish, and two runs on one store."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from . import harness
from .jobs import Clean, Job, each

pytestmark = pytest.mark.matrix


def small_files(most: int) -> None:
    """Let no file grow beyond some bytes from here on, as a full disk does not."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))


def largest(job: Job, folder: Path) -> int:
    """Return the size of the largest file that a job left."""
    return max(p.stat().st_size for p in (folder / job.out).rglob("*") if p.is_file())


def one_clear_error(code: int, text: str, words: str) -> str:
    """Assert that a run ended with one error of ours with these words, and return it."""
    error = harness.error_in(text)
    assert code == 1, text
    assert error.split(":")[0] in ("scanfold.conventions.RunError", "scanfold.conventions.InputError"), text
    assert words in error, text
    return error


def goes_on(whole: Clean, folder: Path) -> int:
    """Run again without trouble, and return how many units were kept."""
    kept = harness.entries(folder)
    code, text = harness.start(whole.job, folder).wait()
    assert code == 0, text
    assert kept.items() <= harness.entries(folder).items()
    harness.same(whole.job, folder, whole.results)
    return len(kept)


@each("traces")
def test_files_may_not_grow(name, clean, tmp_path, note):
    """No room for a block (RLIMIT_FSIZE): one clear error, and the same lines go on."""
    whole = clean(name)
    folder = harness.fresh(whole.folder, tmp_path / "run")
    limit = partial(small_files, largest(whole.job, whole.folder) // 2)
    code, text = harness.start(whole.job, folder, setup=limit).wait()
    one_clear_error(code, text, "cannot write to")
    note(f"same bits, {goes_on(whole, folder)} kept")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system that can be made small, and read-only."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def size_of(folder: Path) -> int:
    """Return what the files of a folder take on a disk."""
    return sum(-(-p.stat().st_size // 4096) * 4096 for p in folder.rglob("*") if p.is_file())


@each("fit")
def test_the_disk_is_full(name, clean, tmp_path, small_disk, note):
    """A disk (tmpfs) with room for 60 % of the result: one clear error, and with more room the same lines go on."""
    whole = clean(name)
    folder = harness.fresh(whole.folder, small_disk / "run")
    size = size_of(folder) + int(0.6 * size_of(whole.folder / whole.job.out)) + 2**16
    subprocess.run(["mount", "-o", f"remount,size={size}", small_disk], check=True)
    code, text = harness.start(whole.job, folder, log=tmp_path).wait()
    error = one_clear_error(code, text, "cannot write to")
    assert "No space left on device" in error
    subprocess.run(["mount", "-o", "remount,size=1G", small_disk], check=True)
    note(f"same bits, {goes_on(whole, folder)} kept")


@each("polar-map")
def test_the_target_is_read_only(name, clean, tmp_path, small_disk, note):
    """A read-only target: refused before anything is computed, nothing is left."""
    whole = clean(name)
    folder = harness.fresh(whole.folder, small_disk / "run")
    if whole.job.files:
        (folder / whole.job.out).mkdir()
    before = sorted(folder.rglob("*"))
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    code, text = harness.start(whole.job, folder, log=tmp_path).wait()
    one_clear_error(code, text, "Read-only file system")
    assert sorted(folder.rglob("*")) == before
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    goes_on(whole, folder)
    note("refused")


@each("simulate")
def test_the_store_is_deleted(name, clean, tmp_path, note):
    """The store is deleted in mid-run: one clear error, and the same lines start over."""
    whole = clean(name)
    folder = harness.fresh(whole.folder, tmp_path / "run")
    running = harness.start(whole.job, folder)
    harness.wait_for_blocks(running, folder, 2)
    assert running.process.is_alive(), running.log.read_text()
    # At one stroke, as a file manager does it.
    (folder / whole.job.out).rename(tmp_path / "gone")
    shutil.rmtree(tmp_path / "gone", ignore_errors=True)
    begun = time.monotonic()
    code, text = running.wait()
    seconds = time.monotonic() - begun
    one_clear_error(code, text, "deleted")
    goes_on(whole, folder)
    note(f"said so in {seconds:.1f} s")


@each("traces")
def test_two_runs_on_one_store(name, clean, tmp_path, note):
    """A second run on the same store: refused at once, and the first goes on."""
    whole = clean(name)
    folder = harness.fresh(whole.folder, tmp_path / "run")
    first = harness.start(whole.job, folder)
    harness.wait_for_blocks(first, folder, 1)
    os.kill(first.process.pid, signal.SIGSTOP)  # so that it does not end before the second begins
    try:
        code, text = harness.start(whole.job, folder).wait()
    finally:
        os.kill(first.process.pid, signal.SIGCONT)
    one_clear_error(code, text, "another run is writing to")
    code, text = first.wait()
    assert code == 0, text
    harness.same(whole.job, folder, whole.results)
    note("refused; the first as without it")
