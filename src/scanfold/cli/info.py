"""``scanfold info``: what is in a file, which scan that is, and the command to run next. Reads no data."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

HELP = "show what is in a file, the likely scan, and the command to run next"
EXAMPLE = "scanfold info raman_map.h5"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("file", help="HDF5, zarr, NPZ, NPY, TIFF, a folder of TIFF frames, or a vendor's format")


def run(arguments: argparse.Namespace) -> int:
    """Print the description."""
    from scanfold.io import describe

    for line in lines(describe(arguments.file)):
        print(line)
    return 0


def lines(found: Any) -> Iterator[str]:
    """Yield the description of a file, line by line."""
    yield f"{found.path}: {found.format}, {size(found.nbytes)}"
    yield ""
    yield from tree(found.arrays)
    if found.scan is not None:
        yield ""
        yield from scan_lines(found.scan)
    if found.problem:
        yield ""
        yield f"note: {found.problem}"
    command = next_command(found)
    if command:
        yield ""
        yield "next:"
        yield f"  {command}"


def tree(arrays: Sequence[Any]) -> Iterator[str]:
    """Yield the arrays as a tree of groups."""
    above: list[str] = []
    for info in arrays:
        *groups, name = info.name.strip("/").split("/")
        for depth, group in enumerate(groups):
            if above[: depth + 1] != groups[: depth + 1]:
                yield f"{'  ' * depth}{group}/"
        above = groups
        stored = f", chunks {info.chunks}" if info.chunks else ""
        packed = f", {info.compression}" if info.compression else ""
        units = f" [{info.units}]" if info.units else ""
        yield f"{'  ' * len(groups)}{name}  {info.shape} {info.dtype}{units}{stored}{packed}"


def scan_lines(scan: Any) -> Iterator[str]:
    """Yield what `open_scan` makes of the file."""
    from scanfold.conventions import primary
    from scanfold.plot.positions import holds_maps

    if holds_maps(scan):
        sizes, names = ", ".join(f"{d} {n}" for d, n in scan.sizes.items()), ", ".join(map(str, scan.data_vars))
        yield f"{'fits' if 'status' in scan else 'maps'} of {sizes}: {names}"
        return
    data = primary(scan)
    units = f" [{data.attrs['units']}]" if data.attrs.get("units") else ""
    yield f"scan: {data.name}{units}, {data.dtype}, {size(data.nbytes)} in memory"
    blocks = dict(zip(data.dims, (c[0] for c in data.chunks or ()), strict=False))
    for dim, count in data.sizes.items():
        yield f"  {dim}  {count} points, {blocks.get(dim, count)} in a block{_range(data, str(dim))}"


def _range(data: Any, dim: str) -> str:
    if dim not in data.coords or not data[dim].size:
        return ""
    values = data[dim].values
    return f", {values[0]:.6g} … {values[-1]:.6g} {data[dim].attrs.get('units', '')}".rstrip()


def next_command(found: Any) -> str:
    """Return the shell command to run next, or the Python line where there is no command for it."""
    if found.scan is None:
        return str(found.command)
    from scanfold.conventions import primary
    from scanfold.plot.positions import holds_maps

    if holds_maps(found.scan):
        return f"scanfold report {found.shell}"
    data = primary(found.scan)
    names = list(map(str, data.dims))
    options = ""
    if names[-2:] == ["ky", "kx"]:
        if data.ndim != 3 or any(data[d].attrs.get("units", "pixel") != "pixel" for d in names if d in data.coords):
            return str(found.command)
        # three dimensions without names: a map of spectra is what can be fitted
        names = ["y", "x", "energy"]
        options = " --dims y,x,energy"
    stem = Path(found.path.rstrip("/")).name.split(".")[0]
    out = shlex.quote(f"{stem}_fits.zarr")
    return (
        f'scanfold fit {found.shell}{options} --dim {shlex.quote(names[-1])} --model "LorentzianModel + LinearModel" '
        f"--out {out}"
    )


def size(count: float) -> str:
    """Return a number of bytes in words.

    Examples
    --------
    >>> size(2_794_148), size(12)
    ('2.7 MiB', '12 B')
    """
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
