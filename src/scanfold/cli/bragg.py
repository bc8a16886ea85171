"""``scanfold bragg``: neutron counts to maps of thickness and more, with a store, a report, maps and a table."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from scanfold.cli import clusters
from scanfold.cli.options import number, pairs, typed, whole
from scanfold.cli.outputs import check_outputs, write_outputs, write_table
from scanfold.cli.pictures import draw_maps
from scanfold.conventions import InputError, unknown

HELP = "fit the Bragg-edge transmission of every group of neutron counts"
EXAMPLE = (
    'scanfold bragg --signal "imaging/signal_x*_y*.csv" --openbeam "imaging/ob_x*_y*.csv" \\\n'
    "    --material Fe_sg229_Iron-alpha --vary background,response --wlmin 1.5 --wlmax 5 \\\n"
    "    --out fits.zarr --report fits.html --plots maps --csv fits.csv"
)
_GROUPS = ("background", "response", "tof", "weights", "lattice", "extinction", "sans", "orientation")
#: Options: name, what it takes, metavar, default, help.
_OPTIONS: tuple[tuple[str, Any, str, Any, str], ...] = (
    ("signal", str, "FILES", None, "counts behind the sample: a glob in quotes, a folder, or a stack"),
    ("openbeam", str, "FILES", None, "counts of the open beam, one for each group or one for all"),
    ("empty-signal", str, "FILES", None, "counts behind the empty holder"),
    ("empty-openbeam", str, "FILES", None, "open beam of the empty holder"),
    ("out", str, "FILE", None, "result to write: .zarr, resumed if unfinished, or .json"),
    ("L", number, "M", 9.0, "flight path in m"),
    ("tstep", number, "S", 10e-6, "width of a bin in s"),
    ("L0", number, "X", 1.0, "calibration of the flight path, as a multiple"),
    ("t0", number, "S", 0.0, "calibration of the time of flight, in s"),
    ("pattern", str, "TEXT", "auto", "how names of files hold indices, such as _x{x}_y{y}"),
    ("query", str, "TEXT", None, "which groups, such as 'x < 10 and y > 3'"),
    ("wlmin", number, "Å", 1.0, "shortest wavelength that is fitted"),
    ("wlmax", number, "Å", 6.0, "longest wavelength that is fitted"),
    ("rebin", str, "DIM=N", None, "sum neighbouring bins or pixels first, such as tof=2,y=4,x=4"),
    ("response", str, "WORD", "jorgensen", "response: jorgensen, full_jorgensen, square, none"),
    (
        "background",
        str,
        "WORD",
        "polynomial3",
        "background: polynomial3, polynomial5, constant, sample_dependent, none",
    ),
    ("likelihood", str, "WORD", "gaussian", "gaussian, or poisson for few counts"),
    ("method", str, "METHOD", "leastsq", "minimiser as in lmfit; rietveld and staged fit in stages"),
    ("report", str, "PATH", None, "also write an HTML report"),
    ("plots", str, "FOLDER", None, "also draw a map of each parameter (PNG)"),
    ("csv", str, "PATH", None, "also write a table, a row for each group"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    for name, take, metavar, default, text in _OPTIONS:
        needed = name in ("signal", "openbeam", "out")
        parser.add_argument(f"--{name}", type=typed(take), metavar=metavar, default=default, help=text, required=needed)
    parser.add_argument(
        "--material", action="append", required=True, metavar="NAME[=FRACTION]",
        help="material of NCrystal's library or a .ncmat file, with its volume fraction; repeat for each phase",
    )  # fmt: skip
    parser.add_argument(
        "--vary", default="", metavar="GROUPS", help=f"what is fitted beside thickness and norm: {', '.join(_GROUPS)}"
    )
    parser.add_argument("--start", action="append", default=[], metavar="NAME=VALUE", help="start value of a parameter")
    clusters.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Fit, and write what was asked for."""
    if Path(arguments.out).suffix not in (".zarr", ".json"):
        raise InputError(f"--out {arguments.out}: expected a name that ends in .zarr or .json")
    outputs = check_outputs(vars(arguments), "csv", "plots", "report")
    where = clusters.cluster_options(vars(arguments))
    result = make_result(arguments)
    with clusters.cluster(where):
        result = result.save(arguments.out, progress=arguments.progress)
    print(f"wrote {arguments.out}")
    write_outputs(
        outputs,
        csv=lambda path: write_table(result.summary(), path),
        plots=lambda folder: draw_maps(result.compute(), folder),
        report=lambda path: _report(result, path),
    )
    return 0


def _report(result: Any, path: Path) -> None:
    from scanfold.report import report

    measured = result.measured()
    report(result.compute(), path, measured.values, model=measured.model, weights=measured.weights)


def make_result(arguments: argparse.Namespace) -> Any:
    """Return the fits, not computed yet."""
    from scanfold import bragg

    model = make_model(arguments)
    data = bragg.Data.from_grouped(
        arguments.signal, arguments.openbeam, arguments.empty_signal, arguments.empty_openbeam, L=arguments.L,
        tstep=arguments.tstep, L0=arguments.L0, t0=arguments.t0, pattern=arguments.pattern, query=arguments.query,
    )  # fmt: skip
    if arguments.rebin:
        data = data.rebin(**{k: whole(v) for k, v in pairs(arguments.rebin.split(","), "--rebin DIM=N,DIM=N")})
    return model.fit(
        data, wlmin=arguments.wlmin, wlmax=arguments.wlmax, method=arguments.method, likelihood=arguments.likelihood
    )


def make_model(arguments: argparse.Namespace) -> Any:
    """Return the model that the options describe."""
    from scanfold import bragg

    phases = [material(text) for text in arguments.material]
    total = bragg.CrossSection({name: found for name, found in phases})
    words = [w.strip() for w in arguments.vary.split(",") if w.strip()]
    wrong = [w for w in words if w not in _GROUPS]
    if wrong:
        raise unknown("group for --vary", wrong[0], _GROUPS)
    vary: Any = {f"vary_{w}": True for w in words}
    model = bragg.TransmissionModel(
        total, response=arguments.response, background=arguments.background, vary_basic=True, **vary
    )
    for name, value in pairs(arguments.start, "--start NAME=VALUE"):
        if name not in model.params:
            raise unknown("parameter for --start", name, model.params)
        model.params[name].set(value=number(value))
    return model


def material(text: str) -> tuple[str, Any]:
    """Return a phase's name and its material from ``NAME[=FRACTION]``.

    Examples
    --------
    >>> material("Fe_sg229_Iron-alpha=0.3")
    ('Iron_alpha', Material('Fe_sg229_Iron-alpha', weight=0.3))
    """
    import re

    from scanfold import bragg

    name, equals, fraction = text.partition("=")
    weight = number(fraction) if equals else 1.0
    found = bragg.register_material(Path(name)) if name.endswith(".ncmat") else bragg.materials[name]
    phase = re.sub(r"\W", "_", found.name.split("_")[-1] if found.name.count("_") > 1 else found.name)
    return phase, weight * found
