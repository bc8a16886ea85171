"""``scanfold polar-map``: templates, gates, contrast maps and fields of a 4D-STEM scan with cluster labels."""

from __future__ import annotations

import argparse

HELP = "make virtual detectors and polarisation maps from a 4D-STEM scan and cluster labels"
EXAMPLE = "scanfold polar-map --data patterns.h5 --labels clusters.npz --scan-shape 128 128 --out results"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("--data", required=True, metavar="FILE", help="the scan: HDF5, zarr, NPZ, NPY, TIFF, …")
    parser.add_argument("--dset", metavar="NAME", help="the array in the file, where the file does not say")
    parser.add_argument("--labels", required=True, metavar="FILE", help="cluster labels, .npy or .npz; -1 is noise")
    parser.add_argument("--scan-shape", nargs=2, type=int, metavar=("NY", "NX"), help="rows and columns of a stack")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="folder to write")


def run(arguments: argparse.Namespace) -> int:
    """Make the maps."""
    from scanfold.detectors.run import polarisation_map
    from scanfold.io import open_scan

    scan = open_scan(arguments.data, dataset=arguments.dset, scan_shape=arguments.scan_shape)
    polarisation_map(scan, arguments.labels, arguments.out)
    print(f"maps are in {arguments.out}")
    return 0
