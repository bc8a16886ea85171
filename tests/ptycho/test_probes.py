"""Probes: disks, lenses, aberrations, modes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special

from scanfold import ptycho
from scanfold.conventions import InputError, InputTypeError


@pytest.mark.parametrize("N", [64, 128])
def test_the_default_probe_is_a_disk_of_the_stated_radius(N):
    probe = ptycho.default_probe(N)
    radius = N * math.sqrt(2 * math.log(2)) / (0.7 * math.pi**2)
    assert abs(float(probe.real.sum()) / (math.pi * radius**2) - 1) < 0.03
    assert round(float(probe.real.sum())) == {64: 376, 128: 1500}[N]
    assert float(abs(probe - probe[::-1, ::-1]).max()) < 1e-6
    assert float(probe.real.max()) > 0.9
    assert float(probe.real.min()) > 0


def test_the_mask_has_the_radius_of_a_quarter():
    mask = ptycho.mask(64).values
    assert abs(mask.sum() / (math.pi * 16**2) - 1) < 0.02
    assert np.array_equal(mask, mask[::-1, ::-1])


def test_a_zone_plate_in_focus_makes_an_airy_disk():
    N, wavelength, pixel, diameter, zone = 128, 1.24e-10, 3e-8, 1e-4, 5e-8
    probe = ptycho.fresnel_zone_plate(N, wavelength=wavelength, pixel=pixel, diameter=diameter, outer_zone=zone)
    focus = diameter * zone / wavelength
    r = (np.arange(N) - (N - 1) / 2) * pixel
    v = math.pi * diameter * np.hypot(r[:, None], r) / (wavelength * focus)
    airy = np.abs(2 * special.j1(v) / v)
    core = v < 6
    np.testing.assert_allclose(abs(probe).values[core], airy[core] / airy.max(), atol=0.01)


def test_a_zone_plate_out_of_focus_is_as_wide_as_its_cone():
    options = {"wavelength": 1.24e-10, "pixel": 2e-8, "diameter": 1e-4, "outer_zone": 5e-8}
    focus = 1e-4 * 5e-8 / 1.24e-10
    wide = ptycho.fresnel_zone_plate(128, defocus=8e-4, **options)
    light = (abs(wide) ** 2).values
    r = (np.arange(128) - 63.5) * 2e-8
    inside = np.hypot(r[:, None], r) < 0.5 * 1e-4 * 8e-4 / focus * 1.1
    assert light[inside].sum() / light.sum() > 0.95
    half = np.hypot(r[:, None], r) < 0.25 * 1e-4 * 8e-4 / focus
    assert 0.2 < light[half].sum() / light.sum() < 0.35
    ring = ptycho.fresnel_zone_plate(128, defocus=8e-4, beam_stop=5e-5, **options)
    middle = np.hypot(r[:, None], r) < 0.5 * 4e-5 * 8e-4 / focus
    assert (abs(ring) ** 2).values[middle].sum() / (abs(ring) ** 2).values.sum() < 0.1


def test_zernike_polynomials_are_orthonormal():
    from scanfold.ptycho.probes import _zernike

    y, x = np.mgrid[-1:1:601j, -1:1:601j]
    rho, theta = np.hypot(y, x), np.arctan2(y, x)
    inside = rho <= 1
    made = [_zernike(n, m, rho, theta)[inside] for n, m in ((0, 0), (1, 1), (1, -1), (2, 0), (2, 2), (3, 1), (4, 0))]
    gram = np.array([[np.mean(a * b) for a in made] for b in made])
    np.testing.assert_allclose(gram, np.eye(len(made)), atol=0.02)


def test_tilt_moves_the_probe_and_defocus_widens_it():
    probe = ptycho.gaussian(64, 4.0)
    # over the pupil of radius N/2 a tilt of c waves has the slope 2c per radius: 4c pixels
    moved = ptycho.zernike(probe, {(1, 1): 1.0})
    at = np.unravel_index(np.argmax(abs(moved).values), (64, 64))
    assert np.allclose(abs(moved).values, np.roll(abs(probe).values, -2 * 2, axis=1), atol=0.02), at
    wide = ptycho.zernike(probe, {(2, 0): 2.0})
    np.testing.assert_allclose((abs(wide) ** 2).sum(), (abs(probe) ** 2).sum(), rtol=1e-5)
    assert abs(wide).max() < 0.9 * abs(probe).max()


def test_modes_are_orthogonal_and_share_the_power():
    probe = ptycho.default_probe(32)
    made = ptycho.modes(probe, (0.7, 0.2, 0.1)).values
    gram = np.einsum("ayx,byx->ab", made.conj(), made)
    power = float((abs(probe) ** 2).sum())
    np.testing.assert_allclose(gram, power * np.diag([0.7, 0.2, 0.1]), atol=1e-3)
    np.testing.assert_allclose(made[0] / np.sqrt(0.7), probe.values, atol=1e-5)


def test_a_probe_is_guessed_from_its_diffraction():
    probe = ptycho.gaussian(64, 5.0)
    far = np.abs(np.fft.fftshift(np.fft.fft2(probe.values)))
    guess = ptycho.from_data(far)
    middle = abs(guess).values
    y, x = np.mgrid[:64, :64] - 31.5
    width = math.sqrt((middle * x**2).sum() / middle.sum())
    assert 4.5 < width < 5.1
    assert abs(middle.sum() / float(abs(ptycho.default_probe(64)).sum()) - 1) < 1e-4
    assert not middle[np.hypot(y, x) > 17].any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ptycho.default_probe(2), "at least 4"),
        (lambda: ptycho.default_probe(64, scale=0), "above 0"),
        (lambda: ptycho.zernike(ptycho.default_probe(16), {(2, 1): 1.0}), "no Zernike"),
        (lambda: ptycho.modes(np.ones((2, 8, 8)), (1,)), "one probe"),
        (lambda: ptycho.modes(np.ones((8, 8)), ()), "one probe"),
        (lambda: ptycho.from_data(np.zeros((8, 8))), "not 0 everywhere"),
        (lambda: ptycho.from_data(np.ones((8, 9))), r"\(N, N\)"),
        (lambda: ptycho.zernike(np.array([["a"]]), {}), "complex numbers"),
        (
            lambda: ptycho.fresnel_zone_plate(64, wavelength=1e-10, pixel=2e-7, diameter=1e-4, outer_zone=5e-8),
            "must be at most",
        ),
        (
            lambda: ptycho.fresnel_zone_plate(
                64, wavelength=1e-10, pixel=2e-8, diameter=1e-4, outer_zone=5e-8, defocus=2e-3
            ),
            "defocus may be",
        ),
    ],
)
def test_wrong_input_is_refused(make, message):
    with pytest.raises((InputError, InputTypeError), match=message):
        make()
