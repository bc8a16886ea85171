"""A simple clustering of patterns, for scans that come without labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from scanfold import _apply
from scanfold.conventions import InputError, InputTypeError, Var, record
from scanfold.detectors.frames import AXES, Array, frames_of

LABEL = Var("cluster_labels", ("...",), "int32", "cluster of each position; -1 where the frame is not finite")
#: Side of the binned patterns that are clustered, and principal components that are kept of them.
SIDE, COMPONENTS = 16, 16


def cluster(scan: xr.Dataset | xr.DataArray, n: int, *, seed: int = 0) -> xr.DataArray:
    """Sort positions into clusters by k-means on their patterns: a baseline for scans without labels.

    Patterns are binned to at most 16 × 16 pixels, log1p is taken of them, and their 16 principal components are
    clustered (scikit-learn, extra ``stem``). It reads the scan once.

    Parameters
    ----------
    scan : Dataset or DataArray
        Frames ``(*scan, ky, kx)``.
    n : int
        Number of clusters.
    seed : int
        Of the k-means starts.

    Returns
    -------
    DataArray
        ``cluster_labels`` over the scan dims, from 0, sorted by size; lazy if the scan is: call ``.compute()``
        before it is passed on.

    Raises
    ------
    InputError
        If there are fewer positions than clusters, or scikit-learn is missing.

    Examples
    --------
    >>> frames = np.zeros((6, 4, 4))
    >>> frames[4:, 1] = 50
    >>> cluster(xr.DataArray(frames, dims=("position", "ky", "kx")), 2).values
    array([0, 0, 0, 0, 1, 1], dtype=int32)
    """
    array, dims = frames_of(scan)
    if isinstance(n, bool) or not isinstance(n, int | np.integer):
        raise InputTypeError(f"n={n!r}; expected a whole number of clusters")
    count = int(np.prod([array.sizes[d] for d in dims]))
    if not 2 <= n <= count:
        raise InputError(f"n={n} clusters of {count} positions; expected 2 to {count}")
    try:
        import sklearn  # noqa: F401
    except ImportError:
        raise InputError('clustering needs scikit-learn; type: pip install "scanfold[stem]", or pass labels') from None
    whole = array if array.chunks is None else array.chunk(dict.fromkeys(AXES, -1))
    shape = tuple(min(array.sizes[d], SIDE) for d in AXES)
    binned = _apply.apply_kernel(
        _Binned(shape), whole.drop_vars(list(whole.coords)), core_dims=[AXES], output={"feature": int(np.prod(shape))},
        token=f"binned {shape}", dtype="float32",
    )  # fmt: skip
    labels = _apply.apply_whole(
        _KMeans(int(n), seed, len(dims)), binned, output={str(d): array.sizes[d] for d in dims},
        token=f"kmeans {n} {seed}", dtype="int32",
    )  # fmt: skip
    out = LABEL.make(labels).assign_coords({k: c for k, c in array.coords.items() if not set(c.dims) & set(AXES)})
    out.attrs["provenance"] = record("cluster", {"scan": array}, {"n": int(n), "seed": seed})
    return out


@dataclass(frozen=True)
class _Binned:
    shape: tuple[int, ...]

    def __call__(self, frames: Array) -> Array:
        """Return log1p of the mean counts of bins (N, bins)."""
        edges = [np.linspace(0, n, m + 1).astype(int) for n, m in zip(frames.shape[1:], self.shape, strict=True)]
        values = np.add.reduceat(frames, edges[0][:-1], axis=1, dtype=np.float64)
        values = np.add.reduceat(values, edges[1][:-1], axis=2)
        area = np.diff(edges[0])[:, None] * np.diff(edges[1])
        return np.asarray(np.log1p(np.maximum(values / area, 0.0)).reshape(len(frames), -1))


@dataclass(frozen=True)
class _KMeans:
    n: int
    seed: int
    ndim: int

    def __call__(self, features: Array) -> Any:
        """Return labels in the shape of the scan."""
        from sklearn.cluster import KMeans
        from sklearn.decomposition import PCA

        shape = features.shape[: self.ndim]
        rows = features.reshape(-1, features.shape[-1]).astype(np.float64)
        good = np.isfinite(rows).all(axis=1)
        found = np.full(len(rows), -1, np.int32)
        components = PCA(min(COMPONENTS, rows.shape[1], int(good.sum())), random_state=self.seed).fit_transform(
            rows[good]
        )
        labels = KMeans(self.n, n_init=4, random_state=self.seed).fit_predict(components)
        order = np.argsort(-np.bincount(labels, minlength=self.n), kind="stable")
        found[good] = np.argsort(order)[labels]
        return found.reshape(shape)
