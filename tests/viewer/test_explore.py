"""The viewer: what is shown for maps and scans, without a browser."""

from __future__ import annotations

import socket
from pathlib import Path
from types import SimpleNamespace

import lmfit
import numpy as np
import pytest
import xarray as xr
from bokeh.models import GlyphRenderer, Image, Scatter

import scanfold as sf
from scanfold.cli import main
from scanfold.conventions import InputError
from scanfold.fitting import evaluate
from scanfold.testing import raise_if_computes
from scanfold.viewer.sources import sources


def drawn(figure, kind: type) -> list[GlyphRenderer]:
    return [r for r in figure.renderers if isinstance(r.glyph, kind)]


def click(explorer: sf.viewer.page.Explorer, x: float, y: float) -> dict[str, int]:
    explorer._clicked(SimpleNamespace(x=x, y=y))
    return explorer.position


def test_a_click_shows_data_fit_and_values_of_that_position(fits: xr.Dataset, scan_file: Path):
    explorer = sf.explore(fits)
    assert explorer.sources.note == ""  # the file that was fitted is found and unchanged
    assert click(explorer, 7.2, 1.8) == {"y": 2, "x": 7}
    top, below = (child for child in explorer._here[0].object.children)
    here = sf.open_scan(scan_file)["counts"].isel(y=2, x=7).compute()
    curve = evaluate(fits.isel(y=2, x=7).compute(), data=here)["best_fit"]
    data, line = drawn(top, Scatter)[0], top.renderers[1]
    np.testing.assert_array_equal(data.data_source.data["y"], here)
    np.testing.assert_array_equal(line.data_source.data["y"], curve)
    np.testing.assert_allclose(drawn(below, Scatter)[0].data_source.data["y"], here - curve)
    values, fits = explorer._values.object, fits.compute()
    assert values.loc["center", "value"] == f"{fits['center'].isel(y=2, x=7).item():.6g}"
    assert values.loc["center", "error"] == f"± {fits['center_stderr'].isel(y=2, x=7).item():.2g}"
    assert values.loc["status", "value"] == "converged"
    assert list(values.index[:2]) == ["amplitude", "center"]


def test_the_map_is_drawn_the_right_way_up_whatever_its_coordinates():
    values = np.arange(12.0).reshape(3, 4)
    for y, x in (([0.0, 1, 2], [0.0, 1, 2, 3]), ([2.0, 1, 0], [0.0, 1, 2, 3]), ([0.0, 1, 2], [3.0, 2, 1, 0])):
        maps = xr.Dataset({"a": (("y", "x"), values)}, coords={"y": y, "x": x})
        explorer = sf.explore(maps)
        figure = explorer._map[0].object
        (renderer,) = drawn(figure, Image)
        image = renderer.data_source.data["image"][0]
        glyph, sizes = renderer.glyph, image.shape
        for row in range(3):
            for column in range(4):
                # the pixel of the picture that lies where the coordinates say
                i = int((y[row] - glyph.y) / glyph.dh * sizes[0])
                j = int((x[column] - glyph.x) / glyph.dw * sizes[1])
                assert image[i, j] == values[row, column]
                assert click(explorer, x[column], y[row]) == {"y": row, "x": column}
        # the first row is at the top of the screen, the first column at the left
        assert figure.y_range.end == pytest.approx(y[0] - (y[1] - y[0]) / 2)
        assert figure.x_range.start == pytest.approx(x[0] - (x[1] - x[0]) / 2)


def test_a_query_greys_and_a_wrong_one_is_said(fits: xr.Dataset):
    explorer = sf.explore(fits)
    explorer._query.value = "center > 5"
    (image,) = drawn(explorer._map[0].object, Image)
    hidden = np.isnan(image.data_source.data["image"][0])
    np.testing.assert_array_equal(hidden, ~(fits["center"].values > 5))
    explorer._query.value = "centre > 5"
    assert "centre" in explorer._note.object
    assert explorer._note.visible
    assert not np.isnan(drawn(explorer._map[0].object, Image)[0].data_source.data["image"][0]).any()


def test_flags_are_drawn_as_words(fits: xr.Dataset):
    explorer = sf.explore(fits)
    explorer._name.value = "status"
    bar = explorer._map[0].object.right[0]
    assert list(bar.major_label_overrides.values()) == fits["status"].attrs["flag_meanings"].split()
    codes = drawn(explorer._map[0].object, Image)[0].data_source.data["image"][0]
    assert set(np.unique(codes)) == {list(sf.fitting.STATUS).index("converged")}


def test_a_scan_has_its_mean_as_map_and_a_pattern_at_each_position():
    frames = np.random.default_rng(0).poisson(5.0, (4, 5, 8, 6)).astype(np.uint16)
    scan = xr.DataArray(frames, dims=("y", "x", "ky", "kx"), name="counts").chunk(y=1)
    explorer = sf.explore(scan)
    np.testing.assert_allclose(explorer.sources.maps["mean"], frames.mean((2, 3)))
    explorer.select(y=3, x=1)
    (image,) = drawn(explorer._here[0].object, Image)
    np.testing.assert_array_equal(image.data_source.data["image"][0], frames[3, 1])
    explorer._log.value = True
    assert type(explorer._here[0].object.right[0].color_mapper).__name__ == "LogColorMapper"


def test_a_large_scan_is_looked_at_in_steps_and_any_position_of_it_shown(monkeypatch: pytest.MonkeyPatch):
    from scanfold.viewer import sources as module

    monkeypatch.setattr(module, "READ", 100 * 8)
    values = np.arange(4000.0).reshape(20, 20, 10)
    scan = xr.DataArray(values, dims=("y", "x", "energy"), name="counts").chunk(y=5)
    with raise_if_computes():
        found = sources(scan, None, None)
    assert found.step == 7
    assert found.maps.sizes == {"y": 3, "x": 3}
    explorer = sf.explore(scan)
    assert explorer.select(y=19, x=13) == {"y": 19, "x": 13}
    np.testing.assert_array_equal(drawn(explorer._here[0].object, Scatter)[0].data_source.data["y"], values[19, 13])
    assert click(explorer, 2.1, 0.9) == {"y": 7, "x": 14}


def test_free_positions_and_named_groups():
    rng = np.random.default_rng(1)
    where = {f"position_{d}": ("position", rng.uniform(0, 9, 50)) for d in "yx"}
    frames = xr.DataArray(rng.poisson(3.0, (50, 6, 6)), dims=("position", "ky", "kx"), coords=where, name="diffraction")
    explorer = sf.explore(frames)
    x, y = where["position_x"][1][17], where["position_y"][1][17]
    assert click(explorer, x + 1e-3, y) == {"position": 17}
    groups = xr.Dataset({"thickness": ("group", [1.0, 2.0])}, coords={"group": np.array(["steel", "iron"], object)})
    explorer = sf.explore(groups)
    assert click(explorer, 1.4, 0.0) == {"group": 1}
    assert explorer.select(group="steel") == {"group": 0}


def test_maps_over_a_short_further_dim_are_each_shown():
    values = np.arange(24.0).reshape(3, 4, 2)
    maps = xr.Dataset({"score": (("y", "x", "cluster"), values)}, coords={"cluster": [1, 4]})
    maps["confidence"] = (("y", "x"), values[..., 0])
    found = sources(maps, None, None).maps
    assert list(found) == ["score [1]", "score [4]", "confidence"]
    np.testing.assert_array_equal(found["score [4]"], values[..., 1])


def test_nothing_to_show_is_said(fits: xr.Dataset, tmp_path: Path):
    with pytest.raises(InputError, match="no map"):
        sf.explore(xr.Dataset({"a": ("energy", [1.0])}))
    with pytest.raises(InputError, match="data has 4 along 'y', the maps 6"):
        sf.explore(fits, xr.DataArray(np.ones((4, 9, 3)), dims=("y", "x", "energy")))
    with pytest.raises(InputError, match="outside"):
        sf.explore(fits).select(y=99, x=0)


def test_a_scan_that_changed_or_was_cut_is_not_taken_for_the_one_fitted(scan_file: Path, tmp_path: Path):
    part = sf.open_scan(scan_file)["counts"].isel(energy=slice(10, 90))
    fits = sf.fit(part, lmfit.models.GaussianModel(), dim="energy").compute()
    found = sources(fits, None, None)
    assert found.scan is None
    assert "data=…" in found.note
    explorer = sf.explore(fits, part)
    assert explorer._curve({"y": 0, "x": 0}, part.isel(y=0, x=0).compute()).shape == (80,)


def test_the_command_says_what_is_wrong_before_it_serves(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    np.save(tmp_path / "line.npy", np.ones(3))
    assert main(["explore", str(tmp_path / "line.npy"), "--no-browser"]) == 2
    assert "no map over" in capsys.readouterr().err


def test_a_port_that_cannot_be_had_is_said(scan_file: Path, capsys: pytest.CaptureFixture[str]):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        for port, why in ((taken, "Address already in use"), (70000, "expected 1 … 65535"), (-1, "no port -1")):
            assert main(["explore", str(scan_file), "--port", str(port), "--no-browser"]) == 2
            assert why in capsys.readouterr().err
