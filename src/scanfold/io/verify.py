"""What a file itself says of its content: checksums of its chunks, or a hash in a file beside it."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

from scanfold._paths import zarr_options
from scanfold.conventions import InputError, is_url
from scanfold.io.arrays import reading

#: Files beside a file that hold its hash, as ``sha256sum`` and its kin write them, by their suffix.
HASHES = ("sha256", "sha512", "sha1", "md5")
#: Codecs of zarr that notice a changed byte (zstd only where its checksum is on).
CHECKED = {"crc32c", "gzip", "zlib", "numcodecs.zlib", "numcodecs.gzip", "numcodecs.crc32", "numcodecs.fletcher32"}


def verify(path: str) -> None:
    """Read all that has a checksum once, and compare.

    Parameters
    ----------
    path : str
        A file, folder or URL.

    Raises
    ------
    InputError
        Naming the chunk, member or file whose content is not what was written.

    Warns
    -----
    UserWarning
        If there is no checksum: a changed byte would go unnoticed.
    """
    file = Path(path)
    checks = 0 if is_url(path) else _beside(file)
    if file.suffix == ".zarr" if is_url(path) else file.is_dir():
        checks += _zarr(path)
    elif is_url(path):
        pass  # a file behind a URL has its hash at the server
    elif h5py.is_hdf5(path):
        checks += _hdf5(path)
    elif zipfile.is_zipfile(path):
        checks += _zip(path)
    if not checks:
        warnings.warn(
            f"{path!r} holds no checksums, so that nobody can tell whether it is what was written; "
            f"a hash beside it can: sha256sum {file.name} > {file.name}.sha256",
            stacklevel=3,
        )


def _changed(path: str, what: str) -> InputError:
    return InputError(f"{what} of {path!r} is not what was written; fetch or make the file again")


def _beside(file: Path) -> int:
    checks = 0
    for name in HASHES:
        beside = file.with_name(f"{file.name}.{name}")
        if beside.is_file() and file.is_file():
            words = beside.read_text(encoding="utf-8", errors="replace").split()
            with file.open("rb") as stream:
                found = hashlib.file_digest(stream, name).hexdigest()
            if not words or words[0].lower() != found:
                raise _changed(str(file), f"the content (its hash is not that of {beside.name})")
            checks += 1
    return checks


def _zip(path: str) -> int:
    with reading(path), zipfile.ZipFile(path) as archive:
        bad = archive.testzip()
        if bad is not None:
            raise _changed(path, f"member {bad!r}")
        return len(archive.namelist())


def _hdf5(path: str) -> int:
    from scanfold.io.hdf5 import walk

    checks = 0
    with reading(path), h5py.File(path, "r") as file:
        for name, node in walk(file):
            if not isinstance(node, h5py.Dataset) or node.chunks is None:
                continue
            if not (node.fletcher32 or node.compression == "gzip"):
                continue
            for region in node.iter_chunks():
                checks += 1
                try:
                    node[region]
                except (OSError, RuntimeError) as error:
                    at = [s.start // c for s, c in zip(region, node.chunks, strict=True)]
                    raise _changed(path, f"chunk {at} of dataset {name!r}") from error
    return checks


def _zarr(path: str) -> int:
    import zarr

    from scanfold.io.zarr import arrays_of, store

    checks = 0
    with reading(path):
        found = arrays_of(zarr.open(store(path), mode="r", **zarr_options(path)))
    written = _written_whole(path)
    for name, array in found.items():
        whole, checked = name in written, _has_checksum(array)
        for index, region in _chunks(array) if whole or checked else ():
            checks += 1
            if whole and not Path(path, name, array.metadata.encode_chunk_key(index)).is_file():
                raise InputError(f"chunk {list(index)} of array {name!r} of {path!r} is missing; run it again")
            try:
                array[region]
            except Exception as error:
                raise _changed(path, f"chunk {list(index)} of array {name!r}") from error
    return checks


def _written_whole(path: str) -> set[str]:
    """Return the arrays of a finished store of ours: a run writes every chunk of those."""
    if is_url(path):
        return set()
    try:
        root = json.loads(Path(path, "zarr.json").read_text())["attributes"]
        groups = json.loads(Path(path, ".scanfold/plan.json").read_text())["plan"]
    except (OSError, ValueError, KeyError):
        return set()
    return {name for group in groups for name in group["names"]} if root.get("scanfold_complete") else set()


def _has_checksum(array: Any) -> bool:
    for codec in array.compressors:
        described = codec.to_dict() if hasattr(codec, "to_dict") else codec.get_config()
        name = described.get("name") or described.get("id")
        settings = described.get("configuration", described)
        if name in CHECKED or (name == "zstd" and settings.get("checksum")):
            return True
    return False


def _chunks(array: Any) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    counts = [math.ceil(n / c) for n, c in zip(array.shape, array.chunks, strict=True)]
    for index in itertools.product(*map(range, counts)):
        yield index, tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, array.chunks, strict=True))
