# %% [markdown]
# # A line scan: thickness along a step wedge
#
# One CSV file for each position, as many programs write them: `scan_0.csv`, `scan_1.csv`, … and one open beam for all.

# %%
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from scanfold import bragg

model = bragg.TransmissionModel(bragg.CrossSection(iron="Fe_sg229_Iron-alpha"), vary_basic=True)
folder = Path(tempfile.mkdtemp(prefix="bragg-line-"))
rng = np.random.default_rng(8)
channel = np.arange(1, 551)  # of 20 µs
wavelength = 3956.034 * 20e-6 * channel / 9
inside = wavelength > 0.5
sigma = np.zeros(channel.size)
sigma[inside] = -np.log(model.evaluate({"thickness": 1.0}, wavelength[inside]))
steps = np.repeat([0.3, 0.6, 0.9, 1.2], 6)
for name, thickness in (("open", 0.0), *((f"scan_{i}", t) for i, t in enumerate(steps))):
    counts = rng.poisson(3000 * np.exp(-sigma * thickness))
    pd.DataFrame({"stack": channel, "counts": counts}).to_csv(folder / f"{name}.csv", index=False)

# %% [markdown]
# Indices come from the names of the files; the column `stack` is the bin, and errors are √counts where there are none.

# %%
data = bragg.Data.from_grouped(str(folder / "scan_*.csv"), folder / "open.csv", L=9, tstep=20e-6)
print(data, data.indices[:3])
result = model.fit(data, wlmin=1.2, wlmax=4.6)

# %%
figure, axes = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
result.plot_parameter_map("thickness", query="success == True", ax=axes[0])
axes[0].step(range(steps.size), steps, where="mid", color="0.5", linewidth=1, label="truth")
axes[0].legend(frameon=False)
result.plot(index=20, ax=axes[1])
frame = result.summary()
pulls = (frame["thickness"] - steps) / frame["thickness_err"]
print(f"differences from the truth in units of the error: mean {pulls.mean():.2f}, width {pulls.std():.2f}")

# %%
output = os.environ.get("SCANFOLD_EXAMPLES_OUTPUT")
if output:
    figure.savefig(Path(output) / "bragg_line.png", dpi=100)
