# %% [markdown]
# # A Raman map, from its file to maps of a line
#
# 49 × 45 spectra of a sample that has polystyrene in some places: its line near 1001 cm⁻¹ is there or not. The fit has
# to find it, and to say where there is nothing to believe.
#
# The measurement is read from the folder that `SCANFOLD_REAL_DATA` names. Without it, this example makes a map of the
# same layout.

# %%
import os
import tempfile
from pathlib import Path

import h5py
import lmfit
import matplotlib.pyplot as plt
import numpy as np

import scanfold as sf


def make_map(path: Path) -> None:
    """Write a map of the same layout: NXdata, (y, x | raman_shift), chunked and compressed, a line in two spots."""
    rng = np.random.default_rng(7)
    y, x, shift = np.linspace(-60, 60, 25), np.linspace(-60, 60, 23), np.linspace(924, 1668, 394)
    spots = sum(np.exp(-((y[:, None] - b) ** 2 + (x - a) ** 2) / 400) for b, a in ((-25, 10), (30, -30)))
    height = np.where(spots > 0.05, 250 * spots, 0)[..., None]
    center = 1001 + 0.01 * x[:, None]
    counts = rng.poisson(120 + 0.02 * shift + height / (1 + ((shift - center) / 3) ** 2))
    with h5py.File(path, "w") as file:
        data = file.create_group("entry/data")
        file.attrs["default"], file["entry"].attrs["default"] = "entry", "data"
        file["entry"].attrs["NX_class"], data.attrs["NX_class"] = "NXentry", "NXdata"
        data.attrs["signal"], data.attrs["axes"] = "counts", ["y", "x", "raman_shift"]
        data.create_dataset("counts", data=counts.astype("float32"), chunks=(5, 5, 394), compression="gzip")
        for name, values, units in (("y", y, "um"), ("x", x, "um"), ("raman_shift", shift, "1/cm")):
            data[name] = values
            data[name].attrs["units"] = units
        data["counts"].attrs["units"] = "count"


work = Path(tempfile.mkdtemp(prefix="raman-"))
folder = os.environ.get("SCANFOLD_REAL_DATA")
path = Path(folder) / "spectra" / "raman_map.h5" if folder else work / "raman_map.h5"
if not folder:
    make_map(path)

# %% [markdown]
# The file says which array is the signal and what its axes are. Nothing is read yet but those axes.

# %%
scan = sf.open_scan(path)
print(scan)

# %% [markdown]
# One line on a sloping background, in a window around it; the bounds are what is known of the line. `fit` returns at
# once: the maps are lazy. `save` computes them block by block; run again, it takes up where it was interrupted.

# %%
window = scan["counts"].sel(raman_shift=slice(970, 1020))
model = lmfit.models.LorentzianModel() + lmfit.models.LinearModel()
bounds = {"amplitude": {"min": 0}, "center": {"min": 995, "max": 1007}, "sigma": {"min": 0.5, "max": 15}}
fits = sf.fit(window, model, bounds, dim="raman_shift", weights="counts")
fits = sf.save(fits, work / "fits.zarr", progress=False).compute()
print(sf.summary(fits)["status"].value_counts())

# %% [markdown]
# Where there is no line, the numbers of a fit mean nothing: `status` says so, and the map leaves those positions grey.

# %%
believed = "status == 'converged'"
figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
for ax, name in zip(axes, ("center", "amplitude"), strict=True):
    sf.plot.parameter_map(fits, name, query=believed, ax=ax)

# %% [markdown]
# The best of them in full, and one without a line.

# %%
best = fits["amplitude"].where(fits["status"] == 1).fillna(-np.inf).argmax(("y", "x"))
spectrum = plt.figure(figsize=(7, 4.5), layout="constrained")
sf.plot.fit(fits, window, y=int(best["y"]), x=int(best["x"]))

# %%
output = os.environ.get("SCANFOLD_EXAMPLES_OUTPUT")
if output:
    for name, picture in (("raman_maps", figure), ("raman_fit", plt.gcf())):
        picture.savefig(Path(output) / f"{name}.png", dpi=100)
