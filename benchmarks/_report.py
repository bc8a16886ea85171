"""Tables in Markdown, and their places in README.md."""

from __future__ import annotations

import datetime
import os
import platform
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

README = Path(__file__).with_name("README.md")
_PACKAGES = (
    "scanfold numpy scipy numba xarray dask distributed zarr h5py pandas lmfit xarray-lmfit hyperspy numexpr astropy "
    "scipp nbragg libertem pyxem py4DSTEM".split()
)


@dataclass
class Table:
    """A table with a caption, and notes under it."""

    caption: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """Return it as Markdown; all columns but the first are numbers."""
        lines = [f"**{self.caption}**", ""]
        lines += [_line(self.columns), _line(["---", *["---:"] * (len(self.columns) - 1)])]
        lines += [_line(row) for row in self.rows]
        lines += ["", *[f"- {note}" for note in self.notes]] if self.notes else []
        return "\n".join(lines)


class Figures(Table):
    """The figures that a case must reach, and whether it does."""

    def __init__(self) -> None:
        super().__init__("Figures it must reach", ("figure", "wanted", "measured", "reached"))

    def add(self, what: str, wanted: str, measured: str, reached: bool) -> None:
        """Add one."""
        self.rows.append((what, wanted, measured, "yes" if reached else "**no**"))


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def number(value: float) -> str:
    """Return a number with three digits, or whole if larger."""
    if value != value:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def spread(values: Sequence[float]) -> str:
    """Return the median and the range of repeated measurements."""
    if len(values) < 2:
        return number(values[0]) if values else "–"
    return f"{number(statistics.median(values))} ({number(min(values))}–{number(max(values))})"


def write(name: str, title: str, tables: Sequence[Table], command: str, seconds: float) -> None:
    """Put the tables of a case between its markers in README.md."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    where = f"`{command}`, {datetime.date.today():%d %B %Y}, {seconds / 60:.0f} min; {machine()}; {versions()}."
    body = "\n\n".join([f"## {name}: {title}", where, *(t.markdown() for t in tables)])
    text = README.read_text()
    section = f"{begin}\n{body}\n{end}"
    if begin not in text:
        text = f"{text.rstrip()}\n\n{begin}\n{end}\n"
    README.write_text(re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: section, text, flags=re.S))


def machine() -> str:
    """Return the kind of machine: cores, memory, system."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores ({_processor()}), {memory:.0f} GiB, {platform.system()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((" ".join(x.split(":")[1].split()) for x in lines if x.startswith("model name")), platform.machine())


def versions() -> str:
    """Return the versions of what was measured."""
    found = [f"Python {platform.python_version()}"]
    for package in _PACKAGES:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)
