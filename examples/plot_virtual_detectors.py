# %% [markdown]
# # 4D-STEM: virtual detectors made from clusters, and which centre of mass to believe
#
# Four kinds of domain tilt the diffracted discs each in their own direction; a field moves the whole pattern. Templates
# tell the domains apart; gates made from them find the field too, and the domains with it. A disc about the beam finds
# the field alone.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

from scanfold import detectors as det

rng = np.random.default_rng(0)
ny, nx, size = 30, 40, 64
row, column = np.mgrid[:ny, :nx]
domain = (column // 10 + row // 15) % 4
field = 0.8 * np.stack([np.sin(2 * np.pi * row / ny), np.cos(2 * np.pi * column / nx)], axis=-1)

# %% [markdown]
# The patterns: the beam, and a pair of discs at the azimuth of the domain. `sf.open_scan` opens those of a microscope,
# of any size; all lines below are the same for them, and compute nothing before they are asked to.

# %%
ky, kx = np.arange(size)[:, None], np.arange(size)
expected = np.empty((ny, nx, size, size))
for i, j in np.ndindex(ny, nx):
    y, x = ky - 31.3 - field[i, j, 0], kx - 32.6 - field[i, j, 1]
    angle = np.pi * domain[i, j] / 4
    expected[i, j] = 0.05 + 30 / (1 + np.exp(2 * (np.hypot(y, x) - 7)))
    for side in (1, -1):
        dy, dx = y - side * 20 * np.sin(angle), x - side * 20 * np.cos(angle)
        expected[i, j] += 12 / (1 + np.exp(2 * (np.hypot(dy, dx) - 4)))
scan = xr.DataArray(rng.poisson(expected).astype("uint16"), dims=("y", "x", "ky", "kx"), name="counts")
scan = det.calibrate(scan.chunk(y=5), center=(31.3, 32.6), pixel_size_k=0.01)

# %% [markdown]
# Labels, if there are none. Then the first pass, and what is made of it: templates, gates, and whether two random
# halves of the frames give the same templates; shuffled labels say what chance gives.

# %%
labels = det.cluster(scan, 4).compute()
stats = det.cluster_statistics(scan, labels, log=True, shuffled=True).compute()
tmpl = det.templates(stats)
gates = det.gates(tmpl, top_percent=12, roi_r=(10, 30))
print(det.split_half(stats)[["correlation", "correlation_shuffled"]].to_dataframe().round(2))

# %% [markdown]
# What each estimator makes of shifts that are known: slope 1 and no spread over the labels would be right.

# %%
print(det.planted_shifts(tmpl, gates, disc=12).to_dataframe().round(3))

# %% [markdown]
# The second pass: contrast maps, and centres of mass with their errors. The field in V, from the energy of the beam.

# %%
maps = det.virtual_maps(scan, tmpl, gates, labels=labels, disc=12).compute()
assigned = det.assign(maps)
volts = det.electric_field(det.subtract_baseline(maps, "median"), beam_energy=300e3)
print(f"mean confidence {float(assigned['confidence'].mean()):.2f}")
print(f"error of the field in the disc: {float(volts['Ex_stderr'].sel(detector='disc').mean()):.1f} V")

# %%
true = -96.28 * (field[..., 1] - np.median(field[..., 1]))
shown = {"the true field": true} | {n: volts["Ex"].sel(detector=n) for n in ("disc", "union_response", "adaptive")}
k = [float(tmpl[d][i]) for d, i in (("kx", 0), ("kx", -1), ("ky", -1), ("ky", 0))]
figure, axes = plt.subplots(2, 4, figsize=(13, 6.2), layout="constrained", sharex="row", sharey="row")
for ax, label in zip(axes[0], tmpl["cluster"].values, strict=True):
    template = ax.imshow(tmpl["template"].sel(cluster=label), cmap="RdBu_r", vmin=-0.05, vmax=0.05, extent=k)
    ax.contour(tmpl["kx"], tmpl["ky"], gates["gate"].sel(cluster=label), levels=[0.5], colors="black", linewidths=0.8)
    ax.set(title=f"template and gate {label}", xlabel="kx [1/Å]")
for ax, (name, values) in zip(axes[1], shown.items(), strict=True):
    image = ax.imshow(values, cmap="RdBu_r", vmin=-120, vmax=120)
    ax.set(title=f"Ex: {name}", xlabel="x [position]")
axes[0, 0].set_ylabel("ky [1/Å]")
axes[1, 0].set_ylabel("y [position]")
figure.colorbar(template, ax=axes[0], label="contrast of the cluster")
figure.colorbar(image, ax=axes[1], label="projected field [V]")

# %%
output = os.environ.get("SCANFOLD_EXAMPLES_OUTPUT")
if output:
    figure.savefig(Path(output) / "virtual_detectors.png", dpi=80)
plt.close("all")
