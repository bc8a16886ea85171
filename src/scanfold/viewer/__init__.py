"""Look at maps and scans by clicking: a map, and beside it what was measured and fitted where one clicks.

In a notebook ``sf.explore(fits)`` shows it; ``scanfold explore fits.zarr`` serves it as a page, on loopback only.
Stores and scans are read lazily: a click reads one position. Needs the extra ``explore`` (Panel and Bokeh).
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from scanfold.conventions import InputError

if TYPE_CHECKING:
    from scanfold.viewer.page import Explorer
    from scanfold.viewer.traces import TraceDesk

__all__ = ["explore", "serve"]


def __dir__() -> list[str]:
    return sorted(__all__)


#: Only this machine can reach the page.
LOOPBACK = "127.0.0.1"


def explore(
    maps_or_scan: xr.Dataset | xr.DataArray | str | Path,
    data: xr.Dataset | xr.DataArray | None = None,
    *,
    model: Callable[..., Any] | None = None,
) -> Explorer | TraceDesk:
    """Show a map, and what was measured and fitted at the position that is clicked.

    Parameters
    ----------
    maps_or_scan : Dataset, DataArray, or path
        Fits or other maps over one or two scan dims; or a scan, whose map is then the mean over its detector dims (of
        every n-th position, where the scan is large). A path is opened: a store, a scan, or a folder (or file) of CSV
        files of time traces, which are shown on a desk of their own: data, fitting, results.
    data : Dataset or DataArray, optional
        What the maps were made from. If not given, the file that fits were made from is opened again, where it is
        still there and was fitted whole.
    model : lmfit.Model or callable, optional
        Needed for curves of a function of your own; lmfit's models are rebuilt from their names.

    Returns
    -------
    Explorer or TraceDesk
        A notebook shows it. ``select(y=3, x=5)`` does what a click does; `page` is the Panel object.

    Raises
    ------
    InputError
        If Panel is not installed, there is no map in it, or data of other positions are given.

    Examples
    --------
    >>> import numpy as np
    >>> maps = xr.Dataset({"center": (("y", "x"), np.ones((3, 4)))})
    >>> explore(maps).select(y=1, x=2)
    {'y': 1, 'x': 2}
    """
    require_panel()
    if isinstance(maps_or_scan, str | Path):
        if _holds_traces(Path(maps_or_scan).expanduser()):
            from scanfold.viewer.traces import TraceDesk

            return TraceDesk(maps_or_scan)
        from scanfold.io import open_scan

        maps_or_scan = open_scan(maps_or_scan)
    from scanfold.viewer.page import Explorer
    from scanfold.viewer.sources import sources

    return Explorer(sources(maps_or_scan, data, model))


def _holds_traces(path: Path) -> bool:
    """Say whether a path is a CSV file, or a folder that has some."""
    return path.suffix.lower() == ".csv" or (path.is_dir() and any(f.suffix.lower() == ".csv" for f in path.iterdir()))


def require_panel() -> None:
    """Raise if Panel is not installed.

    Raises
    ------
    InputError
        With the command that installs it.
    """
    try:
        import panel  # noqa: F401
    except ImportError:
        raise InputError('exploring needs Panel; pip install "scanfold[explore]"') from None


class Shown:
    """What a notebook shows as its `page`."""

    page: Any

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        import panel

        if not panel.extension._loaded:
            panel.extension(inline=True)  # from the notebook itself: no page of another server is asked for
        return self.page._repr_mimebundle_(include, exclude)


def serve(make_page: Callable[[], Any], *, title: str, port: int = 0, show: bool = True) -> None:
    """Serve a page to browsers on this machine until interrupted; each visitor has a page of its own.

    Parameters
    ----------
    make_page : callable
        Makes the Panel object.
    title : str
        Of the page.
    port : int
        0 takes a free one.
    show : bool
        Open a browser.

    Raises
    ------
    InputError
        If there is no such port, or it is taken.
    """
    import panel

    port = _free(port)
    print(f"http://{LOOPBACK}:{port} (end with Ctrl+C)", flush=True)
    origins = [f"{LOOPBACK}:{port}", f"localhost:{port}"]
    panel.serve(make_page, port=port, address=LOOPBACK, title=title, show=show, verbose=False, websocket_origin=origins)


def _free(port: int) -> int:
    """Return the port if a page can be served there, or a free one for 0."""
    if not 0 <= port < 2**16:
        raise InputError(f"no port {port}; expected 1 … 65535, or 0 for a free one")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise InputError(f"port {port}: {error.strerror}; expected another, or 0 for a free one") from None
        return int(probe.getsockname()[1])
