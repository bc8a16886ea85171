"""What is drawn on a canvas, one window of it at a time: a pixel does not depend on the window it is drawn in."""

import math

import numpy as np
from scipy import fft, ndimage

from scanfold._jit_kernels import jit
from scanfold.ptycho._random_kernels import draw, unit

#: Gaussian filters are cut at this many standard deviations.
_TRUNCATE = 4.0


@jit()
def draw_lines(out, y0, x0, canvas, reach, count, key):
    """Set to 1 the pixels of random segments in the window at (y0, x0) of a canvas whose ends meet.

    A segment starts anywhere; it ends as far away as two random points in a square of side `reach` are apart.
    """
    height, width = out.shape
    for i in range(count):
        start, extent = draw(i, 0, key), draw(i, 1, key)
        y, x = unit(start[0]) * canvas, unit(start[1]) * canvas
        dy = (unit(start[2]) - unit(extent[0])) * reach
        dx = (unit(start[3]) - unit(extent[1])) * reach
        if not _touches(y, dy, y0, height, canvas) or not _touches(x, dx, x0, width, canvas):
            continue
        steps = max(math.ceil(max(abs(dy), abs(dx))), 1)
        for t in range(steps + 1):
            row = (math.floor(y + dy * t / steps) - y0) % canvas
            column = (math.floor(x + dx * t / steps) - x0) % canvas
            if row < height and column < width:
                out[row, column] = 1.0


@jit()
def _touches(start, extent, origin, size, canvas):
    """Tell whether an interval touches a window, on a ring."""
    low = math.floor(min(start, start + extent)) - origin
    return (low % canvas) + abs(extent) + 2 >= canvas or (low % canvas) < size


@jit()
def draw_points(out, y0, x0, canvas, count, key):
    """Add 1 at each of `count` random pixels of a canvas, in the window at (y0, x0)."""
    height, width = out.shape
    for i in range(count):
        w = draw(i, 0, key)
        row, column = int(unit(w[0]) * canvas) - y0, int(unit(w[1]) * canvas) - x0
        if 0 <= row < height and 0 <= column < width:
            out[row, column] += 1.0


@jit()
def draw_leaves(out, y0, x0, canvas, radii, key):
    """Cover the window at (y0, x0) of a canvas with discs, the first on top; radii from p(r) ∝ r⁻³ between two."""
    height, width = out.shape
    out[:] = np.nan
    least, most = radii
    left, i = height * width, 0
    while left > 0:
        w = draw(i, 0, key)
        i += 1
        # the inverse of the distribution function of r⁻³
        radius = 1.0 / math.sqrt(unit(w[2]) * (1.0 / least**2 - 1.0 / most**2) + 1.0 / most**2)
        y = unit(w[0]) * (canvas + 2 * most) - most - y0
        x = unit(w[1]) * (canvas + 2 * most) - most - x0
        if y + radius < 0 or x + radius < 0 or y - radius > height or x - radius > width:
            continue
        for row in range(max(0, math.floor(y - radius)), min(height, math.ceil(y + radius) + 1)):
            for column in range(max(0, math.floor(x - radius)), min(width, math.ceil(x + radius) + 1)):
                inside = (row - y) ** 2 + (column - x) ** 2 <= radius * radius
                if inside and math.isnan(out[row, column]):
                    out[row, column] = unit(w[3])
                    left -= 1


def blurred(draw_window, window, sigmas, weights):
    """Return Σ weight·G(σ) of what is drawn, in a window (y0, y1, x0, x1); float64.

    A margin as wide as the filters is drawn with it, so that the window's edges do not show.
    """
    y0, y1, x0, x1 = window
    margin = int(_TRUNCATE * max(sigmas) + 0.5)
    canvas = np.zeros((y1 - y0 + 2 * margin, x1 - x0 + 2 * margin))
    draw_window(canvas, y0 - margin, x0 - margin)
    total = sum(
        w * ndimage.gaussian_filter(canvas, s, truncate=_TRUNCATE) for s, w in zip(sigmas, weights, strict=True)
    )
    return total[margin : margin + y1 - y0, margin : margin + x1 - x0]


def random_field(size, exponent, rng):
    """Return a Gaussian random field (size, size) of power kᵉˣᵖᵒⁿᵉⁿᵗ, from 0 to 1; float32, for large ones' sake."""
    k = np.hypot(fft.fftfreq(size)[:, None].astype(np.float32), fft.rfftfreq(size).astype(np.float32))
    k[0, 0] = np.inf if exponent < 0 else 1.0
    k **= exponent / 2
    waves = fft.rfft2(rng.standard_normal((size, size), np.float32), overwrite_x=True)
    waves *= k
    field = fft.irfft2(waves, s=(size, size), overwrite_x=True)
    field -= field.min()
    field /= field.max()
    return field
