"""The one policy of colours: perceptually uniform maps, safe for colour-blind readers, grey for what is not known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

#: Of values of one sign, and of values on both sides of zero.
SEQUENTIAL, DIVERGING = "viridis", "RdBu_r"
#: Positions without a value or left out by the query. No colour map above contains it.
GREY = "#bdbdbd"
#: Lines: Okabe and Ito's palette, which colour-blind readers tell apart.
DATA, BEST, LEFT_OUT = "#000000", "#d55e00", "#8c8c8c"
COMPONENTS = ("#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
#: What became of a fit: the good ones quiet, no numbers dark, no signal light.
STATUS = {
    "converged": "#56b4e9", "max_nfev": "#e69f00", "at_bound": "#f0e442", "too_few_points": "#7f7f7f",
    "singular": "#cc79a7", "no_signal": "#e3e3e3", "poor_fit": "#d55e00", "invalid_model": "#009e73",
    "failed": "#000000", "crashed": "#5d3a9b",
}  # fmt: skip
#: Percentiles between which colours run, so that single outliers do not flatten the map.
ROBUST = (2.0, 98.0)
#: Zero is the middle of the colours where the smaller side is at least this part of the larger.
_BOTH_SIDES = 0.1


def limits(values: Array) -> tuple[float, float]:
    """Return the robust lower and upper limit of the finite values.

    Examples
    --------
    >>> limits(np.append(np.arange(101.0), [1e9, np.nan]))
    (2.02, 98.98)
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = np.percentile(finite, ROBUST)
    return round(float(low), 12), round(float(high), 12)


def norm_and_map(values: Array, vmin: float | None = None, vmax: float | None = None) -> tuple[float, float, str]:
    """Return the limits and the colour map for some values.

    Given limits win. Values on both sides of zero get the diverging map, with zero in its middle unless limits
    are given.

    Examples
    --------
    >>> norm_and_map(np.linspace(1, 2, 101))
    (1.02, 1.98, 'viridis')
    >>> norm_and_map(np.linspace(-1, 2, 101))
    (-1.94, 1.94, 'RdBu_r')
    """
    low, high = limits(values)
    signed = low < 0 < high and min(-low, high) >= _BOTH_SIDES * max(-low, high)
    if signed and vmin is None and vmax is None:
        high = max(-low, high)
        low = -high
    low, high = low if vmin is None else float(vmin), high if vmax is None else float(vmax)
    if low == high:
        margin = abs(low) * 1e-3 or 1.0
        low, high = low - margin, high + margin
    return low, high, DIVERGING if signed else SEQUENTIAL


def status_colours(words: Mapping[str, int]) -> list[str]:
    """Return one colour for each word of a flag variable, in its order."""
    spare = [c for c in COMPONENTS if c not in STATUS.values()] or list(COMPONENTS)
    return [STATUS.get(word, spare[i % len(spare)]) for i, word in enumerate(words)]


def grey_map(name: str) -> Any:
    """Return matplotlib's colour map of that name, with grey for masked values."""
    from matplotlib import colormaps

    return colormaps[name].with_extremes(bad=GREY) if isinstance(name, str) else name.with_extremes(bad=GREY)
