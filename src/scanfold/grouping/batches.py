"""Batches for training: NumPy arrays, the next ones read while the last are used."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Hashable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from scanfold._apply import with_prologues
from scanfold.conventions import InputError, unknown
from scanfold.grouping._random_kernels import key, permuted
from scanfold.grouping.layouts import LAYOUTS, convert_layout
from scanfold.grouping.options import whole

Array = npt.NDArray[Any]
Batch = dict[str, Array]

#: Bytes of frames that are shuffled together.
WINDOW = 2**28


def iter_batches(
    groups: xr.Dataset,
    batch_size: int,
    *,
    layout: str = "channel",
    shuffle: bool = False,
    seed: int = 0,
    drop_last: bool = False,
    prefetch: int = 2,
) -> Iterator[Batch]:
    """Iterate over gathered groups once, in batches of NumPy arrays that a thread reads ahead.

    Parameters
    ----------
    groups : Dataset
        From `gather`, `split`, a store, or of a `ptycho.PtychoDataContainer`.
    batch_size : int
        Groups in a batch.
    layout : {"channel", "grid", "flat", "torch"}
        Of the frames and of ``Y``; see `convert_layout`.
    shuffle : bool
        Visit groups in random order: runs of `batch_size` neighbouring groups are read, in random order, and windows
        of up to 256 MiB of them are mixed, so that reading stays fast. Pass another seed in each epoch.
    seed : int
        Equal seeds give equal orders.
    drop_last : bool
        Leave out a last batch that is not full.
    prefetch : int
        How many reads are ahead.

    Yields
    ------
    dict
        Every variable and coordinate over ``group``, by its name.

    Raises
    ------
    InputError
        Before anything is read.

    Examples
    --------
    >>> groups = xr.Dataset({"diffraction": (("group", "channel", "ky", "kx"), np.zeros((10, 4, 8, 8)))})
    >>> [batch["diffraction"].shape for batch in iter_batches(groups, 4)]
    [(4, 8, 8, 4), (4, 8, 8, 4), (2, 8, 8, 4)]
    """
    size, ahead = whole("batch_size", batch_size, 1), whole("prefetch", prefetch, 1)
    if layout not in LAYOUTS:
        raise unknown("layout", layout, LAYOUTS)
    names = [str(n) for n, v in groups.variables.items() if v.dims[:1] == ("group",)]
    if not names:
        raise InputError("expected groups of grouping.gather; found no variable over 'group'")
    only = groups.drop_vars([n for n in groups.variables if n not in names])
    return _batches(only, size, layout, seed if shuffle else None, drop_last, ahead)


def _batches(
    groups: xr.Dataset, size: int, layout: str, seed: int | None, drop_last: bool, ahead: int
) -> Iterator[Batch]:
    sources = {str(n): source for n, v in groups.variables.items() if (source := _source(v.dims))}
    groups = with_prologues(groups)  # once, and not for each batch
    with ThreadPoolExecutor(1) as reader:
        waiting: deque[Any] = deque()
        left: Batch = {}
        for window in _windows(groups, size, seed):
            waiting.append(reader.submit(_read, groups, window))
            while len(waiting) > ahead:
                left = yield from _cut(_mixed(_joined(left, waiting.popleft().result()), seed), size, layout, sources)
        while waiting:
            left = yield from _cut(_mixed(_joined(left, waiting.popleft().result()), seed), size, layout, sources)
        if left and len(next(iter(left.values()))) and not drop_last:
            yield _laid(left, layout, sources)


def _source(dims: tuple[Hashable, ...]) -> str:
    """Return the layout of a variable of frames: that of `gather`, or of a container; "" if it has no frames."""
    if len(dims) != 4 or "axis" in dims:  # coordinates of a container have an axis x, y
        return ""
    return {1: "torch", 3: "channel"}.get(dims.index("channel"), "") if "channel" in dims else ""


def _windows(groups: xr.Dataset, size: int, seed: int | None) -> Iterator[list[slice]]:
    """Yield the runs of groups that are read together."""
    count = groups.sizes["group"]
    runs = [slice(first, min(first + size, count)) for first in range(0, count, size)]
    if seed is None:
        # by whole chunks where these are longer, so that none is made again for the next batch
        lengths = next((v.chunks[0] for v in groups.variables.values() if v.chunks is not None), ())
        edges = np.cumsum((0, *lengths)).tolist()
        chunks = [slice(*edge) for edge in pairwise(edges)]
        yield from ([run] for run in (chunks if max(lengths, default=0) > size else runs))
        return
    each = max(1, int(WINDOW // max(1, groups.nbytes // count * size)))
    order = permuted(np.arange(len(runs)), len(runs), key(seed, 0))
    for first in range(0, len(runs), each):
        yield [runs[i] for i in order[first : first + each]]


def _read(groups: xr.Dataset, runs: list[slice]) -> Batch:
    parts = [groups.isel(group=run).compute() for run in runs]
    return {str(n): np.concatenate([p[n].values for p in parts]) for n in groups.variables}


def _joined(left: Batch, more: Batch) -> Batch:
    return {n: np.concatenate([left[n], more[n]]) for n in more} if left else more


def _mixed(window: Batch, seed: int | None) -> Batch:
    if seed is None:
        return window
    count = len(next(iter(window.values())))
    order = permuted(np.arange(count), count, key(seed, 1))
    return {n: values[order] for n, values in window.items()}


def _cut(window: Batch, size: int, layout: str, sources: Mapping[str, str]) -> Generator[Batch, None, Batch]:
    """Yield full batches, and return what is left."""
    count = len(next(iter(window.values())))
    for first in range(0, count - count % size, size):
        yield _laid({n: values[first : first + size] for n, values in window.items()}, layout, sources)
    return {n: values[count - count % size :] for n, values in window.items()}


def _laid(batch: Batch, layout: str, sources: Mapping[str, str]) -> Batch:
    return {n: convert_layout(v, sources[n], layout) if n in sources else v for n, v in batch.items()}
