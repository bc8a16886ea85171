"""TIFF: stacks of pages, hyperstacks with declared axes, and folders of single frames."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from scanfold.conventions import InputError
from scanfold.io.arrays import FileArray, Region, reading
from scanfold.io.labels import Contents, Signal, default_detector, default_dims, fill_dims
from scanfold.io.listing import ArrayInfo, named

#: Axes that ImageJ and OME files declare.
DECLARED = {"T": "time", "Z": "z", "C": "channel", "Y": "y", "X": "x"}
SUFFIXES = (".tif", ".tiff")


@dataclass(frozen=True)
class TIFFArray(FileArray):
    """A series of pages of equal shape."""

    series: int
    offset: int | None

    def read(self, region: Region) -> np.ndarray:
        """Map an uncompressed series, or decode the pages that the box touches."""
        if self.offset is not None:
            return np.array(np.memmap(self.path, self.dtype, "r", self.offset, self.shape)[region])
        out = np.empty(tuple(s.stop - s.start for s in region), self.dtype)
        with tifffile.TiffFile(self.path) as file:
            series = file.series[self.series]
            frame = len(series.keyframe.shape)
            lead = len(self.shape) - frame
            for index in np.ndindex(*out.shape[:lead]):
                at = np.ravel_multi_index([s.start + i for s, i in zip(region, index, strict=False)], self.shape[:lead])
                page = series.pages[int(at)] if lead else series.keyframe
                if page is None:
                    raise InputError(f"page {at} of {self.path!r} is missing")
                out[index] = page.asarray()[region[lead:]]
        return out


@dataclass(frozen=True)
class TIFFFolder(FileArray):
    """A folder of single frames, in the order of the numbers in their names."""

    def read(self, region: Region) -> np.ndarray:
        """Read the files of the frames asked for."""
        files = frames(self.path)
        if len(files) != self.shape[0]:
            raise InputError(f"{self.path!r} had {self.shape[0]} frames when it was opened, and has {len(files)} now")
        chosen = files[region[0]]
        out = np.empty(tuple(s.stop - s.start for s in region), self.dtype)
        for i, file in enumerate(chosen):
            with reading(str(file)):
                frame = tifffile.imread(file)
                if frame.shape != self.shape[1:] or frame.dtype != self.dtype:
                    raise InputError(
                        f"{str(file)!r} is a frame {frame.shape} {frame.dtype}, "
                        f"the first one is {self.shape[1:]} {self.dtype}"
                    )
                out[i] = frame[region[1:]]
        return out


def frames(folder: str | Path) -> list[Path]:
    """List the TIFF files of a folder in natural order: frame2 before frame10."""
    files = [f for f in Path(folder).iterdir() if f.suffix.lower() in SUFFIXES]
    return sorted(files, key=lambda f: [(int(p), "") if p.isdigit() else (-1, p) for p in re.split(r"(\d+)", f.name)])


def contents(path: str, dataset: str | None, locking: bool | None) -> Contents:
    """Open a file's tags, or those of the first file in a folder."""
    with reading(path, dataset):
        if Path(path).is_dir():
            return _folder(path)
        with tifffile.TiffFile(path) as file:
            return _series(path, file, int(named(_infos(file), path, dataset)))


def _series(path: str, file: Any, number: int) -> Contents:
    series = file.series[number]
    shape, dtype = tuple(series.shape), np.dtype(series.dtype).newbyteorder(file.byteorder)
    offset = series.dataoffset
    if offset is not None and offset + math.prod(shape) * dtype.itemsize > Path(path).stat().st_size:
        raise InputError(f"{path!r} is truncated: its tags describe {shape} {dtype}, and the file ends before that")
    frame = series.keyframe.shape
    if math.prod(frame) * (len(series.pages) if offset is None else 1) < math.prod(shape) and offset is None:
        raise InputError(f"{path!r} describes {shape} and has {len(series.pages)} pages of {frame}")
    data = TIFFArray(path, str(number), shape, dtype if offset is not None else dtype.newbyteorder("="), number, offset)
    native = (1,) * (len(shape) - len(frame)) + tuple(frame)
    if file.is_imagej or file.is_ome:
        dims = fill_dims([DECLARED.get(a) for a in series.axes], 2)
        return Contents(Signal("data", data, dims, {}, native), detector=0 if dims[-2:] == ("y", "x") else 2)
    return Contents(Signal("data", data, default_dims(len(shape)), {}, native), default_detector(len(shape)))


def _folder(path: str) -> Contents:
    files = frames(path)
    with reading(str(files[0])):
        first = tifffile.imread(files[0])
    if first.ndim != 2:
        raise InputError(
            f"{str(files[0])!r} has shape {first.shape}: a folder is read if every file in it is one frame"
        )
    stats = [f.stat() for f in files]
    data = TIFFFolder(path, "", (len(files), *first.shape), first.dtype)
    identity = {
        "files": len(files),
        "size": sum(s.st_size for s in stats),
        "mtime_ns": max(s.st_mtime_ns for s in stats),
    }
    return Contents(Signal("data", data, default_dims(3), {}, (1, *first.shape)), 2, identity=identity)


def _infos(file: Any) -> list[ArrayInfo]:
    return [
        ArrayInfo(
            name=str(i),
            shape=tuple(s.shape),
            dtype=str(s.dtype),
            chunks=tuple(s.keyframe.chunks),
            compression=None if s.keyframe.compression == 1 else s.keyframe.compression.name.lower(),
        )
        for i, s in enumerate(file.series)
    ]


def arrays(path: str) -> list[ArrayInfo]:
    """Describe the series of a file without reading them."""
    with reading(path):
        if Path(path).is_dir():
            found = _folder(path).signal.data
            return [ArrayInfo("", found.shape, str(found.dtype))]
        with tifffile.TiffFile(path) as file:
            return _infos(file)
