"""The material that a fit arrived at: its fractions and lattices, and where its Bragg edges are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from scanfold.bragg.cross_section import CrossSection
from scanfold.bragg.crystals import crystal
from scanfold.bragg.materials import require_ncrystal, source_of
from scanfold.bragg.parameters import numbered

#: Setting of a material, and the parameter that stands for it; "#" is the number of the phase, "@" its name.
_SETTINGS = {
    "a": "a#", "b": "b#", "c": "c#", "ext_l": "ext_l#", "ext_g": "ext_g#", "ext_L": "ext_L#", "sans": "sans#",
    "theta": "θ_@", "phi": "ϕ_@", "mos": "η_@",
}  # fmt: skip


def fitted_cross_section(start: CrossSection, values: Mapping[str, float]) -> CrossSection:
    """Return the cross section with the fractions, lattices and other settings of some parameters.

    Examples
    --------
    >>> iron = CrossSection(iron="Fe_sg229_Iron-alpha")
    >>> fitted_cross_section(iron, {"thickness": 1.0, "a": 2.87}).phases["iron"].a
    2.87
    """
    weights = start.weights
    phases = {}
    for number, name, material in numbered(start.phases):
        wanted = {s: p.replace("#", number).replace("@", name) for s, p in _SETTINGS.items()}
        settings: dict[str, Any] = {s: float(values[p]) for s, p in wanted.items() if p in values}
        phases[name] = replace(material, weight=float(values.get(name, weights[name])), **settings)
    return CrossSection(phases)


def edges(cross_section: CrossSection, dspace_min: float, temperature: float) -> list[tuple[float, str]]:
    """Return the wavelengths (Å) of the Bragg edges, λ = 2d, of planes further apart than `dspace_min`, and names.

    Examples
    --------
    >>> [(round(w, 3), name) for w, name in edges(CrossSection(iron="Fe_sg229_Iron-alpha"), 1.4, 293.15)]
    [(4.055, '110'), (2.868, '200')]
    """
    found: dict[tuple[str, float], tuple[float, str]] = {}
    for name, material in cross_section.phases.items():
        cell = crystal(material, temperature)
        own = (material.a, material.b, material.c)
        lengths = [own[t] or cell.lengths[t] for t in cell.tied]
        info = require_ncrystal().load(f"{source_of(material)};temp={float(temperature)!r}K").info
        families = list(info.hklObjects()) if cell.has_cell else []
        a, b, c = lengths
        for family, plane in zip(families, cell.planes, strict=False):
            d = 1 / math.sqrt(
                sum(m / q for m, q in zip(plane, (a * a, b * b, c * c, a * b, a * c, b * c), strict=False))
            )
            if d < dspace_min:
                continue
            text = _name(family)
            label = text if len(cross_section.phases) == 1 else f"{name} {text}"
            found.setdefault((name, round(2 * d, 6)), (2 * d, label))
    return sorted(found.values(), reverse=True)


def _name(family: Any) -> str:
    """Return the indices of that plane of a family which has the largest first, as families are called."""
    planes = list(zip(*(np.atleast_1d(i).tolist() for i in (family.h, family.k, family.l)), strict=True))
    h = max(max(planes), max((-p[0], -p[1], -p[2]) for p in planes))
    return "".join(map(str, h)) if max(map(abs, h)) < 10 else " ".join(map(str, h))
