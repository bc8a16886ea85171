"""What limits and options promise: prefixes, partitions, disjoint groups, radii, oversampling, policies."""

import numpy as np
import pytest
from test_plan import KINDS, brute, layout

from scanfold import grouping
from scanfold.conventions import InputError
from scanfold.grouping import _curve_kernels as curve
from scanfold.grouping import _random_kernels as random
from scanfold.grouping import seeds
from scanfold.grouping.space import InMemory


@pytest.mark.parametrize("sampling", ["random", "sequential"])
@pytest.mark.parametrize("options", [{}, {"max_radius": 6.0}, {"disjoint": True}, {"include_seed": True}])
def test_a_longer_plan_starts_with_the_shorter_one(sampling, options):
    points = layout("random", 1000)
    long, short = (
        grouping.plan_groups(points, nsamples=n, gridsize=2, seed=5, sampling=sampling, **options) for n in (150, 40)
    )
    np.testing.assert_array_equal(long.nn_indices[:40], short.nn_indices)
    np.testing.assert_array_equal(long.seed_index[:40], short.seed_index)


@pytest.mark.parametrize("kind", KINDS)
def test_a_moved_and_doubled_scan_has_the_same_groups(kind):
    points = np.round(layout(kind, 500) * 64) / 64  # exact in binary, so that moving rounds nothing
    plan = grouping.plan_groups(points, nsamples=100, gridsize=2, seed=2)
    moved = grouping.plan_groups(2 * points + np.array([2.0**20, -(2.0**19)]), nsamples=100, gridsize=2, seed=2)
    np.testing.assert_array_equal(plan.nn_indices, moved.nn_indices)
    np.testing.assert_array_equal(2 * plan.distance, moved.distance)


@pytest.mark.parametrize("policy", ["random", "nearest"])
def test_disjoint_groups_share_no_position(policy):
    plan = grouping.plan_groups(layout("raster", 900), nsamples=120, gridsize=2, policy=policy, disjoint=True)
    assert np.unique(plan.nn_indices).size == 120 * 4
    with pytest.raises(
        InputError, match=r"225 groups of 4 asked for; of the 900 positions, \d+ could be seeds"
    ) as error:
        grouping.plan_groups(layout("raster", 900), nsamples=225, gridsize=2, policy=policy, disjoint=True)
    feasible = int(str(error.value).split("positions, ")[1].split(" could")[0])
    assert 120 <= feasible < 225
    plan = grouping.plan_groups(layout("raster", 900), nsamples=feasible, gridsize=2, policy=policy, disjoint=True)
    assert np.unique(plan.nn_indices).size == feasible * 4


def test_disjoint_groups_with_their_seeds():
    plan = grouping.plan_groups(layout("random", 400), nsamples=50, gridsize=2, disjoint=True, include_seed=True)
    assert np.unique(plan.nn_indices).size == 200
    np.testing.assert_array_equal(plan.nn_indices[:, 0], plan.seed_index)


def test_the_radius_bounds_members_and_the_error_counts_the_seeds_that_could_be():
    points = layout("random", 600)
    radius = 7.0
    apart = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1))
    inside = (np.sort(apart, axis=1)[:, 1:8] <= radius).sum(axis=1)  # among the 7 nearest
    feasible = int((inside >= 4).sum())
    assert 100 < feasible < 600
    plan = grouping.plan_groups(points, nsamples=feasible, gridsize=2, max_radius=radius)
    assert plan.distance.max() <= radius
    assert set(plan.seed_index.values) == set(np.flatnonzero(inside >= 4))
    with pytest.raises(
        InputError, match=rf"of the 600 positions, {feasible} could be seeds.*nsamples={feasible} or less"
    ):
        grouping.plan_groups(points, nsamples=feasible + 1, gridsize=2, max_radius=radius)


def test_groups_never_mix_labels():
    points, labels = layout("random", 900), np.random.default_rng(1).choice(["a", "b", "c"], 900)
    plan = grouping.plan_groups(points, nsamples=900, gridsize=2, partition=labels)
    assert (labels[plan.nn_indices.values] == labels[plan.seed_index.values][:, None]).all()
    for label in "abc":
        own = np.flatnonzero(labels == label)
        rows = np.flatnonzero(labels[plan.seed_index.values] == label)
        place = {p: i for i, p in enumerate(own)}
        near = own[brute(points[own], np.array([place[s] for s in plan.seed_index.values[rows]]), 7)[0]]
        for members, candidates in zip(plan.nn_indices.values[rows], near, strict=True):
            assert set(members) <= set(candidates)


def test_a_partition_of_five_gives_all_its_others():
    points, labels = layout("random", 30), np.repeat([0, 1], [25, 5])
    plan = grouping.plan_groups(points, nsamples=30, gridsize=2, partition=labels)
    for seed in range(25, 30):
        row = plan.nn_indices.values[plan.seed_index.values == seed][0]
        assert set(row) == set(range(25, 30)) - {seed}


def test_oversampling_covers_at_least_what_as_many_standard_groups_cover():
    points = layout("random", 2000)
    standard = grouping.plan_groups(points, nsamples=2000, gridsize=2, seed=1)
    more = grouping.plan_groups(points, nsamples=2001, gridsize=2, seed=1, enable_oversampling=True)
    assert float(more.coverage) >= float(standard.coverage) > 0.98
    plan = grouping.plan_groups(points, nsamples=7000, gridsize=2, seed=1, enable_oversampling=True)
    assert np.bincount(plan.seed_index).max() == 4  # every position three times, some four times
    assert np.bincount(plan.seed_index, minlength=2000).min() == 3
    again = plan.nn_indices.values[np.argsort(plan.seed_index, kind="stable")][:4]
    assert len({tuple(sorted(row)) for row in again}) > 1
    assert grouping.plan_groups(points, nsamples=4001, enable_oversampling=True).sizes["group"] == 4001


def test_a_subsample_is_planned_on_alone():
    points = layout("random", 1000)
    plan = grouping.plan_groups(points, nsamples=300, gridsize=2, n_subsample=300, subsample_seed=9)
    used = np.union1d(plan.nn_indices, plan.seed_index)
    assert used.size == 300
    other = grouping.plan_groups(points, nsamples=300, gridsize=2, n_subsample=300, subsample_seed=9, seed=4)
    np.testing.assert_array_equal(np.unique(other.seed_index), used)
    near = used[brute(points[used], np.searchsorted(used, plan.seed_index.values), 7)[0]]
    assert all(set(m) <= set(c) for m, c in zip(plan.nn_indices.values, near, strict=True))


def test_quadrants_have_the_nearest_of_each():
    points = layout("random", 800)
    plan = grouping.plan_groups(points, nsamples=300, gridsize=2, policy="4_quadrant", K=16)
    for row, seed in zip(plan.nn_indices.values, plan.seed_index.values, strict=True):
        dy, dx = (points - points[seed]).T
        quadrants = [(dy < 0) & (dx < 0), (dy < 0) & (dx > 0), (dy > 0) & (dx < 0), (dy > 0) & (dx > 0)]
        for member, inside in zip(row, quadrants, strict=True):
            assert member == np.where(inside, np.hypot(dy, dx), np.inf).argmin()


def test_members_that_keep_apart():
    points = layout("random", 500)
    plan = grouping.plan_groups(points, nsamples=100, group_size=3, K=9, policy="min_dist")
    near = brute(points, plan.seed_index.values, 9)[0]
    for row, candidates in zip(plan.nn_indices.values, near, strict=True):
        first = candidates[0]
        second = max(candidates, key=lambda c: np.hypot(*(points[c] - points[first])))
        third = max(candidates, key=lambda c: min(np.hypot(*(points[c] - points[o])) for o in (first, second)))
        assert row.tolist() == [first, second, third]


def test_every_member_and_channel_is_drawn_alike():
    """Seven neighbours, four channels: each of the 28 places is as likely (chi-square over many seeds)."""
    from scipy import stats

    points = layout("random", 3000)
    plan = grouping.plan_groups(points, nsamples=3000, gridsize=2)
    near = brute(points, plan.seed_index.values, 7)[0]
    place = (plan.nn_indices.values[:, :, None] == near[:, None]).argmax(axis=2)
    counts = np.stack([np.bincount(place[:, c], minlength=7) for c in range(4)])
    assert stats.chisquare(counts.ravel()).pvalue > 1e-3


def test_seeds_keep_apart_by_poisson_discs_and_fill_the_strata():
    from scipy.spatial import cKDTree

    points = layout("random", 4000)
    least = {}
    for sampling in ("random", "poisson_disk", "stratified"):
        seeds = grouping.plan_groups(points, nsamples=200, sampling=sampling).seed_index.values
        apart = cKDTree(points[seeds]).query(points[seeds], k=2)[0][:, 1]
        least[sampling] = apart.min(), apart.std()
    assert least["poisson_disk"][0] > 5 > 3 * least["random"][0]
    assert least["stratified"][1] < least["random"][1]
    runs = grouping.plan_groups(points, nsamples=256, sampling="local").seed_index.values
    assert np.unique(runs // 64).size <= 5


@pytest.mark.parametrize("sampling", ["stratified", "poisson_disk", "local"])
def test_seeds_beyond_those_that_were_chosen_are_the_others(sampling):
    points = layout("random", 700)
    order = seeds.order_of(InMemory(points), sampling, 90, 4)
    first, whole = order(np.arange(90)), order(np.arange(1400))
    np.testing.assert_array_equal(whole[:90], first)
    np.testing.assert_array_equal(np.sort(whole[:700]), np.arange(700))
    np.testing.assert_array_equal(np.sort(whole[700:]), np.arange(700))


def test_each_stratum_has_one_seed():
    """Positions in the order of the curve and of their indices, cut into parts of equal numbers."""
    points = layout("random", 3000)
    low, extent = points.min(axis=0), np.ptp(points, axis=0)
    chosen = seeds.order_of(InMemory(points), "stratified", 100, 4)(np.arange(100))
    place = np.lexsort((np.arange(3000), curve.along_curve(points, low, extent, curve.bits_for(100))))
    np.testing.assert_array_equal(np.sort(np.argsort(place)[chosen] // 30), np.arange(100))


@pytest.mark.parametrize("bits", [1, 2, 5])
def test_a_curve_visits_each_cell_once_and_goes_from_neighbour_to_neighbour(bits):
    side = 2**bits
    cells = np.argwhere(np.ones((side, side)))
    place = curve.along_curve(cells + 0.5, np.zeros(2), np.full(2, float(side)), bits)
    np.testing.assert_array_equal(np.sort(place), np.arange(side**2))
    assert (np.abs(np.diff(cells[np.argsort(place)], axis=0)).sum(axis=1) == 1).all()


@pytest.mark.parametrize("count", [1, 2, 100, 2**16, 2**16 + 1, 300_007])
def test_permutations_are_one_to_one_and_undone(count):
    stream = random.key(3, 1)
    there = random.permuted(np.arange(count), count, stream)
    np.testing.assert_array_equal(np.sort(there), np.arange(count))
    np.testing.assert_array_equal(random.unpermuted(there, count, stream), np.arange(count))
    if count > 1000:
        assert abs(np.corrcoef(np.arange(count), there)[0, 1]) < 0.02
        assert (random.permuted(np.arange(100), count, stream) == there[:100]).all()


def test_large_permutations_take_every_part_of_the_range_alike():
    from scipy import stats

    drawn = np.concatenate([random.permuted(np.arange(400), 200_000, random.key(s, 0)) for s in range(50)])
    assert stats.chisquare(np.bincount(drawn // 4000, minlength=50)).pvalue > 1e-3
