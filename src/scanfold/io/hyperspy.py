"""HyperSpy's layout (.hspy): groups ``axis-0, axis-1, …`` beside ``data``, with names, scales and units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np

from scanfold.io.labels import counted, dim_name
from scanfold.io.layout import Labels, axis_attributes, member, text

#: What HyperSpy writes for an axis without a name or units.
UNSET = ("", "<undefined>", "t.Undefined", "None")


def labels(group: h5py.Group, at: str) -> Labels | None:
    """Read one signal of the group Experiments; None if the group is none."""
    data = member(group, "data")
    if "axis-0" not in group or not isinstance(data, h5py.Dataset):
        return None
    axes = []
    for i in range(data.ndim):
        node = group[f"axis-{i}"]
        axis: dict[str, Any] = {key: node.attrs[key] for key in node.attrs}
        if "axis" in node:
            axis["axis"] = np.asarray(node["axis"][()])
        axes.append(axis)
    names, detector, values = from_axes(axes, data.shape)
    return Labels(dataset=f"{at}/data", dims=names, detector=detector, values=values)


def from_axes(
    axes: Sequence[dict[str, Any]], shape: Sequence[int]
) -> tuple[list[str | None], int, dict[int, tuple[np.ndarray, dict[str, str]]]]:
    """Turn axes as HyperSpy and RosettaSciIO describe them into names, detector dimensions and coordinates by axis."""
    names: list[str | None] = []
    values = {}
    for i, (axis, size) in enumerate(zip(axes, shape, strict=True)):
        title = _text(axis.get("name"))
        name = dim_name(title) or None
        names.append(name if name not in names else None)
        coordinate = _coordinate(axis, size)
        if coordinate is not None:
            values[i] = (coordinate, axis_attributes(title, _text(axis.get("units")), coordinate))
    navigate = [bool(axis.get("navigate", False)) for axis in axes]
    detector = len(navigate) - (max((i for i, n in enumerate(navigate) if n), default=-1) + 1)
    return names, detector, values


def _text(value: Any) -> str:
    found = text(value)
    return "" if found in UNSET else found


def _coordinate(axis: dict[str, Any], size: int) -> np.ndarray | None:
    """Return an axis's values: a table, or offset and scale; None if they do not fit or there are none."""
    if "axis" in axis:
        table = np.asarray(axis["axis"])
        return table if table.shape == (size,) else None
    points = counted(size)
    if "scale" not in axis or points is None:
        return None
    return float(axis.get("offset", 0.0)) + float(axis["scale"]) * points
