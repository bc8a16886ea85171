"""Layouts, PtychoPINN's dictionary, splits and batches of gathered groups."""

import numpy as np
import pytest
import xarray as xr

from scanfold import grouping
from scanfold.conventions import InputError


def make_scan(count=300, size=8, nominal=True, seed=0):
    rng = np.random.default_rng(seed)
    y, x = rng.uniform(20, 100, (2, count))
    image = np.exp(1j * rng.uniform(0, 1, (120, 120)))
    scan = xr.Dataset(
        {
            "diffraction": (
                ("position", "ky", "kx"),
                rng.uniform(0, 3, (count, size, size)).astype("f4"),
                {"kind": "amplitude"},
            ),
            "object": (("object_y", "object_x"), image),
        },
        {
            "position_y": ("position", y),
            "position_x": ("position", x),
            "object_index": ("position", np.arange(count) % 3),
        },
        {"primary": "diffraction"},
    )
    if nominal:
        scan = scan.assign_coords(
            position_y_nominal=("position", np.round(y)), position_x_nominal=("position", np.round(x))
        )
    return scan


@pytest.fixture
def groups():
    scan = make_scan()
    return grouping.gather(scan, grouping.plan_groups(scan, nsamples=120, gridsize=2, seed=1))


@pytest.mark.parametrize("there", ["channel", "grid", "flat", "torch"])
@pytest.mark.parametrize("back", ["channel", "grid", "flat", "torch"])
def test_all_ways_lead_back(there, back):
    frames = np.random.default_rng(0).uniform(size=(3, 9, 5, 5))
    first = grouping.convert_layout(frames, "torch", there)
    second = grouping.convert_layout(first, there, back, group_size=9)
    np.testing.assert_array_equal(grouping.convert_layout(second, back, "torch", group_size=9), frames)
    shapes = {"channel": (3, 5, 5, 9), "grid": (3, 3, 3, 5, 5, 1), "flat": (27, 5, 5, 1), "torch": (3, 9, 5, 5)}
    assert first.shape == shapes[there]
    assert (grouping.convert_layout(frames, "torch", "grid")[1, 2, 1, :, :, 0] == frames[1, 7]).all()


def test_wrong_layouts_are_named():
    with pytest.raises(InputError, match="groups of 3 are no square grid"):
        grouping.convert_layout(np.zeros((2, 3, 4, 4)), "torch", "grid")
    with pytest.raises(InputError, match="7 flat frames: pass the size"):
        grouping.convert_layout(np.zeros((7, 4, 4, 1)), "flat", "torch", group_size=4)
    with pytest.raises(InputError, match=r"shape \(4, 4\) is not in the layout 'torch'"):
        grouping.convert_layout(np.zeros((4, 4)), "torch", "flat")


def test_the_legacy_dictionary(groups):
    found = grouping.to_legacy_dict(groups)
    count = groups.sizes["group"]
    shapes = {
        "diffraction": (count, 8, 8, 4), "X_full": (count, 8, 8, 4), "Y": (count, 8, 8, 4), "nn_indices": (count, 4),
        "coords_nn": (count, 1, 2, 4), "coords_offsets": (count, 1, 2, 1), "coords_relative": (count, 1, 2, 4),
        "coords_start_nn": (count, 1, 2, 4), "coords_start_offsets": (count, 1, 2, 1),
        "coords_start_relative": (count, 1, 2, 4), "objectGuess": (120, 120),
    }  # fmt: skip
    assert {n: v.shape for n, v in found.items()} == shapes
    assert found["nn_indices"].dtype == np.int32
    scan = make_scan()
    indices = found["nn_indices"]
    np.testing.assert_array_equal(found["coords_nn"][:, 0, 0], scan.position_x.values[indices])
    np.testing.assert_array_equal(found["coords_start_nn"][:, 0, 1], np.round(scan.position_y.values)[indices])
    np.testing.assert_allclose(found["coords_offsets"] - found["coords_relative"], found["coords_nn"], rtol=1e-12)
    np.testing.assert_allclose(found["coords_relative"].sum(axis=3), 0, atol=1e-9)
    np.testing.assert_array_equal(found["diffraction"][:, :, :, 2], scan.diffraction.values[indices[:, 2]])
    assert (found["X_full"].astype(float) ** 2).sum(axis=(1, 2)).mean() == pytest.approx(16, rel=1e-5)


def test_truth_is_cut_at_the_true_positions_not_mirrored(groups):
    """Patches of PtychoPINN lie at offsets + relative, mirrored about the centre of the group."""
    from scipy.ndimage import map_coordinates

    found = grouping.to_legacy_dict(groups)
    image, grid = make_scan().object.values, np.arange(8) - 4

    def patches(x, y):
        rows = y[:, None, None] + grid[:, None] + 0 * grid
        columns = x[:, None, None] + grid[None, :] + 0 * grid[:, None]
        return sum(
            u * map_coordinates(part, [rows, columns], order=1) for u, part in ((1, image.real), (1j, image.imag))
        )

    for channel in range(4):
        x, y = found["coords_nn"][:, 0, :, channel].T
        np.testing.assert_allclose(found["Y"][..., channel], patches(x, y), atol=1e-5)
        mirrored = (found["coords_offsets"][..., 0] + found["coords_relative"][..., channel])[:, 0].T
        assert np.abs(found["Y"][..., channel] - patches(*mirrored)).max() > 0.1


def test_patches_equal_the_object_at_whole_positions_and_are_zero_outside():
    image = np.random.default_rng(0).uniform(size=(40, 30)).astype("f4")
    np.testing.assert_array_equal(grouping.cut_patches(image, [10, 36], [20, 26], 8)[0], image[6:14, 16:24])
    np.testing.assert_array_equal(grouping.cut_patches(image, 36, 26, 8), image[32:40, 22:30])
    edge = grouping.cut_patches(image, 0, 15, 8)
    assert not edge[:4].any()
    np.testing.assert_array_equal(edge[4:], image[:4, 11:19])
    assert not grouping.cut_patches(image, [-500, 500], [1000, -9], 8).any()


@pytest.mark.parametrize("guard", [0.0, 5.0])
@pytest.mark.parametrize("fraction", [0.2, 0.5, 0.8])
def test_a_split_leaks_nothing_and_splits_every_field_alike(groups, guard, fraction):
    train, test = grouping.split(groups, fraction, guard=guard)
    assert not set(train.nn_indices.values.ravel()) & set(test.nn_indices.values.ravel())
    a, b = (np.stack([s.position_y, s.position_x], -1).reshape(-1, 2) for s in (train, test))
    assert np.hypot(*(a[:, None] - b[None]).transpose(2, 0, 1)).min() >= guard
    for part in (train, test):
        assert all(v.sizes["group"] == part.sizes["group"] for v in part.variables.values() if "group" in v.dims)
        whole = groups.sel(group=part.group)
        xr.testing.assert_identical(whole, part)
    share = train.sizes["group"] / (train.sizes["group"] + test.sizes["group"])
    assert abs(share - fraction) < 0.15


def test_split_by_label_and_its_errors(groups):
    train, test = grouping.split(groups, 0.6, by="object_index")
    assert not set(train.object_index.values) & set(test.object_index.values)
    with pytest.raises(InputError, match="unknown way to split by 'spcae'; did you mean 'space'"):
        grouping.split(groups, 0.5, by="spcae")
    with pytest.raises(InputError, match="are left for the two sets; pass another fraction or a smaller guard"):
        grouping.split(groups, 0.5, guard=500.0)


def test_folds_test_each_part_once_and_leak_nothing(groups):
    tested = []
    for train, test in grouping.kfold(groups, 3, guard=2.0):
        tested += test.group.values.tolist()
        a, b = (np.stack([s.position_y, s.position_x], -1).reshape(-1, 2) for s in (train, test))
        assert np.hypot(*(a[:, None] - b[None]).transpose(2, 0, 1)).min() >= 2
    assert len(tested) == len(set(tested)) > 60


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("chunk", [None, 25])
def test_batches_are_all_groups_once(groups, shuffle, chunk, monkeypatch):
    monkeypatch.setattr("scanfold.grouping.batches.WINDOW", 50 * groups.nbytes // groups.sizes["group"])
    source = groups if chunk is None else groups.chunk(group=chunk)
    batches = list(grouping.iter_batches(source, 16, shuffle=shuffle, seed=3))
    assert [len(b["group"]) for b in batches] == [16] * 7 + [8]
    seen = np.concatenate([b["group"] for b in batches])
    assert sorted(seen) == sorted(groups.group.values)
    assert (seen.tolist() == groups.group.values.tolist()) != shuffle
    for batch in batches:
        expected = groups.sel(group=batch["group"])
        np.testing.assert_array_equal(batch["diffraction"], np.moveaxis(expected.diffraction.values, 1, -1))
        np.testing.assert_array_equal(batch["nn_indices"], expected.nn_indices)
    again = grouping.iter_batches(source, 16, shuffle=shuffle, seed=3, drop_last=True, layout="flat")
    again = list(again)
    assert [b["diffraction"].shape for b in again] == [(64, 8, 8, 1)] * 7
    np.testing.assert_array_equal(again[2]["group"], batches[2]["group"])


def test_batches_make_no_chunk_twice(groups):
    made = []

    def count(block):
        made.append(len(block))
        return block

    source = groups.chunk(group=50)
    source["diffraction"] = source.diffraction.copy(data=source.diffraction.data.map_blocks(count, dtype="f4"))
    made.clear()  # of finding its type
    assert sum(len(b["group"]) for b in grouping.iter_batches(source, 16)) == 120
    assert made == [50, 50, 20]


def test_batches_end_with_the_error_of_a_read(groups):
    broken = groups.chunk(group=30)

    def fail(block):
        return block / 0 if block.size == 0 else 1 // 0

    frames = xr.apply_ufunc(fail, broken.diffraction, dask="parallelized", output_dtypes=["f4"])
    broken = broken.assign(diffraction=frames)
    with pytest.raises(ZeroDivisionError):
        list(grouping.iter_batches(broken, 10))


def test_coverage_and_overlap():
    y, x = np.divmod(np.arange(400.0), 20)
    points = np.stack([y, x], axis=1)
    plan = grouping.plan_groups(points, nsamples=400, gridsize=2, K=4, policy="nearest")
    seen = grouping.coverage(plan)
    expected = np.bincount(plan.nn_indices.values.ravel(), minlength=400)
    np.testing.assert_array_equal(seen["count"], expected)
    assert float(seen.fraction) == float(plan.coverage) == (expected > 0).mean()
    rows = {tuple(sorted(r)) for r in plan.nn_indices.values.tolist()}
    assert int(seen.duplicates) == 400 - len(rows)
    lazy = grouping.coverage(plan.chunk(group=100))
    np.testing.assert_array_equal(lazy["count"], expected)
    inner = plan.isel(group=np.flatnonzero(plan.distance.max("channel") == 1))
    metrics = grouping.overlap_metrics(inner, points, 4.0, K=4)
    assert metrics["seed_to_member"] == pytest.approx(float(grouping.disc_overlap(1.0, 4.0)))


def test_the_overlap_of_discs_is_their_common_area():
    rng = np.random.default_rng(0)
    y, x = rng.uniform(-1, 1, (2, 400_000))
    inside = np.hypot(y, x) < 1
    for d in (0.0, 0.3, 1.0, 1.7, 2.0, 3.0):
        share = (np.hypot(y[inside], x[inside] - d) < 1).mean()
        assert float(grouping.disc_overlap(d, 2.0)) == pytest.approx(share, abs=4e-3)


def test_positions_in_metres_become_pixels():
    scan = xr.Dataset(
        {"diffraction": (("position", "ky", "kx"), np.zeros((2, 64, 64)))},
        {n: ("position", [0.0, 1e-6], {"units": "m"}) for n in ("position_y", "position_x")},
    ).assign_coords(
        energy=xr.DataArray(8.0, attrs={"units": "keV"}),
        distance=xr.DataArray(2.0, attrs={"units": "m"}),
        detector_pixel=xr.DataArray(75e-6, attrs={"units": "m"}),
    )
    pixel = 12.398419843320026 / 8 * 1e-10 * 2 / (64 * 75e-6)
    found = grouping.to_pixels(scan)
    assert float(found.position_y[1]) == pytest.approx(1e-6 / pixel, rel=1e-9)
    assert found.position_y.attrs["units"] == "pixel"
    with pytest.raises(InputError, match="no energy, distance, detector_pixel; pass pixel_size="):
        grouping.to_pixels(scan.drop_vars(["energy", "distance", "detector_pixel"]))
