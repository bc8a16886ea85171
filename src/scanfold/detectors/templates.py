"""Templates: what sets the mean pattern of each cluster apart from the mean of all frames."""

from __future__ import annotations

import numpy as np
import xarray as xr

from scanfold import _apply
from scanfold.conventions import InputError, Var, record
from scanfold.detectors.frames import AXES, Array, radius_map

#: Added to the deviation, in units of its median over valid pixels.
EPSILON = 1e-6
#: Pixels that deviate less than this share of the median deviation never change: they are dead.
DEAD = 1e-9

_CLUSTER = ("cluster", *AXES)
VARIABLES = (
    Var("template", _CLUSTER, "float64", "template, of norm 1"),
    Var("template_norm", ("cluster",), "float64", "norm of the template before it is divided by it"),
    Var("scale", AXES, "float64", "what templates were divided by: deviation plus epsilon"),
    Var("used", AXES, "bool", "pixel takes part: valid, outside the central mask"),
)
#: What templates carry along, so that they serve another scan without their statistics.
CARRIED = ("mean", "std", "mean_counts", "cluster_counts", "valid", "center")


def templates(stats: xr.Dataset, *, central_mask_px: float = 0.0) -> xr.Dataset:
    r"""Make a template for each cluster from the statistics of pass A.

    .. math:: T_c(k) = \frac{\mu_c(k) - \mu(k)}{\sigma(k) + \varepsilon}, \qquad
              T_c \leftarrow T_c / \lVert T_c \rVert_2

    with :math:`\varepsilon = 10^{-6}` of the median deviation of valid pixels. Pixels that never change are dead;
    they, those marked bad and those under the central mask are zero.

    Parameters
    ----------
    stats : Dataset
        Of `cluster_statistics`.
    central_mask_px : float
        Radius of the disc about the centre of the beam that is left out, in pixels; 0 leaves out none.

    Returns
    -------
    Dataset
        ``template (cluster, ky, kx)``, ``template_norm``, ``scale``, ``used``, and the mean patterns and the centre.
        Lazy if the statistics are. A template of norm 0 (a cluster that is like all) stays 0.

    Raises
    ------
    InputError
        If the mask is negative, or `stats` are not of `cluster_statistics`.

    Examples
    --------
    >>> from scanfold.detectors import cluster_statistics
    >>> frames = xr.DataArray(np.random.default_rng(0).poisson(9, (6, 4, 4)), dims=("position", "ky", "kx"))
    >>> made = templates(cluster_statistics(frames, [0, 0, 0, 1, 1, 1]))
    >>> bool(np.allclose((made["template"] ** 2).sum(("ky", "kx")), 1))
    True
    """
    require(stats, ("cluster_mean", "mean", "std", "center"), "cluster_statistics")
    if not (np.isfinite(central_mask_px) and central_mask_px >= 0):
        raise InputError(f"central_mask_px={central_mask_px}; expected a radius in pixels, 0 for none")
    sizes = {d: stats.sizes[d] for d in AXES}
    options = {"central_mask_px": float(central_mask_px)}
    token = f"{options}"

    def make(mean: Array, std: Array, cluster_mean: Array, valid: Array, center: Array) -> Array:
        used, scale = used_pixels(std, valid.astype(bool), center, central_mask_px)
        template, norm = normalised(cluster_mean, mean, scale, used)
        return np.concatenate([template, scale[None], used[None], norm[:, None, None] + 0 * template])

    count = stats.sizes["cluster"]
    made = _apply.apply_whole(
        make,
        *(stats[n] for n in ("mean", "std", "cluster_mean", "valid", "center")),
        output={"row": 2 * count + 2, **sizes},
        token=f"templates {token}",
    )
    ds = stats[[n for n in CARRIED if n in stats]]
    values = {
        "template": made.isel(row=slice(count)).rename(row="cluster"),
        "template_norm": made.isel(row=slice(count + 2, None), ky=0, kx=0).rename(row="cluster"),
        "scale": made.isel(row=count),
        "used": made.isel(row=count + 1) > 0,
    }
    ds = ds.assign({spec.name: spec.make(values[spec.name]).variable for spec in VARIABLES})
    ds.attrs = {
        "preprocess": stats.attrs.get("preprocess", "{}"),
        "provenance": record("templates", {"mean": stats["mean"]}, options, of=stats.attrs.get("provenance")),
    }
    return ds


def used_pixels(std: Array, valid: Array, center: Array, mask_radius: float) -> tuple[Array, Array]:
    """Return which pixels take part, and what differences are divided by; 1 where they do not."""
    alive = valid & np.isfinite(std)
    typical = float(np.median(std[alive & (std > 0)])) if (alive & (std > 0)).any() else 0.0
    used = alive & (std > DEAD * typical)
    if mask_radius > 0:
        used &= radius_map(std.shape, center) > mask_radius
    scale = np.where(used, std + EPSILON * typical, 1.0)
    return used, scale


def normalised(cluster_mean: Array, mean: Array, scale: Array, used: Array) -> tuple[Array, Array]:
    """Return templates of norm 1, and their norms; 0 stays 0."""
    difference = np.where(used, (cluster_mean - mean) / scale, 0.0)
    norm = np.sqrt((difference**2).sum(axis=(-2, -1)))
    return difference / np.where(norm > 0, norm, 1.0)[:, None, None], norm


def require(ds: xr.Dataset, names: tuple[str, ...], maker: str) -> None:
    """Raise unless a Dataset has these variables."""
    missing = [n for n in names if n not in ds]
    if missing:
        raise InputError(f"no {', '.join(missing)} in this Dataset; pass what det.{maker} returns")
