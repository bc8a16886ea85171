"""Calibration of the detector: the centre of the beam, the size of a pixel, and how the beam moves over the scan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from scanfold import _apply
from scanfold.conventions import InputError, unknown
from scanfold.detectors.baseline import Baseline, positions_of
from scanfold.detectors.field import wavelength
from scanfold.detectors.frames import AXES, frames_of, given_center, pair
from scanfold.detectors.templates import require

#: Å in one of the units that a size in real space may have.
REAL_UNITS = {"nm": 10.0, "angstrom": 1.0}
#: Unit of a calibration without known spacing: the radius that was clicked is 1.
RELATIVE = "dimensionless"
#: Two statements of the same size may differ by this share.
SAME = 0.01


def calibrate(
    scan: xr.Dataset | xr.DataArray,
    *,
    center: Any = None,
    pixel_size: float | None = None,
    pixel_size_units: str | None = None,
    pixel_size_k: float | None = None,
    pixel_size_ky: float | None = None,
    pixel_size_kx: float | None = None,
    mrad_per_pixel: float | None = None,
    beam_energy: float | None = None,
    units: str = "1/angstrom",
) -> xr.DataArray:
    r"""Give the detector coordinates: from the centre of the beam, in reciprocal Å.

    A size in real space takes precedence over the k-space sizes, and sizes of the two axes over one for both:

    .. math:: \Delta k = \frac{1}{N \Delta x}, \qquad \Delta k = \theta_\mathrm{pixel} / \lambda

    Parameters
    ----------
    scan : Dataset or DataArray
        Frames ``(*scan, ky, kx)``.
    center : (float, float), optional
        Centre of the beam ``(ky, kx)`` in pixels; without it coordinates begin at the first pixel.
    pixel_size : float, optional
        Size of a pixel in the real space that belongs to the detector by Fourier transform, in `pixel_size_units`.
    pixel_size_units : {"nm", "angstrom"}, optional
        Needed with `pixel_size`.
    pixel_size_k : float, optional
        Size of a detector pixel along both axes, in `units`.
    pixel_size_ky, pixel_size_kx : float, optional
        Along each axis; both or none.
    mrad_per_pixel : float, optional
        Angle that a pixel covers; it needs `beam_energy`.
    beam_energy : float, optional
        In eV.
    units : str
        Of the k-space sizes.

    Returns
    -------
    DataArray
        The frames with coordinates ``ky, kx`` and the scalar coordinates ``center_ky, center_kx`` (pixels), which
        the other functions of this module use.

    Raises
    ------
    InputError
        If no size is given, a unit is missing, or sizes contradict each other.

    Examples
    --------
    >>> frames = xr.DataArray(np.zeros((2, 4, 4)), dims=("position", "ky", "kx"))
    >>> calibrate(frames, center=(1.5, 1.5), pixel_size=0.25, pixel_size_units="angstrom")["ky"].values
    array([-1.5, -0.5,  0.5,  1.5])
    """
    array, _ = frames_of(scan)
    known = given_center(center, array)
    sizes = [array.sizes[d] for d in AXES]
    angular = _angular(mrad_per_pixel, beam_energy)
    found: tuple[float, float] | None = None
    if pixel_size is not None:
        if pixel_size_units not in REAL_UNITS:
            raise InputError(f"pixel_size={pixel_size} in {pixel_size_units!r}; pass pixel_size_units, nm or angstrom")
        length = _positive(pixel_size, "pixel_size") * REAL_UNITS[pixel_size_units]
        found, units = (1 / (sizes[0] * length), 1 / (sizes[1] * length)), "1/angstrom"
    elif pixel_size_ky is not None or pixel_size_kx is not None:
        if pixel_size_ky is None or pixel_size_kx is None:
            missing = "pixel_size_ky" if pixel_size_ky is None else "pixel_size_kx"
            raise InputError(f"{missing} is missing; pass both, or pixel_size_k for both axes")
        found = _positive(pixel_size_ky, "pixel_size_ky"), _positive(pixel_size_kx, "pixel_size_kx")
    elif pixel_size_k is not None:
        found = (_positive(pixel_size_k, "pixel_size_k"),) * 2
    if angular is not None:
        if found is not None and (units != "1/angstrom" or any(abs(f / angular - 1) > SAME for f in found)):
            said = f"mrad_per_pixel means {angular:.5g} 1/angstrom, and the other size is {found} {units}"
            raise InputError(f"{said}; pass one of them")
        found, units = found or (angular, angular), "1/angstrom"
    if found is None:
        raise InputError("no size of a pixel; pass pixel_size, pixel_size_k, pixel_size_ky and _kx, or mrad_per_pixel")
    origin = (0.0, 0.0) if known is None else known.values
    if not units:
        raise InputError('units is empty; pass that of the k-space sizes, such as "1/angstrom"')
    for dim, n, step, zero in zip(AXES, sizes, found, origin, strict=True):
        values = (np.arange(n) - zero) * step
        attrs = {"units": units, "long_name": f"scattering vector along {dim[1]}"}
        array = array.assign_coords({dim: (dim, values, attrs)})
    if known is None:
        return array
    centers = {f"center_{d}": ((), float(v), {"units": "pixel"}) for d, v in zip(AXES, origin, strict=True)}
    return array.assign_coords(centers)


def _positive(value: float, name: str) -> float:
    if not (np.isfinite(value) and value > 0):
        raise InputError(f"{name}={value}; expected more than 0")
    return float(value)


def _angular(mrad_per_pixel: float | None, beam_energy: float | None) -> float | None:
    """Return the size of a pixel in 1/Å."""
    if mrad_per_pixel is None:
        return None
    if beam_energy is None:
        raise InputError("mrad_per_pixel needs beam_energy, in eV: the wavelength turns angles into 1/angstrom")
    return _positive(mrad_per_pixel, "mrad_per_pixel") * 1e-3 / wavelength(beam_energy)


def pixel_size_from_points(
    first: Sequence[float], second: Sequence[float], *, known_spacing: float | None = None, center: Any = None
) -> dict[str, Any]:
    r"""Find the size of a pixel from two points of a reflection or a ring.

    Points on opposite sides of the beam are Friedel partners: :math:`\Delta k = 2 / (d \lvert p_1 - p_2 \rvert)`,
    which needs no centre, and their midpoint is one. Points on the same side are the inner and outer boundary of a
    ring: :math:`\Delta k = 1 / (d \bar r)` with their mean distance from the centre.

    Parameters
    ----------
    first, second : (float, float)
        ``(ky, kx)`` in pixels.
    known_spacing : float, optional
        Lattice spacing d in Å. Without it the radius of the points becomes 1.
    center : (float, float), optional
        Centre of the beam in pixels; without it the points are on opposite sides.

    Returns
    -------
    dict
        ``pixel_size_ky``, ``pixel_size_kx``, ``units``, ``radius`` in pixels, ``center``: ready for `calibrate`,
        less the radius.

    Raises
    ------
    InputError
        If the points are the same, or the spacing is not positive.

    Examples
    --------
    >>> found = pixel_size_from_points((24, 64), (104, 64), known_spacing=1.92)
    >>> round(found["pixel_size_ky"], 6), found["units"], found["center"]
    (0.013021, '1/angstrom', (64.0, 64.0))
    """
    points = np.array([pair(first, "first"), pair(second, "second")])
    middle = points.mean(axis=0)
    radius = float(np.hypot(*(points[0] - points[1]))) / 2
    if center is not None:
        arms = points - np.array(pair(center, "center"))
        if arms[0] @ arms[1] > 0:
            radius, middle = float(np.hypot(*arms.T).mean()), np.array(pair(center, "center"))
    if radius < 0.5:
        raise InputError(f"the points {points.tolist()} are the same; click two opposite reflections")
    spacing = 1.0 if known_spacing is None else _positive(known_spacing, "known_spacing")
    size = 1 / (spacing * radius)
    units = RELATIVE if known_spacing is None else "1/angstrom"
    return {
        "pixel_size_ky": size, "pixel_size_kx": size, "units": units, "radius": radius,
        "center": (float(middle[0]), float(middle[1])),
    }  # fmt: skip


def descan(maps: xr.Dataset, method: str = "plane") -> xr.DataArray:
    """Find how the beam moves on the detector as it is scanned, from a measured centre of mass.

    Parameters
    ----------
    maps : Dataset
        Of `center_of_mass` over the direct beam, in pixels: of this scan, or of one through vacuum.
    method : {"plane", "measured"}
        A plane through it, from which outliers are left out; or as it is, less its mean.

    Returns
    -------
    DataArray
        Shift in pixels, dims ``(*scan, axis)``, for `center_of_mass` and `virtual_maps`.

    Raises
    ------
    InputError
        If the centre of mass is not in pixels.

    Examples
    --------
    >>> y, x = np.mgrid[:3, :4]
    >>> com = xr.Dataset({"com_y": (("y", "x"), 0.5 * y), "com_x": (("y", "x"), 0.1 * x)})
    >>> descan(com)[2, 0].values.round(3)
    array([ 0.5 , -0.15])
    """
    require(maps, ("com_y", "com_x"), "center_of_mass")
    if method not in ("plane", "measured"):
        raise unknown("method", method, ("plane", "measured"))
    units = maps["com_y"].attrs.get("units", "pixel")
    if units != "pixel":
        raise InputError(f"the centre of mass is in {units!r}; measure it before the scan is calibrated")
    if "detector" in maps["com_y"].dims:
        raise InputError('several detectors; select one: maps.sel(detector="disc")')
    dims = list(maps["com_y"].dims)
    com = xr.concat([maps[n].transpose(*dims).drop_vars(list(maps[n].coords)) for n in ("com_y", "com_x")], "axis")
    com = com.transpose(*dims, "axis")
    plane = Baseline("robust", None, positions_of(maps, dims))

    def shift(values: Any) -> Any:
        base = plane(values) if method == "plane" else values
        return base - np.nanmean(base, axis=tuple(range(len(dims))))

    output = {str(d): com.sizes[d] for d in com.dims}
    moved = _apply.apply_whole(shift, com, output=output, token=f"descan {method}")
    moved.attrs = {"long_name": "shift of the beam on the detector", "units": "pixel"}
    return moved.rename("descan").assign_coords(axis=("axis", np.array(AXES, object)))
