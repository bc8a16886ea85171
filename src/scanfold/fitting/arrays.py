"""The array engine: a user's function that numba cannot compile, evaluated for many positions at once by NumPy."""

from __future__ import annotations

from collections.abc import Sequence

from scanfold.fitting.compiled import compile_user
from scanfold.fitting.components import Component, Unsupported
from scanfold.fitting.problem import Array, Problem, Raw, Rows


def evaluation_of(components: Sequence[Component], x: Array) -> str:
    """Return "compiled" or "array", whichever these components allow; raise Unsupported if neither."""
    chosen = "compiled"
    for component in components:
        if component.leaf != "user":
            continue
        try:
            compile_user(component.function, len(component.names))
        except Exception as error:
            raise Unsupported(str(error).splitlines()[0]) from None
    return chosen


def fit_block(problem: Problem, rows: Rows) -> Raw:
    """Fit all rows."""
    raise NotImplementedError
