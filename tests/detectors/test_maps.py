"""What is made of maps alone: baselines, assignments, fields, calibration, descan; and clicks."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from matplotlib.backend_bases import MouseEvent
from matplotlib.figure import Figure

import scanfold as sf
from scanfold import detectors as det
from scanfold.conventions import InputError

from .scans import CENTER, DETECTOR, disc_scan

RNG = np.random.default_rng(0)


def com_maps(y: np.ndarray, x: np.ndarray, dims=("y", "x")) -> xr.Dataset:
    return xr.Dataset({"com_y": (dims, y), "com_x": (dims, x)})


def test_median_and_roi_and_none():
    y, x = RNG.normal(size=(2, 6, 9))
    maps = com_maps(y, x)
    np.testing.assert_allclose(det.subtract_baseline(maps, "median")["com_y"], y - np.median(y))
    region = det.subtract_baseline(maps, "roi", region=(2, 1, 3, 4))  # x0, y0, width, height
    np.testing.assert_allclose(region["com_x"], x - x[1:5, 2:5].mean())
    mask = np.zeros((6, 9), bool)
    mask[1:5, 2:5] = True
    np.testing.assert_array_equal(det.subtract_baseline(maps, "roi", region=mask)["com_x"], region["com_x"])
    np.testing.assert_array_equal(det.subtract_baseline(maps, "none")["com_y"], y)
    np.testing.assert_array_equal(region["com_x_raw"], x)


def test_rowcol_takes_stripes_off_both_axes_alike():
    rows, columns = RNG.normal(size=6)[:, None], RNG.normal(size=9)
    flat = det.subtract_baseline(com_maps(rows + columns, rows - 2 * columns), "rowcol")
    for name in ("com_y", "com_x"):
        np.testing.assert_allclose(flat[name], 0, atol=1e-12)
    y = RNG.normal(size=(6, 9))
    expected = y - np.median(y, axis=1)[:, None]
    expected = expected - np.median(expected, axis=0)
    both = det.subtract_baseline(com_maps(y, y), "rowcol")
    np.testing.assert_allclose(both["com_y"], expected)
    np.testing.assert_array_equal(both["com_y"], both["com_x"])


@pytest.mark.parametrize("free", [False, True])
def test_planes_and_what_a_robust_one_leaves_alone(free):
    i, j = np.indices((8, 10))
    plane = 0.3 + 0.02 * i - 0.05 * j
    domain = np.where((i > 5) & (j > 6), 1.0, 0.0)
    maps = com_maps(plane, plane + domain + 1e-3 * RNG.normal(size=plane.shape))
    if free:
        shuffled = RNG.permutation(80)
        where = {"position_y": ("position", i.ravel()[shuffled]), "position_x": ("position", j.ravel()[shuffled])}
        maps = com_maps(*(maps[n].values.ravel()[shuffled] for n in maps), dims="position").assign_coords(where)
        domain = domain.ravel()[shuffled]
    np.testing.assert_allclose(det.subtract_baseline(maps, "plane")["com_y"], 0, atol=1e-12)
    robust = det.subtract_baseline(maps, "robust")["com_x"]
    np.testing.assert_allclose(robust, domain, atol=0.01)
    assert float(np.abs(det.subtract_baseline(maps, "plane")["com_x"] - domain).max()) > 0.05


def test_positions_without_a_frame_do_not_spoil_a_baseline():
    y = RNG.normal(size=(6, 9))
    y[2] = np.nan
    y[4, 3] = np.nan
    for method in ("median", "rowcol", "plane", "robust"):
        flat = det.subtract_baseline(com_maps(y, y), method)
        assert (np.isnan(flat["com_y"].values) == np.isnan(y)).all()


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("rowcl", {}, "did you mean 'rowcol'"),
        ("roi", {}, "region="),
        ("roi", {"region": (0, 0, 50, 2)}, "not inside"),
        ("roi", {"region": np.zeros((6, 9), bool)}, "nowhere"),
        ("roi", {"region": np.ones((2, 2), bool)}, "shape"),
    ],
)
def test_baselines_that_cannot_be_made(method, options, words):
    with pytest.raises(InputError, match=words):
        det.subtract_baseline(com_maps(*np.zeros((2, 6, 9))), method, **options)


def test_rows_and_columns_need_a_grid():
    with pytest.raises(InputError, match="scan_shape"):
        det.subtract_baseline(com_maps(np.zeros(5), np.zeros(5), dims="position"), "rowcol")


def test_a_softmax_of_scores_in_each_unit():
    score = RNG.normal(size=(5, 6, 3)) * 40
    maps = xr.Dataset({"score": (("y", "x", "cluster"), score)}, coords={"cluster": [0, 1, 2]})
    for units, scale in (("literal", 1.0), ("std", score.std())):
        found = det.assign(maps, temperature=2.0, units=units) if units == "std" else None
        if units == "literal":
            with pytest.warns(UserWarning, match="saturated"):
                found = det.assign(maps, temperature=2.0, units=units)
        weight = np.exp(score / scale / 2.0)
        expected = weight / weight.sum(axis=-1, keepdims=True)
        np.testing.assert_allclose(found["posterior"], expected, rtol=1e-5, atol=1e-9)
        np.testing.assert_array_equal(found["assignment"], score.argmax(axis=-1))
        np.testing.assert_allclose(found["confidence"], expected.max(axis=-1), rtol=1e-5)
        assert found["assignment"].dtype == "int16"


def test_the_discriminant_is_the_log_posterior_of_normal_noise():
    scan, labels, _ = disc_scan()
    stats = det.cluster_statistics(scan, labels)
    tmpl = det.templates(stats)
    maps = det.virtual_maps(scan, tmpl, det.gates(tmpl))
    prior = [0.5, 0.3, 0.2]
    with pytest.warns(UserWarning, match="saturated"):
        found = det.assign(maps, temperature=1.0, units="lda", tmpl=tmpl, prior=prior)
    used = tmpl["used"].values
    z = ((scan.values - stats["mean"].values) / np.where(used, tmpl["scale"].values, 1))[..., used]
    d = ((stats["cluster_mean"].values - stats["mean"].values) / np.where(used, tmpl["scale"].values, 1))[:, used]
    level = -0.5 * ((z[:, :, None] - d) ** 2).sum(axis=-1) + np.log(prior)
    expected = np.exp(level - level.max(axis=-1, keepdims=True))
    expected /= expected.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(found["posterior"], expected, atol=1e-3)
    with pytest.raises(InputError, match="tmpl="):
        det.assign(maps, units="lda")


def test_the_residual_is_what_templates_do_not_explain():
    scan, labels, _ = disc_scan()
    odd = scan.copy(deep=True)
    odd.values[3, 3] = RNG.permuted(odd.values[3, 3])
    stats = det.cluster_statistics(scan, labels)
    tmpl = det.templates(stats)
    maps = det.virtual_maps(odd, tmpl, det.gates(tmpl), residual=True)
    used = tmpl["used"].values
    z = (odd.values - stats["mean"].values) / np.where(used, tmpl["scale"].values, 1)
    z = z[..., used].reshape(-1, used.sum())
    basis = np.linalg.svd(tmpl["template"].values[:, used], full_matrices=False)[2]
    rank = np.linalg.matrix_rank(tmpl["template"].values[:, used], tol=1e-6)
    rest = z - z @ basis[:rank].T @ basis[:rank]
    np.testing.assert_allclose(maps["residual"].values.ravel(), (rest**2).mean(axis=1), rtol=1e-3)
    assert np.unravel_index(np.argmax(maps["residual"].values), maps["residual"].shape) == (3, 3)


def test_lazy_maps_stay_lazy_and_give_the_same():
    scan, labels, _ = disc_scan()
    tmpl = det.templates(det.cluster_statistics(scan, labels))
    gates = det.gates(tmpl)
    lazy = det.virtual_maps(scan.chunk(y=3, x=5), tmpl, gates)
    eager = det.virtual_maps(scan, tmpl, gates)
    with sf.testing.raise_if_computes():
        flat = det.subtract_baseline(lazy, "rowcol")
        field = det.electric_field(flat)
        assigned = det.assign(lazy)
    np.testing.assert_allclose(
        field.compute()["Ex"], det.electric_field(det.subtract_baseline(eager, "rowcol"))["Ex"], atol=2e-5
    )
    np.testing.assert_allclose(assigned.compute()["confidence"], det.assign(eager)["confidence"], atol=1e-5)


@pytest.mark.parametrize(
    ("options", "expected", "units"),
    [
        ({"pixel_size_k": 0.02}, (0.02, 0.02), "1/angstrom"),
        ({"pixel_size_k": 0.02, "pixel_size_ky": 0.03, "pixel_size_kx": 0.04}, (0.03, 0.04), "1/angstrom"),
        ({"pixel_size": 0.1, "pixel_size_units": "nm", "pixel_size_k": 5}, (1 / 33, 1 / 48), "1/angstrom"),
        ({"pixel_size": 1.0, "pixel_size_units": "angstrom"}, (1 / 33, 1 / 48), "1/angstrom"),
        ({"mrad_per_pixel": 0.5, "beam_energy": 300e3}, (0.025398, 0.025398), "1/angstrom"),
        ({"pixel_size_ky": 1.5, "pixel_size_kx": 1.5, "units": "dimensionless"}, (1.5, 1.5), "dimensionless"),
    ],
)
def test_sizes_of_a_pixel(options, expected, units):
    scan = disc_scan()[0]
    made = det.calibrate(scan, center=CENTER, **options)
    for dim, step, zero in zip(("ky", "kx"), expected, CENTER, strict=True):
        np.testing.assert_allclose(made[dim], (np.arange(made.sizes[dim]) - zero) * step, rtol=1e-4)
        assert made[dim].attrs["units"] == units
    np.testing.assert_allclose(det.cluster_statistics(made, disc_scan()[1])["center"], CENTER)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "no size"),
        ({"pixel_size": 0.1}, "pixel_size_units"),
        ({"pixel_size": 0.1, "pixel_size_units": "metres"}, "nm or angstrom"),
        ({"pixel_size_ky": 0.1}, "pixel_size_kx is missing"),
        ({"pixel_size_k": -1}, "more than 0"),
        ({"mrad_per_pixel": 0.5}, "beam_energy"),
        ({"mrad_per_pixel": 0.5, "beam_energy": 300e3, "pixel_size_k": 0.5}, "pass one"),
        ({"pixel_size_k": 1, "center": (90, 1)}, "off the detector"),
    ],
)
def test_sizes_that_contradict_or_lack_a_unit(options, words):
    with pytest.raises(InputError, match=words):
        det.calibrate(disc_scan()[0], **options)


def test_points_of_reflections_and_rings():
    found = det.pixel_size_from_points((64, 24), (64, 104), known_spacing=1.92)
    assert found["pixel_size_kx"] == pytest.approx(2 / (1.92 * 80))
    off = det.pixel_size_from_points((60, 24), (60, 104), known_spacing=1.92, center=(70, 60))
    assert off["pixel_size_kx"] == found["pixel_size_kx"]  # the centre does not matter for partners
    ring = det.pixel_size_from_points((64, 90), (64, 100), known_spacing=2.0, center=(64, 64))
    assert ring["pixel_size_ky"] == pytest.approx(1 / (2.0 * 31))
    relative = det.pixel_size_from_points((64, 24), (64, 104))
    assert (relative["pixel_size_ky"] * relative["radius"], relative["units"]) == (pytest.approx(1), "dimensionless")
    for points, options in (((5, 5), {}), ((5, 9), {"known_spacing": -1})):
        with pytest.raises(InputError):
            det.pixel_size_from_points((5, 5), points, **options)


def test_descan_plane_and_measured():
    i, j = np.indices((8, 10))
    plane = com_maps(0.1 * i, -0.2 * j)
    plane["com_y"][3, 3] = 40.0
    found = det.descan(plane)
    np.testing.assert_allclose(found.sel(axis="ky"), 0.1 * (i - 3.5), atol=1e-6)
    np.testing.assert_allclose(found.sel(axis="kx"), -0.2 * (j - 4.5), atol=1e-6)
    np.testing.assert_allclose(det.descan(plane, "measured").sel(axis="kx"), -0.2 * (j - 4.5))
    plane["com_y"].attrs["units"] = "1/angstrom"
    with pytest.raises(InputError, match="before the scan is calibrated"):
        det.descan(plane)


def test_descan_moves_every_map():
    scan, labels, shifts = disc_scan(shift=1.0, mean=50.0)
    moved = xr.DataArray(shifts, dims=("y", "x", "axis"))
    tmpl = det.templates(det.cluster_statistics(scan, labels, center=CENTER))
    gates = det.gates(tmpl)
    plain, taken = (det.virtual_maps(scan, tmpl, gates, disc=8, descan=d) for d in (None, moved))
    for name in ("ungated", "disc", "union"):
        found = (plain["com_y"] - taken["com_y"]).sel(detector=name)
        np.testing.assert_allclose(found, shifts[..., 0], atol=1e-9)


def click(picked, ky: float, kx: float, button: int = 1) -> None:
    canvas = picked.figure.canvas
    x, y = picked.axes.transData.transform((kx, ky))
    canvas.callbacks.process("button_press_event", MouseEvent("button_press_event", canvas, x, y, button))


def test_one_click_is_the_centre():
    scan, labels, _ = disc_scan()
    picked = det.interactive_center(scan.chunk(y=2), figure=Figure())
    with pytest.raises(InputError, match="0 of 1 clicks"):
        _ = picked.center
    click(picked, 10, 10, button=3)  # the other button, and outside of the axes
    click(picked, -20, 10)
    assert not picked.done
    click(picked, 13.5, 26.25)
    click(picked, 1, 1)  # too late
    np.testing.assert_allclose(picked.center, (13.5, 26.25))
    np.testing.assert_allclose(det.cluster_statistics(scan, labels, center=picked.center)["center"], (13.5, 26.25))
    cross = [line for line in picked.axes.lines if line.get_linestyle() == "--"]
    np.testing.assert_allclose(cross[0].get_ydata(), CENTER[0], atol=0.1)
    np.testing.assert_allclose(cross[1].get_xdata(), CENTER[1], atol=0.1)


def test_two_clicks_are_a_size_that_is_used_at_once():
    scan, labels, _ = disc_scan()
    source = sf.testing.CountingArray(scan.values)
    stats = det.cluster_statistics(source.lazy(scan.dims, y=3), labels).compute()
    picked = det.interactive_kspace(stats, known_spacing=3.14, figure=Figure())
    click(picked, 14.3, 16.6)
    assert not picked.done
    click(picked, 14.3, 34.6)
    assert source.elements == scan.size  # what was read for the statistics, and no more
    size = picked.calibration
    assert size["pixel_size_ky"] == pytest.approx(2 / (3.14 * 18))
    made = det.calibrate(
        scan, center=size["center"], **{k: size[k] for k in ("pixel_size_ky", "pixel_size_kx", "units")}
    )
    assert made["kx"].attrs["units"] == "1/angstrom"


def test_without_a_display_the_error_says_what_to_do_before_reading():
    source = sf.testing.CountingArray(np.ones((3, *DETECTOR)))
    for pick in (det.interactive_center, det.interactive_kspace):
        with pytest.raises(InputError, match="no display"):
            pick(source.lazy(("position", "ky", "kx")))
    assert source.reads == 0
