"""What is shown: maps over the scan, the scan itself, and the fits that join them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from scanfold.conventions import DETECTOR_DIMS, SCAN_DIMS, InputError, ScanError, primary, provenance
from scanfold.plot.positions import holds_maps, maps_in

#: Bytes of a scan that are read for its overview.
READ = 2**28


@dataclass(frozen=True)
class Sources:
    """Maps over one or two scan dims, and what is behind each of their positions.

    Attributes
    ----------
    maps : Dataset
        Every variable lies on the scan dims alone.
    scan : DataArray or None
        What was measured, over the scan dims and others.
    fits : Dataset or None
        The maps, where they are fits whose curves can be drawn.
    model : lmfit.Model, callable or None
        Of the fits, where it cannot be rebuilt.
    note : str
        Said above the map: what is not shown, and why.
    step : int
        The maps have every ``step``-th position of the scan.
    """

    maps: xr.Dataset
    scan: xr.DataArray | None
    fits: xr.Dataset | None
    model: Callable[..., Any] | None
    note: str = ""
    step: int = 1

    @property
    def dims(self) -> tuple[str, ...]:
        """The scan dims."""
        return tuple(map(str, next(iter(self.maps.data_vars.values())).dims))


def sources(
    found: xr.Dataset | xr.DataArray, data: xr.Dataset | xr.DataArray | None, model: Callable[..., Any] | None
) -> Sources:
    """Tell maps from scans, and find what belongs to them.

    Raises
    ------
    InputError
        If there is neither map nor scan, or data of other positions are given.
    """
    scan = _scan_in(found)
    if scan is not None:
        return _of_scan(found, scan, model)
    ds = found.to_dataset(name=found.name or "data") if isinstance(found, xr.DataArray) else found
    maps = maps_in(ds)
    fits = ds if provenance(ds).get("operation") == "fit" and "status" in ds else None
    measured, note = (primary(data), "") if data is not None else _recorded(ds, maps, asked=fits is not None)
    made = Sources(maps, measured, fits, model, note)
    if measured is not None:
        wrong = {d: (measured.sizes.get(d), n) for d, n in maps.sizes.items() if measured.sizes.get(d) != n}
        if wrong:
            said = ", ".join(f"{theirs} along {d!r}, the maps {n}" for d, (theirs, n) in wrong.items())
            raise InputError(f"data has {said}; pass what the maps were made from")
    return made


def _scan_in(found: xr.Dataset | xr.DataArray) -> xr.DataArray | None:
    """Return the array with detector dims that this is, if it is a scan and no map."""
    if isinstance(found, xr.Dataset) and holds_maps(found):
        return None
    array = primary(found)
    inner = [d for d in array.dims if d in DETECTOR_DIMS or d not in SCAN_DIMS]
    return array if inner and len(inner) < array.ndim else None


def _of_scan(found: xr.Dataset | xr.DataArray, scan: xr.DataArray, model: Callable[..., Any] | None) -> Sources:
    outer = [str(d) for d in scan.dims if d in SCAN_DIMS and d not in DETECTOR_DIMS]
    if not 1 <= len(outer) <= 2:
        raise InputError(f"a map has one or two scan dims; {scan.name!r} has {', '.join(outer) or 'none'}")
    positions = int(np.prod([scan.sizes[d] for d in outer]))
    wanted = max(1, READ // max(1, scan.nbytes // positions))
    step = int(np.ceil((positions / wanted) ** (1 / len(outer))))
    part = scan.isel({d: slice(None, None, step) for d in outer})
    mean = part.mean([d for d in scan.dims if d not in outer], keep_attrs=True)
    mean.attrs["long_name"] = f"mean of {scan.attrs.get('long_name', scan.name or 'data')}"
    maps = {"mean": mean.transpose(*outer)}
    if isinstance(found, xr.Dataset):
        beside = {str(n): v for n, v in found.data_vars.items() if set(v.dims) == set(outer) and v.dtype.kind in "iufb"}
        maps |= {n: v.isel({d: slice(None, None, step) for d in outer}) for n, v in beside.items()}
    note = f"every {step}th position of {' and '.join(outer)}" if step > 1 else ""
    return Sources(xr.Dataset(maps), scan, None, model, note, step)


def _recorded(ds: xr.Dataset, maps: xr.Dataset, asked: bool) -> tuple[xr.DataArray | None, str]:
    """Return the scan of the maps' record, or what to do where it is asked for and cannot be had."""
    inputs = provenance(ds).get("inputs", {}).values()
    described = next((i for i in inputs if set(maps.sizes) < set(i.get("dims", [])) and "source" in i), None)
    if described is None:
        return None, "pass data= to see what was measured" if asked else ""
    from scanfold.io.reopen import reopen

    try:
        return reopen(described), ""
    except ScanError as error:
        return None, str(error)
