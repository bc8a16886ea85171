"""Random numbers: the generator's published answers, and the distributions drawn from it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from scanfold.ptycho import _random_kernels as kernels

from . import oracle

KEY = np.array([7, 11], np.uint64)
#: Counter, key and result, from the tests of Random123, the authors' library.
KNOWN = [
    ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_the_generator_gives_the_published_words(counter, key, expected):
    assert tuple(int(w) for w in kernels.philox(*map(np.uint64, (*counter, *key)))) == expected
    assert tuple(oracle.philox(counter, key)) == expected


@pytest.mark.parametrize("pixels", [16, 25])
def test_the_words_of_a_frame_are_those_of_their_counters(pixels):
    position = 5 + (3 << 32)
    first, second = (np.zeros(pixels + pixels % 2, np.uint32) for _ in range(2))
    kernels.words(position, KEY, first, second)
    half = first.size // 2
    for i in range(half):
        words = oracle.philox((i, 0, 5, 3), (7, 11))
        assert [first[i], second[i], first[half + i], second[half + i]] == words


def draw(mean: float, frames: int, pixels: int = 4096) -> np.ndarray:
    means, out = np.full(pixels, mean), np.empty((frames, pixels))
    first, second = np.empty(pixels, np.uint32), np.empty(pixels, np.uint32)
    for number in range(frames):
        kernels.poisson_frame(means, number, KEY, first, second, out[number])
    return out.ravel()


@pytest.mark.parametrize("mean", [0.02, 0.7, 3.0, 9.99, 10.0, 14.0, 40.0, 200.0])
def test_photon_numbers_have_the_poisson_distribution(mean):
    drawn = draw(mean, 50)
    k = np.arange(int(stats.poisson.ppf(1e-5, mean)), int(stats.poisson.ppf(1 - 1e-5, mean)) + 1)
    expected = stats.poisson.pmf(k, mean) * drawn.size
    keep = expected >= 5
    observed = np.array([(drawn == value).sum() for value in k[keep]])
    rest = drawn.size - observed.sum(), drawn.size - expected[keep].sum()
    chi2 = ((observed - expected[keep]) ** 2 / expected[keep]).sum() + (rest[0] - rest[1]) ** 2 / max(rest[1], 1.0)
    assert stats.chi2.sf(chi2, keep.sum()) > 1e-4


@pytest.mark.parametrize("mean", [1e4, 3e6, 1e9])
def test_large_photon_numbers_have_the_poisson_distribution(mean):
    drawn = draw(mean, 25)
    # the distribution function at each number, spread over its step, is uniform
    low, high = stats.poisson.cdf(drawn - 1, mean), stats.poisson.cdf(drawn, mean)
    u = low + (high - low) * np.random.default_rng(0).random(drawn.size)
    assert stats.kstest(u, "uniform").pvalue > 1e-4
    assert np.array_equal(drawn, np.rint(drawn))


@pytest.mark.parametrize("mean", [12.0, 130.0, 5e3, 1e7])
def test_the_probability_keeps_its_digits(mean):
    k = np.rint(mean + np.sqrt(mean) * np.array([-3.0, 0.0, 4.0]))
    ours = np.array([kernels.log_probability(v, mean) for v in k])
    np.testing.assert_allclose(ours, stats.poisson.logpmf(k, mean), atol=max(1e-9, 1e-15 * mean * 20), rtol=0)


def test_pixels_and_positions_are_independent():
    frames = draw(30.0, 64).reshape(64, 4096) - 30.0
    between_pixels = (frames[:, 1:] * frames[:, :-1]).mean() / 30.0
    between_halves = (frames[:, :2048] * frames[:, 2048:]).mean() / 30.0
    between_positions = (frames[1:] * frames[:-1]).mean() / 30.0
    limit = 4.5 / np.sqrt(64 * 2048)
    assert max(abs(between_pixels), abs(between_halves), abs(between_positions)) < limit


def test_no_light_gives_no_photon():
    assert not draw(0.0, 2).any()
