"""The record of a run, beside its data: what it is, what is finished, what failed.

A chunk that is missing from a zarr store reads as fill value, so the presence
of chunks proves nothing; only an entry here does.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from scanfold._paths import content_of, location, make, remove, write_whole
from scanfold.conventions import (
    STORE_FORMAT,
    InputError,
    InputTypeError,
    RunError,
    ScanError,
    is_url,
    place,
    provenance,
)
from scanfold.runs.writers import only_writer

#: Memory addresses in dask names: they change from process to process and mean nothing.
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


#: Failures to write that trying again does not cure.
HOPELESS = {errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT, errno.EFBIG}


@contextmanager
def writing(ledger: Path) -> Iterator[None]:
    """Say in one sentence why a result cannot be written.

    Parameters
    ----------
    ledger : Path
        The folder ``.scanfold`` beside the results; it is gone once they are deleted.

    Raises
    ------
    RunError
        If the disk is full or read-only, or the results were deleted.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, ScanError):
            raise
        if not is_url(ledger) and not ledger.is_dir():
            raise RunError(
                f"{ledger.parent} was deleted while this run wrote to it; run the same lines again to start over"
            ) from error
        if error.errno in HOPELESS or isinstance(error, PermissionError):
            raise RunError(
                f"cannot write to {ledger.parent}{place()}: {error.strerror or error}; "
                "make room or access, then run the same lines again: what is finished is kept"
            ) from error
        raise


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file at one stroke."""
    write_whole(path, json.dumps(content).encode())


class Ledger:
    """The folder ``.scanfold`` of a store."""

    def __init__(self, store: Path):
        self.store = store
        self.folder = store / ".scanfold"
        self.blocks = self.folder / "blocks"
        self.failed = self.folder / "failed"
        self.attempts = self.folder / "attempts"
        self.prologue = self.folder / "prologue"
        self.parts = self.folder / "parts"

    @property
    def plan_path(self) -> Path:
        """Where identity and plan are."""
        return self.folder / "plan.json"

    def read(self) -> dict[str, Any]:
        """Return ``{"run", "identity", "plan", "ready"}``, empty before the first run."""
        kept = _parsed(content_of(self.plan_path) or b"{}", self.plan_path)
        kinds = {"run": str, "identity": dict, "plan": list, "ready": bool}
        if kept and not all(isinstance(kept.get(name), kind) for name, kind in kinds.items()):
            raise InputError(f"the record of the run in {self.plan_path} is damaged; pass resume=False to start over")
        return kept

    def write(self, content: Mapping[str, Any]) -> None:
        """Keep identity and plan."""
        self._write(self.plan_path, content)

    def prepare(self) -> None:
        """Make the folders, and sweep what a killed run left half-done."""
        for folder in (self.blocks, self.failed, self.attempts, self.prologue, self.parts):
            with writing(self.folder):
                make(folder)
        if not is_url(self.store):  # objects appear whole
            for stale in self.store.rglob("*.partial"):
                stale.unlink(missing_ok=True)
        for folder in (self.attempts, self.failed, self.parts):
            if folder.exists():
                remove(folder)
            make(folder)

    def clear(self) -> None:
        """Remove everything but the lock, to start over."""
        for item in [*self.store.iterdir(), *(self.folder.iterdir() if self.folder.exists() else ())]:
            if item.name not in (self.folder.name, "lock"):
                remove(item)

    def entry(self, block: str) -> dict[str, Any] | None:
        """Return what is recorded of a finished block."""
        content = content_of(self.blocks / f"{block}.json")
        return None if content is None else _parsed(content, self.blocks)

    def finish(self, block: str, entry: Mapping[str, Any]) -> None:
        """Record a block as finished; its chunks must be on disk."""
        self._write(self.blocks / f"{block}.json", entry)

    def finished(self) -> dict[str, dict[str, Any]]:
        """Return all finished blocks."""
        if not is_url(self.store):
            return {p.stem: _parsed(p.read_bytes(), p) for p in self.blocks.glob("*.json")}
        system = self.blocks.fs  # type: ignore[attr-defined]
        names = [n for n in system.find(self.blocks.path) if n.endswith(".json")]  # type: ignore[attr-defined]
        entries = system.cat(names) if names else {}  # many at a time
        return {name.rpartition("/")[2].removesuffix(".json"): json.loads(e) for name, e in entries.items()}

    def fail(self, block: str, traceback: str) -> None:
        """Record why a block could not be computed."""
        self._write(self.failed / f"{block}.json", {"block": block, "traceback": traceback})

    def part(self, block: str, units: tuple[int, int]) -> Path:
        """Return the file that keeps some positions of a block."""
        return self.parts / block / f"{units[0]}-{units[1]}.npz"

    def value_path(self, key: str) -> Path:
        """Return the file that keeps the value of a prologue."""
        return self.prologue / f"{key}.npy"

    def value(self, key: str) -> np.ndarray | None:
        """Return the kept value of a prologue."""
        content = content_of(self.value_path(key))
        return None if content is None else np.asarray(np.load(io.BytesIO(content), allow_pickle=False))

    def keep(self, key: str, value: np.ndarray) -> None:
        """Keep the value of a prologue."""
        buffer = io.BytesIO()
        np.save(buffer, value, allow_pickle=False)
        with writing(self.folder):
            write_whole(self.value_path(key), buffer.getvalue())

    def _write(self, path: Path, content: Mapping[str, Any]) -> None:
        with writing(self.folder):
            write_json(path, dict(content))

    def withdraw(self) -> None:
        """Remove the folder that a run made which was refused then: it has no plan yet."""
        if not self.plan_path.exists():
            shutil.rmtree(self.folder, ignore_errors=True)
            with suppress(OSError):
                self.store.rmdir()  # only if it is empty

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the store; a second writer is refused at once.

        Raises
        ------
        RunError
            If another run is writing to the store.
        InputError
            If the folder cannot be made.
        """
        with only_writer(self.store, self.folder / "lock"):
            yield

    def complete(self) -> None:
        """Mark the store as finished."""
        path = self.store / "zarr.json"
        with writing(self.folder):
            root = json.loads(content_of(path) or b"{}")
        root["attributes"]["scanfold_complete"] = True
        self._write(path, root)


def _parsed(content: bytes, where: object) -> dict[str, Any]:
    """Return what a file of the ledger says.

    Raises
    ------
    InputError
        If it is damaged.
    """
    try:
        return dict(json.loads(content))
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(
            f"the record of the run in {where} is damaged ({error}); pass resume=False to start over"
        ) from None


def store_path(store: str | os.PathLike[str]) -> Path:
    """Return the absolute path of a store, or its URL as a path.

    Raises
    ------
    InputTypeError
        If it is neither.
    InputError
        If the URL is of a protocol that is unknown, not installed, or cannot be written to.
    """
    if not isinstance(store, (str, os.PathLike)) and not is_url(store):
        raise InputTypeError(f"store must be a path, found {type(store).__name__}; pass one such as 'fits.zarr'")
    return location(store)


def root_attributes(store: Path) -> dict[str, Any] | None:
    """Return the root attributes of a zarr store, None if there is none."""
    try:
        return dict(json.loads(content_of(store / "zarr.json") or b"")["attributes"])
    except (NotADirectoryError, KeyError, ValueError, TypeError, RecursionError):
        return None


def state(store: Path) -> str:
    """Return what is at a path: ``"new"``, ``"begun"`` or ``"complete"``; touches nothing.

    Raises
    ------
    InputError
        If something is there that `save` did not write.
    """
    try:
        attributes = root_attributes(store)
    except OSError as error:
        raise InputError(f"cannot read {store}: {error}") from error
    if attributes is None and (not store.exists() or (store.is_dir() and _holds_nothing(store))):
        return "new"
    if attributes is None or "scanfold_format" not in attributes:
        raise InputError(f"{store} exists and was not written by scanfold; it is left as it is. Pass another path")
    if attributes["scanfold_format"] != STORE_FORMAT:
        raise InputError(
            f"{store} has scanfold_format {attributes['scanfold_format']}, this version writes {STORE_FORMAT}; "
            "pass another path"
        )
    return "complete" if attributes.get("scanfold_complete") else "begun"


def _holds_nothing(store: Path) -> bool:
    """Tell whether nothing would be lost: the folder is empty, or its run was killed before the root was written."""
    return {p.name for p in store.iterdir() if not p.name.endswith(".partial")} <= {".scanfold"}


def identity(ds: xr.Dataset) -> dict[str, Any]:
    """Return what a run is made of: its provenance, and name, shape and token of every variable."""
    from dask.base import tokenize

    described = {}
    for name, variable in ds.variables.items():
        token = variable.data.name if variable.chunks is not None else tokenize(variable.values)
        described[str(name)] = {
            "dims": list(map(str, variable.dims)),
            "shape": list(variable.shape),
            "dtype": str(variable.dtype),
            "token": token,
        }
    content = {**provenance(ds), "variables": described}
    return dict(json.loads(_ADDRESS.sub("", json.dumps(content, sort_keys=True, default=str))))


def require_same(store: Path, kept: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise unless two identities are the same.

    Raises
    ------
    InputError
        Naming every key that differs.
    """
    lines = differences(kept, now)
    if not lines:
        return
    raise InputError(
        f"{store} holds other work, and is left as it is. What differs:\n"
        + "\n".join(lines)
        + "\nSave to another store, or delete this one (or pass resume=False) to start over"
    )


def differences(kept: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a line for each key in which two identities differ; tokens only where nothing else tells."""
    old, new = dict(_flatten(kept)), dict(_flatten(now))
    different = [key for key in sorted(old | new) if old.get(key) != new.get(key)]
    told = [key for key in different if not key.endswith(".token")] or different
    return [_difference(key, old.get(key), new.get(key)) for key in told[:20]]


def _difference(key: str, old: Any, new: Any) -> str:
    if key.endswith(".token"):
        what = key.removesuffix(".token")
        return f"  {what}: made of other data, such as a file that was written since, another selection or other steps"
    return f"  {key}: {old!r} in the store, {new!r} now"


def _flatten(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
