"""``scanfold polar-map``: templates, gates, contrast maps and fields of a 4D-STEM scan with cluster labels."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping
from typing import Any

from scanfold.cli import clusters
from scanfold.cli.options import typed, whole
from scanfold.conventions import InputError

HELP = "make virtual detectors and polarisation maps from a 4D-STEM scan and cluster labels"
EXAMPLE = """scanfold polar-map --data patterns.h5 --labels clusters.npz --scan-shape 128 128 --out results
  scanfold polar-map --help-config > config.yaml      # every key of --config, its default, what it means

Ex, Ey and com are those of dpc.gate_mode, by default adaptive: each cluster is looked at through a gate of its own,
so that this map shows the labels as a field even where there is none. The same maps of a disc about the beam, of the
union of all gates and of whole frames are always written beside it; believe what they agree on.
"""


class _HelpConfig(argparse.Action):
    """Print the configuration and leave, whatever else is missing."""

    def __call__(self, parser: argparse.ArgumentParser, *more: Any) -> None:
        from scanfold.detectors.config import as_yaml, resolve

        print(as_yaml(resolve(None), explained=True), end="")
        parser.exit()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add, count = parser.add_argument, typed(whole)
    add("--data", required=True, metavar="FILE", help="the scan: HDF5, zarr, NPZ, NPY, TIFF, or a vendor's format")
    add("--dset", "--dataset", metavar="NAME", help="the array in the file, where the file does not say")
    add("--format", choices=("ptycho",), help="take the file for ptychography: free positions, FFT order undone")
    labels = parser.add_mutually_exclusive_group(required=True)
    labels.add_argument("--labels", metavar="FILE", help=".npy or .npz (cluster_labels, else labels); -1 is noise")
    labels.add_argument("--clusters", type=count, metavar="N", help="no labels: sort the frames into N by k-means")
    add("--scan-shape", nargs=2, type=count, metavar=("NY", "NX"), help="rows and columns, y first")
    add("--out", required=True, metavar="FOLDER", help="folder to write; an unfinished run in it is resumed")
    add("--config", metavar="FILE", help="YAML; unknown keys are errors (see --help-config)")
    add("--help-config", nargs=0, action=_HelpConfig, help="print every key with its default and meaning, and leave")
    add("--device", default="cpu", metavar="NAME", help="cpu, or cuda:0 for products with CuPy (default: %(default)s)")
    add("--chunks", type=count, metavar="N", help="frames in a block (default: what suits the file; the maps are "
        "the same whatever it is)")  # fmt: skip
    add("--interactive-center", action="store_true", help="click the centre of the beam; one in --config goes before")
    add("--interactive-kspace", action="store_true", help="click two opposite reflections or the two boundaries of a "
        "ring; a pixel_size in --config goes before")  # fmt: skip
    add("--known-spacing", type=float, metavar="D", help="of what is clicked, in angstrom; else its radius becomes 1")
    clusters.add_arguments(parser)
    add("--no-resume", dest="resume", action="store_false", help="start over, replacing another run in --out")


def run(arguments: argparse.Namespace) -> int:
    """Make the maps, and the page about them."""
    where = clusters.cluster_options(vars(arguments))
    from scanfold.detectors.config import resolve
    from scanfold.detectors.run import polarisation_map
    from scanfold.report.polarisation import polarisation_report

    config = resolve(arguments.config)
    scan = open_frames(vars(arguments))
    with clusters.cluster(where):
        made = polarisation_map(
            scan, arguments.clusters or arguments.labels, config, arguments.out, device=arguments.device,
            interactive_center=arguments.interactive_center, interactive_kspace=arguments.interactive_kspace,
            known_spacing=arguments.known_spacing, resume=arguments.resume, progress=arguments.progress,
        )  # fmt: skip
    print(f"wrote {made.sizes['cluster']} templates and gates, maps, figures and logs to {arguments.out}")
    print(f"wrote {polarisation_report(arguments.out)}")
    return 0


def open_frames(options: Mapping[str, Any]) -> Any:
    """Open the scan as ``(y, x, ky, kx)`` or ``(position, ky, kx)``, in blocks of so many frames.

    Raises
    ------
    InputError
        If it has not the shape that was given.
    """
    from scanfold.conventions import primary
    from scanfold.io import open_scan

    shape = options["scan_shape"]
    how: dict[str, Any] = {"dataset": options["dset"], "format": options["format"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the same file is opened again below, where it may warn
        found = primary(open_scan(options["data"], **how))
    if found.ndim not in (3, 4):
        raise InputError(f"the array has the shape {found.shape}; expected frames: (N, ky, kx) or (y, x, ky, kx)")
    if found.ndim == 4 and shape is not None and tuple(shape) != found.shape[:2]:
        raise InputError(f"--scan-shape {shape[0]} {shape[1]}: the file has {found.shape[0]} rows and "
                         f"{found.shape[1]} columns; leave --scan-shape out")  # fmt: skip
    fold: dict[str, Any] = {"scan_shape": tuple(shape)} if shape is not None and found.ndim == 3 else {}
    dims = ("y", "x", "ky", "kx") if fold or found.ndim == 4 else ("position", "ky", "kx")
    names: dict[str, Any] = {} if options["format"] else {"dims": dims}
    chunks: Any = "auto"
    if options["chunks"]:
        columns = (fold.get("scan_shape") or found.shape)[1]
        rows = max(1, options["chunks"] // columns)
        chunks = (
            {"position": options["chunks"]} if len(dims) == 3 else {"y": rows, "x": min(columns, options["chunks"])}
        )
    return primary(open_scan(options["data"], **how, **fold, **names, chunks=chunks))
