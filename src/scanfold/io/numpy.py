"""NPY and NPZ files: memory-mapped per task; a compressed member is decompressed as a stream."""

from __future__ import annotations

import math
import struct
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from scanfold.conventions import InputError
from scanfold.io.arrays import FileArray, Region, reading
from scanfold.io.labels import Contents, Signal, default_detector, default_dims
from scanfold.io.listing import ArrayInfo, choose, shown

#: A compressed member up to this size is one block, decompressed once; a larger one is decompressed once per block.
WHOLE = 2**29
PIECE = 2**20


@dataclass(frozen=True)
class Header:
    """The header of an NPY file or member: what it says, and where its data starts."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    length: int


def header(stream: IO[bytes]) -> Header:
    """Read an NPY header, never its data."""
    version = np.lib.format.read_magic(stream)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"NPY version {version} is not one that plain arrays have")
    shape, fortran, dtype = read(stream)
    return Header(shape, fortran, dtype, stream.tell())


@dataclass(frozen=True)
class MappedArray(FileArray):
    """An array that lies uncompressed in a file, from an offset on."""

    offset: int
    order: str

    def read(self, region: Region) -> np.ndarray:
        """Map the file and copy one box."""
        mapped = np.memmap(self.path, self.dtype, "r", self.offset, self.shape, "F" if self.order == "F" else "C")
        return np.array(mapped[region])


@dataclass(frozen=True)
class CompressedArray(FileArray):
    """A compressed member of an NPZ file: reading starts at its beginning and keeps only the rows asked for."""

    start: int
    order: str

    @property
    def in_parts(self) -> bool:
        """It is not: decompressing starts at the beginning."""
        return False

    def read(self, region: Region) -> np.ndarray:
        """Decompress up to the last row that is asked for."""
        rows = region[0] if self.order == "C" else slice(0, self.shape[0])
        row = self.dtype.itemsize * math.prod(self.shape[1:])
        with zipfile.ZipFile(self.path) as archive, archive.open(self.dataset + ".npy") as stream:
            _skip(stream, self.start + rows.start * row)
            wanted = (rows.stop - rows.start) * row
            data = bytearray()
            while len(data) < wanted and (piece := stream.read(min(PIECE, wanted - len(data)))):
                data += piece
            if rows.stop == self.shape[0]:
                # The checksum is compared at the end of the member.
                stream.read(1)
        whole = np.frombuffer(data, self.dtype)
        if self.order == "C":
            return whole.reshape((rows.stop - rows.start, *self.shape[1:]))[(slice(None), *region[1:])]
        return whole.reshape(self.shape, order="F")[region]


def _skip(stream: IO[bytes], count: int) -> None:
    while count > 0 and (piece := stream.read(min(PIECE, count))):
        count -= len(piece)


def contents(path: str, dataset: str | None, locking: bool | None) -> Contents:
    """Open the header of an NPY file, or of one member of an NPZ file."""
    with reading(path, dataset):
        if zipfile.is_zipfile(path):
            return _member(path, dataset)
        if Path(path).suffix.lower() == ".npz":
            raise InputError(f"{path!r} is no NPZ archive: it is truncated or damaged")
        with open(path, "rb") as stream:
            found = header(stream)
    _check(path, "", found, Path(path).stat().st_size - found.length)
    data = MappedArray(path, "", found.shape, found.dtype, found.length, "F" if found.fortran else "C")
    return _contents("data", data)


def _contents(name: str, data: FileArray) -> Contents:
    dims = default_dims(data.ndim)
    return Contents(Signal(name, data, dims), default_detector(data.ndim))


def _check(path: str, member: str, found: Header, available: int) -> None:
    """Refuse what is not numbers, and a header that claims another size than there is."""
    where = f"member {member!r} of {path!r}" if member else repr(path)
    if found.dtype.kind not in "biufc":
        what = "pickled objects, which could run code" if found.dtype.hasobject else f"no numbers ({found.dtype})"
        raise InputError(f"{where} holds {what}; save the scan as a numeric array: np.save(file, array.astype(float))")
    claimed = found.dtype.itemsize * math.prod(found.shape)
    if claimed != available:
        raise InputError(
            f"{where}: its header claims {claimed:,} bytes (shape {found.shape}, {found.dtype}), and there "
            f"are {available:,}: it is truncated, damaged or forged"
        )
    if not found.shape or claimed == 0:
        raise InputError(f"{where} has shape {found.shape}: there is no scan in it")


def headers(path: str) -> dict[str, tuple[zipfile.ZipInfo, Header]]:
    """Read the headers of all arrays in an NPZ file."""
    with zipfile.ZipFile(path) as archive:
        found = {}
        for info in archive.infolist():
            if info.filename.endswith(".npy"):
                with archive.open(info) as stream:
                    found[info.filename.removesuffix(".npy")] = (info, header(stream))
        return found


def _listing(members: dict[str, tuple[zipfile.ZipInfo, Header]]) -> list[ArrayInfo]:
    return [
        ArrayInfo(
            name=name,
            shape=h.shape,
            dtype=str(h.dtype),
            compression=None if i.compress_type == zipfile.ZIP_STORED else "deflate",
            numeric=h.dtype.kind in "biufc",
        )
        for name, (i, h) in members.items()
    ]


def _member(path: str, dataset: str | None) -> Contents:
    members = headers(path)
    name = choose(_listing(members), path) if dataset is None else dataset
    if name not in members:
        raise InputError(f"no array {name!r} in {path!r}; it has {shown(_listing(members))}")
    made = _contents(name, member(path, name, members))
    return made if made.signal.data.in_parts else Contents(made.signal, made.detector, fixed=compressed(made.signal))


def member(path: str, name: str, members: Mapping[str, tuple[zipfile.ZipInfo, Header]]) -> FileArray:
    """Return a member of an NPZ file as an array, after checking that it is numbers and all there."""
    info, found = members[name]
    _check(path, name, found, info.file_size - found.length)
    order = "F" if found.fortran else "C"
    if info.compress_type == zipfile.ZIP_STORED:
        offset = _data_offset(path, info) + found.length
        return MappedArray(path, name, found.shape, found.dtype, offset, order)
    return CompressedArray(path, name, found.shape, found.dtype, found.length, order)


def compressed(signal: Signal) -> dict[str, int]:
    """Warn of what a compressed member costs, and return the chunks that it has to have."""
    data = signal.data
    size = data.dtype.itemsize * math.prod(data.shape)
    whole = size <= WHOLE
    how = "is one block, decompressed by one task" if whole else "is decompressed from its start by every block"
    warnings.warn(
        f"{data.dataset!r} in {data.path!r} is compressed as a whole: the array of {size / 2**20:,.0f} MiB {how}. "
        "np.savez (uncompressed), HDF5 or zarr are read in parts",
        UserWarning,
        stacklevel=2,
    )
    return dict(zip(signal.dims, data.shape, strict=True)) if whole else {}


def _data_offset(path: str, info: zipfile.ZipInfo) -> int:
    """Return where a stored member's bytes start, after its local header."""
    with open(path, "rb") as stream:
        stream.seek(info.header_offset)
        local = stream.read(30)
        name, extra = struct.unpack("<HH", local[26:30])
        start = info.header_offset + 30 + int(name) + int(extra)
        if start + info.file_size > Path(path).stat().st_size:
            raise InputError(f"member {info.filename!r} of {path!r} is cut off: the file is truncated")
        return start


def arrays(path: str) -> list[ArrayInfo]:
    """Describe the arrays of the file without reading them."""
    with reading(path):
        if zipfile.is_zipfile(path):
            return _listing(headers(path))
        with open(path, "rb") as stream:
            found = header(stream)
    return [ArrayInfo("", found.shape, str(found.dtype), numeric=found.dtype.kind in "biufc")]
