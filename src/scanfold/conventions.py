"""What every room agrees on: dimension roles, variable specs, errors, configurations, provenance.

An operation declares each variable once, as a `Var`; the spec then makes the
output's attributes, checks inputs, and draws the reference table.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import os
import socket
import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

SCAN_DIMS = ("y", "x", "position", "group", "cell", "channel")
DETECTOR_DIMS = ("ky", "kx", "energy", "wavelength", "tof", "time")

#: Version of the layout of the stores that `scanfold.save` writes.
STORE_FORMAT = 1


class ScanError(Exception):
    """Base of every error that scanfold raises on purpose."""


class InputError(ScanError, ValueError):
    """A value from the user that cannot be used; raised before any computing."""


class ReadError(OSError, InputError):
    """Data that the system could not read when it was asked for; an OSError, so that a run tries again."""


class InputTypeError(ScanError, TypeError):
    """An object of the wrong kind; raised before any computing."""


class RunError(ScanError, RuntimeError):
    """A run that could not finish; what was finished stays in its store."""


def unknown(kind: str, name: object, valid: Iterable[str]) -> InputError:
    """Make the error for a name that is not among the valid ones.

    Examples
    --------
    >>> print(unknown("engine", "bach", ["auto", "batch", "lmfit"]))
    unknown engine 'bach'; did you mean 'batch'? Valid: auto, batch, lmfit
    """
    names = [str(v) for v in valid]
    close = difflib.get_close_matches(str(name), names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return InputError(f"unknown {kind} {name!r}{hint} Valid: {', '.join(names) or '(none)'}")


def require_bool(**given: object) -> None:
    """Raise unless each of these options is True or False.

    Examples
    --------
    >>> require_bool(covariance=True)
    """
    for name, value in given.items():
        if not isinstance(value, bool | np.bool_):
            raise InputTypeError(f"{name} is {value!r}; expected True or False")


def require_word(kind: str, value: object, valid: Iterable[str]) -> None:
    """Raise unless an option is one of these words.

    Examples
    --------
    >>> require_word("policy", "nearest", ("random", "nearest"))
    """
    if not isinstance(value, str) or value not in valid:
        raise unknown(kind, value, valid)


def require_number(name: str, value: object) -> float:
    """Return an option as a number; raise unless it is one (infinite and NaN are).

    Examples
    --------
    >>> require_number("wlmax", 6)
    6.0
    """
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise InputTypeError(f"{name} is {value!r}; expected a number")
    try:
        return float(value)
    except OverflowError:
        raise InputError(f"{name} is too large a number") from None


def one_of(*valid: str) -> Callable[[object], str]:
    """Return the function that takes one of these words, for tables of options.

    Examples
    --------
    >>> one_of("hard", "soft")("soft")
    'soft'
    """

    def take(value: object) -> str:
        require_word("word", value, valid)
        return str(value)

    return take


#: Characters of a configuration, and how deeply it may be nested.
MOST_YAML, DEEPEST_YAML = 2**20, 20


def read_yaml(path: str | os.PathLike[str]) -> Any:
    """Read a configuration in YAML or JSON: plain values, lists and mappings, nothing that runs or refers back.

    Raises
    ------
    InputError
        If there is no such file, or it holds anything else.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "run.yaml"
    >>> _ = path.write_text("dim: energy")
    >>> read_yaml(path)
    {'dim': 'energy'}
    """
    import yaml

    class Plain(yaml.SafeLoader):
        """The safe loader of PyYAML without what can grow: aliases, and lists in lists in lists."""

        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise InputError("it refers back to a part of itself (*name); write it out")
            self.depth += 1
            if self.depth > DEEPEST_YAML:
                raise InputError(f"it is nested more than {DEEPEST_YAML} deep")
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

    where = f"cannot read the configuration {path}"
    try:
        if os.stat(path).st_size > MOST_YAML:
            raise InputError(f"it is larger than {MOST_YAML:,} bytes")
        return yaml.load(Path(path).read_text(encoding="utf-8"), Plain)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    except OSError as error:
        raise InputError(f"{where}: {error.strerror}") from None
    except Exception as error:  # of many kinds, for a number of 5,000 digits or a 99th of May
        text = " ".join(str(error).split())
        raise InputError(f"{where}: it is not plain YAML: {text[:300]}") from None


@dataclass(frozen=True, slots=True)
class Var:
    """The spec of one variable.

    Parameters
    ----------
    name : str
        Name in the Dataset.
    dims : tuple of str
        Dimensions; ``"..."`` stands for all scan dimensions of the input.
    dtype : str
        NumPy dtype name of the stored values.
    long_name : str
        What it is, in words.
    units : str, optional
        Pint-parsable units; None leaves the attribute out.
    flags : mapping of str to int, optional
        Meanings and values of a CF flag variable.
    ancillary : tuple of str
        Names of the variables that qualify this one.

    Examples
    --------
    >>> Var("success", ("...",), "bool", "the optimiser converged").attrs()
    {'long_name': 'the optimiser converged'}
    """

    name: str
    dims: tuple[str, ...]
    dtype: str
    long_name: str
    units: str | None = None
    flags: Mapping[str, int] | None = field(default=None, hash=False)
    ancillary: tuple[str, ...] = ()

    def attrs(self) -> dict[str, Any]:
        """Return the attributes of an output made from this spec."""
        attrs: dict[str, Any] = {"long_name": self.long_name}
        if self.units is not None:
            attrs["units"] = self.units
        if self.flags is not None:
            attrs["flag_values"] = [int(v) for v in self.flags.values()]
            attrs["flag_meanings"] = " ".join(self.flags)
        if self.ancillary:
            attrs["ancillary_variables"] = " ".join(self.ancillary)
        return attrs

    def make(self, data: xr.DataArray) -> xr.DataArray:
        """Return `data` under this name, dtype and attributes, with no others."""
        out = data.astype(self.dtype) if data.dtype != np.dtype(self.dtype) else data.copy(deep=False)
        out.attrs = self.attrs()
        return out.rename(self.name)


def table(variables: Sequence[Var]) -> str:
    """Render specs as a reStructuredText table for the reference.

    Examples
    --------
    >>> print(table([Var("nfev", ("...",), "int32", "function evaluations")]))
    ==== ==== ===== ===== ====================
    name dims dtype units meaning
    ==== ==== ===== ===== ====================
    nfev ...  int32       function evaluations
    ==== ==== ===== ===== ====================
    """
    head = ("name", "dims", "dtype", "units", "meaning")
    rows = [head, *((v.name, ", ".join(v.dims), v.dtype, v.units or "", v.long_name) for v in variables)]
    widths = [max(len(r[i]) for r in rows) for i in range(len(head))]
    rule = " ".join("=" * w for w in widths)
    lines = [" ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in rows]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule])


def flags(variable: xr.DataArray) -> dict[str, int]:
    """Return the meanings and values of a CF flag variable.

    Raises
    ------
    InputError
        If the variable carries no flags.
    """
    try:
        values, names = np.atleast_1d(variable.attrs["flag_values"]), str(variable.attrs["flag_meanings"]).split()
    except KeyError:
        raise InputError(f"variable {variable.name!r} has no flag_values and flag_meanings attributes") from None
    return {name: int(value) for name, value in zip(names, values, strict=True)}


def primary(obj: xr.Dataset | xr.DataArray) -> xr.DataArray:
    """Return the variable an operation works on: the array itself, or a Dataset's primary one.

    Raises
    ------
    InputError
        If a Dataset has several variables and names none in ``attrs["primary"]``.
    InputTypeError
        If `obj` is no xarray object.
    """
    if isinstance(obj, xr.DataArray):
        return obj
    if not isinstance(obj, xr.Dataset):
        raise InputTypeError(f"expected an xarray DataArray or Dataset, found {type(obj).__name__}")
    name = obj.attrs.get("primary")
    if name is None and len(obj.data_vars) == 1:
        name = next(iter(obj.data_vars))
    if name is None:
        raise InputError(
            f"the Dataset names no primary variable; pass one of its variables: {', '.join(map(str, obj.data_vars))}"
        )
    if name not in obj:
        raise unknown("primary variable", name, map(str, obj.data_vars))
    found: xr.DataArray = obj[name]
    return found


def require_dim(array: xr.DataArray, dim: str) -> None:
    """Raise unless `dim` is a dimension of `array`."""
    if not isinstance(dim, Hashable) or dim not in array.dims:
        raise unknown("dimension", dim, map(str, array.dims))


def place() -> str:
    """Return where this runs, for messages: the address of the Dask worker and its host, nothing elsewhere.

    Examples
    --------
    >>> place()
    ''
    """
    distributed = sys.modules.get("distributed")
    try:
        worker = distributed.get_worker() if distributed is not None else None
    except ValueError:
        worker = None
    return f" on worker {worker.address} ({socket.gethostname()})" if worker is not None else ""


def fingerprint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what identifies an input file: absolute path, size, modification time.

    A directory (a zarr store) has the total size and the latest time of all its files, so that a changed
    chunk is a changed input. What is behind a URL has the tag (ETag) or time that its server gives, a store there
    those of all its objects; a web server, which cannot list them, those of the store's metadata only.

    Raises
    ------
    InputError
        If something in a zarr store is a link to a place outside of it: what it shows would not be the store's.
    """
    if is_url(path):
        return _remote_fingerprint(str(path))
    resolved = Path(path).resolve()
    stats = [entry.stat() for entry in _files(resolved, resolved)] if resolved.is_dir() else [resolved.stat()]
    return {
        "path": str(resolved),
        "size": sum(s.st_size for s in stats),
        "mtime_ns": max((s.st_mtime_ns for s in stats), default=0),
    }


def is_url(path: object) -> bool:
    """Tell whether this is a URL, not a path.

    Examples
    --------
    >>> is_url("s3://bucket/scan.zarr"), is_url("/data/scan.zarr")
    (True, False)
    """
    return "://" in str(path)


def _remote_fingerprint(url: str) -> dict[str, Any]:
    import fsspec

    system = fsspec.core.url_to_fs(url, use_listings_cache=False)[0]
    found = {}
    if not url.startswith("http"):
        found = system.find(url, detail=True)
    else:
        for each in (url, f"{url}/zarr.json", f"{url}/.zmetadata"):
            with contextlib.suppress(FileNotFoundError):
                found[each] = system.info(each)
    tags = sorted(f"{name} {_tag(about)}" for name, about in found.items())
    return {
        "path": url,
        "size": sum(about.get("size") or 0 for about in found.values()),
        "etag": tags[0].partition(" ")[2] if len(tags) == 1 else hashlib.sha256("\n".join(tags).encode()).hexdigest(),
    }


def _tag(about: Mapping[str, Any]) -> str:
    """Return what changes when an object does, by what fsspec says of it."""
    names = ("ETag", "etag", "md5Hash", "Last-Modified", "LastModified", "mtime", "created")
    return str(next((about[name] for name in names if about.get(name)), about.get("size")))


#: What makes a folder a zarr store.
ZARR_FILES = ("zarr.json", ".zgroup", ".zarray", ".zmetadata")


def _files(folder: str | Path, root: Path) -> Iterator[os.DirEntry[str]]:
    """Yield the files below a folder; links to folders are not followed, since they may lead in circles."""
    store = any((root / name).exists() for name in ZARR_FILES)
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink() and store and not Path(entry.path).resolve().is_relative_to(root):
                raise InputError(
                    f"{entry.path!r} is a link to {os.path.realpath(entry.path)!r}, outside of the store "
                    f"{str(root)!r}; put a copy in its place"
                )
            if entry.is_dir(follow_symlinks=False):
                yield from _files(entry.path, root)
            elif entry.is_file():
                yield entry


def describe_input(array: xr.DataArray) -> dict[str, Any]:
    """Describe an input for the record: its file, and a token of everything done to it since.

    The token is dask's name for a lazy array (a hash of how it is made) and a
    hash of the values otherwise, so that a changed selection or a changed
    value changes it.
    """
    from dask.base import tokenize

    token = array.data.name if array.chunks is not None else tokenize(array.values)
    described: dict[str, Any] = {
        "name": array.name,
        "dims": list(map(str, array.dims)),
        "shape": list(array.shape),
        "token": token,
    }
    source = array.attrs.get("source")
    if source is not None:
        described["source"] = json.loads(source)
    return described


@cache
def versions() -> Mapping[str, str]:
    """Return the versions that the numbers of a run depend on."""
    return {name: metadata.version(name) for name in ("scanfold", "numpy", "scipy", "numba", "lmfit")}


def record(operation: str, inputs: Mapping[str, xr.DataArray], options: Mapping[str, Any], **more: Any) -> str:
    """Return the provenance of an operation, for ``attrs["provenance"]``.

    It is JSON, holds no array, and is what a resumed run is compared with.
    """
    described = {name: describe_input(array) for name, array in inputs.items()}
    content = {"operation": operation, "inputs": described, "options": dict(options), "versions": versions(), **more}
    return json.dumps(content, sort_keys=True, default=str)


def provenance(ds: xr.Dataset) -> dict[str, Any]:
    """Return the recorded provenance of a Dataset, empty if it has none."""
    return dict(json.loads(ds.attrs.get("provenance", "{}")))
