"""The quality of a whole run in one figure."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from scanfold.conventions import InputError, flags, provenance
from scanfold.plot import colours
from scanfold.plot.maps import draw_grid, name_ticks
from scanfold.plot.positions import axis_of, plain, scan_dims, thin
from scanfold.plot.tally import EDGES, Counts, Tally, tally

#: Maps of up to this many positions are computed whole, once; larger ones are counted block by block.
_LARGEST = 10_000_000
#: Pixels along a side of the status map at most.
_PIXELS = 1000
#: The part of good fits whose redchi the weights put in the shaded range.
_EXPECTED = 0.99


def quality(fits: xr.Dataset, *, figure: Any = None) -> Any:
    """Draw what became of all fits: a map and a table of the status, histograms of redchi and nfev.

    Parameters
    ----------
    fits : Dataset
        Of `scanfold.fit`. Lazy fits are computed once; more than 10⁷ positions are counted block by block, and
        their status map is thinned.
    figure : matplotlib Figure, optional
        Where to draw; otherwise a new figure.

    Returns
    -------
    matplotlib Figure
        With four Axes: status, redchi with the range in which the weights put 99% of good fits, nfev, counts.

    Raises
    ------
    InputError
        If the Dataset holds no fits.

    Examples
    --------
    >>> import lmfit, scanfold as sf
    >>> line = xr.DataArray([[1.0, 3.1, 4.9, 7.0]], dims=("position", "time"))
    >>> figure = quality(sf.fit(line, lmfit.models.LinearModel(), dim="time"))
    >>> [ax.get_title() for ax in figure.axes]
    ['status', 'redchi', 'nfev', 'counts']
    """
    missing = [n for n in ("status", "redchi", "nfev", "n_used") if n not in fits]
    if missing:
        raise InputError(f"this Dataset lacks {', '.join(missing)}; expected what sf.fit returns")
    statistics = fits[["status", "redchi", "nfev", "n_used"]]
    if statistics["status"].size <= _LARGEST:
        statistics = statistics.compute()
    counts = tally(statistics)
    if figure is None:
        import matplotlib.pyplot as plt

        figure = plt.figure(figsize=(10, 7.5), layout="constrained")
    (status, redchi), (nfev, table) = figure.subplots(2, 2)
    draw_status(status, statistics)
    scale = (
        "over the estimated variance of the noise" if "noise" in fits else "no weights: its scale is that of the data"
    )
    draw_redchi(redchi, counts, expected_redchi(fits, statistics["n_used"]), scale)
    _histogram(nfev, counts.nfev, "nfev", "evaluations of the model")
    _table(table, counts, flags(fits["status"]))
    return figure


def draw_status(ax: Any, fits: xr.Dataset) -> None:
    """Draw the status of each position in its colour."""
    from matplotlib.colors import ListedColormap

    dims = scan_dims(fits)
    words = flags(fits["status"])
    ax.set_title("status")
    small = thin(fits[["status"]], _PIXELS)
    codes = small["status"].compute().transpose(*dims).values
    index = np.searchsorted(list(words.values()), codes)
    axes = [axis_of(small, d) for d in dims]
    options = {"cmap": ListedColormap(colours.status_colours(words)), "vmin": -0.5, "vmax": len(words) - 0.5}
    if len(dims) == 2:
        draw_grid(ax, index, axes[0], axes[1], options)
        return
    if len(dims) != 1:
        raise InputError(f"the maps have the scan dims {dims}; select until one or two are left: fits.isel(…)")
    colour = np.array(colours.status_colours(words), object)[index]
    ax.bar(np.arange(codes.size), 1, width=1 if codes.size > 60 else 0.9, color=list(colour))
    ax.set(xlabel=axes[0].label, yticks=[], xlim=(-0.5, codes.size - 0.5))
    if axes[0].words is not None:
        name_ticks(ax.xaxis, axes[0].words)


def expected_redchi(fits: xr.Dataset, n_used: xr.DataArray) -> tuple[float, float] | None:
    """Return the range of redchi of good fits under their weights; None where no weights say what noise to expect."""
    from scipy.stats import chi2

    options = provenance(fits).get("options", {})
    known = options.get("weights") is not None or options.get("likelihood") == "poisson"
    if not known or "stages" not in options:
        return None
    used = thin(n_used.to_dataset(name="n_used"), _PIXELS)["n_used"].values
    freedom = float(np.median(used[used > 0])) - len(options["stages"][-1]) if (used > 0).any() else 0.0
    if freedom <= 0:
        return None
    low, high = chi2.ppf([(1 - _EXPECTED) / 2, (1 + _EXPECTED) / 2], freedom) / freedom
    return float(low), float(high)


def draw_redchi(ax: Any, counts: Tally, expected: tuple[float, float] | None, scale: str) -> None:
    """Draw the histogram of redchi and, shaded, where good fits are expected; `scale` is said of it without weights."""
    if expected is not None:
        label = f"{_EXPECTED:.0%} of good fits"
        ax.axvspan(*expected, color=colours.COMPONENTS[1], alpha=0.25, linewidth=0, label=label)
    note = "reduced χ²" if expected is not None else f"reduced χ² ({scale})"
    _histogram(ax, counts.redchi, "redchi", note, keep=expected)
    if expected is not None:
        ax.legend(fontsize="small", frameon=False)


def _histogram(ax: Any, counts: Counts, title: str, label: str, keep: tuple[float, float] | None = None) -> None:
    """Draw counts in the logarithmic bins of a tally, trimmed to where there are any."""
    ax.set(title=title, xlabel=label, ylabel="positions")
    filled = np.flatnonzero(counts)
    if not filled.size:
        ax.text(0.5, 0.5, "no values", ha="center", transform=ax.transAxes)
        return
    first, last = int(filled[0]), int(filled[-1]) + 1
    if keep is not None:
        first = min(first, int(np.searchsorted(EDGES, keep[0])) - 1)
        last = max(last, int(np.searchsorted(EDGES, keep[1])))
    ax.stairs(counts[first:last], EDGES[first : last + 1], fill=True, color=colours.COMPONENTS[0])
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter("{x:g}")
    # Less than a factor of ten may hold no major tick at all.
    ax.xaxis.set_minor_formatter("{x:g}" if last - first < 10 else "")


def _table(ax: Any, counts: Tally, words: dict[str, int]) -> None:
    """Write the count and the part of each status, in its colour."""
    ax.set_title("counts")
    ax.axis("off")
    colour = dict(zip(words, colours.status_colours(words), strict=True))
    rows = sorted(counts.status.items(), key=lambda item: -item[1])
    cells = [["■", plain(w.replace("_", " ")), f"{n:,}", f"{n / counts.positions:.1%}"] for w, n in rows]
    cells.append(["", "all", f"{counts.positions:,}", ""])
    table = ax.table(cells, loc="upper center", cellLoc="right", colWidths=[0.06, 0.4, 0.25, 0.2], edges="horizontal")
    for i, (word, _) in enumerate(rows):
        table[i, 0].set_text_props(color=colour.get(word, colours.GREY), fontsize="x-large")
        table[i, 1].set_text_props(ha="left")
    table[len(rows), 1].set_text_props(ha="left")
    table.scale(1, 1.5)
