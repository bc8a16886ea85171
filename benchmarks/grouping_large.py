"""Neighbour groups of 10⁸ positions: the index, 512 groups, and a group around each to a store, each run once."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

from benchmarks._process import Method, race
from benchmarks._report import Figures, Table, number
from benchmarks.grouping import write_positions


def run(small: bool) -> Iterator[Table]:
    """Yield the tables."""
    count = 10**5 if small else 10**8
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="grouping-") as folder:
        write_positions(folder, count)
        index = Method("making the index", "benchmarks.grouping:index", count, {"folder": folder})
        few = Method(
            "512 groups, opening the index", "benchmarks.grouping:indexed", 512, {"folder": folder, "nsamples": 512}
        )
        every = Method("a group around each, to a store", "benchmarks.grouping:streamed", count, {"folder": folder})
        for method, repeats in ((index, 0), (few, 3), (every, 0)):
            race([method], repeats)
    table = Table(f"{count:,} random positions in zarr", ("step", "seconds", "memory, MB"))
    runs = [(m.name, m.first) for m in (index, few, every)]
    runs[1:2] = [(f"{few.name}, first of its process", few.first), (f"{few.name}, again", few.runs[-1])]
    table.rows = [(name, number(r.wall), number(r.memory / 2**20)) for name, r in runs if r]
    first, again = few.first, few.runs[-1]
    if first and index.first and every.first:
        figures.add(
            f"{count:,} positions, 512 groups with the index", "≤ 1 s", f"{number(again.wall)} s", again.wall <= 1
        )
        figures.add("the same, first of its process", "≤ 1 s", f"{number(first.wall)} s", first.wall <= 1)
        most = max(r.memory for _, r in runs if r) / 2**20
        figures.add("memory of all steps", "≤ 2 GB", f"{number(most)} MB", most <= 2000)
    yield figures
    yield table
