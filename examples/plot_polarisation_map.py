# %% [markdown]
# # A polarisation map in one call: from a file and labels to a folder
#
# What `scanfold polar-map` does, from Python: both passes, resumed where they were interrupted, then arrays, TIFF
# images, figures, logs and one labelled store. The patterns are made here and kept as the microscope would keep them,
# a stack of frames in HDF5: in each kind of domain another pair of discs is bright, and one of the two is brighter; a
# vortex of field moves the whole pattern.

# %%
import json
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import h5py
import numpy as np

import scanfold as sf
from scanfold import detectors as det

work = Path(tempfile.mkdtemp(prefix="polar-map-"))
rng = np.random.default_rng(4)
ny, nx, size = 24, 32, 48
row, column = np.mgrid[:ny, :nx]
domain = (column // 4 + row // 6) % 3
y, x = (row - 11.5) / 6, (column - 15.5) / 6
vortex = 1.5 * np.stack([x, -y], axis=-1) * np.exp(-(x**2 + y**2) / 2)[..., None]
ky, kx = np.arange(size)[:, None], np.arange(size)
frames = np.empty((ny, nx, size, size), "uint16")
for i, j in np.ndindex(ny, nx):
    dy, dx = ky - 23.4 - vortex[i, j, 0], kx - 24.2 - vortex[i, j, 1]
    angle = np.pi * domain[i, j] / 3
    pattern = 0.1 + 40 / (1 + np.exp(2 * (np.hypot(dy, dx) - 6)))
    for side, height in ((1, 14), (-1, 7)):
        away = np.hypot(dy - side * 15 * np.sin(angle), dx - side * 15 * np.cos(angle))
        pattern = pattern + height / (1 + np.exp(2 * (away - 3)))
    frames[i, j] = rng.poisson(pattern)
with h5py.File(work / "patterns.h5", "w") as file:
    file["patterns"] = frames.reshape(-1, size, size)
np.savez(work / "clusters.npz", cluster_labels=domain.ravel())

# %% [markdown]
# The configuration: what is left out has its default, and a key that is written wrongly is an error that names the
# right one. `scanfold polar-map --help-config` prints all of them. The default of `gate_mode` is adaptive:
# the figures show it beside the disc about the beam.

# %%
config = {
    "templates": {"roi_r": [8, 22]},
    "dpc": {"gate_mode": "adaptive", "roi": [8, 22], "baseline": "median", "beam_energy": 300e3},
    "calibration": {"pixel_size_k": 0.02, "pixel_size_k_units": "1/angstrom", "scan_step": 0.5},
    "validation": {"enable_split_half": True, "planted_shifts": True},
}
scan = sf.open_scan(work / "patterns.h5", scan_shape=(ny, nx))
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    maps = det.polarisation_map(scan, work / "clusters.npz", config, work / "out", progress=False).compute()
for path in sorted((work / "out").glob("[a-z]*/*")):
    if "zarr" not in str(path):
        print(path.relative_to(work / "out"))

# %% [markdown]
# How much of what each detector finds the labels explain. The field knows nothing of the domains; the adaptive gates
# do.

# %%
print(json.loads((work / "out/logs/run.json").read_text())["label_share"])
names = ["planted_slope", "null_label_spread"]
print(maps[names].reset_coords(drop=True).to_dataframe().round(2))

# %% [markdown]
# The field of the adaptive gates and that of the disc: hue is the direction, x to the right and y down.

# %%
output = os.environ.get("SCANFOLD_EXAMPLES_OUTPUT")
if output:
    for name in ("hsv_polarisation", "DPC_quiver_disc", "montage_templates"):
        shutil.copy(work / f"out/figures/{name}.png", Path(output) / f"polarisation_{name}.png")
