"""Odd words: configurations, parameters, models, expressions, labels, options and arguments that nobody expects.

Hypothesis draws them; they are tried as damaged files are (inputs): each is taken, or refused with one error.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks._inputs import figures, tried
from benchmarks._report import Table


def run(small: bool = False) -> Iterator[Table]:
    """Yield a table, and the figures."""
    table, tallies = tried("words", "Odd words", small)
    yield table
    yield figures(tallies)
