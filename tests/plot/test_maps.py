"""What maps show: values where they belong, grey where nothing is known, colours within robust limits."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

import scanfold as sf
from scanfold.conventions import InputError, InputTypeError
from scanfold.fitting import STATUS
from scanfold.plot import colours, parameter_map
from scanfold.plot.positions import indices, kept


def grid() -> xr.Dataset:
    """Return 3 × 4 maps with one position of each kind: fitted, poor, not fitted."""
    center = np.arange(12.0).reshape(3, 4) + 100
    status = np.full((3, 4), STATUS["converged"], np.int8)
    redchi = np.ones((3, 4))
    center[0, 1], status[0, 1], redchi[0, 1] = np.nan, STATUS["failed"], np.nan
    status[2, 3], redchi[2, 3] = STATUS["poor_fit"], 50.0
    flags = {"flag_values": list(STATUS.values()), "flag_meanings": " ".join(STATUS)}
    return xr.Dataset(
        {
            "center": (("y", "x"), center, {"long_name": "peak position", "units": "1/cm"}),
            "center_stderr": (("y", "x"), np.full((3, 4), 0.5), {"long_name": "error", "units": "1/cm"}),
            "redchi": (("y", "x"), redchi),
            "status": (("y", "x"), status, flags),
            "covar": (("y", "x", "param_i", "param_j"), np.zeros((3, 4, 1, 1))),
        },
        coords={"y": ("y", [0.0, 2.0, 4.0], {"units": "um"}), "x": ("x", [1.0, 3.0, 5.0, 7.0], {"units": "um"})},
    )


def axes():
    return Figure().add_subplot()


def colour_at(ax, x: float, y: float) -> tuple[float, ...]:
    """Return the colour that an image shows at a coordinate."""
    image = ax.images[0]
    left, right, bottom, top = image.get_extent()
    values = image.get_array()
    row = int((y - bottom) / (top - bottom) * values.shape[0])
    column = int((x - left) / (right - left) * values.shape[1])
    return image.cmap(image.norm(values))[row, column]


def test_the_image_shows_each_value_at_its_coordinates():
    ax = parameter_map(grid(), "center", ax=axes())
    image = ax.images[0]
    assert image.get_extent() == [0, 8, -1, 5]
    assert image.origin == "lower"
    np.testing.assert_array_equal(image.get_array().filled(np.nan), grid()["center"].values)


def test_descending_coordinates_are_drawn_ascending():
    reverse = grid().isel(y=slice(None, None, -1), x=slice(None, None, -1))
    ax = parameter_map(reverse, "center", ax=axes())
    assert ax.images[0].get_extent() == [0, 8, -1, 5]
    np.testing.assert_array_equal(ax.images[0].get_array().filled(np.nan), grid()["center"].values)


def test_transposed_variables_are_drawn_alike():
    fits = grid()
    fits["center"] = fits["center"].transpose("x", "y")
    ax = parameter_map(fits, "center", ax=axes())
    np.testing.assert_array_equal(ax.images[0].get_array().filled(np.nan), grid()["center"].values)


def test_positions_without_values_and_outside_the_query_are_grey():
    ax = parameter_map(grid(), "center", query="status == 'converged' and redchi < 2", ax=axes())
    grey = to_rgba(colours.GREY)
    assert colour_at(ax, 3.0, 0.0) == pytest.approx(grey)  # not fitted
    assert colour_at(ax, 7.0, 4.0) == pytest.approx(grey)  # poor
    assert colour_at(ax, 1.0, 0.0) != pytest.approx(grey)
    assert "grey: 2 of 12 positions" in ax.texts[0].get_text()


@pytest.mark.parametrize("name", [colours.SEQUENTIAL, colours.DIVERGING])
def test_no_value_has_the_grey_of_a_missing_one(name: str):
    shown = colours.grey_map(name)(np.linspace(0, 1, 256))[:, :3]
    assert np.abs(shown - np.array(to_rgba(colours.GREY)[:3])).max(axis=1).min() > 0.08


@pytest.mark.parametrize("name", [colours.SEQUENTIAL])
def test_lightness_of_the_sequential_map_rises_evenly(name: str):
    rgb = colours.grey_map(name)(np.linspace(0, 1, 64))[:, :3]
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    lightness = 116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722]) - 16
    steps = np.diff(lightness)
    assert steps.min() > 0
    assert steps.max() < 2 * steps.mean()


def test_colours_run_between_robust_limits_unless_given():
    fits = grid().isel(y=[0] * 50).assign_coords(y=np.arange(50.0))
    fits["center"] = fits["center"].copy(data=np.arange(200.0).reshape(50, 4))
    fits["center"][0, 0] = 1e9
    image = parameter_map(fits, "center", ax=axes()).images[0]
    expected = np.percentile(fits["center"], (2, 98))
    assert image.get_clim() == pytest.approx(expected)
    given = parameter_map(fits, "center", vmin=-5, vmax=7, ax=axes()).images[0]
    assert given.get_clim() == (-5, 7)


def test_values_outside_the_query_do_not_set_the_limits():
    fits = grid()
    fits["center"][2, 3] = 1e6
    image = parameter_map(fits, "center", query="redchi < 2", ax=axes()).images[0]
    assert image.get_clim()[1] < 111


def test_signed_values_get_the_diverging_map_with_zero_in_its_middle():
    fits = grid()
    fits["center"] = fits["center"] - 105
    image = parameter_map(fits, "center", ax=axes()).images[0]
    assert image.cmap.name == colours.DIVERGING
    assert sum(image.get_clim()) == pytest.approx(0)


def test_errors_labels_and_aspect():
    figure = Figure()
    ax = parameter_map(grid(), "center", errors=True, ax=figure.add_subplot())
    np.testing.assert_array_equal(ax.images[0].get_array(), 0.5)
    bar = parameter_map(grid(), "center", ax=Figure().add_subplot()).figure.axes[1]
    assert bar.get_ylabel() == "peak position [1/cm]"
    assert ax.get_xlabel() == "x [um]"
    assert ax.get_aspect() == 1
    other = grid()
    other["y"].attrs["units"] = "s"
    assert parameter_map(other, "center", ax=axes()).get_aspect() == "auto"


def test_uneven_coordinates_are_drawn_where_they_are():
    fits = grid().assign_coords(x=[0.0, 1.0, 5.0, 50.0])
    ax = parameter_map(fits, "center", ax=axes())
    mesh = ax.collections[0]
    assert not ax.images
    np.testing.assert_allclose(mesh.get_coordinates()[0, :, 0], [-0.5, 0.5, 3.0, 27.5, 72.5])


def line() -> xr.Dataset:
    return grid().isel(y=0).drop_vars("y").rename(x="position", center="a", center_stderr="a_stderr")


def test_a_line_has_its_error_band_and_gaps():
    ax = parameter_map(line(), "a", ax=axes())
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [100, np.nan, 102, 103])
    band = np.concatenate([p.vertices[:, 1] for p in ax.collections[0].get_paths()])
    assert {99.5, 100.5, 101.5, 103.5} <= set(band)
    assert ax.lines[0].get_xdata().tolist() == [1, 3, 5, 7]


def test_what_the_query_leaves_out_of_a_line_is_grey():
    ax = parameter_map(line(), "a", query="a < 103", ax=axes())
    assert np.isnan(ax.lines[0].get_ydata()[3])
    grey = ax.lines[1]
    assert grey.get_color() == colours.LEFT_OUT
    assert (grey.get_xdata().tolist(), grey.get_ydata().tolist()) == ([7.0], [103.0])


def test_one_huge_error_does_not_flatten_a_line():
    fits = line()
    fits["a_stderr"][2] = 1e9
    low, high = parameter_map(fits, "a", ax=axes()).get_ylim()
    assert high - low < 20


def test_named_positions_are_bars_with_errors():
    fits = line().rename(position="group").assign_coords(group=np.array(["Fe", "Cu", "$x", "a" * 40], object))
    ax = parameter_map(fits, "a", ax=axes())
    heights = [p.get_height() for p in ax.patches]
    np.testing.assert_array_equal(heights, [100, np.nan, 102, 103])
    ticks = [t.get_text() for t in ax.get_xticklabels()]
    assert ticks[:3] == ["Fe", "Cu", r"\$x"]
    assert len(ticks[3]) == 18
    segments = ax.collections[0].get_segments()
    np.testing.assert_array_equal(segments[0][:, 1], [99.5, 100.5])
    ax.figure.savefig("/dev/null", format="png")


def test_metadata_is_drawn_as_it_stands():
    fits = grid()
    fits["center"].attrs = {"long_name": r"$\frac{bad$", "units": "$"}
    parameter_map(fits, "center", ax=(ax := axes())).figure.savefig("/dev/null", format="png")
    assert ax.figure.axes[1].get_ylabel() == r"\$\frac{bad\$ [\$]"


def placed(count: int = 20) -> xr.Dataset:
    rng = np.random.default_rng(4)
    coords = {n: ("position", rng.uniform(0, 9, count), {"units": "um"}) for n in ("position_y", "position_x")}
    return xr.Dataset({"center": ("position", rng.uniform(1, 2, count))}, coords=coords)


def test_free_positions_are_points_where_they_are():
    fits = placed()
    fits["center"][3] = np.nan
    ax = parameter_map(fits, "center", query="position_x > 1", ax=axes())
    grey, drawn = ax.collections
    keep = (fits["position_x"] > 1).values & np.isfinite(fits["center"].values)
    where = np.stack([fits["position_x"], fits["position_y"]], axis=1)
    np.testing.assert_array_equal(drawn.get_offsets(), where[keep])
    np.testing.assert_array_equal(drawn.get_array(), fits["center"].values[keep])
    np.testing.assert_array_equal(grey.get_offsets(), where[~keep])
    assert ax.get_xlabel() == "position_x [um]"
    assert ax.get_aspect() == 1.0
    assert not parameter_map(fits, "center", kind="line", ax=axes()).collections
    with pytest.raises(InputError, match="needs the coordinates position_y and position_x along 'position'"):
        parameter_map(fits.drop_vars("position_y"), "center", kind="points")
    with pytest.raises(InputError, match="needs one scan dim"):
        parameter_map(grid(), "center", kind="points")


def test_a_map_of_nothing_is_grey():
    fits = grid().where(False)
    ax = parameter_map(fits, "center", ax=axes())
    assert ax.images[0].get_array().mask.all()
    ax.figure.savefig("/dev/null", format="png")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "centre"}, "unknown variable 'centre'; did you mean 'center'"),
        ({"name": "covar"}, "unknown variable 'covar'"),
        ({"name": "redchi", "errors": True}, "unknown variable with errors 'redchi'"),
        ({"name": "center", "kind": "map"}, "unknown kind 'map'"),
        ({"name": "center", "kind": "line"}, "needs one scan dim"),
        ({"name": "center", "query": "nothing < 2"}, "nothing"),
        ({"name": "center", "query": "center"}, "is no condition"),
        ({"name": "center", "query": "center <"}, "query 'center <'"),
        ({"name": "center", "query": "status == 1"}, "use its words"),
        ({"name": "center", "query": "center < @limit"}, "Python variable"),
        ({"name": "center", "query": "covar > 0"}, "one value at each position"),
    ],
)
def test_wrong_arguments_say_what_is_right(arguments: dict[str, object], message: str):
    with pytest.raises(InputError, match=message):
        parameter_map(grid(), **arguments)


def test_what_is_not_a_dataset_of_maps():
    with pytest.raises(InputTypeError, match="expected the Dataset"):
        parameter_map(grid()["center"], "center")
    with pytest.raises(InputError, match="holds no maps"):
        parameter_map(xr.Dataset(), "center")
    with pytest.raises(InputError, match="select until one or two"):
        parameter_map(grid().isel(x=0, y=0), "center")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (None, 12),
        ("redchi < 2", 10),
        ("status == 'poor_fit'", 1),
        ("status in ['poor_fit', 'failed']", 2),
        ("y > 1 and x < 4", 4),
        ("center_err < 1 and center_stderr < 1 and center == center", 11),
    ],
)
def test_queries_keep_what_they_say(query: str | None, expected: int):
    assert int(kept(grid(), query).sum()) == expected


def test_only_what_is_drawn_is_computed():
    fits = grid().chunk()
    source = sf.testing.CountingArray(np.zeros((3, 4)))
    fits["redchi"] = source.lazy(("y", "x"))
    parameter_map(fits, "center", ax=axes())
    assert source.reads == 0
    parameter_map(fits, "center", query="redchi < 2", ax=axes())
    assert source.reads == 1


def test_positions_are_indices_or_labels():
    fits = grid()
    assert indices(fits, {"y": 1, "x": -1}) == {"y": 1, "x": 3}
    assert indices(fits, {"y": 1.9, "x": 6.9}) == {"y": 1, "x": 3}
    for position, message in (
        ({"y": 1}, "leaves x open; add x=0"),
        ({"y": 1, "z": 0}, "unknown scan dim 'z'"),
        ({"y": 3, "x": 0}, "outside the scan, which has 3 positions"),
        ({"y": "a", "x": 0}, "unknown y 'a'"),
    ):
        with pytest.raises(InputError, match=message):
            indices(fits, position)
    with pytest.raises(InputError, match="no numbers to look it up in"):
        indices(fits.drop_vars("y"), {"y": 1.0, "x": 0})


def test_importing_plot_loads_no_matplotlib():
    code = "import sys, scanfold.plot; print('matplotlib' in sys.modules, 'lmfit' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["False", "False"]
    code = (
        "import sys; from matplotlib.figure import Figure; import xarray as xr; from scanfold.plot import parameter_map"
    )
    code += "\nparameter_map(xr.Dataset({'a': ('x', [1.0, 2])}), 'a', ax=Figure().add_subplot())"
    code += "\nprint('matplotlib.pyplot' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["False"]
