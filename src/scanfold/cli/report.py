"""``scanfold report``: one HTML page about the fits in a store."""

from __future__ import annotations

import argparse
from pathlib import Path

from scanfold.conventions import is_url

HELP = "write one self-contained HTML page about the fits in a store"
EXAMPLE = "scanfold report fits.zarr --out fits.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("store", help="what `scanfold fit` wrote")
    parser.add_argument("--out", metavar="PATH", help="page to write (default: beside the store)")


def _beside(store: str) -> Path:
    """Return the page beside a store; that of a store at a URL is written here."""
    return Path(store.rstrip("/").rpartition("/")[2] if is_url(store) else store).with_suffix(".html")


def run(arguments: argparse.Namespace) -> int:
    """Write the page."""
    from scanfold.report import report
    from scanfold.runs import open_store

    fits = open_store(arguments.store)
    out = Path(arguments.out) if arguments.out else _beside(arguments.store)
    report(fits, out)
    print(f"wrote {out}")
    return 0
