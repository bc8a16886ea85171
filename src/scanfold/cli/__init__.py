"""The command ``scanfold``: one module of this folder for each of its `COMMANDS`."""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from scanfold import __version__
from scanfold.conventions import ScanError

#: The commands; each is a module here with `HELP`, `EXAMPLE`, `add_arguments(parser)` and `run(arguments)`.
COMMANDS = (
    "doctor",
    "info",
    "fit",
    "bragg",
    "report",
    "demo",
    "polar_map",
    "simulate",
    "group",
    "traces",
    "export",
    "explore",
)
#: Exit codes: wrong input or a run that failed, and the shell's for an interrupt.
FAILED, INTERRUPTED = 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process if not given.

    Returns
    -------
    int
        Exit code: 0 done, 1 a check of ``doctor`` failed, 2 wrong input or a failed run, 130 interrupted.

    Examples
    --------
    >>> main(["info", "no_such_file.h5"])
    2
    """
    arguments = make_parser().parse_args(argv)
    _speak_plainly()
    try:
        return int(import_module("scanfold.cli." + arguments.command.replace("-", "_")).run(arguments))
    except ScanError as error:
        print(f"scanfold {arguments.command}: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("scanfold: interrupted; run the same command again to go on from what is finished", file=sys.stderr)
        return INTERRUPTED


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="scanfold", description="Turn scans into maps: fit any lmfit model at every position, out of core."
    )
    parser.add_argument("--version", action="version", version=f"scanfold {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = import_module(f"scanfold.cli.{name}")
        command = commands.add_parser(
            name.replace("_", "-"),
            help=module.HELP,
            description=module.HELP[0].upper() + module.HELP[1:] + ".",
            epilog=f"example:\n  {module.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
    return parser


def _speak_plainly() -> None:
    """Print warnings and log lines of scanfold as one line each, and leave out the place in the source."""

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, UserWarning):
            print(f"note: {message}", file=sys.stderr)

    warnings.showwarning = show
    logger = logging.getLogger("scanfold")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("note: %(message)s"))
        logger.addHandler(handler)
