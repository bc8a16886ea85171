"""Figures: what is drawn is where, and as large, as the data say."""

from __future__ import annotations

import io

import matplotlib.image
import numpy as np
import pytest
import xarray as xr

from scanfold.detectors import figures
from scanfold.detectors.canvas import Surface, nice_length, scale_bar


def maps(ex: np.ndarray, ey: np.ndarray, **coords) -> xr.Dataset:
    dims = ("y", "x") if ex.ndim == 2 else ("position",)
    field = {"Ex": ex, "Ey": ey, "E_mag": np.hypot(ex, ey), "com_x": ex, "com_y": ey}
    ds = xr.Dataset({n: ((*dims, "detector"), np.stack([v, v], -1), {"units": "V"}) for n, v in field.items()})
    ds["frame_valid"] = (dims, np.ones(ex.shape, bool))
    return ds.assign_coords(detector=np.array(["disc", "adaptive"], object), **coords)


def drawn(figure) -> np.ndarray:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=60)
    return matplotlib.image.imread(io.BytesIO(buffer.getvalue()))[..., :3]


def test_opposite_directions_have_opposite_colours_and_zero_is_black():
    angle = np.linspace(-np.pi, np.pi, 16, endpoint=False)
    there = figures.colours_of(np.cos(angle), np.sin(angle), 1.0)
    back = figures.colours_of(-np.cos(angle), -np.sin(angle), 1.0)
    np.testing.assert_allclose(there + back, 1.0, atol=1e-9)
    assert (figures.colours_of(np.zeros(1), np.zeros(1), 1.0) == 0).all()


def test_the_wheel_has_the_colours_of_the_map():
    # A field to the right everywhere: the map has one colour, that of the wheel where it says +x.
    figure = figures.hsv_map(maps(np.ones((9, 12)), np.zeros((9, 12))), ["disc"])
    panel, wheel = figure.axes
    on_map = panel.images[0].get_array()[4, 6]
    on_wheel = wheel.images[0].get_array()[100, 200, :3]
    np.testing.assert_allclose(on_map, on_wheel, atol=1e-9)
    words = {t.get_text(): t.get_position() for t in wheel.texts}
    left, right, bottom, _ = wheel.images[0].get_extent()
    assert words["+x"][0] > right > left
    # y points down: +y stands below, on an axis that is turned over as that of the map is.
    assert words["+y"][1] == 1.25
    assert bottom == 1
    assert wheel.yaxis_inverted()
    assert panel.yaxis_inverted()


def test_arrows_point_where_the_field_does_on_the_screen():
    ey, ex = np.full((8, 10), 2.0), np.zeros((8, 10))  # downwards
    figure = figures.quiver(maps(ex, ey), "disc")
    figure.canvas.draw()
    (ax, _) = figure.axes
    arrows = next(c for c in ax.collections if hasattr(c, "U"))
    assert (arrows.angles, arrows.scale_units) == ("xy", "xy")
    start = ax.transData.transform((4, 4))
    end = ax.transData.transform((4 + arrows.U[0] / arrows.scale, 4 + arrows.V[0] / arrows.scale))
    assert end[1] < start[1] - 5  # pixels of the canvas count upwards
    assert abs(end[0] - start[0]) < 1e-6


def test_arrows_are_means_over_squares():
    rng = np.random.default_rng(0)
    ex, ey = rng.normal(size=(64, 96)), rng.normal(size=(64, 96))
    x, _, u, v = Surface(maps(ex, ey)).arrows(ex, ey, 32)
    assert len(x) == 32 * 22  # squares of 3
    np.testing.assert_allclose(u[0], ex[:3, :3].mean())
    np.testing.assert_allclose(v[-1], ey[63:, 93:].mean())
    ex[:3, :3] = np.nan
    assert len(Surface(maps(ex, ey)).arrows(ex, ey, 32)[0]) == 32 * 22 - 1


@pytest.mark.parametrize(("span", "length"), [(128, 20), (100, 20), (56, 10), (0.9, 0.1), (5.2, 1)])
def test_scale_bars_have_round_lengths(span, length):
    assert nice_length(span) == pytest.approx(length)


def test_a_scale_bar_is_as_long_as_it_says():
    from matplotlib.figure import Figure

    ax = Figure().add_subplot()
    ax.imshow(np.zeros((40, 56)))
    scale_bar(ax, 0.5, "nm")
    assert ax.texts[0].get_text() == "5 nm"
    assert np.ptp(ax.lines[0].get_xdata()) * 0.5 == pytest.approx(5)


def test_a_map_in_nm_has_its_bar_in_nm():
    x = xr.DataArray(np.arange(12) * 2.0, dims="x", attrs={"units": "nm"})
    surface = Surface(maps(np.ones((9, 12)), np.ones((9, 12)), x=x))
    assert (surface.step, surface.units) == (2.0, "nm")


def test_both_components_share_one_symmetric_scale():
    ex, ey = np.full((6, 7), 3.0), np.full((6, 7), -1.0)
    figure = figures.com_components(maps(ex, ey))
    panels = [a.images[0] for a in figure.axes if a.images and a.images[0].get_array().shape == (6, 7)]
    assert len(panels) == 4
    assert {p.get_clim() for p in panels} == {(-3.0, 3.0)}


def test_free_positions_are_drawn_where_they_are():
    rng = np.random.default_rng(3)
    y, x = rng.uniform(-50, 50, (2, 40))
    ds = maps(np.ones(40), np.zeros(40), position_y=("position", y), position_x=("position", x))
    figure = figures.quiver(ds, "disc")
    ax = figure.axes[0]
    np.testing.assert_allclose(ax.collections[0].get_offsets(), np.stack([x, y], 1))
    assert ax.yaxis_inverted()
    assert drawn(figure).std() > 0.05


def test_what_is_not_known_is_grey():
    ex = np.ones((5, 6))
    ex[2, 3] = np.nan
    figure = figures.hsv_map(maps(ex, np.zeros((5, 6))), ["disc"])
    np.testing.assert_allclose(figure.axes[0].images[0].get_array()[2, 3], 0.74, atol=0.01)
