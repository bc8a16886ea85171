"""What is shown: maps over the scan, the scan itself, and the fits that join them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from scanfold.conventions import DETECTOR_DIMS, SCAN_DIMS, InputError, describe_input, primary, provenance

#: Bytes of a scan that are read for its overview.
READ = 2**28
#: Values of a further dim that are shown as maps of their own.
MOST_MAPS = 32


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
    maps = _maps_in(ds)
    fits = ds if provenance(ds).get("operation") == "fit" and "status" in ds else None
    measured, note = _measured(ds, data) if fits is not None or data is not None else (None, "")
    made = Sources(maps, measured, fits, model, note)
    if measured is not None:
        wrong = {d: (measured.sizes.get(d), n) for d, n in maps.sizes.items() if measured.sizes.get(d) != n}
        if wrong:
            said = ", ".join(f"{theirs} along {d!r}, the maps {n}" for d, (theirs, n) in wrong.items())
            raise InputError(f"data has {said}; pass what the maps were made from")
    return made


def _scan_in(found: xr.Dataset | xr.DataArray) -> xr.DataArray | None:
    """Return the array with detector dims that this is, if it is a scan and no map."""
    if isinstance(found, xr.Dataset) and ("status" in found or ("primary" not in found.attrs and len(found) > 1)):
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


def _maps_in(ds: xr.Dataset) -> xr.Dataset:
    """Return the variables over the scan dims, one for each value of a short further dim."""
    if not isinstance(ds, xr.Dataset) or not ds.data_vars:
        raise InputError("there is no map in it; pass what sf.fit, sf.save or sf.open_scan returned")
    counts = Counter(v.dims for v in ds.data_vars.values() if v.dims and set(v.dims) <= set(SCAN_DIMS))
    if "status" in ds:
        dims = ds["status"].dims
    elif counts:
        dims = counts.most_common(1)[0][0]
    else:
        raise InputError(f"no map over {', '.join(SCAN_DIMS)} among {', '.join(map(str, ds.data_vars))}")
    if not 1 <= len(dims) <= 2:
        raise InputError(f"a map has one or two scan dims; this one has {', '.join(map(str, dims)) or 'none'}")
    maps = dict(part for name, v in ds.data_vars.items() for part in _split(str(name), v, dims))
    coords = {n: c for n, c in ds.coords.items() if set(c.dims) <= set(dims)}
    # parameters first, their errors last: stores keep names in the order of the alphabet
    order = sorted(maps, key=lambda name: (name.endswith("_stderr"), f"{name}_stderr" not in maps))
    return xr.Dataset({name: maps[name] for name in order}, coords=coords, attrs=ds.attrs)


def _split(name: str, v: xr.DataArray, dims: tuple[Any, ...]) -> Iterator[tuple[str, xr.DataArray]]:
    if v.dtype.kind not in "iufb" or not set(dims) <= set(v.dims):
        return
    further = [d for d in v.dims if d not in dims]
    if not further:
        yield name, v.transpose(*dims).drop_vars([n for n, c in v.coords.items() if not set(c.dims) <= set(dims)])
    elif len(further) == 1 and v.sizes[further[0]] <= MOST_MAPS and further[0] not in DETECTOR_DIMS:
        (dim,) = further
        for i in range(v.sizes[dim]):
            label = v[dim].values[i] if dim in v.coords else i
            yield f"{name} [{label}]", v.isel({dim: i}).reset_coords(drop=True).transpose(*dims)


def _measured(ds: xr.Dataset, data: xr.Dataset | xr.DataArray | None) -> tuple[xr.DataArray | None, str]:
    """Return what maps were made from: the given data, or the file of their record if it gives the same array."""
    if data is not None:
        return primary(data), ""
    recorded = provenance(ds).get("inputs", {}).get("data", {})
    path = recorded.get("source", {}).get("path")
    if path is None:
        return None, "pass data= to see what was measured"
    from scanfold.io import open_scan

    try:
        opened = open_scan(path)
        array = opened[recorded["name"]] if recorded.get("name") in opened else primary(opened)
    except Exception as error:
        return None, f"{path} cannot be opened ({type(error).__name__}): pass data= to see what was measured"
    if describe_input(array)["token"] != recorded["token"]:
        return None, f"fitted was a part of {path}, or it has changed: pass data= to see what was measured"
    return array, ""
