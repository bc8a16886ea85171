"""One self-contained page about a run: ``sf.report(fits, "report.html")``.

The package is called like the function it holds; calling it calls the function, whichever was loaded first.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import xarray as xr

from scanfold.report.page import report

__all__ = ["report"]


def __dir__() -> list[str]:
    return sorted(__all__)


class _Report(ModuleType):
    """The package as a callable."""

    def __call__(
        self,
        fits: xr.Dataset,
        path: str | Path,
        data: xr.DataArray | xr.Dataset | None = None,
        *,
        model: Callable[..., Any] | None = None,
        weights: Any = None,
    ) -> Path:
        """Write the page; see `scanfold.report.report`."""
        return report(fits, path, data, model=model, weights=weights)


sys.modules[__name__].__class__ = _Report
