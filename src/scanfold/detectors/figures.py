"""Figures of templates, gates and fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr


def montage(tmpl: xr.Dataset, gates: xr.Dataset) -> Any:
    """Draw the template and the gate of each cluster, one above the other.

    Returns
    -------
    matplotlib Figure
    """
    from matplotlib.figure import Figure

    count = tmpl.sizes["cluster"]
    figure = Figure(figsize=(2.2 * count, 4.6), layout="constrained")
    axes = figure.subplots(2, count, squeeze=False)
    limit = float(np.nanpercentile(np.abs(tmpl["template"]), 99.5)) or 1.0
    for column, label in enumerate(tmpl["cluster"].values):
        axes[0, column].imshow(tmpl["template"][column], cmap="RdBu_r", vmin=-limit, vmax=limit)
        axes[0, column].set_title(f"cluster {label}")
        axes[1, column].imshow(gates["gate"][column], cmap="viridis", vmin=0, vmax=1)
        axes[1, column].set_xlabel(f"covers {float(gates['coverage'][column]):.0%}")
    for each in axes.flat:
        each.set_xticks([])
        each.set_yticks([])
    axes[0, 0].set_ylabel("template")
    axes[1, 0].set_ylabel("gate")
    return figure


def save(figure: Any, path: Path) -> None:
    """Write a figure as PNG."""
    figure.savefig(path, dpi=150)
