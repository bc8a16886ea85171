"""Sources that are damaged, cut off, or not those of the run before."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import h5py
import pytest

from . import harness
from .jobs import Clean, each
from .test_storage import goes_on, one_clear_error

pytestmark = pytest.mark.matrix


def flip(path: Path, at: int) -> None:
    """Change one bit of a file; its time stays, as on a failing disk."""
    status = path.stat()
    with path.open("r+b") as stream:
        stream.seek(at)
        byte = stream.read(1)[0]
        stream.seek(at)
        stream.write(bytes([byte ^ 16]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def flip_chunk(source: Path) -> str:
    """Change one bit of a chunk in the middle, and return what tells which source it was."""
    if source.suffix == ".h5":
        with h5py.File(source) as file:
            node = file["data"]
            chunk = node.id.get_chunk_info(node.id.get_num_chunks() // 2)
        flip(source, chunk.byte_offset + chunk.size // 2)
    elif source.is_dir():
        # not the ledger of a store of ours: its entries are no data
        files = (p for p in source.rglob("*") if p.is_file() and ".scanfold" not in p.parts[len(source.parts) :])
        chunks = sorted(p for p in files if p.name != "zarr.json")
        victim = chunks[len(chunks) // 2]
        flip(victim, victim.stat().st_size // 2)
    else:
        lines = source.read_text().splitlines()
        lines[40] = lines[40].replace(",", ",x", 1)
        source.write_text("\n".join(lines))
    return source.name


def damaged_run(folder: Path, whole: Clean, note: Any) -> None:
    """Run on a source with a damaged chunk: it must be named; with the good one the same lines finish."""
    source = whole.job.source(folder)
    kept = folder.parent / "kept"
    (shutil.copytree if source.is_dir() else shutil.copy2)(source, kept)
    named = flip_chunk(source)
    code, text = harness.start(whole.job, folder).wait()
    error = harness.error_in(text)
    assert code == 1, text
    assert named in error, text
    assert "Error" in error.split(":")[0]
    finished = len(harness.entries(folder))
    if source.is_dir():
        shutil.rmtree(source)
    kept.rename(source)
    goes_on(whole, folder)
    note(f"named; {finished} of {len(harness.entries(folder))} finished without it")


@each("fit")
def test_a_chunk_of_hdf5_is_damaged(name, clean, tmp_path, note):
    """A chunk of the HDF5 source is damaged (one bit): named, the rest is done, then mended and finished."""
    whole = clean(name)
    folder = harness.fresh(whole.folder, tmp_path / "run")
    damaged_run(folder, whole, note)


@each("gather")
def test_a_chunk_of_zarr_is_damaged(name, clean, tmp_path, note):
    """A chunk of the zarr source is damaged (one bit): as before."""
    whole = clean(name)
    if whole.job.files:
        pytest.skip("reads CSV")
    folder = tmp_path / "run"
    folder.mkdir()
    for other in whole.folder.glob("*.npy"):
        shutil.copy2(other, folder)
    whole.job.make(folder, "zarr")
    damaged_run(folder, whole, note)


@each("polar-map")
def test_the_source_is_cut_off(name, clean, tmp_path, note):
    """The source is truncated: one error that names it."""
    whole = clean(name)
    folder = harness.fresh(whole.folder, tmp_path / "run")
    source = whole.job.source(folder)
    with source.open("r+b") as stream:
        stream.truncate(source.stat().st_size * 2 // 3)
    code, text = harness.start(whole.job, folder).wait()
    assert code == 1, text
    assert source.name in harness.error_in(text), text
    note("named")


@each("bragg")
def test_the_source_is_replaced(name, clean, tmp_path, note):
    """The source is replaced between two runs: resume refuses, and says what differs (traces: does that file again)."""
    whole = clean(name)
    folder = harness.fresh(whole.folder, tmp_path / "run")
    running = harness.start(whole.job, folder)
    harness.wait_for_blocks(running, folder, 2)
    if running.process.is_alive():
        running.kill()
    kept = harness.entries(folder)
    assert kept
    source = whole.job.source(folder)
    content = source.read_bytes()
    source.write_bytes(content)  # the same bytes, and another time
    code, text = harness.start(whole.job, folder).wait()
    if whole.job.files:
        assert code == 0, text
        again = harness.entries(folder)
        changed = {path for path in kept if kept[path] != again[path]}
        assert changed <= {f"out/.scanfold/blocks/{source.stem}_fitted_maturation.csv.json"}
        harness.same(whole.job, folder, whole.results)
        note("does that file again, no other")
        return
    error = one_clear_error(code, text, "holds other work")
    assert "mtime_ns: " in error or "a file that was written since" in error
    assert kept == harness.entries(folder)
    note("refused")


@each()
def test_all_sources_can_be_verified(name, clean, note):
    """`open_scan(verify=True)` on the source, and on what was saved: a flipped bit is found."""
    import scanfold as sf

    whole = clean(name)
    if whole.job.files:
        pytest.skip("reads CSV, which has no checksums")
    sf.open_scan(whole.job.source(whole.folder), verify=True)
    out = whole.folder / whole.job.out
    stores = [out] if out.suffix == ".zarr" else [out / ".scanfold/pass_b.zarr"]
    for store in stores:
        copy = whole.folder.parent / f"flipped-{name}.zarr"
        shutil.copytree(store, copy)
        sf.open_scan(copy, verify=True)
        flip_chunk(copy)
        with pytest.raises(sf.ScanError, match="is not what was written"):
            sf.open_scan(copy, verify=True)
    note("found")
