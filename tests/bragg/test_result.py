"""The view of the fits of all groups: indices, tables, pictures, files, refits."""

from __future__ import annotations

import json
from pathlib import Path

import lmfit
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

import scanfold as sf
from scanfold import bragg
from scanfold.bragg.result import GroupedFitResult
from scanfold.conventions import InputError, InputTypeError
from scanfold.fitting import Stages
from scanfold.testing import raise_if_computes

EDGE = "base + slope*x + height/(1+exp(-(x-edge)/width))"
START = {"base": 0.5, "slope": {"value": 0.0}, "height": {"value": 0.2}, "edge": {"value": 2.0, "min": 1.7, "max": 2.3},
         "width": {"value": 0.05, "min": 1e-3, "max": 0.5}}  # fmt: skip
STAGES = Stages({"line": ["base", "slope", "height"], "all": "all"}, keep=True)


def transmissions(dims: tuple[str, ...], shape: tuple[int, ...], **coords) -> bragg.Data:
    """Return data of one edge, which moves from group to group; the second group is without a measurement."""
    rng = np.random.default_rng(11)
    wavelength = np.linspace(1.2, 2.8, 80)
    count = int(np.prod(shape))
    place = 2.0 + 0.01 * np.arange(count)
    truth = 0.4 + 0.05 * wavelength + 0.2 / (1 + np.exp(-(wavelength - place[:, None]) / 0.03))
    openbeam = rng.poisson(40_000, (count, 80)).astype(float)
    signal = rng.poisson(40_000 * truth).astype(float)
    signal[1] = np.nan
    arrays = {
        k: ((*dims, "wavelength"), v.reshape(*shape, 80)) for k, v in (("signal", signal), ("openbeam", openbeam))
    }
    ds = xr.Dataset(arrays, coords={"wavelength": ("wavelength", wavelength, {"units": "angstrom"}), **coords})
    return bragg.Data.from_dataset(ds.chunk(dict.fromkeys(dims, 2)))


def fitted(data: bragg.Data, **options) -> GroupedFitResult:
    model = lmfit.models.ExpressionModel(EDGE)
    window = data.crop(1.4, 2.6).dataset.swap_dims(tof="wavelength")
    options = {"stages": STAGES, "guess": "params", **options}
    weights = 1 / window["transmission_err"]
    return GroupedFitResult(
        sf.fit(window["transmission"], model, START, dim="wavelength", weights=weights, **options), model, data
    )


@pytest.fixture(scope="module")
def grid() -> GroupedFitResult:
    result = fitted(transmissions(("y", "x"), (2, 3), y=("y", [4, 5]), x=("x", [7, 8, 9])))
    result.compute()
    return result


@pytest.fixture(scope="module")
def named() -> GroupedFitResult:
    result = fitted(transmissions(("group",), (3,), group=("group", np.array(["center", "gap", "edge $x$"], object))))
    result.compute()
    return result


@pytest.fixture(scope="module")
def line() -> GroupedFitResult:
    result = fitted(transmissions(("position",), (4,), position=("position", [5, 6, 7, 8])))
    result.compute()
    return result


def test_nothing_is_computed_before_it_is_looked_at():
    with raise_if_computes():
        result = fitted(transmissions(("y", "x"), (2, 3)))
        assert "not computed yet" in repr(result)
        assert "not computed yet" in result._repr_html_()
        assert len(result) == 6
        assert result.group_shape == (2, 3)
    calls = []

    class Counted(GroupedFitResult):
        def compute(self):
            if any(v.chunks is not None for v in self.fits.variables.values()):
                calls.append(1)
            return super().compute()

    counted = Counted(result.fits, result.model, result.data)
    counted.summary()
    counted.summary()
    counted["(0,0)"]
    assert calls == [1]
    assert "5 converged, 1 too few points" in repr(counted)


@pytest.mark.parametrize("index", [(5, 9), "(5,9)", "(5, 9)", (np.int64(5), np.int16(9)), [5, 9], " ( 5 ,9) "])
def test_a_grid_is_indexed_by_pairs(grid, index):
    here = grid[index]
    assert isinstance(here, lmfit.model.ModelResult)
    values = grid.fits.isel(y=1, x=2)
    assert here.params["edge"].value == float(values["edge"])
    assert here.params["edge"].stderr == float(values["edge_stderr"])
    assert here.redchi == float(values["redchi"])
    assert here.nfev == int(values["nfev"])
    assert here.success
    np.testing.assert_allclose(here.best_fit, here.eval(x=here.userkws["x"]), rtol=1e-12)
    assert index in grid


def test_lines_and_names_are_indexed_too(line, named):
    for index in (7, "7", np.int64(7), np.uint8(7)):
        assert line[index].params["edge"].value == float(line.fits["edge"][2])
    assert line.indices == ["5", "6", "7", "8"]
    assert line.group_shape == (4,)
    assert named["edge $x$"].params["edge"].value == float(named.fits["edge"][2])
    assert named.group_shape is None
    assert list(named.results) == ["center", "gap", "edge $x$"]
    for result, index, message in (
        (line, 0, "the line has 4 positions, 5 to 8"),
        (named, "centre", "did you mean 'center'"),
        (named, 1, "unknown group '1'"),
    ):
        with pytest.raises(KeyError, match=message):
            result[index]
        assert index not in result


def test_the_result_of_a_group_draws_its_own_data(grid):
    for index in grid.indices[2:4]:
        figure = plt.figure()
        grid[index].plot_fit(ax=figure.add_subplot())
        drawn = figure.axes[0].lines[0].get_ydata()
        place = grid.place(index)
        expected = grid.data.crop(1.4, 2.6).dataset["transmission"].isel(place)
        np.testing.assert_allclose(drawn, expected)
        plt.close(figure)


def test_a_group_without_a_fit_stays_with_its_status(grid):
    assert "(4,8)" in grid.indices
    row = grid.summary().set_index("index").loc["(4,8)"]
    assert row["status"] == "too_few_points"
    assert not row["success"]
    with pytest.raises(InputError, match="too_few_points"):
        grid["(4,8)"]
    assert "too few points" in grid.fit_report("(4,8)")


def test_the_summary(grid):
    frame = grid.summary()
    assert list(frame["index"]) == ["(4,7)", "(4,8)", "(4,9)", "(5,7)", "(5,8)", "(5,9)"]
    assert list(frame.columns[:8]) == ["index", "success", "status", "redchi", "chisqr", "rsquared", "nfev", "nvarys"]
    assert (frame["nvarys"] == 5).all()
    for i, (y, x) in enumerate(np.ndindex(2, 3)):
        for name in ("edge", "redchi", "nfev"):
            np.testing.assert_equal(frame[name][i], grid.fits[name].values[y, x])
        np.testing.assert_equal(frame["edge_err"][i], grid.fits["edge_stderr"].values[y, x])
    assert list(grid.summary("y == 5 and edge > 2.045")["index"]) == ["(5,9)"]
    with pytest.raises(InputError, match="it may use index"):
        grid.summary("nothing > 3")
    html = grid.summary_html("success")
    assert html.count("<tr") == 6
    assert "<td>(4,8)</td>" not in html


def test_reports_escape_what_comes_from_files():
    names = np.array(["<script>alert(1)</script>", "b", "c"], object)
    result = fitted(transmissions(("group",), (3,), group=("group", names)))
    for page in (result.fit_report(), result.fit_report("<script>alert(1)</script>"), result.summary_html()):
        assert "<script" not in page


def test_stages(named):
    table = named.stages_summary("center")
    assert list(table.index) == ["base", "slope", "height", "edge", "width", "redchi"]
    assert list(dict.fromkeys(table.columns.get_level_values(0))) == ["Initial", "line", "all"]
    assert table.loc["edge", ("Initial", "value")] == 2.0
    assert table.loc["edge", ("line", "value")] == 2.0
    assert not table.loc["edge", ("line", "vary")]
    assert table.loc["edge", ("all", "stderr")] == float(named.fits["edge_stderr"][0])
    # the first stage by lmfit itself
    data, model = named.measured({"group": 0}), named.model
    params = model.make_params(base=0.5, slope=0, height=0.2, edge=2.0, width=0.05)
    params["edge"].vary = params["width"].vary = False
    keep = data.values.compute(), data.weights.compute()
    first = model.fit(keep[0].values, params, x=data.values["wavelength"].values, weights=keep[1].values)
    assert table.loc["redchi", ("line", "value")] == pytest.approx(first.redchi, rel=1e-9)
    assert table.loc["height", ("line", "stderr")] == pytest.approx(first.params["height"].stderr, rel=1e-6)
    without = fitted(transmissions(("group",), (3,)), stages={"line": ["base"], "all": "all"})
    with pytest.raises(InputError, match="keep=True"):
        without.stages_summary("0")
    figure = named.plot_stage_progression("center", ["edge", "height"])
    assert [ax.get_ylabel() for ax in figure.axes] == ["redchi", "edge", "height"]
    with pytest.raises(InputError, match="unknown parameter 'hight'"):
        named.plot_stage_progression("center", ["hight"])
    plt.close("all")


def test_maps(grid, line, named):
    ax = grid.plot_parameter_map("edge")
    np.testing.assert_array_equal(ax.images[0].get_array(), np.ma.masked_invalid(grid.fits["edge"].values))
    for name, options in (("edge_err", {}), ("edge", {"plot_errors": True})):
        ax = grid.plot_parameter_map(name, **options)
        np.testing.assert_array_equal(ax.images[0].get_array(), np.ma.masked_invalid(grid.fits["edge_stderr"].values))
    ax = grid.plot_parameter_map(
        "redchi", query="success == True and redchi < 1e9", cmap="magma", vmin=0, vmax=2, title="T"
    )
    assert (ax.get_title(), ax.images[0].get_clim(), ax.images[0].get_cmap().name) == ("T", (0, 2), "magma")
    kept = grid.plot_parameter_map("edge", query="edge > 2.03").images[0].get_array()
    np.testing.assert_array_equal(kept.mask, ~(grid.fits["edge"].values > 2.03))
    assert len(line.plot_parameter_map("edge").lines[0].get_xdata()) == 4
    assert len(named.plot_parameter_map("edge").patches) == 3
    assert len(line.plot_parameter_map("edge", kind="bar").patches) == 4
    ax = grid.plot_parameter_map("edge", kind="bar")
    np.testing.assert_array_equal([p.get_height() for p in ax.patches], grid.fits["edge"].values.ravel())
    assert [t.get_text() for t in ax.get_xticklabels()][:2] == ["(4,7)", "(4,8)"]
    assert len(grid.plot_parameter_map("edge", kind="line").lines[0].get_xdata()) == 6
    for arguments, message in (
        (("edgy",), "did you mean 'edge'"),
        (("edge", None, "pie"), "unknown kind"),
        (("edge", "nothing > 2"), "it may use"),
    ):
        with pytest.raises(InputError, match=message):
            grid.plot_parameter_map(*arguments)
    with pytest.raises(InputError, match="needs two scan dims"):
        line.plot_parameter_map("edge", kind="pcolormesh")
    plt.close("all")


def test_pictures_of_one_group(grid, named):
    ax = plt.figure().add_subplot()
    assert grid.plot(index=(4, 9), ax=ax, ylim=(0, 1)) is ax
    assert ax.get_ylim() == (0, 1)
    assert ax.get_title().startswith("(4,9): converged, redchi")
    top = named.plot("edge $x$")
    assert len(top.figure.axes) == 2
    assert top.get_title().startswith(r"edge \$x\$: converged")
    np.testing.assert_array_equal(top.lines[-1].get_ydata(), named["edge $x$"].best_fit)
    with pytest.raises(InputError, match="no cross section"):
        grid.plot_total_xs((4, 7))
    plt.close("all")


@pytest.mark.parametrize("suffix", [".zarr", ".json"])
@pytest.mark.parametrize("kind", ["grid", "line", "named"])
def test_a_file_holds_everything(tmp_path, request, suffix, kind):
    result: GroupedFitResult = request.getfixturevalue(kind)
    path = tmp_path / f"result{suffix}"
    result.save(path)
    again = GroupedFitResult.load(path)
    # loaded in this process or not: nothing of `result` is used
    assert again.indices == result.indices
    assert again.parameters == result.parameters
    for name in result.fits.data_vars:
        np.testing.assert_array_equal(again.fits[name], result.fits[name], err_msg=str(name))
        assert again.fits[name].dtype == result.fits[name].dtype
    assert again.summary().equals(result.summary())
    xr.testing.assert_identical(again.data.dataset.compute().drop_attrs(), result.data.dataset.compute().drop_attrs())
    assert again.data.dataset.attrs["L"] == result.data.dataset.attrs["L"]
    index = result.indices[2]
    assert again.stages_summary(index).equals(result.stages_summary(index))
    np.testing.assert_array_equal(again[index].best_fit, result[index].best_fit)
    again.plot(index)
    again.plot_parameter_map("edge")
    refitted = again.refit(indices=[index])
    np.testing.assert_allclose(refitted.fits["edge"], result.fits["edge"], rtol=1e-6)
    assert again.save(tmp_path / f"again{suffix}").indices == result.indices
    plt.close("all")


@pytest.mark.parametrize("suffix", [".zarr", ".json"])
def test_a_compact_file_has_no_data(tmp_path, named, suffix):
    named.save(tmp_path / f"small{suffix}", compact=True)
    small = GroupedFitResult.load(tmp_path / f"small{suffix}")
    assert small.summary().equals(named.summary())
    small.plot_parameter_map("edge")
    with pytest.raises(InputError, match="pass them: load"):
        small.plot("center")
    whole = GroupedFitResult.load(tmp_path / f"small{suffix}", data=named.data)
    np.testing.assert_array_equal(whole["center"].best_fit, named["center"].best_fit)
    plt.close("all")


def test_lazy_fits_are_saved_out_of_core_and_as_those_in_memory(tmp_path, grid):
    lazy = fitted(grid.data)
    saved = lazy.save(tmp_path / "lazy.zarr")
    assert all(v.chunks is not None for v in lazy.fits.variables.values() if v.ndim == 2 and v.dtype.kind == "f")
    for name in grid.fits.data_vars:
        np.testing.assert_array_equal(saved.fits[name], grid.fits[name])
    # sf.open_scan and sf.report understand the same store
    assert "edge" in sf.open_scan(tmp_path / "lazy.zarr")


def test_what_is_not_ours_is_left_alone(tmp_path, named):
    other = tmp_path / "notes.json"
    other.write_text('{"mine": 1}')
    with pytest.raises(InputError, match="left as it is"):
        named.save(other)
    assert other.read_text() == '{"mine": 1}'
    folder = tmp_path / "folder.zarr"
    folder.mkdir()
    (folder / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="not written by scanfold"):
        named.save(folder)
    with pytest.raises(InputError, match=r"expected \.zarr or \.json"):
        named.save(tmp_path / "result.pkl")
    with pytest.raises(InputError, match="there is no folder"):
        named.save(tmp_path / "no" / "result.json")
    with pytest.raises(InputError, match="no file"):
        GroupedFitResult.load(tmp_path / "gone.json")
    named.save(tmp_path / "mine.json")
    named.save(tmp_path / "mine.json")  # its own file it replaces


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("kind"), "no GroupedFitResult"),
        (lambda c: c.update(version=99), "layout 99"),
        (lambda c: c.pop("fits"), "damaged"),
        (lambda c: c["fits"]["variables"]["edge"].update(data=[1.0]), "damaged"),
        (lambda c: c["fits"]["variables"]["edge"].update(dtype="object"), "damaged"),
        (lambda c: c["fits"]["attrs"].update(provenance="{"), "damaged"),
        (lambda c: c.update(model={"format": "pickle"}), "format"),
    ],
)
def test_damaged_files_are_refused(tmp_path, named, change, message):
    path = tmp_path / "result.json"
    named.save(path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        GroupedFitResult.load(path)


@pytest.mark.parametrize("suffix", [".zarr", ".json"])
def test_an_edited_file_runs_nothing(tmp_path, named, suffix):
    path, proof = tmp_path / f"result{suffix}", tmp_path / "proof"
    named.save(path)
    evil = f"open('{proof}', 'w')"
    text_file = path / "zarr.json" if suffix == ".zarr" else path
    text = text_file.read_text()
    for old, new in (
        # an expression of a parameter, and the model itself
        (
            r"\"slope\": {\"value\": 0.0",
            r"\"slope\": {\"expr\": \"" + evil.replace("'", "\\u0027") + r"\", \"value\": 0.0",
        ),
        (EDGE, evil),
    ):
        edited = text.replace(old, new).replace(old.replace('\\"', '\\\\\\"'), new.replace('\\"', '\\\\\\"'))
        assert edited != text
        text_file.write_text(edited)
        with pytest.raises((InputError, InputTypeError)):
            GroupedFitResult.load(path)["center"]
        assert not proof.exists()


def test_refit_changes_the_chosen_groups_only(grid):
    # a window cut the first time: give the edge more room, in some groups
    again = grid.refit(query="x == 9", params={"width": {"value": 0.2}, "slope": {"value": 0.0, "vary": False}})
    assert again.fits["slope"].values[:, 2].tolist() == [0.0, 0.0]
    for name in grid.parameters:
        np.testing.assert_array_equal(again.fits[name].values[:, :2], grid.fits[name].values[:, :2])
    assert again.summary().shape == grid.summary().shape
    np.testing.assert_array_equal(grid.refit(indices="(5,7)").fits["edge"].values[0], grid.fits["edge"].values[0])
    for arguments, message in (
        ({"query": "edge > 100"}, "no group is chosen"),
        ({"indices": ["(9,9)"]}, "no group"),
        ({"params": {"edgy": 1}}, "unknown parameter"),
    ):
        with pytest.raises(InputError, match=message):
            grid.refit(**arguments)


def test_other_data_are_noticed(grid):
    other = GroupedFitResult(grid.fits, grid.model, grid.data.rebin(tof=2))
    with pytest.raises(InputError, match="pass the data that were fitted"):
        other["(4,7)"]
    with pytest.raises(InputTypeError, match="fits is a str"):
        GroupedFitResult("fits", grid.model, grid.data)


def test_one_spectrum_is_a_group_of_its_own():
    data = transmissions(("group",), (3,))
    one = bragg.Data(data.dataset.isel(group=0, drop=True))
    result = fitted(one)
    assert len(result) == 1
    assert result.indices == ["0"]
    assert result.summary()["index"].tolist() == ["0"]
    assert result["0"].params["edge"].value == pytest.approx(2.0, abs=0.01)
    assert len(result.plot().figure.axes) == 2
    plt.close("all")


def test_sparse_grids_have_the_groups_that_were_measured():
    data = transmissions(("y", "x"), (2, 3)).subset(["(0,0)", "(1,2)"])
    result = fitted(data)
    assert result.indices == ["(0,0)", "(1,2)"]
    assert list(result.summary()["index"]) == ["(0,0)", "(1,2)"]
    assert result.group_shape == (2, 3)
    assert result["(1,2)"].params["edge"].value == pytest.approx(2.05, abs=0.01)
    with pytest.raises(KeyError):
        result["(0,1)"]


def test_results_are_the_same_for_any_scheduler(grid):
    for options in ({"scheduler": "sync"}, {"scheduler": "threads", "num_workers": 3}):
        lazy = fitted(grid.data)
        other = GroupedFitResult(lazy.fits, lazy.model, lazy.data, scheduler=options)
        xr.testing.assert_identical(other.compute(), grid.fits)


def test_the_store_is_of_one_piece(tmp_path, named):
    named.save(tmp_path / "result.zarr")
    moved = tmp_path / "elsewhere" / "renamed.zarr"
    moved.parent.mkdir()
    Path(tmp_path / "result.zarr").rename(moved)
    assert GroupedFitResult.load(moved)["center"].redchi == named["center"].redchi
