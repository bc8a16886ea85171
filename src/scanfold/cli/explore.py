"""``scanfold explore``: click through maps and scans in a browser, served on loopback only."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "click through maps or a scan in a browser: the map, and what is behind each position"
EXAMPLE = "scanfold explore fits.zarr --data raman_map.h5"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("source", help="a store that scanfold wrote, a scan, or a folder of CSV files of traces")
    parser.add_argument("--data", metavar="SCAN", help="what was fitted (default: the file that the store names)")
    parser.add_argument("--port", type=int, default=0, help="port of the page (default: a free one)")
    parser.add_argument("--no-browser", action="store_true", help="print the address and open no browser")


def run(arguments: argparse.Namespace) -> int:
    """Serve the page until interrupted."""
    from scanfold.io import open_scan
    from scanfold.viewer import explore, require_panel, serve

    require_panel()
    data = open_scan(arguments.data) if arguments.data else None
    explore(arguments.source, data)  # what is wrong is said now, not in the browser
    title = f"scanfold: {Path(arguments.source).name}"
    show = not arguments.no_browser
    serve(lambda: explore(arguments.source, data).page, title=title, port=arguments.port, show=show)
    return 0
