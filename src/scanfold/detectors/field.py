"""From centres of mass to fields, in the frame of the scan."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr

from scanfold.conventions import InputError, Var, record
from scanfold.detectors.templates import require

PLANCK, CHARGE, LIGHT, ELECTRON = 6.62607015e-34, 1.602176634e-19, 299792458.0, 9.1093837015e-31
#: Metres of the reciprocal lengths that are understood.
_LENGTHS = {"angstrom": 1e-10, "Å": 1e-10, "a": 1e-10, "nm": 1e-9, "nanometer": 1e-9, "m": 1.0, "meter": 1.0}
VARIABLES = (
    Var("Ex", ("...",), "float64", "field along x, to the right"),
    Var("Ey", ("...",), "float64", "field along y, downwards"),
    Var("E_mag", ("...",), "float64", "magnitude of the field"),
    Var("E_angle", ("...",), "float64", "direction of the field, from x towards y (clockwise on the screen)", "radian"),
)


def wavelength(beam_energy: float) -> float:
    """Return the wavelength of electrons of an energy in eV, in Å.

    Examples
    --------
    >>> round(wavelength(300e3), 6)
    0.019687
    """
    gamma, velocity = _relativity(beam_energy)
    return PLANCK / (gamma * ELECTRON * velocity) * 1e10


def volts_per_inverse_angstrom(beam_energy: float) -> float:
    """Return h v / e: what projected field, in V, shifts the pattern by 1 Å⁻¹.

    Examples
    --------
    >>> [round(volts_per_inverse_angstrom(e)) for e in (300e3, 200e3, 80e3)]
    [9628, 8621, 6229]
    """
    return PLANCK * _relativity(beam_energy)[1] / CHARGE * 1e10


def _relativity(beam_energy: float) -> tuple[float, float]:
    if not (math.isfinite(beam_energy) and 1e3 <= beam_energy <= 1e8):
        raise InputError(f"beam_energy={beam_energy!r}; expected electronvolts, such as 300e3")
    gamma = 1 + beam_energy * CHARGE / (ELECTRON * LIGHT**2)
    return gamma, LIGHT * math.sqrt(1 - 1 / gamma**2)


def electric_field(
    maps: xr.Dataset,
    *,
    beam_energy: float | None = None,
    thickness: float | None = None,
    field_scale: float | None = None,
    rotation: float = 0.0,
    flip: bool = False,
) -> xr.Dataset:
    r"""Turn centres of mass into an electric field.

    .. math:: E t = -\frac{h v}{e} \Delta k

    Electrons move against the field: a pattern that moves to the right (+x) tells of a field to the left. With
    `field_scale` the field is plainly :math:`E = \alpha C`, without that sign.

    Parameters
    ----------
    maps : Dataset
        With ``com_y, com_x``, of `virtual_maps`, `center_of_mass` or `subtract_baseline`.
    beam_energy : float, optional
        In eV. Centres of mass must be in reciprocal lengths, or in mrad. The result is the projected field, in V.
    thickness : float, optional
        Of the sample in nm; the result is then the mean field along the beam, in V/m.
    field_scale : float, optional
        Factor in place of `beam_energy`; 1 if neither is given.
    rotation : float
        Angle in degrees from the x axis of the scan to that of the detector, from x towards y, which is down:
        clockwise on the screen. See `find_rotation`.
    flip : bool
        The detector's y axis points up: it is turned over before the rotation.

    Returns
    -------
    Dataset
        ``Ex, Ey, E_mag, E_angle``, over the dims of ``com_y``; errors ``Ex_stderr, Ey_stderr`` where `maps` have them.

    Raises
    ------
    InputError
        If the units do not allow for what is asked.

    Examples
    --------
    >>> com = xr.DataArray([[1e-3]], dims=("y", "x"), attrs={"units": "1/angstrom"})
    >>> field = electric_field(xr.Dataset({"com_y": 0 * com, "com_x": com}).assign(com_y=com * 0), field_scale=2)
    >>> float(field["Ex"][0, 0])
    0.002
    """
    require(maps, ("com_y", "com_x"), "virtual_maps")
    if beam_energy is not None and field_scale is not None:
        raise InputError("field_scale and beam_energy are both given; pass one of them")
    if thickness is not None and (beam_energy is None or not thickness > 0):
        raise InputError(f"thickness={thickness}; expected nm, together with beam_energy")
    units = str(maps["com_y"].attrs.get("units", "pixel"))
    if beam_energy is None:
        factor, out_units = (
            1.0 if field_scale is None else float(field_scale),
            units if field_scale in (None, 1) else None,
        )
    else:
        factor = -_volts(units, beam_energy)
        out_units = "V"
        if thickness is not None:
            factor, out_units = factor / (thickness * 1e-9), "V/m"
    cosine, sine = math.cos(math.radians(rotation)), math.sin(math.radians(rotation))
    y, x = maps["com_y"] * (-1.0 if flip else 1.0), maps["com_x"]
    ds = xr.Dataset({"Ex": factor * (cosine * x - sine * y), "Ey": factor * (sine * x + cosine * y)})
    ds["E_mag"], ds["E_angle"] = np.hypot(ds["Ex"], ds["Ey"]), np.arctan2(ds["Ey"], ds["Ex"])
    for spec in VARIABLES:
        ds[spec.name] = spec.make(ds[spec.name])
        if spec.units is None and out_units is not None:
            ds[spec.name].attrs["units"] = out_units
    if "com_y_stderr" in maps:
        ey, ex = maps["com_y_stderr"], maps["com_x_stderr"]
        for name, first, second in (("Ex", (cosine, ex), (sine, ey)), ("Ey", (sine, ex), (cosine, ey))):
            error = abs(factor) * ((first[0] * first[1]) ** 2 + (second[0] * second[1]) ** 2) ** 0.5
            spec = Var(f"{name}_stderr", ("...",), "float64", f"standard error of {name}", out_units)
            ds[spec.name] = spec.make(error)
            ds[name].attrs["ancillary_variables"] = f"{name}_stderr"
    options = {
        "beam_energy": beam_energy,
        "thickness": thickness,
        "field_scale": field_scale,
        "rotation": rotation,
        "flip": flip,
    }
    ds.attrs = {
        "provenance": record("electric_field", {"com_y": maps["com_y"]}, options, of=maps.attrs.get("provenance"))
    }
    return ds


def _volts(units: str, beam_energy: float) -> float:
    """Return the projected field in V for a centre of mass of 1 in these units."""
    per_angstrom = volts_per_inverse_angstrom(beam_energy)
    if units == "mrad":
        return per_angstrom * 1e-3 / wavelength(beam_energy)
    length = inverse_length(units)
    if length is None:
        raise InputError(
            f"centres of mass are in {units!r}, and a field needs reciprocal lengths (1/angstrom, 1/nm) or mrad; "
            "calibrate the scan first: det.calibrate(scan, pixel_size_k=…), or pass field_scale="
        )
    return per_angstrom * 1e-10 / length


def inverse_length(units: str) -> float | None:
    """Return the length, in m, of a unit that is one over it; None if it is none.

    Examples
    --------
    >>> inverse_length("1/angstrom"), inverse_length("nm^-1"), inverse_length("pixel")
    (1e-10, 1e-09, None)
    """
    text: Any = units.strip().replace("⁻¹", "^-1").replace(" ", "").replace("**", "^")
    for prefix, suffix in (("1/", ""), ("", "^-1"), ("", "^(-1)")):
        if text.startswith(prefix) and text.endswith(suffix) and (prefix or suffix):
            name = text[len(prefix) : len(text) - len(suffix)]
            return _LENGTHS.get(name, _LENGTHS.get(name.lower()))
    return None
