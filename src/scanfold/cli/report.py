"""``scanfold report``: one HTML page about what is in a store, or about a polarisation map."""

from __future__ import annotations

import argparse
from pathlib import Path

from scanfold.conventions import is_url

HELP = "write one self-contained HTML page about fits, maps, simulated patterns, groups or a polarisation map"
EXAMPLE = "scanfold report fits.zarr --out fits.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("store", help="what a command or sf.save wrote: a store, or the folder of a polarisation map")
    parser.add_argument("--out", metavar="PATH", help="page to write (default: beside the store, or in the folder)")


def _beside(store: str) -> Path:
    """Return the page beside a store; that of a store at a URL is written here."""
    return Path(store.rstrip("/").rpartition("/")[2] if is_url(store) else store).with_suffix(".html")


def run(arguments: argparse.Namespace) -> int:
    """Write the page."""
    from scanfold.report import report
    from scanfold.runs import open_store

    if not is_url(arguments.store) and (Path(arguments.store) / "polar_map.zarr").is_dir():
        from scanfold.report.polarisation import polarisation_report

        print(f"wrote {polarisation_report(arguments.store, arguments.out)}")
        return 0
    fits = open_store(arguments.store)
    out = Path(arguments.out) if arguments.out else _beside(arguments.store)
    report(fits, out)
    print(f"wrote {out}")
    return 0
