"""Files and words made to do harm: each must be refused by name, run nothing, and take no memory to speak of."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tifffile
import xarray as xr
import zarr

import scanfold as sf


class Harm:
    """What runs a command when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.system, ("touch ran",)


@dataclass
class HostileTrial:
    """Something hostile, what opens it, and a word of the refusal."""

    make: Callable[[Path], Any]
    open: Callable[[Any], Any]
    word: str
    #: MiB that it may take.
    most: float = 300.0
    names: tuple[str, ...] | None = None

    def begin(self, folder: Path) -> None:
        """Load what reading needs."""
        from scanfold.cli import models, options
        from scanfold.detectors import labels
        from scanfold.fitting import registry

        del labels, models, options, registry
        shutil.rmtree(folder / "bad", ignore_errors=True)
        (folder / "bad").mkdir()

    def prepare(self, folder: Path, seed: int) -> Any:
        """Make it."""
        self.begin(folder)
        return self.make(folder / "bad")

    def attempt(self, made: Any) -> tuple[str, str]:
        """Open it; that it opens is a failure."""
        from scanfold.conventions import ScanError

        try:
            found = self.open(made)
        except ScanError as error:
            return ("refused" if self.word in str(error) else "unnamed"), str(error)
        return "unnamed", f"it was taken: {str(found)[:200]}"


def _data(path: Path, **options: Any) -> Any:
    scan = sf.open_scan(path, **options)
    return {n: v.values.sum() for n, v in scan.variables.items() if v.dtype.kind in "biufc"}


def _to(name: str, write: Callable[[Path], Any]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        write(folder / name)
        return folder / name

    return make


def _object_array() -> np.ndarray:
    made = np.empty(3, object)
    made[:] = [Harm(), Harm(), Harm()]
    return made


def _header(shape: str, descr: str = "'<f8'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def _archive(path: Path, members: dict[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def _bomb(path: Path, name: str, shape: tuple[int, ...], **more: np.ndarray) -> None:
    """Write a compressed member of zeros that is a thousand times as large as its file."""
    size = int(np.prod(shape)) * 8
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
            stream.write(_header(str(shape)))
            for _ in range(size // 2**24):
                stream.write(bytes(2**24))
            stream.write(bytes(size % 2**24))
        for other, values in more.items():
            buffer = io.BytesIO()
            np.save(buffer, values)
            archive.writestr(f"{other}.npy", buffer.getvalue())


def _zarr2(path: Path, **change: Any) -> None:
    path.mkdir()
    meta = {"zarr_format": 2, "shape": [2, 3, 4], "chunks": [2, 3, 4], "dtype": "<f8", "compressor": None,
    "fill_value": 0,
            "order": "C", "filters": None}  # fmt: skip
    (path / ".zarray").write_text(json.dumps(meta | change))
    (path / "0.0.0").write_bytes(pickle.dumps(Harm()))


def _zarr3(path: Path, **change: Any) -> None:
    zarr.create_array(str(path), data=np.zeros((2, 3, 4)))
    meta = json.loads((path / "zarr.json").read_text())
    (path / "zarr.json").write_text(json.dumps(meta | change))


def _outside(path: Path) -> None:
    """Write a store in which an array is a link to another folder."""
    secret = path.parent / "secret.zarr"
    zarr.create_array(str(secret), data=np.zeros((2, 3, 4)))
    zarr.create_group(str(path))
    os.symlink(secret, path / "link")


def _outside_chunk(path: Path) -> None:
    secret = path.parent / "secret"
    secret.write_bytes(bytes(2 * 3 * 4 * 8))
    zarr.create_array(str(path), data=np.ones((2, 3, 4)), compressors=None)
    chunk = path / "c/0/0/0"
    chunk.unlink()
    os.symlink(secret, chunk)


def _consolidated(path: Path) -> None:
    victim = path.parent / "victim"
    victim.mkdir()
    (victim / "0.0.0").write_bytes(np.ones(24).tobytes())
    path.mkdir()
    meta = {"zarr_format": 2, "shape": [2, 3, 4], "chunks": [2, 3, 4], "dtype": "<f8", "compressor": None,
    "fill_value": 0,
            "order": "C", "filters": None}  # fmt: skip
    keys = {".zgroup": {"zarr_format": 2}, "../victim/.zarray": meta, "../victim/.zattrs": {}}
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    (path / ".zmetadata").write_text(json.dumps({"zarr_consolidated_format": 1, "metadata": keys}))


def _external(path: Path) -> None:
    secret = path.parent.parent / "outside.bin"
    secret.write_bytes(bytes(64))
    with h5py.File(path, "w") as f:
        f.create_dataset("x", shape=(4, 4, 4), dtype="u1", external=[(str(secret), 0, 64)])


def _huge(path: Path, shape: tuple[int, ...], chunks: tuple[int, ...], axes: bool = False) -> None:
    with h5py.File(path, "w") as f:
        g = f.create_group("Experiments/map") if axes else f
        g.create_dataset("data", shape=shape, chunks=chunks, dtype="f8")
        for i in range(len(shape) if axes else 0):
            g.create_group(f"axis-{i}").attrs.update({"name": "yxE"[i], "scale": 1.0, "offset": 0.0, "navigate": i < 2})


def _deep(path: Path) -> None:
    with h5py.File(path, "w") as f:
        g = f
        for _ in range(2000):
            g = g.create_group("g")
        g["x"] = np.ones((3, 3, 3))


def _circle(path: Path) -> None:
    """Write a string of variable length into a heap whose free space is 0 bytes long: HDF5 would read it for ever."""
    with h5py.File(path, "w") as f:
        f["x"] = np.ones((3, 3, 3))
        f["x"].attrs["units"] = "counts"
    content = bytearray(path.read_bytes())
    at = content.index(b"GCOL\x01\0\0\0") + 16
    while int.from_bytes(content[at : at + 2], "little"):
        at += 16 + -(-int.from_bytes(content[at + 8 : at + 16], "little") // 8) * 8
    content[at + 8 : at + 16] = bytes(8)
    path.write_bytes(content)


def _ome(path: Path) -> None:
    """Write an OME-TIFF that names a file outside of its folder as its second page."""
    secret = path.parent.parent / "outside.tif"
    tifffile.imwrite(secret, np.full((8, 8), 7, "u2"))
    xml = f"""<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"
    UUID="urn:uuid:1"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="8" SizeY="8"
    SizeZ="2" SizeC="1" SizeT="1"><TiffData IFD="0" FirstZ="0"><UUID FileName="{path.name}">urn:uuid:1</UUID></TiffData>
    <TiffData IFD="0" FirstZ="1"><UUID FileName="../../outside.tif">urn:uuid:2</UUID></TiffData></Pixels></Image>
    </OME>"""
    tifffile.imwrite(path, np.zeros((8, 8), "u2"), description=xml.encode(), metadata=None)


def _fifo(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.h5")
    return folder / "pipe.h5"


def _yaml(text: str) -> Callable[[Path], Path]:
    return _to("config.yaml", lambda path: path.write_text(text))


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
)


def _resolve(path: Path) -> Any:
    from scanfold.detectors.config import resolve

    return resolve(path)


def _config(path: Path) -> Any:
    from scanfold.cli.options import read_config

    return read_config(str(path))


def _labels(path: Path) -> Any:
    from scanfold.detectors.labels import as_labels

    return as_labels(path, xr.DataArray(np.zeros((3, 4, 2, 2)), dims=("y", "x", "ky", "kx")), ("y", "x"))


def _model(text: str) -> Any:
    from scanfold.cli.models import parse_model

    return parse_model(text)


def _expression(text: str) -> Any:
    from lmfit.models import LinearModel

    data = xr.DataArray(np.ones((2, 5)), dims=("y", "energy"))
    return sf.fit(data, LinearModel(), {"slope": {"expr": text}}, dim="energy")


def _described(content: dict[str, Any]) -> Any:
    from scanfold.fitting.registry import build_model

    return build_model(content)


def _said(value: Any) -> Callable[[Path], Any]:
    return lambda folder: value


PTYCHO = {"xcoords": np.zeros(12), "ycoords": np.zeros(12)}
RUN = "__import__('os').system('touch ran')"
MANY = (2**20, 2**20, 2**23)


def _metadata(path: Path) -> None:
    np.savez(path, diff3d=np.zeros((12, 4, 4), "f4"), **PTYCHO, _metadata=_object_array())


def _ptycho(path: Path) -> Any:
    scan = sf.open_scan(path, format="ptycho")
    if scan.attrs.get("metadata"):
        raise AssertionError("the metadata were unpickled")
    from scanfold.conventions import InputError

    raise InputError("left out")  # a warning said so, and the rest of the file is used


TRIALS: dict[str, HostileTrial] = {
    "NPY of pickled objects": HostileTrial(_to("a.npy", lambda p: np.save(p, _object_array())), _data, "pickled"),
    "NPZ of pickled objects": HostileTrial(_to("a.npz", lambda p: np.savez(p, d=_object_array())), _data, "a.npz"),
    "NPZ, pickled metadata": HostileTrial(_to("a.npz", _metadata), _ptycho, "left out"),
    "NPZ, pickle without a header": HostileTrial(
        _to("a.npz", lambda p: _archive(p, {"d.npy": pickle.dumps(Harm())})), _data, "a.npz"
    ),
    "NPZ, names that climb": HostileTrial(
        _to("a.npz", lambda p: _archive(p, {"../../d.npy": b"no array", "/etc/x.npy": b""})), _data, "a.npz"
    ),
    "NPY of 2⁶³ rows": HostileTrial(_to("a.npy", lambda p: p.write_bytes(_header(f"({2**63}, 4, 4)") + bytes(64))),
    _data, "a.npy"),
    "NPY that claims 745 GiB": HostileTrial(
        _to("a.npy", lambda p: p.write_bytes(_header("(100000, 1000, 1000)") + bytes(64))), _data, "a.npy"
    ),
    "NPY of negative size": HostileTrial(_to("a.npy", lambda p: p.write_bytes(_header("(-2, 4, 4)") + bytes(64))),
    _data, "a.npy"),
    "NPY with code in its header": HostileTrial(
        _to("a.npy", lambda p: p.write_bytes(_header("(4, 4)", RUN) + bytes(128))), _data, "a.npy"
    ),
    "NPZ bomb, positions": HostileTrial(
        _to("a.npz", lambda p: _bomb(p, "xcoords", (2**27,), diff3d=np.zeros((12, 4, 4), "f4"), ycoords=np.zeros(12))),
        lambda p: sf.open_scan(p, format="ptycho"), "a.npz",
    ),
    "NPZ bomb, labels": HostileTrial(_to("a.npz", lambda p: _bomb(p, "labels", (2**27,))), _labels, "a.npz"),
    "labels of pickled objects": HostileTrial(_to("a.npy", lambda p: np.save(p, _object_array())), _labels, "a.npy"),
    "labels, a pickle": HostileTrial(_to("a.npy", lambda p: p.write_bytes(pickle.dumps(Harm()))), _labels, "a.npy"),
    "zarr v2, pickle as compressor": HostileTrial(_to("a.zarr", lambda p: _zarr2(p, compressor={"id": "pickle"})),
    _data, "a.zarr"),
    "zarr v2, pickle as filter": HostileTrial(_to("a.zarr", lambda p: _zarr2(p, filters=[{"id": "pickle"}])), _data,
    "a.zarr"),
    "zarr v2, array of objects": HostileTrial(
        _to("a.zarr", lambda p: _zarr2(p, dtype="|O", filters=[{"id": "pickle"}], fill_value=None)), _data, "a.zarr"
    ),
    "zarr v3, codec of another name": HostileTrial(
        _to("a.zarr", lambda p: _zarr3(p, codecs=[{"name": "numcodecs.pickle", "configuration": {}}])), _data, "a.zarr"
    ),
    "zarr of 2⁶³ positions": HostileTrial(
        _to("a.zarr", lambda p: _zarr2(p, shape=list(MANY), chunks=[1, 1, 2**10])), _data, "header is wrong"
    ),
    "zarr, one chunk of everything": HostileTrial(
        _to("a.zarr", lambda p: _zarr2(p, shape=list(MANY), chunks=list(MANY))), _data, "header is wrong"
    ),
    "zarr, keys that climb": HostileTrial(_to("a.zarr", _consolidated), _data, "a.zarr"),
    "zarr, dataset= that climbs": HostileTrial(
        _to("a.zarr", lambda p: _zarr2(p)), lambda p: _data(p, dataset="../secret.zarr"), "a.zarr"
    ),
    "zarr, link to another folder": HostileTrial(_to("a.zarr", _outside), _data, "outside of the store"),
    "zarr, chunk that is a link": HostileTrial(_to("a.zarr", _outside_chunk), _data, "outside of the store"),
    "HDF5, bytes of another file": HostileTrial(_to("a.h5", _external), _data, "outside of its folder"),
    "HDF5 of 2⁶³ positions": HostileTrial(_to("a.h5", lambda p: _huge(p, MANY, (1, 1, 2**10))), _data,
    "header is wrong"),
    "HDF5, a frame of 8 EiB": HostileTrial(
        _to("a.h5", lambda p: _huge(p, (4, 2**30, 2**30), (1, 2**10, 2**10))), _data, "header is wrong"
    ),
    "HDF5, a calibrated axis of 8 GiB": HostileTrial(
        _to("a.hspy", lambda p: _huge(p, (2, 2, 2**30), (1, 1, 2**10), axes=True)), _data, "header is wrong"
    ),
    "HDF5, 2,000 groups deep": HostileTrial(_to("a.h5", _deep), _data, "a.h5"),
    "HDF5, strings in a circle": HostileTrial(_to("a.h5", _circle), _data, "heap"),
    "TIFF that names files elsewhere": HostileTrial(_to("a.ome.tif", _ome), _data, "a.ome.tif"),
    "a pipe": HostileTrial(_fifo, _data, "pipe"),
    "YAML tag, polar-map": HostileTrial(_yaml("templates: !!python/object/apply:os.system ['touch ran']"), _resolve,
    "config.yaml"),
    "YAML tag, fit": HostileTrial(_yaml("model: !!python/object/apply:os.system ['touch ran']"), _config,
    "config.yaml"),
    "YAML that refers to itself": HostileTrial(_yaml(LAUGHS), _resolve, "refers back"),
    "YAML nested 5,000 deep": HostileTrial(_yaml("templates: " + "[" * 5000), _resolve, "nested"),
    "model with code": HostileTrial(_said(RUN), _model, "is not taken"),
    "model, option with code": HostileTrial(_said(f"GaussianModel(prefix={RUN})"), _model, "is not taken"),
    "ExpressionModel with code": HostileTrial(_said(f'ExpressionModel("{RUN}")'), _model, "expected names"),
    "ExpressionModel, init_script": HostileTrial(
        _said({"model": "ExpressionModel", "expr": "a*x", "independent_vars": ["x"], "init_script": RUN}), _described,
        "init_script"
    ),
    "model nested 1,900 deep": HostileTrial(_said("-" * 1900 + "LinearModel()"), _model, "is not taken"),
    "expr with code": HostileTrial(_said(RUN), _expression, "slope"),
    "expr that opens a file": HostileTrial(_said("open('ran', 'w')"), _expression, "open"),
    "expr through attributes": HostileTrial(_said("().__class__.__bases__[0]"), _expression, "slope"),
    "expr of 20,000 characters": HostileTrial(_said("1+" * 10_000 + "1"), _expression, "at most"),
}  # fmt: skip
