"""Shifts, fields and phases whose truth is known; what a gate makes of labels."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from scanfold import detectors as det
from scanfold.detectors.frames import beam_radius, disc_center

SIZE, CENTER = 64, (33.3, 30.7)
ESTIMATORS = ("ungated", "disc", "union", "union_response", "adaptive", "adaptive_response")


def bragg_scan(shift: float, *, clusters: int = 4, partners: bool = False, shape=(20, 24), seed: int = 0):
    """Return frames of a beam and a Bragg disc, or it and its partner, at an azimuth that is the cluster's.

    With them the labels, and the true shifts in pixels.
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, clusters, shape)
    shifts = shift * rng.normal(size=(*shape, 2))
    shifts -= shifts.mean(axis=(0, 1))
    ky, kx = np.arange(SIZE)[:, None], np.arange(SIZE)
    expected = np.empty((*shape, SIZE, SIZE))
    for i, j in np.ndindex(shape):
        y, x = ky - CENTER[0] - shifts[i, j, 0], kx - CENTER[1] - shifts[i, j, 1]
        angle = (1 if partners else 2) * np.pi * labels[i, j] / clusters
        pattern = 0.02 + 20 / (1 + np.exp(2 * (np.hypot(y, x) - 8)))
        for side in (1, -1) if partners else (1,):
            dy, dx = y - side * 21 * np.sin(angle), x - side * 21 * np.cos(angle)
            pattern = pattern + 8 / (1 + np.exp(2 * (np.hypot(dy, dx) - 4)))
        expected[i, j] = pattern
    return xr.DataArray(rng.poisson(expected).astype("uint16"), dims=("y", "x", "ky", "kx")), labels, shifts


def estimate(scan: xr.DataArray, labels: np.ndarray) -> xr.Dataset:
    stats = det.cluster_statistics(scan, labels, log=True)
    tmpl = det.templates(stats)
    return det.virtual_maps(scan, tmpl, det.gates(tmpl, roi_r=(0, 30)), labels=labels, disc=12)


def found_shifts(maps: xr.Dataset) -> np.ndarray:
    return np.stack([maps["com_y"].values, maps["com_x"].values], axis=-1)


@pytest.fixture(scope="module")
def planted():
    scan, labels, shifts = bragg_scan(1.0, partners=True)
    return estimate(scan, labels), labels, shifts


@pytest.fixture(scope="module")
def unmoved():
    scan, labels, shifts = bragg_scan(0.0)
    return estimate(scan, labels), labels, shifts


def rms(maps: xr.Dataset, shifts: np.ndarray) -> dict[str, float]:
    error = found_shifts(maps) - shifts[:, :, None]
    error -= error.mean(axis=(0, 1))
    return dict(zip(ESTIMATORS, np.sqrt((error**2).mean(axis=(0, 1, 3))), strict=True))


def label_spread(maps: xr.Dataset, labels: np.ndarray) -> dict[str, float]:
    found = found_shifts(maps)
    found -= found.mean(axis=(0, 1))
    means = np.stack([found[labels == c].mean(axis=0) for c in np.unique(labels)])
    return dict(zip(ESTIMATORS, np.sqrt((means**2).mean(axis=(0, 2))), strict=True))


def test_a_disc_recovers_planted_shifts_within_their_errors(planted):
    maps, _, shifts = planted
    for axis, name in enumerate(("com_y", "com_x")):
        disc = maps.sel(detector="disc")
        offset = (disc[name] - shifts[..., axis]).values
        pull = (offset - offset.mean()) / disc[f"{name}_stderr"].values
        assert abs(pull.std() - 1) < 0.1


def slopes(maps: xr.Dataset, shifts: np.ndarray) -> dict[str, float]:
    found = (found_shifts(maps) * shifts[:, :, None]).sum(axis=(0, 1, 3)) / (shifts**2).sum()
    return dict(zip(ESTIMATORS, found, strict=True))


def test_the_response_corrects_the_union_and_the_disc_is_best(planted):
    maps, _, shifts = planted
    error, slope = rms(maps, shifts), slopes(maps, shifts)
    assert abs(slope["union_response"] - 1) < 0.5 * abs(slope["union"] - 1)
    assert abs(slope["disc"] - 1) < 0.02
    assert min(error, key=error.get) == "disc"
    assert error["disc"] < 0.25 * error["adaptive"]


def test_without_any_shift_an_adaptive_map_is_the_labels_and_a_disc_is_nothing(unmoved):
    maps, labels, _ = unmoved
    spread = label_spread(maps, labels)
    assert spread["adaptive"] > 0.2
    assert spread["disc"] < 0.1 * spread["adaptive"]
    disc = maps.sel(detector="disc")
    for name in ("com_y", "com_x"):
        pull = ((disc[name] - disc[name].mean()) / disc[f"{name}_stderr"]).values
        assert abs(pull.std() - 1) < 0.1


def test_the_response_of_a_gate_is_what_a_shift_of_the_mean_does():
    scan, labels, _ = bragg_scan(0.3)
    stats = det.cluster_statistics(scan, labels)
    tmpl = det.templates(stats)
    gates = det.gates(tmpl, smooth_sigma=2)
    from scipy.ndimage import shift as moved

    mean, gate = stats["mean_counts"].values, gates["gate"].values[1]
    ky = np.arange(SIZE)[:, None] - stats["center"].values[0]
    patterns = [moved(mean, (d, 0), order=3, mode="mirror") for d in (-0.05, 0.05)]
    com = [(gate * m * ky).sum() / (gate * m).sum() for m in patterns]
    np.testing.assert_allclose((com[1] - com[0]) / 0.1, gates["response"].values[1, 0, 0], rtol=0.01)


def test_planted_shifts_say_the_same_of_the_own_templates():
    scan, labels, _ = bragg_scan(0.0)
    stats = det.cluster_statistics(scan, labels, log=True)
    tmpl = det.templates(stats)
    gates = det.gates(tmpl)
    found = det.planted_shifts(tmpl, gates, shift=0.7, frames=20, disc=12)
    assert abs(float(found["slope"].sel(detector="disc")) - 1) < 0.05
    assert float(found["rms_error"].sel(detector="disc")) < 1.3 * float(found["expected_error"].sel(detector="disc"))
    null = det.planted_shifts(tmpl, gates, shift=0.0, frames=20, disc=12)
    assert np.isnan(null["slope"]).all()
    assert float(null["label_spread"].sel(detector="adaptive")) > 3 * float(null["label_spread"].sel(detector="disc"))


def test_a_half_turn_of_the_frames_turns_the_field():
    scan, _, _ = bragg_scan(1.0, shape=(6, 7))
    turned = scan.isel(ky=slice(None, None, -1), kx=slice(None, None, -1))
    opposite = tuple(SIZE - 1 - c for c in CENTER)
    a = det.electric_field(det.center_of_mass(scan, gate=("disc", 12), center=CENTER))
    b = det.electric_field(det.center_of_mass(turned, gate=("disc", 12), center=opposite))
    np.testing.assert_allclose(a["Ex"], -b["Ex"], atol=1e-9)
    np.testing.assert_allclose(a["Ey"], -b["Ey"], atol=1e-9)
    c = det.electric_field(det.center_of_mass(scan, gate=("disc", 12), center=CENTER), rotation=180)
    np.testing.assert_allclose(c["Ex"], b["Ex"], atol=1e-9)


def test_the_centre_is_that_of_the_disc_and_not_its_brightest_pixel():
    scan, labels, _ = bragg_scan(0.0)
    scan.values[..., 5, 50] = 4000  # a hot pixel
    stats = det.cluster_statistics(scan, labels)
    np.testing.assert_allclose(stats["center"], CENTER, atol=0.05)
    assert abs(beam_radius(stats["mean_counts"].values, stats["valid"].values) - 8) < 0.3
    assert disc_center(np.zeros((5, 6)), np.ones((5, 6), bool)).tolist() == [2.0, 2.5]
    found = det.cluster_statistics(scan, labels, bad_pixels="auto")["valid"].values
    assert np.argwhere(~found).tolist() == [[5, 50]]


def test_units_from_pixels_to_volts():
    scan, _, _ = bragg_scan(1.0, shape=(5, 6))
    calibrated = det.calibrate(scan, center=CENTER, pixel_size_k=0.01)
    com = det.center_of_mass(calibrated, gate=("disc", 12))
    plain = det.center_of_mass(scan, gate=("disc", 12), center=CENTER)
    np.testing.assert_allclose(com["com_x"], 0.01 * plain["com_x"], rtol=1e-9)
    field = det.electric_field(com, beam_energy=300e3)
    np.testing.assert_allclose(field["Ex"], -96.28 * plain["com_x"], rtol=1e-4)
    assert field["Ex"].attrs["units"] == field["Ex_stderr"].attrs["units"] == "V"
    per_metre = det.electric_field(com, beam_energy=300e3, thickness=20)
    np.testing.assert_allclose(per_metre["Ey"], field["Ey"] / 20e-9)
    assert per_metre["E_mag"].attrs["units"] == "V/m"
    milliradian = com.assign(com_y=com["com_y"].assign_attrs(units="mrad"))
    by_angle = det.electric_field(milliradian, beam_energy=300e3)
    np.testing.assert_allclose(by_angle["Ey"], -489.05 * com["com_y"], rtol=1e-3)


def test_sign_and_direction_of_the_field():
    com = xr.Dataset({n: (("y", "x"), [[v]], {"units": "1/angstrom"}) for n, v in (("com_y", 0.0), ("com_x", 1e-3))})
    field = det.electric_field(com, beam_energy=200e3)
    assert float(field["Ex"][0, 0]) == pytest.approx(-8.621, rel=1e-3)  # a pattern moved right: a field to the left
    assert abs(float(field["E_angle"][0, 0])) == pytest.approx(np.pi)
    down = det.electric_field(com, rotation=90)  # x of the detector is y of the scan, which is down
    assert float(down["Ey"][0, 0]) == pytest.approx(1e-3)
    assert float(down["E_angle"][0, 0]) == pytest.approx(np.pi / 2)
    flipped = det.electric_field(com.rename(com_y="com_x", com_x="com_y"), flip=True)
    assert float(flipped["Ey"][0, 0]) == -1e-3


def atoms(shape=(48, 40)):
    """Return the phase of some atoms and its gradient over 2 pi, in 1/nm, for steps of 0.02 nm."""
    y, x = (np.arange(n) * 0.02 for n in shape)
    phase, gy, gx = (np.zeros(shape) for _ in range(3))
    for cy, cx, height in ((0.3, 0.25, 0.5), (0.62, 0.5, 0.3), (0.4, 0.62, 0.8)):
        dy, dx, width = y[:, None] - cy, x - cx, 0.05
        bump = height * np.exp(-(dy**2 + dx**2) / (2 * width**2))
        phase, gy, gx = phase + bump, gy - bump * dy / width**2, gx - bump * dx / width**2
    return phase, gy / (2 * np.pi), gx / (2 * np.pi)


@pytest.mark.parametrize("pad", ["mirror", "zero", "none"])
def test_the_phase_of_a_known_potential(pad):
    phase, gy, gx = atoms()
    maps = xr.Dataset({n: (("y", "x"), v, {"units": "1/nm"}) for n, v in (("com_y", gy), ("com_x", gx))})
    found = det.integrate_phase(maps, step=0.02, pad=pad)
    np.testing.assert_allclose(found, phase - phase.mean(), atol=0.005)
    in_angstrom = xr.Dataset({n: (v / 10).assign_attrs(units="1/angstrom") for n, v in maps.items()})
    np.testing.assert_allclose(det.integrate_phase(in_angstrom, step=0.02, pad=pad), found, atol=1e-12)


def test_a_phase_that_is_not_zero_at_the_edge_needs_the_mirror():
    y, x = np.mgrid[:32, :40] / 40
    phase = 0.5 * x**2 - y * x
    maps = xr.Dataset({"com_y": (("y", "x"), -x / (2 * np.pi)), "com_x": (("y", "x"), (x - y) / (2 * np.pi))})
    maps = xr.Dataset({n: v.assign_attrs(units="1/nm") for n, v in maps.items()})
    error = {p: det.integrate_phase(maps, step=1 / 40, pad=p) - (phase - phase.mean()) for p in ("mirror", "none")}
    assert float(np.abs(error["mirror"]).max()) < 0.02 < 0.1 < float(np.abs(error["none"]).max())


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("angle", [-170.0, -60.0, 0.0, 25.0, 90.0, 155.0])
def test_rotation_and_flip_are_found(angle, flip):
    _, gy, gx = atoms()
    turn = np.radians(-angle)  # of the scan's axes into the detector's
    x, y = np.cos(turn) * gx - np.sin(turn) * gy, np.sin(turn) * gx + np.cos(turn) * gy
    maps = xr.Dataset({"com_y": (("y", "x"), -y if flip else y), "com_x": (("y", "x"), x)})
    found = det.find_rotation(maps)
    assert bool(found["flip"]) == flip
    assert abs((float(found["rotation"]) - angle + 180) % 360 - 180) < 1
    assert float(found["rms_curl"]) < 0.1 * float(found["rms_curl_flipped"])
    field = det.electric_field(maps, rotation=float(found["rotation"]), flip=bool(found["flip"]))
    np.testing.assert_allclose(field["Ex"], gx, atol=0.02 * np.abs(gx).max())


def test_derivatives_and_gauss():
    _, gy, gx = atoms()
    volts = xr.Dataset({n: (("y", "x"), v, {"units": "V"}) for n, v in (("Ey", -gy), ("Ex", -gx))})
    made = det.derivatives(volts, step=0.02)
    inner = {"y": slice(2, -2), "x": slice(2, -2)}
    assert float(np.abs(made["curl"].isel(inner)).max()) < 0.03 * float(np.abs(made["divergence"]).max())
    # 1 V/nm over 1 nm is 1e18 V/m² · nm: epsilon_0 times that is 0.0553 e/nm².
    ratio = (made["charge"] / made["divergence"]).isel(inner)
    np.testing.assert_allclose(ratio, 0.0552635, rtol=1e-4)
