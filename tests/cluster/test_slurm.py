"""The README's lines for SLURM, as far as the script that is submitted: there is no queue here."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path

import psutil
import pytest

README = (Path(__file__).parent.parent.parent / "README.md").read_text()


def test_the_job_script_of_the_readme(tmp_path, monkeypatch):
    pytest.importorskip("dask_jobqueue", reason="the recipe for SLURM is of dask-jobqueue")
    pytest.importorskip("cryptography", reason="its certificates are made with cryptography")
    import dask_jobqueue
    import distributed

    submitted: list[int] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dask_jobqueue.SLURMCluster, "scale", lambda self, jobs: submitted.append(jobs))
    (lines,) = (b for b in re.findall(r"```python\n(.*?)```", README, re.S) if "SLURMCluster" in b)
    loopback = next(name for name, a in psutil.net_if_addrs().items() if any(x.address == "127.0.0.1" for x in a))
    names: dict[str, object] = {}
    try:
        exec(compile(lines.replace("ib0", loopback), "README.md", "exec"), names)
        client, cluster = names["client"], names["cluster"]
        assert isinstance(client, distributed.Client)
        assert submitted == [4]
        script = cluster.job_script()  # type: ignore[attr-defined]
        listening = {c.laddr.ip for c in psutil.Process().net_connections("inet") if c.status == "LISTEN"}
    finally:
        for name in ("client", "cluster"):
            if name in names:
                names[name].close()  # type: ignore[attr-defined]
    directives = dict(re.findall(r"^#SBATCH (-{1,2}[\w-]+)[ =](.*)$", script, re.M))
    assert directives == {"-J": "dask-worker", "-p": "short", "-A": "p123", "-n": "1", "--cpus-per-task": "16",
                          "--mem": "64G", "-t": "04:00:00"}  # fmt: skip
    words = shlex.split(script.strip().splitlines()[-1])
    options = dict(itertools.pairwise(words))
    assert words[3].startswith("tls://")
    assert options["--nworkers"] == "16"
    assert options["--nthreads"] == "1"
    assert options["--dashboard-address"] == "127.0.0.1:0"
    for option, begins in (("--tls-ca-file", "CERT"), ("--tls-cert", "CERT"), ("--tls-key", "PRIVATE KEY")):
        file = Path(options[option])
        assert file.stat().st_mode & 0o077 == 0  # for its owner only
        assert begins in file.read_text()
    assert listening == {"127.0.0.1"}
