"""HDF5 files: opened by path inside each task, labelled by the layouts of NeXus, EMD and HyperSpy."""

from __future__ import annotations

import math
import mmap
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from scanfold import _paths
from scanfold.conventions import InputError, fingerprint, is_url
from scanfold.io import emd, hyperspy, nexus
from scanfold.io.arrays import FileArray, Joined, Region, reading
from scanfold.io.heaps import require_sound
from scanfold.io.labels import MOST_COORDINATE, Contents, Coordinate, Signal, detector_dims, fill_dims
from scanfold.io.layout import Labels, attributes
from scanfold.io.listing import ArrayInfo, choose, several, shown

#: Filters that HDF5 and h5py bring along; all others come with hdf5plugin.
BUILTIN_FILTERS = {1, 2, 3, 4, 5, 6, 32000}
#: Boxes of this many bytes are mapped where they can be; copying smaller ones costs less than it spares.
MAPPED = 2**22
PARTS = re.compile(r"data_\d+$")


@dataclass(frozen=True)
class HDF5Array(FileArray):
    """A numeric dataset of an HDF5 file."""

    locking: bool | None = None
    plugin: bool = False

    def read(self, region: Region) -> np.ndarray:
        """Open the file, map or read one box, close it."""
        if self.plugin:
            load_filters(self.path, self.dataset)
        with opened(self.path, self.locking) as file:
            node = file[self.dataset]
            size = math.prod(s.stop - s.start for s in region) * node.dtype.itemsize
            # Without locks the file may be one that is being written: what a map shows would change.
            may_map = size >= MAPPED and self.locking is not False and not is_url(self.path)
            if may_map and node.shape == self.shape and _is_plain(file, node):
                return _mapped(self.path, node, node.id.get_offset(), region)
            return np.asarray(node[region])


def _is_plain(file: h5py.File, node: h5py.Dataset) -> bool:
    """Tell whether the bytes of a dataset lie in this file one after the other, as NumPy would hold them."""
    if file.mode != "r":  # this process writes it, and not all may have reached the file
        return False
    if node.file != file or node.dtype.kind not in "iufc" or not node.dtype.isnative:
        return False
    if node.id.get_type() != h5py.h5t.py_create(node.dtype):  # such as 12 bits in 16
        return False
    return node.id.get_offset() is not None  # None for chunks, other files, and what was never written


def _mapped(path: str, node: h5py.Dataset, first: int, region: Region) -> np.ndarray:
    """Map the rows of a box: no copy, and no waiting for the lock of the HDF5 library.

    What is written into the array stays in memory.
    """
    row = node.dtype.itemsize * math.prod(node.shape[1:])
    rows = range(node.shape[0])[region[0]]
    start = first + rows.start * row
    inside = start % mmap.ALLOCATIONGRANULARITY
    with open(path, "rb") as stream:
        if os.fstat(stream.fileno()).st_size < first + node.shape[0] * row:
            # To look at a page beyond the end would end the process.
            raise OSError("the file ends before the dataset does")
        pages = mmap.mmap(stream.fileno(), inside + len(rows) * row, access=mmap.ACCESS_COPY, offset=start - inside)
    if hasattr(pages, "madvise"):
        pages.madvise(mmap.MADV_WILLNEED)  # from a disc in one go, not page by page
    values = np.frombuffer(pages, node.dtype, len(rows) * row // node.dtype.itemsize, inside)
    return values.reshape(len(rows), *node.shape[1:])[(slice(None), *region[1:])]


@contextmanager
def opened(path: str, locking: bool | None) -> Iterator[h5py.File]:
    """Open a file for reading, or what is behind a URL; a locked one is an error that names both causes."""
    if is_url(path):
        with _paths.opened(path) as stream, h5py.File(stream, "r") as file:
            yield file
        return
    try:
        file = h5py.File(path, "r", locking=locking)
    except OSError as exc:
        if "unable to lock" in str(exc):
            raise InputError(
                f"{path!r} is locked: either another program is still writing it, or its file system (NFS, Lustre) "
                "has no locks. To read it as it stands, pass locking=False"
            ) from exc
        raise
    with file:
        yield file


@contextmanager
def examined(path: str, locking: bool | None) -> Iterator[h5py.File]:
    """Open a file to read its attributes, after a look at where they lie."""
    if not is_url(path):
        require_sound(path)
    with opened(path, locking) as file:
        yield file


def load_filters(path: str, dataset: str) -> None:
    """Register the compression filters of hdf5plugin in this process."""
    try:
        import hdf5plugin  # noqa: F401
    except ImportError:
        raise InputError(
            f"dataset {dataset!r} of {path!r} is compressed with a filter that HDF5 does not bring along; "
            'type: pip install "scanfold[hdf5]"'
        ) from None


def is_numeric(dtype: np.dtype[Any]) -> bool:
    """Tell whether threads may read it: no strings, no compounds, no objects."""
    return dtype.kind in "biufc"


def array(path: str, file: h5py.File, dataset: str, locking: bool | None) -> HDF5Array:
    """Make the lazy array of a dataset, after checking that it can be read here.

    Raises
    ------
    InputError
        If it is not numeric, needs a filter that is missing, or is a virtual dataset whose sources are missing.
    """
    node = file[dataset]
    if not is_numeric(node.dtype):
        kind = "strings" if h5py.check_string_dtype(node.dtype) else "records" if node.dtype.names else "no numbers"
        raise InputError(
            f"dataset {dataset!r} of {path!r} holds {kind} ({node.dtype}), not numbers; name another one "
            f"with dataset=: {shown(listing(file))}"
        )
    made = node.id.get_create_plist()
    codes = [made.get_filter(i)[0] for i in range(made.get_nfilters())]
    plugin = any(code not in BUILTIN_FILTERS for code in codes)
    if plugin:
        load_filters(path, dataset)
        for code in codes:
            if not h5py.h5z.filter_avail(code):
                raise InputError(
                    f"dataset {dataset!r} of {path!r} needs HDF5 filter {code}, which hdf5plugin does not have either; "
                    "set HDF5_PLUGIN_PATH to the folder of that filter"
                )
    folder = Path(path).parent.resolve()
    for i in range(made.get_external_count()):
        name = made.get_external(i)[0]
        if not (folder / os.fsdecode(name)).resolve().is_relative_to(folder):
            raise InputError(
                f"dataset {dataset!r} of {path!r} has its bytes in {os.fsdecode(name)!r}, outside of its folder; only "
                "files beside it are read so"
            )
    if node.is_virtual:
        for source in node.virtual_sources():
            if source.file_name != "." and (is_url(path) or not (Path(path).parent / source.file_name).exists()):
                raise InputError(
                    f"dataset {dataset!r} of {path!r} is put together from other files, and "
                    f"{source.file_name!r} is missing: copy it beside this file"
                )
    return HDF5Array(path, dataset, node.shape, node.dtype, locking, plugin)


def walk(group: h5py.Group, prefix: str = "", seen: set[Any] | None = None) -> Iterator[tuple[str, Any]]:
    """Yield every group and dataset once with its name, through links; a missing link yields its link object."""
    seen = set() if seen is None else seen
    for key in group:
        name = f"{prefix}{key}"
        link = group.get(key, getlink=True)
        try:
            node = group[key]
        except (KeyError, OSError):
            yield name, link
            continue
        info = h5py.h5o.get_info(node.id)
        if (info.fileno, info.addr) in seen:
            continue
        seen.add((info.fileno, info.addr))
        yield name, node
        if isinstance(node, h5py.Group):
            yield from walk(node, f"{name}/", seen)


def missing_file(link: Any) -> str | None:
    """Return the file that a dangling link points at."""
    return link.filename if isinstance(link, h5py.ExternalLink) else None


def listing(file: h5py.File) -> list[ArrayInfo]:
    """Describe every dataset of a file without reading it."""
    return [_info(name, node) for name, node in walk(file) if isinstance(node, h5py.Dataset)]


def _info(name: str, node: h5py.Dataset) -> ArrayInfo:
    made = node.id.get_create_plist()
    filters = [made.get_filter(i) for i in range(made.get_nfilters())]
    known = {1: "gzip", 2: "shuffle", 3: "fletcher32", 4: "szip", 32000: "lzf", 32001: "blosc", 32008: "bitshuffle"}
    names = [known.get(f[0], f[3].decode(errors="replace") or str(f[0])) for f in filters]
    return ArrayInfo(
        name=name,
        shape=tuple(node.shape or ()),
        dtype=str(node.dtype),
        chunks=node.chunks,
        compression=" + ".join(names) or None,
        units=attributes(node).get("units"),
        numeric=is_numeric(node.dtype),
    )


def labels_of(group: h5py.Group, at: str) -> Labels | None:
    """Read a group, found at this name of the file, in the first layout that it follows."""
    return nexus.labels(group, at) or emd.labels(group, at) or hyperspy.labels(group, at) or _numbered(group, at)


def _numbered(group: h5py.Group, at: str) -> Labels | None:
    """Recognise a master file: a group of links ``data_000001, data_000002, …`` that are one stack."""
    parts = sorted(key for key in group if PARTS.match(key))
    if not parts:
        return None
    for key in parts:
        try:
            group[key]
        except (KeyError, OSError):
            found = missing_file(group.get(key, getlink=True))
            raise InputError(
                f"{group.file.filename!r} is a master file, and the linked file {found!r} of its {at}/{key} is "
                "missing: copy it beside the master file"
            ) from None
    shapes = [getattr(group[key], "shape", None) or () for key in parts]
    if len({shape[1:] for shape in shapes}) > 1 or len(shapes[0]) < 2:
        return None
    return Labels(at, [None] * len(shapes[0]), parts=[f"{at}/{key}" for key in parts])


def find(path: str, file: h5py.File, dataset: str | None) -> Labels:
    """Find the array that is meant, and its labels.

    Raises
    ------
    InputError
        If there is no such dataset, or none is obviously meant; it lists them.
    """
    if dataset is not None:
        return _named(path, file, dataset)
    default = nexus.default(file)
    found = labels_of(file[default], default) if default else None
    if found:
        return found
    candidates = [labels for labels in [labels_of(file, "")] if labels]
    missing = []
    for name, node in walk(file):
        if isinstance(node, h5py.Group):
            candidates += [labels for labels in [labels_of(node, f"/{name}")] if labels]
        elif not isinstance(node, h5py.Dataset):
            missing.append(missing_file(node) or name)
    best = max((len(c.dims) for c in candidates), default=0)
    candidates = [c for c in candidates if len(c.dims) == best]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        names = {c.dataset.strip("/") for c in candidates}
        raise several([a for a in listing(file) if a.name in names] or listing(file), path)
    try:
        return _plain(file, f"/{choose(listing(file), path)}")
    except InputError as exc:
        lost = f". Linked files that are missing: {', '.join(map(repr, missing))}" if missing else ""
        raise InputError(f"{exc}{lost}") from None


def _named(path: str, file: h5py.File, dataset: str) -> Labels:
    name = dataset.strip("/")
    try:
        node = file[name] if name else file
    except (KeyError, OSError, ValueError):
        link = file.get(name, getlink=True) if name in file else None
        if missing_file(link):
            raise InputError(
                f"dataset {dataset!r} of {path!r} is in {missing_file(link)!r}, which is missing"
            ) from None
        raise InputError(f"no dataset {dataset!r} in {path!r}; it has {shown(listing(file))}") from None
    if isinstance(node, h5py.Dataset):
        parent = f"/{name}".rpartition("/")[0]
        labels = labels_of(file[parent] if parent else file, parent)
        return labels if labels and labels.dataset == f"/{name}" else _plain(file, f"/{name}")
    labels = labels_of(node, f"/{name}" if name else "")
    if labels:
        return labels
    inside = [a for a in listing(file) if a.name.startswith(f"{name}/") or not name]
    return _plain(file, f"/{choose(inside, f'{path}::{name}')}")


def _plain(file: h5py.File, name: str) -> Labels:
    """Label a dataset by its dimension scales, where it has any."""
    node = file[name]
    names: list[str | None] = []
    coords: dict[str, tuple[tuple[int, ...], str]] = {}
    for i, dim in enumerate(node.dims):
        scale = dim[0] if len(dim) else None
        title = scale.name.rsplit("/", 1)[-1] if scale is not None else ""
        names.append(dim.label or title or None)
        # The scale of a dataset behind an external link has its name in the other file.
        if names[-1] and scale is not None and scale.shape == (node.shape[i],) and node.file == file:
            coords[str(names[-1])] = ((i,), scale.name)
    return Labels(name, names, coords=coords)


def contents(path: str, dataset: str | None, locking: bool | None) -> Contents:
    """Open a file's metadata: the signal, its dimensions' names and its coordinates."""
    with reading(path, dataset), examined(path, locking) as file:
        labels = find(path, file, dataset)
        first = (labels.parts or [labels.dataset])[0]
        name = labels.name or labels.dataset.rsplit("/", 1)[-1] or "data"
        node = file[first]
        data: FileArray = array(path, file, first, locking)
        if not node.shape or 0 in node.shape:
            raise InputError(f"dataset {first!r} of {path!r} has shape {node.shape}: there is no scan in it")
        if labels.parts:
            data = Joined.of(path, labels.dataset, [array(path, file, p, locking) for p in labels.parts])
        dims = fill_dims(labels.dims, labels.detector)
        detector = detector_dims(dims) if labels.detector is None else labels.detector
        signal = Signal(name, data, dims, attributes(node) | dict(labels.attrs), node.chunks)
        coords = {
            t: c for t, (axes, at) in labels.coords.items() if (c := _coordinate(path, file, at, dims, axes, data))
        }
        coords |= {dims[a]: Coordinate((dims[a],), v, attrs) for a, (v, attrs) in labels.values.items()}
        others = []
        for title, at in labels.others.items():
            if at in file and file[at].shape == data.shape and is_numeric(file[at].dtype):
                others.append(
                    Signal(title, array(path, file, at, locking), dims, attributes(file[at]), file[at].chunks)
                )
        return Contents(signal, detector, coords, tuple(others), identity=_linked(file, labels.parts))


def _linked(file: h5py.File, parts: list[str]) -> dict[str, Any]:
    """Identify the files that a master file links to."""
    files = dict.fromkeys(file[p].file.filename for p in parts if file[p].file.filename != file.filename)
    return {"linked": [fingerprint(f) for f in files]} if files else {}


def _coordinate(
    path: str, file: h5py.File, at: str, dims: tuple[str, ...], axes: tuple[int, ...], data: FileArray
) -> Coordinate | None:
    """Read the coordinates of some dimensions; bin edges become centres; what does not fit is left out."""
    node = file[at]
    shape = tuple(data.shape[a] for a in axes)
    attrs = attributes(node)
    if node.size * node.dtype.itemsize > MOST_COORDINATE:
        raise InputError(f"coordinate {at!r} of {path!r} claims {node.shape} values; the file's header is wrong")
    if not is_numeric(node.dtype) and h5py.check_string_dtype(node.dtype) is None:
        return None
    with reading(path, at):
        values = np.asarray(node[()]) if is_numeric(node.dtype) else np.asarray(node.asstr()[()], object)
    if len(shape) == 1 and values.shape == (shape[0] + 1,) and is_numeric(values.dtype):
        values = 0.5 * (values[:-1] + values[1:])
        attrs = attrs | {"comment": "centres of the bin edges in the file"}
    if values.shape != shape:
        return None
    return Coordinate(tuple(dims[a] for a in axes), values, attrs)


def arrays(path: str) -> list[ArrayInfo]:
    """Describe every dataset of a file without reading it."""
    with reading(path), examined(path, None) as file:
        return listing(file)
