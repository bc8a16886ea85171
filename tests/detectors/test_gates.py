"""Templates and gates: the formulae one by one, and the option that each step has."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from scanfold import detectors as det
from scanfold.conventions import InputError
from scanfold.detectors.frames import radius_map
from scanfold.detectors.gates import gate_of, inverted, symmetrised, top_pixels

from .scans import CENTER, DETECTOR, disc_scan

NOWHERE = (0.0, np.inf)


@pytest.fixture(scope="module")
def tmpl() -> xr.Dataset:
    scan, labels, _ = disc_scan()
    return det.templates(det.cluster_statistics(scan, labels, log=True, center=CENTER))


def test_templates_have_norm_one_and_keep_it(tmpl):
    np.testing.assert_allclose((tmpl["template"] ** 2).sum(("ky", "kx")), 1, rtol=1e-12)
    assert (tmpl["template_norm"] > 1).all()


def test_dead_and_masked_pixels_are_zero_in_templates():
    scan, labels, _ = disc_scan()
    scan.values[..., 2:6, :] = 7  # more than nothing, and never another
    tmpl = det.templates(det.cluster_statistics(scan, labels, center=CENTER), central_mask_px=3)
    radius = radius_map(DETECTOR, CENTER)
    expected = (radius > 3) & ~np.isin(np.arange(DETECTOR[0]), [2, 3, 4, 5])[:, None]
    assert (tmpl["used"].values == expected).all()
    assert (tmpl["template"].values[:, ~expected] == 0).all()


def test_most_of_the_detector_may_be_dead():
    scan, labels, _ = disc_scan()
    alive = radius_map(DETECTOR, CENTER) < 7
    tmpl = det.templates(det.cluster_statistics(scan.where(xr.DataArray(alive, dims=("ky", "kx")), 0), labels))
    assert np.isfinite(tmpl["template"]).all()
    assert (tmpl["used"].values == alive).all()


@pytest.mark.parametrize("percent", [0.3, 1, 10, 33.3, 100])
def test_exactly_this_share_is_chosen_even_among_equals(percent):
    template = np.round(np.random.default_rng(0).normal(size=DETECTOR))  # many ties
    used = radius_map(DETECTOR, CENTER) > 4
    gate = top_pixels(template, used, percent)
    assert gate.sum() == np.rint(percent / 100 * used.sum())
    assert gate[~used].sum() == 0
    assert template[gate == 1].min() >= template[used & (gate == 0)].max(initial=-np.inf)


def test_inversion_about_a_point_between_pixels_is_bilinear():
    image = np.random.default_rng(0).normal(size=(9, 12))
    center = np.array([4.3, 5.1])
    found = inverted(image, center)
    for i, j in np.ndindex(image.shape):
        y, x = 2 * center - (i, j)
        top, left = int(np.floor(y)), int(np.floor(x))
        expected = 0.0
        if 0 <= y <= 8 and 0 <= x <= 11:
            for di, dj in np.ndindex(2, 2):
                weight = abs(1 - di - (y - top)) * abs(1 - dj - (x - left))
                if weight:
                    expected += weight * image[top + di, left + dj]
        assert abs(found[i, j] - expected) < 1e-12


def test_a_symmetric_gate_has_its_centre_of_mass_at_the_beam():
    rng = np.random.default_rng(0)
    ky, kx = np.indices(DETECTOR)
    for center in ((14.0, 25.0), (14.5, 25.0), (14.3, 25.6), (11.2, 30.9)):
        near = radius_map(DETECTOR, center) < 9  # all partners are on the detector
        gate, paired = symmetrised(rng.random(DETECTOR) * near, np.ones(DETECTOR, bool), np.array(center))
        assert paired[near].all()
        com = [(gate * k).sum() / gate.sum() for k in (ky, kx)]
        np.testing.assert_allclose(com, center, atol=1e-9)


def test_pixels_without_a_partner_on_the_detector_drop_out():
    _, paired = symmetrised(np.ones(DETECTOR), np.ones(DETECTOR, bool), np.array([10.0, 30.0]))
    expected = np.zeros(DETECTOR, bool)
    expected[:21, 13:] = True
    assert (paired == expected).all()


@pytest.mark.parametrize("kind", ["hard", "soft", "smooth_first"])
def test_nothing_leaks_out_of_the_ring(tmpl, kind):
    gates = det.gates(tmpl, roi_r=(4, 12), gate_type=kind, smooth_sigma=2)
    radius = radius_map(DETECTOR, tmpl["center"].values)
    assert (gates["gate"].values[:, (radius < 4) | (radius > 12)] == 0).all()
    assert float(gates["gate"].max()) <= 1
    assert float(gates["gate"].min()) >= 0


def test_gate_types(tmpl):
    template, used = tmpl["template"].values[0], tmpl["used"].values
    center = tmpl["center"].values
    hard = gate_of(template, used, center, 10, 0, NOWHERE, "hard")
    assert set(np.unique(hard.round(12))) <= set(np.round(np.arange(0, 1.0001, 0.01), 12))
    soft = gate_of(template, used, center, 10, 0, NOWHERE, "soft")
    scaled = (template - template[used].min()) / np.ptp(template[used])
    inside = soft > 0
    np.testing.assert_allclose(soft[inside], (0.5 * (scaled + inverted(scaled * used, center)))[inside])
    smooth = gate_of(template, used, center, 10, 3, NOWHERE, "smooth_first")
    assert not np.array_equal(smooth, gate_of(template, used, center, 10, 0, NOWHERE, "hard"))


def test_coverage_is_stored_and_warned_of(tmpl):
    gates = det.gates(tmpl, top_percent=15, smooth_sigma=0, roi_r=(0, 12))
    used = tmpl["used"].values
    np.testing.assert_allclose(gates["coverage_nominal"], np.rint(0.15 * used.sum()) / used.sum())
    np.testing.assert_allclose(gates["coverage"], (gates["gate"].values > 0.1)[:, used].mean(axis=1))
    np.testing.assert_allclose(gates["coverage_weight"], gates["gate"].values[:, used].mean(axis=1))
    with pytest.warns(UserWarning, match=r"gates cover 0: \d+%"):
        det.gates(tmpl, top_percent=60)
    np.testing.assert_array_equal(gates["union"], gates["gate"].max("cluster"))


def test_a_ring_beyond_the_detector_is_clipped_with_a_warning(tmpl):
    with pytest.warns(UserWarning, match="clipped to the detector"):
        clipped = det.gates(tmpl, roi_r=(2, 500))
    np.testing.assert_array_equal(clipped["gate"], det.gates(tmpl, roi_r=(2, None))["gate"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"roi_r": (80, 8)}, "inside out"),
        ({"roi_r": (8,)}, "two radii"),
        ({"roi_r": (500, 600)}, "detector ends"),
        ({"top_percent": 0}, "top_percent"),
        ({"top_percent": 101}, "top_percent"),
        ({"smooth_sigma": -1}, "smooth_sigma"),
        ({"gate_type": "hrad"}, "did you mean 'hard'"),
    ],
)
def test_options_out_of_range_are_refused(tmpl, options, words):
    with pytest.raises(InputError, match=words):
        det.gates(tmpl, **options)


def test_templates_and_gates_serve_another_scan(tmp_path):
    scan, labels, _ = disc_scan()
    other, _, _ = disc_scan(seed=7)
    tmpl = det.templates(det.cluster_statistics(scan, labels, log=True))
    gates = det.gates(tmpl)
    tmpl.to_zarr(tmp_path / "templates.zarr")
    gates.to_zarr(tmp_path / "gates.zarr")
    kept = [xr.open_zarr(tmp_path / f"{n}.zarr").compute() for n in ("templates", "gates")]
    a, b = det.virtual_maps(other, tmpl, gates), det.virtual_maps(other, *kept)
    np.testing.assert_array_equal(a["score"], b["score"])
    np.testing.assert_array_equal(a["com_y"], b["com_y"])
    with pytest.raises(InputError, match="pixels"):
        det.virtual_maps(other.isel(ky=slice(0, 20)), tmpl, gates)
