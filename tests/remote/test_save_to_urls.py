"""`save` to an object store: what it does in a folder it does there, resumes too, and has one writer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path

import fsspec
import lmfit
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import scanfold as sf
from scanfold import bragg
from scanfold.cli import main
from scanfold.conventions import InputError, RunError
from scanfold.runs import ledger as ledgers
from scanfold.runs import open_store, writers
from scanfold.runs.clients import local_client
from scanfold.testing import peak_scan


def objects(under: str) -> dict[str, bytes]:
    """Every object below a URL, but the ledger's own times."""
    system = fsspec.filesystem("s3", use_listings_cache=False)
    names = [n for n in system.find(under.removeprefix("s3://")) if "/.scanfold/" not in n]
    return {n.partition(".zarr/")[2]: c for n, c in system.cat(names).items()} if names else {}


def finished(url: str) -> dict[str, str]:
    """Block by block when its entry was written."""
    system = fsspec.filesystem("s3", use_listings_cache=False)
    return {n.rpartition("/")[2]: str(i["LastModified"]) for n, i in
            system.find(f"{url.removeprefix('s3://')}/.scanfold/blocks", detail=True).items()
            if n.endswith(".json")}  # fmt: skip


def fits_of_peaks(side: int = 8) -> xr.Dataset:
    data, _ = peak_scan({"y": side, "x": side}, points=40)
    model = lmfit.models.GaussianModel() + lmfit.models.LinearModel()
    return sf.fit(data.chunk(y=2, x=side), model, dim="energy", weights="counts")


def test_a_store_in_a_bucket_is_that_in_a_folder(bucket, tmp_path):
    here = sf.save(fits_of_peaks(), tmp_path / "fits.zarr", progress=False)
    there = sf.save(fits_of_peaks(), f"{bucket}/deep/fits.zarr", progress=False)
    xr.testing.assert_identical(here.compute(), there.compute())
    before = finished(f"{bucket}/deep/fits.zarr")
    assert before
    # all is there: nothing is computed again
    again = sf.save(fits_of_peaks(), f"{bucket}/deep/fits.zarr", progress=False)
    assert finished(f"{bucket}/deep/fits.zarr") == before
    scan = sf.open_scan(f"{bucket}/deep/fits.zarr")
    xr.testing.assert_equal(scan.compute(), again.compute())
    assert scan["center"][3, 4].values == here["center"][3, 4].values
    # other work is refused; resume=False replaces it
    other = fits_of_peaks().isel(x=slice(0, 4))
    with pytest.raises(InputError, match="holds other work"):
        sf.save(other, f"{bucket}/deep/fits.zarr", progress=False)
    replaced = sf.save(other, f"{bucket}/deep/fits.zarr", progress=False, resume=False)
    xr.testing.assert_equal(replaced.compute(), here.isel(x=slice(0, 4)).compute())
    assert not [n for n in objects(f"{bucket}/deep/fits.zarr") if n.startswith("center/c/0/1")]


def test_worker_processes_write_the_same_objects(bucket):
    data, _ = peak_scan({"y": 8, "x": 8}, points=40)
    doubled = 2 * data.chunk(y=2, x=8)
    alone = sf.save(doubled, f"{bucket}/alone.zarr", progress=False)
    with local_client(1):
        together = sf.save(doubled, f"{bucket}/together.zarr", progress=False)
    xr.testing.assert_identical(alone.compute(), together.compute())


SLOW = """
import sys, time, numpy as np, xarray as xr, scanfold as sf
from scanfold._apply import apply_kernel
from scanfold.runs import plan
from scanfold.runs.store import compute_to
from scanfold.runs.ledger import store_path

def slow(block):
    time.sleep(float(sys.argv[2]))
    return 2 * block

data = xr.DataArray(np.arange(96.0).reshape(24, 4), dims=("position", "energy"), name="counts").chunk(position=2)
out = apply_kernel(slow, data, core_dims=[["energy"]], output={"energy": 4}, token="slow")
out = out.rename("doubled").to_dataset()
compute_to(out, store_path(sys.argv[1]), progress=False, groups=plan.cells(out))
"""


def run_slowly(url: str, seconds: float) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", SLOW, url, str(seconds)], stderr=subprocess.PIPE)


def wait_for_blocks(url: str, count: int, process: subprocess.Popen[bytes]) -> None:
    begin = time.monotonic()
    while len(finished(url)) < count:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() - begin < 60
        time.sleep(0.05)


def test_a_killed_run_goes_on_and_a_second_writer_is_refused(bucket):
    url = f"{bucket}/slow.zarr"
    first = run_slowly(url, 0.7)
    wait_for_blocks(url, 2, first)
    with pytest.raises(RunError, match=r"another run is writing to s3://scans/slow.zarr"), leased(url):
        pass
    assert first.poll() is None
    first.send_signal(signal.SIGKILL)
    first.wait()
    kept = finished(url)
    assert 2 <= len(kept) < 12
    with pytest.warns(UserWarning, match="is not finished"):
        assert np.isnan(sf.open_scan(url)["doubled"].values).any()
    # the owner of the lease was a process of this machine, and is dead: no waiting
    assert run_slowly(url, 0.0).wait(60) == 0
    assert kept.items() <= finished(url).items()  # nothing that was finished was written again
    alone = f"{bucket}/alone.zarr"
    assert run_slowly(alone, 0.0).wait(60) == 0
    assert objects(url) == objects(alone)
    assert not fsspec.filesystem("s3", use_listings_cache=False).exists("scans/slow.zarr/.scanfold/lock")


def leased(url: str) -> AbstractContextManager[None]:
    return ledgers.Ledger(ledgers.store_path(url)).locked()


def as_if_elsewhere(monkeypatch) -> None:
    monkeypatch.setattr(writers.socket, "gethostname", lambda: f"host{time.monotonic()}")


def test_a_silent_writer_of_another_machine_is_taken_over(bucket, monkeypatch):
    as_if_elsewhere(monkeypatch)
    monkeypatch.setattr(writers, "BEAT", 0.2)
    monkeypatch.setattr(writers, "SETTLED", 0.1)
    url = f"{bucket}/store.zarr"
    first = leased(url)
    first.__enter__()
    for _ in range(2):
        with pytest.raises(RunError, match=r"its last sign of life was [01] s ago"), leased(url):
            pass
        time.sleep(1.1)  # the beats keep it young
    monkeypatch.setattr(writers, "SILENCE", -1.0)
    monkeypatch.setattr(writers, "BEAT", 1.5)
    time.sleep(0.5)  # so that it does not beat at the very moment in which it is taken over
    with leased(url):
        time.sleep(1.5)
    with pytest.raises(RunError, match=r"another run took s3://scans/store.zarr over"):
        first.__exit__(None, None, None)


def test_of_two_that_take_over_at_once_one_goes_on(bucket, monkeypatch):
    as_if_elsewhere(monkeypatch)
    monkeypatch.setattr(writers, "SILENCE", -1.0)
    url = f"{bucket}/store.zarr"
    system = fsspec.filesystem("s3")
    system.pipe("scans/store.zarr/.scanfold/lock", b"of a machine that is gone")

    def other_is_faster(seconds: float) -> None:
        system.pipe("scans/store.zarr/.scanfold/lock", b"of another")

    monkeypatch.setattr(writers.time, "sleep", other_is_faster)
    with pytest.raises(RunError, match="another run is writing"), leased(url):
        pass
    assert system.cat("scans/store.zarr/.scanfold/lock") == b"of another"


def test_transposed_through_tiles_in_the_bucket(bucket):
    frames = xr.DataArray(np.arange(4 * 6 * 5.0).reshape(4, 6, 5), dims=("energy", "y", "x"), name="counts")
    spectra = sf.transpose_scan(frames.chunk(energy=1), f"{bucket}/spectra.zarr", dim="energy", progress=False)
    xr.testing.assert_equal(spectra["counts"].compute(), frames)
    assert not fsspec.filesystem("s3", use_listings_cache=False).glob("scans/.spectra*")


def test_a_result_of_bragg_edges(bucket):
    pytest.importorskip("NCrystal", reason="cross sections come from NCrystal")
    model = bragg.TransmissionModel(bragg.CrossSection(iron="Fe_sg229_Iron-alpha"), vary_basic=True)
    wavelength = np.linspace(1.5, 4.5, 150)
    expected = model.evaluate({"thickness": 0.5}, wavelength, flight_path=9)
    rows = pd.DataFrame({"wavelength": wavelength, "trans": expected, "err": 0.01})
    data = bragg.Data.from_transmission(rows)
    result = model.fit(data, wlmin=1.6, wlmax=4.4)
    result.save(f"{bucket}/fits.zarr", progress=False)
    loaded = bragg.GroupedFitResult.load(f"{bucket}/fits.zarr")
    np.testing.assert_array_equal(loaded.fits["thickness"].values, result.fits["thickness"].values)
    with pytest.raises(InputError, match="JSON files are written here"):
        result.save(f"{bucket}/fits.json", progress=False)


def test_commands_write_to_urls(bucket, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    simulate = ["simulate", "--n-images", "30", "--size", "80", "--N", "16", "--no-progress"]
    assert main([*simulate, "--out", f"{bucket}/sim.zarr"]) == 0
    group = ["group", f"{bucket}/sim.zarr", "--nsamples", "5", "--gridsize", "2", "--no-progress"]
    assert main([*group, "--out", f"{bucket}/plan.zarr", "--gather", f"{bucket}/groups.zarr"]) == 0
    assert sf.open_scan(f"{bucket}/groups.zarr")["diffraction"].shape == (5, 4, 16, 16)
    data, _ = peak_scan({"y": 3, "x": 3}, points=40)
    sf.save(data.to_dataset(), f"{bucket}/scan.zarr", progress=False)
    fit = ["fit", f"{bucket}/scan.zarr", "--model", "GaussianModel + LinearModel", "--dim", "energy", "--no-progress"]
    assert main([*fit, "--out", f"{bucket}/fits.zarr"]) == 0
    assert main(["report", f"{bucket}/fits.zarr"]) == 0
    assert Path("fits.html").stat().st_size > 10_000
    assert os.listdir() == ["fits.html"]  # no folder called s3:
    assert f"wrote {bucket}/sim.zarr" in capsys.readouterr().out


def test_what_cannot_be_written_is_said(bucket):
    data = xr.DataArray(np.ones((4, 2)), dims=("y", "x"), name="counts")
    with pytest.raises(InputError, match=r"s3://nowhere/a.zarr"):
        sf.save(data, "s3://nowhere/a.zarr", progress=False)
    fsspec.filesystem("s3").pipe("scans/notes.zarr/readme.txt", b"mine")
    with pytest.raises(InputError, match="was not written by scanfold"):
        sf.save(data, f"{bucket}/notes.zarr", progress=False)
    with pytest.raises(InputError, match=r"pass a string: 's3://scans/a.zarr'"):
        sf.save(data, Path("s3://scans/a.zarr"), progress=False)
    with pytest.raises(InputError, match=r"no store at s3://scans/none.zarr"):
        open_store(f"{bucket}/none.zarr")
    assert fsspec.filesystem("s3").cat("scans/notes.zarr/readme.txt") == b"mine"
