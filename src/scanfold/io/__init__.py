"""Files to labelled, lazy Datasets."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

import xarray as xr

from scanfold.conventions import InputError
from scanfold.io.assemble import assemble, lazy
from scanfold.io.chunks import Chunks
from scanfold.io.formats import contents_of

__all__ = ["open_scan"]


def open_scan(
    path: str | Path,
    *,
    dataset: str | None = None,
    scan_shape: Sequence[int] | None = None,
    dims: Sequence[str] | None = None,
    chunks: Chunks = "auto",
    locking: bool | None = None,
) -> xr.Dataset:
    """Open a scan lazily: metadata and coordinates are read now, data when it is computed."""
    contents = contents_of(existing(path), dataset=dataset, scan_shape=scan_shape, dims=dims, locking=locking)
    return assemble(str(path), contents, lazy(str(path), contents, chunks))


def existing(path: str | Path) -> str:
    """Return the path of a file that exists.

    Raises
    ------
    InputError
        If there is none; it gives the nearest names in the folder.
    """
    found = Path(path)
    if found.exists():
        return str(found)
    if not found.parent.is_dir():
        raise InputError(f"no file {str(path)!r}: there is no folder {str(found.parent)!r}")
    near = difflib.get_close_matches(found.name, [p.name for p in found.parent.iterdir()], n=3)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise InputError(f"no file {str(path)!r}{hint}")
