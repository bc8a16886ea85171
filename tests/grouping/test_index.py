"""An index on disk gives the groups that positions in memory give, however it was cut."""

import pickle

import cloudpickle
import numpy as np
import pytest
import xarray as xr
from test_plan import KINDS, layout

import scanfold as sf
from scanfold import grouping
from scanfold.conventions import InputError
from scanfold.grouping import index as files
from scanfold.grouping import sorting, streamed
from scanfold.testing import raise_if_computes


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(sorting, "TILE", 500)
    for module in (files, sorting):
        monkeypatch.setattr(module, "LEAF", 32)
        monkeypatch.setattr(module, "CHUNK", 1300)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"sampling": "sequential", "include_seed": True, "policy": "nearest"}])
def test_plans_are_those_of_memory(kind, options, small_tiles, tmp_path):
    points = layout(kind, 5000)
    index = grouping.index_positions(points, tmp_path / "index")
    for nsamples in (7, 5000):
        expected = grouping.plan_groups(points, nsamples=nsamples, gridsize=2, seed=3, **options)
        found = grouping.plan_groups(index, nsamples=nsamples, gridsize=2, seed=3, **options)
        xr.testing.assert_identical(found.drop_attrs(), expected.drop_attrs())


@pytest.mark.parametrize("block", [333, 2000])
@pytest.mark.parametrize("sampling", ["random", "sequential"])
def test_all_groups_streamed_to_a_store(block, sampling, small_tiles, tmp_path, monkeypatch):
    points = layout("random", 5000)
    index = grouping.index_positions(points, tmp_path / "index")
    expected = grouping.plan_groups(points, nsamples=5000, gridsize=2, seed=3, sampling=sampling)
    monkeypatch.setattr(streamed, "MOST", 100)
    monkeypatch.setattr(streamed, "BLOCK", block)
    with raise_if_computes():
        plan = grouping.plan_groups(index, nsamples=5000, gridsize=2, seed=3, sampling=sampling)
    saved = sf.save(plan, tmp_path / "plan.zarr", progress=False).compute()
    order = np.argsort(saved.number.values)
    np.testing.assert_array_equal(saved.number[order], np.arange(5000))
    for name in ("nn_indices", "seed_index", "distance"):
        np.testing.assert_array_equal(saved[name][order], expected[name])
    # what the error below says of fewer groups
    fewer = grouping.plan_groups(points, nsamples=101, gridsize=2, seed=3, sampling=sampling)
    some = saved.isel(group=order).where(saved.number[order] < 101, drop=True)
    np.testing.assert_array_equal(some.nn_indices, fewer.nn_indices)
    with pytest.raises(
        InputError, match=r"up to 100 groups at once, or one for each position.*nsamples=5000, of .* number < 101"
    ):
        grouping.plan_groups(index, nsamples=101)
    with pytest.raises(InputError, match="disjoint may pass over seeds"):
        grouping.plan_groups(index, nsamples=5000, disjoint=True)
    with pytest.raises(InputError, match="whatever sampling='stratified' says"):
        grouping.plan_groups(index, nsamples=5000, sampling="stratified")


def test_few_seeds_read_only_their_tiles(small_tiles, tmp_path, monkeypatch):
    index = grouping.index_positions(layout("random", 20_000), tmp_path / "index")
    read = []
    monkeypatch.setattr(
        files.PositionIndex, "_read", lambda *a, f=files.PositionIndex._read: (read.append(a[4] - a[3]), f(*a))[1]
    )
    grouping.plan_groups(index, nsamples=5, gridsize=2)
    assert 0 < sum(read) / 2 < 3000


def test_beside_its_store_and_made_again_when_that_changes(tmp_path):
    points = layout("random", 300)
    scan = xr.Dataset({n: ("position", points[:, i]) for i, n in enumerate(("position_y", "position_x"))})
    sf.save(scan.chunk(position=100), tmp_path / "scan.zarr", progress=False)
    index = grouping.index_positions(tmp_path / "scan.zarr")
    assert index.path == str(tmp_path / "scan.zarr.positions")
    assert grouping.index_positions(tmp_path / "scan.zarr") == grouping.open_index(index.path) == index
    assert not list(tmp_path.glob("*.partial"))
    sf.save(scan.chunk(position=100) + 1, tmp_path / "scan.zarr", progress=False, resume=False)
    with pytest.raises(InputError, match="changed after its index"):
        grouping.open_index(index.path)


def test_bad_positions_and_folders(tmp_path):
    points = layout("random", 50)
    points[3] = np.inf
    with pytest.raises(InputError, match="1 of 50 positions are NaN or infinite"):
        grouping.index_positions(points, tmp_path / "index")
    assert not list(tmp_path.iterdir())
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="is no index of positions"):
        grouping.index_positions(layout("random", 50), tmp_path / "other")
    with pytest.raises(InputError, match="pass the folder"):
        grouping.index_positions(layout("random", 50))


def test_graphs_carry_paths_not_positions(small_tiles, tmp_path, monkeypatch):
    index = grouping.index_positions(layout("random", 30_000), tmp_path / "index")
    grouping.plan_groups(index, nsamples=50, gridsize=2)  # reads the tables of the index
    assert len(pickle.dumps(index)) < 2000
    monkeypatch.setattr(streamed, "MOST", 100)
    monkeypatch.setattr(streamed, "BLOCK", 3000)
    plan = grouping.plan_groups(index, nsamples=30_000, gridsize=2)
    sent = cloudpickle.dumps(plan)
    assert len(sent) < 50_000
    xr.testing.assert_identical(cloudpickle.loads(sent).compute(), plan.compute())


@pytest.mark.parametrize("sampling", ["stratified", "poisson_disk", "local"])
@pytest.mark.parametrize("options", [{}, {"max_radius": 4.0}, {"n_subsample": 800}])
def test_every_way_to_choose_seeds_gives_those_of_memory(sampling, options, small_tiles, tmp_path):
    points = layout("random", 5000)
    index = grouping.index_positions(points, tmp_path / "index")
    expected = grouping.plan_groups(points, nsamples=200, gridsize=2, sampling=sampling, **options)
    found = grouping.plan_groups(index, nsamples=200, gridsize=2, sampling=sampling, **options)
    xr.testing.assert_identical(found.drop_attrs(), expected.drop_attrs())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", ["memory", "lazy"])
def test_partitions_of_an_index_are_never_mixed(kind, kept, small_tiles, tmp_path, monkeypatch):
    points, labels = layout(kind, 5000), np.random.default_rng(1).choice([7, 2], 5000, p=[0.9, 0.1])
    labels[:6] = 9  # each of these has fewer others than K
    held = {n: ("position", points[:, i]) for i, n in enumerate(("position_y", "position_x"))}
    scan = xr.Dataset(held | {"object_index": ("position", labels)})
    source = scan if kept == "memory" else scan.chunk(position=700)
    index = grouping.index_positions(source, tmp_path / "index", partition="object_index")
    assert index.sizes.sum() == 5000
    for nsamples, options in (
        (5000, {}),
        (300, {"policy": "nearest"}),
        (300, {"n_subsample": 4000, "max_radius": 9.0}),
    ):
        try:
            expected = grouping.plan_groups(scan, nsamples=nsamples, gridsize=2, partition="object_index", **options)
        except InputError as error:
            with pytest.raises(InputError, match=str(error)[:40]):
                grouping.plan_groups(index, nsamples=nsamples, gridsize=2, **options)
            continue
        found = grouping.plan_groups(index, nsamples=nsamples, gridsize=2, partition="object_index", **options)
        xr.testing.assert_identical(found.drop_attrs(), expected.drop_attrs())
    monkeypatch.setattr(streamed, "MOST", 100)
    streamed_plan = grouping.plan_groups(index, nsamples=5000, gridsize=2).compute()
    assert (labels[streamed_plan.nn_indices.values] == labels[streamed_plan.seed_index.values][:, None]).all()
    with pytest.raises(InputError, match="partitions by 'object_index'; make one with those"):
        grouping.plan_groups(index, nsamples=10, partition="scan_index")
