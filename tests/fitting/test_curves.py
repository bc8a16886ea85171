"""From maps back to curves and to lmfit's own results."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmfit
import numpy as np
import pytest
import scipy.special
import xarray as xr
from lmfit import models

import scanfold as sf
from scanfold.conventions import InputError, provenance
from scanfold.fitting import Stages, evaluate, model_of, result_at
from scanfold.testing import raise_if_computes

X = np.linspace(0.1, 10, 50)
START = {"amplitude": 80, "center": 5.2, "sigma": 1.2, "slope": 0.1, "intercept": 15}


def peak_on_line() -> lmfit.Model:
    return models.GaussianModel() + models.LinearModel()


def make(model: lmfit.Model, truth: dict[str, float], noise: float = 0.5) -> xr.DataArray:
    variable = next(v for v in model.independent_vars if v not in ("form", "kind"))
    curve = model.eval(model.make_params(**truth), **{variable: X})
    values = curve + noise * np.random.default_rng(80).standard_normal((4, 3, X.size))
    return xr.DataArray(values, dims=("y", "x", "energy"), coords={"energy": ("energy", X, {"units": "keV"})})


@pytest.fixture(scope="module")
def scan() -> xr.DataArray:
    return make(peak_on_line(), {"amplitude": 100, "center": 5, "sigma": 1, "slope": 0.3, "intercept": 20})


def decay(t, a, k):
    return a * np.exp(-k * t)


def decay_along_x(x, a, k):
    return a * np.exp(-k * x)


def bessel(t, a, k):
    return a * scipy.special.j0(k * t)


def only_numbers(t, a, k):
    if {"positive": k > 0, "note": f"{1!r}"}["positive"]:
        return a * np.exp(-k * t)
    return 0 * t


def with_option(t, a, k, kind="plain"):
    return a * np.exp(-k * t) if kind == "plain" else a / (1 + k * t)


def voigts() -> lmfit.Model:
    return models.VoigtModel(prefix="v_") + models.SkewedVoigtModel(prefix="w_") + models.ConstantModel()


MODELS: dict[str, tuple[Callable[[], Any], dict[str, float], str]] = {
    "gaussian": (models.GaussianModel, {"amplitude": 30, "center": 5, "sigma": 1}, "compiled"),
    "step": (lambda: models.StepModel(form="erf"), {"amplitude": 30, "center": 5, "sigma": 1}, "compiled"),
    "spline": (
        lambda: models.SplineModel(xknots=[1, 3, 5, 7, 9]), {f"s{i}": 2.0 + i for i in range(5)}, "compiled",
    ),
    "polynomial": (lambda: models.PolynomialModel(3), {"c0": 1, "c1": 2, "c2": -0.3, "c3": 0.01}, "compiled"),
    "expression": (lambda: models.ExpressionModel("a*exp(-k*x) + 0.5"), {"a": 5, "k": 0.4}, "compiled"),
    "voigts": (
        voigts,
        dict(v_amplitude=30, v_center=3, v_sigma=0.5, w_amplitude=50, w_center=7, w_sigma=0.7, w_skew=1, c=2),
        "compiled",
    ),
    "quotient": (
        lambda: models.LinearModel() / models.PolynomialModel(1, prefix="p_"),
        {"slope": 2, "intercept": 1, "p_c0": 3, "p_c1": 0.5},
        "compiled",
    ),
    "compiled function": (lambda: decay, {"a": 5, "k": 0.4}, "compiled"),
    "array function": (lambda: bessel, {"a": 5, "k": 0.4}, "array"),
    "function for lmfit only": (lambda: only_numbers, {"a": 5, "k": 0.4}, "lmfit"),
    "function with an option": (lambda: lmfit.Model(with_option, kind="other"), {"a": 5, "k": 0.4}, "compiled"),
    "operator for lmfit only": (
        lambda: lmfit.CompositeModel(models.ConstantModel(), lmfit.Model(decay_along_x, prefix="d_"), np.maximum),
        {"c": 1, "d_a": 5, "d_k": 0.4},
        "lmfit",
    ),
}  # fmt: skip


def as_model(made: Any) -> lmfit.Model:
    return made if isinstance(made, lmfit.Model) else lmfit.Model(made)


def fit_kind(kind: str) -> tuple[Any, xr.DataArray, xr.Dataset]:
    maker, truth, engine = MODELS[kind]
    data = make(as_model(maker()), truth, noise=0.05)
    params: dict[str, Any] = {n: {"value": v} for n, v in truth.items()}
    if kind == "quotient":
        params["p_c0"]["vary"] = False
    fits = sf.fit(data.chunk(y=2), maker(), params, dim="energy", guess="params", retry=False)
    assert provenance(fits)["options"]["engine"] == engine
    return maker(), data, fits


@pytest.mark.parametrize("kind", MODELS)
def test_best_fit_is_lmfits_evaluation(kind: str):
    made, data, fits = fit_kind(kind)
    model = as_model(made)
    own = {} if provenance(fits)["options"]["model"].get("model") in sf.fitting.MODELS else {"model": made}
    with raise_if_computes():
        curves = evaluate(fits, data=data.chunk(y=2), **own)
        finer = evaluate(fits, np.linspace(1, 9, 7), **own)
    assert curves["best_fit"].chunks == ((2, 2), (3,), (50,))
    loaded, here, fine = curves.compute(), fits.compute(), finer.compute()
    variable = next(v for v in model.independent_vars if v not in ("form", "kind"))
    for y, x in [(0, 0), (3, 2)]:
        params = model.make_params()
        for name in params:
            params[name].set(value=float(here[name][y, x]), expr="")
        for at, found in ((X, loaded), (np.linspace(1, 9, 7), fine)):
            expected = model.eval(params, **{variable: at})
            np.testing.assert_allclose(found["best_fit"][y, x], expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(loaded["residual"], data - loaded["best_fit"], rtol=0, atol=1e-12)
    assert loaded["best_fit"].dims == ("y", "x", "energy")
    np.testing.assert_array_equal(loaded["energy"], X)
    assert float(np.sum(loaded["residual"] ** 2)) == pytest.approx(float(here["chisqr"].sum()), rel=1e-9)


def test_evaluate_reads_maps_only_and_keeps_what_they_are(scan: xr.DataArray):
    fits = sf.fit(scan.chunk(y=1).assign_attrs(units="counts"), peak_on_line(), START, dim="energy")
    axis = xr.DataArray(np.arange(5.0), dims="energy", coords={"energy": np.arange(5.0)}, attrs={"units": "eV"})
    curves = evaluate(fits, axis)
    assert set(curves.data_vars) == {"best_fit"}
    assert curves["best_fit"].chunks == ((1,) * 4, (3,), (5,))
    assert evaluate(fits.compute(), axis)["best_fit"].chunks is None
    other = evaluate(fits, xr.DataArray(np.arange(5.0), dims="fine"))
    assert other["best_fit"].dims == ("y", "x", "fine")


def test_positions_without_a_fit_have_no_curve(scan: xr.DataArray):
    bad = scan.copy(deep=True)
    bad.values[1, 1] = np.nan
    fits = sf.fit(bad, peak_on_line(), START, dim="energy").compute()
    curve = evaluate(fits, data=bad)["best_fit"]
    assert bool(np.isnan(curve[1, 1]).all())
    assert int(np.isnan(curve).all("energy").sum()) == 1


def test_data_in_another_order_of_dimensions(scan: xr.DataArray):
    fits = sf.fit(scan, peak_on_line(), START, dim="energy").compute()
    one, two = evaluate(fits, data=scan), evaluate(fits, data=scan.transpose("energy", "x", "y"))
    xr.testing.assert_identical(one.compute(), two.compute())


# ---- lmfit's own result ---------------------------------------------------------------------


def reference(model: lmfit.Model, row: np.ndarray, weights: np.ndarray | None = None, **start: Any) -> Any:
    params = model.make_params(**start)
    variable = next(v for v in model.independent_vars if v not in ("form", "kind"))
    first = model.fit(row, params, weights=weights, **{variable: X})
    # from its own result, to rounding: what is compared to 1e-6 must be known to it
    return model.fit(
        row, first.params, weights=weights, fit_kws={"ftol": 1e-15, "xtol": 1e-15, "epsfcn": 0}, **{variable: X}
    )


def assert_same_result(found: Any, expected: Any) -> None:
    """Compare all that a ModelResult says of itself."""
    assert list(found.params) == list(expected.params)
    assert found.var_names == expected.var_names
    for name, parameter in expected.params.items():
        other = found.params[name]
        assert (other.vary, other.expr) == (parameter.vary, parameter.expr), name
        error = parameter.stderr or 0
        assert abs(other.value - parameter.value) <= 1e-3 * error + 1e-9 * abs(parameter.value), name
        assert other.stderr == pytest.approx(parameter.stderr, rel=1e-4), name
        if parameter.correl:
            assert other.correl == pytest.approx(parameter.correl, abs=1e-4), name
    for name in ("nvarys", "ndata", "nfree"):
        assert getattr(found, name) == getattr(expected, name), name
    for name in ("chisqr", "redchi", "aic", "bic", "rsquared"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-6), name
    scale = np.sqrt(np.outer(np.diag(expected.covar), np.diag(expected.covar)))
    np.testing.assert_allclose(found.covar / scale, expected.covar / scale, atol=1e-4)
    height = np.abs(expected.best_fit).max()
    np.testing.assert_allclose(found.best_fit, expected.best_fit, rtol=0, atol=1e-5 * height)
    np.testing.assert_allclose(
        found.residual, expected.residual, rtol=0, atol=1e-5 * np.abs(expected.residual).max() + 1e-5 * height
    )
    uncertainty = expected.eval_uncertainty()
    np.testing.assert_allclose(found.eval_uncertainty(), uncertainty, rtol=1e-3, atol=1e-6 * uncertainty.max())
    for name, values in expected.eval_components().items():
        np.testing.assert_allclose(found.eval_components()[name], values, rtol=0, atol=1e-5 * height)
    report = found.fit_report()
    assert "[[Variables]]" in report
    assert "[[Correlations]]" in report
    for line in expected.fit_report(show_correl=False).splitlines():
        if "+/-" in line and "(" in line:
            assert any(line.split(":")[0].strip() == other.split(":")[0].strip() for other in report.splitlines()), line


@pytest.mark.parametrize("engine", ["batch", "lmfit"])
@pytest.mark.parametrize("weights", [None, "counts", "array", "per point"])
def test_result_at_is_lmfits_result(scan: xr.DataArray, weights: Any, engine: str):
    along = 1 / (0.3 + 0.05 * X)
    point = scan.copy(data=along * np.arange(1, 13).reshape(4, 3, 1))
    given = {"array": along, "per point": point}.get(weights, weights)
    fits = sf.fit(scan, peak_on_line(), START, dim="energy", weights=given, engine=engine).compute()
    row = scan[2, 1].values
    used = {None: None, "counts": 1 / np.sqrt(np.maximum(row, 1)), "array": along, "per point": point[2, 1].values}
    extra = {"weights": given} if weights in ("array", "per point") else {}
    found = result_at(fits, scan, y=2, x=1, **extra)
    assert_same_result(found, reference(peak_on_line(), row, used[weights], **START))
    again = pickle.loads(pickle.dumps(found.best_values))
    assert again == found.best_values
    if extra:
        with pytest.raises(InputError, match="weights="):
            result_at(fits, scan, y=2, x=1)


@pytest.mark.parametrize("kind", ["voigts", "expression", "spline", "compiled function", "array function",
                                  "function with an option", "function for lmfit only"])  # fmt: skip
def test_result_at_for_all_kinds_of_models(kind: str):
    made, data, fits = fit_kind(kind)
    own = {} if MODELS[kind][0] is voigts or kind in ("expression", "spline") else {"model": made}
    found = result_at(fits, data, y=1, x=2, **own)
    assert_same_result(found, reference(as_model(made), data[1, 2].values, **MODELS[kind][1]))


def test_result_at_with_fixed_tied_and_bounded_parameters(scan: xr.DataArray):
    params = peak_on_line().make_params(**START)
    params["slope"].set(value=0.3, vary=False)
    params["sigma"].set(min=0.1, max=4)
    params["intercept"].set(expr="20*sigma")
    fits = sf.fit(scan, peak_on_line(), params, dim="energy").compute()
    found = result_at(fits, scan, y=0, x=0)
    model = peak_on_line()
    expected = model.fit(scan[0, 0].values, params, x=X, fit_kws={"ftol": 1e-14, "xtol": 1e-14, "epsfcn": 0})
    assert_same_result(found, expected)
    assert (found.params["sigma"].min, found.params["sigma"].max) == (0.1, 4)


def test_result_at_leaves_the_same_points_out(scan: xr.DataArray):
    gappy = scan.copy(deep=True)
    gappy.values[1, 1, [3, 20, 21]] = [np.nan, np.inf, np.nan]
    fits = sf.fit(gappy, peak_on_line(), START, dim="energy").compute()
    found = result_at(fits, gappy, y=1, x=1)
    keep = np.isfinite(gappy.values[1, 1])
    assert found.ndata == 47
    expected = peak_on_line().fit(scan.values[1, 1][keep], peak_on_line().make_params(**START), x=X[keep])
    assert found.chisqr == pytest.approx(expected.chisqr, rel=1e-6)
    assert found.best_fit.shape == (47,)


def test_result_at_of_a_poisson_fit(scan: xr.DataArray):
    counts = scan.copy(data=np.random.default_rng(81).poisson(scan.clip(min=0)).astype(float))
    fits = sf.fit(counts, peak_on_line(), START, dim="energy", likelihood="poisson").compute()
    found = result_at(fits, counts, y=1, x=1)
    for name in START:
        assert found.params[name].value == float(fits[name][1, 1])
        assert found.params[name].stderr == float(fits[f"{name}_stderr"][1, 1])
    # the errors of the stored maps are those of the rebuilt covariance, which is not scaled
    np.testing.assert_allclose(
        np.sqrt(np.diag(found.covar)), [fits[f"{n}_stderr"][1, 1] for n in found.var_names], rtol=1e-6
    )
    assert found.chisqr == float(fits["chisqr"][1, 1])
    assert "intercept" in found.fit_report()


def test_result_at_of_the_last_of_several_stages(scan: xr.DataArray):
    stages = Stages({"line": ["slope", "intercept"], "peak": ["amplitude", "center", "sigma"]}, style="staged")
    fits = sf.fit(scan, peak_on_line(), START, dim="energy", stages=stages, guess="params").compute()
    found = result_at(fits, scan, y=1, x=1)
    assert sorted(found.var_names) == ["amplitude", "center", "sigma"]
    assert found.chisqr / found.nfree == pytest.approx(found.redchi, rel=1e-12)
    for name in ("amplitude", "center", "sigma"):
        i = found.var_names.index(name)
        assert np.sqrt(found.covar[i, i]) == pytest.approx(float(fits[f"{name}_stderr"][1, 1]), rel=1e-6)


def test_result_at_where_nothing_was_fitted(scan: xr.DataArray):
    bad = scan.copy(deep=True)
    bad.values[1, 1] = np.nan
    fits = sf.fit(bad, peak_on_line(), START, dim="energy").compute()
    with pytest.raises(InputError, match="too_few_points"):
        result_at(fits, bad, y=1, x=1)


def test_wrong_positions(scan: xr.DataArray):
    fits = sf.fit(scan, peak_on_line(), START, dim="energy").compute()
    for position, mentions in [
        ({"y": 4, "x": 0}, r"outside.*'y': 4"),
        ({"y": 0}, "leaves x open"),
        ({"row": 0, "x": 0}, "'row'.*y, x"),
    ]:
        with pytest.raises(InputError, match=mentions):
            result_at(fits, scan, **position)
    assert result_at(fits, scan, y=-1, x=-1).params["center"].value == float(fits["center"][3, 2])


def test_what_is_needed_is_said(scan: xr.DataArray):
    fits = sf.fit(scan, peak_on_line(), START, dim="energy")
    with pytest.raises(InputError, match=r"x=… or data=…"):
        evaluate(fits)
    with pytest.raises(InputError, match=r"50 points.*4"):
        evaluate(fits, np.arange(4.0), data=scan)
    with pytest.raises(InputError, match="no record of a fit"):
        evaluate(scan.to_dataset(name="counts"), X)
    own = sf.fit(scan, decay, {"a": 1, "k": 1}, dim="energy")
    for call in (lambda: evaluate(own, X), lambda: result_at(own, scan, y=0, x=0), lambda: model_of(own)):
        with pytest.raises(InputError, match=r"decay.*model=…"):
            call()
    with pytest.raises(InputError, match="parameters of the model: a, k"):
        evaluate(fits, X, model=decay)


def test_fits_opened_from_a_store_need_no_original_objects(scan: xr.DataArray, tmp_path: Path):
    fits = sf.fit(
        scan.chunk(y=2), peak_on_line(), {**START, "area": {"expr": "2*amplitude"}}, dim="energy", covariance=True
    )
    fits.to_zarr(tmp_path / "fits.zarr")
    opened = xr.open_zarr(tmp_path / "fits.zarr")
    del fits
    curves = evaluate(opened, data=scan)
    assert curves["best_fit"].chunks is not None
    found = result_at(opened, scan, y=2, x=1)
    assert_same_result(found, _with_area(scan[2, 1].values))
    assert float(curves["residual"][2, 1].std()) == pytest.approx(0.5, rel=0.3)
    assert len(sf.fitting.summary(opened)) == 12
    assert model_of(opened).param_names == peak_on_line().param_names


def _with_area(row: np.ndarray) -> Any:
    params = peak_on_line().make_params(**START)
    params.add("area", expr="2*amplitude")
    return peak_on_line().fit(row, params, x=X, fit_kws={"ftol": 1e-14, "xtol": 1e-14, "epsfcn": 0})
