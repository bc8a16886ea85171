"""Counts to transmission, and what detectors do to counts: functions of blocks whose last axis is time of flight."""

import numpy as np


def with_poisson_errors(counts, errors):
    """Return errors, √counts where they are NaN; negative counts have none."""
    with np.errstate(invalid="ignore"):
        return np.where(np.isnan(errors), np.sqrt(counts), errors)


def transmission(signal, signal_err, openbeam, openbeam_err, scale):
    """Return T = scale·S/O and its standard error, (…, 2, n).

    signal, openbeam and their errors (…, n); scale (…): open-beam exposure over signal exposure.
    σ_T = scale·√(σ_S² + (S/O)²·σ_O²)/O; a bin without open beam is NaN, one without an error of its own (no counts)
    has T = 0 and error NaN.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        beam = np.where(openbeam > 0, openbeam, np.nan)
        ratio = signal / beam
        error = np.sqrt(signal_err**2 + (ratio * openbeam_err) ** 2) / beam
        error = np.where(signal_err > 0, error, np.nan)
        factor = np.asarray(scale)[..., np.newaxis]
        return np.stack([factor * ratio, factor * error], axis=-2)


def corrected(values, errors, ratio, ratio_err):
    """Return values·ratio and its error by quadrature, (…, 2, n); NaN where the ratio is."""
    with np.errstate(invalid="ignore"):
        return np.stack([values * ratio, np.sqrt((errors * ratio) ** 2 + (values * ratio_err) ** 2)], axis=-2)


def overlap_factor(counts, triggers, starts):
    """Return by what counts are to be multiplied where a pixel records one neutron in each shutter window, (…, n).

    A pixel that has recorded a neutron is blind for the rest of the window: in bin i of a window the fraction
    P_i = Σ_{j<i} N_j / triggers of the frames is lost, and the factor is 1/(1 − P_i).

    counts (…, n) as recorded; triggers (…): frames that were summed; starts: first bins of the windows.
    A. S. Tremsin et al., J. Instrum. 9 (2014) C05026.
    """
    before = np.zeros(counts.shape)
    for first, last in zip(starts, [*starts[1:], counts.shape[-1]], strict=True):
        part = counts[..., first:last]
        before[..., first:last] = np.cumsum(part, axis=-1) - part
    with np.errstate(divide="ignore", invalid="ignore"):
        lost = before / np.asarray(triggers)[..., np.newaxis]
        return np.where(lost < 1, 1 / (1 - lost), np.nan)


def dead_time_factor(counts, dead_time, live):
    """Return by what counts are to be multiplied for a non-paralysable dead time, (…, n).

    With m recorded counts in a live time (seconds of a bin times the pulses summed) the true rate is
    m/(live − m·dead_time), so that the factor is 1/(1 − m·dead_time/live). G. F. Knoll, Radiation Detection
    and Measurement, 4th ed. (2010), section 4.VII.

    counts (…, n) as recorded; dead_time (…) in s; live (…, n) in s.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        lost = counts * np.asarray(dead_time)[..., np.newaxis] / live
        return np.where(lost < 1, 1 / (1 - lost), np.nan)
