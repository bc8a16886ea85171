"""scanfold: turn scans into maps.

A *scan* is one detector frame, spectrum or time trace at every scan position.
scanfold opens scans as lazy, labelled xarray datasets and turns them into
maps of fitted parameters, out of core, on threads or on a cluster.

The names below load on first use, so that ``import scanfold`` stays fast.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "ScanError": "scanfold.conventions",
    "bragg": "scanfold.bragg",
    "detectors": "scanfold.detectors",
    "explore": "scanfold.viewer",
    "export": "scanfold.export",
    "export_csv": "scanfold.export",
    "export_hspy": "scanfold.export",
    "export_nexus": "scanfold.export",
    "export_tiff": "scanfold.export",
    "fit": "scanfold.fitting",
    "fitting": "scanfold.fitting",
    "grouping": "scanfold.grouping",
    "io": "scanfold.io",
    "open_scan": "scanfold.io",
    "plot": "scanfold.plot",
    "ptycho": "scanfold.ptycho",
    "report": "scanfold.report",
    "save": "scanfold.runs",
    "summary": "scanfold.fitting",
    "testing": "scanfold.testing",
    "traces": "scanfold.traces",
    "transpose_scan": "scanfold.runs",
}

__all__ = ["__version__", *_PUBLIC]

#: Gives xarray objects their ``.scanfold``. It needs xarray, so it waits for the first public name, unless xarray is
#: there already.
_ACCESSOR = "scanfold.accessor"
if "xarray" in sys.modules:
    import_module(_ACCESSOR)


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'scanfold' has no attribute {name!r}; it has {', '.join(sorted(_PUBLIC))}")
    import_module(_ACCESSOR)
    module = import_module(_PUBLIC[name])
    return getattr(module, name, module)


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(__all__)
