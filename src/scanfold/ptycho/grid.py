"""Scans on a grid, simulated in groups: g × g frames at a fixed spacing, group after group over the object."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from scanfold.conventions import InputError, InputTypeError, Var, record
from scanfold.grouping.options import whole
from scanfold.ptycho import _position_kernels, forward, objects, probes
from scanfold.ptycho.config import positive, streams
from scanfold.ptycho.forward import Detector, Optics, Scan
from scanfold.ptycho.objects import sim_object_image
from scanfold.ptycho.positions import CUT

Array = npt.NDArray[Any]

VARIABLES = (
    Var("X", ("group", "ky", "kx", "channel"), "float32", "diffraction amplitude"),
    Var("Y_I", ("group", "probe_y", "probe_x", "channel"), "float32", "amplitude of the exit wave"),
    Var("Y_phi", ("group", "probe_y", "probe_x", "channel"), "float32", "phase of the object", "rad"),
    Var("coords_nominal", ("group", "one", "axis", "channel"), "float64", "centre of the group − nominal position",
        "pixel"),
    Var("coords_true", ("group", "one", "axis", "channel"), "float64", "centre of the group − true position", "pixel"),
    Var("global_offsets", ("group", "one", "axis", "one_channel"), "float64", "centre of the group", "pixel"),
    Var("image", ("group",), "int64", "number of the object"),
    Var("YY_full", ("image_number", "object_y", "object_x"), "complex64", "the objects"),
)  # fmt: skip
_BY_NAME = {v.name: v for v in VARIABLES}


def mk_simdata(
    n: int,
    size: int,
    probe: Any,
    outer_offset: int,
    *,
    gridsize: int = 1,
    offset: int = 4,
    data_source: str = "lines",
    phase: bool = False,
    images: Any = None,
    nphotons: float = 1e9,
    intensity_scale: float | None = None,
    jitter: float = 0.0,
    noise: bool = True,
    beam_stop: Any = None,
    psf: float | None = None,
    saturation: float | None = None,
    background: Any = None,
    chunks: int | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Simulate scans of `n` objects on a grid, in groups of ``gridsize²`` frames, lazily.

    With ``bigN = N + (gridsize − 1) · offset`` and groups ``outer_offset // 2`` pixels apart there are
    ``L = ⌊(size − bigN) / (outer_offset // 2)⌋ + 1`` of them along each side, ``B = n · L²`` in all. The model is
    that of `generate_simulated_data`, with one photon scale for all objects.

    Parameters
    ----------
    n : int
        Objects, each of a seed of its own.
    size : int
        Pixels along a side of the part of an object that is scanned.
    probe : array (N, N) or (modes, N, N)
        Complex wave.
    outer_offset : int
        Twice the distance between groups, in pixels.
    gridsize : int
        Frames along one side of a group.
    offset : int
        Distance between the frames of a group, in pixels.
    data_source : str
        Kind of the objects, as of `sim_object_image`.
    phase : bool
        Give them a phase.
    images : array (n, size, size), optional
        Objects in place of simulated ones.
    nphotons : float
        Mean photons in a frame.
    intensity_scale : float, optional
        The scale of another dataset, such as the training set's for a test set, in place of one of its own.
    jitter : float
        Standard deviation of true positions from nominal ones in pixels, cut at four of them. Simulated objects are
        made as much larger on every side, so that no patch reaches outside; given ones are scanned as far inside.
    noise, beam_stop, psf, saturation, background
        As of `generate_simulated_data`.
    chunks : int, optional
        Groups in a chunk; 16 MiB of frames if not given.
    seed : int
        Objects, jitter and noise have streams of their own, spawned from it.

    Returns
    -------
    Dataset
        `X` (group, ky, kx, channel): amplitude over s; `Y_I`, `Y_phi` (group, probe_y, probe_x, channel): amplitude
        of the exit wave and phase of the object; `coords_nominal`, `coords_true` (B, 1, 2, C) with the axes x, y:
        centre of the group minus position of the frame; `global_offsets` (B, 1, 2, 1): that centre; `image` (group):
        number of the object; `YY_full`: the objects; `probeGuess`; `intensity_scale`. Channels run row by row.

    Raises
    ------
    InputError, InputTypeError
        If sizes do not fit together.

    Examples
    --------
    >>> from scanfold import ptycho
    >>> sim = mk_simdata(1, 80, ptycho.default_probe(32), 16, gridsize=2, offset=4)
    >>> sim["X"].shape, sim["coords_true"].values[0, 0, :, :].tolist()
    ((36, 32, 32, 4), [[2.0, -2.0, 2.0, -2.0], [2.0, 2.0, -2.0, -2.0]])
    """
    wave = probes.checked(probe)
    N, C = wave.shape[-1], whole("gridsize", gridsize) ** 2
    n, size, offset = whole("n", n), whole("size", size), whole("offset", offset)
    step = whole("outer_offset", outer_offset, least=2) // 2
    margin = math.ceil(CUT * positive("jitter", jitter, zero=True))
    keys = streams(seed, 3)
    made = _given(images, n, size) if images is not None else None
    inside = size - 2 * margin if made is not None else size
    side = _per_side(inside, N, gridsize, offset, step)
    if made is None:
        made = _simulated(n, size + 2 * margin, data_source, phase, keys[0])
    nominal = _nominal(side, N, gridsize, offset, step) + margin
    numbers = np.arange(n * side**2 * C)
    moved = jitter * _unit(numbers, keys[1]) if jitter else np.zeros((numbers.size, 2))
    true = np.tile(nominal.reshape(-1, 2), (n, 1)) + moved
    detector = Detector(background, psf, beam_stop, saturation).checked(N)
    scans = [
        _Part(Optics(m, wave if wave.ndim == 3 else wave.expand_dims("mode")), true[i * side**2 * C :][: side**2 * C])
        for i, m in enumerate(made)
    ]
    group = forward.chunk_of(n * side**2, 4 * N * N * C, chunks)
    scale = _scale(scans, intensity_scale, nphotons, group * C)
    key = (int(keys[2][0]), int(keys[2][1])) if noise else None
    parts = [p.simulated(i, scale, group, C, key, detector) for i, p in enumerate(scans)]
    ds = xr.concat(parts, "group").assign(intensity_scale=scale, probeGuess=wave)
    ds["YY_full"] = _BY_NAME["YY_full"].make(xr.concat(made, "image_number"))
    ds = ds.assign(_coordinates(nominal, true.reshape(n, side**2, C, 2), n, side))
    options = {
        "n": n, "size": size, "outer_offset": outer_offset, "gridsize": gridsize, "offset": offset,
        "data_source": data_source if images is None else "given", "phase": phase, "nphotons": nphotons,
        "intensity_scale": intensity_scale, "jitter": jitter, "noise": noise, "detector": detector.described,
        "seed": seed,
    }  # fmt: skip
    inputs = {"probe": wave} | ({"images": ds["YY_full"]} if images is not None else {})
    return ds.assign_attrs(
        primary="X", kind="amplitude", gridsize=gridsize, nphotons=nphotons, margin=margin,
        provenance=record("ptycho.mk_simdata", inputs, options),
    )  # fmt: skip


class _Part:
    """The scan of one object: its optics and the true positions (groups · channels, 2) of its frames."""

    def __init__(self, optics: Optics, places: Array):
        self.optics, self.places = optics, places

    def scan(self, chunk: int, first: int = 0) -> Scan:
        """Return the positions in chunks."""
        y, x = (xr.DataArray(np.ascontiguousarray(self.places[:, i]), dims="position") for i in (0, 1))
        return Scan(y, x, min(chunk, y.size), first)

    def simulated(
        self, number: int, scale: xr.DataArray, group: int, C: int, key: Any, detector: Detector
    ) -> xr.Dataset:
        """Return X, Y_I and Y_phi of this object, which is `number` in the dataset."""
        scan = self.scan(group * C, number * len(self.places))
        frames = forward.diffraction(self.optics, scan, scale, key=key, detector=detector, counts=False)
        patches = forward.object_patches(self.optics, scan)
        wave = np.sqrt((abs(self.optics.probes) ** 2).sum("mode"))
        found = {"X": frames, "Y_I": abs(patches) * wave, "Y_phi": xr.ufuncs.angle(patches)}
        return xr.Dataset({name: _BY_NAME[name].make(forward.folded(a, C)) for name, a in found.items()})


def _scale(parts: list[_Part], given: float | None, nphotons: float, chunk: int) -> xr.DataArray:
    positive("nphotons", nphotons)
    if given is not None:
        return forward.SCALE.make(xr.DataArray(positive("intensity_scale", given)))
    return forward.photon_scale([forward.mean_energy(p.optics, p.scan(chunk)) for p in parts], nphotons)


def _per_side(inside: int, N: int, gridsize: int, offset: int, step: int) -> int:
    big = N + (gridsize - 1) * offset
    if inside < big:
        raise InputError(
            f"a group of {gridsize} × {gridsize} frames of {N} pixels, {offset} apart, needs {big} along a side; "
            f"there are {inside} (size, less the reach of the jitter in given images)"
        )
    return (inside - big) // step + 1


def _nominal(side: int, N: int, gridsize: int, offset: int, step: int) -> Array:
    """Return y, x of the frames of all groups of one object, (groups, channels, 2)."""
    outer = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij"), axis=-1).reshape(-1, 1, 2) * step
    inner = np.stack(np.meshgrid(np.arange(gridsize), np.arange(gridsize), indexing="ij"), axis=-1).reshape(1, -1, 2)
    return np.asarray(outer + inner * offset + N / 2)


def _unit(numbers: Array, key: Array) -> Array:
    return np.asarray(_position_kernels.jitter(numbers, 1.0, CUT, key))


def _given(images: Any, n: int, size: int) -> list[xr.DataArray]:
    found = np.asarray(images)
    if found.shape != (n, size, size):
        raise InputError(f"images= has shape {found.shape}; expected {n} objects of size={size}: ({n}, {size}, {size})")
    if found.dtype.kind not in "biufc":
        raise InputTypeError(f"images= holds {found.dtype}; expected complex numbers")
    return [objects.checked(image) for image in found]


def _simulated(n: int, edge: int, data_source: str, phase: bool, key: Array) -> list[xr.DataArray]:
    seeds = np.random.SeedSequence([int(w) for w in key]).generate_state(n, np.uint64)
    # whole canvases: a scan on a grid reads every part of them
    return [sim_object_image(edge, data_source, int(s), phase=phase).compute() for s in seeds]


def _coordinates(nominal: Array, true: Array, n: int, side: int) -> dict[str, xr.DataArray]:
    centre = nominal.mean(axis=1)  # (groups, 2)
    relative = centre[:, None] - nominal
    arrays = {
        "coords_nominal": np.tile(relative, (n, 1, 1)),
        "coords_true": (centre[None, :, None] - true).reshape(n * side**2, -1, 2),
        "global_offsets": np.tile(centre[:, None], (n, 1, 1)),
    }
    # (B, C, y x) → (B, 1, x y, C)
    found = {name: np.moveaxis(a[..., ::-1], 1, 2)[:, None] for name, a in arrays.items()}
    found["image"] = np.repeat(np.arange(n), side**2)
    made = {name: _BY_NAME[name].make(xr.DataArray(a, dims=_BY_NAME[name].dims)) for name, a in found.items()}
    axis = xr.DataArray(np.array(["x", "y"], object), dims="axis")
    return {name: a.assign_coords(axis=axis) if "axis" in a.dims else a for name, a in made.items()}
