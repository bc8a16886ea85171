"""Calibration by clicks on the mean pattern, in windows and in notebooks."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from scanfold.conventions import InputError
from scanfold.detectors.calibration import pixel_size_from_points
from scanfold.detectors.frames import AXES, Array, disc_center, frames_of, given_center, pair, pattern_sum, radius_map
from scanfold.plot import colours

#: Radii of the guiding circles, as shares of the distance to the farthest pixel.
RINGS = (0.2, 0.4, 0.6, 0.8)


class Clicks:
    """A mean pattern that waits for clicks.

    Parameters
    ----------
    mean : ndarray (ky, kx)
        Mean pattern, drawn in log scale.
    center : (float, float)
        What the dashed cross and the circles show, ``(ky, kx)`` in pixels.
    wanted : int
        Clicks to wait for.
    title : str
        What to click.
    figure : matplotlib Figure, optional
        Where to draw; otherwise a new window, or the output of a notebook cell.

    Attributes
    ----------
    points : list of (float, float)
        What was clicked, ``(ky, kx)`` in pixels.
    """

    def __init__(self, mean: Array, center: tuple[float, float], wanted: int, title: str, figure: Any = None):
        self.points: list[tuple[float, float]] = []
        self.wanted, self._opened = wanted, figure is None
        self.figure = _window() if figure is None else figure
        self.axes = self.figure.add_subplot()
        shown = np.log1p(np.maximum(np.nan_to_num(mean), 0.0))
        self.axes.imshow(shown, cmap=colours.SEQUENTIAL)
        self.axes.set_title(title)
        self.axes.set_xlabel("kx (pixel)")
        self.axes.set_ylabel("ky (pixel)")
        self.axes.axhline(center[0], color="red", linestyle="--", linewidth=1)
        self.axes.axvline(center[1], color="red", linestyle="--", linewidth=1)
        angle = np.linspace(0, 2 * np.pi, 181)
        for share in RINGS:
            radius = share * radius_map(mean.shape, center).max()
            ring = (center[1] + radius * np.cos(angle), center[0] + radius * np.sin(angle))
            self.axes.plot(*ring, color="white", alpha=0.4, linewidth=0.8)
        self.axes.set_xlim(-0.5, mean.shape[1] - 0.5)
        self.axes.set_ylim(mean.shape[0] - 0.5, -0.5)
        self._handler = self.figure.canvas.mpl_connect("button_press_event", self._click)

    @property
    def done(self) -> bool:
        """Whether all clicks were made."""
        return len(self.points) == self.wanted

    def _click(self, event: Any) -> None:
        toolbar = getattr(self.figure.canvas, "toolbar", None)
        busy = bool(toolbar is not None and getattr(toolbar, "mode", ""))  # a click that zooms or pans
        if event.inaxes is not self.axes or event.button != 1 or busy or self.done:
            return
        self.points.append((float(event.ydata), float(event.xdata)))
        self.axes.plot(event.xdata, event.ydata, "+", color="orange", markersize=14, markeredgewidth=2)
        self.figure.canvas.draw_idle()
        if self.done:
            self.figure.canvas.mpl_disconnect(self._handler)
            if self._opened and not _in_notebook():
                import matplotlib.pyplot as plt

                plt.close(self.figure)

    def wait(self) -> None:
        """Wait in a window until all clicks are made; in a notebook come back at once.

        Raises
        ------
        InputError
            If the window is closed before.
        """
        if not self._opened or _in_notebook():
            return
        import matplotlib.pyplot as plt

        plt.show(block=True)
        self.require()

    def require(self) -> None:
        """Raise unless all clicks were made."""
        if not self.done:
            raise InputError(f"{len(self.points)} of {self.wanted} clicks were made; click before the window is closed")


class PickedCenter(Clicks):
    """The centre of the beam, by one click."""

    @property
    def center(self) -> tuple[float, float]:
        """``(ky, kx)`` in pixels, for ``center=``."""
        self.require()
        return self.points[0]


class PickedSpacing(Clicks):
    """The size of a pixel, by two clicks; `pixel_size_from_points` says what they mean."""

    def __init__(self, mean: Array, center: tuple[float, float], known_spacing: float | None, figure: Any = None):
        what = "opposite reflections, or the boundaries of a ring"
        super().__init__(mean, center, 2, f"click two {what}", figure)
        self._center, self._spacing = center, known_spacing

    @property
    def calibration(self) -> dict[str, Any]:
        """``pixel_size_ky``, ``pixel_size_kx``, ``units``, ``radius`` and ``center``."""
        self.require()
        return pixel_size_from_points(*self.points, known_spacing=self._spacing, center=self._center)


def interactive_center(scan: Any, *, center: Any = None, figure: Any = None) -> PickedCenter:
    """Click the centre of the beam in the mean pattern.

    The centre found automatically is a dashed cross. A window closes after one click, and this function then returns;
    in a notebook (``%matplotlib widget``, from ipympl) it returns at once, and ``.center`` is there after the click.

    Parameters
    ----------
    scan : Dataset or DataArray
        Frames ``(*scan, ky, kx)``, the mean of which is computed; or `cluster_statistics`, so that nothing is read.
    center : (float, float), optional
        What the cross shows instead.
    figure : matplotlib Figure, optional
        Where to draw, in a program of your own.

    Returns
    -------
    PickedCenter
        ``.center`` is ``(ky, kx)`` in pixels.

    Raises
    ------
    InputError
        If there is no display.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from matplotlib.backend_bases import MouseEvent
    >>> frames = xr.DataArray(np.ones((2, 8, 8)), dims=("position", "ky", "kx"))
    >>> picked = interactive_center(frames, figure=Figure())
    >>> canvas = picked.figure.canvas
    >>> x, y = picked.axes.transData.transform((3, 5))
    >>> canvas.callbacks.process("button_press_event", MouseEvent("button_press_event", canvas, x, y, 1))
    >>> [round(k, 6) for k in picked.center]
    [5.0, 3.0]
    """
    mean, shown = _mean_and_center(scan, center, figure)
    picked = PickedCenter(mean, shown, 1, "click the centre of the beam", figure)
    picked.wait()
    return picked


def interactive_kspace(
    scan: Any, *, known_spacing: float | None = None, center: Any = None, figure: Any = None
) -> PickedSpacing:
    """Click two opposite reflections, or the two boundaries of a ring, in the mean pattern.

    Parameters
    ----------
    scan : Dataset or DataArray
        As in `interactive_center`.
    known_spacing : float, optional
        Lattice spacing in Å; without it the radius that is clicked becomes 1.
    center : (float, float), optional
        Centre of the beam, such as one clicked before.
    figure : matplotlib Figure, optional
        Where to draw.

    Returns
    -------
    PickedSpacing
        ``.calibration`` is for `calibrate`.

    Raises
    ------
    InputError
        If there is no display, or the spacing is not positive.
    """
    if known_spacing is not None and not known_spacing > 0:
        raise InputError(f"known_spacing={known_spacing}; expected a lattice spacing in Å")
    mean, shown = _mean_and_center(scan, center, figure)
    picked = PickedSpacing(mean, shown, known_spacing, figure)
    picked.wait()
    return picked


def _mean_and_center(scan: Any, center: Any, figure: Any) -> tuple[Array, tuple[float, float]]:
    if figure is None:
        require_display()  # before the scan is read
    if isinstance(scan, xr.Dataset) and "mean_counts" in scan:
        mean, valid = scan["mean_counts"].values, scan["valid"].values
        known = scan["center"].values if center is None else np.array(pair(center, "center"))
    else:
        array, _ = frames_of(scan)
        given = given_center(center, array)
        total = pattern_sum(array).values
        count = np.prod([array.sizes[d] for d in array.dims if d not in AXES])
        mean, valid = total / count, np.ones(total.shape, bool)
        known = disc_center(mean, valid) if given is None else given.values
    return mean, (float(known[0]), float(known[1]))


def _in_notebook() -> bool:
    import matplotlib

    return any(word in matplotlib.get_backend().lower() for word in ("ipympl", "nbagg", "widget"))


def require_display(waiting: bool = False) -> None:
    """Raise if figures cannot take clicks or, with `waiting`, a function cannot wait for them."""
    import matplotlib
    from matplotlib.backends import BackendFilter, backend_registry

    backend = matplotlib.get_backend()  # chooses one, if none was
    interactive = [b.lower() for b in backend_registry.list_builtin(BackendFilter.INTERACTIVE)]
    if backend.lower() not in interactive and not _in_notebook():
        raise InputError(
            f"no display to click in (matplotlib uses {backend!r}); give the numbers instead: center=(ky, kx), and "
            "pixel_size_k or det.pixel_size_from_points. In a notebook type %matplotlib widget first (ipympl)"
        )
    if waiting and _in_notebook():
        raise InputError(
            "a run cannot wait for clicks in a notebook; call det.interactive_center(scan) in a cell of its own, and "
            "pass its .center as calibration: center_y, center_x"
        )


def _window() -> Any:
    import matplotlib.pyplot as plt

    return plt.figure(figsize=(7, 7), layout="constrained")
