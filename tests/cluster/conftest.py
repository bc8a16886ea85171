"""A scheduler and two workers, started from the command line, that speak TLS and listen on loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from scanfold.runs.clients import connect

PATIENCE = 60.0


@dataclass(frozen=True)
class Cluster:
    """Where the scheduler listens, with what certificates, and its processes."""

    address: str
    certificates: Path
    processes: tuple[subprocess.Popen[bytes], ...]

    @property
    def tls(self) -> dict[str, str]:
        """The files, by the names of the options of Dask and of scanfold."""
        names = {"tls-ca-file": "ca.pem", "tls-cert": "cert.pem", "tls-key": "key.pem"}
        return {option: str(self.certificates / name) for option, name in names.items()}

    @property
    def options(self) -> list[str]:
        """What is typed after a command of scanfold."""
        return ["--scheduler", self.address, *flags(self.tls)]

    def executed(self) -> int:
        """How many tasks the workers have run so far."""
        with connect(self.address, **{name.replace("-", "_"): path for name, path in self.tls.items()}) as client:
            return sum(client.run(lambda dask_worker: dask_worker.state.executed_count).values())


def flags(options: dict[str, str]) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name}", value)]


def make_certificates(folder: Path) -> None:
    pytest.importorskip("cryptography", reason="the certificates of this test are made with cryptography")
    from distributed.security import Security

    made = Security.temporary()
    for name, text in (("ca", made.tls_ca_file), ("cert", made.tls_client_cert), ("key", made.tls_client_key)):
        (folder / f"{name}.pem").write_text(text)


@contextmanager
def started(*words: str, cwd: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (cwd / "log.txt").open("ab") as log:
        command = [sys.executable, "-m", "dask", *words]
        process = subprocess.Popen(command, cwd=cwd, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def scheduler_address(file: Path, process: subprocess.Popen[bytes]) -> str:
    begin = time.monotonic()
    while not file.exists() or not file.read_text().strip():
        log = (file.parent / "log.txt").read_text()
        assert process.poll() is None, log
        assert time.monotonic() - begin < PATIENCE, log
        time.sleep(0.05)
    return str(json.loads(file.read_text())["address"])


@pytest.fixture(scope="session")
def tls_cluster(tmp_path_factory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    make_certificates(folder)
    tls = flags({"tls-ca-file": "ca.pem", "tls-cert": "cert.pem", "tls-key": "key.pem"})
    loopback = ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"]
    listening = ["--port", "0", "--protocol", "tls", "--scheduler-file", "scheduler.json"]
    with started("scheduler", *loopback, *listening, *tls, cwd=folder) as scheduler:
        address = scheduler_address(folder / "scheduler.json", scheduler)
        one = [*loopback, "--nthreads", "1", "--nworkers", "1", "--memory-limit", "1GiB", "--no-nanny"]
        with (
            started("worker", address, *one, "--name", "first", *tls, cwd=folder) as first,
            started("worker", address, *one, "--name", "second", *tls, cwd=folder) as second,
        ):
            yield Cluster(address, folder, (scheduler, first, second))
