"""Three ways to the scale between amplitudes and photons, and what each is of."""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable
from typing import Any

import numpy as np
import xarray as xr

from scanfold import _apply
from scanfold.conventions import InputError, InputTypeError, Var
from scanfold.grouping.options import whole
from scanfold.ptycho.config import positive

#: What `compute_dataset_intensity_stats` returns.
STATS = (
    Var("batch_mean_sum_intensity", (), "float64", "mean over patterns of the sum of X² over pixels"),
    Var("mean_photons", (), "float64", "mean photons in a pattern", "count"),
    Var("n_samples", (), "int64", "patterns"),
)
_FRAME = {"ky", "kx"}


def compute_dataset_intensity_stats(X: Any, *, intensity_scale: Any = None, is_normalized: bool = False) -> xr.Dataset:
    """Return the mean of Σ X² over all patterns, in one pass over the data; lazy if `X` is.

    The mean is over patterns: the channels of a group are patterns of their own, not added up.

    Parameters
    ----------
    X : array
        Amplitudes: (B, N, N, C) or (B, N, N); a DataArray has the dimensions ky and kx.
    intensity_scale : float, optional
        The s that `X` was divided by.
    is_normalized : bool
        `X` is amplitude over s, as simulations return it, and `intensity_scale` is that s; otherwise `X` is the square
        root of photons. Either way the mean is that of `X` as it is, and ``√(nphotons / mean)`` the scale that
        belongs to it: nothing is to be divided by s² again. What differs is `mean_photons`.

    Returns
    -------
    Dataset
        `batch_mean_sum_intensity`, `mean_photons`, `n_samples`; ``attrs["source"]`` says what of.

    Raises
    ------
    InputError
        If `is_normalized` without `intensity_scale`, or the shape is of no patterns.

    Examples
    --------
    >>> stats = compute_dataset_intensity_stats(np.ones((5, 8, 8, 4), np.float32))
    >>> float(stats["batch_mean_sum_intensity"]), int(stats["n_samples"])
    (64.0, 20)
    """
    array = patterns(X)
    if is_normalized and intensity_scale is None:
        raise InputError("is_normalized=True says X is amplitude over s; pass intensity_scale=s")
    power = 1.0 if not is_normalized else intensity_scale**2
    # whole frames are added first, each in the same order whatever the chunks
    mean = (array.astype(float) ** 2).sum(sorted(_FRAME & set(map(str, array.dims)))).mean()
    # a step that a run takes once: every block needs its value
    mean = _apply.apply_whole(np.asarray, mean, output={}, token="mean intensity")
    count = int(np.prod([n for d, n in array.sizes.items() if d not in _FRAME]))
    made = {"batch_mean_sum_intensity": mean, "mean_photons": mean * power, "n_samples": xr.DataArray(count)}
    out = xr.Dataset({v.name: v.make(xr.DataArray(made[v.name]).reset_coords(drop=True)) for v in STATS})
    return out.assign_attrs(source="amplitude over intensity_scale" if is_normalized else "amplitude")


def patterns(X: Any) -> xr.DataArray:
    """Return amplitudes as a DataArray with the dimensions ky and kx."""
    if isinstance(X, xr.DataArray):
        array = X
        if not set(map(str, array.dims)) >= _FRAME:
            raise InputError(f"X has dimensions {array.dims}; expected ky and kx among them")
    else:
        values = np.asarray(X)
        names: tuple[Hashable, ...] = ("group", "ky", "kx", "channel")[: values.ndim]
        if values.ndim not in (3, 4):
            raise InputError(f"X has shape {values.shape}; expected patterns (B, N, N) or (B, N, N, C)")
        array = xr.DataArray(values, dims=names)
    if array.dtype.kind not in "biuf":
        raise InputTypeError(f"X holds {array.dtype}; expected real amplitudes")
    if array.sizes["ky"] != array.sizes["kx"] or not array.size:
        raise InputError(
            f"X has {array.sizes['ky']} × {array.sizes['kx']} pixels; expected square patterns (B, N, N, C)"
        )
    return array


def normalize_data(X: Any) -> xr.DataArray:
    """Return ``X · √((N/2)² / mean Σ X²)``, the mean over patterns of the sum over pixels; lazy if `X` is.

    Parameters
    ----------
    X : array
        Amplitudes, as `compute_dataset_intensity_stats` takes them.

    Returns
    -------
    DataArray
        Of the dtype of `X`, with ``attrs["normalization"]``.

    Examples
    --------
    >>> float((normalize_data(np.ones((5, 8, 8, 4))) ** 2).sum(["ky", "kx"]).mean())
    16.0
    """
    array = patterns(X)
    mean = compute_dataset_intensity_stats(array)["batch_mean_sum_intensity"]
    made = array * np.sqrt((array.sizes["ky"] / 2) ** 2 / mean)
    return made.astype(array.dtype).assign_attrs(array.attrs | {"normalization": "√((N/2)² / mean Σ X²)"})


def scale_nphotons(X: Any, nphotons: float = 1e9) -> xr.DataArray:
    """Return ``s = √(nphotons / mean Σ X²)``, the scale of a dataset; lazy if `X` is.

    Parameters
    ----------
    X : array or Dataset
        Amplitudes, or what `compute_dataset_intensity_stats` returned for them.
    nphotons : float
        Mean photons in a pattern.

    Examples
    --------
    >>> float(scale_nphotons(np.ones((3, 8, 8)), nphotons=6400))
    10.0
    """
    stats = X if isinstance(X, xr.Dataset) and "batch_mean_sum_intensity" in X else compute_dataset_intensity_stats(X)
    s: xr.DataArray = (positive("nphotons", nphotons) / stats["batch_mean_sum_intensity"]) ** 0.5
    attrs = {"long_name": "intensity scale", "source": "√(nphotons / mean Σ X²), the mean over patterns"}
    return s.rename("intensity_scale").assign_attrs(attrs)


def closed_form_scale(nphotons: float, N: int) -> float:
    """Return ``√nphotons / (N/2)``, which knows nothing of the data: right after `normalize_data` only.

    Warns
    -----
    UserWarning
        Always: use `scale_nphotons` where there is data.

    Examples
    --------
    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     print(round(closed_form_scale(1e9, 64), 2))
    988.21
    """
    warnings.warn(
        "the closed form √nphotons / (N/2) is the scale of data after normalize_data only; "
        "scale_nphotons(X, nphotons) takes it from the data",
        UserWarning,
        stacklevel=2,
    )
    return math.sqrt(positive("nphotons", nphotons)) / (whole("N", N, least=2) / 2)
