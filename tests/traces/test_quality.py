"""What is said of the fits: grades, reasons for doubt, which model is best; and the pictures."""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.figure import Figure

import scanfold as sf
from scanfold import traces
from scanfold.conventions import InputError, InputTypeError
from scanfold.traces import FittingRequest, compare_models, fit_folder, quality
from scanfold.traces.results import to_frame

from . import cases


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, traces.FolderRun]:
    """Traces with positions: some flat, some without enough points; fitted with the right model and two others."""
    folder = tmp_path_factory.mktemp("quality")
    for i in range(2):
        values, _ = cases.traces("maturation", 20, seed=20 + i)
        values[0] = np.random.default_rng(i).normal(5, 1, cases.TIMES.size)
        values[1, 3:] = np.nan
        cases.write_upstream(folder / f"f{i}.csv", values, fov=i)
    (folder / "f2.csv").write_text("fov,cell,frame,time,intensity_total_ch_1\n0,0,0,0,no\n")
    feature = {"feature": "intensity_total_ch_1", "progress": False}
    requests = {
        "maturation": FittingRequest("maturation"),
        "trivial": FittingRequest("trivial"),
        "free": FittingRequest("maturation", fixed=["scale"]),
    }
    return {k: fit_folder(folder, r, out=folder / k, **feature) for k, r in requests.items()}


def test_shares_are_of_all_cells_and_failed_ones_apart(runs):
    found = runs["maturation"].quality()
    assert found.cells == 40
    assert found.shares == {"good": 90.0, "fair": 0.0, "poor": 5.0, "failed": 5.0}
    assert "90.0 % good" in str(found)
    flat = found.reasons.set_index("reason").loc["no better than a constant"]
    assert flat["fitted"] == pytest.approx(100 * 2 / 38)
    assert flat["good"] == 0


def test_what_a_good_r_squared_hides(runs):
    found = runs["trivial"].quality()
    assert found.shares["good"] >= 90
    reasons = found.reasons.set_index("reason")["good"]
    assert reasons["rates can be exchanged without changing the curve"] == 100
    assert found.doubted == 100
    free = runs["free"].quality()
    assert free.shares["good"] >= 90
    assert free.doubted > 50


def test_reasons_are_counted_as_in_the_table():
    frame = pd.DataFrame(
        {
            "file": "a_fitted_trivial.csv", "model_type": "trivial", "success": True,
            "r_squared": [0.99, 0.95, 0.8, np.nan], "status": ["converged", "at_bound", "poor_fit", "failed"],
            "delta": [0.2, 0.2, 0.2, np.nan], "delta_stderr": [0.01, 0.15, np.nan, np.nan],
            "beta": 0.1, "beta_stderr": 0.0, "ktl": 5.0, "ktl_stderr": 0.1, "t0": 1.0, "t0_stderr": 0.1,
            "offset": 0.0, "offset_stderr": 9.0, "at_bound": ["", "delta ktl", "", ""],
            "correlated": ["", "ktl~delta", "", ""], "runs_z": [0.0, -3.0, 1.0, np.nan],
        }
    )  # fmt: skip
    found = quality(frame)
    assert found.shares == {"good": 50.0, "fair": 25.0, "poor": 0.0, "failed": 25.0}
    rows = found.reasons.set_index("reason")[["fitted", "good"]].round(1)
    assert rows.loc["delta is at a bound"].tolist() == [33.3, 50.0]
    assert rows.loc["ktl and delta correlate beyond 0.99"].tolist() == [33.3, 50.0]
    assert rows.loc["the error of delta is above 50%, or unknown"].tolist() == [66.7, 50.0]
    assert rows.loc["residuals are correlated (runs test, 1 %)"].tolist() == [33.3, 50.0]
    assert rows.loc["residuals are larger than the noise"].tolist() == [33.3, 0.0]
    assert "the error of beta is above 50%, or unknown" not in rows.index, "beta was fixed"
    assert "the error of offset is above 50%, or unknown" not in rows.index
    assert found.doubted == 50.0


def test_quality_is_of_one_model(runs):
    both = pd.concat([runs["maturation"].results, runs["trivial"].results])
    with pytest.raises(InputError, match=r"several models \(maturation, trivial\)"):
        quality(both)
    with pytest.raises(InputError, match="of no cell"):
        quality(both[:0])


def test_models_are_compared_cell_by_cell(runs):
    table = compare_models(runs["maturation"], runs["trivial"].results)
    assert len(table) == 40
    by_hand = [r.results.set_index(["fov", "cell"])["bic"] for r in (runs["maturation"], runs["trivial"])]
    delta = (by_hand[1] - by_hand[0]).to_numpy()
    there = ~np.isnan(delta)
    assert (table["best"] == "").sum() == 4 - 2 == 2
    assert ((table["best"] == "maturation") == (delta > 0))[there].all()
    np.testing.assert_allclose(table["delta_trivial"][there], np.maximum(delta, 0)[there])
    np.testing.assert_allclose(table["weight"][there], 1 / (1 + np.exp(-np.abs(delta[there]) / 2)))
    signal = ~table["cell"].isin([0, 1])
    assert (table["best"][signal] == "maturation").mean() > 0.8
    assert set(table["source"]) == {"f0", "f1"}
    aic = compare_models(runs["maturation"].out, runs["trivial"].out, criterion="aic")
    assert (aic["best"][signal] == "maturation").mean() > 0.8


def test_what_cannot_be_compared(runs):
    with pytest.raises(InputError, match="two models"):
        compare_models(runs["maturation"])
    with pytest.raises(InputError, match="did you mean 'bic'"):
        compare_models(runs["maturation"], runs["trivial"], criterion="bik")
    with pytest.raises(InputTypeError):
        compare_models(runs["maturation"], 3)


def test_models_that_used_other_points_are_not_compared():
    rows = {"cell_id": ["0", "1"], "bic": [1.0, 2.0]}
    a = pd.DataFrame({"file": "x_fitted.csv", "model_type": "trivial", "n_used": [9, 9], **rows})
    b = pd.DataFrame({"file": "x_fitted_maturation.csv", "model_type": "maturation", "n_used": [9, 8], **rows})
    assert compare_models(a, b)["best"].tolist() == ["trivial", ""]


def test_the_quality_chart_is_sorted_and_coloured(runs):
    from matplotlib.figure import Figure

    ax = traces.quality_chart(runs["maturation"].results, ax=Figure().add_subplot())
    drawn = {c.get_label().split(":")[0]: np.asarray(c.get_offsets()) for c in ax.collections}
    values = np.concatenate([drawn[n][:, 1] for n in ("good", "fair", "poor")])
    assert (np.diff(values) <= 0).all()
    assert values.size == 38
    assert (drawn["good"][:, 1] > 0.9).all()
    assert (drawn["poor"][:, 1] <= 0.7).all()
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [
        "good: 90.0 %", "fair: 0.0 %", "poor: 5.0 %", "failed: 5.0 %",
    ]  # fmt: skip


def test_histograms_show_what_a_query_keeps(runs):
    from matplotlib.figure import Figure

    results = runs["maturation"].results
    ax = traces.parameter_histogram(results, "delta", query="r_squared > 0.9", ax=Figure().add_subplot())
    assert sum(p.get_height() for p in ax.patches) == 36
    assert len(ax.patches) == 30
    assert "36 of 40 cells" in ax.get_title()
    assert ax.get_xlabel() == "delta [1/h]"
    for query, says in (("r_squard > 1", "r_squard"), ("@x > 1", "uses @"), ("delta +", "query")):
        with pytest.raises(InputError, match=says):
            traces.parameter_histogram(results, "delta", query=query, ax=Figure().add_subplot())
    with pytest.raises(InputError, match="did you mean 'delta'"):
        traces.parameter_histogram(results, "dleta")


def test_cells_are_drawn_where_they_are(runs):
    from matplotlib.figure import Figure

    results = runs["maturation"].results
    ax = traces.position_scatter(results, "ktl", query="r_squared > 0.9", ax=Figure().add_subplot())
    grey, coloured = ax.collections[:2]
    assert len(grey.get_offsets()) == 4
    shown = results.query("r_squared > 0.9")
    np.testing.assert_allclose(coloured.get_offsets(), shown[["position_x", "position_y"]])
    np.testing.assert_allclose(coloured.get_array(), shown["ktl"])
    with pytest.raises(InputError, match="no position_x"):
        traces.position_scatter(results.drop(columns="position_x"), "ktl")


def test_joined_tables_number_their_rows_as_they_like():
    one = pd.DataFrame(
        {"position_x": [1.0, 2.0], "position_y": [5.0, 6.0], "rate": [0.1, 0.2], "model_type": "trivial"}
    )
    ax = traces.position_scatter(
        pd.concat([one, one.assign(rate=0.9)]), "rate", query="rate < 0.5", ax=Figure().add_subplot()
    )
    left_out, shown = (c.get_offsets().tolist() for c in ax.collections)
    assert shown == left_out == [[1.0, 5.0], [2.0, 6.0]]


def test_a_parameter_without_bounds_is_at_none():
    request = FittingRequest(
        "exponential_decay", model_bounds={"offset": (-np.inf, np.inf), "rate": (0.0, np.inf)}, fixed=["t0"]
    )
    time = np.linspace(0, 10, 40)
    noise = np.random.default_rng(1).normal(0, 0.5, (2, 40))
    values = xr.DataArray(90 * np.exp(-0.4 * time) + 10 + noise, dims=("cell", "time"), coords={"time": time})
    frame = to_frame(traces.fit_trace_data(values, request).compute(), request)
    assert frame["status"].tolist() == ["converged", "converged"]
    assert frame["at_bound"].tolist() == ["", ""]


def test_all_pictures_in_one_call(runs, tmp_path: Path):
    paths = runs["maturation"].export_plots(tmp_path / "plots", query="r_squared > 0.9")
    expected = {"quality"} | {n + end for n in ("t0", "ktl", "delta", "offset") for end in ("", "_positions")}
    assert {p.stem for p in paths} == expected
    for path in paths:
        pixels = matplotlib.image.imread(path)[..., :3]
        assert (pixels.max(axis=2) - pixels.min(axis=2) > 0.2).mean() > 0.001, path.name


def test_any_trace_is_drawn_with_fit_and_residual(runs):
    run = runs["maturation"]
    figure = run.plot_trace("f1.csv", "fov_001_cell_5")
    top, bottom = figure.axes
    assert "fov_001_cell_5, converged" in top.get_title()
    traced = traces.load_analysis_csv(run.files[1], feature="intensity_total_ch_1")["intensity_total_ch_1"][5].values
    best = next(line for line in top.lines if line.get_label() == "best fit").get_ydata()
    row = run.results.query("fov == 1 and cell == 5").iloc[0]
    names = run.request.model.names
    np.testing.assert_allclose(best, run.request.model.function(cases.TIMES, *(row[n] for n in names)), rtol=1e-9)
    residual = bottom.lines[-1].get_ydata()
    np.testing.assert_allclose(residual, traced - best, atol=1e-6)
    assert run.plot_trace(0, 1).axes[0].get_title().startswith("cell=fov_000_cell_1, too few")
    for file, cell in (("f9.csv", 0), ("f2.csv", 0), ("f0.csv", "nobody"), ("f0.csv", 99)):
        with pytest.raises(InputError):
            run.plot_trace(file, cell)


def test_the_report_has_it_all(runs, tmp_path: Path):
    page = sf.report(runs["maturation"].dataset, tmp_path / "report.html").read_text()
    wanted = ["Quality of the traces", "R² above 0.9 is good", "no better than a constant", "f2.csv", "is no number"]
    wanted += ["traces.FittingRequest(", "Histogram of delta of the good cells", "Data, best fit and residual"]
    for text in wanted:
        assert text in page, text
    assert "Not drawn" not in page
    assert len(page) < 5_000_000
