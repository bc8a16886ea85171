"""NPZ files, written piece by piece."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import xarray as xr

from scanfold._paths import replace_file
from scanfold.export.slabs import slabs


def write(path: Path, members: Mapping[str, xr.DataArray]) -> None:
    """Write arrays into an uncompressed NPZ file, which takes the place of `path` when it is whole.

    Parameters
    ----------
    path : Path
    members : mapping
        Arrays by their names; lazy ones are computed in pieces along their first dimension.
    """
    with (
        replace_file(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as archive,
    ):
        for name, array in members.items():
            _write(archive, name, array)


def _write(archive: zipfile.ZipFile, name: str, array: xr.DataArray) -> None:
    """Write one member in pieces along its first axis."""
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        header = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": array.shape}
        np.lib.format.write_array_header_2_0(member, header)
        for piece in _pieces(array):
            member.write(np.ascontiguousarray(piece.values).data if piece.ndim else piece.values.tobytes())


def _pieces(array: xr.DataArray) -> Iterator[xr.DataArray]:
    """Yield an array in pieces along its first dimension: whole blocks, none of which is computed twice."""
    if array.chunks is None:
        yield array
        return
    for _, piece in slabs(array.to_dataset(name="piece"), str(array.dims[0])):
        yield piece["piece"]
