"""Objects: their formulas, the same values in tiles, the same density on any canvas."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import ndimage

import scanfold as sf
from scanfold import ptycho
from scanfold.conventions import InputError, InputTypeError
from scanfold.ptycho import _object_kernels as kernels
from scanfold.ptycho import objects
from scanfold.ptycho.objects import OBJECTS
from scanfold.testing import raise_if_computes

KEY = np.array([3, 4], np.uint64)


@pytest.mark.parametrize("kind", sorted(OBJECTS))
@pytest.mark.parametrize("phase", [False, True])
def test_tiles_make_no_difference(kind, phase):
    whole = OBJECTS[kind](90, seed=5, phase=phase)
    assert whole.chunks is None
    for tile in (17, 64):
        with raise_if_computes():
            tiled = OBJECTS[kind](90, seed=5, phase=phase, chunks=tile)
        assert len(tiled.chunks[0]) > 1
        assert np.array_equal(tiled.values, whole.values)


@pytest.mark.parametrize("kind", sorted(OBJECTS))
def test_seeds_count(kind):
    make = OBJECTS[kind]
    assert np.array_equal(make(64, seed=1).values, make(64, seed=1).values)
    assert not np.array_equal(make(64, seed=1).values, make(64, seed=2).values)
    assert np.isfinite(make(64, seed=1).values).all()
    assert (abs(make(64, seed=1)) > 0).any()


def test_lines_are_the_sum_of_three_blurs():
    edge = 300
    sharp = np.zeros((edge, edge))
    kernels.draw_lines(sharp, 0, 0, edge, 784.0, 30, KEY)
    assert set(np.unique(sharp)) == {0.0, 1.0}

    def draw(out, y0, x0):
        kernels.draw_lines(out, y0, x0, edge, 784.0, 30, KEY)

    blur = lambda s: ndimage.gaussian_filter(sharp, s)  # noqa: E731
    expected = (blur(1) + 2 * blur(5) + 5 * blur(10))[100:200, 100:200]
    made = kernels.blurred(draw, (100, 200, 100, 200), (1.0, 5.0, 10.0), (1.0, 2.0, 5.0))
    np.testing.assert_allclose(made, expected, atol=1e-12)


def test_a_line_is_connected():
    whole = 0
    for k in range(20):
        sharp = np.zeros((1000, 1000))
        kernels.draw_lines(sharp, 0, 0, 1000, 150.0, 1, np.array([k, 0], np.uint64))
        edges = sharp[0].any() or sharp[-1].any() or sharp[:, 0].any() or sharp[:, -1].any()
        _, parts = ndimage.label(sharp, np.ones((3, 3)))
        assert parts == 1 or edges
        height, width = (np.ptp(p) + 1 for p in np.nonzero(sharp))
        assert sharp.sum() in (max(height, width), max(height, width) + 1) or edges
        whole += not edges
    assert whole > 12


def test_lines_are_as_dense_on_any_canvas():
    means = [
        np.mean([abs(ptycho.lines(s, seed=k)).mean() for k in range(n)]) for s, n in ((100, 40), (392, 8), (1200, 1))
    ]
    assert max(means) / min(means) < 1.15


def test_the_phase_is_that_of_the_formula():
    plain, turned = ptycho.lines(80, seed=2), ptycho.lines(80, seed=2, phase=True)
    A = plain.real.values.astype(float)
    phi = np.pi * np.tanh((A - A.max() / 2) / (3 * A.mean()))
    np.testing.assert_allclose(turned.values, A * np.exp(1j * phi), atol=1e-5)
    assert not plain.imag.any()


def test_points_are_in_a_tenth_of_the_cells():
    sharp = np.zeros((150, 150))
    kernels.draw_points(sharp, 0, 0, 150, 2250, KEY)
    assert sharp.sum() == 2250
    assert sharp.max() > 1  # with replacement
    once = ndimage.gaussian_filter(sharp, 1.0, mode="constant")
    expected = once + 5 * ndimage.gaussian_filter(once, 10.0, mode="constant")
    made = abs(ptycho.points(150, seed=0))
    assert made.max() < 2 * expected.max()
    np.testing.assert_allclose(float(made.mean()), expected.mean(), rtol=0.02)


def test_the_random_field_has_the_power_law():
    field = np.mean(
        [abs(np.fft.fft2(kernels.random_field(128, -1.5, np.random.default_rng(k)))) ** 2 for k in range(30)], axis=0
    )
    f = np.fft.fftfreq(128)
    k = np.hypot(f[:, None], f)
    keep = (k > 0.02) & (k < 0.5)
    slope = np.polyfit(np.log(k[keep]), np.log(field[keep]), 1)[0]
    assert abs(slope + 1.5) < 0.05


def test_a_random_field_in_tiles_is_made_once(monkeypatch):
    made = []
    monkeypatch.setattr(objects, "_random_field", lambda c, f=objects._random_field: (made.append(c), f(c))[1])
    field = ptycho.grf(90, seed=5, chunks=20, phase=True).compute()
    assert len(made) == 1
    assert np.array_equal(field, ptycho.grf(90, seed=5, phase=True))


def test_leaves_cover_the_canvas_in_flat_discs():
    out = np.zeros((120, 120))
    kernels.draw_leaves(out, 0, 0, 120, (4.0, 40.0), KEY)
    assert np.isfinite(out).all()
    assert ((out > 0) & (out < 1)).all()
    values, counts = np.unique(out, return_counts=True)
    assert len(values) < out.size / 20
    assert counts.max() > 100


def test_the_star_has_as_many_spokes():
    star = abs(ptycho.siemens_star(201, spokes=12)).values
    angle = np.linspace(0, 2 * np.pi, 2000, endpoint=False)
    ring = ndimage.map_coordinates(star, [100 + 60 * np.sin(angle), 100 + 60 * np.cos(angle)], order=1) > 0.5
    assert np.count_nonzero(ring != np.roll(ring, 1)) == 24


def test_a_large_canvas_is_lazy_and_saved_in_tiles(tmp_path):
    with raise_if_computes():
        large = ptycho.lines(3000, seed=1)
    assert large.chunks is not None
    assert np.array_equal(
        large[1020:1060, 2000:2070].values, ptycho.lines(3000, seed=1, chunks=500)[1020:1060, 2000:2070]
    )
    turned = ptycho.dead_leaves(300, seed=1, phase=True, chunks=100)
    saved = sf.save(turned, tmp_path / "object.zarr", progress=False)
    xr.testing.assert_equal(saved["object"].compute(), ptycho.dead_leaves(300, seed=1, phase=True))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ptycho.lines(0), "at least 4"),
        (lambda: ptycho.lines(64.5), "whole number"),
        (lambda: ptycho.lines(64, seed=-1), "at least 0"),
        (lambda: ptycho.lines(64, nlines=0), "at least 1"),
        (lambda: ptycho.points(64, share=0), "above 0"),
        (lambda: ptycho.dead_leaves(64, radii=(8, 4)), "smaller first"),
        (lambda: ptycho.siemens_star(64, spokes=0), "at least 1"),
        (lambda: ptycho.grf(64, exponent=np.nan), "finite"),
        (lambda: ptycho.sim_object_image(64, data_source="leaves"), "dead_leaves"),
    ],
)
def test_wrong_input_is_refused(make, message):
    with pytest.raises((InputError, InputTypeError), match=message):
        make()
