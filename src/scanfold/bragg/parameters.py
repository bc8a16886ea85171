"""The parameters of a transmission model, group by group: names, starts, bounds and ties."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import lmfit
import numpy as np

from scanfold.bragg.constants import TERMS
from scanfold.bragg.crystals import cell_of, crystal
from scanfold.bragg.materials import Material
from scanfold.conventions import InputError
from scanfold.fitting.expressions import translate

#: Start, lower and upper bound of the parameters of each response. α and β are in µs⁻¹, σ and width in µs.
RESPONSE_PARAMETERS: dict[str, dict[str, tuple[float, float, float, bool]]] = {
    "none": {},
    "measured": {},
    "jorgensen": {
        "α0": (0.0367, 1e-4, 1e3, True), "β0": (0.0306, 1e-4, 1e3, True), "σ0": (0.0, 0.0, 1e3, False),
    },
    "full_jorgensen": {
        "α0": (0.0, 0.0, 1e3, False), "α1": (0.5, 0.0, 1e3, True), "β0": (0.5, 0.0, 1e3, True),
        "β1": (0.0, 0.0, 1e3, False), "σ0": (0.0, 0.0, 1e3, False), "σ1": (0.001, 1e-6, 1e3, True),
        "σ2": (0.0, 0.0, 1e3, False),
    },
    "square": {"width": (10.0, 0.1, 5e3, True)},
}  # fmt: skip
#: nbragg's: per step of 0.1 on a grid of samples, whatever their spacing.
COMPAT_JORGENSEN = {"α0": (3.67, 1e-3, 1e4, True), "β0": (3.06, 1e-3, 1e4, True)}
#: Units by the beginning of a name, digits at its end left out.
UNITS = {
    "thickness": "cm", "norm": "1", "temp": "K", "bg": "1", "k": "1", "L": "1", "t": "s", "p": "1", "a": "angstrom",
    "b": "angstrom", "c": "angstrom", "ext_l": "micrometer", "ext_g": "arcminute", "ext_L": "micrometer",
    "sans": "angstrom", "α": "1/microsecond", "β": "1/microsecond", "width": "microsecond",
}  # fmt: skip
#: What extinction starts from where a phase says nothing: µm, minutes of arc, µm.
EXTINCTION_START = {"ext_l": 0.25, "ext_g": 53.9, "ext_L": 10.0}


class Vary(NamedTuple):
    """Which groups of parameters there are (not None), and whether they vary."""

    basic: bool | None = None
    background: bool | None = None
    tof: bool | None = None
    lattice: bool | None = None
    orientation: bool | None = None
    weights: bool | None = None
    response: bool | None = None
    extinction: bool | None = None
    sans: bool | None = None


def numbered(phases: Mapping[str, Material]) -> list[tuple[str, str, Material]]:
    """Return the number, empty for one alone, the name and the material of each phase."""
    return [(str(i) if len(phases) > 1 else "", n, m) for i, (n, m) in enumerate(phases.items(), 1)]


def complete(phases: Mapping[str, Material], vary: Vary) -> dict[str, Material]:
    """Return the phases with starts for the extinction that is asked for.

    Raises
    ------
    InputError
        If there is no phase that a group could act on.
    """
    powders = {n for n, m in phases.items() if not m.oriented and crystal(m, 293.15, 2.0).has_cell}
    given = {n for n in powders if any(getattr(phases[n], k) is not None for k in EXTINCTION_START)}
    chosen = given or (powders if vary.extinction is not None else set())
    if vary.extinction is not None and not chosen:
        raise InputError("extinction needs a powder of a crystal; no phase is one: leave vary_extinction out")
    if vary.lattice is not None and not any(cell_of(m, 293.15, 2.0).has_cell for m in phases.values()):
        raise InputError("vary_lattice needs a crystal; no phase is one: leave it out")
    if vary.sans is not None and not any(m.sans is not None for m in phases.values()):
        raise InputError("vary_sans: no phase has a radius of voids; give one in Å: CrossSection(iron=…, sans=50)")
    if vary.orientation is not None and not any(m.oriented for m in phases.values()):
        raise InputError("vary_orientation: no phase is oriented; give a mosaic: CrossSection(iron=…, mos=5)")
    made = dict(phases)
    for name in chosen:
        missing: dict[str, Any] = {k: v for k, v in EXTINCTION_START.items() if getattr(phases[name], k) is None}
        made[name] = replace(phases[name], **missing)
    return made


def make_parameters(
    phases: Mapping[str, Material], response: str, background: str, vary: Vary, compat: str | None
) -> lmfit.Parameters:
    """Return the parameters of a model of completed phases."""
    params = lmfit.Parameters()
    basic = vary.basic is not False
    params.add("thickness", value=1.0, min=0.0, vary=basic)
    params.add("norm", value=1.0, min=0.0, vary=basic)
    params.add("temp", value=293.15, min=0.0, vary=False)
    if vary.weights is not None:
        _weights(params, phases, vary.weights)
    if vary.tof is not None:
        params.add("L0", value=1.0, min=0.0, max=2.0, vary=vary.tof)
        params.add("t0", value=0.0, vary=vary.tof)
    if vary.lattice is not None:
        _lattice(params, phases, vary.lattice)
    if vary.extinction is not None:
        for number, _, material in numbered(phases):
            if material.ext_l is not None:
                params.add(f"ext_l{number}", value=material.ext_l, min=0.0, max=1e4, vary=vary.extinction)
                params.add(f"ext_g{number}", value=material.ext_g, min=0.0, max=100.0, vary=vary.extinction)
                params.add(f"ext_L{number}", value=material.ext_L, min=0.0, max=1e4, vary=vary.extinction)
    if vary.sans is not None:
        for number, _, material in numbered(phases):
            if material.sans is not None:
                params.add(f"sans{number}", value=material.sans, min=0.0, max=1000.0, vary=vary.sans)
    if vary.orientation is not None:
        _orientation(params, phases, vary.orientation)
    table = RESPONSE_PARAMETERS[response]
    if compat and response == "jorgensen":
        table = COMPAT_JORGENSEN
    for name, (value, low, high, free) in table.items():
        params.add(name, value=value, min=low, max=high, vary=bool(vary.response) and free)
    if background == "sample_dependent":
        params.add("k", value=1.0, min=1.0, max=10.0, vary=bool(vary.background))
    for i in range(TERMS[background]):
        params.add(f"bg{i}", value=0.0, min=-1e6, max=1e6, vary=bool(vary.background))
    return params


def _weights(params: lmfit.Parameters, phases: Mapping[str, Material], vary: bool) -> None:
    """Add log ratios to the last phase, and the fractions that follow from them."""
    names = list(phases)
    if len(names) == 1:
        params.add(names[0], expr="1")
        return
    weights = np.array([m.weight for m in phases.values()])
    if not (weights > 0.0).all():
        raise InputError("vary_weights: a phase has weight 0, whose logarithm is not a number; give it a small one")
    for i, weight in enumerate(weights[:-1], 1):
        params.add(f"p{i}", value=float(np.clip(np.log(weight / weights[-1]), -14, 14)), min=-14, max=14, vary=vary)
    total = " + ".join(["1", *(f"exp(p{i})" for i in range(1, len(names)))])
    for i, name in enumerate(names, 1):
        params.add(name, expr=f"{f'exp(p{i})' if i < len(names) else '1'} / ({total})")


def _lattice(params: lmfit.Parameters, phases: Mapping[str, Material], vary: bool) -> None:
    """Add a, b and c of each crystal, tied as its cell ties them."""
    for number, _, material in numbered(phases):
        cell = cell_of(material, 293.15, 2.0)
        if not cell.has_cell:
            continue
        for letter, own, length, tie in zip(
            "abc", (material.a, material.b, material.c), cell.lengths, cell.tied, strict=True
        ):
            if "abc"[tie] == letter:
                high = max(10.0, 1.5 * (own or length))
                params.add(letter + number, value=own or length, min=0.5, max=high, vary=vary)
            else:
                params.add(letter + number, expr="abc"[tie] + number)


def _orientation(params: lmfit.Parameters, phases: Mapping[str, Material], vary: bool) -> None:
    """Add the angles of each phase; a powder's never vary."""
    for name, material in phases.items():
        free = vary and material.oriented
        params.add(f"θ_{name}", value=material.theta, vary=free)
        params.add(f"ϕ_{name}", value=material.phi, vary=free)
        params.add(f"η_{name}", value=material.mos or 0.0, min=1e-3 if material.oriented else 0.0, max=90.0, vary=free)


def units_of(name: str, compat: str | None) -> str | None:
    """Return the units of a parameter; None where there are none to give."""
    stem = name.rstrip("0123456789")
    if stem in ("θ_", "ϕ_", "η_") or name[:2] in ("θ_", "ϕ_", "η_"):
        return "degree"
    if stem in ("α", "β") and compat:
        return None
    return {"σ": {"0": "microsecond", "1": "microsecond/angstrom", "2": "microsecond/angstrom**2"}.get(name[-1])}.get(
        stem, "angstrom/microsecond" if name == "α1" else "angstrom**4/microsecond" if name == "β1" else UNITS.get(stem)
    )


def plain_parameters(params: lmfit.Parameters) -> dict[str, dict[str, Any]]:
    """Return parameters as plain names and numbers; `parameters_of` is the way back."""
    plain: dict[str, dict[str, Any]] = {}
    for name, p in params.items():
        limits = {k: float(v) for k, v in (("min", p.min), ("max", p.max)) if np.isfinite(v)}
        plain[name] = {"expr": str(p.expr)} if p.expr else {"value": float(p.value), "vary": bool(p.vary), **limits}
    return plain


def parameters_of(plain: Mapping[str, Mapping[str, Any]]) -> lmfit.Parameters:
    """Return the parameters that plain names and numbers describe.

    lmfit's own loader would run what an edited file holds, and evaluates any expression: here only arithmetic is
    taken.

    Raises
    ------
    InputError
        If an expression is more than arithmetic on the parameters.
    """
    params = lmfit.Parameters()
    names = {n: i for i, n in enumerate(plain)}
    for name, settings in plain.items():
        if "expr" in settings:
            translate(str(settings["expr"]), names)
            params.add(name)
        else:
            low, high = float(settings.get("min", -np.inf)), float(settings.get("max", np.inf))
            params.add(name, value=float(settings["value"]), vary=bool(settings["vary"]), min=low, max=high)
    for name, settings in plain.items():
        if "expr" in settings:
            params[name].set(expr=str(settings["expr"]))
    return params
