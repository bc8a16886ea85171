"""What a run makes of its configuration: calibrated scans, files of dose and bad pixels, derived maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from scanfold.conventions import InputError, Var
from scanfold.detectors.calibration import calibrate
from scanfold.detectors.columns import DISC
from scanfold.detectors.config import K_UNITS, Config
from scanfold.detectors.field import electric_field, inverse_length, wavelength
from scanfold.detectors.frames import Array, as_center, pixel_steps
from scanfold.detectors.labels import as_labels
from scanfold.detectors.orientation import derivatives, find_rotation, integrate_phase

SHARE = Var("label_share", ("detector",), "float64", "share of the variance of the centre of mass that labels explain")


def require_device(device: str) -> None:
    """Raise unless products can be computed there.

    Raises
    ------
    InputError
        If CuPy or a device of this number is missing.

    Examples
    --------
    >>> require_device("cpu")
    """
    if device == "cpu":
        return
    kind, _, number = device.partition(":")
    if kind != "cuda" or not (number or "0").isdigit():
        raise InputError(f"device={device!r}; expected cpu, or cuda:0")
    try:
        import cupy
    except ImportError:
        raise InputError(f'device={device!r} needs CuPy; type: pip install "scanfold[gpu]", or use cpu') from None
    try:
        count = int(cupy.cuda.runtime.getDeviceCount())
    except Exception as error:
        raise InputError(f"device={device!r}: CUDA does not answer ({error}); use cpu") from None
    if int(number or 0) >= count:
        raise InputError(f"device={device!r}: there are {count} CUDA devices; use cpu")


def read_map(path: str, key: str) -> Array:
    """Read an array from ``.npy``.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    try:
        found = np.load(path, allow_pickle=False, mmap_mode="r")
    except Exception as error:
        raise InputError(f"preprocess.{key}: cannot read {path!r}: {error}") from None
    if not isinstance(found, np.ndarray):
        raise InputError(f"preprocess.{key}: {path!r} holds several arrays; expected a .npy")
    return np.array(found)


def dose(array: xr.DataArray, dims: tuple[Any, ...], path: str | None) -> xr.DataArray | None:
    """Return the dose of each position."""
    if path is None:
        return None
    values, shape = read_map(path, "dose"), tuple(array.sizes[d] for d in dims)
    if values.size != np.prod(shape):
        raise InputError(f"preprocess.dose has the shape {values.shape}, the scan {shape}")
    return xr.DataArray(values.reshape(shape), dims=dims)


def bad_pixels(given: str | None) -> Any:
    """Return "auto", a mask, or None."""
    return given if given in (None, "auto") else read_map(given, "bad_pixels").astype(bool)


def calibrated(array: xr.DataArray, options: Config, center: Any) -> xr.DataArray:
    """Return a scan with the coordinates that the configuration gives it."""
    given = options["calibration"]
    units, step = given["pixel_size_k_units"], given["scan_step"]
    if given["pixel_size"] is not None or units is not None or given["mrad_per_pixel"] is not None:
        array = calibrate(
            array, center=tuple(float(v) for v in center), pixel_size=given["pixel_size"],
            pixel_size_units=given["pixel_size_units"], pixel_size_k=None if units is None else given["pixel_size_k"],
            pixel_size_ky=given["pixel_size_ky"], pixel_size_kx=given["pixel_size_kx"],
            mrad_per_pixel=given["mrad_per_pixel"], beam_energy=options["dpc"]["beam_energy"],
            units=K_UNITS[units or "1/angstrom"],
        )  # fmt: skip
    if step is not None:
        attrs = {"units": "nm", "long_name": "position"}
        array = array.assign_coords(
            {d: (d, np.arange(array.sizes[d]) * step, attrs) for d in ("y", "x") if d in array.dims}
        )
    return array


def require_units(scan: xr.DataArray, options: Config) -> None:
    """Raise if centres of mass in the units of a scan make no field."""
    units = pixel_steps(scan)[1]
    one = xr.DataArray([0.0], dims="position", attrs={"units": units})
    electric_field(xr.Dataset({"com_y": one, "com_x": one}), **field_options(options))


def field_options(options: Config) -> dict[str, Any]:
    """Return the options of `electric_field`: a scale, or an energy."""
    given = options["dpc"]
    if given["beam_energy"] is None:
        return {"field_scale": given["field_scale"]}
    return {"beam_energy": given["beam_energy"], "thickness": given["thickness"]}


def centred(stats: xr.Dataset, center: tuple[float, float]) -> xr.Dataset:
    """Return statistics with another centre."""
    found = as_center(np.array(center)).variable
    found.attrs = {**stats["center"].attrs, **found.attrs}
    return stats.assign(center=found)


def disc_radius(options: Config, scan: xr.DataArray) -> float | None:
    """Return the radius of the disc detector in pixels, from the configuration; None to measure the beam."""
    if options["dpc"]["disc_radius"] is not None:
        return float(options["dpc"]["disc_radius"])
    angle, energy = options["calibration"]["convergence_angle"], options["dpc"]["beam_energy"]
    (dy, dx), units = pixel_steps(scan)
    length = inverse_length(units)
    if angle is None or energy is None or length is None:
        return None
    radius = angle * 1e-3 / wavelength(energy) * length / 1e-10
    return float(DISC * radius / np.sqrt(abs(dy * dx)))


def rotation(flat: xr.Dataset, options: Config) -> xr.Dataset:
    """Return rotation and flip: those given, or those of the least curl in the disc."""
    given = options["dpc"]
    if given["rotation"] == "auto":
        return find_rotation(flat[["com_y", "com_x"]].sel(detector="disc", drop=True))
    units = {"units": "degree"}
    return xr.Dataset({"rotation": ((), float(given["rotation"]), units), "flip": ((), given["flip"])})


def derived(flat: xr.Dataset, field: xr.Dataset, angle: xr.Dataset, options: Config) -> xr.Dataset:
    """Return divergence, curl, charge and phase of the disc detector, those that units and steps allow."""
    step = options["calibration"]["scan_step"]
    if step is None or min(flat.sizes["y"], flat.sizes["x"]) < 3:
        return xr.Dataset()
    out = derivatives(field[["Ex", "Ey"]].sel(detector="disc", drop=True), step=step)
    out.attrs = {}
    if inverse_length(str(flat["com_x"].attrs.get("units", "pixel"))) is not None:
        one = flat[["com_y", "com_x"]].sel(detector="disc", drop=True)
        turned = electric_field(one, field_scale=1.0, rotation=float(angle["rotation"]), flip=bool(angle["flip"]))
        renamed = turned[["Ey", "Ex"]].rename(Ey="com_y", Ex="com_x")
        out["phase"] = integrate_phase(renamed, step=step)
    return out


def label_share(flat: xr.Dataset, labels: Any, array: xr.DataArray, dims: tuple[Any, ...]) -> xr.DataArray:
    """Return how much of the variance of each detector's centre of mass is between the labels, not within.

    A field need not know of the labels; a detector whose gate depends on them does.
    """
    checked = as_labels(labels, array, dims)
    index = checked.index if checked.index is not None else checked.weights.argmax("cluster")  # type: ignore[union-attr]
    number = index.transpose(*dims).values.ravel()
    shares = []
    for name in flat["detector"].values:
        com = np.stack([flat[n].sel(detector=name).transpose(*dims).values.ravel() for n in ("com_y", "com_x")], -1)
        known = np.isfinite(com).all(axis=1) & (number >= 0)
        rest = com[known] - (com[known].mean(axis=0) if known.any() else 0.0)
        total = float((rest**2).sum())
        parts = [rest[number[known] == c] for c in np.unique(number[known])]
        between = sum(len(p) * float((p.mean(axis=0) ** 2).sum()) for p in parts)
        shares.append(between / total if total > 0 else np.nan)
    return SHARE.make(xr.DataArray(np.array(shares), dims="detector", coords={"detector": flat["detector"].variable}))
