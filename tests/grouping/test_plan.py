"""Plans: exactly the groups that were asked for, of the right members, whatever way they were searched."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from scanfold import grouping
from scanfold.conventions import InputError, InputTypeError
from scanfold.grouping import _neighbour_kernels as kernels


def layout(kind, count, seed=0):
    rng = np.random.default_rng(seed)
    if kind == "raster":
        return np.stack(np.divmod(np.arange(count), max(1, int(np.sqrt(count)))), axis=1).astype(float)
    if kind == "duplicates":
        return rng.integers(0, max(2, int(np.sqrt(count) / 2)), (count, 2)).astype(float)
    if kind == "line":
        return np.stack([np.zeros(count), rng.uniform(0, 100, count)], axis=1)
    if kind == "clusters":
        return np.exp(rng.normal(0, 3, (count, 2)))
    return rng.uniform(0, 100, (count, 2))


KINDS = ("random", "raster", "duplicates", "line", "clusters")


def brute(points, seeds, k):
    """The k nearest others by distance, then index, from all distances."""
    apart = np.sqrt(((points[seeds][:, None] - points[None]) ** 2).sum(-1))
    apart[np.arange(len(seeds)), seeds] = np.inf
    order = np.lexsort((np.broadcast_to(np.arange(len(points)), apart.shape), apart), axis=1)[:, :k]
    return order, np.take_along_axis(apart, order, 1)


def search(points, seeds, k, **options):
    """Return the neighbours of all seeds; each comes once."""
    found, distances, times = np.full((len(seeds), k), -9), np.empty((len(seeds), k)), np.zeros(len(seeds), int)

    def done(rows, near, apart):
        found[rows], distances[rows] = near, apart
        times[rows] += 1

    kernels.neighbours(points, seeds, k, done, **options)
    assert (times == 1).all()
    return found, distances


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("piece", [None, 300, 37])
@pytest.mark.parametrize("every", [1, 90])
def test_neighbours_are_those_of_brute_force(kind, piece, every):
    points = layout(kind, 2000)
    seeds = np.random.default_rng(1).permutation(2000)[::every]
    expected, apart = brute(points, seeds, 7)
    found, distances = search(points, seeds, 7, piece=piece)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(distances, apart, rtol=1e-14)


def test_a_thousand_points_at_one_place():
    points = np.r_[np.zeros((1000, 2)), [[1.0, 0.0]]]
    found, distances = search(points, np.array([5, 1000]), 4)
    np.testing.assert_array_equal(found, [[0, 1, 2, 3], [0, 1, 2, 3]])
    np.testing.assert_array_equal(distances, [[0] * 4, [1] * 4])


@settings(max_examples=60)
@given(
    kind=st.sampled_from(KINDS),
    count=st.integers(6, 300),
    share=st.floats(0.01, 1),
    size=st.integers(1, 5),
    spare=st.integers(0, 4),
    seed=st.integers(0, 2**31),
    include_seed=st.booleans(),
    sampling=st.sampled_from(["random", "sequential", "stratified", "poisson_disk", "local"]),
    policy=st.sampled_from(["random", "nearest", "min_dist"]),
)
def test_properties_of_every_plan(kind, count, share, size, spare, seed, include_seed, sampling, policy):
    points = layout(kind, count, seed % 100)
    nsamples, k = max(1, int(share * count)), min(size + spare, count - 1)
    plan = grouping.plan_groups(
        points, nsamples=nsamples, group_size=size, K=k, seed=seed, include_seed=include_seed, sampling=sampling,
        policy=policy,
    )  # fmt: skip
    members, seeds = plan.nn_indices.values, plan.seed_index.values
    assert members.shape == (nsamples, size)
    assert members.min() >= 0
    assert members.max() < count
    assert all(len(set(row)) == size for row in members.tolist())
    assert len(set(seeds.tolist())) == nsamples
    near = brute(points, seeds, k)[0]
    for row, own, candidates in zip(members, seeds, near, strict=True):
        if size == 1:
            assert row[0] == own
        elif include_seed:
            assert row[0] == own
            assert set(row[1:]) <= set(candidates)
        else:
            assert own not in row
            assert set(row) <= set(candidates)
    apart = np.hypot(*(points[members] - points[seeds][:, None]).transpose(2, 0, 1))
    np.testing.assert_allclose(plan.distance, apart, rtol=1e-6, atol=1e-6)
    assert float(plan.coverage) == len(np.unique(members)) / count


def test_bad_input_is_named_with_its_remedy():
    points = layout("random", 20)
    for message, options in {
        r"groups of 25 from 20 positions": {"nsamples": 1, "gridsize": 5},
        r"K=3 is less than the 4 neighbours.*pass K=7": {"nsamples": 1, "gridsize": 2, "K": 3},
        r"K=20 neighbours, and each of the 20 positions has 19 others; pass K=7": {
            "nsamples": 1, "gridsize": 2, "K": 20},
        r"nsamples=21 groups from 20.*enable_oversampling=True": {"nsamples": 21},
        r"partition has 3 labels for 20": {"nsamples": 1, "partition": [1, 2, 3]},
        r"1 of 2 partitions are too small.*need 5 positions: found 3": {
            "nsamples": 1, "gridsize": 2, "partition": [0] * 17 + [1] * 3},
        r"unknown sampling 'randon'; did you mean 'random'": {"nsamples": 1, "sampling": "randon"},
        r"disjoint groups of 4 need 24 positions, there are 20; at most 5": {
            "nsamples": 6, "gridsize": 2, "disjoint": True},
    }.items():  # fmt: skip
        with pytest.raises(InputError, match=message):
            grouping.plan_groups(points, **options)
    with pytest.raises(InputError, match=r"1 of 20 positions are NaN or infinite \(at 7\)"):
        grouping.plan_groups(np.where(np.arange(20)[:, None] == 7, np.nan, points), nsamples=1)
    with pytest.raises(InputTypeError, match="columns y, x"):
        grouping.plan_groups(np.zeros((5, 3)), nsamples=1)


def test_random_seeds_are_uniform_over_positions():
    points, count, draws = layout("random", 200), np.zeros(200), 400
    for seed in range(draws):
        count[grouping.plan_groups(points, nsamples=20, seed=seed).seed_index.values] += 1
    assert stats.chisquare(count).pvalue > 1e-3


@pytest.mark.parametrize("kind", ["random", "raster"])
def test_pieces_and_threads_change_nothing(kind, monkeypatch):
    points = layout(kind, 4000)
    expected = grouping.plan_groups(points, nsamples=4000, gridsize=2, seed=4)
    for piece, threads in ((200, 1), (900, 5)):
        monkeypatch.setattr(kernels, "ONE_TREE", 100)
        monkeypatch.setattr(kernels, "PIECE", piece)
        monkeypatch.setattr("os.sched_getaffinity", lambda _, n=threads: set(range(n)))
        found = grouping.plan_groups(points, nsamples=4000, gridsize=2, seed=4)
        np.testing.assert_array_equal(found.nn_indices, expected.nn_indices)
        np.testing.assert_array_equal(found.distance, expected.distance)
