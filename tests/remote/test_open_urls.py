"""Scans behind URLs: opened lazily, read in parts, identified by what their server says of them."""

from __future__ import annotations

import json
from pathlib import Path

import fsspec
import h5py
import numpy as np
import pytest
import xarray as xr

import scanfold as sf
from scanfold import detectors, grouping, traces
from scanfold.cli import main
from scanfold.conventions import InputError, fingerprint
from scanfold.io import describe
from scanfold.testing import raise_if_computes

from .conftest import InParts

VALUES = np.arange(6 * 5 * 40, dtype="uint16").reshape(6, 5, 40)


def write_hdf5(path: Path, values: np.ndarray = VALUES) -> Path:
    with h5py.File(path, "w") as file:
        entry = file.create_group("entry")
        entry.attrs.update({"NX_class": "NXdata", "signal": "counts", "axes": ["y", "x", "energy"]})
        file.attrs["default"] = "entry"
        entry.create_dataset("counts", data=values, chunks=(1, *values.shape[1:]), compression="gzip")
        entry["energy"] = np.linspace(0, 1, values.shape[-1])
        entry["energy"].attrs["units"] = "eV"
    return path


def write_zarr(path: Path, consolidated: bool = True) -> Path:
    ds = xr.Dataset({"counts": (("y", "x", "energy"), VALUES)}, {"energy": np.linspace(0, 1, 40)})
    ds.to_zarr(path, encoding={"counts": {"chunks": (2, 5, 40)}}, consolidated=consolidated, zarr_format=2)
    return path


WRITERS = {"scan.h5": write_hdf5, "scan.zarr": write_zarr}


@pytest.mark.parametrize("name", WRITERS)
def test_from_s3(name, bucket, tmp_path, capsys):
    here, url = WRITERS[name](tmp_path / name), f"{bucket}/{name}"
    fsspec.filesystem("s3").put(str(here), f"scans/{name}", recursive=True)
    with raise_if_computes():
        scan, local = sf.open_scan(url), sf.open_scan(here)
    xr.testing.assert_equal(scan.compute(), local.compute())
    np.testing.assert_array_equal(scan["counts"][3:5, 1].values, VALUES[3:5, 1])
    source = json.loads(scan.attrs["source"])
    assert source["path"] == url
    assert source["size"] == fingerprint(here)["size"]
    assert describe(url).nbytes == source["size"]
    assert main(["info", url]) == 0
    assert f"scanfold fit {url}" in capsys.readouterr().out
    # what was not changed is the same, what was has another tag, and other names in the graph
    assert sf.open_scan(url)["counts"].data.name == scan["counts"].data.name
    WRITERS[name](tmp_path / f"other-{name}") if name == "scan.zarr" else write_hdf5(here, VALUES[:, :, ::-1])
    if name == "scan.h5":
        fsspec.filesystem("s3").put(str(here), f"scans/{name}")
    else:
        fsspec.filesystem("s3").pipe(f"scans/{name}/counts/0.0.0", b"changed")
    assert json.loads(sf.open_scan(url).attrs["source"])["etag"] != source["etag"]
    assert sf.open_scan(url)["counts"].data.name != scan["counts"].data.name


@pytest.mark.parametrize("name", WRITERS)
def test_from_a_web_server(name, web):
    address, folder = web
    WRITERS[name](folder / name)
    scan = sf.open_scan(f"{address}/{name}")
    np.testing.assert_array_equal(scan["counts"].values, VALUES)
    assert scan["counts"].dims == ("y", "x", "energy")
    assert json.loads(scan.attrs["source"])["path"] == f"{address}/{name}"


def test_a_saved_store_from_a_web_server(web):
    address, folder = web
    values = xr.DataArray(VALUES, dims=("y", "x", "energy"), name="counts").chunk(y=2)
    saved = sf.save(2 * values, folder / "doubled.zarr", progress=False)
    found = sf.open_scan(f"{address}/doubled.zarr")
    xr.testing.assert_equal(found.compute(), saved.compute())
    np.testing.assert_array_equal(found["counts"][4, 2, ::7].values, 2 * VALUES[4, 2, ::7])


def test_only_what_is_needed_is_fetched(web):
    address, folder = web
    values = np.random.default_rng(0).integers(0, 2**16, (64, 512, 512), dtype="uint16")  # 32 MiB that do not compress
    with h5py.File(folder / "stack.h5", "w") as file:
        file.create_dataset("frames", data=values, chunks=(1, 512, 512))
    scan = sf.open_scan(f"{address}/stack.h5", chunks={"position": 1})
    np.testing.assert_array_equal(scan["frames"][40].values, values[40])
    assert 2**19 <= InParts.sent < 2**23


def test_fits_of_a_scan_behind_a_url_are_those_of_the_file(bucket, tmp_path):
    from lmfit.models import LinearModel

    here = write_hdf5(tmp_path / "scan.h5")
    fsspec.filesystem("s3").put(str(here), "scans/scan.h5")
    made = [sf.fit(sf.open_scan(p)["counts"], LinearModel(), dim="energy") for p in (here, f"{bucket}/scan.h5")]
    saved = [sf.save(fits, tmp_path / f"{n}.zarr", progress=False) for n, fits in enumerate(made)]
    xr.testing.assert_equal(saved[0].compute(), saved[1].compute())
    kept = json.loads(saved[1].attrs["provenance"])["inputs"]
    assert f"{bucket}/scan.h5" in json.dumps(kept)
    # the input is replaced: the run that is kept is of another one, and the etag says so
    fsspec.filesystem("s3").put(str(write_hdf5(tmp_path / "scan.h5", VALUES + 1)), "scans/scan.h5")
    fits = sf.fit(sf.open_scan(f"{bucket}/scan.h5")["counts"], LinearModel(), dim="energy")
    with pytest.raises(InputError, match=r"holds other work(.|\n)*etag"):
        sf.save(fits, tmp_path / "1.zarr", progress=False)


def test_a_ptychography_file(bucket, tmp_path):
    frames = np.random.default_rng(0).integers(0, 9, (8, 6, 6)).astype("f4")
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["frames"], file["at"] = frames, np.arange(16.0).reshape(8, 2)
    fsspec.filesystem("s3").put(str(tmp_path / "run.h5"), "scans/run.h5")
    fields = {"diffraction": "frames", "positions": "at"}
    scan = sf.open_scan(f"{bucket}/run.h5", format="ptycho", fields=fields)
    np.testing.assert_array_equal(scan["diffraction"].values, frames)
    np.testing.assert_array_equal(scan["position_x"], np.arange(1.0, 16, 2))


WRONG = {
    "nothing there": ("s3://scans/none.h5", "there is nothing at 's3://scans/none.h5'"),
    "no such bucket": ("s3://nowhere/none.h5", "s3://nowhere/none.h5"),
    "a format that is not read in parts": ("s3://scans/stack.npy", r"is NPY; at URLs zarr and HDF5"),
    "not the format of its name": ("s3://scans/wrong.h5", "cannot read 's3://scans/wrong.h5'"),
    "an unknown protocol": ("s4://scans/scan.h5", "cannot open 's4://scans/scan.h5'"),
    "a Path": (Path("s3://scans/scan.h5"), "pass a string: 's3://scans/scan.h5'"),
    "nobody listens": ("http://127.0.0.1:9/scan.h5", "127.0.0.1:9/scan.h5"),
}


@pytest.mark.parametrize(("url", "said"), WRONG.values(), ids=WRONG)
def test_what_is_said_of_urls_that_cannot_be_opened(url, said, bucket):
    system = fsspec.filesystem("s3")
    system.pipe("scans/stack.npy", b"\x93NUMPY" + bytes(100))
    system.pipe("scans/wrong.h5", b"no HDF5, though its name says so")
    with pytest.raises(InputError, match=said):
        sf.open_scan(url)


def test_a_web_server_without_parts_is_named(tmp_path):
    import http.server
    import threading
    from functools import partial

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            pass

    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["counts"] = np.random.default_rng(0).random((300, 100, 100))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        scan = sf.open_scan(f"http://127.0.0.1:{server.server_address[1]}/scan.h5")
        with pytest.raises(InputError, match="range requests"):
            scan["counts"][-1].compute()
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("url", ["s3://scans/scan.h5", "https://example.org/scan.zarr"])
def test_a_missing_extra_says_what_to_type(url, monkeypatch):
    import fsspec.registry

    def missing(protocol: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "get_filesystem_class", missing)
    with pytest.raises(InputError, match=r"pip install \"scanfold\[remote\]\""):
        sf.open_scan(url)


def test_folders_are_not_urls(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    request = traces.FittingRequest("trivial")
    scan = xr.DataArray(np.ones((2, 2, 4, 4)), dims=("y", "x", "ky", "kx"))
    for call in (
        lambda: traces.fit_folder("s3://scans/traces", request, progress=False),
        lambda: detectors.polarisation_map(scan, np.zeros(4, int), None, "s3://scans/maps", progress=False),
        lambda: grouping.index_positions(np.ones((9, 2)), "s3://scans/a.positions"),
    ):
        with pytest.raises(InputError, match="URL 's3://scans"):
            call()
    assert list(tmp_path.iterdir()) == []


def test_what_a_web_server_cannot_list(web):
    address, folder = web
    write_zarr(folder / "scan.zarr", consolidated=False)
    with pytest.raises(InputError, match="consolidate its metadata"):
        sf.open_scan(f"{address}/scan.zarr")
    array = sf.open_scan(f"{address}/scan.zarr/counts", dims=("y", "x", "energy"))
    np.testing.assert_array_equal(array["data"].values, VALUES)


def test_a_web_server_takes_no_stores(web):
    address, folder = web
    with pytest.raises(InputError, match="cannot write to http"):
        sf.save(xr.DataArray(np.ones((4, 2)), dims=("y", "x"), name="counts"), f"{address}/a.zarr", progress=False)
    assert not list(folder.iterdir())


@pytest.mark.parametrize("url", ["://", "s3://", "a b://c", "ftp://127.0.0.1:9/a", "zip://a", "dir::x://y", "http://"])
def test_odd_urls_are_one_error(url, bucket):
    for call in (sf.open_scan, describe):
        with pytest.raises(InputError):
            call(url)
