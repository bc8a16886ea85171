"""Models from text: the same as those written in Python, and nothing that is not a model."""

from __future__ import annotations

import lmfit
import numpy as np
import pytest
from lmfit import models

from scanfold.cli.models import parse_model
from scanfold.conventions import InputError
from scanfold.fitting import MODELS

X = np.linspace(0.5, 9.5, 40)


def evaluate(model: lmfit.Model) -> np.ndarray:
    params = model.make_params(**{n: 1.0 + 0.3 * i for i, n in enumerate(sorted(model.param_names))})
    return np.broadcast_to(model.eval(params, x=X), X.shape)


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("LorentzianModel", models.LorentzianModel()),
        (" LorentzianModel() + LinearModel ", models.LorentzianModel() + models.LinearModel()),
        (
            'GaussianModel(prefix="p1_") + GaussianModel(prefix="p2_") * ConstantModel',
            models.GaussianModel(prefix="p1_") + models.GaussianModel(prefix="p2_") * models.ConstantModel(),
        ),
        (
            '(GaussianModel(prefix="p1_") + GaussianModel(prefix="p2_")) * ConstantModel()',
            (models.GaussianModel(prefix="p1_") + models.GaussianModel(prefix="p2_")) * models.ConstantModel(),
        ),
        (
            "PolynomialModel(degree=3) - ExponentialModel / ConstantModel",
            models.PolynomialModel(degree=3) - models.ExponentialModel() / models.ConstantModel(),
        ),
        ("StepModel(form='erf')", models.StepModel(form="erf")),
        ("ExpressionModel('a * exp(-x / tau)')", models.ExpressionModel("a * exp(-x / tau)", independent_vars=["x"])),
    ],
)
def test_text_makes_the_model_that_python_makes(text, model):
    made = parse_model(text)
    assert made.param_names == model.param_names
    np.testing.assert_array_equal(evaluate(made), evaluate(model))


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"ExpressionModel", "SplineModel", "PolynomialModel", "Model"}))
def test_every_model_of_one_variable_is_known_by_its_name(name):
    assert type(parse_model(name)) is getattr(models, name)


def test_models_of_other_variables_are_not_offered():
    assert not {"Model", "Gaussian2dModel", "ComplexConstantModel"} & set(MODELS)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('touch hacked')",
        "LorentzianModel.__init__",
        "(lambda: 1)()",
        "GaussianModel(prefix=open('/etc/passwd').read())",
        "GaussianModel(**{'prefix': 'p_'})",
        "[GaussianModel for i in (1,)][0]",
        "GaussianModel + 3",
        "GaussianModel ** ConstantModel",
        "GaussianModel(prefix={'a': 1})",
        "GaussianModel(prefix=f'{1}')",
        "ExpressionModel('__import__(\"os\")')",
        "ExpressionModel('x.__class__')",
        "ExpressionModel('a*x', init_script='import os')",
        "GaussianModel(prefix='p_', independent_vars=['y'])",
        "Gaussian2dModel",
        "",
        "GaussianModel +",
        "(" * 300 + "GaussianModel" + ")" * 300,
        "GaussianModel" + " + GaussianModel" * 200,
    ],
)
def test_anything_else_is_refused(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError):
        parse_model(text)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("LorenzianModel + LinearModel", "did you mean 'LorentzianModel'"),
        ("PolynomialModel(degre=3)", "did you mean 'degree'"),
        ("GaussianModel + GaussianModel", "prefix='p1_'"),
        ("PolynomialModel(degree=-2)", "PolynomialModel"),
        ("StepModel(form='eff')", "StepModel"),
        ("GaussianModel('p1_')", "GaussianModel(prefix='p1_')"),
    ],
)
def test_a_slip_gets_the_right_name(text, hint):
    with pytest.raises(InputError) as raised:
        parse_model(text)
    assert hint in str(raised.value)
