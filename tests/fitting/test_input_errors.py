"""Bad input gives one clear error, before anything is read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import lmfit
import numpy as np
import pytest
import xarray as xr
from lmfit import models

import scanfold as sf
from scanfold.conventions import ScanError
from scanfold.testing import CountingArray

SHAPE = (4, 6, 30)
START = {"amplitude": 10, "center": 5, "sigma": 1}


class Scan:
    """A lazy scan, and the count of its reads."""

    def __init__(self) -> None:
        self.source = CountingArray(np.ones(SHAPE))
        self.data = self.source.lazy(("y", "x", "energy"), y=2).assign_coords(energy=np.linspace(0, 10, SHAPE[-1]))

    def fit(self, model: Any = None, params: Any = START, **options: Any) -> xr.Dataset:
        options = {"dim": "energy", **options}
        return sf.fit(options.pop("data", self.data), model or models.GaussianModel(), params, **options)

    def refuses(self, *mentions: str, **options: Any) -> ScanError:
        """Assert that a fit is refused without a read, in words that mention these; return the error."""
        with pytest.raises(ScanError) as caught:
            self.fit(**options)
        text = str(caught.value)
        missing = [m for m in mentions if m not in text]
        assert not missing, f"{text!r} does not mention {missing}"
        assert self.source.reads == 0
        assert len(text) < 600
        return caught.value


@pytest.fixture
def scan() -> Scan:
    return Scan()


def test_the_scan_itself_is_accepted(scan: Scan):
    # so that each refusal below is for its own reason
    assert set(START) <= set(scan.fit())
    assert scan.source.reads == 0


def test_unknown_dim(scan: Scan):
    scan.refuses("'enrgy'", "did you mean 'energy'", "y, x, energy", dim="enrgy")


def test_chunked_core_dim_says_what_to_type(scan: Scan):
    data = scan.source.lazy(("y", "x", "energy"), y=2, energy=10).assign_coords(energy=scan.data.energy)
    error = scan.refuses("energy", data=data)
    typed = re.search(r"\.chunk\([^()]*(\([^()]*\))?[^()]*\)", str(error))
    assert typed, str(error)
    cured = eval(f"data{typed[0]}", {"data": data})
    assert len(cured.chunksizes["energy"]) == 1
    assert set(START) <= set(scan.fit(data=cured))


@pytest.mark.parametrize(
    ("option", "value", "valid"),
    [
        ("engine", "bach", ["auto", "batch", "lmfit"]),
        ("likelihood", "poison", ["gaussian", "poisson"]),
        ("guess", "modl", ["auto", "model", "mean", "params"]),
        ("errors", "ignore", ["flag", "raise"]),
    ],
)
def test_unknown_option_lists_the_valid_ones(scan: Scan, option: str, value: str, valid: list[str]):
    scan.refuses(repr(value), *valid, **{option: value})


@pytest.mark.parametrize("engine", ["auto", "batch", "lmfit"])
def test_unknown_method_lists_the_valid_ones(scan: Scan, engine: str):
    # lmfit itself runs Nelder-Mead for a name that it does not know
    scan.refuses("'leastsquare'", "leastsq", engine=engine, method="leastsquare")


def test_parameter_that_the_model_lacks(scan: Scan):
    scan.refuses("'centre'", "did you mean 'center'", "amplitude", params={"amplitude": 1, "centre": 3, "sigma": 1})
    misspelt = models.GaussianModel().make_params(**START)
    misspelt.add("centre", value=3)
    scan.refuses("'centre'", "center", params=misspelt)


def test_setting_that_a_parameter_lacks(scan: Scan):
    scan.refuses("'minimum'", "min", params={**START, "center": {"value": 1, "minimum": 0}})


def test_parameter_without_a_start(scan: Scan):
    def line(x, slope, intercept):
        return slope * x + intercept

    scan.refuses("intercept", model=line, params={"slope": 1}, guess="params")


@pytest.mark.parametrize("bounds", [(3.0, 1.0), (2.0, 2.0)])
def test_min_not_below_max(scan: Scan, bounds: tuple[float, float]):
    low, high = bounds
    scan.refuses("'center'", "min", "max", params={**START, "center": {"value": 2, "min": low, "max": high}})


def test_min_above_max_at_one_position(scan: Scan):
    low = xr.DataArray(np.zeros(SHAPE[:2]), dims=("y", "x"))
    low[1, 2] = 9
    scan.refuses("'center'", "min", "max", params={**START, "center": {"value": 2, "min": low, "max": 5}})


def test_min_above_the_models_own_max(scan: Scan):
    scan.refuses(
        "'fraction'", "min", "max", model=models.PseudoVoigtModel(), params={**START, "fraction": {"min": 2.0}}
    )


@pytest.mark.parametrize("values", [np.full(SHAPE, "a", object), np.full(SHAPE, "3.5"), np.ones(SHAPE, complex)])
def test_data_that_are_not_real_numbers(scan: Scan, values: np.ndarray):
    data = xr.DataArray(values, dims=("y", "x", "energy"), coords={"energy": scan.data.energy})
    scan.refuses(str(values.dtype), data=data)


def test_data_that_are_not_labelled(scan: Scan):
    scan.refuses("ndarray", "DataArray", data=np.ones(SHAPE))


def test_coordinate_that_is_not_finite_or_numeric(scan: Scan):
    x = scan.data.energy.values.copy()
    x[3] = np.nan
    scan.refuses("energy", data=scan.data.assign_coords(energy=x))
    scan.refuses("energy", data=scan.data.assign_coords(energy=[f"channel {i}" for i in range(SHAPE[-1])]))


CODE = [
    "__import__('pathlib').Path({marker!r}).touch()",
    "open({marker!r}, 'w')",
    "amplitude.__class__.__mro__",
    "(lambda: 3)()",
    "[a for a in (1, 2)][0]",
    "exec('1')",
    "(b := amplitude)",
    "f'{{amplitude}}'",
    "amplitude[0]",
    "amplitude if open({marker!r}, 'w') else 1",
    "sqrt(*[4])",
    "'text'",
    "import os",
    "amplitude; center",
]


@pytest.mark.parametrize("expr", CODE)
@pytest.mark.parametrize("engine", ["batch", "lmfit"])
def test_code_in_an_expression_is_refused_and_not_run(scan: Scan, tmp_path: Path, expr: str, engine: str):
    marker = tmp_path / "ran"
    text = expr.format(marker=str(marker))
    if len(text) > 200:
        pytest.skip("the temporary folder's name makes the expression too long to tell why it is refused")
    scan.refuses("expr", params={**START, "sigma": {"expr": text}}, engine=engine)
    assert not marker.exists()


def test_long_expression(scan: Scan):
    text = "amplitude" + " + 0" * 60
    scan.refuses("249", "200", params={**START, "sigma": {"expr": text}})


def test_expression_of_unknown_or_circular_names(scan: Scan):
    scan.refuses("'amplitud'", "amplitude", params={**START, "sigma": {"expr": "amplitud / 10"}})
    scan.refuses("center", "sigma", params={**START, "sigma": {"expr": "center"}, "center": {"expr": "sigma"}})


@pytest.mark.parametrize("field", ["value", "min", "max"])
def test_positionwise_parameter_on_wrong_dims(scan: Scan, field: str):
    row = xr.DataArray(np.ones(4), dims="row")
    scan.refuses("'center'", "'row'", "y, x", params={**START, "center": {field: row}})
    along = xr.DataArray(np.ones(30), dims="energy")
    scan.refuses("'center'", "'energy'", "y, x", params={**START, "center": {field: along}})
    short = xr.DataArray(np.ones(5), dims="x")
    scan.refuses("'center'", "5", "6", "'x'", params={**START, "center": {field: short}})


def test_positionwise_parameter_with_other_coordinates(scan: Scan):
    data = scan.data.assign_coords(x=np.arange(6.0))
    shifted = xr.DataArray(np.ones(6), dims="x", coords={"x": np.arange(6.0) + 0.5})
    scan.refuses("'center'", "'x'", data=data, params={**START, "center": shifted})
    turned = xr.DataArray(np.ones(6), dims="x", coords={"x": np.arange(6.0)[::-1]})
    scan.refuses("'center'", "'x'", data=data, params={**START, "center": turned})


def test_weights_with_other_coordinates(scan: Scan):
    along = xr.DataArray(np.ones(30), dims="energy", coords={"energy": scan.data.energy[::-1].values})
    scan.refuses("weights", "energy", weights=along)


def test_positionwise_parameter_as_a_bare_array(scan: Scan):
    scan.refuses("'center'", "DataArray", params={**START, "center": np.ones((4, 6))})


@pytest.mark.parametrize(
    ("weights", "mentions"),
    [
        ("count", ["'count'", "counts"]),
        (np.ones(29), ["29", "30"]),
        (np.ones((4, 6)), ["(4, 6)"]),
        (xr.DataArray(np.ones(4), dims="row"), ["'row'"]),
        (xr.DataArray(np.ones(29), dims="energy"), ["29", "30"]),
        (np.full(30, "1"), ["weights"]),
    ],
    ids=["name", "length", "shape", "dims", "size", "text"],
)
def test_weights_that_do_not_fit(scan: Scan, weights: Any, mentions: list[str]):
    scan.refuses(*mentions, weights=weights)


def test_weights_with_poisson_likelihood(scan: Scan):
    scan.refuses("weights", "poisson", weights="counts", likelihood="poisson")


@pytest.mark.parametrize("model", [42, models.GaussianModel, None])
def test_model_of_the_wrong_kind(scan: Scan, model: Any):
    with pytest.raises(ScanError, match="model"):
        sf.fit(scan.data, model, START, dim="energy")


def test_model_of_two_variables_or_of_complex_values(scan: Scan):
    scan.refuses("y", model=models.Gaussian2dModel(), params=None, guess="params")
    scan.refuses("complex", model=models.ComplexConstantModel(), params={"re": 1, "im": 1}, guess="params")


def test_stage_of_unknown_parameters(scan: Scan):
    scan.refuses("'centre'", "center", stages={"first": ["centre"], "then": "all"})
    scan.refuses("'slope_*'", stages={"first": ["slope_*"]})


@pytest.mark.parametrize("count", [0, -5])
def test_max_nfev_below_one(scan: Scan, count: int):
    scan.refuses("max_nfev", max_nfev=count)


def test_params_of_the_wrong_kind(scan: Scan):
    scan.refuses("params", params=[1, 2, 3])
    scan.refuses("'center'", params={**START, "center": "five"})


def test_nothing_varies(scan: Scan):
    fixed = {name: {"value": value, "vary": False} for name, value in START.items()}
    scan.refuses("vary", params=fixed)


def test_lmfit_parameters_of_another_model(scan: Scan):
    scan.refuses("amplitude", params=lmfit.create_params(slope=1, intercept=2))


def test_parameter_with_the_name_of_a_dimension_or_a_statistic(scan: Scan):
    def line(x, y, redchi):
        return y * x + redchi

    scan.refuses("'y'", model=line, params={"y": 1, "redchi": 2})
    scan.refuses("'position'", model=models.Pearson4Model(), params=None, data=scan.data.rename(y="position"))
