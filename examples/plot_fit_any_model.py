# %% [markdown]
# # Any function, few counts, a start of its own at every position
#
# Decays of a few counts per point: 1/√counts weights would pull the fit down, so the likelihood is Poisson's. The model
# is a plain Python function; its first argument is the axis, the others are the parameters. Where each fit starts, and
# how far it may go, are maps too.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import scanfold as sf


def decay(t, amplitude, tau, background):
    return amplitude * np.exp(-t / tau) + background


rng = np.random.default_rng(3)
time = xr.DataArray(np.linspace(0, 20, 80), dims="time", attrs={"units": "ns"})
y, x = np.meshgrid(np.linspace(0, 1, 30), np.linspace(0, 1, 40), indexing="ij")
tau = xr.DataArray(2 + 2 * x + np.sin(6 * y), dims=("y", "x"))
expected = decay(time, 25.0, tau, 1.0).transpose("y", "x", "time")
counts = xr.DataArray(rng.poisson(expected), dims=expected.dims, coords={"time": time}, name="counts")

# %% [markdown]
# A rough lifetime from each trace itself: the mean arrival time. It costs one pass, and starts every fit close by.

# %%
mean_time = (counts * time).sum("time") / counts.sum("time")
params = {
    "amplitude": {"value": counts.isel(time=0).astype(float) + 1, "min": 0},
    "tau": {"value": mean_time, "min": 0.1, "max": 3 * mean_time + 1},
    "background": {"value": 1, "min": 0},
}

# %%
fits = sf.fit(counts, decay, params, dim="time", likelihood="poisson").compute()
weighted = sf.fit(counts, decay, params, dim="time", weights="counts").compute()

# %% [markdown]
# The mean of (recovered − true) / error should be 0. Weights from the counts themselves miss by much more.

# %%
truth = {"amplitude": 25.0, "tau": tau, "background": 1.0}
pulls = {}
for name, result in (("poisson", fits), ("weights='counts'", weighted)):
    good = result["status"] == 1
    pulls[name] = {k: ((result[k] - v) / result[f"{k}_stderr"]).where(good) for k, v in truth.items()}
    print(name, {k: f"{float(v.mean()):+.2f} ± {float(v.std()):.2f}" for k, v in pulls[name].items()})

# %%
figure, axes = plt.subplots(1, 3, figsize=(14, 4), layout="constrained")
sf.plot.parameter_map(fits, "tau", ax=axes[0])
sf.plot.parameter_map(fits, "tau", errors=True, ax=axes[1])
bins = np.linspace(-6, 6, 49)
for name, values in pulls.items():
    axes[2].hist(values["tau"].values.ravel(), bins, histtype="step", label=name)
axes[2].set(title="tau", xlabel="(recovered - true) / error", ylabel="positions")
axes[2].legend()

# %%
output = os.environ.get("SCANFOLD_EXAMPLES_OUTPUT")
if output:
    figure.savefig(Path(output) / "any_model.png", dpi=100)
