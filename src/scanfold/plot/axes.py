"""Where a picture is drawn: on the Axes that the caller gives, or in a new figure."""

from __future__ import annotations

from typing import Any


def given_or_new(ax: Any) -> Any:
    """Return the given Axes, or those of a new figure."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(layout="constrained")[1]
