"""Kinetic models against their rate equations, solved numerically; their compiled derivatives; the registry."""

from __future__ import annotations

from importlib import metadata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from scanfold import traces
from scanfold.conventions import InputError, InputTypeError
from scanfold.fitting._fit_kernels import leaf_rows
from scanfold.fitting.compiled import own_leaf_address
from scanfold.traces import FittingRequest, get_model, kinetics, models, register_model

TIMES = np.linspace(0.0, 30.0, 121)
BUILT_IN = ("trivial", "maturation", "maturation_blocked", "two_stage", "exponential_decay")


def solved(right, start: list[float], t0: float) -> np.ndarray:
    """Return the last component of a system of rate equations at TIMES, 0 before t0."""
    after = TIMES[TIMES > t0]
    found = solve_ivp(right, (t0, TIMES[-1]), start, "DOP853", after, max_step=0.05, rtol=1e-13, atol=1e-13)
    return np.concatenate([np.zeros(TIMES.size - after.size), found.y[-1]])


def numerical(name: str, p: dict[str, float]) -> np.ndarray:
    """Return a model as its rate equations say."""
    if name == "trivial":
        g = solved(lambda t, y: [-p["delta"] * y[0], p["ktl"] * y[0] - p["beta"] * y[1]], [1, 0], p["t0"])
        return g + p["offset"]
    if name == "maturation":

        def right(t, y):
            m, u, g = y
            return [-p["delta"] * m, p["ktl"] * m - (p["beta"] + p["km"]) * u, p["km"] * u - p["beta"] * g]

        return p["scale"] * (solved(right, [1, 0, 0], p["t0"]) + p["offset"])
    if name == "exponential_decay":
        g = solved(lambda t, y: [-p["rate"] * y[0]], [p["amplitude"]], p["t0"])
        return np.where(p["t0"] < TIMES, g, p["amplitude"]) + p["offset"]
    immature, mature = (p["Gu0"], p["G0"]) if name == "maturation_blocked" else (p["ktl"], 0.0)

    def blocked(t, y):
        return [-(p["beta"] + p["km"]) * y[0], p["km"] * y[0] - p["beta"] * y[1]]

    return solved(blocked, [immature, mature], p["t0"]) + p["offset"]


CASES = [
    ("trivial", {}), ("trivial", {"delta": 0.3}), ("trivial", {"delta": 0.0436275356035}), ("trivial", {"beta": 1e-5}),
    ("trivial", {"delta": 0.0436275356035 * (1 + 1e-9)}), ("trivial", {"delta": 0.0436275356035 + 1e-6}),
    ("trivial", {"delta": 10.0}), ("trivial", {"delta": 1e-5, "beta": 2e-5, "t0": 0.1}),
    ("maturation", {}), ("maturation", {"t0": 0.33, "scale": 2.0, "offset": 7.0}), ("maturation", {"delta": 5.22e-3}),
    ("maturation", {"delta": 5.22e-3 + 1.28}), ("maturation", {"delta": 5.22e-3 + 1e-8}),
    ("maturation", {"delta": 0.05}),
    ("maturation", {"delta": 5.22e-3 + 1.28 - 1e-7}), ("maturation", {"km": 1e-5, "delta": 5.225e-3}),
    ("maturation", {"km": 0.01, "delta": 0.012, "beta": 0.011}),
    ("maturation", {"km": 30.0, "delta": 11.0, "beta": 10.0}),
    ("maturation", {"delta": 1e-5, "km": 1e-5, "beta": 1e-5}),
    ("maturation_blocked", {}), ("maturation_blocked", {"t0": 0.4, "G0": 0.0}), ("maturation_blocked", {"km": 1e-5}),
    ("two_stage", {}), ("two_stage", {"t0": -0.5, "offset": 3.0}), ("two_stage", {"km": 30.0}),
    ("exponential_decay", {}), ("exponential_decay", {"t0": 4.1, "rate": 1.0}), ("exponential_decay", {"rate": 1e-3}),
]  # fmt: skip


def parameters(name: str, changed: dict[str, float]) -> dict[str, float]:
    return {**get_model(name).defaults, **changed}


def leaf(name: str, p: dict[str, float], times: np.ndarray = TIMES) -> tuple[np.ndarray, np.ndarray]:
    """Return values and derivatives of the compiled form."""
    row = np.array([list(p.values())], float)
    y, jac = np.empty((1, times.size)), np.empty((1, len(p), times.size))
    leaf_rows(own_leaf_address(get_model(name).function.compiled_leaf), times, row, np.zeros(1), y, jac)
    return y[0], jac[0]


@pytest.mark.parametrize(("name", "changed"), CASES)
def test_models_are_solutions_of_their_rate_equations(name: str, changed: dict[str, float]):
    p = parameters(name, changed)
    expected = numerical(name, p)
    scale = np.abs(expected).max()
    assert np.abs(get_model(name).function(TIMES, **p) - expected).max() < 1e-8 * scale
    assert np.abs(leaf(name, p)[0] - expected).max() < 1e-8 * scale


@pytest.mark.parametrize(("name", "changed"), CASES)
def test_compiled_derivatives_are_those_of_the_function(name: str, changed: dict[str, float]):
    p = parameters(name, changed)
    times = np.arange(60) / 2.0 + 0.213  # no frame is at t0, where the models have a kink
    _, jac = leaf(name, p, times)
    for i, key in enumerate(p):
        h = 1e-4 * max(abs(p[key]), 1e-3)

        def shifted(steps: float, key: str = key, h: float = h) -> np.ndarray:
            return get_model(name).function(times, **{**p, key: p[key] + steps * h})

        expected = (8 * (shifted(1) - shifted(-1)) - (shifted(2) - shifted(-2))) / (12 * h)
        scale = np.abs(expected).max()
        rounding = 4e-16 * np.abs(get_model(name).function(times, **p)).max() / h
        assert np.abs(jac[i] - expected).max() <= 3e-7 * scale + rounding, key


@given(
    st.floats(1e-5, 10.0), st.floats(1e-5, 10.0), st.floats(1e-5, 30.0), st.floats(-1.0, 1.0),
    st.sampled_from(["none", "delta is beta", "delta is beta + km", "near"]),
)  # fmt: skip
def test_function_and_compiled_form_agree_everywhere(delta: float, beta: float, km: float, t0: float, how: str):
    delta = {"none": delta, "delta is beta": beta, "delta is beta + km": beta + km, "near": beta * (1 + 1e-7)}[how]
    p = parameters("maturation", {"delta": delta, "beta": beta, "km": km, "t0": t0})
    expected = kinetics.maturation(TIMES, **p)
    assert np.isfinite(expected).all()
    assert (expected >= -1e-9 * np.abs(expected).max()).all()
    np.testing.assert_allclose(leaf("maturation", p)[0], expected, rtol=1e-9, atol=1e-11 * np.abs(expected).max())
    q = parameters("trivial", {"delta": delta, "beta": beta, "t0": t0})
    expected = kinetics.trivial(TIMES, **q)
    np.testing.assert_allclose(leaf("trivial", q)[0], expected, rtol=1e-9, atol=1e-11 * np.abs(expected).max())


@pytest.mark.parametrize("name", BUILT_IN)
def test_defaults_bounds_and_units_are_those_of_the_issue(name: str):
    model = get_model(name)
    assert set(model.bounds) == set(model.defaults) == set(model.units)
    assert all(low <= model.defaults[n] <= high for n, (low, high) in model.bounds.items())
    assert model.function.__doc__.split("\n")[0].endswith(".") or ":" in model.formula
    y = model.function(np.array([-5.0]), **{**model.defaults, "t0": 0.0, "offset": 3.0})
    assert y[0] == (103.0 if name == "exponential_decay" else 3.0)


def test_numbers_of_the_models():
    assert get_model("trivial").bounds["delta"] == (1e-5, 10.1)
    assert get_model("trivial").defaults["beta"] == 0.0436275356035
    maturation = get_model("MATURATION")
    assert maturation.fixed == ("km", "beta", "scale")
    assert maturation.bounds["ktl"] == (1.0, 5e8)
    assert maturation.bounds["t0"] == (-1.0, 1.0)
    assert (maturation.defaults["km"], maturation.defaults["beta"]) == (1.28, 5.22e-3)
    assert "2019.102077" in maturation.source
    assert get_model("exponential_decay").bounds["t0"] == (0.0, 100.0)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: get_model("maturaton"), "did you mean 'maturation'"),
        (lambda: FittingRequest("maturation", {"detla": 1}), "did you mean 'delta'"),
        (lambda: FittingRequest("maturation", None, {"detla": (0, 1)}), "did you mean 'delta'"),
        (lambda: FittingRequest("maturation", fixed=["kmm"]), "did you mean 'km'"),
        (lambda: FittingRequest("maturation", None, {"delta": (2, 1)}), "the first must be less"),
        (lambda: FittingRequest("maturation", {"delta": 20}), "outside its bounds"),
        (lambda: FittingRequest("maturation", {"delta": float("nan")}), "outside its bounds"),
        (lambda: FittingRequest("trivial", fixed=["t0", "ktl", "delta", "beta", "offset"]), "fixed names all"),
        (lambda: FittingRequest("trivial", weights="count"), "did you mean 'counts'"),
        (lambda: FittingRequest("trivial", weights=-1.0), "finite, positive"),
    ],
)
def test_wrong_requests_say_what_is_right(call, says: str):
    with pytest.raises(InputError, match=says):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: FittingRequest("trivial", {"delta": "fast"}),
        lambda: FittingRequest("trivial", None, {"delta": 3}),
        lambda: FittingRequest("trivial", [("delta", 3)]),
        lambda: FittingRequest(7),
    ],
)
def test_requests_of_wrong_types(call):
    with pytest.raises(InputTypeError):
        call()


def test_a_request_is_kept_as_a_record():
    import json

    request = FittingRequest("Trivial", {"delta": 0.5}, {"beta": (1e-4, 5)}, ["offset"], 0.25)
    again = FittingRequest.from_record(json.dumps(request.describe()))
    assert again.describe() == request.describe()
    assert again.model_type == "trivial"
    assert again.varying == ("t0", "ktl", "delta", "beta")


@pytest.fixture
def registry(monkeypatch):
    """Forget what a test registers."""
    monkeypatch.setattr(models, "_registered", {})


def ramp(t, slope, start):
    return slope * t + start


def test_a_function_is_registered_and_fitted(registry):
    register_model(ramp, {"slope": 1, "start": 0}, {"slope": (-10, 10), "start": (-5, 5)}, fixed=["start"])
    data = 2.5 * TIMES[None] + np.sin(7 * TIMES)
    import xarray as xr

    array = xr.DataArray(data, dims=("cell", "time"), coords={"time": TIMES})
    fits = traces.fit_trace_data(array, FittingRequest("Ramp", fixed=())).compute()
    assert fits["slope"].values == pytest.approx(np.polyfit(TIMES, data[0], 1)[:1], rel=1e-6)
    assert "ramp" in traces.list_models()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"defaults": {"slope": 1}}, "lacks start"),
        ({"bounds": {"slope": (0, 1), "start": (0, 1), "end": (0, 1)}}, "unknown parameter"),
        ({"defaults": {"slope": 9, "start": 0}}, "outside its bounds"),
        ({"name": "maturation"}, "give another name"),
        ({"name": "a b"}, "cannot name"),
        ({"fixed": ["stop"]}, "unknown parameter"),
    ],
)
def test_what_cannot_be_registered(registry, options: dict, says: str):
    given = {"defaults": {"slope": 1, "start": 0}, "bounds": {"slope": (0, 2), "start": (-1, 1)}, **options}
    with pytest.raises(InputError, match=says):
        register_model(ramp, **given)


def test_plug_ins_are_found_by_their_entry_points(registry, monkeypatch):
    made = traces.TraceModel("plugged", ramp, {"slope": 1.0, "start": 0.0}, {"slope": (0, 2), "start": (-1, 1)})
    monkeypatch.setattr(models, "_plug_in_for_a_test", lambda: made, raising=False)
    good = metadata.EntryPoint("Plugged", "scanfold.traces.models:_plug_in_for_a_test", models.ENTRY_POINTS)
    bad = metadata.EntryPoint("broken", "scanfold.traces.models:no_such", models.ENTRY_POINTS)
    monkeypatch.setattr(
        models.metadata, "entry_points", lambda group: [good, bad] if group == models.ENTRY_POINTS else []
    )
    assert {"plugged", "broken"} <= set(traces.list_models())
    assert get_model("PLUGGED") is made
    with pytest.raises(InputError, match=r"'broken'.*does not load"):
        get_model("broken")
