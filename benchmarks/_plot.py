"""The picture for the project's README: how many times faster than each peer, by job, out of the tables beside this."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks._report import README

PICTURE = README.parents[1] / "docs" / "benchmarks.png"
RATIO = "ours is × this"


@dataclass(frozen=True)
class Bars:
    """Bars of one job: rows of a table of README.md.

    `rows` are peers by the first cell of their row, and in words; `column` holds the ratio, or seconds or a rate, which
    are taken relative to the row of `ours`.
    """

    job: str
    family: int
    case: str
    caption: str
    rows: Mapping[str, str]
    column: str = RATIO
    ours: str = ""


BARS = (
    Bars("Fit a peak on a line, one core", 0, "fits", "Gaussian + line", {
        "lmfit, Model.fit, plain function": "lmfit",
        "xarray-lmfit, modelfit": "xarray-lmfit",
        "HyperSpy, multifit": "HyperSpy",
        "astropy, parallel_fit_dask": "astropy",
        "scipp, curve_fit": "scipp",
        "SciPy, curve_fit": "SciPy curve_fit",
        "xarray, curvefit (no weights)": "xarray curvefit",
    }),
    Bars("Fit Bragg edges, one core", 1, "bragg", "32 groups", {
        "3 parameters, with lattice": "nbragg, 3 with the lattice",
        "2 parameters": "nbragg, 2 parameters",
        "7 parameters, with response": "nbragg, 7 with the response",
    }, "×"),
    Bars("Read Bragg-edge counts, all of them", 1, "bragg_data", "256 groups", {"nbragg": "nbragg"},
         "seconds, median (min–max)", "scanfold, all in memory"),
    Bars("Fit single-cell traces, one core", 2, "traces", "Maturation traces", {
        "maturation, 4 free": "SciPy least_squares, 4 free",
        "maturation, 6 free": "SciPy least_squares, 6 free",
    }),
    Bars("Plan groups of neighbours", 3, "grouping", "Plans of groups",
         {"group, then sample": "group first, then sample"}, "seconds, median (min–max)", "scanfold"),
    Bars("Simulate diffraction, one core", 3, "ptycho", "Frames of 64²", {
        "the published way, in SciPy": "PtychoPINN's way, in SciPy",
        "plain NumPy, in batches": "NumPy in batches",
    }),
    Bars("Centre of mass of 4D-STEM frames", 4, "detectors", "Centre of mass, contiguous HDF5", {
        "py4DSTEM": "py4DSTEM",
        "plain NumPy, float64": "NumPy",
        "pyxem, lazy": "pyxem",
        "LiberTEM, its default": "LiberTEM",
    }, "GB/s", "scanfold, threads"),
    Bars("Templates, contrast maps, gated centres", 4, "detectors", "Templates, gates",
         {"three passes of plain loops, log": "loops over NumPy, 3 passes"}, "GB/s", "scanfold, log"),
)  # fmt: skip


def draw(path: Path = PICTURE) -> None:
    """Draw the bars of all tables that there are."""
    from matplotlib.figure import Figure

    from scanfold.plot import colours

    found = [(bars, list(_times(bars))) for bars in BARS]
    found = [(bars, times) for bars, times in found if times]
    if not found:
        return
    values = [value for _, times in found for _, value in times]
    lines = sum(len(times) + 1.35 for _, times in found)
    figure = Figure(figsize=(8.4, 0.235 * lines + 0.75), facecolor="white", layout="constrained")
    ax = figure.subplots()
    y = 0.0
    labels: list[tuple[float, str]] = []
    for bars, times in found:
        colour = colours.COMPONENTS[bars.family]
        ax.text(-0.012, y, bars.job, transform=ax.get_yaxis_transform(), ha="right", va="center", weight="bold")
        for peer, value in times:
            y += 1.0
            ax.barh(y, value - 1.0, left=1.0, height=0.72, color=colour)
            ax.annotate(f"{value:,.0f} ×" if value >= 10 else f"{value:.1f} ×", (max(value, 1.0), y), (4, 0),
                        textcoords="offset points", va="center", fontsize=9)  # fmt: skip
            labels.append((y, peer))
        y += 1.35
    ax.set_yticks([at for at, _ in labels], [name for _, name in labels])
    ax.set(xscale="log", ylim=(y - 0.6, -0.7), xlim=(min(1.0, 0.7 * min(values)), 2.5 * max(values)))
    ax.set_xlabel("times as fast as the peer at the same work, in one run on one machine")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f} ×")
    ax.tick_params(axis="both", which="both", length=0)
    ax.grid(axis="x", which="major", color=colours.STATUS["no_signal"], linewidth=0.8)
    ax.set_axisbelow(True)
    for side in ("top", "right", "bottom"):
        ax.spines[side].set_visible(False)
    ax.spines["left"].set_color(colours.LEFT_OUT)
    figure.savefig(path, dpi=150)


def _times(bars: Bars) -> Iterator[tuple[str, float]]:
    """Yield each peer, and how many times faster ours is."""
    rows = _rows(bars.case, bars.caption)
    for label, peer in bars.rows.items():
        value = _number(rows.get(label, {}).get(bars.column, ""))
        if value is None:
            continue
        ours = _number(rows.get(bars.ours, {}).get(bars.column, ""))
        if not bars.ours:
            yield peer, value
        elif ours:
            yield peer, value / ours if bars.column.startswith("seconds") else ours / value


def _rows(case: str, caption: str) -> dict[str, dict[str, str]]:
    """Return the rows of a table by their first cell, the first of that name; each by column."""
    text = README.read_text().partition(f"<!-- {case}: begin -->")[2].partition(f"<!-- {case}: end -->")[0]
    table = text.partition(f"**{caption}")[2].partition("\n\n")[2].partition("\n\n")[0]
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("|")]
    if len(cells) < 2:
        return {}
    columns, rows = cells[0], cells[2:]
    return {row[0]: dict(zip(columns, row, strict=True)) for row in reversed(rows)}


def _number(cell: str) -> float | None:
    """Return the first number of a cell: the median."""
    match = re.match(r"[\d,.]+", cell)
    return float(match[0].replace(",", "")) if match else None
