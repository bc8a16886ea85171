"""The NeXus layout: groups NXdata that name their signal and axes in attributes."""

from __future__ import annotations

import re
from typing import Any

import h5py
import numpy as np

from scanfold.io.layout import Labels, member, text, texts

INTERPRETATIONS = {"scalar": 0, "spectrum": 1, "image": 2}


def default(file: h5py.File) -> str | None:
    """Follow the default attributes from the root to a group of data; None if they lead nowhere."""
    node, at = file, ""
    for _ in range(20):
        name = text(node.attrs.get("default"))
        following = member(node, name)
        if not isinstance(following, h5py.Group):
            break
        node, at = following, name if name.startswith("/") else f"{at}/{name}"
    return at or None


def labels(group: h5py.Group, at: str) -> Labels | None:
    """Read a group of class NXdata; None if it has no signal."""
    name = _signal(group)
    if not name:
        return None
    node = group[name]
    names = _axes(group, node)
    coords = {}
    for axis, title in enumerate(names):
        if title:
            coords[title] = (_indices(group, title) or (axis,), f"{at}/{title}")
    for key in group.attrs:
        title = key.removesuffix("_indices")
        # Positions of the motors: they span scan dimensions without naming one.
        if title != key and title not in coords:
            coords[title] = (_indices(group, title) or (), f"{at}/{title}")
    coords = {t: c for t, c in coords.items() if c[0] and max(c[0]) < node.ndim and _is_array(member(group, t))}
    others, attrs = _others(group, at, name, node)
    kind = text(node.attrs.get("interpretation")) or text(group.attrs.get("interpretation"))
    return Labels(
        dataset=f"{at}/{name}",
        name=name,
        dims=names,
        detector=INTERPRETATIONS.get(kind.split("-")[-1]),
        coords=coords,
        others=others,
        attrs=attrs,
    )


def _signal(group: h5py.Group) -> str | None:
    """Return the name of the signal, in the new way (attribute of the group) or the old (of the field)."""
    name = text(group.attrs.get("signal"))
    if name:
        return name if _is_array(member(group, name)) else None
    if text(group.attrs.get("NX_class")) != "NXdata":
        return None
    for key in group:
        node = member(group, key)
        if _is_array(node) and _number(node.attrs.get("signal")) == 1:
            return str(key)
    return None


def _is_array(node: Any) -> bool:
    return isinstance(node, h5py.Dataset) and node.ndim > 0


def _number(value: Any) -> int | None:
    try:
        return int(text(value) or np.asarray(value).reshape(-1)[0])
    except (TypeError, ValueError, IndexError):
        return None


def _axes(group: h5py.Group, node: h5py.Dataset) -> list[str | None]:
    """Return the name of each dimension, None where there is none."""
    found = texts(group.attrs.get("axes")) or texts(node.attrs.get("axes"))
    if len(found) == 1:
        found = [part for part in re.split(r"[:,\s]+", found[0].strip("[] ")) if part]
    if not found:
        # The oldest way: each axis says which dimension (from 1) it belongs to.
        numbered = {_number(group[k].attrs.get("axis")): k for k in group if _is_array(member(group, k))}
        found = [numbered.get(i + 1, ".") for i in range(node.ndim)]
    found = ["."] * (node.ndim - len(found)) + found[: node.ndim]
    named = [None if a in (".", "") else a.rsplit("/", 1)[-1] for a in found]
    return [a if a not in named[:i] else None for i, a in enumerate(named)]


def _indices(group: h5py.Group, title: str) -> tuple[int, ...] | None:
    value = group.attrs.get(f"{title}_indices")
    try:
        return None if value is None else tuple(int(i) for i in np.atleast_1d(value))
    except (TypeError, ValueError):
        return None


def _others(group: h5py.Group, at: str, name: str, node: h5py.Dataset) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the errors of the signal and the further signals beside it."""
    others, attrs = {}, {}
    for key in (text(node.attrs.get("uncertainties")), f"{name}_errors", "errors"):
        if member(group, key) is not None:
            others[f"{name}_errors"] = f"{at}/{key}"
            attrs["ancillary_variables"] = f"{name}_errors"
            break
    for key in texts(group.attrs.get("auxiliary_signals")):
        if member(group, key) is not None:
            others[key] = f"{at}/{key}"
    return others, attrs
