"""Real counts of three orientations of a steel and of iron powder, from files to pictures and back."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import scanfold as sf
from scanfold import bragg
from scanfold.bragg import GroupedFitResult

NAMES = ["large_grain_steel_0deg", "large_grain_steel_67deg", "large_grain_steel_90deg", "iron_powder"]


@pytest.fixture(scope="module")
def folder(real_data):
    return real_data / "bragg"


@pytest.fixture(scope="module")
def data(folder) -> bragg.Data:
    return bragg.Data.from_grouped([folder / f"{n}.csv" for n in NAMES], folder / "openbeam.csv", L=9, tstep=10e-6)


@pytest.fixture(scope="module")
def result(data) -> GroupedFitResult:
    iron = bragg.CrossSection(iron=bragg.materials["Fe_sg229_Iron-alpha"])
    model = bragg.TransmissionModel(iron, vary_basic=True, vary_background=True, vary_response=True)
    made = model.fit(data, wlmin=1.0, wlmax=5.0, method="rietveld")
    assert "not computed yet" in repr(made)
    return made


def test_the_data_are_those_of_the_files(data, folder):
    assert data.indices == NAMES
    assert data.is_grouped
    assert dict(data.dataset.sizes) == {"group": 4, "tof": 2400}
    table = data.groups["iron_powder"]
    counts, beam = (pd.read_csv(folder / f"{n}.csv") for n in ("iron_powder", "openbeam"))
    np.testing.assert_array_equal(table["signal"], counts["counts"])
    expected = counts["counts"] / beam["counts"]
    np.testing.assert_allclose(table["trans"], expected, rtol=1e-14)
    error = expected * np.sqrt((counts["err"] / counts["counts"]) ** 2 + (beam["err"] / beam["counts"]) ** 2)
    np.testing.assert_allclose(table["err"], error, rtol=1e-12)
    # the edge of the 110 planes of α-iron, which is at 2d = 4.05 Å, is where the powder becomes transparent
    near = table[(table["wavelength"] > 3.8) & (table["wavelength"] < 4.3)]
    steepest = near["wavelength"].iloc[int(np.diff(near["trans"].rolling(5).mean()[4:]).argmax()) + 2]
    assert abs(steepest - 4.05) < 0.05


def test_the_named_groups_are_fitted_and_told_apart(result):
    frame = result.summary().set_index("index")
    assert list(frame.index) == NAMES
    assert frame["success"].all()
    powder = frame.loc["iron_powder"]
    assert powder["thickness"] == pytest.approx(1.95, abs=0.1)
    # a powder is what the model describes; grains as large as the beam are not
    assert powder["redchi"] < 15
    assert (frame.loc[NAMES[:3], "redchi"] > 2 * powder["redchi"]).all()
    assert set(frame["status"]) <= {"poor_fit", "at_bound", "converged"}
    assert frame.loc["iron_powder", "nvarys"] == 7


def test_one_of_them_is_an_lmfit_result(result):
    powder = result["iron_powder"]
    assert powder.params["thickness"].stderr == pytest.approx(result.summary()["thickness_err"].iloc[3])
    np.testing.assert_allclose(powder.best_fit, powder.eval(wavelength=powder.userkws["wavelength"]))
    assert powder.plot() is not None
    plt.close("all")


def test_reports_and_pictures(result, tmp_path):
    assert "iron_powder" in result.fit_report()
    assert "thickness" in result.fit_report("iron_powder")
    stages = result.stages_summary("iron_powder")
    redchi = [float(stages.loc["redchi", (s, "value")]) for s in ("basic", "background", "response")]
    assert redchi == sorted(redchi, reverse=True)
    assert len(result.plot_parameter_map("thickness").patches) == 4
    ax = result.plot_total_xs("iron_powder", plot_dspace=True, split_phases=True)
    edges = [line.get_xdata()[0] for line in ax.lines[1:]]
    assert max(edges) == pytest.approx(4.0549, abs=1e-3)
    # σ falls by most at that edge
    wavelength, sigma = ax.lines[0].get_data()
    assert wavelength[np.diff(sigma).argmin()] == pytest.approx(max(edges), abs=0.005)
    result.plot_stage_progression("iron_powder")
    measured = result.measured()
    page = sf.report(
        result.fits, tmp_path / "page.html", measured.values, model=measured.model, weights=measured.weights
    )
    assert "large_grain_steel_67deg" in page.read_text()
    plt.close("all")


@pytest.mark.parametrize("suffix", [".zarr", ".json"])
def test_saved_and_loaded_they_are_the_same(result, tmp_path, suffix):
    result.save(tmp_path / f"groups{suffix}", model_filename=tmp_path / "model.json")
    again = GroupedFitResult.load(tmp_path / f"groups{suffix}")
    assert again.summary().equals(result.summary())
    np.testing.assert_array_equal(again["iron_powder"].best_fit, result["iron_powder"].best_fit)
    assert again.stages_summary("iron_powder").equals(result.stages_summary("iron_powder"))
    assert list(again.model.params) == list(result.model.params)
    again.plot("iron_powder")
    again.plot_total_xs("iron_powder")
    refitted = again.refit(indices=["iron_powder"])
    xr.testing.assert_allclose(refitted.fits["thickness"], result.fits["thickness"], rtol=1e-4)
    other = GroupedFitResult.load(tmp_path / f"groups{suffix}", model_filename=tmp_path / "model.json")
    np.testing.assert_array_equal(other["iron_powder"].best_fit, result["iron_powder"].best_fit)
    plt.close("all")
