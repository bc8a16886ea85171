# %% [markdown]
# # A format of your own: lazily, with labels, and with an identity
#
# A detector writes frames into a raw file with a short text header, a format that no library knows. One function that
# reads a box of frames is enough: Dask calls it for the blocks that are wanted, xarray gives it labels, and everything
# in scanfold works on it, out of core and resumable.

# %%
import json
import os
import tempfile
from pathlib import Path

import dask.array as da
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from dask.base import tokenize

import scanfold as sf
from scanfold import detectors as det

work = Path(tempfile.mkdtemp(prefix="own-format-"))


def write(path: Path, seed: int, ny: int = 24, nx: int = 32, size: int = 48) -> None:
    """Write what the detector writes: a line of JSON, then uint16 frames, row after row of the scan."""
    rng = np.random.default_rng(seed)
    y, x, ky, kx = np.ogrid[:ny, :nx, :size, :size]
    away = np.hypot(ky - 23.5 - 3 * np.sin(y / 4), kx - 23.5 - 3 * np.cos(x / 5))
    frames = rng.poisson(0.1 + 20 / (1 + np.exp(2 * (away - 8)))).astype("<u2")
    with path.open("wb") as file:
        file.write((json.dumps({"shape": frames.shape, "step_nm": 0.5}) + "\n").encode())
        file.write(frames.tobytes())


write(work / "scan.raw", seed=1)

# %% [markdown]
# The reader of one block. It opens the file by its path, reads, and lets go: nothing is kept open, so it runs on any
# worker that sees the path. Frames of a row of the scan lie one after the other, so blocks of whole rows read fastest.


# %%
def read_rows(path: str, offset: int, shape: tuple[int, ...], block_info: dict | None = None) -> np.ndarray:
    """Read the rows of the scan that one block is of."""
    (first, last), *_ = block_info[None]["array-location"]
    return np.array(np.memmap(path, "<u2", "r", offset, shape)[first:last])


def open_own(path: Path, rows: int = 4) -> xr.Dataset:
    """Open a scan lazily: of the file only the header is read."""
    with path.open("rb") as file:
        header = json.loads(file.readline())
        offset = file.tell()
    shape, step = tuple(header["shape"]), header["step_nm"]
    chunks = ((rows,) * (shape[0] // rows) + ((shape[0] % rows,) if shape[0] % rows else ()), *shape[1:])
    state = path.stat()
    frames = da.map_blocks(
        read_rows, str(path), offset, shape, chunks=chunks, dtype="<u2", meta=np.empty((0,) * 4, "<u2"),
        name=f"own-{tokenize(str(path), state.st_size, state.st_mtime_ns, rows)}",
    )  # fmt: skip
    coords = {d: (d, step * np.arange(n), {"units": "nm"}) for d, n in zip("yx", shape, strict=False)}
    coords |= {d: (d, np.arange(shape[-1]) - shape[-1] // 2, {"units": "pixel"}) for d in ("ky", "kx")}
    counts = (("y", "x", "ky", "kx"), frames, {"units": "count", "long_name": "detector counts"})
    source = {"path": str(path), "size": state.st_size, "mtime_ns": state.st_mtime_ns}
    return xr.Dataset({"counts": counts}, coords, {"primary": "counts", "source": json.dumps(source)})


# %% [markdown]
# Four things make it a scan: names of dimensions that say what they are (`y, x` of the scan, `ky, kx` of the detector),
# coordinates with units, `attrs["primary"]` for the variable that is meant, and `attrs["source"]` for what it is from.

# %%
scan = open_own(work / "scan.raw")
print(scan)
com = det.center_of_mass(scan)
maps = sf.save(com, work / "com.zarr", progress=False)

# %% [markdown]
# Run again, nothing is computed. When the file has changed, its size and time give the blocks another name: `save`
# refuses to mix two scans in one store, and says what differs.

# %%
sf.save(det.center_of_mass(open_own(work / "scan.raw")), work / "com.zarr", progress=False)
write(work / "scan.raw", seed=2)
try:
    sf.save(det.center_of_mass(open_own(work / "scan.raw")), work / "com.zarr", progress=False)
except sf.ScanError as error:
    print(error)
else:
    raise AssertionError("a changed file was taken for the one before")

# %% [markdown]
# For the command line, write it once in a format that scanfold opens: out of core, checksummed, with all labels.
# `scanfold info scan.zarr` goes on from there.

# %%
sf.save(open_own(work / "scan.raw"), work / "scan.zarr", progress=False)
xr.testing.assert_equal(sf.open_scan(work / "scan.zarr").compute(), open_own(work / "scan.raw").compute())

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
for ax, name in zip(axes, ("com_x", "com_y"), strict=True):
    sf.plot.parameter_map(maps, name, ax=ax)

# %%
output = os.environ.get("SCANFOLD_EXAMPLES_OUTPUT")
if output:
    figure.savefig(Path(output) / "own_format.png", dpi=100)
