"""Every file that is read, in every way in which it is read: how to write a good one, and how to read it."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tifffile
import xarray as xr
import zarr

import scanfold as sf

from .damage import damage

Arrays = dict[str, np.ndarray]
DATA = np.random.default_rng(1).integers(0, 1000, (12, 8, 9), dtype=np.uint16)
FRAMES = np.random.default_rng(2).uniform(0, 5, (12, 6, 6)).astype("f4")
PLACES = np.random.default_rng(3).uniform(0, 50, (12, 2))


@dataclass
class FileTrial:
    """Damage to a file or folder, and a way to read it."""

    suffix: str
    write: Callable[[Path], Any]
    read: Callable[[Path], Arrays]
    #: MiB that reading it may take at most.
    most: float = 300.0
    #: What an error must name one of; the file by default.
    names: tuple[str, ...] | None = ("subject",)
    #: Whether it is a scan, which `describe` lists.
    described: bool = False
    #: What it may come to where it is its work to write.
    writes: tuple[str, ...] = ()
    good: Arrays = field(default_factory=dict)
    seed: int = 0

    def begin(self, folder: Path) -> None:
        """Write a good file, and read it."""
        shutil.rmtree(folder / "good", ignore_errors=True)
        (folder / "good").mkdir()
        path = folder / "good" / f"subject{self.suffix}"
        self.write(path)
        self.good = self.read(path)

    def prepare(self, folder: Path, seed: int) -> Path:
        """Write one that is damaged."""
        self.seed, self.described = seed, self.read.__qualname__.startswith("_scan")
        rng = np.random.default_rng(seed)
        shutil.rmtree(folder / "bad", ignore_errors=True)
        shutil.copytree(folder / "good", folder / "bad")
        path = folder / "bad" / f"subject{self.suffix}"
        files = sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]
        damage(files[int(rng.integers(len(files)))], rng)
        return path

    def attempt(self, path: Path) -> tuple[str, str]:
        """Read it, and compare; describe some."""
        if self.seed % 4 == 0 and self.described:
            sf.io.describe(path)
        found = self.read(path)
        same = found.keys() == self.good.keys() and all(_equal(v, self.good[k]) for k, v in found.items())
        return ("right" if same else "wrong"), ""


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


# --- reading --------------------------------------------------------------------------------------------------------


def _scan(**options: Any) -> Callable[[Path], Arrays]:
    def read(path: Path) -> Arrays:
        scan = sf.open_scan(path, **options)
        repr(scan)
        return {str(n): np.asarray(v.values) for n, v in scan.variables.items()}

    return read


def _backend(path: Path) -> Arrays:
    with xr.open_dataset(path, engine="scanfold") as ds:
        return {str(n): np.asarray(v.values) for n, v in ds.variables.items()}


def _saved(path: Path) -> Arrays:
    ds = sf.runs.open_store(path)
    sf.open_scan(path)
    return {str(n): np.asarray(v.values) for n, v in ds.variables.items()}


def _traces(feature: str | None = None) -> Callable[[Path], Arrays]:
    def read(path: Path) -> Arrays:
        from scanfold import traces

        ds = traces.load_analysis_csv(path, feature=feature)
        return {str(n): v.values for n, v in ds.variables.items() if v.dtype.kind != "O"}

    return read


def _fitted(path: Path) -> Arrays:
    from scanfold import traces

    frame = traces.load_fitted(path)
    return {str(n): c.to_numpy() for n, c in frame.items() if c.dtype.kind in "iufb"}


def _bragg(path: Path) -> Arrays:
    from scanfold import bragg

    data = bragg.Data.from_counts(str(path / "signal.csv"), str(path / "ob.csv"), L=9, tstep=10e-6)
    return {str(n): np.asarray(v.values) for n, v in data.dataset.variables.items() if v.dtype.kind in "iuf"}


def _bragg_groups(path: Path) -> Arrays:
    from scanfold import bragg

    data = bragg.Data.from_grouped(f"{path}/signal_x*_y*.csv", f"{path}/ob_x*_y*.csv", L=9, tstep=10e-6)
    return {str(n): np.asarray(v.values) for n, v in data.dataset.variables.items() if v.dtype.kind in "iuf"}


def _bragg_stack(path: Path) -> Arrays:
    from scanfold import bragg

    data = bragg.Data.from_grouped(str(path / "signal.tif"), str(path / "ob.tif"), L=9, tstep=10e-6)
    return {str(n): np.asarray(v.values) for n, v in data.dataset.variables.items() if v.dtype.kind in "iuf"}


def _transmission(path: Path) -> Arrays:
    from scanfold import bragg

    data = bragg.Data.from_transmission(str(path))
    return {str(n): np.asarray(v.values) for n, v in data.dataset.variables.items() if v.dtype.kind in "iuf"}


def _labels(path: Path) -> Arrays:
    from scanfold import detectors
    from scanfold.detectors.labels import as_labels

    del detectors
    scan = xr.DataArray(np.zeros((3, 4, 2, 2)), dims=("y", "x", "ky", "kx"))
    labels = as_labels(path, scan, ("y", "x"))
    return {"names": labels.names, "index": labels.index.values if labels.index is not None else labels.weights.values}


def _map(key: str) -> Callable[[Path], Arrays]:
    def read(path: Path) -> Arrays:
        from scanfold.detectors.derive import bad_pixels, dose

        scan = xr.DataArray(np.zeros((3, 4, 2, 2)), dims=("y", "x", "ky", "kx"))
        return {key: dose(scan, ("y", "x"), str(path)).values if key == "dose" else bad_pixels(str(path))}

    return read


# --- writing --------------------------------------------------------------------------------------------------------


def _nexus(texts: type, **how: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with h5py.File(path, "w") as f:
            g = f.create_group("entry/data")
            f.attrs["default"] = texts("entry")
            f["entry"].attrs["default"] = texts("data")
            g.attrs.update({"NX_class": texts("NXdata"), "signal": texts("counts")})
            g.attrs["axes"] = ["y", "x", "energy"] if texts is str else np.array([b"y", b"x", b"energy"])
            g.create_dataset("counts", data=DATA, **how)
            g["y"] = np.arange(12.0)
            g["y"].attrs["units"] = texts("mm")
            g["energy"] = np.arange(9.0)

    return write


def _hspy(path: Path) -> None:
    with h5py.File(path, "w") as f:
        g = f.create_group("Experiments/map")
        g["data"] = DATA
        for i, (name, size) in enumerate(zip("yxE", DATA.shape, strict=True)):
            axis = g.create_group(f"axis-{i}")
            axis.attrs.update(
                {"name": name, "scale": 0.5, "offset": 1.0, "size": size, "units": "nm", "navigate": i < 2}
            )


def _emd(path: Path) -> None:
    with h5py.File(path, "w") as f:
        g = f.create_group("data/image")
        g.attrs["emd_group_type"] = 1
        g["data"] = DATA
        for i, size in enumerate(DATA.shape):
            g[f"dim{i + 1}"] = np.arange(float(size))
            g[f"dim{i + 1}"].attrs.update({"name": "yxE"[i], "units": "[n_m]"})


def _master(path: Path) -> None:
    with h5py.File(path, "w") as f:
        g = f.create_group("entry/data")
        for i in range(2):
            part = path.with_name(f"{path.stem}_part{i}.h5")
            with h5py.File(part, "w") as other:
                other["data"] = DATA
            g[f"data_{i:06d}"] = h5py.ExternalLink(part.name, "data")


def _zarr(version: int) -> Callable[[Path], None]:
    return lambda path: zarr.create_array(str(path), data=DATA, chunks=(4, 8, 9), zarr_format=version) and None


def _xarray(version: int, consolidated: bool = False) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        ds = xr.Dataset({"counts": (("y", "x", "energy"), DATA)}, {"y": np.arange(12.0), "energy": np.arange(9.0)})
        ds.counts.encoding["chunks"] = (4, 8, 9)
        ds.to_zarr(path, consolidated=consolidated, zarr_format=version)

    return write


def _zspy(path: Path) -> None:
    root = zarr.create_group(str(path), zarr_format=2)
    root.create_array("Experiments/map/data", data=DATA, chunks=(4, 8, 9))
    for i, (name, size) in enumerate(zip("yxE", DATA.shape, strict=True)):
        axis = root.create_group(f"Experiments/map/axis-{i}")
        axis.attrs.update({"name": name, "scale": 0.5, "offset": 1.0, "size": size, "units": "nm", "navigate": i < 2})


def _zip(path: Path) -> None:
    with zarr.storage.ZipStore(path, mode="w") as store:
        zarr.create_array(store, data=DATA, chunks=(4, 8, 9))


def _store(path: Path) -> None:
    scan = xr.Dataset({"counts": (("y", "x", "energy"), DATA)}, {"energy": np.arange(9.0)}).chunk(y=4)
    sf.save(scan, path, progress=False)
    shutil.rmtree(path / ".scanfold", ignore_errors=True)


def _contract() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "diff3d": FRAMES, "xcoords": PLACES[:, 1], "ycoords": PLACES[:, 0], "xcoords_start": PLACES[:, 1],
        "ycoords_start": PLACES[:, 0], "probeGuess": (rng.normal(size=(6, 6)) + 1j).astype("c8"),
        "objectGuess": (rng.normal(size=(60, 70)) + 1j).astype("c8"), "object_index": np.arange(12) % 2,
        "_metadata": np.array(json.dumps({"a": 1})),
    }  # fmt: skip


def _cxi(path: Path) -> None:
    with h5py.File(path, "w") as f:
        f["entry_1/data_1/data"] = FRAMES
        f["entry_1/data_1/translation"] = np.column_stack([PLACES, PLACES[:, 0]])
        f["entry_1/instrument_1/source_1/energy"] = 1e-15
        f["entry_1/instrument_1/detector_1/distance"] = 2.0
        f["entry_1/instrument_1/source_1/illumination"] = np.ones((6, 6), "c8")


def _nxcxi(path: Path) -> None:
    with h5py.File(path, "w") as f:
        f["entry_1/instrument_1/detector_1/data"] = FRAMES
        f["entry_1/sample_1/transformations/x"] = PLACES[:, 1]
        f["entry_1/sample_1/transformations/y"] = PLACES[:, 0]
        f["entry_1/sample_1/transformations/y"].attrs["units"] = "um"


def _ptyd(path: Path) -> None:
    with h5py.File(path, "w") as f:
        for i in range(2):
            f[f"chunks/{i}/data"] = FRAMES
            f[f"chunks/{i}/positions"] = PLACES
        f["meta/energy"] = 7.0
        f["meta/psize"] = [1e-8, 1e-8]


def _fields(path: Path) -> None:
    with h5py.File(path, "w") as f:
        f["measurement/frames"] = FRAMES
        f["measurement/places"] = PLACES


def _hyper(path: Path) -> None:
    tifffile.imwrite(path, DATA, imagej=True, metadata={"axes": "ZYX"})


def _ome(path: Path) -> None:
    tifffile.imwrite(path, DATA, ome=True, metadata={"axes": "ZYX"}, photometric="minisblack", compression="zlib")


def _tiffs(path: Path) -> None:
    path.mkdir()
    for i in range(4):
        tifffile.imwrite(path / f"frame{i}.tif", DATA[i], photometric="minisblack")


def _blockfile(path: Path) -> None:
    from rsciio.blockfile import file_writer

    axes = [
        {"name": n, "size": s, "offset": 0.0, "scale": 0.5, "units": u, "navigate": i < 2, "index_in_array": i}
        for i, (n, s, u) in enumerate(
            zip(["y", "x", "dy", "dx"], (3, 4, 8, 8), ["nm", "nm", "1/nm", "1/nm"], strict=True)
        )
    ]
    data = np.arange(3 * 4 * 64).astype("u1").reshape(3, 4, 8, 8)
    signal: dict[str, Any] = {
        "data": data, "axes": axes, "metadata": {"General": {"title": ""}, "Signal": {"signal_type": ""}},
        "original_metadata": {}, "attributes": {"_lazy": False, "ragged": False},
    }  # fmt: skip
    file_writer(str(path), signal, intensity_scaling=None, show_progressbar=False)


def _counts(path: Path, number: float, bins: int = 24) -> None:
    rows = [f"{i + 1},{number + i},{np.sqrt(number + i):.6f}" for i in range(bins)]
    path.write_text("stack,counts,err\n" + "\n".join(rows) + "\n")


def _pair(path: Path) -> None:
    path.mkdir()
    _counts(path / "signal.csv", 50)
    _counts(path / "ob.csv", 100)


def _groups(path: Path) -> None:
    path.mkdir()
    for i in range(4):
        _counts(path / f"signal_x{i % 2}_y{i // 2}.csv", 50 + i)
        _counts(path / f"ob_x{i % 2}_y{i // 2}.csv", 100 + i)


def _stacks(path: Path) -> None:
    path.mkdir()
    tifffile.imwrite(path / "signal.tif", DATA, photometric="minisblack")
    tifffile.imwrite(path / "ob.tif", DATA + 1, photometric="minisblack")


def _spectrum(path: Path) -> None:
    rows = [f"{1 + 0.1 * i:.3f},{0.5 + 0.01 * i:.4f},0.01" for i in range(24)]
    path.write_text("wavelength,trans,err\n" + "\n".join(rows) + "\n")


def _wide(path: Path) -> None:
    rows = [f"{t / 2},{t},{t * 2},{t * 3}" for t in range(12)]
    path.write_text("# Time units: h\ntime,fov_000_cell_1,fov_000_cell_2,fov_001_cell_1\n" + "\n".join(rows) + "\n")


def _tidy(path: Path) -> None:
    rows = [f"{t / 2},{f},{c},{t * c}" for f in range(2) for c in range(2) for t in range(6)]
    path.write_text("time,fov,cell,value\n" + "\n".join(rows) + "\n")


def _upstream(path: Path) -> None:
    head = "fov,cell,frame,time,good,position_x,position_y,intensity_total_ch_1,area_ch_0\n"
    rows = [f"{f},{c},{t},{t * 5},True,{c}.5,{f}.5,{t * c},{t}" for f in range(2) for c in range(2) for t in range(6)]
    path.write_text(head + "\n".join(rows) + "\n")


def _results(path: Path) -> None:
    from scanfold import traces

    source = path.parent / "traces_of.csv"
    rows = [f"{t / 2},{10 * (1 - np.exp(-t / 4)):.4f},{8 * (1 - np.exp(-t / 5)):.4f}" for t in range(12)]
    source.write_text("time,1,2\n" + "\n".join(rows) + "\n")
    run = traces.fit_folder(source, traces.FittingRequest("trivial"), out=path.parent / "out", progress=False)
    shutil.move(run.paths[0], path)
    shutil.rmtree(path.parent / "out")


def _places() -> xr.Dataset:
    places = {n: ("position", PLACES[:, i], {"units": "pixel"}) for i, n in enumerate(("position_y", "position_x"))}
    return xr.Dataset({"diffraction": (("position", "ky", "kx"), FRAMES)}, places, {"primary": "diffraction"})


def _index(path: Path) -> None:
    from scanfold import grouping

    grouping.index_positions(_places(), path)


def _planned(path: Path) -> Arrays:
    from scanfold import grouping

    plan = grouping.plan_groups(grouping.open_index(path), nsamples=5, gridsize=2, K=6, seed=1).compute()
    return {str(n): v.values for n, v in plan.variables.items()}


def _unfinished(path: Path) -> None:
    """Write a store whose last block and mark are missing."""
    sf.save(_lazy(), path, progress=False)
    root = path / "zarr.json"
    content = json.loads(root.read_text())
    content["attributes"]["scanfold_complete"] = False
    root.write_text(json.dumps(content))
    sorted((path / ".scanfold/blocks").glob("*.json"))[-1].unlink()


def _lazy() -> xr.Dataset:
    return xr.Dataset({"counts": (("y", "x", "energy"), DATA)}, {"energy": np.arange(9.0)}).chunk(y=4) + 1


def _resumed(path: Path) -> Arrays:
    saved = sf.save(_lazy(), path, progress=False)
    return {str(n): np.asarray(v.values) for n, v in saved.variables.items()}


LABELS = np.arange(12).reshape(3, 4) % 3
CONTRACT = {"format": "ptycho"}
TRIALS = {
    "HDF5, gzip chunks": FileTrial(".h5", _nexus(np.bytes_, chunks=(4, 8, 9), compression="gzip"), _scan()),
    "HDF5, contiguous": FileTrial(".h5", _nexus(np.bytes_), _scan()),
    "HDF5, strings of variable length": FileTrial(".nxs", _nexus(str), _scan()),
    "HDF5, as xarray engine": FileTrial(".h5", _nexus(np.bytes_, chunks=(4, 8, 9), fletcher32=True), _backend),
    "HyperSpy (.hspy)": FileTrial(".hspy", _hspy, _scan()),
    "EMD": FileTrial(".emd", _emd, _scan()),
    "HDF5, master file": FileTrial(".h5", _master, _scan()),
    "zarr v2": FileTrial(".zarr", _zarr(2), _scan()),
    "zarr v3": FileTrial(".zarr", _zarr(3), _scan()),
    "zarr v2 of xarray": FileTrial(".zarr", _xarray(2, True), _scan()),
    "zarr v3 of xarray": FileTrial(".zarr", _xarray(3), _scan()),
    "zarr of HyperSpy (.zspy)": FileTrial(".zspy", _zspy, _scan()),
    "zarr in a zip file": FileTrial(".zarr", _zip, _scan()),
    "store of ours": FileTrial(".zarr", _store, _saved),
    "index of positions": FileTrial(".positions", _index, _planned),
    "unfinished store of ours, resumed": FileTrial(
        ".zarr", _unfinished, _resumed, writes=("right", "wrong", "refused")
    ),
    "NPY": FileTrial(".npy", lambda path: np.save(path, DATA), _scan()),
    "NPZ": FileTrial(".npz", lambda path: np.savez(path, d=DATA), _scan()),
    "NPZ, compressed": FileTrial(".npz", lambda path: np.savez_compressed(path, d=DATA), _scan()),
    "TIFF": FileTrial(".tif", lambda path: tifffile.imwrite(path, DATA, photometric="minisblack"), _scan()),
    "TIFF, compressed": FileTrial(
        ".tif", lambda path: tifffile.imwrite(path, DATA, photometric="minisblack", compression="zlib"), _scan()
    ),
    "TIFF of ImageJ": FileTrial(".tif", _hyper, _scan()),
    "TIFF, OME": FileTrial(".tif", _ome, _scan()),
    "TIFF, folder of frames": FileTrial("", _tiffs, _scan()),
    "ptychography, NPZ": FileTrial(".npz", lambda path: np.savez(path, **_contract()), _scan(**CONTRACT)),
    "ptychography, CXI": FileTrial(".cxi", _cxi, _scan(**CONTRACT)),
    "ptychography, NXcxi_ptycho": FileTrial(".cxi", _nxcxi, _scan(**CONTRACT)),
    "ptychography, .ptyd": FileTrial(".ptyd", _ptyd, _scan(**CONTRACT)),
    "ptychography, HDF5 with fields": FileTrial(
        ".h5", _fields, _scan(**CONTRACT, fields={"diffraction": "measurement/frames",
        "positions": "measurement/places"})
    ),
    "a maker's format (.blo)": FileTrial(".blo", _blockfile, _scan()),
    "counts, one spectrum (CSV)": FileTrial("", _pair, _bragg),
    "counts, groups (CSV)": FileTrial("", _groups, _bragg_groups),
    "counts, stacks (TIFF)": FileTrial("", _stacks, _bragg_stack, names=("subject", "signal has", "openbeam has")),
    "transmission (CSV)": FileTrial(".csv", _spectrum, _transmission),
    "traces, wide": FileTrial(".csv", _wide, _traces()),
    "traces, tidy": FileTrial(".csv", _tidy, _traces()),
    "traces, table of features": FileTrial(".csv", _upstream, _traces("area_ch_0")),
    "traces, results": FileTrial("_fitted_trivial.csv", _results, _fitted),
    "labels, NPY": FileTrial(".npy", lambda path: np.save(path, LABELS), _labels),
    "labels, NPZ": FileTrial(".npz", lambda path: np.savez_compressed(path, labels=LABELS), _labels),
    "dose, NPY": FileTrial(".npy", lambda path: np.save(path, LABELS + 1.0), _map("dose")),
}  # fmt: skip


def rezipped(path: Path, name: str, content: bytes) -> None:
    """Write an archive of one member, with the right checksum."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
