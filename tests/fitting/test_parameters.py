"""What the user says of the parameters, read into one table."""

from __future__ import annotations

from typing import Any

import lmfit
import numpy as np
import pytest
import xarray as xr
from lmfit import models

import scanfold as sf
from scanfold.conventions import InputError, InputTypeError
from scanfold.fitting.parameters import ParameterTable, read_parameters

SCAN = {"y": 2, "x": 3}


def read(params: Any, model: lmfit.Model | None = None) -> ParameterTable:
    return read_parameters(model or models.GaussianModel(), params, SCAN)


def settings(table: ParameterTable, name: str) -> tuple[float, float, float, bool]:
    i = table.names.index(name)
    return float(table.value[i]), float(table.low[i]), float(table.high[i]), bool(table.vary[i])


@pytest.mark.parametrize("kind", [models.GaussianModel, models.VoigtModel, models.MoffatModel, models.Pearson4Model])
@pytest.mark.parametrize("prefix", ["", "p_"])
def test_without_params_the_models_hints_hold(kind: type[lmfit.Model], prefix: str):
    model = kind(prefix=prefix)
    table = read(None, model)
    hints = kind(prefix=prefix).make_params()
    assert table.names == list(hints)
    for name, p in hints.items():
        _, low, high, vary = settings(table, name)
        assert (low, high, vary) == (p.min, p.max, p.vary and not p.expr)
    assert dict(table.expressions) == {n: p.expr for n, p in hints.items() if p.expr}
    assert list(np.array(table.names)[table.vary]) == [n for n, p in hints.items() if p.vary and not p.expr]


def test_a_mapping_is_laid_over_the_hints():
    table = read({"amplitude": 3, "center": {"value": 1.5, "min": -2, "max": 4}, "sigma": {"value": 2, "vary": False}})
    assert settings(table, "amplitude") == (3, -np.inf, np.inf, True)
    assert settings(table, "center") == (1.5, -2, 4, True)
    assert settings(table, "sigma") == (2, 0, np.inf, False)  # lmfit's own minimum
    assert [n for n, _ in table.expressions] == ["fwhm", "height"]


def test_a_mapping_and_lmfits_parameters_say_the_same():
    given = {
        "amplitude": {"value": 3, "max": 9},
        "center": {"value": 1, "vary": False},
        "sigma": {"expr": "amplitude/3"},
    }
    params = models.GaussianModel().make_params()
    for name, values in given.items():
        params[name].set(**values)
    one, two = read(given), read(params)
    np.testing.assert_array_equal(one.value, two.value)
    np.testing.assert_array_equal(one.low, two.low)
    np.testing.assert_array_equal(one.high, two.high)
    np.testing.assert_array_equal(one.vary, two.vary)
    assert one.expressions == two.expressions


def test_lmfits_parameter_objects_inside_a_mapping():
    table = read({"center": lmfit.Parameter("center", value=2, min=1, max=3, vary=False)})
    assert settings(table, "center") == (2, 1, 3, False)


def test_inputs_are_left_as_they_were():
    params = models.GaussianModel().make_params(amplitude=3, center=1, sigma=2)
    before = params.dumps()
    mapping = {"center": {"value": 1.5, "min": xr.DataArray([0.0, 1], dims="y")}}
    model = models.GaussianModel()
    read(params, model)
    read(mapping, model)
    assert params.dumps() == before
    assert list(mapping["center"]) == ["value", "min"]
    assert model.param_hints == models.GaussianModel().param_hints


@pytest.mark.parametrize("given", [{"value": 3}, {"min": 0.2}, {"vary": True}, {"vary": False, "value": 1}])
def test_what_is_said_of_a_tied_parameter_unties_it(given: dict[str, Any]):
    table = read({"gamma": given}, models.VoigtModel())
    assert "gamma" not in dict(table.expressions)
    assert bool(table.vary[table.names.index("gamma")]) == given.get("vary", True)
    assert "gamma" in dict(read(None, models.VoigtModel()).expressions)


def test_expressions_come_after_those_they_use():
    model = models.GaussianModel(prefix="a_") + models.GaussianModel(prefix="b_") + models.GaussianModel(prefix="c_")
    table = read({"a_sigma": {"expr": "2*b_sigma"}, "b_sigma": {"expr": "c_sigma + 1"}}, model)
    order = [n for n, _ in table.expressions]
    assert order.index("b_sigma") < order.index("a_sigma") < order.index("a_fwhm")


def test_new_names_may_be_expressions_only():
    table = read({"area": {"expr": "amplitude*sigma"}})
    assert table.names[-1] == "area"
    with pytest.raises(InputError, match="unknown parameter 'extra'"):
        read({"extra": 3})


def test_values_and_bounds_per_position():
    center, low = xr.DataArray([1.0, 2.0], dims="y"), xr.DataArray([0, 0, 1], dims="x")
    table = read({"center": {"value": center, "min": low, "max": 9}})
    i = table.names.index("center")
    assert set(table.own) == {(i, 0), (i, 1)}
    assert np.isnan(table.value[i])
    assert np.isnan(table.low[i])
    assert table.high[i] == 9
    assert table.own[i, 1].dtype == np.float64


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"amplitud": 3}, InputError, "did you mean 'amplitude'"),
        ({"center": {"valeu": 3}}, InputError, "did you mean 'value'"),
        ({"center": "three"}, InputTypeError, "'three'"),
        ({"center": [1, 2]}, InputTypeError, r"\[1, 2\]"),
        ({"center": np.ones((2, 3))}, InputTypeError, "DataArray over the scan dims"),
        ({"center": {"value": 1 + 2j}}, InputTypeError, "number"),
        ({"center": {"min": 3, "max": 1}}, InputError, "min 3.0 and max 1.0"),
        ({"center": {"min": np.nan, "max": 1}}, InputError, "min"),
        ({"sigma": {"max": -1}}, InputError, "min 0"),
        ({"center": {"min": xr.DataArray([3.0, 5], dims="y"), "max": 4}}, InputError, "5.0 and max 4.0 at {'y': 1}"),
        ({"center": xr.DataArray([1.0], dims="z")}, InputError, "'z'.*y, x"),
        ({"center": xr.DataArray([1.0, 2, 3], dims="y")}, InputError, "3 points along 'y'; the scan has 2"),
        ({"sigma": {"expr": "centre"}}, InputError, "'centre'"),
        ({"sigma": {"expr": "sigma"}}, InputError, "circle"),
        ({"sigma": {"expr": "center"}, "center": {"expr": "fwhm"}}, InputError, "circle"),
        ({"sigma": {"expr": 3}}, InputTypeError, "expr"),
        ({"sigma": {"vary": "yes"}}, InputTypeError, "vary"),
        ([("amplitude", 3)], InputTypeError, "list"),
        (models.LinearModel().make_params(), InputError, "lacks amplitude"),
    ],
)
def test_what_cannot_be_used_is_refused(params: Any, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        read(params)


@pytest.mark.parametrize("engine", ["batch", "lmfit"])
def test_bounds_per_position_are_kept_to(engine: str):
    x = np.linspace(-10, 10, 60)
    two = lmfit.lineshapes.gaussian(x, 10, -4, 1) + lmfit.lineshapes.gaussian(x, 10, 4, 1)
    data = xr.DataArray(
        two + 0.01 * np.random.default_rng(95).standard_normal((2, 60)), dims=("y", "x"), coords={"x": x}
    )
    side = {"min": xr.DataArray([-8.0, 0.0], dims="y"), "max": xr.DataArray([0.0, 8.0], dims="y")}
    params = {"amplitude": 5, "center": {"value": xr.DataArray([-3.0, 3.0], dims="y"), **side}, "sigma": 1}
    fits = sf.fit(data, models.GaussianModel(), params, dim="x", engine=engine, guess="params").compute()
    np.testing.assert_allclose(fits["center"], [-4, 4], atol=0.3)


@pytest.mark.parametrize("engine", ["batch", "lmfit"])
def test_a_fixed_parameter_stays_on_its_bound(engine: str):
    line = xr.DataArray([[1.0, 3.0, 5.0, 7.0]], dims=("y", "x"), coords={"x": np.arange(4.0)})
    params = {"slope": {"value": 0.0, "min": 0.0, "max": 1e3, "vary": False}, "intercept": 1.0}
    fits = sf.fit(line, models.LinearModel(), params, dim="x", engine=engine, guess="params").compute()
    assert fits["slope"].values.tolist() == [0.0]
    np.testing.assert_allclose(fits["intercept"], [4.0])
