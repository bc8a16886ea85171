"""Frames of planned groups: read when they are wanted, each frame once in a batch, batch by batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from scanfold._apply import apply_kernel, take_rows
from scanfold.conventions import InputError, InputTypeError, Var, describe_input, primary, record, require_word
from scanfold.grouping._curve_kernels import along_curve, bits_for
from scanfold.grouping.options import whole
from scanfold.grouping.positions import MOST, NOMINAL, TRUE, scan_dims
from scanfold.io.rows import Rows
from scanfold.io.views import Unfolded

Array = npt.NDArray[Any]

#: Bytes of frames that a batch aims at.
TARGET = 2**25
#: Bytes of indices that a graph may carry; larger plans are saved first.
CARRIED = 2**23
ORDERS = ("tile", "plan")

COORDINATES = (
    Var("offset_y", ("group",), "float64", "centre of the group along y, the mean of its positions"),
    Var("offset_x", ("group",), "float64", "centre of the group along x, the mean of its positions"),
    Var("relative_y", ("group", "channel"), "float64", "minus the position from the centre of its group, along y"),
    Var("relative_x", ("group", "channel"), "float64", "minus the position from the centre of its group, along x"),
)


def gather(
    scan: xr.Dataset | xr.DataArray, plan: xr.Dataset, *, order: str = "tile", chunks: int | None = None
) -> xr.Dataset:
    """Gather the frames of planned groups, lazily: a task for each batch of groups reads each of its frames once.

    Parameters
    ----------
    scan : Dataset or DataArray
        Frames over the positions that the plan was made for; with ``Y`` over them, that too.
    plan : Dataset
        From `plan_groups`. Indices of more than 8 MiB do not travel in graphs: save such a plan, and open it.
    order : {"tile", "plan"}
        "tile" puts groups that are near each other one after the other, so that a batch reads few chunks of the
        file; the coordinate ``group`` is the number in the plan. "plan" keeps the plan's order, as do large plans
        that are read from a store.
    chunks : int, optional
        Groups in a chunk, which is a task; about 32 MiB of frames by default.

    Returns
    -------
    Dataset
        The frames under their own name, ``(group, channel, ky, kx)``; lazy if the scan is. Coordinates over
        ``(group, channel)``: ``position_y, position_x``, ``relative_y, relative_x = -(position - offset)``, and
        ``position_y_nominal, position_x_nominal`` where the scan has them; over ``(group,)``: ``offset_y, offset_x``,
        ``seed_index``. The probe and the object of the scan come along.

    Raises
    ------
    InputError
        If the plan is of another number of positions, or too large for a graph.

    Examples
    --------
    >>> from scanfold.grouping import plan_groups
    >>> y, x = np.divmod(np.arange(100.0), 10)
    >>> scan = xr.DataArray(np.zeros((100, 8, 8)), dims=("position", "ky", "kx"), name="diffraction").chunk(position=20)
    >>> scan = scan.assign_coords(position_y=("position", y), position_x=("position", x))
    >>> groups = gather(scan, plan_groups(scan, nsamples=30, gridsize=2))
    >>> groups.diffraction.dims, groups.diffraction.shape
    (('group', 'channel', 'ky', 'kx'), (30, 4, 8, 8))
    >>> bool(abs(groups.relative_y.sum("channel")).max() < 1e-9)
    True
    """
    frames = primary(scan)
    if not isinstance(plan, xr.Dataset) or "nn_indices" not in plan:
        raise InputTypeError(f"expected a plan of plan_groups, found {type(plan).__name__}")
    require_word("order", order, ORDERS)
    holder = scan if isinstance(scan, xr.Dataset) else scan.to_dataset(name=frames.name or "diffraction")
    dims = scan_dims(holder) if TRUE[0] in holder.variables else (str(frames.dims[0]),)
    if missing := [d for d in dims if d not in frames.dims]:
        raise InputError(f"positions are over {', '.join(dims)}, and {frames.name!r} has no {', '.join(missing)}")
    count = int(np.prod([frames.sizes[d] for d in dims]))
    if count != plan.attrs.get("n_positions", count):
        raise InputError(
            f"the plan is of {plan.attrs['n_positions']} positions, and the scan has {count}: plan on this scan"
        )
    sizes = {d: frames.sizes[d] for d in dims}
    chosen = _ordered(plan, holder, order, sizes)
    names = [n for n in (str(frames.name or "diffraction"), "Y") if n in holder]
    each = max(holder[n].nbytes for n in names) // max(1, count) * plan.sizes["channel"]
    asked = max(1, TARGET // max(1, each)) if chunks is None else whole("chunks", chunks)
    step = min(asked, plan.sizes["group"])
    if chosen["nn_indices"].chunks is not None:  # once for all variables, so that their batches are the same
        chosen = chosen.chunk(group=step)
    out = xr.Dataset(coords=_coordinates(holder, chosen, sizes, step))
    for name in names:
        out[name] = _take(holder[name], chosen["nn_indices"], sizes, step)
    for name in ("probe", "object"):
        if name in holder:
            out[name] = holder[name]
    options = {"order": order, "plan": plan.attrs.get("provenance", "")}
    out.attrs = {"primary": str(frames.name or "diffraction"), "n_positions": count}
    out.attrs["provenance"] = record("gather", {"frames": frames, "nn_indices": plan["nn_indices"]}, options)
    return out


def _ordered(plan: xr.Dataset, scan: xr.Dataset, order: str, sizes: Mapping[str, int]) -> xr.Dataset:
    """Return the plan with its groups in the order in which they are gathered, their numbers as a coordinate."""
    chosen = plan[["nn_indices", "seed_index"]]
    if chosen["nn_indices"].nbytes <= CARRIED:
        chosen = chosen.compute()
    if "group" not in chosen.coords and chosen["nn_indices"].chunks is None:
        chosen = chosen.assign_coords(group=np.arange(plan.sizes["group"]))
    if order == "plan" or chosen["nn_indices"].chunks is not None or TRUE[0] not in scan.variables:
        return chosen
    seeds = chosen["seed_index"].variable
    points = np.stack([scan[n].values.ravel()[_rows_of(scan[n], seeds, sizes).values] for n in TRUE], axis=1)
    low = points.min(axis=0)
    place = along_curve(points, low, points.max(axis=0) - low, bits_for(seeds.size))
    return chosen.isel(group=np.argsort(place, kind="stable"))


@dataclass(frozen=True)
class _Reader:
    """Reads the rows of a file that a batch of indices names, each once."""

    rows: Rows

    def __call__(self, indices: Array) -> Array:
        taken = self.rows.take(indices.ravel())
        return taken.reshape(indices.shape + taken.shape[1:])


def _rows_of(array: xr.DataArray, indices: Any, sizes: Mapping[str, int]) -> Any:
    """Return which rows of an array belong to some positions of a scan, whose dimensions it may have only some of."""
    if set(sizes) <= set(array.dims):
        return indices
    rows, after = 0 * indices, math.prod(sizes.values())
    for dim, size in sizes.items():
        after //= size
        if dim in array.dims:
            rows = rows * size + indices // after % size
    return rows


def _take(array: xr.DataArray, indices: xr.DataArray, sizes: Mapping[str, int], step: int) -> xr.DataArray:
    """Take what belongs to the positions that some indices name; the result has no attributes but the array's own."""
    indices = _rows_of(array, indices, sizes)
    dims = [d for d in sizes if d in array.dims]
    array = array.transpose(*dims, ...)
    frame = {str(d): n for d, n in array.sizes.items() if d not in dims}
    coords = {d: array[d] for d in frame if d in array.coords}
    if 0 in frame.values():
        raise InputError(f"{array.name!r} has frames of {frame}: there is nothing to gather")
    if array.chunks is None and indices.chunks is not None:
        return _looked_up(array, indices, frame)
    if array.chunks is None:
        values = array.values.reshape(-1, *frame.values())[indices.values]
        return xr.DataArray(values, dims=(*indices.dims, *frame), coords=coords, attrs=array.attrs)
    if indices.chunks is None and indices.nbytes > CARRIED:
        raise InputError(
            f"the plan has {indices.nbytes / 2**20:.0f} MiB of indices, too many for a graph: "
            "plan = sf.save(plan, 'plan.zarr'), then gather(scan, plan)"
        )
    rows = Rows.of(array)
    if rows is None:
        stack = array.data.reshape(-1, *frame.values()) if len(dims) > 1 else array.data
        taken = take_rows(stack, indices.values, step)
        return xr.DataArray(taken, dims=(*indices.dims, *frame), coords=coords, attrs=array.attrs)
    bare = indices.drop_vars(indices.coords)
    if len(dims) > 1:
        rows = Rows(Unfolded.of(rows.data), 1)
    out = apply_kernel(
        _Reader(rows),
        bare if bare.chunks is not None else bare.chunk(group=step),
        core_dims=[[*map(str, indices.dims[1:])]],
        output={str(d): indices.sizes[d] for d in indices.dims[1:]} | frame,
        token=f"gather-{array.data.name}",
        dtype=str(array.dtype),
    )
    return out.assign_coords(coords).assign_attrs(array.attrs)


@dataclass(frozen=True)
class _Lookup:
    """Looks values up that are in memory."""

    values: Array

    def __call__(self, indices: Array) -> Array:
        found: Array = self.values[indices]
        return found


def _looked_up(array: xr.DataArray, indices: xr.DataArray, frame: dict[str, int]) -> xr.DataArray:
    """Take from an array in memory what a plan in a store names; the array travels in the graph."""
    if array.nbytes > CARRIED:
        raise InputError(
            f"{array.name!r} is in memory, {array.nbytes / 2**20:.0f} MiB, and the plan in a store: too large to "
            "travel with its tasks. Save the scan too, and open it: sf.open_scan(store)"
        )
    values = array.values.reshape(-1, *frame.values())
    out = apply_kernel(
        _Lookup(values),
        indices.drop_vars(indices.coords),
        core_dims=[[*map(str, indices.dims[1:])]],
        output={str(d): indices.sizes[d] for d in indices.dims[1:]} | frame,
        token=f"lookup-{describe_input(array)['token']}",
        dtype=str(array.dtype),
    )
    return out.assign_attrs(array.attrs)


def _coordinates(scan: xr.Dataset, chosen: xr.Dataset, sizes: Mapping[str, int], step: int) -> dict[str, Any]:
    """Return what is known of the positions of each group."""
    bare = chosen.drop_vars("group", errors="ignore")
    found: dict[str, Any] = {n: chosen[n] for n in ("nn_indices", "seed_index")}
    found |= {"group": chosen["group"]} if "group" in chosen.coords else {}
    for name in (*TRUE, *NOMINAL):
        if name in scan.variables:
            values = scan[name].reset_coords(drop=True)
            if values.chunks is not None and values.size <= MOST and chosen["nn_indices"].chunks is None:
                values = values.compute()
            values = values.astype("float64", copy=False)
            found[name] = _take(values, bare["nn_indices"], sizes, step)
    for label in ("scan_index", "object_index"):
        if label in scan.variables:
            values = scan[label].reset_coords(drop=True).compute()
            found[label] = _take(values, bare["seed_index"], sizes, step)
    for axis in ("y", "x"):
        name = f"position_{axis}"
        if name in found:
            offset, relative = (v for v in COORDINATES if v.name.endswith(f"_{axis}"))
            centre = found[name].mean("channel")
            found[offset.name] = offset.make(centre)
            found[relative.name] = relative.make(-(found[name] - centre))
            for made in (offset.name, relative.name):
                if "units" in found[name].attrs:
                    found[made].attrs["units"] = found[name].attrs["units"]
    return found
