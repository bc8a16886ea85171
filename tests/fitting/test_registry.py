"""Models as plain names and numbers: there and back, and never code from a file."""

from __future__ import annotations

import json
import operator
from pathlib import Path
from typing import Any

import lmfit
import numpy as np
import pytest
import xarray as xr
from lmfit import models

import scanfold as sf
from scanfold.conventions import InputError
from scanfold.fitting import MODELS, build_model, evaluate, result_at
from scanfold.fitting.registry import describe_model

from .cases import BUILTIN, Case, coordinate

X = np.linspace(-5, 5, 40)


def values(model: lmfit.Model, x: np.ndarray, truth: dict[str, float]) -> np.ndarray:
    return np.broadcast_to(model.eval(model.make_params(**truth), **{coordinate(model): x.copy()}), x.shape)


@pytest.mark.parametrize("case", BUILTIN, ids=lambda c: c.name)
def test_builtin_models_there_and_back(case: Case):
    model = case.make()
    described = json.loads(json.dumps(describe_model(model)))
    again = build_model(described)
    assert type(again) is type(model)
    assert describe_model(again) == described
    np.testing.assert_array_equal(values(again, case.x, dict(case.truth)), values(model, case.x, dict(case.truth)))
    for name, parameter in model.make_params().items():
        other = again.make_params()[name]
        assert (other.min, other.max, other.expr, other.vary) == (
            parameter.min, parameter.max, parameter.expr, parameter.vary,
        )  # fmt: skip


def test_every_name_is_a_model_of_lmfit_with_one_real_variable():
    # SineModel is not in lmfit's own list of models; ParabolicModel is QuadraticModel by another name
    assert {type(c.make()).__name__ for c in BUILTIN} | {"SineModel", "ParabolicModel"} == set(MODELS)
    assert MODELS["ParabolicModel"] is MODELS["QuadraticModel"]
    assert all(issubclass(kind, lmfit.Model) for kind in MODELS.values())


@pytest.mark.parametrize("join", [operator.add, operator.sub, operator.mul, operator.truediv])
def test_composites_keep_operators_prefixes_and_options(join: Any):
    inner = models.StepModel(prefix="s_", form="erf") * models.PolynomialModel(2, prefix="p_")
    model = join(models.GaussianModel(prefix="a_"), inner) - models.ConstantModel()
    again = build_model(json.loads(json.dumps(describe_model(model))))
    truth = {n: 0.7 + 0.2 * i for i, n in enumerate(sorted(model.param_names))}
    x = np.linspace(-2, 2, 21)
    assert again.param_names == model.param_names
    np.testing.assert_array_equal(values(again, x, truth), values(model, x, truth))


def test_unknown_form_is_refused_by_the_compiled_engine_with_the_valid_ones():
    data = xr.DataArray([X], dims=("position", "x"), coords={"x": X})
    with pytest.raises(InputError, match=r"'sawtooth'.*linear, atan, arctan, erf, logistic"):
        sf.fit(data, models.StepModel(form="sawtooth"), dim="x", engine="batch")


def own(x: np.ndarray, a: float) -> np.ndarray:
    return a * x


class GaussianModel(lmfit.Model):
    """A model of the user's, under the name of lmfit's."""

    def __init__(self, **kwargs: Any):
        super().__init__(own, **kwargs)


@pytest.mark.parametrize("make", [lambda: lmfit.Model(own), GaussianModel], ids=["function", "subclass"])
def test_a_users_model_is_a_name_that_must_be_passed(make: Any):
    described = describe_model(make() + models.ConstantModel())
    assert "own" in described["left"]["function"]
    with pytest.raises(InputError, match=r"own.*model="):
        build_model(described)


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ({"model": "GausianModel"}, "did you mean 'GaussianModel'"),
        ({"model": "Model"}, "unknown model"),
        ({"model": "os.system"}, "unknown model"),
        ({"model": "Gaussian2dModel"}, "unknown model"),
        ({"op": "**", "left": {"model": "ConstantModel"}, "right": {"model": "ConstantModel"}}, "operator"),
        ({"op": "__import__", "left": {}, "right": {}}, "operator"),
        ({}, "model"),
        ({"model": "ExpressionModel", "expr": "open('f', 'w')", "independent_vars": ["x"]}, "expression"),
        ({"model": "ExpressionModel", "expr": "a.__class__", "independent_vars": ["x"]}, "expression"),
        ({"model": "ExpressionModel", "expr": "a*x" + "+a" * 120, "independent_vars": ["x"]}, "200"),
        ({"model": "ExpressionModel", "expr": "a*x"}, "ExpressionModel"),
        ({"model": "ExpressionModel", "expr": "a*x*y", "independent_vars": ["x", "y"]}, "ExpressionModel"),
        ({"model": "PolynomialModel", "degree": 8}, "degree"),
        ({"model": "PolynomialModel", "degree": "2"}, "degree"),
    ],
)
def test_an_edited_description_is_refused(described: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        build_model(described)


@pytest.mark.parametrize("option", ["init_script", "func", "nan_policy", "missing", "anything"])
@pytest.mark.parametrize("name", ["ExpressionModel", "GaussianModel", "StepModel"])
def test_only_the_options_that_describe_a_model_are_taken(name: str, option: str, tmp_path: Path):
    marker = tmp_path / "ran"
    described: dict[str, Any] = {"model": name, option: f"open({str(marker)!r}, 'w').close()"}
    if name == "ExpressionModel":
        described = {"expr": "a*x", "independent_vars": ["x"], **described}
    with pytest.raises(InputError, match=option):
        build_model(described)
    assert not marker.exists()


@pytest.fixture(scope="module")
def fits() -> xr.Dataset:
    data = xr.DataArray([own(X, 2.0) + 1], dims=("position", "x"), coords={"x": X})
    return sf.fit(data, models.LinearModel(), {"double": {"expr": "2*slope"}}, dim="x").compute()


def edited(fits: xr.Dataset, change: Any) -> xr.Dataset:
    recorded = json.loads(fits.attrs["provenance"])
    change(recorded["options"])
    return fits.assign_attrs(provenance=json.dumps(recorded))


CODE = "open({marker!r}, 'w').close()"


@pytest.mark.parametrize("where", ["expr", "model"])
def test_code_in_an_edited_store_is_not_run(fits: xr.Dataset, where: str, tmp_path: Path):
    marker = tmp_path / "ran"
    code = CODE.format(marker=str(marker))

    def change(options: dict[str, Any]) -> None:
        if where == "expr":
            options["parameters"]["double"]["expr"] = code
        else:
            options["model"] = {"model": "ExpressionModel", "expr": code, "independent_vars": ["x"]}

    bad = edited(fits, change)
    data = xr.DataArray([own(X, 2.0) + 1], dims=("position", "x"), coords={"x": X})
    with pytest.raises(InputError):
        result_at(bad, data, position=0)
    if where == "model":
        with pytest.raises(InputError):
            evaluate(bad, X)
    assert not marker.exists()
