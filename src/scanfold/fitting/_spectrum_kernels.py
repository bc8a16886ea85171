"""What can be said of one spectrum without its model: noise, best polynomial, features to start from."""

import math

import numpy as np

from scanfold._jit_kernels import jit
from scanfold.fitting._lm_kernels import solve_scaled

_jit = jit()

PEAK, DECAY, POWER, STEP = range(1, 5)


@_jit
def noise_rows(data, keep, out):
    """Fill out (N) with the noise variance of each spectrum (N, n).

    The median of the absolute second differences y[i-1] − 2y[i] + y[i+1], whose variance is 6σ² for white
    noise, times 1.4826 (the DER_SNR idea of Stoehr et al., ADASS XVII (2008) 505): blind to smooth curves.
    """
    rows, n = data.shape
    gaps = keep.shape[1] > 0
    differences = np.empty(n)
    for r in range(rows):
        count = 0
        for i in range(1, n - 1):
            if not gaps or (keep[r, i - 1] and keep[r, i] and keep[r, i + 1]):
                differences[count] = abs(data[r, i - 1] - 2.0 * data[r, i] + data[r, i + 1])
                count += 1
        sigma = 1.482602218505602 * np.median(differences[:count]) / math.sqrt(6.0) if count > 2 else np.nan
        out[r] = sigma * sigma


@_jit
def polynomial_row(u, data, weights, keep, terms, poisson, coefficients):
    """Fit Σ c_j u^j to one spectrum; return its cost (χ², or deviance for Poisson), NaN if singular."""
    n = data.size
    a, b, scale, work = np.empty((terms, terms)), np.empty(terms), np.empty(terms), np.empty((terms + 1, terms))
    mean, used, total = 0.0, 0, 0.0
    for i in range(n):
        if keep.size == 0 or keep[i]:
            mean += data[i]
            used += 1
    floor = max(1.0e-4 * mean / max(used, 1), 1.0e-10)
    model = np.full(n, max(mean / max(used, 1), floor))
    for _ in range(12 if poisson and terms > 1 else 1):
        a[:] = 0.0
        b[:] = 0.0
        for i in range(n):
            if keep.size and not keep[i]:
                continue
            w2 = 1.0 / max(model[i], floor) if poisson else (weights[i] ** 2 if weights.size else 1.0)
            power_j = w2
            for j in range(terms):
                b[j] += power_j * data[i]
                power = power_j
                for k in range(terms):
                    a[j, k] += power
                    power *= u[i]
                power_j *= u[i]
        for j in range(terms):
            scale[j] = a[j, j] if a[j, j] > 0.0 else 1.0
        if not solve_scaled(a, scale, 0.0, scale, b, coefficients[:terms], work):
            return np.nan
        for i in range(n):
            value = 0.0
            for j in range(terms - 1, -1, -1):
                value = value * u[i] + coefficients[j]
            model[i] = value
    for i in range(n):
        if keep.size == 0 or keep[i]:
            if poisson:
                f = max(model[i], floor)
                total += 2.0 * (f - data[i] + (data[i] * math.log(data[i] / f) if data[i] > 0.0 else 0.0))
            else:
                w = weights[i] if weights.size else 1.0
                total += (w * (data[i] - model[i])) ** 2
    return total


@_jit
def polynomial_rows(u, data, weights, keep, terms, poisson, out):
    """Fill out (N) with the cost of the best polynomial of `terms` terms in u (n), which is scaled to [−1, 1]."""
    coefficients = np.zeros(terms)
    for r in range(data.shape[0]):
        out[r] = polynomial_row(u, data[r], weights[r], keep[r], terms, poisson, coefficients)


@_jit
def _ends(x, data, keep):
    """Return mean x and mean data of the tenth of a spectrum at lowest and of that at highest x."""
    n = x.size
    rising = x[n - 1] >= x[0]
    part = max(1, n // 10)
    out = np.zeros(4)
    for side in range(2):
        count = 0
        for step in range(n):
            i = step if (side == 0) == rising else n - 1 - step
            if keep.size and not keep[i]:
                continue
            out[2 * side] += x[i]
            out[2 * side + 1] += data[i]
            count += 1
            if count == part:
                break
        out[2 * side] /= max(count, 1)
        out[2 * side + 1] /= max(count, 1)
    return out


@_jit
def _peak(x, y, keep, low, high, sign):
    """Return height, centre and full width at half maximum of the strongest peak between low and high."""
    n = x.size
    smooth = np.empty(n)
    for i in range(n):
        total, count = 0.0, 0
        for j in range(max(0, i - 1), min(n, i + 2)):
            if keep.size == 0 or keep[j]:
                total += y[j]
                count += 1
        smooth[i] = total / count if count else 0.0
    best = -1
    for i in range(n):
        if x[i] < low or x[i] > high:
            continue
        size = sign * smooth[i] if sign != 0.0 else abs(smooth[i])
        if best < 0 or size > (sign * smooth[best] if sign != 0.0 else abs(smooth[best])):
            best = i
    if best < 0:
        best = n // 2
    height = smooth[best]
    left, right = best, best
    while left > 0 and smooth[left - 1] / height > 0.5:
        left -= 1
    while right < n - 1 and smooth[right + 1] / height > 0.5:
        right += 1
    width = abs(x[right] - x[left]) + abs(x[n - 1] - x[0]) / max(n - 1, 1)
    return height, x[best], width


@_jit
def _line_of_logs(x, y, keep, power):
    """Return (a, b) of ln|y| = a + b·x, or a + b·ln x for a power law, weighted by y²."""
    sw = sx = sy = sxx = sxy = 0.0
    sign = 0.0
    for i in range(x.size):
        if keep.size and not keep[i]:
            continue
        sign += y[i]
        if y[i] == 0.0 or (power and x[i] <= 0.0):
            continue
        u = math.log(x[i]) if power else x[i]
        w, v = y[i] * y[i], math.log(abs(y[i]))
        sw += w
        sx += w * u
        sy += w * v
        sxx += w * u * u
        sxy += w * u * v
    bottom = sw * sxx - sx * sx
    slope = (sw * sxy - sx * sy) / bottom
    return (sy - slope * sx) / sw, slope, 1.0 if sign >= 0.0 else -1.0


@_jit
def feature_rows(kind, x, data, keep, low, high, sign, powers, out):
    """Fill out (N, 5): intercept and slope of the background, and three numbers of the feature above it.

    kind PEAK: height, centre, full width; between low and high (N), of a given sign (N) where not 0.
    DECAY: amplitude, decay. POWER: amplitude, exponent. STEP: amplitude, centre, width.
    powers: highest power of x in the background, −1 for none.
    """
    n = x.size
    y = np.empty(n)
    for r in range(data.shape[0]):
        ends = _ends(x, data[r], keep[r])
        slope = intercept = 0.0
        # A line through the ends would take a step, or a power law, for background.
        if kind == PEAK or kind == DECAY:
            if powers >= 1 and ends[2] != ends[0]:
                slope = (ends[3] - ends[1]) / (ends[2] - ends[0])
                intercept = ends[1] - slope * ends[0]
            elif powers == 0:
                intercept = ends[3] if kind == DECAY else 0.5 * (ends[1] + ends[3])
        elif kind == STEP and powers >= 0:
            intercept = ends[1]
        for i in range(n):
            y[i] = data[r, i] - intercept - slope * x[i]
        out[r, 0], out[r, 1] = intercept, slope
        if kind == PEAK:
            out[r, 2], out[r, 3], out[r, 4] = _peak(x, y, keep[r], low[r], high[r], sign[r])
        elif kind == STEP:
            first, last = ends[1] - intercept, ends[3] - intercept
            middle = n // 2
            for i in range(n - 1):
                if (y[i] - 0.5 * (first + last)) * (y[i + 1] - 0.5 * (first + last)) <= 0.0:
                    middle = i
                    break
            out[r, 2], out[r, 3], out[r, 4] = last - first, x[middle], abs(x[n - 1] - x[0]) / 20.0
        else:
            a, b, side = _line_of_logs(x, y, keep[r], kind == POWER)
            out[r, 2], out[r, 3], out[r, 4] = side * math.exp(a), (b if kind == POWER else -1.0 / b), 0.0
