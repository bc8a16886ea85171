# %% [markdown]
# # From a laptop to a cluster: the same lines, other workers
#
# A scan is fitted here, then on a scheduler and two workers that are started from the command line and speak TLS, then
# by the command `scanfold fit`. All three results are the same to the last bit. On a real cluster the commands below
# are typed on its machines, or a queue types them (dask-jobqueue, in the README); nothing else changes.

# %%
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import lmfit
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from distributed import Client
from distributed.security import Security

import scanfold as sf

work = Path(tempfile.mkdtemp(prefix="laptop-to-cluster-"))  # on a cluster: a folder that all machines see

# %% [markdown]
# A map of counts in an HDF5 file. Workers open it by its path, so it is on a file system that all of them share.

# %%
energy, y, x = np.linspace(0, 10, 80), np.arange(40)[:, None, None], np.arange(50)[None, :, None]
center, height = 5 + np.sin(y / 6) * np.cos(x / 8), 300 + 4 * x
counts = np.random.default_rng(0).poisson(30 + height * np.exp(-((energy - center) ** 2) / 0.5))
with h5py.File(work / "scan.h5", "w") as file:
    file.create_dataset("counts", data=counts.astype("uint16"), chunks=(10, 10, 80))

# %% [markdown]
# On the laptop: threads of this process.

# %%
model = lmfit.models.GaussianModel() + lmfit.models.ConstantModel()
scan = sf.open_scan(work / "scan.h5", dims=("y", "x", "energy"))
fits = sf.fit(scan["counts"], model, {"sigma": {"value": 5, "min": 0.5}}, dim="energy", weights="counts")
here = sf.save(fits, work / "laptop.zarr", progress=False)

# %% [markdown]
# A Dask scheduler runs any code that reaches it: on a machine that others use, it should take only those who show a
# certificate. One authority, one certificate and one key are enough, in files that only you can read. Distributed makes
# them with the library *cryptography* (`pip install "scanfold[cluster]"`); those of your institute do as well.

# %%
made = Security.temporary()
for name, text in (("ca", made.tls_ca_file), ("cert", made.tls_client_cert), ("key", made.tls_client_key)):
    path = work / f"{name}.pem"
    path.touch(mode=0o600)
    path.write_text(text)
tls = ["--tls-ca-file", f"{work}/ca.pem", "--tls-cert", f"{work}/cert.pem", "--tls-key", f"{work}/key.pem"]

# %% [markdown]
# The scheduler on one machine, a worker on each of the others. Here all are this machine, and nothing listens beyond
# it; on a cluster `--host` is the machine's address in the inner network. The dashboard stays on loopback everywhere:
# `ssh -L 8787:127.0.0.1:8787 HOST` shows it in your browser.
#
# One thread for each process is what suits models that are plain Python functions; those made of known parts may have
# more.

# %%
log = (work / "cluster.log").open("w")


def start(*words: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "dask", *words, "--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0", *tls]
    return subprocess.Popen(command, stdout=log, stderr=log)


book = work / "scheduler.json"
processes = [start("scheduler", "--protocol", "tls", "--port", "0", "--scheduler-file", str(book))]
while not book.exists() or not book.read_text():
    assert processes[0].poll() is None, (work / "cluster.log").read_text()
    time.sleep(0.1)
address = json.loads(book.read_text())["address"]
processes += [start("worker", address, "--nthreads", "1", "--memory-limit", "1GiB") for _ in range(2)]

# %% [markdown]
# In a notebook a `Client` that is open is all that changes: `sf.save` computes on its workers. They write the blocks
# themselves; what travels over the network is the work, not the data.

# %%
security = Security(
    tls_ca_file=f"{work}/ca.pem", tls_client_cert=f"{work}/cert.pem", tls_client_key=f"{work}/key.pem",
    require_encryption=True,
)  # fmt: skip
try:
    with Client(address, security=security) as client:
        client.wait_for_workers(2, timeout=60)
        print(f"{len(client.scheduler_info()['workers'])} workers of {address.split(':')[0]}://…")
        there = sf.save(fits, work / "cluster.zarr", progress=False)

    # The same without Python.
    command = ["fit", str(work / "scan.h5"), "--dims", "y,x,energy", "--dim", "energy", "--weights", "counts"]
    command += ["--model", "GaussianModel + ConstantModel", "--param", "sigma=5,min=0.5", "--no-progress"]
    command += ["--out", str(work / "command.zarr"), "--scheduler", address, *tls]
    subprocess.run([sys.executable, "-m", "scanfold", *command], check=True)
finally:
    for process in reversed(processes):
        process.terminate()
        process.wait(30)
    log.close()

# %%
for name in ("cluster", "command"):
    xr.testing.assert_equal(here.compute(), sf.open_scan(work / f"{name}.zarr").compute())
print("laptop, cluster and command: the same to the last bit")

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
sf.plot.parameter_map(there, "center", ax=axes[0])
sf.plot.parameter_map(there, "height", ax=axes[1])

# %%
output = os.environ.get("SCANFOLD_EXAMPLES_OUTPUT")
if output:
    figure.savefig(Path(output) / "laptop_to_cluster.png", dpi=100)
