"""``scanfold export``: maps or a scan into a file that other programs read."""

from __future__ import annotations

import argparse
from pathlib import Path

from scanfold.conventions import InputError, unknown

HELP = "write maps or a scan as NeXus/netCDF, ImageJ TIFF, CSV or HyperSpy's file"
EXAMPLE = "scanfold export fits.zarr fits.nxs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("source", help="a store that scanfold wrote, or a scan")
    parser.add_argument("out", help="the file; its suffix says what: .nxs, .nc, .h5, .csv, .tif, .hspy")
    parser.add_argument("--format", metavar="SUFFIX", help="tif or hspy, where OUT is a folder for several variables")
    parser.add_argument("--variables", nargs="+", metavar="NAME", help="write these only (default: all)")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")


def run(arguments: argparse.Namespace) -> int:
    """Write the file, or the folder of files."""
    from scanfold.export import BY_SUFFIX
    from scanfold.io import open_scan

    out = Path(arguments.out)
    suffix = f".{arguments.format.lower().removeprefix('.')}" if arguments.format else out.suffix.lower()
    if suffix not in BY_SUFFIX:
        raise InputError(
            f"what kind of file is {out.name!r}? Expected a suffix (or --format) of {', '.join(BY_SUFFIX)}"
        )
    ds = open_scan(arguments.source)
    for name in arguments.variables or ():
        if name not in ds:
            raise unknown("variable", name, map(str, ds.data_vars))
    if arguments.variables:
        ds = ds[arguments.variables]
    BY_SUFFIX[suffix](ds, out, overwrite=arguments.overwrite)
    print(f"wrote {out}")
    return 0
