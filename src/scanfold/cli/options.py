"""What options take; and those of ``scanfold fit``, one table for the command line and for ``--config``."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from scanfold.conventions import InputError, one_of, read_yaml, unknown

_WORDS = {"true": True, "yes": True, "false": False, "no": False}
Bounds = tuple[float | None, float | None]


def text(value: object) -> str:
    """Take a text."""
    if not isinstance(value, str) or not value:
        raise InputError(f"{value!r}; expected a text")
    return value


def number(value: object) -> float:
    """Take a number; YAML reads 1e-6 as a text."""
    try:
        if not isinstance(value, int | float | str) or isinstance(value, bool):
            raise ValueError
        return float(value)
    except (ValueError, OverflowError):
        raise InputError(f"{value!r}; expected a number") from None


def whole(value: object) -> int:
    """Take a whole number, at least 1."""
    found = number(value)
    if not found.is_integer() or found < 1:
        raise InputError(f"{value!r}; expected a whole number, at least 1")
    return int(found)


def switch(value: object) -> bool:
    """Take true or false."""
    found = _WORDS.get(value.lower()) if isinstance(value, str) else value
    if not isinstance(found, bool):
        raise InputError(f"{value!r}; expected true or false")
    return found


def names(value: object) -> tuple[str, ...]:
    """Take a list of names, or a text with commas."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(p, str) and p.strip() for p in parts):
        raise InputError(f"{value!r}; expected names, such as y,x,energy")
    return tuple(p.strip() for p in parts)


def scan_shape(value: object) -> tuple[int, int]:
    """Take rows and columns, as 49,45 or 49x45 or a list."""
    parts = re.split(r"[x,×]", value) if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or len(parts) != 2:
        raise InputError(f"{value!r}; expected rows and columns, such as 49,45")
    return whole(parts[0]), whole(parts[1])


def pairs(value: object, expected: str) -> list[tuple[str, str]]:
    """Split texts ``NAME=TEXT``, one or a list of them; `expected` is what the error says of others.

    Examples
    --------
    >>> pairs(["tof=2", "y=4"], "--rebin DIM=N")
    [('tof', '2'), ('y', '4')]
    """
    found = []
    for item in value if isinstance(value, list) else [value]:
        name, equals, content = str(item).partition("=")
        if not equals or not name.strip():
            raise InputError(f"{item!r}; expected {expected}")
        found.append((name.strip(), content))
    return found


def typed(take: Callable[[object], Any]) -> Callable[[str], Any]:
    """Return what argparse calls as a type, so that its errors say what was expected."""

    def typed(text: str) -> Any:
        try:
            return take(text)
        except InputError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return typed


def selection(value: object) -> dict[str, Bounds]:
    """Take ``DIM=LO:HI`` texts, or a mapping of dimensions to ``[lo, hi]`` or ``"LO:HI"``."""
    expected = "DIM=LO:HI, such as raman_shift=970:1020"
    items = value.items() if isinstance(value, Mapping) else pairs(value, expected)
    return {str(dim): _bounds(str(dim), limits) for dim, limits in items}


def _bounds(dim: str, limits: object) -> Bounds:
    parts = limits.split(":") if isinstance(limits, str) else limits
    if not isinstance(parts, list | tuple) or len(parts) != 2:
        raise InputError(f"{dim}={limits!r}; expected two bounds, such as {dim}=970:1020")
    low, high = (None if p is None or p == "" else number(p) for p in parts)
    if low is not None and high is not None and low > high:
        raise InputError(f"{dim}={limits!r}; expected the lower bound first: {dim}={high:g}:{low:g}")
    return low, high


def parameters(value: object) -> dict[str, Any]:
    """Take ``NAME=VALUE[,min=…,max=…,vary=false,expr=…]`` texts, or a mapping as `scanfold.fit` takes it."""
    if isinstance(value, Mapping):
        return {str(name): _settings(str(name), given) for name, given in value.items()}
    expected = "NAME=VALUE[,min=…,max=…,vary=false], such as center=1001,min=990"
    return {name: _settings(name, _split_settings(rest)) for name, rest in pairs(value, expected)}


def _split_settings(rest: str) -> dict[str, str]:
    """Split settings at commas; an expression takes all that follows, commas too."""
    rest, expr, formula = rest.partition("expr=")
    pieces = [p for p in rest.rstrip(",").split(",") if p]
    settings = {}
    for place, piece in enumerate(pieces):
        key, equals, content = piece.partition("=")
        if not equals and place == 0:
            key, content = "value", piece
        settings[key] = content
    return {**settings, "expr": formula} if expr else settings


def _settings(name: str, given: object) -> dict[str, Any]:
    takes = {"value": number, "min": number, "max": number, "vary": switch, "expr": text}
    settings = given if isinstance(given, Mapping) else {"value": given}
    out: dict[str, Any] = {}
    for key, content in settings.items():
        if key not in takes:
            raise unknown(f"setting of {name!r}", key, takes)
        try:
            out[key] = takes[key](content)
        except InputError as error:
            raise InputError(f"{key} of {name!r} is {error}") from None
    return out


def stages(value: object) -> dict[str, list[str]]:
    """Take ``STAGE=NAME,NAME`` texts, or a mapping of stages to names."""
    expected = "STAGE=NAME,NAME, such as background=slope,intercept"
    items = value.items() if isinstance(value, Mapping) else pairs(value, expected)
    return {str(stage): list(names(given)) for stage, given in items}


@dataclass(frozen=True)
class Option:
    """One option: what it takes, how it is called on the command line, and what the help says."""

    name: str
    take: Callable[[object], Any]
    help: str
    metavar: str = "NAME"
    default: Any = None
    repeated: bool = False
    flag: str = ""
    implies: bool = True

    @property
    def option(self) -> str:
        """Its name on the command line."""
        return self.flag or "--" + self.name.replace("_", "-")


OPTIONS = (
    Option("model", text, "names of lmfit's models joined by + - * /, with options such as prefix='p1_'", "MODEL"),
    Option("dim", text, "dimension that is fitted along", "DIM"),
    Option("out", text, "store to write (zarr); an unfinished one is resumed", "STORE"),
    Option("dataset", text, "array in the file, where the file does not say which is the signal"),
    Option("scan_shape", scan_shape, "rows and columns of a stack of frames or spectra", "NY,NX"),
    Option("dims", names, "new names of all dimensions, in order", "NAMES"),
    Option("select", selection, "part of a dimension, in its units (pixels without any)", "DIM=LO:HI", {}, True),
    Option("weights", text, "'counts' for 1/sqrt(counts), or 1/NAME where NAME holds standard errors", "WEIGHTS"),
    Option("likelihood", one_of("gaussian", "poisson"), "gaussian or poisson (for counts)", "WORD", "gaussian"),
    Option("params", parameters, "start, bounds, fixed or tied: NAME=VALUE[,min=…,max=…,vary=false,expr=…]",
           "NAME=VALUE", {}, True, "--param"),
    Option("stages", stages, "parameters that vary in a stage; stages run in the order given", "STAGE=NAMES", {}, True,
           "--stage"),
    Option("guess", one_of("auto", "model", "mean", "params"), "start: auto, model, mean or params", "WORD", "auto"),
    Option("engine", one_of("auto", "batch", "lmfit"), "auto, batch (compiled) or lmfit", "WORD", "auto"),
    Option("method", text, "minimiser, as in lmfit", "METHOD", "leastsq"),
    Option("covariance", switch, "also keep the covariances", "", False),
    Option("errors", one_of("flag", "raise"), "flag what cannot be fitted, or raise", "WORD", "flag"),
    Option("max_nfev", whole, "most evaluations at one position", "N"),
    Option("retry", switch, "do not try poor fits again from other starts", "", True, flag="--no-retry", implies=False),
    Option("poor_fit", number, "probability below which a fit is poor", "P", 1e-6),
    Option("no_signal", number, "AIC that a signal must gain over the background alone", "AIC", 10.0),
    Option("workers", whole, "start this many single-threaded processes, on loopback", "N"),
    Option("scheduler", text, "use the Dask cluster of this scheduler: tcp://HOST:PORT, or tls://", "ADDRESS"),
    Option("tls_ca_file", text, "with tls://, the authority that signed the certificates (PEM)", "FILE"),
    Option("tls_cert", text, "with tls://, the certificate to show the scheduler (PEM)", "FILE"),
    Option("tls_key", text, "with tls://, the key of that certificate (PEM)", "FILE"),
    Option("progress", switch, "keep quiet", "", True, flag="--no-progress", implies=False),
    Option("report", text, "also write an HTML report", "PATH"),
    Option("plots", text, "also draw a map of each parameter (PNG)", "FOLDER"),
    Option("csv", text, "also write a table, a row for each position", "PATH"),
)  # fmt: skip
#: Those that say on which cluster a command computes.
CLUSTER = ("workers", "scheduler", "tls_ca_file", "tls_cert", "tls_key")
_BY_NAME = {o.name: o for o in OPTIONS}


def taken(name: str, value: object) -> Any:
    """Return the value of an option in its own type.

    Raises
    ------
    InputError
        If it cannot be used; it names the option.
    """
    option = _BY_NAME[name]
    try:
        return option.take(value)
    except InputError as error:
        raise InputError(f"{option.option}: {error}") from None


def read_config(path: str) -> dict[str, Any]:
    """Read options from a YAML file.

    Raises
    ------
    InputError
        If there is no such file, it is no mapping, or it has options that are not known.
    """
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise InputError(f"--config {path} holds a {type(content).__name__}; expected lines such as dim: raman_shift")
    valid = ["file", *_BY_NAME]
    for key in content:
        if key not in valid:
            raise unknown(f"option in {path}", key, valid)
    try:
        return {k: text(v) if k == "file" else taken(k, v) for k, v in content.items() if v is not None}
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
