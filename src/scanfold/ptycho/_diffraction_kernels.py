"""From positions to diffraction: patches of the object, exit waves, photons on the detector."""

import math

import numpy as np
from scipy import fft, ndimage, signal

from scanfold._jit_kernels import jit
from scanfold.ptycho._random_kernels import poisson_frame

#: Bytes of waves that are transformed together: they stay in a core's cache.
_TOGETHER = 2**19
#: Pixels around a patch over which it is faded out before a Fourier shift, so that its edges do not ring.
_FADE = 16
#: Pixels of the object in a band of `total_energy`, and the positions in it that are looked at together.
_BAND, _LOOKS = 2**21, 2**18


@jit()
def cut(image, y, x, out):
    """Cut patches: pixel (r, c) is the image at (y − N/2 + r, x − N/2 + c), bilinear; y, x (b,), out (b, N, N).

    A patch that does not lie in the image is NaN.
    """
    height, width = image.shape
    size = out.shape[1]
    one = np.float32(1)
    for b in range(y.size):
        top, left = y[b] - size / 2, x[b] - size / 2
        if not (top >= 0 and left >= 0 and top <= height - size and left <= width - size):
            out[b] = np.nan
            continue
        row, column = math.floor(top), math.floor(left)
        fy, fx = np.float32(top - row), np.float32(left - column)
        if fy == 0 and fx == 0:
            out[b] = image[row : row + size, column : column + size]
            continue
        w00, w01, w10, w11 = (one - fy) * (one - fx), (one - fy) * fx, fy * (one - fx), fy * fx
        for r in range(size):
            r0 = row + r
            r1 = min(r0 + 1, height - 1)  # beyond the last row the weight is 0
            for c in range(size):
                c0 = column + c
                c1 = min(c0 + 1, width - 1)
                out[b, r, c] = w00 * image[r0, c0] + w01 * image[r0, c1] + w10 * image[r1, c0] + w11 * image[r1, c1]


def cut_fourier(image, y, x, out):
    """Cut patches as `cut` does, by a Fourier shift of a larger one whose margin fades to 0."""
    size = out.shape[1]
    full = size + 2 * _FADE
    edge = 0.5 - 0.5 * np.cos(np.pi * (np.arange(_FADE - 4) + 0.5) / (_FADE - 4))
    window = np.concatenate([edge, np.ones(size + 8), edge[::-1]]).astype(np.float32)
    frequency = fft.fftfreq(full)
    for b in range(y.size):
        top, left = y[b] - size / 2, x[b] - size / 2
        if not np.isfinite(top + left):
            out[b] = np.nan
            continue
        row, column = math.floor(top), math.floor(left)
        rows = np.clip(np.arange(row - _FADE, row + size + _FADE), 0, image.shape[0] - 1)
        columns = np.clip(np.arange(column - _FADE, column + size + _FADE), 0, image.shape[1] - 1)
        patch = image[rows[:, None], columns]
        if top != row or left != column:
            ramp = [np.exp(2j * np.pi * frequency * f).astype(np.complex64) for f in (top - row, left - column)]
            patch = fft.fft2(patch * window[:, None] * window)
            patch = fft.ifft2(patch * ramp[0][:, None] * ramp[1])
        out[b] = patch[_FADE : _FADE + size, _FADE : _FADE + size]


CUTS = {"bilinear": cut, "fourier": cut_fourier}


@jit()
def _multiply(patches, probe, out):
    """Multiply patches (b, N, N) with a probe (N, N)."""
    for b in range(patches.shape[0]):
        for r in range(patches.shape[1]):
            for c in range(patches.shape[2]):
                out[b, r, c] = patches[b, r, c] * probe[r, c]


@jit()
def _add_intensity(waves, factor, out):
    """Add |waves|²·factor with zero frequency moved to the middle; waves, out (b, N, N)."""
    size = waves.shape[1]
    half = size // 2
    for b in range(waves.shape[0]):
        for r in range(size):
            row = (r + half) % size
            for c in range(size):
                column = c + half if c + half < size else c + half - size
                wave = waves[b, r, c]
                out[b, row, column] += factor * (wave.real * wave.real + wave.imag * wave.imag)


@jit()
def _count(mean, numbers, key, out):
    """Draw photons (b, N, N), float64, of mean numbers (b, N, N)."""
    count = mean.shape[1] * mean.shape[2]
    first, second = np.empty(count + count % 2, np.uint32), np.empty(count + count % 2, np.uint32)
    means = np.empty(count)
    for b in range(mean.shape[0]):
        frame = mean[b].reshape(count)
        for i in range(count):
            means[i] = frame[i]
        poisson_frame(means, numbers[b], key, first, second, out[b].reshape(count))


@jit()
def _energy(waves, out):
    """Write Σ|waves|² of each frame, summed in double precision."""
    for b in range(waves.shape[0]):
        total = 0.0
        for r in range(waves.shape[1]):
            for c in range(waves.shape[2]):
                wave = waves[b, r, c]
                total += float(wave.real) * float(wave.real) + float(wave.imag) * float(wave.imag)
        out[b] += total


def batches(count, size):
    """Yield slices of frames that are transformed together.

    Where a frame's lines do not fill the FFT's vectors it is transformed alone, so that its last digits do not
    depend on the frames beside it.
    """
    step = max(1, _TOGETHER // (8 * size * size)) if size % 16 == 0 else 1
    for first in range(0, count, step):
        yield slice(first, min(first + step, count))


def patches(image, y, x, size, interpolation):
    """Return patches (n, N, N) of an image at positions (n,)."""
    out = np.empty((y.size, size, size), np.complex64)
    CUTS[interpolation](image, y, x, out)
    return out


def energies(image, probes, y, x, interpolation):
    """Return Σ|Ψ|² over pixels and modes of the exit waves at positions (n,), float64."""
    size = probes.shape[-1]
    out = np.zeros(y.size)
    for part in batches(y.size, size):
        found = patches(image, y[part], x[part], size, interpolation)
        wave = np.empty_like(found)
        for probe in probes:
            _multiply(found, probe, wave)
            _energy(wave, out[part])
    return out


def diffract(image, probes, y, x, numbers, scale, out, *, key, interpolation, detector):
    """Write what a detector records at positions (n,) to `out` (n, N, N): counts if it is of integers, else amplitudes.

    Parameters
    ----------
    image, probes
        Object (H, W) and probe modes (m, N, N), complex64.
    y, x, numbers : (n,)
        Position in pixels of the object, and its number in the scan, which keys its noise.
    scale : float
        What amplitudes are multiplied with to give photons, and divided by again.
    key : two words, or None for no noise
    interpolation : str
    detector : mapping
        Options of `record`.
    """
    size = probes.shape[-1]
    factor = np.float32(scale * scale / (size * size))
    for part in batches(y.size, size):
        found = patches(image, y[part], x[part], size, interpolation)
        wave = np.empty_like(found)
        light = np.zeros(found.shape, np.float32)
        for probe in probes:
            _multiply(found, probe, wave)
            _add_intensity(fft.fft2(wave, overwrite_x=True, workers=1), factor, light)
        photons = record(light, numbers[part], key, **detector)
        out[part] = np.sqrt(photons) / scale if out.dtype.kind == "f" else np.rint(photons)


def record(light, numbers, key, background=None, psf=None, stop=None, saturation=None):
    """Return what a detector makes of the light that falls on it, photons per pixel (b, N, N).

    `background` is added, what follows spreads by the Gaussian width `psf` (pixels), is kept where `stop` (N, N) is 1,
    counted, and cut at `saturation`.
    """
    if background is not None:
        light += np.asarray(background, np.float32)
    if psf is not None:
        light = ndimage.gaussian_filter(light, (0, psf, psf), mode="constant")
    if stop is not None:
        light *= stop
    photons = light
    if key is not None:
        photons = np.empty(light.shape)
        _count(light, numbers, key, photons)
    return photons if saturation is None else np.minimum(photons, saturation)


def total_energy(image, probes, y, x):
    """Return Σ|Ψ|² over pixels, modes and positions (n,), exact for bilinear patches, from correlations of |P|².

    A bilinear patch is a sum of four shifted ones, so that its energy is a quadratic form of their weights. Its
    coefficients are correlations of |P|² with |O|² and with products of O and its neighbours. Done in bands of
    rows, so that memory stays bounded.
    """
    size = probes.shape[-1]
    weight = np.sum(np.abs(probes.astype(complex)) ** 2, axis=0)
    top, left = y - size / 2, x - size / 2
    step = max(1, _BAND // image.shape[1])
    total = 0.0
    for first in range(0, image.shape[0] - size + 1, step):
        inside = np.flatnonzero((top >= first) & (top < first + step))
        if inside.size:
            # one row and column more than the patches: neighbours of the last ones, whose weight may be 0
            maps = _correlations(np.pad(image[first : first + step + size], ((0, 1), (0, 1))), weight)
            for some in np.split(inside, range(_LOOKS, inside.size, _LOOKS)):
                total += _quadratic(maps, top[some] - first, left[some]).sum()
    return total


def _correlations(image, weight):
    """Return maps Σ weight·Re(O·conj(O shifted)) for the shifts that bilinear weights combine."""
    image = image.astype(complex)
    maps = []
    for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1), (1, -1)):
        product = (image * np.conj(np.roll(image, (-dy, -dx), (0, 1)))).real
        maps.append(signal.oaconvolve(product, weight[::-1, ::-1], mode="valid"))
    return maps


def _quadratic(maps, top, left):
    row, column = np.floor(top).astype(np.int64), np.floor(left).astype(np.int64)
    fy, fx = top - row, left - column
    w00, w01, w10, w11 = (1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx
    last = np.array(maps[0].shape) - 1

    def at(number, dy, dx):
        return maps[number][np.minimum(row + dy, last[0]), np.minimum(column + dx, last[1])]

    squares = w00**2 * at(0, 0, 0) + w01**2 * at(0, 0, 1) + w10**2 * at(0, 1, 0) + w11**2 * at(0, 1, 1)
    along_x = w00 * w01 * at(1, 0, 0) + w10 * w11 * at(1, 1, 0)
    along_y = w00 * w10 * at(2, 0, 0) + w01 * w11 * at(2, 0, 1)
    across = w00 * w11 * at(3, 0, 0) + w01 * w10 * at(4, 0, 1)
    return squares + 2 * (along_x + along_y + across)
