"""Fits in stages: the same as a chain of lmfit fits, each from the result of the one before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lmfit
import numpy as np
import pytest
import xarray as xr
from lmfit import models

import scanfold as sf
from scanfold.conventions import InputError, InputTypeError
from scanfold.fitting import STATUS, Stages

X = np.linspace(-10, 10, 80)
NAMES = ["g_amplitude", "g_center", "g_sigma", "slope", "intercept"]
START = {"g_amplitude": 60, "g_center": 0.4, "g_sigma": 1.6, "slope": 0.0, "intercept": 15.0}
ENGINES = ["batch", "array", "lmfit"]


def peak_on_line() -> lmfit.Model:
    return models.GaussianModel(prefix="g_") + models.LinearModel()


def python_only(x, g_amplitude, g_center, g_sigma, slope, intercept):
    table = {"norm": np.sqrt(2 * np.pi), "text": f"{2!r}"}  # what numba cannot compile
    peak = g_amplitude / (g_sigma * table["norm"]) * np.exp(-(((x - g_center) / g_sigma) ** 2) / 2)
    return np.asarray(peak) + slope * x + intercept  # and no formula either


@pytest.fixture(scope="module")
def scan() -> xr.DataArray:
    model, random = peak_on_line(), np.random.default_rng(60)
    rows = [
        model.eval(model.make_params(g_amplitude=100, g_center=0.2 * i, g_sigma=1.2, slope=0.3, intercept=20), x=X)
        for i in range(3)
    ]
    return xr.DataArray(rows + 0.5 * random.standard_normal((3, X.size)), dims=("position", "x"), coords={"x": X})


def fit(scan: xr.DataArray, stages: Any, engine: str, **options: Any) -> xr.Dataset:
    model: Any = python_only if engine == "array" else peak_on_line()
    options = {"guess": "params", "retry": False, **options}
    engine = "batch" if engine == "array" else engine
    return sf.fit(scan, model, START, dim="x", stages=stages, engine=engine, **options).compute()


def chain(row: np.ndarray, groups: Sequence[Sequence[str]]) -> list[lmfit.model.ModelResult]:
    """Fit one row by lmfit, group after group."""
    model, results = peak_on_line(), []
    params = model.make_params(**START)
    for group in groups:
        for name in NAMES:
            params[name].vary = name in group
        results.append(model.fit(row, params, x=X, fit_kws={"ftol": 1e-14, "xtol": 1e-14, "epsfcn": 0}))
        params = results[-1].params
    return results


LINE, PEAK = ["slope", "intercept"], ["g_amplitude", "g_center", "g_sigma"]
CASES: dict[str, tuple[Any, list[list[str]]]] = {
    "a mapping adds": ({"line": LINE, "peak": PEAK}, [LINE, LINE + PEAK]),
    "rietveld": (Stages({"line": LINE, "height": "g_amplitude", "rest": "all"}), [LINE, [*LINE, "g_amplitude"], NAMES]),
    "staged": (Stages({"line": LINE, "peak": PEAK, "line again": LINE}, style="staged"), [LINE, PEAK, LINE]),
    "globs": (Stages({"peak": "g_*", "line": ["s?ope", "[i]*"]}, style="staged"), [PEAK, LINE]),
    "all": (Stages({"line": LINE, "everything": "all"}, style="staged"), [LINE, NAMES]),
    "a string is one name": ({"first": "slope", "then": "all"}, [["slope"], NAMES]),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", CASES)
def test_each_stage_is_the_fit_of_a_chain(scan: xr.DataArray, kind: str, engine: str):
    stages, groups = CASES[kind]
    stages = stages if isinstance(stages, Stages) else Stages(stages)
    fits = fit(scan, Stages(stages.vary, style=stages.style, keep=True), engine)
    kept = fits["stage_values"].transpose("position", "stage", "param")
    assert kept.sizes["stage"] == len(groups)
    for i in range(3):
        results = chain(scan.values[i], groups)
        for s, result in enumerate(results):
            for name in NAMES:
                error = result.params[name].stderr or 0
                off = abs(float(kept[i, s].sel(param=name)) - result.params[name].value)
                assert off <= 1e-3 * error + 1e-9 * abs(result.params[name].value) or off <= 2e-6, (s, name)
        last = results[-1]
        assert float(fits["chisqr"][i]) == pytest.approx(last.chisqr, rel=1e-6)
        assert float(fits["redchi"][i]) == pytest.approx(last.redchi, rel=1e-6)
        # n·ln(χ²/n): a relative error of χ² is an absolute one, n times as large
        assert float(fits["aic"][i]) == pytest.approx(last.aic, rel=0, abs=1e-6 * X.size)
        for name in groups[-1]:
            assert float(fits[f"{name}_stderr"][i]) == pytest.approx(last.params[name].stderr, rel=0.01)


@pytest.mark.parametrize("engine", ENGINES)
def test_last_stage_is_what_is_returned_and_others_have_no_error(scan: xr.DataArray, engine: str):
    fits = fit(scan, Stages({"line": LINE, "peak": PEAK}, style="staged", keep=True), engine)
    for name in NAMES:
        np.testing.assert_array_equal(fits[name], fits["stage_values"].isel(stage=-1).sel(param=name))
        assert bool(np.isnan(fits[f"{name}_stderr"]).all()) == (name in LINE)


@pytest.mark.parametrize("engine", ENGINES)
def test_one_stage_of_all_is_a_fit_without_stages(scan: xr.DataArray, engine: str):
    plain, staged = fit(scan, None, engine), fit(scan, {"everything": "all"}, engine)
    assert "stage_values" not in staged
    for name in plain.data_vars:
        np.testing.assert_array_equal(plain[name], staged[name], err_msg=str(name))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_bad_position_and_too_few_points_in_stages(scan: xr.DataArray, engine: str):
    bad = scan.copy(deep=True)
    bad.values[1] = np.nan
    fits, clean = (
        fit(bad, Stages({"line": LINE, "all": "all"}, keep=True), engine),
        fit(scan, Stages({"line": LINE, "all": "all"}, keep=True), engine),
    )
    assert fits["status"].values.tolist() == [1, STATUS["too_few_points"], 1]
    assert bool(np.isnan(fits["stage_values"][1]).all())
    for name in fits.data_vars:
        np.testing.assert_array_equal(fits[name][[0, 2]], clean[name][[0, 2]], err_msg=str(name))


def test_fixed_and_tied_parameters_stay_so_in_every_stage(scan: xr.DataArray):
    params = {**START, "slope": {"value": 0.3, "vary": False}, "intercept": {"expr": "200*g_sigma/12"}}
    for engine in ("batch", "lmfit"):
        fits = sf.fit(
            scan, peak_on_line(), params, dim="x", stages=Stages({"a": "g_center", "b": "all"}, keep=True),
            engine=engine, guess="params",
        ).compute()  # fmt: skip
        kept = fits["stage_values"]
        assert bool((kept.sel(param="slope") == 0.3).all())
        np.testing.assert_allclose(kept.sel(param="intercept"), kept.sel(param="g_sigma") * 200 / 12, rtol=1e-12)
        np.testing.assert_array_equal(kept.isel(stage=0).sel(param="g_sigma"), START["g_sigma"])
    with pytest.raises(InputError, match="'slope'"):
        sf.fit(scan, peak_on_line(), params, dim="x", stages={"fixed": "slope"})


def test_stages_that_make_no_sense_are_refused(scan: xr.DataArray):
    with pytest.raises(InputError, match="'b_\\*'"):
        fit(scan, {"peak": "b_*"}, "batch")
    with pytest.raises(InputError, match="varies no parameter"):
        fit(scan, {"nothing": []}, "batch")
    with pytest.raises(InputError, match="did you mean 'staged'"):
        Stages({"a": "all"}, style="stagd")
    for wrong in ({}, ["slope"], "all"):
        with pytest.raises(InputTypeError, match="mapping"):
            fit(scan, wrong, "batch")
