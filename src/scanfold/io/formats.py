"""Which format a file has, and its contents."""

from __future__ import annotations

from collections.abc import Sequence

from scanfold.io import hdf5
from scanfold.io.labels import Contents, fold, rename


def contents_of(
    path: str,
    *,
    dataset: str | None,
    scan_shape: Sequence[int] | None,
    dims: Sequence[str] | None,
    locking: bool | None,
) -> Contents:
    """Open the metadata of a file of any known format, folded and renamed as asked."""
    contents = hdf5.contents(path, dataset, locking)
    where = f"dataset {contents.signal.data.dataset!r} of {path!r}"
    if scan_shape is not None:
        contents = fold(contents, scan_shape, where)
    if dims is not None:
        contents = rename(contents, dims, where)
    return contents
