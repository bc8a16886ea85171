"""Probes: the complex wave that illuminates the object, (probe_y, probe_x) or (mode, probe_y, probe_x)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from scanfold.conventions import InputError, InputTypeError
from scanfold.grouping.options import whole
from scanfold.ptycho.config import MOST_FRAME, as_array, positive

Array = npt.NDArray[Any]

DIMS = ("probe_y", "probe_x")


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
        Dims (probe_y, probe_x), complex64, centred between the two middle pixels of an even `N`.

    Examples
    --------
    >>> probe = default_probe(64)
    >>> probe.dims, round(float(probe.real.sum()))
    (('probe_y', 'probe_x'), 376)
    """
    from scipy import ndimage

    N = whole("N", N, least=4, most=MOST_FRAME)
    # a disk where the product of two Gaussians of σ = N / (scale π²) is above a half
    sigma = N / (positive("scale", scale) * math.pi**2)
    y, x = _grid(N)
    disk = (np.exp(-(y**2 + x**2) / (2 * sigma**2)) > 0.5).astype(float)
    return _probe(ndimage.gaussian_filter(disk, 1.0) + 1e-9, f"disk of scale {scale:g}")


def gaussian(N: int, sigma: float) -> xr.DataArray:
    """Return a Gaussian probe, ``exp(−r²/2σ²)``, σ in pixels."""
    y, x = _grid(whole("N", N, least=4, most=MOST_FRAME))
    return _probe(np.exp(-(y**2 + x**2) / (2 * positive("sigma", sigma) ** 2)), f"Gaussian of σ = {sigma:g}")


def mask(N: int) -> xr.DataArray:
    """Return 1 within ``N/4`` pixels of the middle and 0 elsewhere, float32."""
    y, x = _grid(whole("N", N, least=4, most=MOST_FRAME))
    return xr.DataArray((np.hypot(y, x) < N / 4).astype(np.float32), dims=DIMS)


def fresnel_zone_plate(
    N: int,
    *,
    wavelength: float,
    pixel: float,
    diameter: float,
    outer_zone: float,
    beam_stop: float = 0.0,
    defocus: float = 0.0,
) -> xr.DataArray:
    """Return the wave that a Fresnel zone plate makes near its focus.

    The wave behind the lens, ``exp(−iπ r² / λf)`` with ``f = diameter · outer_zone / λ`` inside the ring that is open,
    is propagated over ``f + defocus`` by one Fourier transform (Fresnel diffraction).

    Parameters
    ----------
    N : int
        Pixels along a side.
    wavelength, pixel : float
        Of the light, and of a pixel of the object, in m.
    diameter, outer_zone : float
        Of the zone plate, and the width of its outermost zone, in m.
    beam_stop : float
        Diameter of the central stop, in m.
    defocus : float
        From the focus to the object, in m, downstream.

    Returns
    -------
    DataArray
        Dims (probe_y, probe_x), complex64, of maximum 1.

    Raises
    ------
    InputError
        If a length cannot be, or the zone plate or the beam do not fit into the pixels: the wave would repeat itself.

    Examples
    --------
    >>> probe = fresnel_zone_plate(64, wavelength=1e-10, pixel=2e-8, diameter=1e-4, outer_zone=5e-8)
    >>> np.argwhere(abs(probe).values > 0.999).tolist()
    [[31, 31], [31, 32], [32, 31], [32, 32]]
    """
    from scipy import fft

    N = whole("N", N, least=4, most=MOST_FRAME)
    lengths = {"wavelength": wavelength, "pixel": pixel, "diameter": diameter, "outer_zone": outer_zone}
    for name, value in lengths.items():
        positive(name, value)
    stop = positive("beam_stop", beam_stop, zero=True)
    focus = diameter * outer_zone / wavelength
    distance = focus + float(defocus)
    if not distance > 0:
        raise InputError(f"defocus={defocus:g} m lies before the lens, whose focal length is {focus:g} m")
    step = wavelength * distance / (N * pixel)  # of a pixel in the plane of the lens
    if N * step < diameter:
        need = wavelength * distance / diameter
        raise InputError(
            f"a zone plate of {diameter:g} m does not fit into {N} pixels of {step:.3g} m; "
            f"pixels of the object must be at most {need:.3g} m, found pixel={pixel:g}"
        )
    if (spread := diameter * abs(defocus) / focus) > N * pixel:
        raise InputError(
            f"{defocus:g} m out of focus the beam is {spread:.3g} m wide, and the probe {N * pixel:.3g} m; "
            f"defocus may be {N * pixel * focus / diameter:.3g} m"
        )
    v, u = _grid(N)
    r2 = (v**2 + u**2) * step**2
    lens = ((r2 <= (diameter / 2) ** 2) & (r2 >= (stop / 2) ** 2)) * np.exp(
        -1j * np.pi * r2 / wavelength * (1 / focus - 1 / distance)
    )
    # a Fourier transform about the middle between the two middle pixels, on both sides
    ramp = np.exp(2j * np.pi * (N - 1) / 2 / N * np.arange(N))
    wave = fft.fft2(lens * ramp[:, None] * ramp) * ramp[:, None] * ramp
    r2 = (v**2 + u**2) * pixel**2
    wave = wave * np.exp(1j * np.pi * r2 / (wavelength * distance))
    return _probe(wave / np.abs(wave).max(), "Fresnel zone plate")


def zernike(probe: Any, coefficients: Mapping[tuple[int, int], float], radius: float | None = None) -> xr.DataArray:
    """Return a probe whose pupil, its Fourier transform, is multiplied with ``exp(2πi Σ c Z)``.

    Parameters
    ----------
    probe : array (N, N) or (modes, N, N)
    coefficients : mapping
        Waves for each ``(n, m)``, such as ``{(2, 0): 0.3}`` of defocus; m < 0 for the sine terms. Z is normalised to
        a variance of 1 over the pupil (Noll 1976, doi:10.1364/JOSA.66.000207).
    radius : float, optional
        Of the pupil in pixels of the transform, ``N/2`` if not given; outside it nothing changes.

    Raises
    ------
    InputError
        If there is no such polynomial.

    Examples
    --------
    >>> defocused = zernike(default_probe(64), {(2, 0): 0.5})
    >>> bool(abs((abs(defocused) ** 2).sum() / (abs(default_probe(64)) ** 2).sum() - 1) < 1e-5)
    True
    """
    from scipy import fft

    made = checked(probe)
    N = made.shape[-1]
    r = fft.fftfreq(N) * N
    rho = np.hypot(r[:, None], r) / (N / 2 if radius is None else positive("radius", radius))
    theta = np.arctan2(r[:, None], r)
    phase = sum(c * _zernike(n, m, rho, theta) for (n, m), c in coefficients.items())
    turned = fft.ifft2(fft.fft2(made.values.astype(complex)) * np.exp(2j * np.pi * np.where(rho <= 1, phase, 0)))
    return made.copy(data=turned.astype(np.complex64))


def _zernike(n: int, m: int, rho: Array, theta: Array) -> Array:
    k = abs(m)
    if n < 0 or k > n or (n - k) % 2:
        raise InputError(f"there is no Zernike polynomial (n, m) = ({n}, {m}); n ≥ |m| and n − |m| is even")
    radial = sum(
        (-1) ** j * math.comb(n - j, j) * math.comb(n - 2 * j, (n - k) // 2 - j) * rho ** (n - 2 * j)
        for j in range((n - k) // 2 + 1)
    )
    angular = np.cos(k * theta) if m >= 0 else np.sin(k * theta)
    return np.asarray(math.sqrt((n + 1) * (1 if m == 0 else 2)) * radial * angular)


def from_data(pattern: Any) -> xr.DataArray:
    """Guess a probe from the mean diffraction amplitude: a Gaussian as wide as the transform of the amplitude.

    With p the normalised middle row of ``|IFFT(pattern)|``, its variance is that of the Gaussian. It is cut by `mask`
    and has the sum of `default_probe`.

    Parameters
    ----------
    pattern : array (N, N)
        Mean amplitude over a scan, zero frequency in the middle: ``scan["diffraction"].mean("position")``.

    Raises
    ------
    InputError
        If it is not square, or has no light.

    Examples
    --------
    >>> far = abs(np.fft.fftshift(np.fft.fft2(gaussian(64, 5.0))))
    >>> round(float(abs(from_data(far)).sum())) == round(float(abs(default_probe(64)).sum()))
    True
    """
    from scipy import fft

    values = np.asarray(pattern, float)
    if values.ndim != 2 or values.shape[0] != values.shape[1] or not np.isfinite(values).all() or not values.any():
        raise InputError(
            f"pattern has shape {values.shape}; expected a mean amplitude (N, N), finite and not 0 everywhere"
        )
    N = values.shape[0]
    near = np.abs(fft.fftshift(fft.ifft2(fft.ifftshift(values))))
    row = near[N // 2] / near[N // 2].sum()
    sigma = math.sqrt(float((row * (np.arange(N) - N // 2) ** 2).sum()))
    y, x = _grid(N)
    guess = np.exp(-(y**2 + x**2) / (2 * max(sigma, 0.5) ** 2)) * np.asarray(mask(N))
    guess *= float(np.abs(default_probe(N)).sum()) / guess.sum()
    return _probe(guess, "guessed from data")


def modes(probe: Any, powers: Sequence[float]) -> xr.DataArray:
    """Return mutually incoherent modes of a probe, orthogonal to each other, of given shares of its power.

    The further ones are the probe times x, y, x², xy, y², … made orthogonal to those before.

    Parameters
    ----------
    probe : array (N, N)
    powers : sequence of float
        A share for each mode, such as ``(0.9, 0.06, 0.04)``; scaled to add up to 1.

    Returns
    -------
    DataArray
        Dims (mode, probe_y, probe_x); Σ|P|² over all is that of the probe.

    Examples
    --------
    >>> made = modes(gaussian(32, 4.0), (0.8, 0.2))
    >>> (abs(made) ** 2).sum(["probe_y", "probe_x"]).values.round().tolist()
    [40.0, 10.0]
    """
    made = checked(probe)
    shares = np.array([positive("powers", float(p)) for p in powers])
    if made.ndim != 2 or not shares.size:
        raise InputError("modes() takes one probe (N, N) and a share of its power for each mode")
    y, x = _grid(made.shape[-1])
    degree = math.ceil(math.sqrt(2 * shares.size))
    terms = [y**j * x ** (d - j) for d in range(degree + 1) for j in range(d + 1)][: shares.size]
    values = made.values.astype(complex)
    basis = np.stack([(values * t / np.abs(t).max()).ravel() for t in terms], axis=1)
    orthogonal, triangle = np.linalg.qr(basis)
    orthogonal = orthogonal * np.exp(1j * np.angle(np.diag(triangle)))
    power = np.sum(np.abs(values) ** 2) * shares / shares.sum()
    return _probe((orthogonal * np.sqrt(power)).T.reshape(-1, *values.shape), f"{shares.size} modes")


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
    values = as_array("the probe", probe)
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
