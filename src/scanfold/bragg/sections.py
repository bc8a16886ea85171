"""Macroscopic cross sections of phases at given wavelengths, for tables and figures."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from scanfold.bragg.constants import Array, head
from scanfold.bragg.materials import Material


def phase_sections(phases: Mapping[str, Material], wavelengths: Array, temperature: float) -> list[Array]:
    """Return the macroscopic cross section (cm⁻¹) of each phase, alone, at wavelengths (n), by the kernel itself."""
    from scanfold.bragg._sections_kernels import sections_at
    from scanfold.bragg.transmission import Transmission

    function = Transmission(
        tuple(phases.items()), "none", "none", ("thickness",), (1.0,), (), (float(temperature),), 1.0, bin_width=1e-4
    )
    ends = np.array([wavelengths.min(), wavelengths.max()])
    aux = head(function, ends, False)
    order = np.argsort(wavelengths)
    rising, out = np.empty((len(phases), wavelengths.size)), np.empty((len(phases), wavelengths.size))
    sections_at(np.zeros(1), aux, wavelengths[order], rising)
    out[:, order] = rising
    return list(out)
