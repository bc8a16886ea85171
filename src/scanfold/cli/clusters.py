"""``--workers``, ``--scheduler``, the certificates, ``--no-progress``: how a command computes."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from scanfold.cli.options import CLUSTER, OPTIONS, taken
from scanfold.conventions import InputError

_TLS = ("tls_ca_file", "tls_cert", "tls_key")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a command that computes."""
    for option in OPTIONS:
        if option.name in CLUSTER:
            parser.add_argument(option.option, dest=option.name, metavar=option.metavar, help=option.help)
    parser.add_argument("--no-progress", dest="progress", action="store_false", help="keep quiet")


def cluster_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the cluster, each in its own type.

    Raises
    ------
    InputError
        If they do not go together.
    """
    options = {name: None if given[name] is None else taken(name, given[name]) for name in CLUSTER}
    if options["workers"] and options["scheduler"]:
        raise InputError("--workers starts a cluster and --scheduler uses one that runs; give one of them")
    tls = [name for name in _TLS if options[name]]
    if tls and not str(options["scheduler"]).startswith("tls://"):
        raise InputError(f"--{tls[0].replace('_', '-')} goes with --scheduler tls://HOST:PORT; pass it too")
    return options


def cluster(options: Mapping[str, Any]) -> Any:
    """Return the context in which a cluster is the current Client: one started, one that runs, or none."""
    from scanfold.runs import clients

    if options["scheduler"]:
        return clients.connect(options["scheduler"], **{name: options[name] for name in _TLS})
    return clients.local_client(options["workers"]) if options["workers"] else nullcontext()
