# %% [markdown]
# # Strain from the positions of Bragg edges
#
# An edge is at λ = 2d: strain moves all edges together. The model integrates over bins, so that an edge that moves by
# a thousandth of a bin changes the transmission by as much; fitted to the whole spectrum, the lattice parameter comes
# out as well as the counts allow. Here a bent bar: strain from −800 to 800 ppm across it.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

from scanfold import bragg

RELAXED = 2.8665
iron = bragg.CrossSection(iron="Fe_sg229_Iron-alpha")
model = bragg.TransmissionModel(iron, response="jorgensen", vary_basic=True, vary_lattice=True, vary_response=False)
wavelength = np.linspace(1.5, 5.0, 500)
rng = np.random.default_rng(12)
strain = np.linspace(-800e-6, 800e-6, 40)
expected = [model.evaluate({"thickness": 1.0, "a": RELAXED * (1 + e)}, wavelength, flight_path=9) for e in strain]
open_beam = rng.poisson(10_000, (40, 500))
signal = rng.poisson(10_000 * np.array(expected))
axis = {"wavelength": ("wavelength", wavelength, {"units": "angstrom"}), "position": np.linspace(-4, 4, 40)}
dims = ("position", "wavelength")
counts = xr.Dataset({"signal": (dims, signal), "openbeam": (dims, open_beam)}, coords=axis)
data = bragg.Data.from_dataset(counts, L=9)

# %% [markdown]
# Thickness, norm and the lattice parameter of each spectrum. The errors that the fits give should be the differences
# from the truth.

# %%
result = model.fit(data, wlmin=1.49, wlmax=5.01)
fitted = result.compute()
found = fitted["a"].values / RELAXED - 1
error = fitted["a_stderr"].values / RELAXED
print(f"rms difference from the truth: {1e6 * np.sqrt(np.mean((found - strain) ** 2)):.0f} ppm")
print(f"mean error that the fits give: {1e6 * error.mean():.0f} ppm")

# %%
figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
axes[0].errorbar(axis["position"], 1e6 * found, 1e6 * error, fmt=".", color="#0072b2", label="fitted")
axes[0].plot(axis["position"], 1e6 * strain, color="#d55e00", label="truth")
axes[0].set(xlabel="position [mm]", ylabel="strain [ppm]")
axes[0].legend(frameon=False)
result.plot(result.indices[0], ax=axes[1])

# %%
output = os.environ.get("SCANFOLD_EXAMPLES_OUTPUT")
if output:
    figure.savefig(Path(output) / "bragg_strain.png", dpi=100)
