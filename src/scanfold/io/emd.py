"""The EMD layout of electron microscopy, as NCEM and py4DSTEM write it."""

from __future__ import annotations

import re

import h5py
import numpy as np

from scanfold.io.labels import counted, dim_name
from scanfold.io.layout import Labels, axis_attributes, member, text

#: py4DSTEM's names: real space (scan) and diffraction space, each slow axis first.
PY4DSTEM = {"rx": "y", "ry": "x", "r_x": "y", "r_y": "x", "qx": "ky", "qy": "kx", "q_x": "ky", "q_y": "kx"}


def labels(group: h5py.Group, at: str) -> Labels | None:
    """Read a group that has ``emd_group_type`` or is a datacube of the older py4DSTEM; None if it is neither."""
    node = member(group, "data")
    if not isinstance(node, h5py.Dataset) or not node.ndim:
        return None
    cube = bool(re.search(r"/datacubes/[^/]+$", at))
    if "emd_group_type" not in group.attrs and not cube:
        return None
    first = 0 if "dim0" in group else 1
    names: list[str | None] = []
    values = {}
    for axis in range(node.ndim):
        key = f"dim{axis + first}"
        vector = member(group, key)
        title = text(vector.attrs.get("name")) if vector is not None else ""
        name = dim_name(title)
        name = PY4DSTEM.get(name, name)
        names.append(name or None)
        steps = None if vector is None else _steps(vector, node.shape[axis])
        if steps is not None and vector is not None:
            units = text(vector.attrs.get("units")).strip("[]").replace("_", "")
            values[axis] = (steps, axis_attributes(title, units, steps))
    names = [n if n not in names[:i] else None for i, n in enumerate(names)]
    fourd = node.ndim == 4 and (cube or set(names) == {"y", "x", "ky", "kx"})
    return Labels(
        dataset=f"{at}/data",
        dims=["y", "x", "ky", "kx"] if fourd and not any(names) else names,
        detector=2 if fourd else None,
        values=values,
        attrs={"units": units} if (units := text(group.attrs.get("units") or node.attrs.get("units"))) else {},
    )


def _steps(vector: h5py.Dataset, size: int) -> np.ndarray | None:
    """Return the coordinates of an axis; a linear one may be written as its first two values only."""
    if vector.dtype.kind not in "iuf":
        return None
    if vector.shape == (size,):
        return np.asarray(vector[()])
    points = counted(size)
    if vector.shape == (2,) and points is not None:
        start, following = vector[()]
        return np.asarray(start + (following - start) * points)
    return None
