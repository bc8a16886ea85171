"""What users and tests share: proofs of laziness and chunk invariance, and scans whose truth is known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np
import xarray as xr

if TYPE_CHECKING:
    from scanfold.ptycho import RawData

__all__ = ["CountingArray", "assert_chunk_invariant", "peak_scan", "raise_if_computes", "synthetic_raw_data"]


def __dir__() -> list[str]:
    return sorted(__all__)


@contextmanager
def raise_if_computes() -> Iterator[None]:
    """Turn any Dask computation inside the block into an AssertionError.

    Examples
    --------
    >>> with raise_if_computes():
    ...     doubled = 2 * da.ones(3)
    >>> with raise_if_computes():
    ...     doubled.compute()
    Traceback (most recent call last):
    AssertionError: something was computed that should have stayed lazy
    """

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("something was computed that should have stayed lazy")

    with dask.config.set(scheduler=refuse):
        yield


class CountingArray:
    """An array that counts what is read from it, to prove that a graph reads nothing and a run nothing twice.

    Parameters
    ----------
    values : ndarray
        What reads return.

    Attributes
    ----------
    reads : int
        How many times it was indexed.
    elements : int
        How many elements those reads returned.

    Examples
    --------
    >>> source = CountingArray(np.zeros((4, 6)))
    >>> lazy = source.lazy(("y", "x"), y=2)
    >>> source.reads
    0
    >>> float(lazy[:2].sum()), source.reads, source.elements
    (0.0, 1, 12)
    """

    def __init__(self, values: np.ndarray):
        self._values, self._lock = values, Lock()
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim
        self.reads = self.elements = 0

    def __getitem__(self, index: Any) -> np.ndarray:
        """Read, and count it."""
        values = np.asarray(self._values[index])
        with self._lock:
            self.reads += 1
            self.elements += values.size
        return values

    def lazy(self, dims: Iterable[str], **chunks: int) -> xr.DataArray:
        """Return it as a lazy DataArray; dimensions without a chunk size are one chunk."""
        names = tuple(dims)
        sizes = tuple(chunks.get(d, n) for d, n in zip(names, self.shape, strict=True))
        # Without a name of its own, dask would read the values to hash them.
        array = da.from_array(self, chunks=sizes, name=f"counting-{id(self)}-{sizes}", meta=np.empty(0, self.dtype))
        return xr.DataArray(array, dims=names)


def assert_chunk_invariant(
    operation: Callable[[xr.DataArray], xr.Dataset | xr.DataArray],
    scan: xr.DataArray,
    chunkings: Iterable[Mapping[str, int]],
) -> None:
    """Assert that an operation gives bit-identical results whatever the chunks of the scan.

    Parameters
    ----------
    operation : callable
        From a lazy scan to a lazy result.
    scan : DataArray
        Held in memory.
    chunkings : iterable of mappings
        Chunk sizes by dimension; the first result is what the others are compared with.

    Raises
    ------
    AssertionError
        If two results differ, naming the chunks that made them.

    Examples
    --------
    >>> scan = xr.DataArray(np.arange(6.0).reshape(3, 2), dims=("y", "energy"))
    >>> assert_chunk_invariant(lambda s: s.max("energy"), scan, [{"y": 1}, {"y": 2}])
    """
    reference: xr.Dataset | xr.DataArray | None = None
    first: Mapping[str, int] = {}
    for chunks in chunkings:
        result = operation(scan.chunk(chunks)).compute()
        if reference is None:
            reference, first = result, chunks
        elif not reference.identical(result):  # type: ignore[arg-type]
            raise AssertionError(f"chunks {dict(first)} and {dict(chunks)} give different results")


def peak_scan(
    shape: Mapping[str, int], *, points: int = 100, counts: bool = True, seed: int = 0
) -> tuple[xr.DataArray, xr.Dataset]:
    """Make a scan of one Gaussian peak on a line at every position, with its truth.

    Parameters
    ----------
    shape : mapping of str to int
        Scan dimensions and their sizes, such as ``{"y": 20, "x": 30}``.
    points : int
        Length of the spectra.
    counts : bool
        Poisson counts; otherwise the noiseless model.
    seed : int
        Of the parameters and the noise.

    Returns
    -------
    scan : DataArray
        Dims ``(*shape, energy)``, float64, in counts.
    truth : Dataset
        ``amplitude, center, sigma, slope, intercept`` as lmfit's models mean them, over the scan dimensions.

    Examples
    --------
    >>> scan, truth = peak_scan({"y": 2, "x": 3})
    >>> dict(scan.sizes), sorted(truth)
    ({'y': 2, 'x': 3, 'energy': 100}, ['amplitude', 'center', 'intercept', 'sigma', 'slope'])
    """
    rng = np.random.default_rng(seed)
    ranges = {
        "amplitude": (500.0, 2000.0),
        "center": (4.0, 6.0),
        "sigma": (0.4, 0.9),
        "slope": (-1.0, 1.0),
        "intercept": (20.0, 60.0),
    }
    sizes = tuple(shape.values())
    truth = xr.Dataset({name: (tuple(shape), rng.uniform(low, high, sizes)) for name, (low, high) in ranges.items()})
    energy = xr.DataArray(np.linspace(0, 10, points), dims="energy", attrs={"units": "keV", "long_name": "energy"})
    z = (energy - truth["center"]) / truth["sigma"]
    scan = truth["amplitude"] / (truth["sigma"] * np.sqrt(2 * np.pi)) * np.exp(-(z**2) / 2)
    scan = (scan + truth["slope"] * energy + truth["intercept"]).transpose(*shape, "energy")
    values = rng.poisson(scan.values).astype(float) if counts else scan.values
    out = xr.DataArray(values, dims=scan.dims, coords={"energy": energy}, name="counts")
    out.attrs = {"units": "count", "long_name": "detector counts"}
    return out, truth


def synthetic_raw_data(n_points: int = 100, N: int = 64, seed: int = 42) -> RawData:
    """Make ptychography data for tests: frames of random numbers on a diagonal, a uniform probe; no file is read.

    Parameters
    ----------
    n_points : int
        Frames; their positions run from 50 to 150 pixels along both axes.
    N : int
        Pixels along a side of a frame.
    seed : int
        Of the frames.

    Returns
    -------
    RawData
        In memory, and equal for equal arguments.

    Examples
    --------
    >>> raw = synthetic_raw_data(n_points=5, N=8)
    >>> raw.diff3d.shape, raw.xcoords.tolist()
    ((5, 8, 8), [50.0, 75.0, 100.0, 125.0, 150.0])
    """
    from scanfold.ptycho import RawData

    places = np.linspace(50, 150, n_points)
    frames = np.random.default_rng(seed).random((n_points, N, N), dtype=np.float32)
    return RawData.from_coords_without_pc(places, places, frames, np.ones((N, N), np.complex64))
