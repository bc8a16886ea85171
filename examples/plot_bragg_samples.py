# %% [markdown]
# # Named samples against one open beam
#
# Iron powder and a large-grained steel at three orientations, from one instrument (L = 9 m, bins of 10 µs): example
# data of the [nbragg](https://github.com/TsvikiHirsh/nbragg) project, read from the folder that `SCANFOLD_REAL_DATA`
# names. Without it, this example makes counts of the same layout.

# %%
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from scanfold import bragg

iron = bragg.CrossSection(iron="Fe_sg229_Iron-alpha")
names = ("large_grain_steel_0deg", "large_grain_steel_67deg", "large_grain_steel_90deg", "iron_powder")


def make_counts(folder: Path) -> None:
    """Write tables of counts of the same layout: powders of four thicknesses."""
    rng = np.random.default_rng(3)
    channel = np.arange(1, 2401)
    wavelength = 3956.034 * 10e-6 * channel / 9
    open_beam = 4e4 * wavelength * np.exp(-wavelength / 1.2) + 400
    powder = bragg.TransmissionModel(iron, vary_basic=True)
    sigma = np.zeros(channel.size)
    sigma[100:] = -np.log(powder.evaluate({"thickness": 1.0}, wavelength[100:]))
    for name, thickness in (("openbeam", 0.0), *zip(names, (1.2, 1.4, 1.3, 1.9), strict=True)):
        counts = rng.poisson(open_beam * np.exp(-sigma * thickness))
        table = pd.DataFrame({"stack": channel, "counts": counts, "err": np.sqrt(counts)})
        table.to_csv(folder / f"{name}.csv")


real = os.environ.get("SCANFOLD_REAL_DATA")
folder = Path(real) / "bragg" if real else Path(tempfile.mkdtemp(prefix="bragg-samples-"))
if not real:
    make_counts(folder)

# %% [markdown]
# A dict gives the names; one open beam serves all. The powder is what the model describes; grains as large as those of
# the steel are not, and `status` says so.

# %%
data = bragg.Data.from_grouped({n: folder / f"{n}.csv" for n in names}, folder / "openbeam.csv", L=9, tstep=10e-6)
model = bragg.TransmissionModel(iron, vary_basic=True, vary_background=True, vary_response=True)
result = model.fit(data.rebin(tof=4), wlmin=1.0, wlmax=5.0, method="rietveld")
print(result.summary()[["index", "status", "redchi", "thickness", "thickness_err"]])
print(result.stages_summary("iron_powder").xs("value", axis=1, level=1))

# %%
figure, axes = plt.subplots(1, 3, figsize=(15, 4.4), layout="constrained")
result.plot_parameter_map("thickness", ax=axes[0])
result.plot("iron_powder", ax=axes[1])
result.plot_total_xs("iron_powder", plot_dspace=True, ax=axes[2])

# %%
output = os.environ.get("SCANFOLD_EXAMPLES_OUTPUT")
if output:
    figure.savefig(Path(output) / "bragg_samples.png", dpi=100)
