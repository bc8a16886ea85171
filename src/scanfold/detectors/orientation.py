"""The angle between scan and detector, and what derives from a field: divergence, curl, charge, phase."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from scanfold import _apply
from scanfold.conventions import InputError, Var, record
from scanfold.detectors.field import inverse_length
from scanfold.detectors.frames import Array
from scanfold.detectors.templates import require

#: Vacuum permittivity in C/(V m).
EPSILON_0 = 8.8541878128e-12
DERIVED = (
    Var("divergence", ("y", "x"), "float64", "divergence of the field"),
    Var("curl", ("y", "x"), "float64", "curl of the field: dEy/dx - dEx/dy"),
)
PHASE = Var("phase", ("y", "x"), "float64", "phase whose gradient is 2 pi times the centre of mass (iDPC)", "radian")


def find_rotation(maps: xr.Dataset) -> xr.Dataset:
    r"""Find the rotation and flip between scan and detector: those of the least curl.

    A centre of mass that an electrostatic field makes has no curl. After turning the detector by :math:`\theta` the
    curl is :math:`\sin\theta\, D + \cos\theta\, C`, with divergence D and curl C before; its mean square has one
    minimum in 180°, found in closed form, for the detector as it is and flipped. Between :math:`\theta` and
    :math:`\theta + 180°` the curl cannot tell: nuclei are compact and positive, so that of the two the one is taken in
    which the centre of mass converges more sharply than it diverges. Where there are no atoms that means little.

    Parameters
    ----------
    maps : Dataset
        ``com_y, com_x`` on a grid ``(y, x)``, of one detector, baseline subtracted.

    Returns
    -------
    Dataset
        Scalars for `electric_field`: ``rotation`` in degrees, in (-180, 180], ``flip``; and ``rms_curl``,
        ``rms_curl_flipped``: how sure the flip is.

    Raises
    ------
    InputError
        If the maps are not of one detector on a grid of at least 3 × 3.

    Examples
    --------
    >>> y, x = np.mgrid[-8:9, -8:9] / 3
    >>> atom = np.exp(-(x**2 + y**2))
    >>> turned = xr.Dataset({"com_y": (("y", "x"), -x * atom), "com_x": (("y", "x"), y * atom)})
    >>> found = find_rotation(turned)
    >>> round(float(found["rotation"]))
    -90
    """
    y, x = _grid(maps, ("com_y", "com_x"))
    found = _apply.apply_whole(_rotation, y, x, output={"value": 4}, token="find-rotation")
    specs = (
        Var("rotation", (), "float64", "angle from the x axis of the scan to that of the detector", "degree"),
        Var("flip", (), "bool", "the y axis of the detector points up"),
        Var("rms_curl", (), "float64", "root mean square of the curl that is left"),
        Var("rms_curl_flipped", (), "float64", "the same for the other flip"),
    )
    values = [found.isel(value=i) for i in range(4)]
    values[1] = values[1] == 1
    return xr.Dataset({s.name: s.make(v) for s, v in zip(specs, values, strict=True)})


def _rotation(y: Array, x: Array) -> Array:
    """Return rotation in degrees, flip, and the root mean square curl with the better and the other flip (4,)."""
    found = []
    for flip in (False, True):
        up = -y if flip else y
        divergence = np.gradient(x, axis=1) + np.gradient(up, axis=0)
        curl = np.gradient(up, axis=1) - np.gradient(x, axis=0)
        dd, cc, dc = (np.nanmean(a * b) for a, b in ((divergence, divergence), (curl, curl), (divergence, curl)))
        angle = 0.5 * np.arctan2(-2 * dc, dd - cc)
        left = dd * np.sin(angle) ** 2 + 2 * dc * np.sin(angle) * np.cos(angle) + cc * np.cos(angle) ** 2
        turned = np.cos(angle) * divergence - np.sin(angle) * curl
        if np.nansum((turned - np.nanmean(turned)) ** 3) > 0:
            angle += np.pi
        found.append((float(np.sqrt(max(left, 0.0))), np.degrees(angle), flip))
    best, other = sorted(found, key=lambda f: f[0])
    return np.array([180.0 - (180.0 - best[1]) % 360.0, best[2], best[0], other[0]])


def _grid(ds: xr.Dataset, names: Sequence[str]) -> list[xr.DataArray]:
    """Return maps on a grid (y, x)."""
    require(ds, tuple(names), "electric_field")
    if "detector" in ds[names[0]].dims:
        raise InputError('several detectors; select one: maps.sel(detector="disc")')
    if set(ds[names[0]].dims) != {"y", "x"} or min(ds.sizes["y"], ds.sizes["x"]) < 3:
        raise InputError(f"maps have {dict(ds[names[0]].sizes)}; expected a grid (y, x) of at least 3 × 3")
    return [ds[n].transpose("y", "x").drop_vars(list(ds[n].coords)) for n in names]


def _steps(step: float | Sequence[float]) -> tuple[float, float]:
    steps = (step, step) if isinstance(step, int | float) else tuple(step)
    if len(steps) != 2 or not all(np.isfinite(s) and s > 0 for s in steps):
        raise InputError(f"step={step!r}; expected the distance of scan positions in nm, or (along y, along x)")
    return float(steps[0]), float(steps[1])


def derivatives(field: xr.Dataset, *, step: float | Sequence[float]) -> xr.Dataset:
    r"""Differentiate a field: divergence, curl and, by Gauss's law, charge.

    Parameters
    ----------
    field : Dataset
        ``Ex, Ey`` on a grid ``(y, x)``, of one detector, of `electric_field`.
    step : float or (float, float)
        Distance of scan positions in nm; along y and along x.

    Returns
    -------
    Dataset
        ``divergence`` and ``curl`` in units of the field per nm, by central differences; ``charge``
        :math:`\varepsilon_0 \nabla \cdot E`, in e/nm² for a projected field in V and e/nm³ for one in V/m.

    Raises
    ------
    InputError
        If the field is not on a grid, or `step` is not positive.

    Examples
    --------
    >>> y, x = np.mgrid[:4, :4] * 1.0
    >>> field = xr.Dataset({"Ex": (("y", "x"), 2 * x), "Ey": (("y", "x"), x)})
    >>> float(derivatives(field, step=1)["divergence"][1, 1]), float(derivatives(field, step=1)["curl"][1, 1])
    (2.0, 1.0)
    """
    ey, ex = _grid(field, ("Ey", "Ex"))
    dy, dx = _steps(step)
    sizes = {"row": 2, "y": ex.sizes["y"], "x": ex.sizes["x"]}

    def make(vertical: Array, horizontal: Array) -> Array:
        along = {"xx": np.gradient(horizontal, dx, axis=1), "yy": np.gradient(vertical, dy, axis=0)}
        across = {"yx": np.gradient(vertical, dx, axis=1), "xy": np.gradient(horizontal, dy, axis=0)}
        return np.stack([along["xx"] + along["yy"], across["yx"] - across["xy"]])

    made = _apply.apply_whole(make, ey, ex, output=sizes, token=f"derivatives {dy} {dx}")
    units = field["Ex"].attrs.get("units")
    ds = xr.Dataset({s.name: s.make(made.isel(row=i)) for i, s in enumerate(DERIVED)})
    if units is not None:
        for name in ("divergence", "curl"):
            ds[name].attrs["units"] = f"{units}/nm"
    if units in ("V", "V/m"):
        power = 2 if units == "V" else 3
        # V/nm over m is 1e9 V/m²; per nm² there are 1e-18 m², per nm³ 1e-27 m³.
        factor = EPSILON_0 / 1.602176634e-19 * (1e9 * 1e-18 if units == "V" else 1e9 * 1e-27)
        spec = Var("charge", ("y", "x"), "float64", "charge, from the divergence of the field", f"e/nm^{power}")
        ds["charge"] = spec.make(ds["divergence"] * factor)
    ds = ds.assign_coords({n: c for n, c in field.coords.items() if set(c.dims) <= {"y", "x"}})
    of = field.attrs.get("provenance")
    ds.attrs = {"provenance": record("derivatives", {"Ex": field["Ex"]}, {"step": [dy, dx]}, of=of)}
    return ds


def integrate_phase(maps: xr.Dataset, *, step: float | Sequence[float], pad: str = "mirror") -> xr.DataArray:
    r"""Integrate centres of mass to the phase of the object (iDPC).

    .. math:: \nabla \varphi = 2 \pi \langle k \rangle, \qquad
              \hat\varphi(q) = -i \, \frac{q \cdot \hat C(q)}{\lvert q \rvert^2}, \quad \hat\varphi(0) = 0

    Parameters
    ----------
    maps : Dataset
        ``com_y, com_x`` in reciprocal lengths on a grid ``(y, x)``, of one detector, turned into the frame of the
        scan (see `find_rotation`), baseline subtracted.
    step : float or (float, float)
        Distance of scan positions in nm.
    pad : {"mirror", "zero", "none"}
        What is beyond the edges: the phase mirrored, so that it need not be periodic; zero shifts, over as much as
        the map again; or the map repeated.

    Returns
    -------
    DataArray
        ``phase (y, x)`` in radian, of mean zero.

    Raises
    ------
    InputError
        If the maps are not on a grid, or not in reciprocal lengths.

    References
    ----------
    .. [1] I. Lazić, E. G. T. Bosch, S. Lazar, Phase contrast STEM for thin samples: integrated differential phase
       contrast, Ultramicroscopy 160 (2016) 265.

    Examples
    --------
    >>> x = 2 * np.pi * np.arange(32) / 32
    >>> com = np.tile(-np.sin(x), (32, 1)) / 32  # of the phase cos x, over steps of 1 nm
    >>> maps = xr.Dataset({n: (("y", "x"), c, {"units": "1/nm"}) for n, c in (("com_x", com), ("com_y", 0 * com))})
    >>> bool(np.allclose(integrate_phase(maps, step=1, pad="none"), np.cos(x)))
    True
    """
    y, x = _grid(maps, ("com_y", "com_x"))
    if pad not in ("mirror", "zero", "none"):
        raise InputError(f'pad={pad!r}; expected "mirror", "zero" or "none"')
    units = str(maps["com_y"].attrs.get("units", "pixel"))
    length = inverse_length(units)
    if length is None:
        raise InputError(f"centres of mass are in {units!r}; a phase needs 1/angstrom or 1/nm: det.calibrate(scan, …)")
    steps, scale = _steps(step), 1e-9 / length

    def make(vertical: Array, horizontal: Array) -> Array:
        return _phase(np.nan_to_num(vertical) * scale, np.nan_to_num(horizontal) * scale, steps, pad)

    made = _apply.apply_whole(make, y, x, output=dict(y.sizes), token=f"phase {steps} {pad} {scale}")  # type: ignore[arg-type]
    phase = PHASE.make(made).assign_coords({n: c for n, c in maps.coords.items() if set(c.dims) <= {"y", "x"}})
    phase.attrs["provenance"] = record("integrate_phase", {"com_y": maps["com_y"]}, {"step": list(steps), "pad": pad})
    return phase


def _phase(vertical: Array, horizontal: Array, steps: tuple[float, float], pad: str) -> Array:
    """Integrate shifts in 1/nm over steps in nm."""
    rows, columns = vertical.shape
    if pad == "mirror":
        vertical, horizontal = (_mirrored(c, axis) for c, axis in ((vertical, 0), (horizontal, 1)))
    elif pad == "zero":
        vertical, horizontal = (np.pad(c, [(0, rows), (0, columns)]) for c in (vertical, horizontal))
    qy = np.fft.fftfreq(vertical.shape[0], steps[0])[:, None]
    qx = np.fft.fftfreq(vertical.shape[1], steps[1])[None]
    # The highest frequency of an even length has no sign: its gradient cannot be told.
    for q, n in ((qy, vertical.shape[0]), (qx, vertical.shape[1])):
        if n % 2 == 0:
            q.flat[n // 2] = 0.0
    square = qy**2 + qx**2
    square[square == 0] = np.inf
    transform: Any = (qy * np.fft.fft2(vertical) + qx * np.fft.fft2(horizontal)) / square
    phase = np.fft.ifft2(-1j * transform).real[:rows, :columns]
    return np.asarray(phase - phase.mean())


def _mirrored(shift: Array, axis: int) -> Array:
    """Extend one component of a gradient as if its potential were mirrored: it changes sign along itself."""
    for each in (0, 1):
        shift = np.concatenate([shift, np.flip(shift, each) * (-1.0 if each == axis else 1.0)], axis=each)
    return shift
