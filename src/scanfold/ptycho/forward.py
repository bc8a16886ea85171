"""The forward model, laid over a scan: patches, waves on the detector, photons, and the one scale of a dataset."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import xarray as xr

from scanfold import _apply
from scanfold._apply import apply_kernel, count_along
from scanfold.conventions import InputError, InputTypeError, Var, require_word
from scanfold.grouping.options import whole
from scanfold.ptycho import _diffraction_kernels as kernels
from scanfold.ptycho import objects
from scanfold.ptycho.config import positive

DIFFRACTION = Var("diffraction", ("position", "ky", "kx"), "float32", "diffraction amplitude")
COUNTS = Var("diffraction", ("position", "ky", "kx"), "uint32", "photons on the detector", "count")
PATCHES = Var("Y", ("position", "probe_y", "probe_x"), "complex64", "the object at each position")
SCALE = Var("intensity_scale", (), "float64", "factor from amplitudes to square roots of photons")
#: Bytes of frames in a chunk, and the most chunks, unless the user says how many frames one has.
CHUNK, MOST = 2**24, 20_000
#: Bytes of such a chunk in a scan that is too long to be meant.
LARGEST = 2**33
#: Positions of the photon scale that are computed together, and added together, whatever the chunks.
BLOCK, SECTION = 4096, 2**21


@dataclass(frozen=True)
class Detector:
    """What the detector does to the light: each None if it does not.

    Parameters
    ----------
    background : float or (N, N), optional
        Photons per pixel that come from elsewhere.
    psf : float, optional
        Width of the Gaussian by which light spreads before it is counted, in pixels.
    stop : (N, N), optional
        False where a beam stop shades the detector.
    saturation : float, optional
        The largest count.
    """

    background: Any = None
    psf: float | None = None
    stop: Any = None
    saturation: float | None = None

    def checked(self, N: int) -> Detector:
        """Return it with arrays of (N, N) numbers.

        Raises
        ------
        InputError
            If a shape does not fit, or a number cannot be.
        """
        background, stop = self.background, self.stop
        if background is not None:
            background = _fitting("background", background, np.float32, N)
            if not (np.isfinite(background) & (background >= 0)).all():
                raise InputError("background= holds NaN or negative numbers; expected photons per pixel")
        if stop is not None:
            stop = _fitting("beam_stop", stop, bool, N).astype(np.float32)
        psf = None if self.psf is None else positive("psf", self.psf)
        saturation = None if self.saturation is None else positive("saturation", self.saturation)
        return Detector(background, psf, stop, saturation)

    @property
    def options(self) -> dict[str, Any]:
        """Options of the kernel."""
        return {name: getattr(self, name) for name in ("background", "psf", "stop", "saturation")}

    @property
    def described(self) -> dict[str, Any]:
        """What goes into the record: arrays by their hash."""
        return {n: _hash(v) if isinstance(v, np.ndarray) and v.ndim else v for n, v in self.options.items()}


def _fitting(name: str, given: Any, dtype: type, N: int) -> np.ndarray:
    try:
        values: np.ndarray = np.asarray(given, dtype)
    except (TypeError, ValueError):
        raise InputTypeError(f"{name}= is a {type(given).__name__}; expected numbers of shape ({N}, {N})") from None
    if values.shape not in ((), (N, N)):
        raise InputError(f"{name}= has shape {values.shape}; expected ({N}, {N}), the shape of a frame")
    return values


def _hash(values: np.ndarray) -> str:
    return hashlib.sha256(values.tobytes()).hexdigest()[:16]


@dataclass(frozen=True)
class Optics:
    """What a simulation is made of besides positions.

    Parameters
    ----------
    image, probes
        Object (object_y, object_x), and probe modes (mode, probe_y, probe_x), complex64.
    interpolation : {"bilinear", "fourier"}
    """

    image: xr.DataArray
    probes: xr.DataArray
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        require_word("interpolation", self.interpolation, kernels.CUTS)

    @property
    def N(self) -> int:
        """Pixels along a side of a frame."""
        return self.probes.sizes["probe_y"]

    @cached_property
    def shared(self) -> xr.DataArray:
        """The object; one in memory as a step that a run keeps once, since every block would carry it otherwise."""
        if self.image.chunks is not None:
            return self.image
        values = self.image.values
        data = _apply.prologue(np.asarray, values, shape=values.shape, token="object", dtype=str(values.dtype))
        return self.image.copy(data=data)

    @property
    def tiled(self) -> bool:
        """Whether the object is in several chunks."""
        return self.image.chunks is not None and any(len(c) > 1 for c in self.image.chunks)


@dataclass(frozen=True)
class Scan:
    """Positions (position,) in pixels of the object, how many are in a chunk, and the number of the first."""

    y: xr.DataArray
    x: xr.DataArray
    chunk: int
    first: int = 0

    def part(self, some: slice) -> Scan:
        """Return some of the positions."""
        y, x = self.y.isel(position=some), self.x.isel(position=some)
        return Scan(y, x, min(self.chunk, y.size), self.first + some.start)

    @property
    def numbers(self) -> xr.DataArray:
        """The number of each position, which keys its noise."""
        return count_along("position", self.y.size, self.chunk) + self.first


@dataclass(frozen=True)
class _Diffract:
    """Kernel: object, probes, y, x, numbers, scale → frames."""

    key: tuple[int, int] | None
    interpolation: str
    detector: Mapping[str, Any] = field(repr=False)
    dtype: str

    def __call__(
        self,
        image: np.ndarray,
        probes: np.ndarray,
        y: np.ndarray,
        x: np.ndarray,
        numbers: np.ndarray,
        scale: np.ndarray,
    ) -> np.ndarray:
        out = np.empty((y.size, *probes.shape[-2:]), self.dtype)
        if y.size:
            key = None if self.key is None else np.array(self.key, np.uint64)
            kernels.diffract(
                image[0], probes[0], *_plain(y, x), numbers, float(scale[0]), out,
                key=key, interpolation=self.interpolation, detector=self.detector,
            )  # fmt: skip
        return out


@dataclass(frozen=True)
class _Patches:
    """Kernel: object, y, x → patches of the object."""

    N: int
    interpolation: str

    def __call__(self, image: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        if not y.size:
            return np.empty((0, self.N, self.N), np.complex64)
        made: np.ndarray = kernels.patches(image[0], *_plain(y, x), self.N, self.interpolation)
        return made


@dataclass(frozen=True)
class _Energies:
    """Kernel: object, probes, y, x → Σ|Ψ|² of each position."""

    interpolation: str

    def __call__(self, image: np.ndarray, probes: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        if not y.size:
            return np.empty(0)
        made: np.ndarray = kernels.energies(image[0], probes[0], *_plain(y, x), self.interpolation)
        return made


def _plain(y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.ascontiguousarray(y, np.float64), np.ascontiguousarray(x, np.float64)


def mean_energy(optics: Optics, scan: Scan) -> xr.DataArray:
    """Return the mean of Σ|Ψ|² over all positions, lazily: a prologue, which a run computes once.

    For bilinear patches it comes from correlations of |P|² with the object, exactly, with no wave computed;
    otherwise, and for tiled objects, from the waves of all positions, in blocks of fixed size. Long scans are added
    up section by section, so that no step holds all positions.
    """
    sections = [slice(first, first + SECTION) for first in range(0, scan.y.size, SECTION)]
    totals = [_total(optics, scan.part(section)).data for section in sections]
    function = partial(_mean, scan.y.size)
    return xr.DataArray(_apply.prologue(function, *totals, shape=(), token=f"mean-energy {scan.y.size}"))


def _total(optics: Optics, scan: Scan) -> xr.DataArray:
    """Return ΣΣ|Ψ|² of the positions of a section, lazily."""
    function: Callable[..., np.ndarray] = _of_correlations
    arrays = [optics.shared, optics.probes, scan.y, scan.x]
    if optics.tiled or optics.interpolation != "bilinear":
        kernel = _Energies(optics.interpolation)
        fixed = replace(scan, chunk=BLOCK)
        arrays = [laid(kernel, optics, fixed, before=[optics.probes], core=[_PROBE], output={}, dtype="float64")]
        function = np.sum
    lazy = [a.drop_vars(a.coords) if a.chunks is not None else a.drop_vars(a.coords).chunk() for a in arrays]
    token = f"total-energy {optics.interpolation}"
    return xr.DataArray(_apply.prologue(function, *(a.data for a in lazy), shape=(), token=token))


def _of_correlations(image: np.ndarray, probes: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.asarray(kernels.total_energy(image, probes, *_plain(y, x)))


def _mean(count: int, *totals: np.ndarray) -> np.ndarray:
    return np.asarray(np.sum(totals) / count)


def photon_scale(energies: Sequence[xr.DataArray], nphotons: float) -> xr.DataArray:
    """Return s = ``√(nphotons / mean Σ|Ψ|²)``, one number for a dataset, of the mean energies of its equal parts."""
    function = partial(_scale, nphotons)
    arrays = [e.data for e in energies]
    return SCALE.make(xr.DataArray(_apply.prologue(function, *arrays, shape=(), token=f"scale {nphotons!r}")))


def _scale(nphotons: float, *energies: np.ndarray) -> np.ndarray:
    mean = float(np.mean([float(e) for e in energies]))
    if not np.isfinite(mean):
        raise InputError("the object is NaN or infinite where the probe looks; expected a transmission, about 1")
    if not mean > 0:
        raise InputError("no light reaches the detector: the object is 0 wherever the probe looks")
    return np.asarray(np.sqrt(nphotons / mean))


_OBJECT, _PROBE = list(objects.DIMS), ["mode", "probe_y", "probe_x"]


def diffraction(
    optics: Optics,
    scan: Scan,
    scale: xr.DataArray,
    *,
    key: tuple[int, int] | None,
    detector: Detector,
    counts: bool,
) -> xr.DataArray:
    """Return what the detector records at each position, (position, ky, kx), lazily."""
    var = COUNTS if counts else DIFFRACTION
    kernel = _Diffract(key, optics.interpolation, detector.options, var.dtype)
    token = f"{kernel!r}{detector.described}"
    made = laid(
        kernel, optics, scan, before=[optics.probes], core=[_PROBE], after=[scan.numbers, scale],
        output={"ky": optics.N, "kx": optics.N}, dtype=var.dtype, token=token,
    )  # fmt: skip
    out = var.make(made).assign_attrs(kind="intensity" if counts else "amplitude")
    middle = np.arange(optics.N) - optics.N // 2
    return out.assign_coords({d: (d, middle, {"units": "pixel", "long_name": "distance from zero frequency"})
                              for d in ("ky", "kx")})  # fmt: skip


def object_patches(optics: Optics, scan: Scan) -> xr.DataArray:
    """Return the object at each position, (position, probe_y, probe_x), lazily."""
    kernel = _Patches(optics.N, optics.interpolation)
    output = {"probe_y": optics.N, "probe_x": optics.N}
    return PATCHES.make(laid(kernel, optics, scan, output=output, dtype="complex64"))


def chunk_of(count: int, frame: int, chunks: int | None) -> int:
    """Return how many of `count` frames, or groups, of so many bytes are in a chunk.

    Short chunks keep memory low; a long scan has longer ones, so that its graph stays small.
    """
    size = whole("chunks", chunks) if chunks is not None else max(1, CHUNK // frame, -(-count // MOST))
    if chunks is None and size * frame > LARGEST:
        raise InputError(f"{count:,} frames of {frame / 2**20:.3g} MiB are {count * frame / 2**40:,.0f} TiB, too many")
    return min(size, count)


def folded(frames: xr.DataArray, C: int) -> xr.DataArray:
    """Fold (position, …) to (group, …, channel), C frames after each other in a group."""
    return frames.coarsen(position=C).construct(position=("group", "channel")).transpose("group", ..., "channel")


def laid(
    kernel: Callable[..., Any],
    optics: Optics,
    scan: Scan,
    *,
    before: Sequence[xr.DataArray] = (),
    core: Sequence[list[str]] = (),
    after: Sequence[xr.DataArray] = (),
    output: Mapping[str, int],
    dtype: str,
    token: str | None = None,
) -> xr.DataArray:
    """Lay ``kernel(object, *before, y, x, *after)`` over a scan; a chunk of it takes its window of a tiled object.

    Parameters
    ----------
    kernel, output, dtype
        As of `apply_kernel`.
    optics, scan
        The positions are in memory if the object is tiled.
    before, core
        What the kernel takes before the positions, and its core dimensions.
    after
        What it takes after them; what lies along position follows their chunks.
    token : str, optional
        If the kernel's repr is not enough.
    """
    core_dims = [_OBJECT, *core, [], [], *([] for _ in after)]

    def part(image: xr.DataArray, y: xr.DataArray, x: xr.DataArray, more: Sequence[xr.DataArray]) -> xr.DataArray:
        y, x = (a.chunk(position=scan.chunk) for a in (y, x))
        return apply_kernel(
            kernel, image, *before, y, x, *more,
            core_dims=core_dims, output=output, token=token or repr(kernel), dtype=dtype,
        )  # fmt: skip

    if not optics.tiled:
        return part(optics.shared, scan.y, scan.x, after)
    parts = []
    for first in range(0, scan.y.size, scan.chunk):
        here = {"position": slice(first, min(first + scan.chunk, scan.y.size))}
        y, x = scan.y.isel(here), scan.x.isel(here)
        image, y0, x0 = _window(optics, y, x)
        more = [a.isel(here) if "position" in a.dims else a for a in after]
        parts.append(part(image, y - y0, x - x0, more))
    return xr.concat(parts, "position")


def _window(optics: Optics, y: xr.DataArray, x: xr.DataArray) -> tuple[xr.DataArray, int, int]:
    """Return the part of the object that some patches touch, in one chunk, and where it begins."""
    margin = optics.N // 2 + kernels._FADE + 2
    limits, origins = {}, []
    for dim, places in zip(objects.DIMS, (y, x), strict=True):
        values = np.asarray(places)
        low = max(int(values.min()) - margin, 0)
        limits[dim] = slice(low, min(int(values.max()) + margin + 1, optics.image.sizes[dim]))
        origins.append(low)
    return optics.image.isel(limits).chunk(dict.fromkeys(objects.DIMS, -1)), origins[0], origins[1]
