"""What the maps say of themselves: units, flags, coordinates, and where they come from."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import lmfit
import numpy as np
import pytest
import xarray as xr
from lmfit import models

import scanfold as sf
from scanfold.conventions import flags, provenance
from scanfold.fitting import STATISTICS, STATUS, Stages
from scanfold.testing import peak_scan

from .cases import BUILTIN, Case, coordinate

START = {"amplitude": 900, "center": 5, "sigma": 0.6, "slope": 0, "intercept": 30}


def peak_on_line() -> lmfit.Model:
    return models.GaussianModel() + models.LinearModel()


@pytest.fixture(scope="module")
def scan() -> xr.DataArray:
    data, _ = peak_scan({"y": 3, "x": 4}, points=40, seed=90)
    return data.assign_coords(
        y=("y", [0.0, 0.5, 1.0], {"units": "um"}),
        position_x=(("y", "x"), np.arange(12.0).reshape(3, 4), {"units": "mm", "long_name": "stage"}),
        run=7,
    )


# ---- units ----------------------------------------------------------------------------------

FACTORS = {"A": 7.0, "B": 1000.0}


def factor(units: str) -> float:
    """Return by what a quantity in these units grows when y grows 7 times and x 1000 times."""
    assert re.fullmatch(r"[AB()*/\d ]+", units), units
    return float(eval(units, dict(FACTORS)))


#: Functions that are nothing in other units: they take a logarithm, or a power, of x itself.
NOT_SCALABLE = {
    "ThermalDistributionModel(bose)",
    "ThermalDistributionModel(maxwell)",
    "ThermalDistributionModel(fermi)",
    "LognormalModel",
    "PowerLawModel",
    "StudentsTModel",
    "DoniachModel",
}


@pytest.mark.parametrize("case", [c for c in BUILTIN if c.name not in NOT_SCALABLE], ids=lambda c: c.name)
def test_units_of_parameters_scale_as_the_model_does(case: Case):
    model = case.make()
    data = case.data(1).rename(x="x")
    data.attrs["units"], data["x"].attrs["units"] = "A", "B"
    fits = sf.fit(data, model, case.params(model), dim="x")
    params = case.make().make_params(**case.truth)
    stated = {n: fits[n].attrs["units"] for n in params if "units" in fits[n].attrs}
    inputs = [n for n in params if not params[n].expr or n == "gamma"]
    curve = model.eval(**{n: params[n].value for n in inputs}, **{coordinate(model): case.x.copy()})
    if not any(n in stated for n in inputs):
        return  # nothing is claimed
    scaled = {n: params[n].value * factor(stated.get(n, "1")) for n in inputs}
    found = model.eval(**scaled, **{coordinate(model): FACTORS["B"] * case.x})
    np.testing.assert_allclose(
        np.broadcast_to(found, case.x.shape), FACTORS["A"] * np.broadcast_to(curve, case.x.shape), rtol=1e-6
    )
    derived = model.make_params(**scaled)
    for name in stated:
        assert derived[name].value == pytest.approx(params[name].value * factor(stated[name]), rel=1e-6), name


@pytest.mark.parametrize("kind", [models.DoniachModel, models.LognormalModel, models.PowerLawModel])
def test_nothing_is_claimed_where_units_would_depend_on_a_value(kind: type[lmfit.Model]):
    x = np.linspace(0.5, 5, 30)
    data = xr.DataArray([np.ones(30)], dims=("position", "x"), coords={"x": x}, attrs={"units": "A"})
    data["x"].attrs["units"] = "B"
    fits = sf.fit(data, kind(), {n: 1.0 for n in kind().param_names if n in ("amplitude", "exponent")}, dim="x")
    wrong = {
        n: fits[n].attrs["units"] for n in ("amplitude", "gamma", "exponent") if n in fits and "units" in fits[n].attrs
    }
    if kind is models.LognormalModel:
        assert wrong.get("amplitude", "(A)*(B)") == "(A)*(B)"
    else:
        assert not wrong


def test_errors_have_the_units_of_their_parameters(scan: xr.DataArray):
    fits = sf.fit(scan, peak_on_line(), START, dim="energy")
    assert fits["center"].attrs["units"] == "keV"
    assert fits["amplitude"].attrs["units"] == "(count)*(keV)"
    for name in sf.fitting.parameter_names(fits):
        assert fits[f"{name}_stderr"].attrs.get("units") == fits[name].attrs.get("units")
        assert f"{name}_stderr" in fits[name].attrs["ancillary_variables"].split()


def test_units_are_not_guessed():
    data, _ = peak_scan({"y": 1}, points=40)
    for axis, values in (("keV", None), (None, "counts"), (None, None)):
        bare = data.copy()
        bare.attrs = {"units": values} if values else {}
        bare["energy"].attrs = {"units": axis} if axis else {}
        fits = sf.fit(bare, peak_on_line(), START, dim="energy")
        assert not [n for n in fits.data_vars if "units" in fits[n].attrs]


# ---- attributes, coordinates, flags ----------------------------------------------------------


def test_nothing_is_inherited_from_the_input(scan: xr.DataArray):
    marked = scan.assign_attrs(secret="input", source=json.dumps({"path": "/data/scan.h5"}))
    fits = sf.fit(marked, peak_on_line(), START, dim="energy", covariance=True, stages=Stages({"a": "all"}, keep=True))
    for part in (fits, fits.compute()):
        for name in part.data_vars:
            assert "secret" not in part[name].attrs
            assert set(part[name].attrs) <= {
                "units",
                "long_name",
                "ancillary_variables",
                "flag_values",
                "flag_meanings",
            }
            assert part[name].attrs["long_name"]
        assert set(part.attrs) <= {"title", "provenance"}
    assert provenance(fits)["inputs"]["data"]["source"] == {"path": "/data/scan.h5"}


def test_statistics_are_as_declared(scan: xr.DataArray):
    fits = sf.fit(scan, peak_on_line(), START, dim="energy").compute()
    for var in STATISTICS:
        assert fits[var.name].dtype == var.dtype
        assert fits[var.name].attrs == var.attrs()
        assert fits[var.name].dims == ("y", "x")


def test_status_is_a_cf_flag_variable(scan: xr.DataArray):
    fits = sf.fit(scan, peak_on_line(), START, dim="energy").compute()
    assert flags(fits["status"]) == STATUS
    assert len(set(STATUS.values())) == len(STATUS)
    assert set(np.unique(fits["status"])) <= set(STATUS.values())
    assert all(re.fullmatch(r"\w+", meaning) for meaning in fits["status"].attrs["flag_meanings"].split())


def test_scan_coordinates_are_kept_and_those_of_the_spectrum_are_not(scan: xr.DataArray):
    labelled = scan.assign_coords(bin=("energy", np.arange(40)))
    fits = sf.fit(labelled, peak_on_line(), START, dim="energy", covariance=True)
    assert set(fits.coords) == {"y", "position_x", "run", "param_i", "param_j"}
    for name in ("y", "position_x", "run"):
        xr.testing.assert_identical(fits[name].drop_vars(set(fits[name].coords) - {name}),
                                    scan[name].drop_vars(set(scan[name].coords) - {name}))  # fmt: skip
    assert fits["param_i"].dtype == object
    assert "x" not in fits.coords
    fits["center"].sel(y=0.5)


# ---- provenance ------------------------------------------------------------------------------

SCRIPT = """
import functools, lmfit, numpy as np, xarray as xr, scanfold as sf
from scanfold.testing import peak_scan
data, _ = peak_scan({"y": 3, "x": 4}, points=40, seed=90)
rate = 2.0
table = {"norm": 3.0}
class Tool:
    def __init__(self): self.offset = 1.5
    def response(self, x, a, k): return self.offset + a * np.exp(-k * x)
def plain(x, a, k): return a * np.exp(-k * x) * rate
def closing(scale):
    def inner(x, a, k): return scale * a * np.exp(-k * x) / table["norm"]
    return inner
def option(x, a, k, kind="one"): return a * np.exp(-k * x)
def run(model, params, **options):
    fits = sf.fit(data.chunk(y=1), model, params, dim="energy", **options)
    print(fits.attrs["provenance"])
    print(fits["status"].data.name)
G = lmfit.models.GaussianModel() + lmfit.models.LinearModel()
start = {"amplitude": 900, "center": 5, "sigma": 0.6, "slope": 0, "intercept": 30}
run(G, start, weights="counts")
run(G, start, engine="lmfit", weights=1 / np.linspace(1, 2, 40))
run(G, {**start, "center": xr.DataArray(np.linspace(4, 6, 4), dims="x")}, guess="mean", likelihood="poisson")
run(lmfit.models.VoigtModel() + lmfit.models.StepModel(prefix="s_", form="erf"),
    {"amplitude": 900, "center": 5, "sigma": 0.6, "s_amplitude": 1, "s_center": 3, "s_sigma": 1})
two = {"a": 1.0, "k": 0.5}
run(plain, two)
run(lambda t, a, k: a * np.exp(-k * t), two)
run(closing(2.5), two)
run(functools.partial(option, kind="two"), two)
run(Tool().response, two)
run(lmfit.models.ExpressionModel("a*exp(-k*x)"), two)
"""


def test_equal_fits_have_equal_provenance_and_names_in_two_processes():
    outputs = []
    for seed in ("1", "2"):
        done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, env={
            **__import__("os").environ, "PYTHONHASHSEED": seed,
        })  # fmt: skip
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout.splitlines())
    assert len(outputs[0]) == 20
    for first, second in zip(*outputs, strict=True):
        assert first == second
    records = outputs[0][::2]
    assert len(set(records)) == 10
    for record in records:
        json.loads(record, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def own(scale: float) -> Any:
    def model(x, a, k):
        return scale * a * np.exp(-k * x)

    return model


def change_data(scan: xr.DataArray) -> xr.DataArray:
    changed = scan.copy(deep=True)
    changed.values[0, 0, 0] += 1
    return changed


CHANGES: dict[str, dict[str, Any]] = {
    "value": {"params": {**START, "center": 5.1}},
    "min": {"params": {**START, "sigma": {"value": 0.6, "min": 0.1}}},
    "max": {"params": {**START, "sigma": {"value": 0.6, "max": 9}}},
    "vary": {"params": {**START, "slope": {"value": 0, "vary": False}}},
    "expr": {"params": {**START, "slope": {"expr": "intercept/100"}}},
    "own start": {"params": {**START, "center": xr.DataArray([4.0, 5, 5, 5], dims="x")}},
    "other own start": {"params": {**START, "center": xr.DataArray([4.1, 5, 5, 5], dims="x")}},
    "own bound": {"params": {**START, "center": {"value": 5, "min": xr.DataArray([4.0, 3, 3, 3], dims="x")}}},
    "counts": {"weights": "counts"},
    "weights": {"weights": np.linspace(1, 2, 40)},
    "other weights": {"weights": np.linspace(1, 3, 40)},
    "likelihood": {"likelihood": "poisson"},
    "stages": {"stages": {"line": ["slope", "intercept"], "all": "all"}},
    "other stages": {"stages": {"line": ["slope"], "all": "all"}},
    "kept stages": {"stages": Stages({"line": ["slope"], "all": "all"}, keep=True)},
    "guess": {"guess": "params"},
    "mean": {"guess": "mean"},
    "engine": {"engine": "lmfit"},
    "method": {"engine": "lmfit", "method": "least_squares"},
    "covariance": {"covariance": True},
    "errors": {"errors": "raise"},
    "max_nfev": {"max_nfev": 77},
    "retry": {"retry": False},
    "poor_fit": {"poor_fit": 1e-3},
    "no_signal": {"no_signal": 5.0},
    "model": {"model": models.LorentzianModel() + models.LinearModel()},
    "operator": {"model": models.GaussianModel() - models.LinearModel()},
    "prefix": {"model": models.GaussianModel(prefix="g_"), "params": {"g_amplitude": 1, "g_center": 5, "g_sigma": 1}},
    "form": {"model": models.StepModel(form="erf"), "params": None},
    "other form": {"model": models.StepModel(form="logistic"), "params": None},
    "degree": {"model": models.PolynomialModel(2), "params": None},
    "other degree": {"model": models.PolynomialModel(3), "params": None},
    "expression": {"model": models.ExpressionModel("a*x + k"), "params": {"a": 1, "k": 1}},
    "other expression": {"model": models.ExpressionModel("a*x - k"), "params": {"a": 1, "k": 1}},
    "function": {"model": own(2.0), "params": {"a": 1, "k": 1}},
    "its closure": {"model": own(2.5), "params": {"a": 1, "k": 1}},
    "data": {"change": change_data},
    "selection": {"change": lambda s: s[:2]},
    "axis": {"change": lambda s: s.assign_coords(energy=s.energy + 0.001)},
}


def records(scan: xr.DataArray, change: dict[str, Any], lazy: bool) -> tuple[str, str]:
    """Return the provenance and the name of the graph of a fit with one thing changed."""
    change = {"model": peak_on_line(), "params": START, **change}
    data = change.pop("change", lambda s: s)(scan)
    fits = sf.fit(data.chunk(y=1) if lazy else data, change.pop("model"), change.pop("params"), dim="energy", **change)
    return str(fits.attrs["provenance"]), str(fits["status"].data.name)


@pytest.mark.parametrize("lazy", [False, True])
def test_every_option_changes_the_record(scan: xr.DataArray, lazy: bool):
    found = {name: records(scan, change, lazy) for name, change in {"nothing": {}, **CHANGES}.items()}
    assert records(scan, {}, lazy) == found["nothing"]
    for which, kind in ((0, "provenance"), (1, "graph")):
        seen: dict[str, str] = {}
        for name, both in found.items():
            # what is covered by a wider record only: errors="raise" has the same numbers
            assert both[which] not in seen, f"the {kind} of {name!r} is that of {seen[both[which]]!r}"
            seen[both[which]] = name
