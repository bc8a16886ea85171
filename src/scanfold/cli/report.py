"""``scanfold report``: one HTML page about the fits in a store."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "write one self-contained HTML page about the fits in a store"
EXAMPLE = "scanfold report fits.zarr --out fits.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("store", help="what `scanfold fit` wrote")
    parser.add_argument("--out", metavar="PATH", help="page to write (default: beside the store)")


def run(arguments: argparse.Namespace) -> int:
    """Write the page."""
    from scanfold.report import report
    from scanfold.runs import open_store

    fits = open_store(arguments.store)
    out = Path(arguments.out) if arguments.out else Path(arguments.store).with_suffix(".html")
    report(fits, out)
    print(f"wrote {out}")
    return 0
