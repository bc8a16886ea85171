"""What a user passes as counts: globs, folders, files, lists, dicts, DataFrames, stacks; paired by index."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from scanfold.bragg.naming import Key, Named, keys_of
from scanfold.conventions import InputError, InputTypeError
from scanfold.io.formats import existing
from scanfold.plot.positions import rows_kept

_TABLES = (".csv", ".txt", ".dat", ".tsv", ".asc")
#: Dims of a stack that are positions; the one other dim is the time of flight.
_PLACES = ("y", "x", "position", "group")
_UNNAMED = ("position", "ky", "kx")
#: Bytes of a block of a stack of frames.
_BLOCK = 2**26


@dataclass(frozen=True)
class Tables:
    """Spectra one by one: paths, DataFrames or arrays, and their keys, None for one that serves all groups."""

    items: list[Any]
    named: Named | None

    def keyed(self) -> dict[Key, Any]:
        """Return the items by their keys."""
        keys: list[Key] = self.named.keys if self.named is not None else []
        return dict(zip(keys, self.items, strict=True))


@dataclass(frozen=True)
class Stack:
    """Spectra of a grid, a line or named groups in one array, time of flight last."""

    array: xr.DataArray


def source_of(given: Any, role: str, pattern: str = "auto") -> Tables | Stack:
    """Recognise what was passed.

    Raises
    ------
    InputError, InputTypeError
        If nothing is there, or it is nothing that can be read.
    """
    if isinstance(given, xr.Dataset | xr.DataArray):
        from scanfold.conventions import primary

        array = primary(given)
        return Tables([array], None) if array.ndim == 1 else Stack(_labelled(array, role))
    if isinstance(given, Mapping):
        _require_some(given, role)
        return Tables(list(given.values()), Named(_same_kind([_key(k) for k in given], role)))
    if isinstance(given, str | os.PathLike):
        return _of_path(os.fspath(given), role, pattern)
    if isinstance(given, list | tuple):
        _require_some(given, role)
        paths = [os.fspath(g) for g in given if isinstance(g, str | os.PathLike)]
        if len(paths) == len(given):
            return _of_files([existing(p) for p in paths], pattern, always=True)
        return Tables(list(given), Named(list(range(len(given)))))
    if isinstance(given, np.ndarray) and given.ndim != 1:
        raise InputTypeError(
            f"{role} is an array of shape {given.shape}; name its dims: xr.DataArray({role}, dims=('y', 'x', 'tof'))"
        )
    if isinstance(given, np.ndarray) or hasattr(given, "columns"):
        return Tables([given], None)
    raise InputTypeError(
        f"{role} is a {type(given).__name__}; expected a glob, folder, file, list, dict, DataFrame or array"
    )


def _require_some(given: Any, role: str) -> None:
    if not len(given):
        raise InputError(f"{role} is an empty {type(given).__name__}; expected at least one spectrum")


def _key(key: Any) -> Key:
    """Return a key as given in a dict or in indices=: a pair (row, column), a number, or a name."""
    if isinstance(key, tuple | list) and len(key) == 2:
        return int(key[0]), int(key[1])
    if isinstance(key, int | np.integer) and not isinstance(key, bool):
        return int(key)
    if not isinstance(key, str):
        raise InputTypeError(f"index {key!r} is a {type(key).__name__}; expected (row, column), a number or a name")
    pair = re.fullmatch(r"\s*\(\s*(\d+)\s*,\s*(\d+)\s*\)\s*", key)
    if pair:
        return int(pair[1]), int(pair[2])
    return int(key) if key.strip().isdigit() else key


def _same_kind(keys: list[Key], role: str) -> list[Key]:
    if len({type(k) for k in keys}) > 1:
        raise InputError(f"the indices of {role} mix pairs, numbers and names: {keys[:4]}; use one kind")
    if len(set(keys)) < len(keys):
        raise InputError(f"an index of {role} comes twice: {next(k for k in keys if keys.count(k) > 1)!r}")
    return keys


def _of_path(path: str, role: str, pattern: str) -> Tables | Stack:
    name = os.path.expanduser(path)
    if any(c in name for c in "*?[") and not os.path.exists(name):
        found = [os.path.abspath(p) for p in sorted(glob.glob(name, recursive=True)) if os.path.isfile(p)]
        if not found:
            raise InputError(f"{role}: no file matches {path!r}{_near(name)}")
        return _of_files(found, pattern, always=role == "signal")
    name = existing(name)
    if os.path.isdir(name):
        files = [e.path for e in sorted(os.scandir(name), key=lambda e: e.name) if e.name.lower().endswith(_TABLES)]
        if files:
            return _of_files(files, pattern, always=role == "signal")
    elif name.lower().endswith(_TABLES):
        return Tables([name], Named(keys_of([name], pattern).keys) if role == "signal" else None)
    return Stack(_labelled(_open(name), role))


def _near(pattern: str) -> str:
    folder = os.path.dirname(pattern) or "."
    if any(c in folder for c in "*?["):
        return ""
    if not os.path.isdir(folder):
        return f": there is no folder {folder!r}"
    some = sorted(os.listdir(folder))[:4]
    return f"; {folder!r} holds {', '.join(some)}{' …' if len(some) == 4 else ''}" if some else f"; {folder!r} is empty"


def _of_files(paths: list[str], pattern: str, always: bool) -> Tables:
    """Return files with their keys; one open beam alone serves all groups."""
    if len(paths) == 1 and not always:
        return Tables(paths, None)
    named = keys_of(paths, pattern)
    if named.kind == "line" or named.kind == "grid":
        order = sorted(range(len(paths)), key=lambda i: named.keys[i])  # type: ignore[arg-type,return-value]
    else:
        order = list(range(len(paths)))
    return Tables([paths[i] for i in order], replace(named, keys=[named.keys[i] for i in order]))


def _open(path: str) -> xr.DataArray:
    """Open a stack with the time of flight whole in each block."""
    from scanfold.conventions import primary
    from scanfold.io import open_scan

    array = primary(open_scan(path))
    axis = _tof_dim(array, path)
    if len(array.chunksizes.get(axis, ())) < 2:
        return array
    rows = next(d for d in array.dims if d != axis)
    each = array.nbytes // array.sizes[rows]
    chunks = {str(d): -1 for d in array.dims} | {str(rows): max(1, min(array.sizes[rows], _BLOCK // max(each, 1)))}
    return primary(open_scan(path, chunks=chunks))


def _tof_dim(array: xr.DataArray, what: str) -> str:
    """Return the dim of the time of flight: the one that is no position, or the first of an unnamed stack of frames."""
    if tuple(array.dims) == _UNNAMED:
        return "position"
    others = [str(d) for d in array.dims if d not in _PLACES]
    if len(others) != 1 or not 2 <= array.ndim <= 3:
        raise InputError(
            f"{what} has the dims {tuple(array.dims)}; expected positions (y, x, position or group) and one other, the "
            "time of flight. Open it with names: scanfold.open_scan(path, dims=('y', 'x', 'tof'))"
        )
    return others[0]


def _labelled(array: xr.DataArray, role: str) -> xr.DataArray:
    """Return a stack with dims (scan dims, tof), tof in one chunk, and its own axis as it is."""
    axis = _tof_dim(array, role)
    if array.dtype.kind not in "iuf":
        raise InputTypeError(f"{role} has dtype {array.dtype}; expected counts")
    if array.sizes[axis] == 0:
        raise InputError(f"{role} has no bins along {axis!r}; expected counts over the time of flight")
    if tuple(array.dims) == _UNNAMED:
        array = array.rename(position="tof", ky="y", kx="x").drop_vars(["y", "x"], errors="ignore")
    elif axis != "tof":
        array = array.rename({axis: "tof"}).assign_attrs(array.attrs | {"axis": axis})
    scan = [d for d in ("y", "x", "position", "group") if d in array.dims]
    for dim in scan:
        if dim in array.coords and array[dim].attrs.get("units") == "pixel":
            array = array.drop_vars(dim)
    array = array.transpose(*scan, "tof")
    if len(array.chunksizes.get("tof", ())) > 1:
        array = array.chunk(tof=-1)
    return array


def chosen(signal: Tables, indices: Sequence[Any] | None, query: str | None) -> Tables:
    """Return the spectra that `indices` and `query` ask for, in their order.

    Raises
    ------
    InputError
        If an index is not there, or the query cannot be used.
    """
    named = signal.named
    assert named is not None
    if indices is not None:
        wanted = _same_kind([_key(i) for i in indices], "indices")
        known = signal.keyed()
        if all(k in known for k in wanted):
            signal = Tables([known[k] for k in wanted], replace(named, keys=wanted))
        elif len(wanted) == len(signal.items):
            signal = Tables(signal.items, Named(wanted))
        else:
            missing = next(k for k in wanted if k not in known)
            some = ", ".join(map(str, list(known)[:6]))
            raise InputError(
                f"indices: {missing!r} is not there ({some} … are), and {len(wanted)} indices do not name "
                f"{len(signal.items)} spectra one by one"
            )
    return signal if query is None else _queried(signal, query)


def _queried(signal: Tables, query: str) -> Tables:
    import pandas as pd

    named = signal.named
    assert named is not None
    names = ["y", "x"] if named.kind == "grid" else ["i" if named.kind == "line" else "name"]
    places = rows_kept(pd.DataFrame(named.keys, columns=names), query).index
    if not places.size:
        raise InputError(f"query {query!r} leaves no group")
    return Tables([signal.items[i] for i in places], replace(named, keys=[named.keys[i] for i in places]))


def paired(signal: Tables, other: Tables, role: str) -> list[Any]:
    """Return the partners of the signals, in their order: by index, never by place.

    Raises
    ------
    InputError
        If one has no partner; it names it.
    """
    assert signal.named is not None
    known = other.keyed()
    missing = [(k, i) for k, i in zip(signal.named.keys, signal.items, strict=True) if k not in known]
    if missing:
        key, item = missing[0]
        what = f"{Path(item).name!r} (index {key!r})" if isinstance(item, str) else f"index {key!r}"
        more = f" and {len(missing) - 1} more" if missing[1:] else ""
        some = ", ".join(map(repr, list(known)[:6])) + (" …" if len(known) > 6 else "")
        raise InputError(
            f"{role}: no partner for the signal {what}{more}; it has the indices {some}. Files go together by the "
            "index in their names; a dict says it outright"
        )
    return [known[k] for k in signal.named.keys]
