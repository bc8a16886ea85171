# %% [markdown]
# # From counts at every pixel to maps of thickness
#
# A detector counts neutrons behind a sample and without it, in 400 bins of time of flight. Iron is transparent beyond
# its last Bragg edge at 4.05 Å and less so below: the whole spectrum says how much of it is in the beam. Here the
# counts are made up: a wedge with a hole in it.

# %%
import os
import tempfile
from pathlib import Path

import h5py
import matplotlib.pyplot as plt
import numpy as np

from scanfold import bragg

iron = bragg.CrossSection(iron="Fe_sg229_Iron-alpha")
model = bragg.TransmissionModel(iron, vary_basic=True)
work = Path(tempfile.mkdtemp(prefix="bragg-imaging-"))


def make_counts(ny: int = 16, nx: int = 24) -> np.ndarray:
    """Write two stacks of frames, (tof, y, x) as cameras write them, and return the true thickness (cm)."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:ny, :nx]
    thickness = 0.2 + 1.2 * x / nx
    thickness[(y - 7) ** 2 + (x - 8) ** 2 < 9] = 0.0
    tof = 10e-6 * np.arange(300, 1100, 2)
    wavelength = 3956.034 * tof / 9
    open_beam = 600 * np.exp(-((wavelength - 2.5) ** 2) / 4) + 60
    sigma = -np.log(model.evaluate({"thickness": 1.0, "norm": 1.0}, wavelength))
    signal = open_beam[:, None, None] * np.exp(-sigma[:, None, None] * thickness)
    for name, expected in (("signal", signal), ("openbeam", np.broadcast_to(open_beam[:, None, None], signal.shape))):
        with h5py.File(work / f"{name}.h5", "w") as file:
            data = file.create_group("entry")
            file.attrs["default"], data.attrs["NX_class"] = "entry", "NXdata"
            data.attrs["signal"], data.attrs["axes"] = "counts", ["tof", "y", "x"]
            data.create_dataset("counts", data=rng.poisson(expected).astype("uint16"), chunks=(50, ny, nx))
            data["tof"] = 1e6 * tof
            data["tof"].attrs["units"] = "us"
    return thickness


truth = make_counts()

# %% [markdown]
# The stacks are opened, not read. Single pixels have few counts: `smooth` gives each the sum over a window around it,
# and the windows overlap.

# %%
data = bragg.Data.from_grouped(work / "signal.h5", work / "openbeam.h5", L=9)
print(data)
smooth = data.smooth(y=3, x=3)

# %% [markdown]
# `fit` returns at once; `save` computes out of core into a store that holds fits, data and model.

# %%
result = model.fit(smooth, wlmin=1.5, wlmax=4.7).save(work / "fits.zarr")
print(result)
print(result.summary().head())

# %%
figure, axes = plt.subplots(1, 3, figsize=(15, 3.8), layout="constrained", width_ratios=[3, 4, 4])
result.plot((3, 18), ax=axes[0])
result.plot_parameter_map("thickness", ax=axes[1], vmin=0, vmax=1.4)
result.plot_parameter_map("thickness", plot_errors=True, ax=axes[2])
for ax in axes[1:]:
    ax.set(xlabel="x [pixel]", ylabel="y [pixel]")
off = np.abs(result.fits["thickness"].values - truth)
print(f"median difference from the truth: {np.median(off):.3f} cm")

# %%
output = os.environ.get("SCANFOLD_EXAMPLES_OUTPUT")
if output:
    figure.savefig(Path(output) / "bragg_imaging.png", dpi=100)
