"""Counts over all positions, folded block by block: no map is held whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from scanfold import _folds
from scanfold.conventions import flags

Counts = npt.NDArray[np.int64]
#: Ten bins per factor of ten, from 10⁻⁶ to 10¹²; values outside fall into the first and the last.
EDGES = np.logspace(-6, 12, 181)
_WHAT = ("status", "redchi", "nfev")


@dataclass(frozen=True)
class Tally:
    """How many positions have each status, and where redchi and nfev lie."""

    status: dict[str, int]
    redchi: Counts
    nfev: Counts

    @property
    def positions(self) -> int:
        """Return the number of positions."""
        return sum(self.status.values())


def tally(fits: xr.Dataset) -> Tally:
    """Count the status, redchi and nfev of fits in one pass over their blocks.

    Parameters
    ----------
    fits : Dataset
        Of `scanfold.fit`, lazy or not.

    Returns
    -------
    Tally
        Words without a position are left out.
    """
    words = {value: word for word, value in flags(fits["status"]).items()}
    # One array of all three, so that fits which are not stored yet are computed once.
    parts = [fits[n].astype(np.float64).reset_coords(drop=True).drop_attrs() for n in _WHAT]
    stacked = xr.concat(parts, "tally", coords="minimal", compat="override")
    if stacked.chunks is not None:
        stacked = stacked.chunk(tally=-1)
    counts: Counts = _folds.reduce_blocks(stacked, _count, sum, np.asarray).compute()
    status, redchi, nfev = counts[:256], counts[256 : 256 + EDGES.size - 1], counts[256 + EDGES.size - 1 :]
    return Tally({words.get(i, str(i)): int(n) for i, n in enumerate(status) if n}, redchi, nfev)


def _count(block: npt.NDArray[np.float64]) -> Counts:
    """Count one block (3, …) of status, redchi and nfev."""
    status, redchi, nfev = block.reshape(len(_WHAT), -1)
    finite = redchi[np.isfinite(redchi)]
    return np.concatenate(
        [np.bincount(status.astype(np.int64) & 255, minlength=256), _histogram(finite), _histogram(nfev[nfev > 0])]
    )


def _histogram(values: npt.NDArray[np.float64]) -> Counts:
    return np.histogram(np.clip(values, EDGES[0], EDGES[-1]), EDGES)[0]
