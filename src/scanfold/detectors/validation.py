"""Are templates and shifts to be believed? Disjoint halves, and shifts that are known because they were planted."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr

from scanfold import _apply
from scanfold.conventions import InputError, Var, record
from scanfold.detectors.frames import AXES, Array, disc_center
from scanfold.detectors.templates import normalised, require, used_pixels
from scanfold.detectors.virtual import virtual_maps

#: Halves that agree less than this are noise.
STABLE = 0.5
#: Side of the window of the structural similarity.
WINDOW = 7
VARIABLES = (
    Var("correlation", ("cluster",), "float64", "correlation of the templates of two disjoint halves"),
    Var("ssim", ("cluster",), "float64", "structural similarity of the templates of two disjoint halves"),
    Var("correlation_other", ("cluster",), "float64", "largest correlation with the other half of another cluster"),
    Var("ssim_other", ("cluster",), "float64", "largest similarity with the other half of another cluster"),
    Var("correlation_shuffled", ("cluster",), "float64", "correlation of the halves under shuffled labels"),
    Var("ssim_shuffled", ("cluster",), "float64", "structural similarity of the halves under shuffled labels"),
)


PLANTED = (
    Var("rms_error", ("detector",), "float64", "root mean square error of the shifts that are found", "pixel"),
    Var("slope", ("detector",), "float64", "slope of the found over the true shift"),
    Var("label_spread", ("detector",), "float64", "root mean square of the mean error of each cluster", "pixel"),
    Var("expected_error", ("detector",), "float64", "error from counting statistics", "pixel"),
)


def split_half(stats: xr.Dataset, *, central_mask_px: float = 0.0) -> xr.Dataset:
    """Compare templates made from two disjoint random halves of the frames; no further read is needed.

    Each half has its own mean and deviation. Templates of noise correlate by chance only, whereas structural
    similarity of flat images is large for any two: it is taken with the true range of the templates, and both are
    held against the other half of every other cluster, and against shuffled labels where the statistics have them.

    Parameters
    ----------
    stats : Dataset
        Of `cluster_statistics`; with ``shuffled=True`` for the null.
    central_mask_px : float
        As in `templates`.

    Returns
    -------
    Dataset
        ``correlation``, ``ssim`` (extra ``stem``; NaN without scikit-image), and the same with other clusters and
        with shuffled labels, by cluster. A half without frames is NaN.

    Warns
    -----
    UserWarning
        Where a correlation is below 0.5, if `stats` are in memory.

    Examples
    --------
    >>> from scanfold.detectors import cluster_statistics
    >>> noise = np.random.default_rng(0).poisson(50, (40, 8, 8))
    >>> noise[20:, 2] *= 2
    >>> frames = xr.DataArray(noise, dims=("position", "ky", "kx"))
    >>> bool((split_half(cluster_statistics(frames, np.repeat([0, 1], 20)))["correlation"] > 0.5).all())
    True
    """
    needed = ("frames", "frames_total", "signal_sum", "signal_total", "signal_squares", "valid", "center")
    require(stats, needed, "cluster_statistics")
    if central_mask_px < 0:
        raise InputError(f"central_mask_px={central_mask_px}; expected a radius in pixels, 0 for none")
    compare = _Halves(float(central_mask_px))
    null = [n for n in ("shuffled_sum",) if n in stats]
    made = _apply.apply_whole(
        compare, *(stats[n] for n in (*needed, *null)),
        output={"row": 4 + 2 * len(null), "cluster": stats.sizes["cluster"]}, token=f"{compare}",
    )  # fmt: skip
    ds = xr.Dataset({s.name: s.make(made.isel(row=i)) for i, s in enumerate(VARIABLES[: made.sizes["row"]])})
    ds = ds.assign_coords(cluster=stats["cluster"].variable)
    ds.attrs = {"provenance": record("split_half", {"mean": stats["mean"]}, {"central_mask_px": central_mask_px})}
    if made.chunks is None:
        warn_of_halves(ds)
    return ds


def warn_of_halves(ds: xr.Dataset) -> None:
    """Warn of templates whose halves do not agree."""
    poor = {int(c): float(v) for c, v in zip(ds["cluster"], ds["correlation"], strict=True) if not v >= STABLE}
    if poor:
        listed = ", ".join(f"{c}: {v:.2f}" for c, v in list(poor.items())[:8])
        text = f"templates of random halves do not agree (correlation of cluster {listed}): they may be noise"
        warnings.warn(text, stacklevel=3)


@dataclass(frozen=True)
class _Halves:
    mask: float

    def __call__(
        self, frames: Array, number: Array, sums: Array, totals: Array, squares: Array, valid: Array, center: Array,
        *shuffled: Array,
    ) -> Array:  # fmt: skip
        """Return correlation and similarity of the halves, the largest with another cluster, and of shuffled labels."""
        made: list[list[Array]] = [[], *([] for _ in shuffled)]
        for half in (0, 1):
            average = totals[half] / max(number[half], 1.0)
            std = np.sqrt(np.maximum(squares[half] / max(number[half], 1.0) - average**2, 0.0))
            used, scale = used_pixels(std, valid.astype(bool), center, self.mask)
            for templates, total in zip(made, (sums, *shuffled), strict=True):
                with np.errstate(divide="ignore", invalid="ignore"):
                    clusters = total[:, half] / frames[:, half, None, None]
                templates.append(normalised(clusters, average, scale, used)[0])
        alike, similar = (_matrix(f, *made[0]) for f in (_correlation, _similarity))
        rows = [np.diag(alike), np.diag(similar), _largest_other(alike), _largest_other(similar)]
        for first, second in made[1:]:
            rows += [
                np.array([f(a, b) for a, b in zip(first, second, strict=True)]) for f in (_correlation, _similarity)
            ]
        return np.stack(rows)


def _matrix(measure: Callable[[Array, Array], float], first: Array, second: Array) -> Array:
    return np.array([[measure(a, b) for b in second] for a in first])


def _correlation(a: Array, b: Array) -> float:
    if not (np.isfinite(a).all() and np.isfinite(b).all() and a.std() > 0 and b.std() > 0):
        return float("nan")
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def _similarity(a: Array, b: Array) -> float:
    try:
        from skimage.metrics import structural_similarity
    except ImportError:
        return float("nan")
    span = float(max(a.max(), b.max()) - min(a.min(), b.min()))
    if min(a.shape) < WINDOW or not (np.isfinite(span) and span > 0):
        return float("nan")
    return float(structural_similarity(a, b, data_range=span, win_size=WINDOW))


def _largest_other(matrix: Array) -> Array:
    others = np.where(np.eye(len(matrix), dtype=bool), -np.inf, np.where(np.isnan(matrix), -np.inf, matrix))
    largest = others.max(axis=1)
    return np.where(np.isfinite(largest), largest, np.nan)


def planted_shifts(
    tmpl: xr.Dataset,
    gates: xr.Dataset,
    *,
    shift: float = 0.5,
    frames: int = 64,
    disc: float | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Test the estimators on shifts that are known: the mean patterns of the clusters, moved, with shot noise.

    The beam of every pattern is moved to the common centre before, so that what is left is not of the sample.

    Parameters
    ----------
    tmpl, gates : Dataset
        Of `templates` and `gates`, in memory.
    shift : float
        Standard deviation of the shifts along each axis, in pixels; 0 is the null test, in which everything that an
        estimator finds is false.
    frames : int
        Of each cluster.
    disc : float, optional
        Radius of the disc, as in `virtual_maps`.
    seed : int
        Of shifts and noise.

    Returns
    -------
    Dataset
        By ``detector``: ``rms_error`` in pixels, less the mean over all frames; ``slope`` of the found over the true
        shift; ``label_spread``, the root mean square of the mean error of each cluster: what looks like a field and
        is only the labels; ``expected_error`` from counting statistics.

    Raises
    ------
    InputError
        If templates and gates are lazy.

    Examples
    --------
    >>> from scanfold import detectors as det
    >>> ky, kx = np.mgrid[:15, :15] - 7
    >>> beam = np.random.default_rng(0).poisson(200.0 * (np.hypot(ky, kx) < 4), (20, 15, 15))
    >>> beam[10:, 1:3] += 20
    >>> stats = det.cluster_statistics(xr.DataArray(beam, dims=("position", "ky", "kx")), np.repeat([0, 1], 10))
    >>> tmpl = det.templates(stats)
    >>> found = planted_shifts(tmpl, det.gates(tmpl, top_percent=30), disc=6)
    >>> abs(float(found["slope"].sel(detector="disc")) - 1) < 0.1
    True
    """
    require(tmpl, ("template", "cluster_counts", "valid", "center"), "templates")
    if tmpl["template"].chunks is not None or gates["gate"].chunks is not None:
        raise InputError("templates or gates are lazy; pass tmpl.compute() and gates.compute()")
    from scipy.ndimage import shift as moved

    rng = np.random.default_rng(seed)
    patterns = np.where(tmpl["valid"].values, np.nan_to_num(tmpl["cluster_counts"].values), 0.0)
    # The beam of a cluster may be displaced itself, by a field of its own: it is put back first, about the centre.
    center, valid = tmpl["center"].values, tmpl["valid"].values
    patterns = np.stack([moved(p, center - disc_center(p, valid), order=3, mode="nearest") for p in patterns])
    labels = np.repeat(np.arange(len(patterns)), frames)
    true = shift * rng.normal(size=(len(labels), 2))
    pairs = zip(labels, true, strict=True)
    expected = [np.maximum(moved(patterns[c], t, order=3, mode="nearest"), 0.0) for c, t in pairs]
    scan = xr.DataArray(rng.poisson(np.stack(expected)).astype(np.uint32), dims=("position", *AXES))
    plain = tmpl.assign_attrs(preprocess="{}")
    maps = virtual_maps(scan, plain, gates, labels=tmpl["cluster"].values[labels], disc=disc)
    found = np.stack([maps["com_y"].values, maps["com_x"].values], axis=-1)  # position, detector, axis
    error = found - true[:, None]
    error = error - np.nanmean(error, axis=0)
    by_label = np.stack([np.nanmean(error[labels == c], axis=0) for c in range(len(patterns))])
    noise = np.stack([maps["com_y_stderr"].values, maps["com_x_stderr"].values], axis=-1)
    centred = true - true.mean(axis=0)
    power = (centred**2).sum()
    slope = (found * centred[:, None]).sum(axis=(0, 2)) / power if power > 0 else np.full(found.shape[1], np.nan)
    values = {
        "rms_error": np.sqrt(np.nanmean(error**2, axis=(0, 2))),
        "slope": slope,
        "label_spread": np.sqrt(np.nanmean(by_label**2, axis=(0, 2))),
        "expected_error": np.sqrt((noise**2).mean(axis=(0, 2))),
    }
    ds = xr.Dataset({v.name: v.make(xr.DataArray(values[v.name], dims=v.dims)) for v in PLANTED})
    options = {"shift": shift, "frames": frames, "disc": disc, "seed": seed}
    ds.attrs = {"provenance": record("planted_shifts", {"template": tmpl["template"], "gate": gates["gate"]}, options)}
    return ds.assign_coords(detector=maps["detector"])
