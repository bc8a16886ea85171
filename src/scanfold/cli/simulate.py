"""``scanfold simulate``: a ptychography scan with free positions, straight into a store."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from scanfold._paths import location
from scanfold.cli import clusters
from scanfold.cli.outputs import check_outputs, write_outputs
from scanfold.conventions import unknown

HELP = "simulate a ptychography scan with photon noise, out of core"
EXAMPLE = (
    "scanfold simulate --object lines --size 392 --N 64 --n-images 100000 --nphotons 1e9 --buffer 20 \\\n"
    "    --out sim.zarr --plot sim.png"
)

_PATTERNS = ("uniform", "raster", "spiral", "fermat", "lissajous")
_OBJECTS = ("lines", "grf", "points", "dead_leaves", "siemens_star")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add = parser.add_argument
    add("--out", required=True, metavar="STORE", help="zarr store to write, or a file whose name ends in .npz")
    add("--n-images", type=int, required=True, metavar="N", help="frames")
    add("--object", default="lines", metavar="KIND", help=f"{', '.join(_OBJECTS)} (default: %(default)s)")
    add("--size", type=int, default=392, metavar="PX", help="pixels along a side of the object (default: %(default)s)")
    add("--phase", action="store_true", help="give the object a phase")
    add("--N", type=int, default=64, metavar="PX", help="pixels along a side of a frame (default: %(default)s)")
    add(
        "--probe-scale",
        type=float,
        default=0.7,
        metavar="S",
        help="a larger one, a smaller disk (default: %(default)s)",
    )
    add("--nphotons", type=float, default=1e9, metavar="P", help="mean photons in a frame (default: %(default)g)")
    add("--pattern", default="uniform", metavar="NAME", help=f"{', '.join(_PATTERNS)} (default: %(default)s)")
    add("--buffer", type=float, default=0.0, metavar="PX", help="least distance from the object's edges")
    add("--jitter", type=float, default=0.0, metavar="PX", help="deviation of true from nominal positions")
    add("--gridsize", type=int, default=1, metavar="G", help="frames along a side of the groups to come")
    add("--interpolation", default="bilinear", metavar="NAME", help="bilinear or fourier (default: %(default)s)")
    add("--counts", action="store_true", help="photon counts in place of amplitudes")
    add("--no-patches", action="store_true", help="leave out the truth at each position")
    add("--seed", type=int, default=0, metavar="S", help="of all that is random (default: %(default)s)")
    clusters.add_arguments(parser)
    add("--plot", metavar="PNG", help="also draw object, probe and some frames")
    add("--report", metavar="PATH", help="also write an HTML report")


def run(arguments: argparse.Namespace) -> int:
    """Simulate, and write what was asked for."""
    out = location(arguments.out)
    outputs = _check(arguments)
    where = clusters.cluster_options(vars(arguments))
    sim = simulation(arguments)
    with clusters.cluster(where):
        if out.suffix == ".npz":
            from scanfold.ptycho import RawData

            RawData.from_dataset(sim).to_npz(out)
        else:
            from scanfold.runs import save

            sim = save(sim, out, progress=arguments.progress)
    print(f"wrote {arguments.out}")
    from scanfold.report import report

    write_outputs(outputs, plot=lambda path: draw(sim, path), report=lambda path: report(sim, path))
    return 0


def simulation(arguments: argparse.Namespace) -> Any:
    """Return the scan, lazily."""
    from scanfold import ptycho

    image = ptycho.sim_object_image(arguments.size, arguments.object, arguments.seed, phase=arguments.phase)
    return ptycho.generate_simulated_data(
        image,
        ptycho.default_probe(arguments.N, arguments.probe_scale),
        n_images=arguments.n_images,
        nphotons=arguments.nphotons,
        gridsize=arguments.gridsize,
        buffer=arguments.buffer,
        positions=arguments.pattern,
        jitter=arguments.jitter,
        interpolation=arguments.interpolation,
        counts=arguments.counts,
        return_patches=not arguments.no_patches,
        seed=arguments.seed,
    )


def draw(sim: Any, path: Path) -> None:
    """Draw object, probe, positions and some frames into a PNG file."""
    import numpy as np
    from matplotlib.figure import Figure

    from scanfold import plot

    figure: Any = Figure(figsize=(12, 7), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[3, 2])
    axes = above.subplots(1, 2)
    step = max(1, max(sim["object"].shape) // 1000)
    plot.complex_image(sim["object"][::step, ::step], ax=axes[0], colorbar=False)
    some = np.linspace(0, sim.sizes["position"] - 1, min(sim.sizes["position"], 2000)).astype(int)
    places = {d: np.asarray(sim[f"position_{d}"][some]) / step for d in "yx"}
    axes[0].plot(places["x"], places["y"], ".", color="white", markersize=1.5)
    plot.complex_image(sim["probe"], ax=axes[1])
    plot.patterns(sim, figure=below)
    figure.savefig(path, dpi=100)


def _check(arguments: argparse.Namespace) -> dict[str, Path]:
    """Refuse before any work what can be seen to be wrong; return what is written beside the scan."""
    for name, value, valid in (("--object", arguments.object, _OBJECTS), ("--pattern", arguments.pattern, _PATTERNS)):
        if value not in valid:
            raise unknown(name, value, valid)
    return check_outputs(vars(arguments), "out", "plot", "report")
