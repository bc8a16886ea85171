# %% [markdown]
# # Ptychography for training: simulate, group, split, batches
#
# A scan of free positions is simulated straight into a store, frame by frame with its photons; groups of neighbouring
# frames are planned, gathered when they are wanted, split without leaks, and handed out in batches. Nothing holds the
# scan, and every random number comes from a seed.

# %%
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import scanfold as sf
from scanfold import grouping, ptycho

work = Path(tempfile.mkdtemp(prefix="simulate-"))

# %% [markdown]
# The object, the probe, and 700 frames of 64 × 64 pixels with 10⁶ photons each. True positions deviate from the
# nominal ones by a pixel and a half. For a longer scan only `n_images` changes.

# %%
image = ptycho.dead_leaves(256, seed=2, phase=True)
probe = ptycho.zernike(ptycho.default_probe(64), {(2, 0): 0.6})
sim = ptycho.generate_simulated_data(
    image, probe, n_images=700, nphotons=1e6, gridsize=2, buffer=40, positions="fermat", jitter=1.5, seed=3
)
scan = sf.save(sim, work / "sim.zarr", progress=False)
print(scan)

# %% [markdown]
# Counts scatter as counts do: amplitude times the scale, squared, is a number of photons.

# %%
photons = (scan["diffraction"] * scan["intensity_scale"]) ** 2
print(f"{float(photons.sum(['ky', 'kx']).mean()):,.0f} photons in a frame, on average")

# %% [markdown]
# Groups of 2 × 2 neighbours: exactly as many as asked for. The two parts of a split share no frame, and lie as far
# apart as the probe is wide.

# %%
raw = ptycho.RawData.from_dataset(scan)
groups = raw.generate_grouped_data(N=64, K=7, nsamples=200, seed=4)
train, test = grouping.split(groups, 0.8, by="space", guard=24.0)
print(f"{train.sizes['group']} groups to train, {test.sizes['group']} to test")

# %% [markdown]
# What a model takes, with the truth at the true positions and the scale of the data; or batch after batch, read ahead.

# %%
container = ptycho.PtychoDataContainer.from_groups(train)
print(container, f"scale {float(container.intensity_scale(1e6)):.1f}")
for batch in grouping.iter_batches(train, 64, shuffle=True, seed=5):
    frames, truth = batch["diffraction"], batch["Y"]
print(f"the last batch: {frames.shape} frames, {truth.shape} {truth.dtype} truth")

# %%
figure = plt.figure(figsize=(13, 6), layout="constrained")
above, below = figure.subfigures(2, 1, height_ratios=[3, 2])
left, middle, right = above.subplots(1, 3, width_ratios=[4, 5, 5])
sf.plot.complex_image(scan["object"], ax=left, colorbar=False)
left.plot(scan["position_x"], scan["position_y"], ".", color="white", markersize=1)
sf.plot.complex_image(scan["probe"], ax=middle)
plan = grouping.plan_groups(scan, nsamples=200, gridsize=2, K=7, seed=4)  # as above, without the frames
grouping.draw_groups(plan, scan, number=12, ax=right)
right.set_title("200 groups of 4, some outlined")
sf.plot.patterns(scan, figure=below)

# %%
output = os.environ.get("SCANFOLD_EXAMPLES_OUTPUT")
if output:
    figure.savefig(Path(output) / "simulated.png", dpi=65)
plt.close("all")
