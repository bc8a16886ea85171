"""What the floor asks beyond jobs that are killed: bad and hostile input, changed work, any chunks, many blocks."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import lmfit
import numpy as np
import pytest
import xarray as xr
from distributed import WorkerPlugin
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inputs import files, hostile, trials, words
from runs import toys

import scanfold as sf
from scanfold import runs
from scanfold.conventions import InputError
from scanfold.runs import plan
from scanfold.runs.store import compute_to

from . import harness
from .jobs import POINTS, Job, opened, write

pytestmark = [pytest.mark.matrix, pytest.mark.trial]

#: Of damaged files, none of which the tests of inputs try; with as many broken words of each kind 1,000 and more.
SEEDS = range(2000, 2020)


def test_fuzzed_inputs(note):
    """1,000 fuzzed inputs: the data, one error that names them, or damage that a format cannot show."""
    tallies = trials.run([("files", name) for name in files.TRIALS], SEEDS)
    tallies |= trials.draw("words", words.TRIALS, len(SEEDS))
    counts: Counter[str] = sum((t.counts for t in tallies.values()), Counter())
    failures = {n: t.failures for n, t in tallies.items() if t.failures}
    slowest = max(t.slowest for t in tallies.values())
    note(
        f"{counts.total():,}: {counts['refused']} refused, {counts['right']} right, {counts['wrong']} wrong without a "
        f"checksum to show it, {sum(map(len, failures.values()))} failed; slowest {slowest:.1f} s"
    )
    assert counts.total() >= 1000
    assert failures == {}
    assert slowest <= 10


def test_hostile_inputs(note):
    """Hostile files and words: refused, nothing run."""
    tallies = trials.run([("hostile", name) for name in hostile.TRIALS], range(1))
    refused = sum(t.counts["refused"] for t in tallies.values())
    slowest, most = (max(getattr(t, what) for t in tallies.values()) for what in ("slowest", "grown"))
    note(f"{refused} of {len(tallies)} refused, nothing run; slowest {slowest:.2f} s, at most {most:.0f} MiB")
    assert refused == len(tallies) >= 12
    assert slowest < 1
    assert most < 300


def _fits(source: Path, *, dim: str = "energy", start: Any = None, model: Any = None, **options: Any) -> xr.Dataset:
    scan = sf.open_scan(source, dims=("y", "x", dim), chunks={"y": 2})
    data = scan[scan.attrs["primary"]]
    data = data.assign_coords({dim: options.pop("x", POINTS)}).isel(y=slice(options.pop("rows", None)))
    model = model or lmfit.models.GaussianModel() + lmfit.models.ConstantModel()
    return sf.fit(data, model, start or {"c": 30, "sigma": 0.5}, dim=dim, **options)


#: What is changed between two runs, and the key that the refusal must name.
CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "likelihood": ({"likelihood": "poisson"}, "options.likelihood"),
    "weights": ({"weights": "counts"}, "options.weights"),
    "engine": ({"engine": "lmfit"}, "options.engine"),
    "guess": ({"guess": "mean"}, "options.starts"),
    "errors": ({"errors": "raise"}, "options.errors"),
    "covariance": ({"covariance": True}, "covariance"),
    "max_nfev": ({"max_nfev": 77}, "options.max_nfev"),
    "retry": ({"retry": False}, "options.starts"),
    "method": ({"method": "nelder", "engine": "lmfit"}, "options.method"),
    "a start": ({"start": {"c": 31, "sigma": 0.5}}, "31"),
    "a bound": ({"start": {"c": {"value": 30, "min": 0}, "sigma": 0.5}}, "min"),
    "a fixed parameter": ({"start": {"c": {"value": 30, "vary": False}, "sigma": 0.5}}, "vary"),
    "another parameter": ({"start": {"c": 30, "sigma": 0.5, "center": 5}}, "center"),
    "another peak": ({"model": lmfit.models.LorentzianModel() + lmfit.models.ConstantModel()}, "model"),
    "another background": ({"model": lmfit.models.GaussianModel() + lmfit.models.LinearModel(),
                            "start": {"intercept": 30, "sigma": 0.5}}, "model"),
    "the dimension": ({"dim": "wavelength"}, "options.dim"),
    "the coordinate": ({"x": POINTS + 1}, "options.axis.first"),
    "fewer rows": ({"rows": 4}, "shape"),
    "the file written again": ({}, "mtime_ns"),
    "another file": ({}, "path"),
    "the pattern of a start": ({"start": {"c": 30, "sigma": {"value": 0.5, "max": 2.0}}}, "max"),
}  # fmt: skip


def test_changed_work(tmp_path, note):
    """A run on the same store with one thing changed, of 20: refused, and the key is named."""
    source, store = tmp_path / "source.h5", tmp_path / "out.zarr"
    values = np.random.default_rng(1).poisson(30 + 200 * np.exp(-((POINTS - 5) ** 2) / 0.5), (6, 4, POINTS.size))
    write(source, values.astype("uint16"), (2, 4, POINTS.size))
    sf.save(_fits(source), store, progress=False)
    before, unnamed = toys.files(store), []
    for what, (options, key) in CHANGES.items():
        other = source
        if what == "the file written again":
            source.write_bytes(source.read_bytes())
        elif what == "another file":
            other = Path(shutil.copy2(source, tmp_path / "other.h5"))
        with pytest.raises(InputError, match="holds other work") as caught:
            sf.save(_fits(other, **options), store, progress=False)
        if key not in str(caught.value):
            unnamed.append(f"{what}: {caught.value}")
    assert toys.files(store) == before
    note(f"{len(CHANGES)} refused, {len(CHANGES) - len(unnamed)} with the key")
    assert unnamed == []
    assert len(CHANGES) >= 20


LENGTHS = st.lists(st.integers(1, 5), min_size=1, max_size=5)


def test_two_hundred_chunkings(tmp_path_factory, note):
    """200 chunkings of a scan: what is saved is the same to the last bit."""
    tried = set()

    @settings(max_examples=200, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(y=LENGTHS, x=LENGTHS)
    def save_in(y: list[int], x: list[int]) -> None:
        data = toys.scan(sum(y), sum(x)).compute()
        store = tmp_path_factory.mktemp("chunks") / "a.zarr"
        toys.same(runs.save(toys.maps(data.chunk(y=tuple(y), x=tuple(x))), store, progress=False), toys.maps(data))
        shutil.rmtree(store)
        tried.add((tuple(y), tuple(x)))

    save_in()
    note(f"same bits, {len(tried)} of them different")
    assert len(tried) >= 150


def test_many_blocks(tmp_path, note):
    """10⁵ blocks of a kernel that does nothing: when the first is finished, and what the client holds."""
    program = [sys.executable, str(Path(__file__).with_name("many_blocks.py")), str(tmp_path)]
    found = json.loads(subprocess.run(program, check=True, capture_output=True, text=True).stdout)
    note(f"first after {found['first']:.2f} s, client at most {found['peak']:.0f} MiB")
    assert found["first"] < 5
    assert found["peak"] < 500


def test_misaligned_plans(tmp_path, note):
    """Plans in which two blocks would write to one chunk of the store: refused, whoever made them."""
    ds = toys.maps(toys.scan(12, 10))
    (cells,) = plan.cells(ds)
    wrong = [plan.Group(cells.dims, cells.names, *shapes) for shapes in (((3, 10), (2, 10)), ((4, 5), (4, 10)))]
    for group in wrong:
        with pytest.raises(InputError, match="two blocks would write to one chunk"):
            compute_to(ds, tmp_path / "new.zarr", groups=[group], progress=False)
    assert not (tmp_path / "new.zarr").exists()
    # Changed in the record of a run that is resumed.
    with pytest.raises(sf.ScanError):
        sf.save(toys.maps(toys.scan(12, 10), toys.Kernel(raise_at=23)), tmp_path / "a.zarr", progress=False)
    path = tmp_path / "a.zarr/.scanfold/plan.json"
    kept = json.loads(path.read_text())
    kept["plan"][0] |= {"block": [3, 10], "chunks": [2, 10]}
    path.write_text(json.dumps(kept))
    before = toys.files(tmp_path / "a.zarr")
    with pytest.raises(InputError, match="two blocks would write to one chunk"):
        sf.save(ds, tmp_path / "a.zarr", progress=False)
    assert toys.files(tmp_path / "a.zarr") == before
    note("3 refused")


def noted_in(folder: Path) -> None:
    """Tell workers where to note the errors that they make up."""
    os.environ["TROUBLES"] = str(folder)


class Unreliable(WorkerPlugin):
    """Lets 1 % of all reads of the source, writes of chunks, and entries in the ledger end in an I/O error."""

    def setup(self, worker: Any) -> None:
        import zarr.storage

        from scanfold.io.hdf5 import HDF5Array

        rng = np.random.default_rng(os.getpid())
        log = Path(os.environ["TROUBLES"], str(os.getpid()))

        def unreliable(function: Any) -> Any:
            def perhaps(*args: Any, **kwargs: Any) -> Any:
                if rng.random() < 0.01:
                    with log.open("a") as stream:
                        stream.write("x")
                    raise OSError(errno.EIO, "Input/output error, made up")
                return function(*args, **kwargs)

            return perhaps

        HDF5Array.read = unreliable(HDF5Array.read)  # type: ignore[method-assign]
        zarr.storage.LocalStore.set = unreliable(zarr.storage.LocalStore.set)  # type: ignore[method-assign]
        os.replace = unreliable(os.replace)


def _make_rows(folder: Path, form: str) -> None:
    expected = 30 + 200 * np.exp(-((POINTS - np.linspace(4, 6, 40)[:, None, None]) ** 2) / 0.5)
    values = np.random.default_rng(3).poisson(np.broadcast_to(expected, (40, 20, POINTS.size)))
    write(folder / f"source.{form}", values.astype("uint16"), (1, 4, POINTS.size))


def _run_rows(folder: Path) -> Any:
    scan = opened(folder, ("y", "x", "energy")).chunk(y=1, x=4).assign_coords(energy=POINTS)
    model = lmfit.models.GaussianModel() + lmfit.models.ConstantModel()
    fits = sf.fit(scan, model, {"c": 30, "sigma": 0.5}, dim="energy")
    return compute_to(fits, folder / "out.zarr", progress=False, groups=plan.cells(fits))


def test_random_trouble_with_files(tmp_path, note):
    """1 % of what workers do with files ends in an I/O error: the same bytes."""
    job = Job("rows", _make_rows, _run_rows)
    for name in ("clean", "troubled"):
        (tmp_path / name).mkdir()
        job.make(tmp_path / name, "h5")
    code, text = harness.start(job, tmp_path / "clean", workers=2).wait()
    assert code == 0, text
    log = tmp_path / "log"
    log.mkdir()
    setup = partial(noted_in, log)
    code, text = harness.start(job, tmp_path / "troubled", workers=2, plugin=Unreliable, setup=setup).wait()
    troubles = sum(p.stat().st_size for p in log.iterdir())
    assert code == 0, text
    expected, found = (toys.files(tmp_path / name / "out.zarr") for name in ("clean", "troubled"))
    assert found == expected
    note(f"same bytes after {troubles} of them")
    assert troubles >= 20
