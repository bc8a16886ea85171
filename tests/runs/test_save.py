"""What `save` writes, what it refuses, and what it does not compute."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from scanfold import _apply, runs
from scanfold.conventions import InputError, InputTypeError, RunError
from scanfold.runs import ledger as ledgers
from scanfold.runs import plan
from scanfold.testing import CountingArray, raise_if_computes

from . import toys


def test_the_store_holds_the_values_coordinates_and_attributes(tmp_path):
    ds = toys.maps(toys.scan())
    saved = runs.save(ds, tmp_path / "a.zarr", progress=False)
    toys.same(saved, ds)
    assert saved["mean"].attrs == {"units": "count"}
    assert saved.attrs["provenance"] == ds.attrs["provenance"]
    assert saved.attrs["scanfold_format"] == 1
    assert set(saved.coords) == set(ds.coords)
    assert saved["mean"].chunks is not None


def test_a_dataarray_and_eager_data_are_saved_too(tmp_path):
    array = toys.scan().rename(None)
    toys.same(runs.save(array, tmp_path / "a.zarr", progress=False), array.to_dataset(name="data"))
    eager = toys.maps(toys.scan()).compute()
    toys.same(runs.save(eager, tmp_path / "b.zarr", progress=False), eager)


def test_lazy_coordinates_stay_coordinates(tmp_path):
    ds = toys.maps(toys.scan()).assign_coords(position_y=(("y", "x"), da.ones((12, 10), chunks=(2, 5))))
    saved = runs.save(ds, tmp_path / "a.zarr", progress=False)
    assert "position_y" in saved.coords
    toys.same(saved, ds)


def test_coordinates_that_chunk_made_lazy_are_saved(tmp_path):
    ds = toys.maps(toys.scan().compute().chunk(y=2))
    assert ds["row"].chunks is not None
    toys.same(runs.save(ds, tmp_path / "a.zarr", progress=False), ds)


def test_variables_without_scan_dimensions_fold_the_scan(tmp_path):
    scan = toys.scan()
    ds = toys.maps(scan)
    ds["mean_spectrum"] = scan.mean(("y", "x"))
    toys.same(runs.save(ds, tmp_path / "a.zarr", progress=False), ds)


def test_the_kernel_runs_once_per_position_for_all_variables(tmp_path, calls):
    ds = toys.maps(toys.scan(), toys.Kernel(calls))
    runs.save(ds, tmp_path / "a.zarr", progress=False)
    whole = [int(p.name.split("-")[0]) for p in calls.iterdir() if p.name.split("-")[1] == "10"]
    # 12 blocks of ten positions; the trial times and weighs the middle one as a whole too: it has fewer than 50.
    assert sorted(set(whole)) == sorted({int(v) for v in toys.scan()[::2, ::5, 0].values.ravel()})
    assert len(whole) == 12 + 2


def test_building_and_planning_read_one_block_and_the_run_each_block_once(tmp_path):
    source = CountingArray(toys.scan().values)
    with raise_if_computes():
        ds = toys.maps(source.lazy(("y", "x", "energy"), y=2, x=5))
    assert source.reads == 0
    runs.save(ds, tmp_path / "a.zarr", progress=False)
    assert source.reads == 12 + 1
    runs.save(ds, tmp_path / "a.zarr", progress=False)
    assert source.reads == 12 + 1


def test_slices_are_fused_into_the_reader(tmp_path):
    source = CountingArray(toys.scan(points=200).values)
    data = source.lazy(("y", "x", "energy"), y=2, x=5).isel(energy=slice(0, 20))
    runs.save(toys.maps(data), tmp_path / "a.zarr", progress=False)
    assert source.elements == (12 + 1) * 10 * 20


def test_a_prologue_is_computed_once_and_kept(tmp_path):
    source = CountingArray(toys.scan().values)
    data = source.lazy(("y", "x", "energy"), y=2, x=5)
    ran = tmp_path / "prologue"

    def mean(sample):
        with ran.open("a") as file:
            file.write("x")
        return sample.mean((0, 1))

    def build():
        start = _apply.prologue(mean, data.data[::4, ::5], shape=(20,), token="mean")
        shift = xr.DataArray(start, dims="energy")
        return _apply.apply_kernel(
            lambda b, s: (b - s).sum(-1)[:, None],
            data,
            shift,
            core_dims=[["energy"], ["energy"]],
            output={"value": 1},
            token="shifted",
        ).to_dataset(name="shifted")

    saved = runs.save(build(), tmp_path / "a.zarr", progress=False)
    assert ran.read_text() == "x"
    values = toys.scan().values
    np.testing.assert_allclose(saved["shifted"][..., 0], (values - values[::4, ::5].mean((0, 1))).sum(-1))
    # An unfinished store takes the kept value.
    ledger = ledgers.Ledger(tmp_path / "a.zarr")
    next(ledger.blocks.glob("*.json")).unlink()
    _unfinish(tmp_path / "a.zarr")
    runs.save(build(), tmp_path / "a.zarr", progress=False)
    assert ran.read_text() == "x"


@settings(max_examples=15, deadline=None)
@given(y=st.lists(st.integers(1, 5), min_size=1, max_size=4), x=st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_any_chunks_give_the_same_values(tmp_path_factory, y, x):
    data = toys.scan(sum(y), sum(x)).compute()
    ds = toys.maps(data.chunk(y=tuple(y), x=tuple(x)))
    store = tmp_path_factory.mktemp("runs") / "a.zarr"
    toys.same(runs.save(ds, store, progress=False), toys.maps(data))


@pytest.mark.parametrize("sizes", [(8, 8, 8), (8, 8, 3), (3, 8, 8, 1), (7, 5, 9), (8, 8, 4, 8, 8, 4)])
def test_blocks_lie_on_whole_zarr_chunks_and_cover_every_position_once(sizes):
    ds = toys.maps(toys.scan(sum(sizes), 6, y=sizes, x=6))
    scan = plan.Scan(ds, plan.cells(ds), "store", "run")
    (group,) = scan.groups
    assert all(b % c == 0 for b, c in zip(group.block, group.chunks, strict=True))
    seen = np.zeros((sum(sizes), 6), int)
    for name, positions in scan.names():
        region = scan.block(name).targets[0].region
        assert region[0].start % group.chunks[0] == 0
        assert seen[region].size == positions
        seen[region] += 1
    assert (seen == 1).all()


def test_regular_edges_among_irregular_chunks_are_found():
    ds = toys.maps(toys.scan(40, 6, y=(8, 8, 4, 8, 8, 4), x=6))
    assert plan.cells(ds)[0].block == (20, 6)


def test_slow_chunks_are_split_and_quick_ones_merged(tmp_path):
    slow = runs.save(toys.maps(toys.scan(y=12, x=10), toys.Kernel(delay=0.005)), tmp_path / "a.zarr", progress=False)
    assert slow["mean"].data.npartitions > 1
    quick = runs.save(toys.maps(toys.scan(y=1, x=1)), tmp_path / "b.zarr", progress=False)
    assert quick["mean"].data.npartitions < 120
    toys.same(slow, toys.maps(toys.scan()))
    toys.same(quick, toys.maps(toys.scan()))


def test_a_chunk_is_not_split_where_something_mixes_its_positions(tmp_path):
    ds = toys.maps(toys.scan(y=12, x=10), toys.Kernel(delay=0.005))
    ds["relative"] = ds["mean"] - ds["mean"].mean()
    ds["smooth"] = ds["mean"].copy(data=ds["mean"].data.map_blocks(np.cumsum, axis=0, dtype=float))
    saved = runs.save(ds, tmp_path / "a.zarr", progress=False)
    toys.same(saved, ds)


def test_dimensions_in_another_order_are_saved_right(tmp_path):
    ds = toys.maps(toys.scan(y=12, x=10), toys.Kernel(delay=0.003))
    ds["turned"] = ds["mean"].transpose("x", "y")
    toys.same(runs.save(ds, tmp_path / "a.zarr", progress=False), ds)


def test_chunks_are_checksummed_and_zeros_are_written(tmp_path):
    ds = toys.maps(toys.scan())
    ds["zero"] = xr.zeros_like(ds["status"])
    runs.save(ds, tmp_path / "a.zarr", progress=False)
    array = zarr.open_array(tmp_path / "a.zarr" / "zero")
    assert array.nchunks_initialized == array.nchunks
    chunk = next(p for p in (tmp_path / "a.zarr" / "mean" / "c").rglob("*") if p.is_file())
    damaged = bytearray(chunk.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    chunk.write_bytes(damaged)
    with pytest.raises(Exception, match=r"(?i)checksum|zstd|decompress"):
        runs.open_store(tmp_path / "a.zarr").load()


def test_other_work_is_refused_naming_what_differs(tmp_path):
    store = tmp_path / "a.zarr"
    runs.save(toys.maps(toys.scan()), store, progress=False)
    before = toys.files(store)
    with pytest.raises(InputError, match=r"options\.option: 1 in the store, 2 now"):
        runs.save(toys.maps(toys.scan(), option=2), store, progress=False)
    with pytest.raises(InputError, match=r"variables\.mean\.shape") as caught:
        runs.save(toys.maps(toys.scan(10)), store, progress=False)
    assert "token" not in str(caught.value)
    with pytest.raises(InputError, match=r"inputs\.scan: made of other data"):
        runs.save(toys.maps(toys.scan() + 1), store, progress=False)
    assert toys.files(store) == before


def test_starting_over_replaces_our_store(tmp_path):
    store = tmp_path / "a.zarr"
    runs.save(toys.maps(toys.scan()), store, progress=False)
    other = toys.maps(toys.scan() + 1, option=2)
    toys.same(runs.save(other, store, resume=False, progress=False), other)


@pytest.mark.parametrize("resume", [True, False])
def test_what_is_not_ours_is_left_alone(tmp_path, resume):
    ds = toys.maps(toys.scan())
    folder, file, foreign = tmp_path / "folder", tmp_path / "file", tmp_path / "foreign.zarr"
    folder.mkdir()
    (folder / "thesis.txt").write_text("all of it")
    file.write_text("data")
    zarr.open_group(str(foreign), mode="w")
    for path in (folder, file, foreign):
        with pytest.raises(InputError, match="not written by scanfold"):
            runs.save(ds, path, resume=resume, progress=False)
    assert [p.name for p in folder.iterdir()] == ["thesis.txt"]
    assert file.read_text() == "data"
    assert [p.name for p in foreign.iterdir()] == ["zarr.json"]


def test_bad_arguments_are_refused_before_computing(tmp_path):
    ds = toys.maps(toys.scan())
    with raise_if_computes():
        with pytest.raises(InputTypeError, match="found list"):
            runs.save([1, 2], tmp_path / "a.zarr")  # type: ignore[arg-type]
        with pytest.raises(InputTypeError, match="found int"):
            runs.save(ds, 3)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=r"cannot open 'nowhere://bucket/a.zarr'"):
            runs.save(ds, "nowhere://bucket/a.zarr")
        words = xr.Dataset({"words": ("y", da.from_array(np.array(["a", "b"]), chunks=1))})
        with pytest.raises(InputError, match=r"ds\['words'\]\.load\(\)"):
            runs.save(words, tmp_path / "a.zarr")
        with pytest.raises(InputError, match="cannot write"):
            runs.save(ds, "/proc/no/a.zarr")
    assert not (tmp_path / "a.zarr").exists()


def test_a_block_that_does_not_fit_in_memory_is_refused_with_the_chunks_to_use(tmp_path):
    huge = xr.DataArray(da.zeros((4, 10**13), chunks=(2, 10**13)), dims=("y", "x")).to_dataset(name="huge")
    with pytest.raises(InputError, match=r"scan\.chunk\(y=\d+, x=\d+\)"):
        runs.save(huge, tmp_path / "a.zarr", progress=False)


def test_what_a_block_reads_counts_as_its_memory(tmp_path):
    class Endless:
        """An array of 16 TB that nobody may read."""

        shape, dtype, ndim = (4, 10**6, 10**6), np.dtype("f4"), 3

        def __getitem__(self, index):
            raise AssertionError("read")

    data = xr.DataArray(da.from_array(Endless(), (2, 10**6, 10**6), name="endless"), dims=("y", "x", "energy"))
    with pytest.raises(InputError, match=r"needs about \d+ MiB.*scan\.chunk\(y=\d+, x=\d+\)"):
        runs.save(toys.maps(data), tmp_path / "a.zarr", progress=False)


def test_an_unfinished_store_warns(tmp_path):
    store = tmp_path / "a.zarr"
    runs.save(toys.maps(toys.scan()), store, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runs.open_store(store)
    _unfinish(store)
    with pytest.warns(UserWarning, match="not finished"):
        runs.open_store(store)
    with pytest.raises(InputError, match="no store at"):
        runs.open_store(tmp_path / "b.zarr")


def test_a_missing_position_reads_as_unknown_not_as_good(tmp_path):
    store = tmp_path / "a.zarr"
    runs.save(toys.maps(toys.scan()), store, progress=False)
    for path in (store / "status" / "c", store / "mean" / "c"):
        next(p for p in path.rglob("*") if p.is_file()).unlink()
    opened = runs.open_store(store)
    missing = np.isnan(opened["mean"].values)
    assert missing.any()
    assert set(opened["status"].values[missing]) == {-1}


def test_stale_temporary_files_are_swept(tmp_path):
    store = tmp_path / "a.zarr"
    ds = toys.maps(toys.scan())
    runs.save(ds, store, progress=False)
    _unfinish(store)
    (store / "mean" / "c" / "0.partial").write_text("half a chunk")
    runs.save(ds, store, progress=False)
    assert not list(store.rglob("*.partial"))


def test_a_store_killed_while_it_was_made_is_made_again(tmp_path):
    store = tmp_path / "a.zarr"
    (store / ".scanfold").mkdir(parents=True)
    (store / ".scanfold" / "lock").touch()
    toys.same(runs.save(toys.maps(toys.scan()), store, progress=False), toys.maps(toys.scan()))


def test_a_second_writer_is_refused_at_once(tmp_path):
    store = tmp_path / "a.zarr"
    script = (
        "import sys, pathlib, time\n"
        "from scanfold.runs.ledger import Ledger\n"
        "with Ledger(pathlib.Path(sys.argv[1])).locked():\n"
        "    print('held', flush=True); time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", script, str(store)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunError, match="another run is writing"):
            runs.save(toys.maps(toys.scan()), store, progress=False)
    finally:
        holder.kill()
        holder.wait()
    toys.same(runs.save(toys.maps(toys.scan()), store, progress=False), toys.maps(toys.scan()))


def test_the_same_work_has_the_same_identity_in_another_process(tmp_path):
    script = (
        "import json, sys; sys.path.insert(0, sys.argv[1])\n"
        "from runs import toys\n"
        "from scanfold.runs.ledger import identity\n"
        "print(json.dumps(identity(toys.maps(toys.scan()))))\n"
    )
    tests = Path(__file__).parent.parent
    env = {**os.environ, "PYTHONHASHSEED": "7"}
    out = subprocess.run(
        [sys.executable, "-c", script, str(tests)], env=env, check=True, capture_output=True, text=True
    )
    assert json.loads(out.stdout) == ledgers.identity(toys.maps(toys.scan()))


def test_progress_ends_with_a_count_of_each_status(tmp_path, capsys):
    ds = toys.maps(toys.scan())
    runs.save(ds, tmp_path / "a.zarr")
    counts = {v: int((ds["status"] == v).sum()) for v in (0, 1)}
    err = capsys.readouterr().err
    assert "120 positions in" in err
    assert f"{counts[0]} converged, {counts[1]} poor_fit" in err


def test_a_long_run_says_beforehand_what_it_takes(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(runs.store, "LONG", 0.0)
    runs.save(toys.maps(toys.scan(y=12, x=10), toys.Kernel(delay=0.005)), tmp_path / "a.zarr")
    assert re.search(r"save: about \d+ s on \d+ threads: \d+ blocks of y \d+ × x 10, 0\.\d s", capsys.readouterr().err)


def _unfinish(store: Path) -> None:
    root = json.loads((store / "zarr.json").read_text())
    root["attributes"]["scanfold_complete"] = False
    (store / "zarr.json").write_text(json.dumps(root))


def test_workers_with_no_room_beside_their_libraries_are_refused(tmp_path: Path):
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, memory_limit="150MiB",
            dashboard_address="127.0.0.1:0", worker_dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster),
        pytest.raises(InputError, match=r"150 MiB.*640 MiB"),
    ):  # fmt: skip
        runs.save(xr.DataArray(np.ones((4, 4)), dims=("y", "x"), name="a").chunk(y=2), tmp_path / "a.zarr")
    assert not list(tmp_path.glob("a.zarr/a/c/*"))
