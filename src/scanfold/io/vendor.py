"""The formats of microscope makers, through RosettaSciIO (the extra ``vendor``)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from scanfold.conventions import InputError, fingerprint
from scanfold.io.arrays import FileArray, Region, reading
from scanfold.io.hyperspy import from_axes
from scanfold.io.labels import Contents, Coordinate, Signal, fill_dims
from scanfold.io.listing import ArrayInfo, named

#: What RosettaSciIO reads, by suffix; formats with a reader of ours and CSV are left out.
SUFFIXES = frozenset(
    (
        "app5 ali asw bcf blo de5 dens dm3 dm4 eds elid emd emi ems emsa img impulse lsd mas mib mrc mrcz msa prz pro "
        "pts rpl sac sbc ser spc spd spx sur tvf tvips unf wdf xml"
    ).split()
)


@lru_cache(maxsize=4)
def _load(path: str, mtime_ns: int) -> list[dict[str, Any]]:
    """Open a file with the first reader for its suffix that succeeds; parsing is kept, once per process."""
    try:
        from rsciio import IO_PLUGINS
    except ImportError:
        raise InputError(
            f'{path!r} is a vendor format that RosettaSciIO reads; type: pip install "scanfold[vendor]"'
        ) from None
    suffix = Path(path).suffix[1:]
    if suffix.lower() == "blo":
        _check_blockfile(Path(path))
    readers = [p for p in IO_PLUGINS if suffix.lower() in [e.lower() for e in p["file_extensions"]]]
    problems = []
    for reader in readers:
        try:
            loaded: list[dict[str, Any]] = import_module(reader["api"]).file_reader(path, lazy=True)
            if loaded:
                return loaded
            problems.append(f"{reader['name']}: found no data")
        except MemoryError:
            raise
        except ImportError as exc:
            problems.append(
                f"{reader['name']} needs the package {exc.name!r}; "
                'type: pip install "rosettasciio[blockfile,eds-stream,mrcz]"'
            )
        except Exception as exc:
            problems.append(f"{reader['name']}: {type(exc).__name__}: {exc}")
    raise InputError(f"cannot read {path!r}: {'; '.join(problems) or f'RosettaSciIO has no reader for .{suffix}'}")


def _check_blockfile(path: Path) -> None:
    """Raise if a header claims more frames than the file has bytes for: their chunks would be listed for hours."""
    with path.open("rb") as file:
        header = file.read(28)
    if len(header) == 28:
        start, side, columns, rows = struct.unpack("<12xI4xH2xHH", header)
        claimed, size = start + rows * columns * (6 + side**2), path.stat().st_size
        if claimed > size:
            raise InputError(
                f"{str(path)!r} has {size:,} bytes and claims {rows:,} x {columns:,} frames of {side:,} x {side:,} "
                f"pixels, which take {claimed:,}; it was cut off, or its header is wrong"
            )


@dataclass(frozen=True)
class VendorArray(FileArray):
    """One signal of a file that RosettaSciIO reads."""

    number: int
    mtime_ns: int

    def read(self, region: Region) -> np.ndarray:
        """Read one box in this thread, whatever scheduler RosettaSciIO's own array would use."""
        data = _load(self.path, self.mtime_ns)[self.number]["data"][region]
        return np.asarray(data.compute(scheduler="synchronous") if hasattr(data, "compute") else data)


def _open(path: str) -> tuple[list[dict[str, Any]], list[ArrayInfo], int]:
    mtime_ns = int(fingerprint(path)["mtime_ns"])
    loaded = _load(path, mtime_ns)
    titles = [str(d.get("metadata", {}).get("General", {}).get("title") or "") for d in loaded]
    infos = []
    for i, (signal, title) in enumerate(zip(loaded, titles, strict=True)):
        data = signal["data"]
        name = title if title and titles.count(title) == 1 else str(i)
        infos.append(
            ArrayInfo(
                name,
                tuple(data.shape),
                str(data.dtype),
                getattr(data, "chunksize", None),
                numeric=data.dtype.kind in "biufc",
            )
        )
    return loaded, infos, mtime_ns


def arrays(path: str) -> list[ArrayInfo]:
    """Describe the signals of a file."""
    with reading(path):
        return _open(path)[1]


def contents(path: str, dataset: str | None, locking: bool | None) -> Contents:
    """Open a file's metadata: axes with their names, units and scales become coordinates."""
    with reading(path, dataset):
        loaded, infos, mtime_ns = _open(path)
        name = named(infos, path, dataset)
        number = [i.name for i in infos].index(name)
        signal, info = loaded[number], infos[number]
        if not info.numeric or not info.shape or 0 in info.shape:
            raise InputError(f"signal {name!r} of {path!r} is {info.shape} {info.dtype}, which is no numeric scan")
        titles, detector, values = from_axes(signal["axes"], info.shape)
        dims = fill_dims(titles, detector)
        coords = {dims[i]: Coordinate((dims[i],), v, attrs) for i, (v, attrs) in values.items()}
        data = VendorArray(path, name, info.shape, signal["data"].dtype, number, mtime_ns)
        return Contents(Signal("data", data, dims, {}, info.chunks), detector, coords)
