"""Cluster labels: of one number or several weights at every position, from arrays and files."""

from __future__ import annotations

import os
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from scanfold.conventions import InputError, InputTypeError
from scanfold.io.formats import existing

#: The label of positions that belong to no cluster.
NOISE = -1
#: Names under which clusterings keep their labels in an NPZ file, the better one first.
NAMES = ("cluster_labels", "labels")
#: Bytes that labels may take at each position, and at least in all: a file that claims more is no file of labels.
EACH, MOST = 8 * 256, 2**20

LabelsLike = xr.DataArray | npt.ArrayLike | str | os.PathLike[str]


@dataclass(frozen=True)
class Labels:
    """Checked labels of a scan.

    Parameters
    ----------
    names : ndarray
        The label of each cluster, ascending, without noise (C,).
    index : DataArray, optional
        The cluster of each position, counted from 0; -1 is noise. None for weights.
    weights : DataArray, optional
        Soft weights, dims ``(*scan, cluster)``.
    """

    names: npt.NDArray[np.int64]
    index: xr.DataArray | None = None
    weights: xr.DataArray | None = None

    @property
    def count(self) -> int:
        """Number of clusters."""
        return int(self.names.size)


def read_labels(path: str | os.PathLike[str], positions: int | None = None) -> npt.NDArray[Any]:
    """Read labels from ``.npy`` or ``.npz``: ``cluster_labels``, else ``labels``, else the only array.

    Parameters
    ----------
    path : path
    positions : int, optional
        Of the scan: a file that claims labels or weights for many more is refused before it is read.

    Raises
    ------
    InputError
        If there is no such file, it is of another kind, or it has several arrays of other names.

    Examples
    --------
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/clusters.npz"
    >>> np.savez(path, features=np.zeros((3, 2)), labels=np.array([0, 1, 0]))
    >>> read_labels(path)
    array([0, 1, 0])
    """
    file = Path(existing(path))
    if not file.is_file():
        raise InputError(f"{str(path)!r} is a folder; pass a .npy or .npz file of labels, or an array")
    most = max(EACH * (2**24 if positions is None else positions), MOST)
    if file.stat().st_size > most:
        raise InputError(f"{str(path)!r} has {file.stat().st_size:,} bytes, too many for one label at each position")
    try:
        # A memory map first: a header that claims more than the file has is refused without being believed.
        found = np.load(file, allow_pickle=False, mmap_mode="r" if file.suffix == ".npy" else None)
        if isinstance(found, np.ndarray):
            return np.array(found)
        with found:
            return _member(found, str(path), most)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"cannot read labels from {str(path)!r}: {type(error).__name__}: {error}") from error


def _member(archive: Any, path: str, most: int) -> npt.NDArray[Any]:
    names = list(archive.files)
    chosen = next((n for n in NAMES if n in names), names[0] if len(names) == 1 else None)
    if chosen is None:
        raise InputError(
            f"{path!r} has the arrays {', '.join(names) or '(none)'}; expected one called {' or '.join(NAMES)}. "
            "Save it under that name: np.savez(file, labels=labels)"
        )
    claimed = archive.zip.getinfo(f"{chosen}.npy").file_size
    if claimed > most:
        raise InputError(f"array {chosen!r} of {path!r} claims {claimed:,} bytes, too many for labels")
    return np.asarray(archive[chosen])


def as_labels(labels: LabelsLike, scan: xr.DataArray, scan_dims: tuple[Hashable, ...]) -> Labels:
    """Check labels against a scan.

    Parameters
    ----------
    labels : DataArray, array or path
        One integer at each position, as a map or flat, row after row; or float weights with one more axis,
        last, for the clusters (``cluster`` in a DataArray).
    scan : DataArray
        The scan.
    scan_dims : tuple
        Its scan dimensions, in its order.

    Raises
    ------
    InputError
        If the shape does not fit; if there are fewer than two clusters, or one is empty.
    InputTypeError
        If they are lazy, or no numbers.
    """
    shape = tuple(scan.sizes[d] for d in scan_dims)
    count = int(np.prod(shape))
    if isinstance(labels, (str, os.PathLike)):
        try:
            return as_labels(read_labels(labels, count), scan, scan_dims)
        except (InputError, InputTypeError) as error:
            raise error if repr(str(labels)) in str(error) else type(error)(f"{str(labels)!r}: {error}") from None
    if isinstance(labels, xr.DataArray):
        if labels.chunks is not None:
            raise InputTypeError("labels are lazy, and are checked before the scan is read; pass labels.compute()")
        if set(scan_dims) <= set(labels.dims):
            labels = labels.transpose(*scan_dims, ...)
        labels = labels.values
    try:
        values = np.asarray(labels)
    except ValueError as error:  # lists of unequal lengths
        raise InputTypeError(f"labels are a {type(labels).__name__} that makes no array: {error}") from None
    if values.dtype.kind not in "iuf":
        raise InputTypeError(f"labels are of dtype {values.dtype}; expected integers, or weights of dtype float")
    if values.shape == shape or values.shape == (count,):
        return _hard(values.reshape(shape), scan_dims)
    soft = values.ndim > 1 and values.dtype.kind == "f"
    if soft and (values.shape[:-1] == shape or values.shape[:-1] == (count,)):
        return _soft(values.reshape(*shape, values.shape[-1]), scan_dims)
    raise InputError(
        f"labels have the shape {values.shape}, and the scan has {count:,} positions "
        f"{dict(zip(map(str, scan_dims), shape, strict=True))}; expected {shape} or ({count},)"
    )


def _hard(values: npt.NDArray[Any], dims: tuple[Hashable, ...]) -> Labels:
    numbers = values.astype(np.int64)
    if not np.array_equal(numbers, values):
        raise InputError("labels of dtype float must be whole numbers, or weights with an axis for the clusters")
    if numbers.min(initial=0) < NOISE:
        raise InputError(f"the least label is {numbers.min()}; expected 0, 1, 2 … and {NOISE} for noise")
    names = np.unique(numbers[numbers != NOISE])
    if names.size < 2:
        raise InputError(f"labels name {names.size} cluster ({names.tolist()}); templates tell at least two apart")
    gaps = np.setdiff1d(np.arange(names[0], names[-1] + 1), names) if names[-1] < 10**6 else names[-1:]
    if gaps.size:
        raise InputError(
            f"cluster {', '.join(map(str, gaps[:8]))} is empty: labels go from {names[0]} to {names[-1]} and leave it "
            "out; renumber them: labels = np.unique(labels, return_inverse=True)[1]"
        )
    index = np.where(numbers == NOISE, NOISE, numbers - names[0]).astype(np.int32)
    return Labels(names, xr.DataArray(index, dims=dims))


def _soft(values: npt.NDArray[Any], dims: tuple[Hashable, ...]) -> Labels:
    if values.shape[-1] < 2:
        raise InputError("weights of one cluster; templates tell at least two apart")
    if not np.isfinite(values).all() or values.min() < 0:
        raise InputError("weights must be finite and not negative")
    empty = np.flatnonzero(values.reshape(-1, values.shape[-1]).sum(axis=0) == 0)
    if empty.size:
        raise InputError(f"cluster {', '.join(map(str, empty[:8]))} is empty: its weights are all zero; leave it out")
    weights = xr.DataArray(values.astype(np.float64), dims=(*dims, "cluster"))
    return Labels(np.arange(values.shape[-1]), weights=weights)


def halves(labels: Labels, seed: int) -> npt.NDArray[np.int8]:
    """Assign each position to one of two random halves, equally within every cluster.

    The same seed and labels give the same halves, whatever the chunks.
    """
    index = labels.index if labels.index is not None else labels.weights
    assert index is not None
    numbers = index.values.ravel() if labels.index is not None else index.values.argmax(axis=-1).ravel()
    order = np.lexsort((np.random.default_rng(np.random.Philox(seed)).random(numbers.size), numbers))
    ranked = numbers[order]
    rank = np.arange(numbers.size) - np.searchsorted(ranked, ranked)
    half = np.empty(numbers.size, np.int8)
    half[order] = rank % 2
    return half.reshape(index.shape[: index.ndim - (labels.weights is not None)])
