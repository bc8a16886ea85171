"""What a layout (NeXus, EMD, HyperSpy) says about one dataset of an HDF5 file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scanfold.io.labels import KEPT


@dataclass(frozen=True)
class Labels:
    """The labels of a dataset.

    Parameters
    ----------
    dataset : str
        Its name in the file.
    dims : list of str or None
        Names of its dimensions, None where the file has none.
    detector : int, optional
        How many of the last dimensions belong to the detector, where the file says so.
    name : str
        The variable's name; the dataset's own if empty.
    coords : mapping
        By name: the axes it spans and the dataset that holds it.
    values : mapping
        By axis: values and attributes of coordinates that are computed.
    others : mapping
        Names of further variables of the same shape, and their datasets.
    parts : list of str
        Datasets that make up this one, one after the other.
    attrs : mapping
        Attributes beyond the dataset's own.
    """

    dataset: str
    dims: list[str | None]
    detector: int | None = None
    name: str = ""
    coords: Mapping[str, tuple[tuple[int, ...], str]] = field(default_factory=dict)
    values: Mapping[int, tuple[np.ndarray, Mapping[str, Any]]] = field(default_factory=dict)
    others: Mapping[str, str] = field(default_factory=dict)
    parts: list[str] = field(default_factory=list)
    attrs: Mapping[str, Any] = field(default_factory=dict)


def text(value: Any) -> str:
    """Return an attribute that is a string in any of HDF5's ways; empty if it is none.

    Examples
    --------
    >>> text(b"counts"), text(np.array(["counts"], object)), text(None)
    ('counts', 'counts', '')
    """
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    return str(value) if isinstance(value, str) else ""


def texts(value: Any) -> list[str]:
    """Return an attribute that is a list of strings."""
    if value is None:
        return []
    return [text(v) for v in np.atleast_1d(np.asarray(value, object))]


def attributes(node: Any) -> dict[str, Any]:
    """Return the attributes that are kept: units and long_name, where they are text."""
    return {key: text(node.attrs[key]) for key in KEPT if key in node.attrs and text(node.attrs[key])}


def axis_attributes(title: str, units: str, values: np.ndarray) -> dict[str, str]:
    """Return the attributes of a calibrated axis; one that just counts is in pixels, no other unit is guessed."""
    if not units and np.array_equal(values, np.arange(values.size)):
        units = "pixel"
    return {key: value for key, value in (("units", units), ("long_name", title)) if value}


def member(group: Any, key: str) -> Any:
    """Return a member of a group; None if there is none, or if it is a link that leads nowhere."""
    try:
        return group[key] if key else None
    except (KeyError, OSError, ValueError):
        return None
