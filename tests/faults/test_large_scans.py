"""Scans five times larger than the memory of the workers: none is killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from scanfold import _apply, runs
from scanfold.runs import plan

pytestmark = [pytest.mark.matrix, pytest.mark.trial]


def peak() -> int:
    """Return the most memory that this process ever held, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def imported() -> int:
    """Return what this process held before it had any data."""
    from scanfold.runs import worker  # noqa: F401

    return peak()


def spilled(dask_worker) -> int:
    """Return how many bytes of results a worker has put on the disk."""
    return sum(getattr(dask_worker.data, "spilled_total", (0, 0)))


@contextmanager
def small_workers(note: Callable[[str], None], projected: Sequence[float] = ()) -> Iterator[None]:
    """Give two workers of 400 MiB, and assert that they are the same at the end, and have spilled nothing.

    Where bytes of a block are projected, they must have held no more than 1.2 times that beside what they began with.
    """
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit="400MiB", host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        born = set(client.nthreads())
        before = client.run(imported)
        yield
        assert set(client.nthreads()) == born
        assert set(client.run(spilled).values()) == {0}
        after = client.run(peak)
        held = max(after[a] - before[a] for a in after) / 2**10
        text = f"no worker lost, nothing spilled, at most {max(after.values()) / 2**10:.0f} MiB each"
        if projected:
            text += f", {held:.0f} of them data, {max(projected) / 2**20:.0f} projected"
        note(text)
        assert not projected or held <= 1.2 * max(projected) / 2**20


def scan(chunks: tuple[tuple[int, ...], ...]) -> xr.DataArray:
    """Return 4 GiB, made chunk by chunk: each value is its first index plus its last."""

    def chunk(block_info=None):
        spans = block_info[None]["array-location"]
        shape = tuple(b - a for a, b in spans)
        first, last = (np.arange(*spans[i], dtype="f4") for i in (0, 2))
        return np.broadcast_to(first[:, None, None], shape) + last

    data = da.map_blocks(chunk, chunks=chunks, dtype="f4", meta=np.empty((0, 0, 0), "f4"))
    return xr.DataArray(data, dims=("energy", "y", "x"), name="counts")


def test_frames_become_spectra(tmp_path, note):
    """A scan of 5 times the memory of two workers (4 GiB, 2 × 400 MiB): frames to spectra."""
    frames = scan(((4,) * 256, (1024,), (1024,)))
    with small_workers(note):
        saved = runs.transpose_scan(frames, tmp_path / "a.zarr", dim="energy", progress=False)["counts"]
    np.testing.assert_array_equal(saved[:, 700, 300], np.arange(1024, dtype="f4") + 300)


def test_maps_are_made_of_it(tmp_path, note, monkeypatch):
    """The same scan: maps, within 1.2 times the projected memory."""
    projected: list[float] = []
    predict = plan.predict

    def noted(scan, number, fitted, cost, threads):
        projected.append(cost["peak"] + plan._bytes(scan.ds, fitted))
        return predict(scan, number, fitted, cost, threads)

    monkeypatch.setattr(plan, "predict", noted)
    spectra = scan(((1024,), (64,) * 16, (128,) * 8)).transpose("y", "x", "energy")
    top = _apply.apply_kernel(
        lambda block: block.max(-1)[:, None], spectra, core_dims=[["energy"]], output={"value": 1}, token="max"
    )
    with small_workers(note, projected):
        saved = runs.save(top.isel(value=0).to_dataset(name="top"), tmp_path / "a.zarr", progress=False)
    np.testing.assert_array_equal(saved["top"][5], np.arange(1024.0) + 1023)
