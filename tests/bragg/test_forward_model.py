"""The transmission kernel against sums over fine steps, written out here, and its derivatives against differences."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.signal import fftconvolve

from scanfold.bragg.profiles import jorgensen

NC = pytest.importorskip("NCrystal", reason="NCrystal (extra bragg) is not installed")

from scanfold.bragg import CrossSection, TransmissionModel  # noqa: E402
from scanfold.fitting._fit_kernels import leaf_rows  # noqa: E402
from scanfold.fitting.compiled import own_leaf_address  # noqa: E402

IRON = "Fe_sg229_Iron-alpha"
A = 2.8676
#: h/m of the neutron, in Å m/s.
HM = 3956.0340062
L = 9.0
STEP = 0.006
#: Around the last edge of α-Fe, at √2·a = 4.0554 Å.
X = 3.95 + STEP * np.arange(40)
FINE = 250


def section(wavelengths: np.ndarray, a: float) -> np.ndarray:
    """Return the macroscopic cross section (cm⁻¹) of strained α-Fe: elastic from its structure factor."""
    info = NC.load(f"stdlib::{IRON}.ncmat;temp=293.15K").info
    smooth = NC.load(f"stdlib::{IRON}.ncmat;temp=293.15K;comp=inelas,incoh_elas")
    total = (smooth.scatter.xsect(wl=wavelengths) + smooth.absorption.xsect(wl=wavelengths)) * 2 / a**3
    atom = next(iter(info.atominfos))
    for family in info.hklObjects():
        if family.d < 1.0:
            break
        d = family.d * a / A
        amplitude = 2 * atom.atomData.coherentScatLen() * math.exp(-2 * math.pi**2 * atom.msd / d**2)
        total += np.where(wavelengths < 2 * d, family.mult * d * amplitude**2 / (2 * a**6) * wavelengths**2, 0.0)
    return np.asarray(total)


def fine_sum(values: Mapping[str, float], weigh: np.ndarray | None, half: int) -> np.ndarray:
    """Return bin averages of e^(−tΣ) on fine steps, after a kernel of 2·half + 1 steps."""
    h = STEP / FINE
    wavelengths = X[0] - STEP / 2 + h * (np.arange(-half, X.size * FINE + half) + 0.5)
    true = (2 - values["L0"]) * wavelengths + values["t0"] * HM / L
    fine = np.exp(-values["thickness"] * section(true, values["a"]))
    if weigh is not None:
        fine = fftconvolve(fine, weigh / weigh.sum(), mode="same")
    return fine[half : half + X.size * FINE].reshape(X.size, FINE).mean(axis=1)


def on_fine_boundary(values: dict[str, float]) -> dict[str, float]:
    """Move the lattice a little, so that its edge is on a boundary of the fine steps, within a bin."""
    edge = (math.sqrt(2) * values["a"] - values["t0"] * HM / L) / (2 - values["L0"])
    h = STEP / FINE
    edge = X[0] - STEP / 2 + h * round((edge - X[0] + STEP / 2) / h)
    return values | {"a": (edge * (2 - values["L0"]) + values["t0"] * HM / L) / math.sqrt(2)}


VALUES = on_fine_boundary({"thickness": 1.3, "a": 2.8691, "L0": 0.9995, "t0": 3e-6})


def model(response: str, **more) -> TransmissionModel:
    return TransmissionModel(
        CrossSection(iron=IRON), response=response, vary_basic=True, vary_tof=True, vary_lattice=True,
        vary_response=True, **more,
    )  # fmt: skip


def evaluate(made: TransmissionModel, **values: float) -> np.ndarray:
    return made.evaluate({**VALUES, **values}, X, flight_path=L, bin_width=STEP)


def kernel_times(half: int) -> np.ndarray:
    """Return the delays (µs) of the fine steps of a kernel."""
    return np.arange(-half, half + 1) * STEP / FINE * L / HM * 1e6


def test_bins_are_integrated_and_edges_exact():
    found = evaluate(model("none"))
    np.testing.assert_allclose(found, fine_sum(VALUES, None, 0), atol=2e-7)


# A Gaussian comes after the exponentials, by a cubic between cells: it is worst where both are as narrow as a cell.
@pytest.mark.parametrize(
    ("shape", "accuracy"),
    [
        ({"α0": 0.09, "β0": 0.045}, 3e-6),
        ({"α0": 0.2, "β0": 0.06, "σ0": 9.0}, 2e-5),
        ({"α0": 3.0, "β0": 0.1, "σ0": 3.0}, 3e-4),
    ],
)
def test_jorgensen_acts_on_what_is_detected(shape: dict[str, float], accuracy: float):
    half = 60 * FINE
    weigh = jorgensen(kernel_times(half), shape["α0"], shape["β0"], shape.get("σ0", 0.0))
    np.testing.assert_allclose(evaluate(model("jorgensen"), **shape), fine_sum(VALUES, weigh, half), atol=accuracy)


def test_square_and_measured_responses():
    half = 30 * FINE
    times = kernel_times(half)
    weigh = np.clip((45.0 - np.abs(times)) / (times[1] - times[0]) + 0.5, 0.0, 1.0)
    expected = fine_sum(VALUES, weigh, half)
    np.testing.assert_allclose(evaluate(model("square"), width=90.0), expected, atol=2e-4)
    delays = np.linspace(-60.0, 60.0, 241)
    weights = jorgensen(delays, 0.2, 0.1, 8.0)
    expected = fine_sum(VALUES, np.interp(times, delays, weights, left=0.0, right=0.0), half)
    found = evaluate(model("measured", measured=(delays, weights)))
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_full_jorgensen_is_evaluated_at_every_wavelength():
    shape = {"α0": 0.01, "α1": 0.2, "β0": 0.02, "β1": 0.9, "σ0": 2.0, "σ1": 3.0, "σ2": 0.4}
    half = 60 * FINE
    times, expected = kernel_times(half), np.empty(X.size)
    for i, d in enumerate(X / 2):
        sigma = math.sqrt(shape["σ0"] ** 2 + (shape["σ1"] * d) ** 2 + (shape["σ2"] * d**2) ** 2)
        weigh = jorgensen(times, shape["α0"] + shape["α1"] / d, shape["β0"] + shape["β1"] / d**4, sigma)
        expected[i] = fine_sum(VALUES, weigh, half)[i]
    # The oracle has one response to a bin.
    np.testing.assert_allclose(evaluate(model("full_jorgensen"), **shape), expected, atol=3e-4)


@pytest.mark.parametrize(("alpha", "beta", "sigma"), [(0.1, 0.03, 8.0), (2.0, 0.5, 0.2), (0.02, 5.0, 40.0)])
def test_profile_is_a_convolution(alpha: float, beta: float, sigma: float):
    def sharp(t: float) -> float:
        return alpha * beta / (alpha + beta) * math.exp(alpha * t if t < 0 else -beta * t)

    for delta in (-2.5 * sigma, 0.0, 0.7 * sigma, 6.0 / beta):

        def product(s: float, at: float = delta) -> float:
            return math.exp(-0.5 * (s / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi)) * sharp(at - s)

        near = [delta] if abs(delta) < 9 * sigma else None
        expected = quad(product, -9 * sigma, 9 * sigma, points=near, limit=400)[0]
        assert jorgensen(delta, alpha, beta, sigma)[0] == pytest.approx(expected, rel=1e-7, abs=1e-14)
    assert np.isfinite(jorgensen(np.linspace(-1e4, 1e4, 11), 50.0, 50.0, 30.0)).all()


def test_response_does_not_depend_on_the_binning():
    made, shape = model("jorgensen"), {"α0": 0.09, "β0": 0.045}
    coarse = evaluate(made, **shape)
    halves = np.sort(np.concatenate([X - STEP / 4, X + STEP / 4]))
    fine = made.evaluate({**VALUES, **shape}, halves, flight_path=L, bin_width=STEP / 2)
    np.testing.assert_allclose(fine.reshape(-1, 2).mean(axis=1), coarse, atol=2e-6)


def test_transmission_moves_smoothly_with_the_lattice():
    # Each step of 3 ppm moves every bin near the edge, and the sum of all bins by the same amount.
    made = model("none")
    sums = np.array([evaluate(made, a=a).sum() for a in VALUES["a"] * (1 + 3e-6 * np.arange(200))])
    steps = np.diff(sums)
    assert steps.max() < 0.0
    assert np.ptp(steps) < 0.02 * abs(steps.mean())


PHYSICAL = {
    "jorgensen": {"α0": 0.09, "β0": 0.045, "σ0": 6.0},
    "full_jorgensen": {"α0": 0.01, "α1": 0.2, "β0": 0.02, "β1": 0.9, "σ0": 2.0, "σ1": 3.0, "σ2": 0.4},
    "square": {"width": 70.0},
    "none": {},
}


@pytest.mark.parametrize("response", PHYSICAL)
def test_derivatives(response: str):
    made = TransmissionModel(
        CrossSection(iron=IRON, ext_l=0.4, ext_g=40.0, ext_L=12.0, sans=30.0, aluminium="Al_sg225", weight=0.5),
        response=response, background="polynomial5", vary_basic=True, vary_background=True, vary_response=True,
        vary_tof=True, vary_weights=True, vary_lattice=True, vary_extinction=True, vary_sans=True,
    )  # fmt: skip
    start = {"bg0": 0.02, "bg1": 0.01, "bg2": 0.03, "bg3": 0.002, "bg4": 1e-3, "t0": 2e-6, **PHYSICAL[response]}
    x = 3.8 + STEP * np.arange(90)
    temperatures = tuple(293.15 * 1.15**i for i in range(-4, 5))
    names = made.function().names
    function = made.function(active=names, temperatures=temperatures, bin_width=STEP, flight_path=L)
    p = np.array([start.get(n, float(made.params[n].value)) for n in names])
    aux, y, jac = function.constants(x), np.empty((1, x.size)), np.empty((1, p.size, x.size))
    leaf_rows(own_leaf_address(function.leaf), x, p[None], aux, y, jac)

    def curve(i: int, step: float) -> np.ndarray:
        moved, other, out = p.copy(), np.empty((1, p.size, x.size)), np.empty((1, x.size))
        moved[i] += step
        leaf_rows(own_leaf_address(function.leaf), x, moved[None], aux, out, other)
        return out[0]

    for i, name in enumerate(names):
        step = {"t0": 1e-10, "a1": 2e-7, "a2": 2e-7, "L0": 1e-7}.get(name, 1e-5 * max(abs(p[i]), 1e-2))
        expected = (curve(i, step) - curve(i, -step)) / (2 * step)
        scale = np.abs(expected).max()
        error = np.abs(jac[0, i] - expected) / scale
        assert scale > 0, name
        # The derivative leaves out that an edge, as it moves within a cell, also moves the middles of the pieces on
        # both sides of it, where they are taken: less than a hundredth, in the cells with edges.
        assert error.max() < (1e-2 if name in ("a1", "a2", "L0", "t0") else 2e-5), (name, error.max())
        assert np.median(error) < 2e-5, name
