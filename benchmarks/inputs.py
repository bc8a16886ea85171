"""Bad input: damaged files of every format, and hostile ones; what becomes of each.

Every input is tried in a process of its own (tests/inputs): limited to 3 GiB beyond what it starts with, ended after
20 s, watched for writing, running and unpickling.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks._inputs import figures, trials_of, tried
from benchmarks._report import Table


def run(small: bool = False) -> Iterator[Table]:
    """Yield a table for damaged files, one for hostile input, and the figures."""
    table, tallies = tried("files", "Damaged files", small)
    table.notes.append(
        "Read wrong: other numbers, names or axes than were written, without an error. What has no checksum cannot "
        "show it: contiguous HDF5, plain zarr, NPY, TIFF, text, and the metadata of all formats."
    )
    yield table
    trials, hostile = trials_of("hostile")
    harm = trials.run([("hostile", name) for name in hostile.TRIALS], range(1))
    yield Table(
        "Hostile files and words: refused by name, nothing run, nothing written",
        ("what", "refused", "s", "MiB"),
        [
            (n, "yes" if t.counts["refused"] else "**no**", f"{t.slowest:.2f}", f"{t.grown:.0f}")
            for n, t in harm.items()
        ],
    )
    made = figures([*tallies, *harm.values()])
    refused = sum(t.counts["refused"] for t in harm.values())
    made.add("hostile inputs refused", str(len(harm)), str(refused), refused == len(harm))
    yield made
