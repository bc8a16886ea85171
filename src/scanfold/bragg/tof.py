"""Time of flight and wavelength of neutrons.

Relativistic, as the tools of the field have it: E = (γ − 1)·mₙc² with γ = 1/√(1 − (L/ct)²), and
λ = √(0.0818042 / E) with E in eV and λ in Å.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

#: Speed of light (m/s), rest energy of the neutron (eV), E·λ² of slow neutrons (eV·Å²).
LIGHT_SPEED, REST_ENERGY, ENERGY_WAVELENGTH = 299_792_458.0, 939.56542052e6, 0.0818042


def wavelength(tof: Any, L: float) -> Array:
    """Return the wavelength (Å) of neutrons that fly L metres in `tof` seconds; NaN where no neutron could.

    γ − 1 is of the order of 10⁻¹¹ and is computed as expm1(−½·log1p(−β²)): by subtraction it would have five
    digits, and wavelengths would scatter by some 10⁻⁶.

    Examples
    --------
    >>> float(wavelength(9 / 3956.034, 9.0).round(4))
    1.0
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        beta2 = (L / (LIGHT_SPEED * np.asarray(tof, np.float64))) ** 2
        energy = REST_ENERGY * np.expm1(-0.5 * np.log1p(-beta2))
        return np.asarray(np.where(np.asarray(tof) > 0, np.sqrt(ENERGY_WAVELENGTH / energy), np.nan))


def tof(wavelength: Any, L: float) -> Array:
    """Return the time of flight (s) over L metres of neutrons of a wavelength (Å).

    Examples
    --------
    >>> from scanfold.bragg.tof import tof, wavelength
    >>> wavelength(tof([0.5, 4.0], 9.0), 9.0).round(12).tolist()
    [0.5, 4.0]
    """
    kinetic = ENERGY_WAVELENGTH / np.asarray(wavelength, np.float64) ** 2 / REST_ENERGY
    # β² = 1 − 1/γ² = k(2 + k)/(1 + k)² with k = γ − 1
    beta = np.sqrt(kinetic * (2 + kinetic)) / (1 + kinetic)
    return np.asarray(L / (LIGHT_SPEED * beta))


def wavelength_of_energy(energy: Any) -> Array:
    """Return the wavelength (Å) of neutrons of an energy (eV).

    Examples
    --------
    >>> wavelength_of_energy(0.0818042)
    array(1.)
    """
    return np.asarray(np.sqrt(ENERGY_WAVELENGTH / np.asarray(energy, np.float64)))


def calibrated(channel: Any, tstep: float, L0: float, t0: float) -> Array:
    """Return the time of flight (s) of channels of `tstep` seconds: tstep·[n + (1 − L0)·n] + t0.

    L0 is the flight path as a multiple of the nominal one, and t0 an offset in seconds.
    """
    n = np.asarray(channel, np.float64)
    return np.asarray(tstep * (n + (1.0 - L0) * n) + t0)
