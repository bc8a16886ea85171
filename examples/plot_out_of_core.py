# %% [markdown]
# # Larger than memory: open, fit, save, and go on after an interruption
#
# Nothing below holds the scan. It is written in blocks, opened lazily, fitted lazily, and the maps are computed block
# by block into a store. A run that was stopped goes on with the same lines.

# %%
import os
import tempfile
import time
from pathlib import Path

import dask.array as da
import lmfit
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import scanfold as sf

work = Path(tempfile.mkdtemp(prefix="out-of-core-"))

# %% [markdown]
# A scan that is made block by block; for a real one, `sf.open_scan("scan.h5")` is all.

# %%
energy = np.linspace(0, 10, 120)


def spectra(block_info=None):
    (y0, y1), (x0, x1) = block_info[None]["array-location"][:2]
    y, x = np.meshgrid(np.arange(y0, y1), np.arange(x0, x1), indexing="ij")
    center, height = 5 + np.sin(y / 15)[..., None], 200 + 2 * x[..., None]
    rng = np.random.default_rng([y0, x0])
    return rng.poisson(30 + height * np.exp(-((energy - center) ** 2) / 0.5)).astype("float32")


blocks = da.map_blocks(spectra, chunks=((20,) * 5, (30,) * 4, (120,)), dtype="float32", meta=np.empty((0, 0, 0), "f4"))
made = xr.DataArray(blocks, dims=("y", "x", "energy"), coords={"energy": ("energy", energy, {"units": "keV"})})
sf.save(made.rename("counts"), work / "scan.zarr", progress=False)

# %%
scan = sf.open_scan(work / "scan.zarr")
model = lmfit.models.GaussianModel() + lmfit.models.ConstantModel()
fits = sf.fit(
    scan["counts"], model, {"c": 30, "sigma": {"value": 0.5, "min": 0.05}}, dim="energy", likelihood="poisson"
)
print(f"{fits.nbytes / 2**20:.1f} MiB of maps, none of them computed")

# %% [markdown]
# The first run computes every block, and keeps a ledger of them. Stop it with Ctrl-C, or lose the power: run the same
# lines again, and only what is missing is computed. When all is there, the store opens at once.

# %%
start = time.perf_counter()
sf.save(fits, work / "fits.zarr")
first = time.perf_counter() - start

start = time.perf_counter()
saved = sf.save(fits, work / "fits.zarr")
print(f"first run {first:.2f} s, again {time.perf_counter() - start:.2f} s")

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
sf.plot.parameter_map(saved, "center", ax=axes[0])
sf.plot.parameter_map(saved, "height", ax=axes[1])

# %%
output = os.environ.get("SCANFOLD_EXAMPLES_OUTPUT")
if output:
    figure.savefig(Path(output) / "out_of_core.png", dpi=100)
