"""The lines that a page gives make the same fits again, and nothing else."""

from __future__ import annotations

import h5py
import lmfit
import pytest
import xarray as xr

import scanfold as sf
from scanfold.conventions import provenance
from scanfold.fitting.registry import describe_model
from scanfold.report import recipe


def test_an_edited_record_puts_no_code_into_the_lines_to_run():
    recorded = {
        "inputs": {"data": {"dims": ["y\nimport os"], "shape": [3], "source": {"path": "a'\nimport os\n'"}}},
        "options": {
            "model": {"op": ";import os;", "left": {"model": "A();import os"}, "right": {"function": "a\nimport os"}},
            "parameters": {"a\nimport os": {"value": 1.0, "min": 0.0, "max": 2.0, "vary": True}},
            "dim": "t\nimport os", "weights": "x\nimport os", "starts": ["m\nimport os"], "engine": "x\nimport os",
            "stages": [["a\nimport os"], ["b"]], "max_nfev": "1)\nimport os", "method": "b\nimport os",
        },
    }  # fmt: skip
    lines = recipe.lines(recorded).splitlines()
    assert not [line for line in lines if line.startswith("import os")]
    assert ";" not in next(line for line in lines if line.startswith("model = "))


def test_the_lines_make_the_same_fits_again(tmp_path, monkeypatch):
    scan, _ = sf.testing.peak_scan({"position": 5}, seed=2)
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        file["counts"] = scan.values
    data = sf.open_scan(path, dims=("position", "energy"))["counts"]
    model = lmfit.models.GaussianModel(prefix="p_") + lmfit.models.LinearModel() * lmfit.models.ConstantModel(
        prefix="k_"
    )
    params = {
        "p_center": {"value": 50.0, "min": 0, "max": 99}, "p_amplitude": 1e4, "p_sigma": {"value": 6.0, "min": 1},
        "k_c": {"value": 1.0, "vary": False}, "intercept": 30, "slope": {"expr": "0*p_sigma"},
    }  # fmt: skip
    stages = {"first": "p_*", "rest": "all"}
    fits = sf.fit(data, model, params, dim="energy", likelihood="poisson", stages=stages, guess="params", retry=False)
    lines = recipe.lines(provenance(fits))
    code = "\n".join(line for line in lines.splitlines() if not line.startswith(("fits = sf.save", "sf.report")))
    code = code.replace("dataset='/counts')", "dataset='/counts', dims=('position', 'energy'))")
    scope: dict[str, object] = {}
    exec(code, scope)
    again = scope["fits"]
    xr.testing.assert_identical(again.drop_attrs().compute(), fits.drop_attrs().compute())


@pytest.mark.parametrize(
    ("model", "code"),
    [
        (lmfit.models.GaussianModel() + lmfit.models.LinearModel(), "GaussianModel() + LinearModel()"),
        (
            lmfit.models.GaussianModel() * (lmfit.models.ConstantModel() - lmfit.models.LinearModel()),
            "GaussianModel() * (ConstantModel() - LinearModel())",
        ),
        (
            (lmfit.models.ConstantModel() - lmfit.models.LinearModel()) / lmfit.models.GaussianModel(prefix="g_"),
            "(ConstantModel() - LinearModel()) / GaussianModel(prefix='g_')",
        ),
        (lmfit.models.PolynomialModel(3), "PolynomialModel(degree=3)"),
        (lmfit.models.ExpressionModel("a*exp(-x/t)"), "ExpressionModel('a*exp(-x/t)', independent_vars=['x'])"),
        (lmfit.models.StepModel(form="erf"), "StepModel(form='erf')"),
    ],
)
def test_the_code_of_a_model_makes_that_model(model: lmfit.Model, code: str):
    described = describe_model(model)
    assert recipe.model_code(described) == code
    assert describe_model(eval(code, vars(lmfit.models))) == described
