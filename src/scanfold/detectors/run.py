"""From a scan and labels to a folder of maps: the two passes, and everything made from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from scanfold.conventions import InputError
from scanfold.detectors.assignment import assign
from scanfold.detectors.baseline import subtract_baseline
from scanfold.detectors.field import electric_field
from scanfold.detectors.gates import gates
from scanfold.detectors.labels import LabelsLike
from scanfold.detectors.statistics import cluster_statistics
from scanfold.detectors.templates import templates
from scanfold.detectors.virtual import virtual_maps
from scanfold.runs import save


def polarisation_map(
    scan: xr.Dataset | xr.DataArray, labels: LabelsLike, out: str | Path, *, progress: bool = True
) -> xr.Dataset:
    """Make templates, gates, contrast maps and fields of a scan, and write them to a folder.

    Parameters
    ----------
    scan : Dataset or DataArray
        Frames ``(*scan, ky, kx)``.
    labels : DataArray, array or path
        Cluster of each position.
    out : path
        Folder to write; what is there of the same run is resumed.
    progress : bool
        Show how far it is.

    Returns
    -------
    Dataset
        Everything, as in ``polar_map.zarr``.

    Raises
    ------
    InputError
        Before the first pass, if labels or scan cannot be used, or the folder cannot be written.
    """
    folder = Path(out)
    lazy = cluster_statistics(scan, labels, log=True)
    for name in ("kspace", "realspace", "figures", "logs"):
        try:
            (folder / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot write to {str(folder)!r}: {error.strerror}; pass another --out") from error
    stats = save(lazy, folder / "pass_a.zarr", progress=progress).compute()
    tmpl = templates(stats, central_mask_px=8)
    made = gates(tmpl)
    maps = save(virtual_maps(scan, tmpl, made, labels=labels), folder / "pass_b.zarr", progress=progress).compute()
    flat = subtract_baseline(maps, "rowcol" if maps["frame_valid"].ndim == 2 else "median")
    everything = xr.merge(
        [stats, tmpl, made, flat, assign(maps), electric_field(flat)], combine_attrs="drop", compat="override"
    )
    _write(everything, folder)
    return save(everything, folder / "polar_map.zarr", progress=False)


def _write(ds: xr.Dataset, folder: Path) -> None:
    import tifffile

    from scanfold.detectors import figures

    for number, label in enumerate(ds["cluster"].values):
        np.save(folder / f"kspace/template_T_{label}.npy", ds["template"].values[number])
        np.save(folder / f"kspace/gate_G_{label}.npy", ds["gate"].values[number])
        tifffile.imwrite(folder / f"realspace/S_cluster_{label}.tif", np.atleast_2d(_grey(ds["score"][..., number])))
    disc: Any = ds.sel(detector="disc")
    for name, title in (("com_x_raw", "com_x"), ("com_y_raw", "com_y"), ("Ex", "Ex"), ("Ey", "Ey")):
        tifffile.imwrite(folder / f"realspace/{title}.tif", np.atleast_2d(_grey(disc[name])))
    figures.save(figures.montage(ds, ds), folder / "figures/montage_templates.png")


def _grey(values: xr.DataArray) -> Any:
    return values.values.astype(np.float32)
