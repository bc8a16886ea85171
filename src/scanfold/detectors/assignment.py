"""From contrast maps to clusters: posteriors, the most likely cluster, and how sure that is."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from scanfold import _apply
from scanfold.conventions import InputError, Var, record, unknown
from scanfold.detectors.frames import Array
from scanfold.detectors.templates import require

VARIABLES = (
    Var("posterior", ("...", "cluster"), "float32", "probability of each cluster"),
    Var("assignment", ("...",), "int16", "most likely cluster; -1 where the frame is not valid"),
    Var("confidence", ("...",), "float32", "probability of the most likely cluster"),
)
#: Mean confidence above which posteriors say nothing: all frames are "certain".
SATURATED = 0.95


def assign(
    maps: xr.Dataset,
    *,
    temperature: float = 2.0,
    units: str = "std",
    tmpl: xr.Dataset | None = None,
    prior: Sequence[float] | None = None,
) -> xr.Dataset:
    r"""Assign every position to a cluster, by a softmax of its contrasts.

    .. math:: p_c(i) = \frac{\exp(S_c(i) / \tau)}{\sum_j \exp(S_j(i) / \tau)}

    Parameters
    ----------
    maps : Dataset
        Of `virtual_maps`.
    temperature : float
        Temperature, in `units`.
    units : {"std", "literal", "lda"}
        Of the standard deviation of all scores, so that it means the same for every detector; of the scores
        themselves; or, for "lda", of the discriminant
        :math:`\lVert d_c \rVert S_c - \tfrac12 \lVert d_c \rVert^2 + \log \pi_c` with
        :math:`d_c = (\mu_c - \mu)/\sigma`, which at temperature 1 is the log posterior of normal noise of the
        deviation of all frames; it needs `tmpl`, and scores with ``whiten="diag"``.
    tmpl : Dataset, optional
        Of `templates`.
    prior : sequence of float, optional
        Probability of each cluster beforehand; equal if not given.

    Returns
    -------
    Dataset
        ``posterior (*scan, cluster)``, ``assignment`` (a label), ``confidence``. Lazy if `maps` are.

    Raises
    ------
    InputError
        If the temperature is not positive, or `prior` does not fit.

    Warns
    -----
    UserWarning
        If the mean confidence is above 0.95.

    Examples
    --------
    >>> maps = xr.Dataset({"score": (("x", "cluster"), [[1.0, 0.0], [0.0, 3.0]])}, coords={"cluster": [4, 7]})
    >>> assign(maps, units="literal", temperature=1)["assignment"].values
    array([4, 7], dtype=int16)
    """
    require(maps, ("score",), "virtual_maps")
    if not (np.isfinite(temperature) and temperature > 0):
        raise InputError(f"temperature={temperature}; expected more than 0")
    if units not in ("std", "literal", "lda"):
        raise unknown("units", units, ("std", "literal", "lda"))
    score = maps["score"]
    count = score.sizes["cluster"]
    weights = np.full(count, 1.0 / count) if prior is None else np.asarray(prior, float)
    if weights.shape != (count,) or not (weights > 0).all():
        raise InputError(f"prior={prior!r}; expected {count} positive numbers")
    if units == "lda":
        if tmpl is None:
            raise InputError('units="lda" needs the norms of the templates; pass tmpl=')
        norms = tmpl["template_norm"].drop_vars("cluster", errors="ignore")
        score = score * norms - norms**2 / 2
    scale = _apply.apply_whole(_deviation, score, output={}, token="score-std") if units == "std" else xr.DataArray(1.0)
    labels = tuple(int(v) for v in maps["cluster"].values)
    softmax = _Softmax(tuple(np.log(weights / weights.sum())), float(temperature), labels)
    made = _apply.apply_kernel(
        softmax, score, scale, core_dims=[["cluster"], []], output={"column": count + 2}, token=f"{softmax}"
    )
    ds = xr.Dataset({
        "posterior": made.isel(column=slice(count)).rename(column="cluster"),
        "assignment": made.isel(column=count),
        "confidence": made.isel(column=count + 1),
    })  # fmt: skip
    for spec in VARIABLES:
        ds[spec.name] = spec.make(ds[spec.name])
    ds = ds.assign_coords({n: c for n, c in maps.coords.items() if "detector" not in c.dims})
    options = {"temperature": temperature, "units": units, "prior": None if prior is None else list(prior)}
    ds.attrs = {"provenance": record("assign", {"score": maps["score"]}, options)}
    if score.chunks is None:
        warn_of_confidence(ds)
    return ds


def warn_of_confidence(ds: xr.Dataset) -> float:
    """Return the mean confidence, and warn where it nears 1."""
    mean = float(ds["confidence"].mean())
    if mean > SATURATED:
        warnings.warn(
            f"the mean confidence is {mean:.3f}: the posteriors are saturated. Raise the temperature, or look at the "
            "templates: they may fit noise",
            stacklevel=3,
        )
    return mean


def _deviation(score: Array) -> Array:
    spread = np.nanstd(score) if np.isfinite(score).any() else np.nan
    return np.asarray(spread if spread > 0 else 1.0)


@dataclass(frozen=True)
class _Softmax:
    prior: tuple[float, ...]
    temperature: float
    labels: tuple[int, ...]

    def __call__(self, score: Array, scale: Array) -> Array:
        """Return posteriors, label of the largest (-1 for none) and its posterior (N, C + 2)."""
        level = score / scale[:, None] / self.temperature + np.array(self.prior)
        level = level - level.max(axis=1, keepdims=True, initial=-np.inf)
        weight = np.exp(level)
        posterior = weight / weight.sum(axis=1, keepdims=True)
        known = np.isfinite(posterior).all(axis=1)
        best = np.where(known, np.array(self.labels)[posterior.argmax(axis=1)], -1)
        top = np.where(known, posterior.max(axis=1, initial=0.0), np.nan)
        return np.concatenate([posterior, best[:, None], top[:, None]], axis=1)
