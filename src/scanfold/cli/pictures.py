"""The maps of a fit as PNG files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scanfold.conventions import InputError

#: Positions that are drawn; the others are grey.
BELIEVED = "status == 'converged'"


def draw_maps(fits: Any, folder: Path) -> list[Path]:
    """Draw the map of each parameter into a PNG file of its name.

    Parameters
    ----------
    fits : Dataset
        Of `scanfold.fit`.
    folder : Path
        Made if it is not there.

    Returns
    -------
    list of Path
        The files.
    """
    from matplotlib.figure import Figure

    from scanfold import plot
    from scanfold.fitting import parameter_names

    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}") from None
    paths = []
    for name in parameter_names(fits):
        figure = Figure(figsize=(5.5, 4.5), layout="constrained")
        plot.parameter_map(fits, name, query=BELIEVED, ax=figure.subplots())
        paths.append(folder / f"{name}.png")
        figure.savefig(paths[-1], dpi=120)
    return paths
