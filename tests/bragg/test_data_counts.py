"""What becomes of counts: wavelengths, transmission, corrections, sums; each against an independent calculation."""

from __future__ import annotations

from decimal import Decimal, getcontext

import numpy as np
import pytest
import scipy.ndimage
import xarray as xr

from scanfold import bragg
from scanfold.bragg import tof as flight
from scanfold.conventions import InputError, InputTypeError
from scanfold.testing import assert_chunk_invariant, raise_if_computes

KINDS = ("signal", "openbeam", "empty_signal", "empty_openbeam")
BINS = 24


def counts(seed: int = 0, y: int = 6, x: int = 5, level: float = 400.0) -> dict[str, xr.DataArray]:
    rng = np.random.default_rng(seed)
    return {
        k: xr.DataArray(rng.poisson(level * (i + 1), (y, x, BINS)).astype(float), dims=("y", "x", "tof"))
        for i, k in enumerate(KINDS)
    }


def data_of(kinds: tuple[str, ...] = KINDS[:2], seed: int = 0, lazy: bool = True, **options) -> bragg.Data:
    arrays = {k: v for k, v in counts(seed).items() if k in kinds}
    return bragg.Data.from_grouped(**{k: v.chunk(y=2) if lazy else v for k, v in arrays.items()}, **options)


def test_wavelengths_are_those_of_exact_arithmetic():
    getcontext().prec = 60
    times, length = np.linspace(1e-4, 0.024, 40), 9.0
    found = flight.wavelength(times, length)
    for time, wavelength in zip(times, found, strict=True):
        beta = Decimal(length) / (Decimal(299_792_458) * Decimal(float(time)))
        gamma = 1 / (1 - beta * beta).sqrt()
        energy = (gamma - 1) * Decimal("939.56542052e6")
        expected = (Decimal("0.0818042") / energy).sqrt()
        assert abs(float(expected) / wavelength - 1) < 1e-14
    np.testing.assert_allclose(flight.tof(found, length), times, rtol=1e-14)
    # and near the constant of the field, λ[Å] = 3956.034·t/L
    np.testing.assert_allclose(found, 3956.034 * times / length, rtol=1e-6)


def test_l0_and_t0_shift_the_axis_t0_in_seconds():
    plain, shifted = (
        data_of(lazy=False, tstep=1e-5, L=9, **o).dataset["tof"].values for o in ({}, {"L0": 0.99, "t0": 3e-5})
    )
    channel = np.arange(1, BINS + 1)
    np.testing.assert_allclose(plain, 1e-5 * channel, rtol=1e-14)
    np.testing.assert_allclose(shifted, 1e-5 * (channel + 0.01 * channel) + 3e-5, rtol=1e-14)


def test_transmission_and_its_error_bin_by_bin():
    values = data_of(KINDS).dataset.compute()
    c = counts()
    for y, x, t in np.ndindex(6, 5, BINS):
        s, o, se, oe = (float(c[k][y, x, t]) for k in KINDS)
        expected = s / o * (oe / se)
        error = expected * np.sqrt(1 / s + 1 / o + 1 / se + 1 / oe)
        assert values["transmission"][y, x, t] == pytest.approx(expected, rel=1e-13)
        assert values["transmission_err"][y, x, t] == pytest.approx(error, rel=1e-13)
        assert values["empty_ratio"][y, x, t] == pytest.approx(oe / se, rel=1e-13)


def test_bins_without_counts():
    signal, openbeam = np.array([0.0, 5, 5, 0]), np.array([10.0, 0, 10, 0])
    with np.errstate(all="raise"):
        t = bragg.Data.from_counts(signal, openbeam).table
    np.testing.assert_array_equal(t["trans"], [0, np.nan, 0.5, np.nan])
    np.testing.assert_allclose(t["err"], [np.nan, np.nan, 0.5 * np.sqrt(1 / 5 + 1 / 10), np.nan])


def test_everything_is_lazy_and_nothing_changes_what_it_is_made_of():
    data = data_of(KINDS)
    before = data.dataset.copy()
    with raise_if_computes():
        for changed in (
            data.rebin(tof=2, y=2, x=2), data.smooth(y=3, x=3), data.crop(0.01, 0.08, y=(1, 4)),
            data.mask(np.eye(6, 5, dtype=bool)), data.subset([(0, 0), (5, 4)]), data.roi(a={"y": (0, 2)}),
            data.normalise_charge(1, 2, 3, 4), data.correct_overlap(1e5), data.correct_dead_time(1e-7, 1e5),
            data.subtract_dark(2.0), data + data,
        ):  # fmt: skip
            assert changed.dataset["transmission"].chunks is not None
    assert before.identical(data.dataset)


@pytest.mark.parametrize("kinds", [KINDS[:2], KINDS])
def test_sums_of_measurements(kinds):
    a, b = data_of(kinds, 1), data_of(kinds, 2)
    both = (a + b).dataset.compute()
    total = {k: counts(1)[k] + counts(2)[k] for k in kinds}
    expected = bragg.Data.from_grouped(**total).dataset
    # √(n₁ + n₂) is what the sum of counts has: errors add in quadrature, and the empty-beam term stays
    xr.testing.assert_allclose(both, expected, rtol=1e-13)
    a += b
    xr.testing.assert_identical(a.dataset.compute(), both)
    more = data_of(kinds, 1).add_groups(**{k: v for k, v in counts(2).items() if k in kinds})
    xr.testing.assert_identical(more.dataset.compute(), both)


def test_measurements_that_do_not_add_up():
    data = data_of()
    for other, message in (
        (data_of(L=10), "L differs: 9.0 and 10.0"),
        (data_of(tstep=2e-5), "tstep differs"),
        (data_of(t0=1e-6), "wavelength grids differ"),
        (data.rebin(tof=2), "wavelength grids differ"),
        (data.subset([(0, 0), (0, 1)]), "groups differ: 30 from"),
        (data_of(KINDS), "must have the same counts"),
        (data.normalise_charge(1, 2), "normalised by its exposure"),
    ):
        with pytest.raises(ValueError, match=message):
            data + other
    with pytest.raises(InputTypeError, match="do not add up"):
        data + bragg.Data.from_counts(np.ones(BINS), np.ones(BINS))
    with pytest.raises(TypeError):
        data + 1


def test_charge_scales_the_transmission_and_leaves_the_counts():
    data = data_of()
    charge = np.linspace(1, 2, 30).reshape(6, 5)
    scaled = data.normalise_charge(signal=charge, openbeam=4.0).dataset.compute()
    plain = data.dataset.compute()
    xr.testing.assert_identical(scaled["signal"], plain["signal"])
    for name in ("transmission", "transmission_err"):
        np.testing.assert_allclose(scaled[name], plain[name] * (4.0 / charge)[..., None], rtol=1e-13)
    by_index = dict(zip(data.indices, charge.ravel(), strict=True))
    again = data.normalise_charge(signal=by_index, openbeam=4.0).dataset
    xr.testing.assert_identical(again.compute(), scaled)
    # of two measurements, charges add as counts do
    both = (data.normalise_charge(1.0, 2.0) + data_of(seed=3).normalise_charge(3.0, 5.0)).dataset.compute()
    s, o = (counts(0)[k] + counts(3)[k] for k in KINDS[:2])
    np.testing.assert_allclose(both["transmission"], (s / 4.0) / (o / 7.0), rtol=1e-13)
    with pytest.raises(InputError, match="charge of openbeam is missing"):
        data.normalise_charge(1.0, None)
    with pytest.raises(InputError, match="above 0"):
        data.normalise_charge(0.0, 1.0)
    with pytest.raises(InputError, match=r"group '\(0,0\)' is missing"):
        data.normalise_charge({"(1,1)": 2.0}, 1.0)


def test_overlap_correction_undoes_what_a_detector_of_one_event_per_window_does():
    # λ true neutrons in a bin and frame; the pixel records the first of each window of a frame
    frames, windows = 1e9, [0, 10]
    true = np.full(BINS, 0.02)
    recorded = np.empty(BINS)
    for first, last in zip(windows, [10, BINS], strict=True):
        for i in range(first, last):
            recorded[i] = frames * np.exp(-true[first:i].sum()) * (1 - np.exp(-true[i]))
    data = bragg.Data.from_counts(recorded, recorded, tstep=1e-5)
    fixed = data.correct_overlap(frames, windows=[10.5e-5]).dataset
    # exact but for several neutrons in one bin, which the formula does not know: λ/2
    np.testing.assert_allclose(fixed["signal"], frames * true, rtol=0.011)
    assert np.abs(recorded / (frames * true) - 1).max() > 0.2
    np.testing.assert_allclose(fixed["signal_err"] / fixed["signal"], 1 / np.sqrt(recorded), rtol=1e-12)
    with pytest.raises(InputError, match="the data run from"):
        data.correct_overlap(frames, windows=[1.0])
    with pytest.raises(InputError, match="above 0"):
        data.correct_overlap(0)
    # more counts than frames is no measurement
    assert bool(data.correct_overlap(1e6).dataset["signal"].isnull().any())


def test_dead_time_correction_undoes_a_dead_time():
    pulses, width, tau = 1e6, 1e-5, 4e-7
    true_rate = np.linspace(1e4, 5e5, BINS)
    recorded = pulses * width * true_rate / (1 + true_rate * tau)  # a non-paralysable detector
    data = bragg.Data.from_counts(recorded, recorded[::-1].copy(), tstep=width)
    fixed = data.correct_dead_time(tau, {"signal": pulses, "openbeam": pulses}).dataset
    np.testing.assert_allclose(fixed["signal"], pulses * width * true_rate, rtol=1e-10)
    with pytest.raises(InputError, match="pulses of openbeam is missing"):
        data.correct_dead_time(tau, {"signal": pulses})


def test_dark_counts():
    data = data_of()
    dark = xr.DataArray(np.arange(BINS, dtype=float), dims="tof")
    without = data.subtract_dark(dark, scale={"signal": 2.0, "openbeam": 0.5}).dataset.compute()
    c = counts()
    np.testing.assert_allclose(without["signal"], c["signal"] - 2 * dark, rtol=1e-13)
    np.testing.assert_allclose(without["signal_err"], np.sqrt(c["signal"] + 4 * dark), rtol=1e-13)
    np.testing.assert_allclose(without["openbeam_err"], np.sqrt(c["openbeam"] + 0.25 * dark), rtol=1e-13)
    by_pixel = data.subtract_dark(xr.DataArray(np.full((6, 5), 3.0), dims=("y", "x"))).dataset
    np.testing.assert_allclose(by_pixel["signal"], c["signal"] - 3, rtol=1e-13)
    with pytest.raises(InputError, match="did you mean 'signal'"):
        data.subtract_dark(dark, scale={"singal": 2.0})
    with pytest.raises(InputError, match="dark has 3 along 'tof'"):
        data.subtract_dark(dark[:3])


def test_rebinning_adds_counts():
    coarse = data_of(KINDS).rebin(tof=5, y=2, x=3).dataset.compute()
    c = counts()
    for k in KINDS:
        expected = c[k].values[:6, :3, :20].reshape(3, 2, 1, 3, 4, 5).sum(axis=(1, 3, 5))
        np.testing.assert_array_equal(coarse[k], expected)
        np.testing.assert_allclose(coarse[f"{k}_err"], np.sqrt(expected), rtol=1e-13)
    np.testing.assert_allclose(coarse["tof"], 1e-5 * np.arange(1, 21).reshape(4, 5).mean(axis=1), rtol=1e-13)
    assert coarse["y"].values.tolist() == [0.5, 2.5, 4.5]
    for wrong, message in (({"tof": 0}, "from 1 to 24"), ({"z": 2}, "unknown dimension"), ({"y": 1.5}, "whole number")):
        with pytest.raises(InputError, match=message):
            data_of().rebin(**wrong)


def test_rebinning_a_transmission_averages_it():
    values, errors = np.linspace(0.1, 0.9, 6), np.full(6, 0.02)
    ds = xr.Dataset({"transmission": ("tof", values), "transmission_err": ("tof", errors)},
                    coords={"wavelength": ("tof", np.linspace(1, 2, 6))})  # fmt: skip
    coarse = bragg.Data.from_dataset(ds).rebin(tof=2).dataset
    np.testing.assert_allclose(coarse["transmission"], values.reshape(3, 2).mean(axis=1))
    np.testing.assert_allclose(coarse["transmission_err"], np.full(3, 0.02 / np.sqrt(2)))
    np.testing.assert_allclose(coarse["wavelength"], [1.1, 1.5, 1.9], rtol=1e-9)


def test_a_shared_open_beam_counts_once_for_every_pixel_that_is_summed():
    c = counts()
    beam = np.linspace(900, 1100, BINS)
    data = bragg.Data.from_grouped(c["signal"].chunk(y=2), beam)
    for summed, pixels in ((data.rebin(y=3, x=5), 15), (data.roi(a={"y": (0, 2)}, b={"y": (3, 5)}), 15)):
        ds = summed.dataset.compute()
        total = c["signal"].values.reshape(2, 3, 5, BINS).sum(axis=(1, 2)).reshape(ds["signal"].shape)
        np.testing.assert_allclose(ds["transmission"], total / (pixels * beam), rtol=1e-13)
        relative = np.sqrt(1 / total + 1 / beam)
        np.testing.assert_allclose(ds["transmission_err"] / ds["transmission"], relative, rtol=1e-13)


def test_windows_overlap_as_a_moving_sum():
    c = counts()
    smooth = data_of().smooth(y=3, x=5).dataset.compute()
    for k in KINDS[:2]:
        total = scipy.ndimage.uniform_filter(c[k].values, (3, 5, 1), mode="constant") * 15
        np.testing.assert_allclose(smooth[k], total, rtol=1e-12)
        np.testing.assert_allclose(smooth[f"{k}_err"], np.sqrt(total), rtol=1e-12)
    with pytest.raises(InputError, match="odd size"):
        data_of().smooth(y=2)
    with pytest.raises(InputError, match="unknown dimension with neighbours"):
        data_of().smooth(tof=3)


def test_pixels_that_were_left_out_do_not_count():
    bad = np.zeros((6, 5), bool)
    bad[0, 0] = bad[3, 2] = True
    data = data_of().mask(bad)
    assert len(data) == 28
    assert "(0,0)" not in data.groups
    c = {k: v.where(xr.DataArray(~bad, dims=("y", "x"))).fillna(0) for k, v in counts().items()}
    for k in KINDS[:2]:
        coarse = data.rebin(y=2, x=5).dataset.compute()[k]
        np.testing.assert_allclose(coarse, c[k].values.reshape(3, 2, 1, 5, BINS).sum(axis=(1, 3)), rtol=1e-13)
        np.testing.assert_allclose(data.roi(all={"y": (0, 5)}).dataset[k][0], c[k].sum(("y", "x")), rtol=1e-13)
        window = data.smooth(y=3).dataset.compute()[k]
        np.testing.assert_allclose(window[1, 1], c[k][0:3, 1].sum("y"), rtol=1e-13)
    with pytest.raises(InputError, match="leaves no position"):
        data.mask(np.ones((6, 5), bool))
    with pytest.raises(InputError, match="expected bool"):
        data.mask(np.zeros((5, 6), bool))


def test_parts():
    data = data_of()
    wavelength = data.dataset["wavelength"].values
    part = data.crop(wavelength[3], wavelength[7], y=(1, 2), x=(None, 3))
    assert part.dataset.sizes == {"y": 2, "x": 4, "tof": 5}
    np.testing.assert_array_equal(part.groups[(1, 3)]["signal"], counts()["signal"][1, 3, 3:8])
    with pytest.raises(InputError, match="no bin lies between wlmin=50 and wlmax=60"):
        data.crop(50, 60)
    some = data.subset(["(5,4)", (1, 2)])
    assert some.indices == ["(1,2)", "(5,4)"]
    assert some.group_shape == (5, 3)
    line = bragg.Data.from_grouped(counts()["signal"][0].rename(x="position"), np.ones(BINS))
    assert line.subset(["3", 1]).indices == ["3", "1"]
    assert line.crop(position=(1, 2)).indices == ["1", "2"]
    with pytest.raises(InputError, match="a list such as"):
        line.subset("3")


def test_regions_are_sums_by_name():
    data = data_of()
    inside = np.zeros((6, 5), bool)
    inside[2:4, 1:3] = True
    regions = data.roi(box={"y": (2, 3), "x": (1, 2)}, mask=inside, pixels=[(2, 1), (2, 2), (3, 1), (3, 2)])
    assert regions.indices == ["box", "mask", "pixels"]
    expected = counts()["signal"][2:4, 1:3].sum(("y", "x"))
    for name in regions.indices:
        np.testing.assert_array_equal(regions.groups[name]["signal"], expected)
    with pytest.raises(InputError, match="holds no position"):
        data.roi(nothing={"y": (50, 60)})
    with pytest.raises(InputError, match="roi takes regions"):
        data.roi()


@pytest.mark.parametrize("operation", [
    lambda d: d, lambda d: d.rebin(y=2, tof=3), lambda d: d.smooth(y=3, x=3), lambda d: d.correct_overlap(1e6),
    lambda d: d.mask(np.eye(6, 5, dtype=bool)).roi(a={"y": (1, 4)}),
])  # fmt: skip
def test_chunks_do_not_matter(operation):
    c = counts()

    def operate(signal: xr.DataArray) -> xr.Dataset:
        return operation(bragg.Data.from_grouped(signal, c["openbeam"])).dataset

    assert_chunk_invariant(operate, c["signal"].rename("signal"), [{}, {"y": 1}, {"y": 4, "x": 3}, {"x": 1}])
