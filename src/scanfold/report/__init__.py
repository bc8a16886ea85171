"""One self-contained page about a run: ``sf.report(fits, "report.html")``.

The package is called like the function it holds; calling it calls the function, whichever was loaded first.
"""

from __future__ import annotations

import sys
from inspect import signature
from types import ModuleType

from scanfold.report.page import report

__all__ = ["report"]


def __dir__() -> list[str]:
    return sorted(__all__)


class _Report(ModuleType):
    """The package as a callable."""

    __call__ = staticmethod(report)
    __signature__ = signature(report)  # inspect takes `fits` for the module itself


sys.modules[__name__].__class__ = _Report
