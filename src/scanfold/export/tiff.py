"""TIFF with the metadata of ImageJ: units, pixel size, what the slices are."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import xarray as xr

from scanfold._paths import replace_file
from scanfold.conventions import InputError
from scanfold.export.slabs import files, variables

#: ImageJ's limit; beyond it other programs read the file, and ImageJ does not.
LARGEST = 2**32 - 2**20
#: The integers that ImageJ has; a shorter one goes into the first that holds it.
INTEGERS = (np.uint8, np.uint16, np.int16)
#: Axes of a hyperstack before y and x, slowest first; what is on them stands in the labels of the slices.
LEADING = ("", "Z", "TZ", "TZC")


def export_tiff(data: xr.Dataset | xr.DataArray, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write maps as images that ImageJ and Fiji open with their units.

    Pixels of evenly spaced coordinates carry their size and unit; a dim beside ``y`` and ``x`` becomes the slices of a
    stack, labelled by its values. ImageJ knows integers of up to 16 bits and 32-bit floats: other numbers, 64-bit
    floats and longer integers among them, are written as 32-bit floats, which round beyond 7 digits.

    Parameters
    ----------
    data : DataArray or Dataset
        Maps over ``y, x`` with up to three more dims; without them, the last two dims are the image. One variable
        makes one file, several a folder with a file of each that has two dims or more.
    path : path
        A ``.tif`` file, or the folder for several variables.
    overwrite : bool
        Whether to replace files that are there.

    Raises
    ------
    InputError
        If there is no image in it, one is larger than 4 GiB, or the target exists.

    Notes
    -----
    Metadata: https://imagej.net/formats/tiff.

    Examples
    --------
    >>> import tempfile, tifffile
    >>> maps = xr.DataArray(np.eye(2), dims=("y", "x"), name="center")
    >>> maps = maps.assign_coords({d: (d, [0.0, 0.5], {"units": "um"}) for d in "yx"})
    >>> path = tempfile.mkdtemp() + "/center.tif"
    >>> export_tiff(maps, path)
    >>> tifffile.TiffFile(path).imagej_metadata["unit"]
    'um'
    """
    ds = variables(data)
    images = [str(n) for n, v in ds.data_vars.items() if v.ndim >= 2 and v.dtype.kind in "biuf"]
    if not images:
        raise InputError(f"no image among {', '.join(map(str, ds.data_vars))}: two dims are needed. Use export_csv")
    for name in images:
        if ds[name].size * 4 > LARGEST or ds[name].ndim > 5:
            raise InputError(f"{name!r} has shape {ds[name].shape}: ImageJ takes up to 4 GiB, and 5 dims. Export parts")
    for name, file in files(path, images, ".tif", overwrite).items():
        with replace_file(file) as temporary:
            write(str(temporary), ds[name])


def write(path: str, image: xr.DataArray) -> None:
    """Write one image or stack."""
    import tifffile

    plane = ["y", "x"] if {"y", "x"} <= set(image.dims) else list(image.dims[-2:])
    image = image.transpose(..., *plane)
    values = image.values
    values = values.astype(next((t for t in INTEGERS if np.can_cast(values.dtype, t)), np.float32))
    unit, steps = _pixel(image, plane)
    described: dict[str, Any] = {
        "axes": LEADING[image.ndim - 2] + "YX",
        "unit": unit,
        "Info": _info(image),
        "Labels": _labels(image, plane),
    }
    if values.dtype == np.float32 and np.isfinite(values).any():
        described |= {"min": float(np.nanmin(values)), "max": float(np.nanmax(values))}
    resolution = tuple(1 / step for step in reversed(steps))  # pixels per unit: x, then y
    tifffile.imwrite(path, values, imagej=True, resolution=resolution, metadata=described)


def _pixel(image: xr.DataArray, plane: list[Any]) -> tuple[str, list[float]]:
    """Return the unit and the size of a pixel in it, where both axes are even and share it; else pixels."""
    units, steps = set(), []
    for dim in plane:
        values = image[dim].values if dim in image.coords else np.arange(image.sizes[dim])
        units.add(str(image[dim].attrs.get("units", "pixel")))
        differences = np.diff(values) if values.size > 1 and values.dtype.kind in "iuf" else np.ones(1)
        even = np.allclose(differences, differences[0], rtol=1e-6, atol=0)
        steps.append(abs(float(differences.mean())) or np.nan if even else np.nan)
    unit = units.pop()
    return (unit, steps) if not units and np.isfinite(steps).all() else ("pixel", [1.0, 1.0])


def _info(image: xr.DataArray) -> str:
    """Return the lines that ImageJ shows as the image's information."""
    keys = [key for key in ("long_name", "units", "flag_meanings", "flag_values") if key in image.attrs]
    return "\n".join([f"name: {image.name}", *(f"{key}: {image.attrs[key]}" for key in keys)])


def _labels(image: xr.DataArray, plane: list[Any]) -> list[str]:
    """Return what each slice is, in the order of the file."""
    leading = [d for d in image.dims if d not in plane]
    values = [[f"{d}={v}" for v in (image[d].values if d in image.coords else range(image.sizes[d]))] for d in leading]
    return [", ".join(v[i] for v, i in zip(values, index, strict=True)) for index in np.ndindex(*map(len, values))]
