"""Centre of mass of every frame: of all of it, in a disc or annulus, or with gates as weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from scanfold import _apply
from scanfold.conventions import InputError, InputTypeError, Var, record, table, unknown
from scanfold.detectors.frames import (
    AXES,
    Array,
    as_center,
    disc_center,
    frames_of,
    given_center,
    given_pixels,
    of_pixels,
    pattern_sum,
    pixel_steps,
)
from scanfold.detectors.gates import ring_limits
from scanfold.detectors.labels import LabelsLike
from scanfold.detectors.moments import centre_of_mass, shot_noise
from scanfold.detectors.parts import Finish, add_parts, like_scan, own_gate, scan_shift
from scanfold.detectors.projection import CountsProjection, Moments
from scanfold.detectors.templates import require

MODES = ("union", "adaptive")
VARIABLES = (
    Var("total", ("...",), "float64", "counts in the detector", "count"),
    Var("com_y", ("...",), "float64", "centre of mass along ky", ancillary=("com_y_stderr",)),
    Var("com_x", ("...",), "float64", "centre of mass along kx", ancillary=("com_x_stderr",)),
    Var("com_y_stderr", ("...",), "float64", "standard error of com_y from counting statistics"),
    Var("com_x_stderr", ("...",), "float64", "standard error of com_x from counting statistics"),
    Var("frame_valid", ("...",), "bool", "frame is finite and has counts"),
)


def center_of_mass(
    scan: xr.Dataset | xr.DataArray,
    *,
    gate: Any = None,
    mode: str = "union",
    labels: LabelsLike | None = None,
    center: Any = None,
    descan: xr.DataArray | None = None,
    bad_pixels: Any = None,
) -> xr.Dataset:
    r"""Find the centre of mass of every frame, with its error from counting statistics, in one read.

    .. math:: C_a(i) = \frac{\sum_k k_a G(k) I_i(k)}{\sum_k G(k) I_i(k)}, \qquad
              s^2(C_a) = \frac{\sum_k G^2 (k_a - C_a)^2 I_i}{(\sum_k G I_i)^2}

    Sums of integer counts over the frame, a disc or an annulus are exact. A logarithm is never taken here.

    Parameters
    ----------
    scan : Dataset or DataArray
        Frames ``(*scan, ky, kx)``, lazy or not; chunks may cut the detector.
    gate : optional
        None for the whole frame; ``("disc", radius)`` or ``("annulus", inner, outer)`` about the beam, in pixels;
        an array of weights (ky, kx); or a Dataset of `gates`.
    mode : {"union", "adaptive"}
        With a Dataset of gates: the largest gate at each pixel, or the gate of the label of each position, and the
        union for noise and unknown labels. Adaptive needs `labels`, and makes the labels look like a field: each
        cluster is looked at through another gate. Compare it with a disc.
    labels : optional
        Cluster of each position.
    center : (float, float), optional
        Centre of the beam ``(ky, kx)`` in pixels; a calibrated scan carries it. Without one, the centre of a disc
        or annulus is found in the mean pattern, which reads the scan once more, and the centre of mass of whole
        frames is their coordinate on the detector.
    descan : DataArray, optional
        Shift of the beam at each position in pixels, dims ``(*scan, axis)``: the disc follows it, and it is
        subtracted. See `scanfold.detectors.descan`.
    bad_pixels : array of bool (ky, kx), optional
        Pixels to leave out (True).

    Returns
    -------
    Dataset
        Over the scan dims, lazy if the scan is; in the units of ``ky, kx``. Frames without counts are NaN.

    Raises
    ------
    InputError
        If gate, centre, labels or descan do not fit the scan.

    Notes
    -----
    {table}

    References
    ----------
    .. [1] K. Müller-Caspary et al., Measurement of atomic electric fields and charge densities from average momentum
       transfers using scanning transmission electron microscopy, Ultramicroscopy 178 (2017) 62.

    Examples
    --------
    >>> frames = np.zeros((2, 3, 5, 5), "uint16")
    >>> frames[..., 2, 3] = 100
    >>> com = center_of_mass(xr.DataArray(frames, dims=("y", "x", "ky", "kx")), center=(2, 2))
    >>> com["com_x"].values[0], com["com_x_stderr"].values[0]
    (array([1., 1., 1.]), array([0., 0., 0.]))
    """
    array, dims = frames_of(scan)
    steps, units = pixel_steps(array)
    known = given_center(center, array)
    shape = tuple(array.sizes[d] for d in AXES)
    good = np.ones(shape, bool) if bad_pixels is None else ~given_pixels(bad_pixels, array, "bad_pixels")
    valid = xr.DataArray(good, dims=AXES)
    kind, weights, circle = _gate(gate, mode, labels, array)
    moved = None if descan is None else scan_shift(descan, array, dims)
    if kind in ("disc", "annulus") and known is None:
        known = _found_center(array, valid)
    origin = xr.DataArray(_origins(array, steps), dims="axis") if known is None else known.drop_vars("axis")
    more = [] if moved is None else [like_scan(moved, array, dims)]
    number = [] if kind != "adaptive" else [like_scan(own_gate(labels, gate, array, dims), array, dims)]  # type: ignore[arg-type]
    finish = Finish(
        _Maps(weights is None, moved is not None, kind == "adaptive", steps), (origin, *more, *number),
        len(VARIABLES), tuple((i, spec.dtype) for i, spec in enumerate(VARIABLES)),
    )  # fmt: skip
    if weights is None:
        maps = _circle_maps(array, dims, valid, origin, moved, kind, circle, finish)
    else:
        maps = _weighted_maps(array, weights, valid, origin, finish)
    made = {}
    for spec, values in zip(VARIABLES, maps, strict=True):
        made[spec.name] = spec.make(values).variable
        if "com" in spec.name:
            made[spec.name].attrs["units"] = units
    ds = xr.Dataset(made, {n: c for n, c in array.coords.items() if not set(c.dims) & set(AXES)})
    options = {
        "gate": kind if gate is None or kind in MODES else str(gate) if circle else "weights",
        "center": None if known is None or known.chunks is not None else known.values.tolist(),
        "descan": descan is not None,
    }
    ds.attrs = {"provenance": record("center_of_mass", {"scan": array}, options)}
    return ds


def _origins(array: xr.DataArray, steps: tuple[float, float]) -> list[float]:
    """Return where the coordinates of the detector are zero, in pixels."""
    firsts = [float(array[d][0]) if d in array.coords else 0.0 for d in AXES]
    return [-first / step for first, step in zip(firsts, steps, strict=True)]


def _gate(
    gate: Any, mode: str, labels: Any, array: xr.DataArray
) -> tuple[str, xr.DataArray | None, tuple[float, float] | None]:
    """Return the kind of a gate, its weights (gate, ky, kx), and its radii."""
    if mode not in MODES:
        raise unknown("mode", mode, MODES)
    if not isinstance(gate, xr.Dataset) and (mode == "adaptive" or labels is not None):
        raise InputError('labels= and mode="adaptive" choose among gates; pass gate=det.gates(…)')
    if gate is None:
        return "all", None, None
    if isinstance(gate, xr.Dataset):
        require(gate, ("gate", "union"), "gates")
        if tuple(gate.sizes[d] for d in AXES) != tuple(array.sizes[d] for d in AXES):
            raise InputError(f"gates are of {gate.sizes['ky']} × {gate.sizes['kx']} pixels, not those of the frames")
        union = gate["union"].expand_dims("cluster")
        if mode == "union":
            return mode, union.drop_vars(list(union.coords)), None
        if labels is None:
            raise InputError('mode="adaptive" needs labels=, the cluster of each position')
        every = xr.concat([gate["gate"].drop_vars("cluster"), union], "cluster")
        return mode, every.drop_vars(list(every.coords)), None
    if isinstance(gate, tuple | list) and gate and isinstance(gate[0], str):
        return _circle(gate)
    values = of_pixels(gate).astype(np.float64)
    shape = tuple(array.sizes[d] for d in AXES)
    if values.shape != shape or not np.isfinite(values).all():
        raise InputError(f"gate is an array of the shape {values.shape}; expected finite weights of {shape}")
    return "weights", xr.DataArray(values[None], dims=("cluster", *AXES)), None


def _circle(gate: Sequence[Any]) -> tuple[str, None, tuple[float, float]]:
    lengths = {"disc": 2, "annulus": 3}
    if gate[0] not in lengths:
        raise unknown("gate", gate[0], lengths)
    if len(gate) != lengths[gate[0]]:
        raise InputTypeError(f'gate={tuple(gate)!r}; expected ("disc", radius) or ("annulus", inner, outer), in pixels')
    inner, outer = (-1.0, gate[1]) if gate[0] == "disc" else ring_limits(gate[1:], "gate")
    if not (np.isfinite(outer) and outer > 0):
        raise InputError(f"gate={tuple(gate)!r}; expected a radius in pixels")
    return gate[0], None, (inner if inner > 0 else -1.0, float(outer))


def _found_center(array: xr.DataArray, valid: xr.DataArray) -> xr.DataArray:
    """Find the centre in the mean pattern, by one more read."""
    total = pattern_sum(array)
    return as_center(_apply.apply_whole(disc_center, total, valid, output={"axis": 2}, token="disc-center").data)


def _circle_maps(
    array: xr.DataArray, dims: Any, valid: xr.DataArray, center: xr.DataArray, moved: xr.DataArray | None, kind: str,
    circle: tuple[float, float] | None, finish: Finish,
) -> list[xr.DataArray]:  # fmt: skip
    radii = xr.DataArray(np.array(circle or (-1.0, -1.0)), dims="axis")
    geometry = xr.concat([center if moved is None else moved + center, radii], "axis")
    if geometry.chunks is not None:
        geometry = geometry.chunk(axis=-1)
    if moved is not None:
        geometry = like_scan(geometry.transpose(*dims, "axis"), array, dims)
    region = "all" if kind == "all" else "ring"
    second = _apply.read_again(array) if center.chunks is not None else array
    return add_parts(
        lambda origin: Moments(origin, (region,)),
        second,
        valid,
        positions=[geometry],
        finish=finish,
        width=5,
        token=f"moments {region}",
    )


def _weighted_maps(
    array: xr.DataArray, weights: xr.DataArray, valid: xr.DataArray, center: xr.DataArray, finish: Finish
) -> list[xr.DataArray]:
    count, sizes = weights.sizes["cluster"], {d: array.sizes[d] for d in AXES}
    columns = _apply.apply_whole(
        _moment_columns,
        weights,
        valid,
        center,
        output={**sizes, "n": 8 * count},
        token="moment-columns",
        dtype="float32",
    )
    second = _apply.read_again(array) if weights.chunks is not None else array
    return add_parts(
        lambda origin: CountsProjection(), second, columns, valid, finish=finish, width=8 * count,
        token="weighted-moments",
    )  # fmt: skip


def _moment_columns(weights: Array, valid: Array, center: Array) -> Array:
    """Return the columns (ky, kx, 8 gates): G, G k_y, G k_x, G², G² k_y, G² k_x, G² k_y², G² k_x²."""
    ky, kx = (np.arange(n) - c for n, c in zip(valid.shape, center, strict=True))
    ky, kx = ky[:, None] + 0 * kx, kx + 0 * ky[:, None]
    one = np.ones(valid.shape)
    gates = [g * valid.astype(bool) for g in weights]
    columns = [[*(g * k for k in (one, ky, kx)), *(g**2 * k for k in (one, ky, kx, ky**2, kx**2))] for g in gates]
    return np.stack([c for gate in columns for c in gate], axis=-1)


@dataclass(frozen=True)
class _Maps:
    """From moments (N, n), centre (N, 2), descan (N, 2) and number of the gate (N,) to the maps (N, 6)."""

    circle: bool
    descan: bool
    adaptive: bool
    steps: tuple[float, float]

    def __call__(self, raw: Array, center: Array, *more: Array) -> Array:
        """Return total, centre of mass and its errors, and whether the frame is valid."""
        rest = list(more)
        moved = rest.pop(0) if self.descan else 0.0
        if self.circle:
            total, com = raw[:, 0], centre_of_mass(raw[:, 0], raw[:, 1:3])
            error = shot_noise(total, com, raw)
            com = com - center
        else:
            moments = raw.reshape(len(raw), -1, 8)
            own = moments[np.arange(len(raw)), rest.pop(0)] if self.adaptive else moments[:, 0]
            total, com = own[:, 0], centre_of_mass(own[:, 0], own[:, 1:3])
            error = shot_noise(total, com, own[:, 3:])
        good = np.isfinite(raw).all(axis=1) & (total > 0)
        step = np.array(self.steps)
        return np.concatenate([total[:, None], (com - moved) * step, error * abs(step), good[:, None]], axis=1)


_TABLE = table(VARIABLES).replace("\n", "\n    ")
center_of_mass.__doc__ = (center_of_mass.__doc__ or "").replace("{table}", _TABLE)
