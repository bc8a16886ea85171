"""The shapes in which models take groups, and the dictionary of arrays that PtychoPINN calls grouped data."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from scanfold.conventions import InputError, primary, unknown
from scanfold.export.slabs import slabs
from scanfold.grouping.positions import NOMINAL, TRUE

Array = npt.NDArray[Any]

LAYOUTS = ("channel", "grid", "flat", "torch")
_RANKS = {"channel": 4, "grid": 6, "flat": 4, "torch": 4}


def convert_layout(frames: Any, source: str, target: str, *, group_size: int | None = None) -> Array:
    """Convert the frames of B groups of C from one shape to another; no value changes, and all ways lead back.

    ==========  ==================  =========================================
    layout      shape               a frame is at
    ==========  ==================  =========================================
    "channel"   (B, N, N, C)        ``[b, :, :, c]``
    "grid"      (B, g, g, N, N, 1)  ``[b, c // g, c % g, :, :, 0]``, C = g²
    "flat"      (B·C, N, N, 1)      ``[b * C + c, :, :, 0]``
    "torch"     (B, C, N, N)        ``[b, c]``, as `gather` has them
    ==========  ==================  =========================================

    Parameters
    ----------
    frames : array
        In the layout `source`.
    source, target : {"channel", "grid", "flat", "torch"}
    group_size : int, optional
        C, which a flat array does not tell.

    Returns
    -------
    array
        A view where that is possible.

    Raises
    ------
    InputError
        If the array is not of that layout, or C is missing or no square where a grid is asked for.

    Examples
    --------
    >>> frames = np.arange(2 * 4 * 3 * 3).reshape(2, 4, 3, 3)
    >>> grid = convert_layout(frames, "torch", "grid")
    >>> grid.shape, bool((grid[1, 1, 0, :, :, 0] == frames[1, 2]).all())
    ((2, 2, 2, 3, 3, 1), True)
    >>> convert_layout(convert_layout(frames, "torch", "flat"), "flat", "channel", group_size=4).shape
    (2, 3, 3, 4)
    """
    for name in (source, target):
        if name not in LAYOUTS:
            raise unknown("layout", name, LAYOUTS)
    array = np.asarray(frames)
    if array.ndim != _RANKS[source]:
        raise InputError(f"an array of shape {array.shape} is not in the layout {source!r}; see convert_layout")
    if source == "channel":
        array = np.moveaxis(array, -1, 1)
    elif source == "grid":
        array = array[..., 0].reshape(len(array), -1, *array.shape[3:5])
    elif source == "flat":
        if group_size is None or len(array) % group_size:
            raise InputError(f"{len(array)} flat frames: pass the size of a group that divides them, group_size=…")
        array = array[..., 0].reshape(-1, group_size, *array.shape[1:3])
    if target == "channel":
        return np.moveaxis(array, 1, -1)
    if target == "grid":
        side = math.isqrt(array.shape[1])
        if side**2 != array.shape[1]:
            raise InputError(f"groups of {array.shape[1]} are no square grid; C has to be 1, 4, 9, …")
        return array.reshape(len(array), side, side, *array.shape[2:], 1)
    return array if target == "torch" else array.reshape(-1, *array.shape[2:], 1)


def to_legacy_dict(groups: xr.Dataset) -> dict[str, Any]:
    """Return gathered groups as the arrays that PtychoPINN calls grouped data, in memory.

    Axis 2 of coordinates is x, y, in the units of the positions; ``relative = -(coords - offsets)``. True and nominal
    (``start``) positions stay apart: where the scan has no nominal ones they are the true ones.

    Parameters
    ----------
    groups : Dataset
        From `gather`. Intensities become amplitudes, their square roots.

    Returns
    -------
    dict
        ``diffraction`` (B, N, N, C) float32; ``X_full``, the same times √((N/2)² / mean ΣX²); ``Y`` (B, N, N, C)
        complex64, the object under the beam at the true positions: of the scan, else cut from its object, else None;
        ``coords_nn, coords_relative`` (B, 1, 2, C), ``coords_offsets`` (B, 1, 2, 1), those of ``coords_start``;
        ``nn_indices`` (B, C); ``objectGuess``.

    Raises
    ------
    InputError
        If the groups have no positions, or frames that are not square.
    """
    missing = [n for n in TRUE if n not in groups.coords]
    if missing:
        raise InputError(f"the groups have no {' and '.join(missing)}; gather them from a scan with positions")
    frames = primary(groups)
    count, channels, size, width = frames.shape
    if size != width:
        raise InputError(f"frames of {size} × {width}; PtychoPINN takes square ones")
    diffraction = np.empty((count, size, size, channels), np.float32)
    energy = 0.0
    for some, held in slabs(frames.to_dataset(name="frames"), str(frames.dims[0])):
        block = held["frames"].values
        amplitude = np.sqrt(block) if frames.attrs.get("kind") == "intensity" else block
        diffraction[some] = np.moveaxis(amplitude, 1, -1)
        energy += float(np.einsum("bcyx,bcyx->", amplitude, amplitude, dtype=np.float64))
    scale = (size / 2) / np.sqrt(energy / (count * channels)) if energy else 1.0
    found: dict[str, Any] = {"diffraction": diffraction, "X_full": diffraction * np.float32(scale)}
    found["objectGuess"] = groups["object"].values if "object" in groups else None
    found["Y"] = _truth(groups, found["objectGuess"], size)
    found["nn_indices"] = groups["nn_indices"].values
    for prefix, names in (("coords", TRUE), ("coords_start", NOMINAL if NOMINAL[0] in groups.coords else TRUE)):
        y, x = (groups[n].values for n in names)
        coords = np.stack([x, y], axis=1)[:, None]
        offsets = coords.mean(axis=3, keepdims=True)
        found |= {f"{prefix}_nn": coords, f"{prefix}_offsets": offsets, f"{prefix}_relative": -(coords - offsets)}
    return found


def _truth(groups: xr.Dataset, image: Array | None, size: int) -> Array | None:
    """Return the object under the beam, (B, N, N, C)."""
    if "Y" in groups:
        return np.moveaxis(groups["Y"].values, 1, -1).astype(np.complex64)
    if image is None:
        return None
    y, x = (groups[n].values for n in TRUE)
    return np.moveaxis(cut_patches(image, y, x, size), 1, -1)


def cut_patches(image: Any, y: Any, x: Any, size: int) -> Array:
    """Cut patches out of an object: pixel (r, c) is the object at (y − N/2 + r, x − N/2 + c), bilinear, zero outside.

    Parameters
    ----------
    image : (H, W) array
    y, x : (…) arrays
        Positions in pixels.
    size : int
        N.

    Returns
    -------
    (…, N, N) complex64

    Examples
    --------
    >>> image = np.arange(100.0).reshape(10, 10)
    >>> cut_patches(image, 5, 4.5, 2).real
    array([[43.5, 44.5],
           [53.5, 54.5]], dtype=float32)
    """
    whole = np.asarray(image)
    rows, columns = np.broadcast_arrays(np.asarray(y, float), np.asarray(x, float))
    out = np.empty((*rows.shape, size, size), np.complex64)
    padded = np.pad(whole, size + 2)  # a patch that lies outside altogether is moved to the margin
    limits = [n + size / 2 for n in whole.shape]
    for at in np.ndindex(rows.shape):
        top = np.clip(rows[at], -size / 2, limits[0]) + size / 2 + 2
        left = np.clip(columns[at], -size / 2, limits[1]) + size / 2 + 2
        r, c = int(top), int(left)
        fy, fx = top - r, left - c
        part = padded[r : r + size + 1, c : c + size + 1]
        below = (1 - fx) * part[:, :-1] + fx * part[:, 1:]
        out[at] = (1 - fy) * below[:-1] + fy * below[1:]
    return out
