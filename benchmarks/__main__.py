"""``python -m benchmarks [name …]``: run the cases, check their answers, write their tables and the picture."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from importlib import import_module

from benchmarks import _plot

#: Libraries run one thread each: what runs in parallel is workers, and those are stated. Children inherit this.
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "NUMEXPR_NUM_THREADS")

#: One module per subject; its `run(small)` yields tables, its docstring says what it measures.
CASES = (
    "fits",
    "published",
    "memory",
    "overhead",
    "scaling",
    "raman",
    "ptycho",
    "bragg",
    "bragg_data",
    "grouping",
    "grouping_large",
    "traces",
    "detectors",
    "inputs",
    "words",
)


def main() -> int:
    """Run the cases that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"cases to run (default: all): {', '.join(CASES)}")
    parser.add_argument("--small", action="store_true", help="toy sizes, to see that a case runs; nothing is written")
    parser.add_argument("--plot", action="store_true", help="only draw the picture again, from the tables there are")
    parser.add_argument("--list", action="store_true", help="say what each case measures, and end")
    arguments = parser.parse_args()
    if wrong := [n for n in arguments.names if n not in CASES]:
        parser.error(f"no case {', '.join(wrong)}; there are {', '.join(CASES)}")
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    for name in () if arguments.plot else arguments.names or CASES:
        case = import_module(f"benchmarks.{name}")
        title = (case.__doc__ or "").splitlines()[0]
        print(f"\n== {name}: {title}", flush=True)
        if not arguments.list:
            _run(name, title, case, arguments.small)
    if not (arguments.small or arguments.list):
        _plot.draw()
        print(f"drew {_plot.PICTURE}")
    return 0


def _run(name: str, title: str, case: object, small: bool) -> None:
    from benchmarks import _report

    start, tables = time.monotonic(), []
    for table in case.run(small):  # type: ignore[attr-defined]
        print(f"\n{table.markdown()}", flush=True)
        tables.append(table)
    elapsed = time.monotonic() - start
    print(f"\n({name}: {elapsed:.0f} s)", flush=True)
    if not small:
        _report.write(name, title, tables, shlex.join(["python", "-m", "benchmarks", name]), elapsed)


if __name__ == "__main__":
    sys.exit(main())
