"""Probes: the complex wave that illuminates the object, (patch_y, patch_x) or (mode, patch_y, patch_x)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from scanfold.conventions import InputError, InputTypeError
from scanfold.ptycho.config import positive, whole

Array = npt.NDArray[Any]

DIMS = ("patch_y", "patch_x")


def default_probe(N: int, scale: float = 0.7) -> xr.DataArray:
    """Return a disk of radius ``N √(2 ln 2) / (scale π²)`` pixels, its edge smoothed with σ = 1 pixel.

    Parameters
    ----------
    N : int
        Pixels along a side.
    scale : float
        A larger one makes a smaller disk.

    Returns
    -------
    DataArray
        Dims (patch_y, patch_x), complex64, centred between the two middle pixels of an even `N`.

    Examples
    --------
    >>> probe = default_probe(64)
    >>> probe.dims, round(float(probe.real.sum()))
    (('patch_y', 'patch_x'), 376)
    """
    from scipy import ndimage

    N = whole("N", N, least=4)
    # a disk where the product of two Gaussians of σ = N / (scale π²) is above a half
    sigma = N / (positive("scale", scale) * math.pi**2)
    y, x = _grid(N)
    disk = (np.exp(-(y**2 + x**2) / (2 * sigma**2)) > 0.5).astype(float)
    return _probe(ndimage.gaussian_filter(disk, 1.0) + 1e-9, f"disk of scale {scale:g}")


def gaussian(N: int, sigma: float) -> xr.DataArray:
    """Return a Gaussian probe, ``exp(−r²/2σ²)``, σ in pixels."""
    y, x = _grid(whole("N", N, least=4))
    return _probe(np.exp(-(y**2 + x**2) / (2 * positive("sigma", sigma) ** 2)), f"Gaussian of σ = {sigma:g}")


def mask(N: int) -> xr.DataArray:
    """Return 1 within ``N/4`` pixels of the middle and 0 elsewhere, float32."""
    y, x = _grid(whole("N", N, least=4))
    return xr.DataArray((np.hypot(y, x) < N / 4).astype(np.float32), dims=DIMS)


def _grid(N: int) -> tuple[Array, Array]:
    """Return pixel coordinates (N, 1) and (1, N) about the middle."""
    r = np.arange(N) - (N - 1) / 2
    return r[:, None], r[None, :]


def _probe(values: Array, what: str) -> xr.DataArray:
    dims = DIMS if values.ndim == 2 else ("mode", *DIMS)
    attrs = {"long_name": f"probe: {what}"}
    return xr.DataArray(values.astype(np.complex64), dims=dims, name="probe", attrs=attrs)


def checked(probe: Any, N: int | None = None) -> xr.DataArray:
    """Return a probe as a DataArray, complex64 and in memory, or raise.

    Raises
    ------
    InputError
        If it is not square, not of `N` pixels, not finite, or 0 everywhere.
    InputTypeError
        If it is no array of numbers.
    """
    values = np.asarray(probe)
    if values.dtype.kind not in "biufc":
        raise InputTypeError(f"the probe holds {values.dtype}; expected complex numbers of shape (N, N)")
    if values.ndim == 3 and values.shape[-1] == 1:
        values = values[..., 0]  # (N, N, 1), as older files have it
    shape = f"({N}, {N})" if N else "(N, N)"
    if values.ndim not in (2, 3) or values.shape[-1] != values.shape[-2] or (N and values.shape[-1] != N):
        raise InputError(f"the probe has shape {values.shape}; expected {shape}, or (modes, N, N) for several modes")
    if not np.isfinite(values).all() or not values.any():
        raise InputError("the probe is 0 everywhere or has NaN; no photon would reach the object")
    attrs = probe.attrs if isinstance(probe, xr.DataArray) else {"long_name": "probe"}
    dims = DIMS if values.ndim == 2 else ("mode", *DIMS)
    return xr.DataArray(values.astype(np.complex64), dims=dims, name="probe", attrs=dict(attrs))
