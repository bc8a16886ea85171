"""One case per built-in model of lmfit: true values, and starts away from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import lmfit
import numpy as np
import xarray as xr
from lmfit import models

POSITIONS = 4

#: Built-in models that have no case, with the reason.
LEFT_OUT = {
    "Gaussian2dModel": "its independent variables are two; a fit runs along one dimension",
    "ComplexConstantModel": "complex-valued; data are real",
}


@dataclass(frozen=True)
class Case:
    """A model, what made its data, and where a fit of them starts.

    `start` replaces some true values; `vary`, `expr` and bounds are set through `hints`.
    """

    name: str
    make: Callable[[], lmfit.Model]
    x: np.ndarray
    truth: Mapping[str, float]
    start: Mapping[str, float]
    hints: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    noise: float = 0.01

    def params(self, model: lmfit.Model) -> lmfit.Parameters:
        """Return the parameters at the start of the fit."""
        return self._apply_hints(model.make_params(**{**self.truth, **self.start}))

    def data(self, positions: int = POSITIONS) -> xr.DataArray:
        """Return noisy curves over ``(y, x)``, y being the scan; the noise is a fixed share of the highest point."""
        model = self.make()
        variable = {coordinate(model): self.x.copy()}  # a copy: lmfit's lognormal writes into its x
        curve = model.eval(self._apply_hints(model.make_params(**self.truth)), **variable)
        curve = np.broadcast_to(curve, self.x.shape)
        random = np.random.default_rng([len(self.name), *self.name.encode()])
        sigma = self.noise * np.max(np.abs(curve))
        values = curve + sigma * random.standard_normal((positions, self.x.size))
        # not `position`: lmfit's Pearson4Model has a parameter of that name
        return xr.DataArray(values, dims=("y", "x"), coords={"x": self.x})

    def _apply_hints(self, params: lmfit.Parameters) -> lmfit.Parameters:
        for name, hint in self.hints.items():
            params[name].set(**hint)
        return params


def spread(n: int = 101, low: float = -10.0, high: float = 10.0) -> np.ndarray:
    return np.linspace(low, high, n)


PEAK = {"amplitude": 10.0, "center": 0.7, "sigma": 1.4}
NEAR = {"amplitude": 8.0, "center": 0.3, "sigma": 1.9}
FIXED = {"vary": False}


def _peak(kind: type[lmfit.Model], truth: Mapping[str, float], start: Mapping[str, float] | None = None) -> Case:
    return Case(kind.__name__, kind, spread(), {**PEAK, **truth}, {**NEAR, **(start or {})})


def _polynomial(degree: int) -> Case:
    truth = {f"c{i}": value for i, value in enumerate((1.0, -2.0, 3.0, 1.5, -1.0, 0.5, 2.0, -0.7)[: degree + 1])}
    return Case(
        f"PolynomialModel({degree})",
        lambda: models.PolynomialModel(degree),
        spread(low=-1, high=1),
        truth,
        dict.fromkeys(truth, 0.5),
    )


KNOTS = np.linspace(-10, 10, 7)

BUILTIN: list[Case] = [
    Case("ConstantModel", models.ConstantModel, spread(), {"c": 3.0}, {"c": 1.0}),
    Case("LinearModel", models.LinearModel, spread(), {"slope": 0.5, "intercept": 3}, {"slope": 1, "intercept": 0}),
    Case("QuadraticModel", models.QuadraticModel, spread(), {"a": 0.1, "b": -1, "c": 4}, {"a": 1, "b": 1, "c": 1}),
    *(_polynomial(degree) for degree in range(8)),
    Case(
        "SplineModel",
        lambda: models.SplineModel(xknots=KNOTS),
        spread(),
        {f"s{i}": float(2 + np.sin(k)) for i, k in enumerate(KNOTS)},
        {f"s{i}": 1.0 for i in range(len(KNOTS))},
    ),
    _peak(models.GaussianModel, {}),
    _peak(models.LorentzianModel, {}),
    _peak(models.SplitLorentzianModel, {"sigma_r": 2.3}, {"sigma_r": 1.5}),
    _peak(models.VoigtModel, {}),
    _peak(models.PseudoVoigtModel, {"fraction": 0.4}, {"fraction": 0.6}),
    _peak(models.MoffatModel, {"beta": 1.7}, {"beta": 1.2}),
    _peak(models.Pearson4Model, {"expon": 2.0, "skew": 1.5}, {"expon": 1.5, "skew": 0.5}),
    _peak(models.Pearson7Model, {"expon": 2.0}, {"expon": 1.5}),
    _peak(models.StudentsTModel, {"sigma": 2.0}, {"sigma": 1.2}),
    _peak(models.BreitWignerModel, {"q": 2.0}, {"q": 1.2}),
    Case(
        "LognormalModel",
        models.LognormalModel,
        spread(low=0.1, high=12),
        {"amplitude": 10, "center": 1.0, "sigma": 0.6},
        {"amplitude": 8, "center": 0.8, "sigma": 0.8},
    ),
    Case(
        "DampedOscillatorModel",
        models.DampedOscillatorModel,
        spread(low=0, high=6),
        {"amplitude": 2, "center": 2.5, "sigma": 0.2},
        {"amplitude": 1.5, "center": 2.3, "sigma": 0.3},
    ),
    Case(
        "DampedHarmonicOscillatorModel",
        models.DampedHarmonicOscillatorModel,
        spread(n=100, low=-8, high=8),
        {"amplitude": 5, "center": 2.5, "sigma": 0.8, "gamma": 3.0},
        {"amplitude": 4, "center": 2.2, "sigma": 1.0, "gamma": 2.0},
    ),
    _peak(models.ExponentialGaussianModel, {"gamma": 0.8}, {"gamma": 1.2}),
    # From a smaller gamma the path passes a saddle, the peak without skew, where rounding decides to which side.
    _peak(models.SkewedGaussianModel, {"gamma": 1.5}, {"gamma": 1.2}),
    _peak(models.SkewedVoigtModel, {"skew": 1.5}, {"skew": 0.7}),
    *(
        Case(
            f"ThermalDistributionModel({form})",
            lambda form=form: models.ThermalDistributionModel(form=form),
            spread(low=1, high=10),
            {"amplitude": 1.0, "center": 0.2, "kt": 2.0},
            {"center": 0.4, "kt": 1.6},
            # amplitude and center are one parameter: exp((x - center)/kt) carries both
            {"amplitude": FIXED},
        )
        for form in ("bose", "maxwell", "fermi")
    ),
    Case(
        "BoseModel",
        models.BoseModel,
        spread(low=1, high=10),
        {"amplitude": 2.0, "center": 0.2, "kt": 2.0},
        {"amplitude": 1.6, "center": 0.1, "kt": 1.7},
    ),
    Case(
        "FermiModel",
        models.FermiModel,
        spread(),
        {"amplitude": 2.0, "center": 0.5, "kt": 1.2},
        {"amplitude": 1.5, "center": 0.0, "kt": 0.9},
    ),
    _peak(models.DoniachModel, {"gamma": 0.2}, {"gamma": 0.1}),
    Case(
        "PowerLawModel",
        models.PowerLawModel,
        spread(low=0.5, high=10),
        {"amplitude": 4, "exponent": -1.3},
        {"amplitude": 3, "exponent": -1},
    ),
    Case(
        "ExponentialModel",
        models.ExponentialModel,
        spread(low=0, high=10),
        {"amplitude": 4, "decay": 2.5},
        {"amplitude": 3, "decay": 2},
    ),
    *(
        Case(
            f"StepModel({form})",
            lambda form=form: models.StepModel(form=form),
            spread(),
            {"amplitude": 3.0, "center": 0.5, "sigma": 2.5},
            {"amplitude": 2.6, "center": 0.1, "sigma": 2.1},
        )
        for form in ("linear", "atan", "arctan", "erf", "logistic")
    ),
    Case(
        "StepModel(falling)",
        lambda: models.StepModel(form="erf"),
        spread(),
        {"amplitude": 3.0, "center": 0.5, "sigma": -2.5},
        {"amplitude": 2.6, "center": 0.1, "sigma": -2.1},
    ),
    *(
        Case(
            f"RectangleModel({form})",
            lambda form=form: models.RectangleModel(form=form),
            spread(),
            {"amplitude": 3.0, "center1": -3.5, "sigma1": 1.5, "center2": 4.0, "sigma2": 1.0},
            {"amplitude": 2.7, "center1": -3.2, "sigma1": 1.2, "center2": 3.8, "sigma2": 1.2},
        )
        for form in ("linear", "atan", "arctan", "erf", "logistic")
    ),
    Case(
        "ExpressionModel",
        lambda: models.ExpressionModel("offset + height*exp(-x/tau)*cos(2*pi*x/period)"),
        spread(low=0, high=10),
        {"offset": 0.5, "height": 3.0, "tau": 4.0, "period": 2.5},
        {"offset": 0.3, "height": 2.5, "tau": 3.0, "period": 2.45},
    ),
]


def coordinate(model: lmfit.Model) -> str:
    """Return the name of the independent variable; lmfit counts options as such, and sorts a composite's by name."""
    (name,) = (str(v) for v in model.independent_vars if v not in ("form", "kind", "shape"))
    return name


def case(name: str) -> Case:
    """Return the built-in case of this name."""
    return next(c for c in BUILTIN if c.name == name)
