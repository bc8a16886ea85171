# %% [markdown]
# # Time traces of single cells: a folder of CSV files
#
# Cells are given mRNA of a fluorescent protein. Their brightness rises while protein is made and matures, and falls as
# mRNA and protein decay. Each field of view is a CSV file with a block of rows for every cell; one file is damaged.

# %%
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from scanfold import traces

rng = np.random.default_rng(5)
folder = Path(tempfile.mkdtemp()) / "experiment"
folder.mkdir()
times = np.arange(180) * 10.0  # min
for fov in range(6):
    cells = 40
    truth = {
        "t0": rng.uniform(-0.2, 0.8, (cells, 1)),
        "ktl": rng.lognormal(7, 0.5, (cells, 1)),
        "km": 1.28,
        "delta": rng.lognormal(-2.5, 0.4, (cells, 1)),
        "beta": 0.00522,
        "offset": rng.uniform(-50, 50, (cells, 1)),
        "scale": 1.0,
    }
    signal = traces.get_model("maturation").function(times / 60, **truth)
    signal += 0.03 * signal.max(axis=1, keepdims=True) * rng.standard_normal(signal.shape)
    signal[0] = rng.normal(100, 10, times.size)  # a cell that was not transfected
    table = pd.DataFrame(
        {
            "time": np.tile(times, cells),
            "fov": fov,
            "cell": np.repeat(np.arange(cells), times.size),
            "value": signal.ravel(),
            "position_x": np.repeat(rng.uniform(0, 2000, cells), times.size),
            "position_y": np.repeat(rng.uniform(0, 2000, cells), times.size),
        }
    )
    (folder / f"fov_{fov}.csv").write_text("# Time units: min\n" + table.to_csv(index=False))
(folder / "fov_6.csv").write_text("# Time units: min\ntime,fov,cell,value\n0,6,0,broken\n")

# %% [markdown]
# One request for all of them. Results stand beside the files, `fov_0_fitted_maturation.csv` and so on, one row for
# every cell; the same lines again do only what is new.

# %%
request = traces.FittingRequest("maturation", model_params={"km": 1.28}, model_bounds={"delta": (1e-5, 11)})
run = traces.fit_folder(folder, request, progress=False)
print(run)
print(run.failures)
print(run.results.groupby("status").size())

# %% [markdown]
# R² alone would call all but the six dark cells good. What it hides is listed below it.

# %%
print(run.quality())

# %% [markdown]
# Does another model describe the cells better? The wrong one has a good R² too; the Bayesian criterion tells them
# apart.

# %%
other = traces.fit_folder(folder, traces.FittingRequest("trivial"), progress=False)
print(f"R² > 0.9 with the wrong model: {other.quality().shares['good']:.0f} %")
print(traces.compare_models(run, other)["best"].value_counts())

# %%
figure = plt.figure(figsize=(15, 4.5), layout="constrained")
left, middle, right = figure.subfigures(1, 3)
run.plot_trace("fov_2.csv", "fov_002_cell_7", axes=left.subplots(2, 1, sharex=True, height_ratios=[3, 1]))
traces.quality_chart(run.results, ax=middle.subplots())
traces.position_scatter(run.results, "ktl", query="r_squared > 0.9", ax=right.subplots())

# %%
output = os.environ.get("SCANFOLD_EXAMPLES_OUTPUT")
if output:
    figure.savefig(Path(output) / "traces.png", dpi=80)
    run.export_plots(output)
