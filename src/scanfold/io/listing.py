"""The arrays of a file, as they are listed to a person who has to choose one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scanfold.conventions import InputError


@dataclass(frozen=True)
class ArrayInfo:
    """One array of a file: what can be said without reading it."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    chunks: tuple[int, ...] | None = None
    compression: str | None = None
    units: str | None = None
    numeric: bool = True

    def __str__(self) -> str:
        return f"{self.name} {self.shape} {self.dtype}"


def shown(arrays: Sequence[ArrayInfo]) -> str:
    """List arrays in words."""
    more = f" and {len(arrays) - 20} more" if len(arrays) > 20 else ""
    return (", ".join(str(a) for a in arrays[:20]) or "no arrays") + more


def choose(arrays: Sequence[ArrayInfo], path: str) -> str:
    """Return the name of the one array that is obviously meant.

    Obvious is the only numeric array of at least three dimensions, else the only one of two.

    Raises
    ------
    InputError
        If none or several could be meant; it lists them.
    """
    for least in (3, 2):
        names = [a.name for a in arrays if a.numeric and len(a.shape) >= least]
        if len(names) == 1:
            return names[0]
        if names:
            raise several(arrays, path)
    raise InputError(
        f"{path!r} has no numeric array of two or more dimensions; name one with dataset=: {shown(arrays)}"
    )


def named(arrays: Sequence[ArrayInfo], path: str, dataset: str | None) -> str:
    """Return the name of the array that was asked for, or that is obviously meant if none was.

    Raises
    ------
    InputError
        If there is no such array, or it is not obvious; it lists them.
    """
    if dataset is None:
        return arrays[0].name if len(arrays) == 1 else choose(arrays, path)
    if dataset not in [a.name for a in arrays]:
        raise InputError(f"no array {dataset!r} in {path!r}; it has {shown(arrays)}")
    return dataset


def several(arrays: Sequence[ArrayInfo], path: str) -> InputError:
    """Make the error for a file with several arrays that could be meant."""
    return InputError(f"{path!r} has several arrays that could be the scan; name one with dataset=: {shown(arrays)}")
