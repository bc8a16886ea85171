# %% [markdown]
# # Groups of neighbouring diffraction patterns: plan, gather, split, iterate
#
# A network that reconstructs several overlapping patterns at once wants *groups* of neighbours. The plan chooses seeds
# first and searches the neighbours of those only; it is indices, made in milliseconds. The frames are gathered when
# they are wanted, batch by batch.

# %%
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import scanfold as sf
from scanfold import grouping

data = os.environ.get("SCANFOLD_REAL_DATA")

# %% [markdown]
# X-ray ptychography of a Siemens star, where the file is at hand; otherwise a scan of the same shape, as an NPZ of the
# same layout: frames in the order of the FFT, positions row and column.

# %%
if data:
    path = Path(data) / "ptycho" / "siemens_star.npz"
else:
    rng = np.random.default_rng(0)
    radius, turn = 166 * np.sqrt(np.arange(516) / 516), np.arange(516) * np.pi * (3 - np.sqrt(5))
    k = np.fft.fftfreq(64) * 64
    disc = 1e3 * np.exp(-((np.hypot(k[:, None], k) / 9) ** 4))
    path = Path(tempfile.mkdtemp(prefix="grouping-")) / "scan.npz"
    frames = rng.poisson(disc * rng.uniform(0.5, 1.5, (516, 1, 1))).astype("float32")
    scan_yx = np.stack([radius * np.sin(turn), radius * np.cos(turn)], axis=1).astype("float32")
    np.savez(path, data=frames, scan=scan_yx, probe=np.fft.ifft2(np.sqrt(disc)).astype("complex64"))

scan = sf.open_scan(path, format="ptycho")
print(scan)

# %% [markdown]
# A compressed NPZ is unpacked as a whole; as a store, frames are read in parts.

# %%
store = Path(tempfile.mkdtemp(prefix="grouping-")) / "scan.zarr"
sf.save(scan.chunk(position=32), store, progress=False)
scan = sf.open_scan(store, format="ptycho")

# %%
plan = grouping.plan_groups(scan, nsamples=256, gridsize=2, K=7, seed=1)
groups = grouping.gather(scan, plan)
print(groups)
metrics = grouping.overlap_metrics(plan, scan, diameter=60.0)
print({name: round(value, 3) for name, value in metrics.items()})

# %% [markdown]
# Training and test groups that share no position, with the diameter of the probe between them; then batches in the
# shape that a model takes.

# %%
train, test = grouping.split(groups, 0.8, by="space", guard=60.0)
print(f"{train.sizes['group']} groups to train, {test.sizes['group']} to test")
for batch in grouping.iter_batches(train, 32, shuffle=True, seed=0):
    frames, offsets = batch["diffraction"], batch["relative_y"]
print(f"the last batch: {frames.shape}, {offsets.shape}")

# %%
picture = grouping.draw_groups(plan, scan)
patterns = sf.plot.patterns(groups)

# %%
output = os.environ.get("SCANFOLD_EXAMPLES_OUTPUT")
if output:
    picture.figure.savefig(Path(output) / "groups.png", dpi=100)
    patterns.savefig(Path(output) / "patterns.png", dpi=100)
plt.close("all")
