"""Pictures of waves and frames: phase as hue, amplitude as brightness, counts on a logarithmic scale."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from scanfold.conventions import InputError, InputTypeError
from scanfold.plot import complex_image, patterns
from scanfold.testing import CountingArray


def drawn(values) -> np.ndarray:
    return np.asarray(complex_image(values, ax=Figure().add_subplot()).images[0].get_array())


def test_brightness_is_the_amplitude_and_hue_the_phase():
    amplitude = np.tile(np.linspace(0, 1, 200), (3, 1))
    phase = np.array([[-2.0], [0.0], [2.5]])
    rgb = drawn(amplitude * np.exp(1j * phase))
    assert rgb.min() >= 0
    assert rgb.max() <= 1
    luminance = rgb @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance[:, :198], axis=1) > 0).all()
    assert not rgb[:, 0].any()
    # equal amplitudes are about equally bright whatever their phase
    assert np.ptp(luminance[:, 150]) < 0.12
    hues = [colorsys.rgb_to_hsv(*rgb[i, 150])[0] for i in range(3)]
    assert len({round(h, 1) for h in hues}) == 3
    again = [colorsys.rgb_to_hsv(*rgb[i, 60])[0] for i in range(3)]
    np.testing.assert_allclose(again, hues, atol=0.05)


def test_one_bright_pixel_does_not_darken_the_rest():
    values = np.ones((40, 40), complex)
    values[3, 3] = 1e6
    assert drawn(values)[20, 20].max() > 0.8


def test_axes_and_colours_are_labelled():
    array = xr.DataArray(np.ones((4, 5), complex), dims=("probe_y", "probe_x"), attrs={"long_name": "probe: disk"})
    figure = Figure()
    ax = complex_image(array.chunk(), ax=figure.add_subplot())
    assert ax.get_title() == "probe: disk"
    assert ax.get_xlabel() == "probe_x [pixel]"
    assert figure.axes[1].get_ylabel() == "phase [rad]"
    assert len(complex_image(array, ax=Figure().add_subplot(), colorbar=False).figure.axes) == 1


def test_frames_share_a_logarithmic_scale_and_only_they_are_read():
    values = np.zeros((30, 8, 8), np.float32)
    values[:, 4, 4] = np.arange(30) * 1000
    values[:, 2, 2] = 1
    source = CountingArray(values)
    figure = patterns(source.lazy(("position", "ky", "kx"), position=1), [3, 20, 29], figure=Figure())
    assert source.elements == 3 * 64
    *frames, bar = figure.axes
    assert [ax.get_title() for ax in frames] == ["position 3", "position 20", "position 29"]
    limits = {ax.images[0].get_clim() for ax in frames}
    assert limits == {(1.0, 29_000.0)}
    assert bar.get_yscale() == "log"


def test_frames_of_groups_are_named_by_group_and_channel():
    groups = xr.DataArray(np.ones((5, 4, 8, 8)), dims=("group", "channel", "ky", "kx"))
    assert patterns(groups, [6], figure=Figure()).axes[0].get_title() == "group 1, channel 2"
    assert len(patterns(groups).axes) == 7


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: complex_image(np.ones((2, 3, 4))), "two dimensions"),
        (lambda: complex_image(np.array([["a"]])), "complex numbers"),
        (lambda: patterns(xr.DataArray(np.ones((3, 4)), dims=("y", "x"))), "ky and kx"),
        (lambda: patterns(xr.DataArray(np.ones((3, 4, 4)), dims=("position", "ky", "kx")), [3]), "from 0 to 2"),
    ],
)
def test_wrong_input_is_refused(make, message):
    with pytest.raises((InputError, InputTypeError), match=message):
        make()
