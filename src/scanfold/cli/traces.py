"""``scanfold traces``: fit every trace of a folder of CSV files, and say how good the fits are."""

from __future__ import annotations

import argparse
from typing import Any

from scanfold.cli import clusters
from scanfold.cli.options import names, number, pairs
from scanfold.cli.outputs import check_outputs, write_outputs, write_table
from scanfold.conventions import InputError

HELP = "fit time traces of single cells from a folder of CSV files"
EXAMPLE = (
    "scanfold traces experiment --model maturation --set km=1.28 --bound delta=1e-5,11 \\\n"
    "    --out results --report traces.html"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("folder", help="folder of CSV files, or one file")
    parser.add_argument("--model", required=True, metavar="NAME", help="kinetic model, such as maturation or trivial")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="values",
                        help="start of a parameter, or value of one that is fixed")  # fmt: skip
    parser.add_argument("--bound", action="append", default=[], metavar="NAME=LO,HI", dest="bounds",
                        help="bounds of a parameter")  # fmt: skip
    parser.add_argument("--fixed", metavar="NAMES", help="parameters that do not vary, with commas; 'none' for none")
    parser.add_argument("--weights", metavar="WEIGHTS", help="'counts' for 1/sqrt(counts), or 1/sigma as a number")
    parser.add_argument("--out", metavar="FOLDER", help="folder of the results (default: beside the files)")
    parser.add_argument("--files", metavar="NAMES", help="some files only, with commas, to try first")
    parser.add_argument("--cells", metavar="NAMES", help="some cells only, by label, with commas; needs --out")
    parser.add_argument("--feature", metavar="NAME", help="{feature}_ch_{id} to take of a table of several")
    parser.add_argument("--suffix", metavar="SUFFIX", help="_fitted names results without the model")
    clusters.add_arguments(parser)
    parser.add_argument("--no-resume", action="store_true", help="make finished results again")
    parser.add_argument("--csv", metavar="PATH", help="also write all results as one table")
    parser.add_argument("--plots", metavar="FOLDER", help="also draw quality and parameters (PNG)")
    parser.add_argument("--report", metavar="PATH", help="also write an HTML report")


def run(arguments: argparse.Namespace) -> int:
    """Fit, say how good the fits are, and write what was asked for."""
    outputs = check_outputs(vars(arguments), "csv", "plots", "report")
    where = clusters.cluster_options(vars(arguments))
    from scanfold import traces
    from scanfold.report import report

    request = request_of(arguments)
    with clusters.cluster(where):
        found = traces.fit_folder(
            arguments.folder, request, out=arguments.out, files=_listed(arguments.files),
            cells=_listed(arguments.cells), feature=arguments.feature, suffix=arguments.suffix,
            resume=not arguments.no_resume, progress=arguments.progress,
        )  # fmt: skip
    for name, reason in found.failures.items():
        print(f"not fitted: {name}: {reason}")
    if not found.paths:
        raise InputError(f"none of the {len(found.files)} files could be fitted")
    print(found.quality())
    print(f"wrote {len(found.paths)} files in {found.out}")
    write_outputs(
        outputs,
        csv=lambda path: write_table(found.results, path),
        plots=found.export_plots,
        report=lambda path: report(found.dataset, path),
    )
    return 2 if found.failures else 0


def request_of(arguments: argparse.Namespace) -> Any:
    """Return what is to be fitted.

    Raises
    ------
    InputError
        If a parameter, a value or bounds cannot be used.
    """
    from scanfold.traces import FittingRequest

    weights = arguments.weights if arguments.weights in (None, "counts") else number(arguments.weights)
    fixed = None if arguments.fixed is None else () if arguments.fixed == "none" else names(arguments.fixed)
    bounds = {n: _pair(n, text) for n, text in pairs(arguments.bounds, "--bound NAME=LO,HI, such as delta=1e-5,11")}
    values = {n: number(text) for n, text in pairs(arguments.values, "--set NAME=VALUE, such as km=1.28")}
    return FittingRequest(arguments.model, values, bounds, fixed, weights)


def _pair(name: str, text: str) -> tuple[float, float]:
    parts = text.split(",")
    if len(parts) != 2:
        raise InputError(f"--bound {name}={text}; expected two numbers, such as {name}=1e-5,11")
    return number(parts[0]), number(parts[1])


def _listed(text: str | None) -> list[str] | None:
    return None if text is None else list(names(text))
