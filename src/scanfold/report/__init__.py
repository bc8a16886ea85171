"""One self-contained page about a run: ``sf.report(fits, "report.html")``.

The package is called like the function it holds; calling it calls the function, whichever was loaded first.
"""

from __future__ import annotations

import sys
from types import ModuleType

from scanfold.report.page import report

__all__ = ["report"]


def __dir__() -> list[str]:
    return sorted(__all__)


class _Report(ModuleType):
    """The package as a callable."""

    __call__ = staticmethod(report)


sys.modules[__name__].__class__ = _Report
