"""Scans with free positions, simulated lazily."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from scanfold.conventions import InputError, InputTypeError, record, require_bool
from scanfold.grouping.options import whole
from scanfold.ptycho import forward, objects, probes
from scanfold.ptycho.config import ModelConfig, TrainingConfig, as_array, positive, streams
from scanfold.ptycho.forward import Detector, Optics, Scan
from scanfold.ptycho.positions import EAGER, given, scan_positions


def generate_simulated_data(
    objectGuess: Any,
    probeGuess: Any,
    *,
    config: TrainingConfig | None = None,
    n_images: int | None = None,
    nphotons: float | None = None,
    gridsize: int | None = None,
    buffer: float = 0.0,
    positions: Any = "uniform",
    jitter: float = 0.0,
    interpolation: str = "bilinear",
    noise: bool = True,
    counts: bool = False,
    beam_stop: Any = None,
    psf: float | None = None,
    saturation: float | None = None,
    background: Any = None,
    return_patches: bool = True,
    chunks: int | None = None,
    seed: int = 0,
    **pattern: Any,
) -> xr.Dataset:
    """Simulate a scan with free positions: far-field diffraction of ``P · O`` with photon noise, lazily.

    ``Ψ = P · O(patch)`` at each position, ``s = √(nphotons / mean Σ|Ψ|²)`` once for all positions,
    ``A² = |FFT(s Ψ)|² / N²`` with zero frequency in the middle; what is recorded is ``X = √Poisson(A²) / s``.

    Parameters
    ----------
    objectGuess : array (H, W)
        Complex transmission; a DataArray may be lazy. One in several chunks is read window by window, and the
        positions on it are held in memory; otherwise more than 2²⁴ of a pattern are made chunk by chunk.
    probeGuess : array (N, N) or (modes, N, N)
        Complex wave; the intensities of several modes add.
    config : TrainingConfig, optional
        Gives `n_images` (its ``n_groups``), `nphotons` and `gridsize`, and the N that the probe must have.
    n_images : int, optional
        Frames; needed if neither `config` nor positions give their number.
    nphotons : float, optional
        Mean photons in a frame, 1e9 if not given.
    gridsize : int, optional
        Frames along one side of the groups that are to be made of the scan, 1 if not given. It is recorded, so that
        grouping with another one is an error.
    buffer : float
        Least distance of a position from the object's edges in pixels. Half a frame, and the reach of the jitter, are
        kept in any case, so that no patch reaches outside.
    positions : str, or pair (y, x)
        A pattern of `scan_positions`, whose options `shape` and `turns` may follow; or the positions themselves, in
        pixels of the object: a patch's pixel (r, c) is the object's at ``(y − N/2 + r, x − N/2 + c)``.
    jitter : float
        Standard deviation of true positions from the nominal ones of a pattern, in pixels.
    interpolation : {"bilinear", "fourier"}
        How the object is read between its pixels.
    noise : bool
        False gives the noise-free mean.
    counts : bool
        Give whole photon counts in place of amplitudes.
    beam_stop : array (N, N), optional
        False where the detector is shaded.
    psf : float, optional
        Gaussian width of the detector's point spread, in pixels.
    saturation : float, optional
        The largest count of a pixel.
    background : float or array (N, N), optional
        Further photons in each pixel, on average.
    return_patches : bool
        Also give `Y`, the object at each position.
    chunks : int, optional
        Frames in a chunk; 16 MiB of them if not given, more in very long scans. No value depends on it.
    seed : int
        Positions, jitter and noise have streams of their own, spawned from it; the noise of a pixel is drawn from
        its number and that of its position.
    **pattern
        `shape` or `turns` of `scan_positions`.

    Returns
    -------
    Dataset
        `diffraction` (position, ky, kx), float32 amplitudes or uint32 counts (``attrs["kind"]``); `probe`, `object`;
        `intensity_scale`, which is s; with `return_patches` `Y` (position, probe_y, probe_x). Coordinates
        `position_y`, `position_x`, and with jitter the nominal ones. ``X · s`` are square roots of photons.

    Raises
    ------
    InputError, InputTypeError
        If shapes, positions or options do not fit together; before any computing.

    Examples
    --------
    >>> from scanfold import ptycho
    >>> sim = ptycho.generate_simulated_data(ptycho.lines(128), ptycho.default_probe(32), n_images=10, nphotons=1e6)
    >>> sim["diffraction"].dims, sim["diffraction"].shape, sim.attrs["kind"]
    (('position', 'ky', 'kx'), (10, 32, 32), 'amplitude')
    >>> photons = (sim["diffraction"] * sim["intensity_scale"]) ** 2
    >>> bool(abs(photons.sum(["ky", "kx"]).mean() / 1e6 - 1) < 0.01)
    True
    """
    require_bool(noise=noise, counts=counts, return_patches=return_patches)
    model, images, nphotons = _settled(config, n_images, nphotons, gridsize, probeGuess)
    image, probe = objects.checked(objectGuess), probes.checked(probeGuess, model.N)
    optics = Optics(image, probe if probe.ndim == 3 else probe.expand_dims("mode"), interpolation)
    keys, frame = streams(seed, len(STREAMS)), 4 * model.N**2
    if isinstance(positions, str):
        if images is None:
            raise InputError("how many frames? n_images= or config= says it, or positions=(y, x)")
        scan = scan_positions(
            positions, images, tuple(image.shape), model.N, buffer=buffer, jitter=jitter,
            chunks=forward.chunk_of(images, frame, chunks) if images > EAGER else None,
            seed=int(keys[1][0]), **pattern,
        )  # fmt: skip
        scan = _in_strips(scan, optics)
    else:
        scan = given(positions, tuple(image.shape), model.N)
        _require_number(scan, images, jitter, pattern)
    detector = Detector(background, psf, beam_stop, saturation).checked(model.N)
    options = {
        "N": model.N, "gridsize": model.gridsize, "n_images": scan.sizes["position"], "nphotons": nphotons,
        "buffer": buffer, "positions": positions if isinstance(positions, str) else "given", "jitter": jitter,
        "interpolation": interpolation, "noise": noise, "counts": counts, "detector": detector.described,
        "seed": seed, **pattern,
    }  # fmt: skip
    chunk = forward.chunk_of(scan.sizes["position"], frame, chunks)
    laid = Scan(scan["position_y"], scan["position_x"], chunk)
    scale = forward.photon_scale([forward.mean_energy(optics, laid)], nphotons)
    key = (int(keys[2][0]), int(keys[2][1])) if noise else None
    frames = forward.diffraction(optics, laid, scale, key=key, detector=detector, counts=counts)
    ds = xr.Dataset({"diffraction": frames, "intensity_scale": scale})
    if return_patches:
        ds["Y"] = forward.object_patches(optics, laid)
    ds = ds.assign(probe=probe, object=image).assign_coords({name: scan[name] for name in scan})
    inputs = {"object": image, "probe": probe}
    if not isinstance(positions, str):
        inputs |= {name: scan[name] for name in map(str, scan)}
    return ds.assign_attrs(
        primary="diffraction",
        kind="intensity" if counts else "amplitude",
        gridsize=model.gridsize,
        nphotons=nphotons,
        provenance=record("ptycho.generate_simulated_data", inputs, options),
    )


#: Streams of random numbers that are spawned from one seed, in this order.
STREAMS = ("object", "positions", "noise", "grouping")


def _settled(
    config: TrainingConfig | None, n_images: int | None, nphotons: float | None, gridsize: int | None, probe: Any
) -> tuple[ModelConfig, int | None, float]:
    """Return what is asked for, from a config or from keywords; both may not say different things."""
    if config is None:
        shape = as_array("the probe", probe).shape
        model = ModelConfig(
            shape[-2] if len(shape) == 3 else shape[0] if shape else 1, 1 if gridsize is None else gridsize
        )
        images = None if n_images is None else whole("n_images", n_images)
        return model, images, positive("nphotons", 1e9 if nphotons is None else nphotons)
    if not isinstance(config, TrainingConfig):
        raise InputTypeError(f"config= takes a TrainingConfig; found {type(config).__name__}")
    if gridsize is not None and gridsize != config.model.gridsize:
        raise InputError(
            f"gridsize={gridsize} and the config's gridsize={config.model.gridsize} differ; "
            "simulation and training use one gridsize"
        )
    for name, said, meant in (("n_images", n_images, config.n_groups), ("nphotons", nphotons, config.nphotons)):
        if said is not None and said != meant:
            raise InputError(f"{name}={said} and the config's {meant} differ; give it in one place")
    return config.model, config.n_groups, config.nphotons


def _require_number(scan: xr.Dataset, images: int | None, jitter: float, pattern: dict[str, Any]) -> None:
    count = scan.sizes["position"]
    if images is not None and images != count:
        raise InputError(f"{count} positions are given and {images} frames are asked for; leave one of them out")
    if jitter or pattern:
        names = ", ".join([*(["jitter"] if jitter else []), *pattern])
        raise InputError(f"{names}= goes with a pattern of positions; these are given")


def _in_strips(scan: xr.Dataset, optics: Optics) -> xr.Dataset:
    """Return the positions on a tiled object in the order of strips of it, so that a chunk of them needs few tiles."""
    if not optics.tiled:
        return scan
    strip = np.asarray(scan["position_y"]) // (4 * optics.N)
    return scan.isel(position=np.lexsort((np.asarray(scan["position_x"]), strip))).compute()
