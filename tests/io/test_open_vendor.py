"""Microscope makers' formats, written with RosettaSciIO, are read back equal with their axes."""

import sys

import numpy as np
import pytest

import scanfold as sf
from scanfold.conventions import InputError

pytest.importorskip("rsciio", reason='the extra is not installed: pip install "scanfold[vendor]"')

DATA = np.random.default_rng(1).integers(0, 200, (3, 4, 8, 8), dtype=np.uint8)


def _axes(names, units, navigate, shape):
    return [
        {
            "_type": "UniformDataAxis",
            "name": n,
            "units": u,
            "scale": 0.5,
            "offset": 0.0,
            "size": s,
            "navigate": v,
            "index_in_array": i,
            "is_binned": False,
        }
        for i, (n, u, v, s) in enumerate(zip(names, units, navigate, shape, strict=True))
    ]


@pytest.fixture
def signal():
    axes = _axes(("y", "x", "dy", "dx"), ("nm", "nm", "1/nm", "1/nm"), (True, True, False, False), DATA.shape)
    general = {"General": {"title": "", "original_filename": ""}, "Signal": {"signal_type": ""}}
    return {
        "data": DATA,
        "axes": axes,
        "metadata": general,
        "original_metadata": {},
        "attributes": {"_lazy": False, "ragged": False},
        "package": "",
        "package_info": {"package": "", "package_version": ""},
        "package_version": "",
        "learning_results": {},
        "models": {},
        "tmp_parameters": {},
    }


def test_blockfile(tmp_path, signal):
    pytest.importorskip("skimage", reason="RosettaSciIO's writer of this format needs scikit-image")
    from rsciio.blockfile import file_writer

    path = tmp_path / "scan.blo"
    file_writer(str(path), signal, intensity_scaling=None, show_progressbar=False)
    scan = sf.open_scan(path, chunks={"y": 1})
    assert scan["data"].dims == ("y", "x", "dy", "dx")
    np.testing.assert_array_equal(scan["data"], DATA)
    np.testing.assert_allclose(scan["y"], 0.5 * np.arange(3))
    assert scan["y"].attrs["units"] == "nm"


def test_ripple(tmp_path, signal):
    """Raw bytes beside a header: a map of spectra."""
    from rsciio.ripple import file_writer

    path, spectra = tmp_path / "map.rpl", DATA[..., 0]
    axes = _axes(("y", "x", "Energy"), ("nm", "nm", "eV"), (True, True, False), spectra.shape)
    file_writer(str(path), signal | {"data": spectra, "axes": axes})
    scan = sf.open_scan(path, chunks={"y": 2})
    assert scan["data"].dims == ("y", "x", "energy")
    assert scan["energy"].attrs["units"] == "eV"
    np.testing.assert_array_equal(scan["data"][1:, 2].compute(), spectra[1:, 2])
    np.testing.assert_array_equal(scan["data"], spectra)


def test_hspy(tmp_path, signal):
    from rsciio.hspy import file_writer

    path = tmp_path / "scan.hspy"
    file_writer(str(path), signal)
    scan = sf.open_scan(path)
    assert scan["data"].dims == ("y", "x", "dy", "dx")
    np.testing.assert_array_equal(scan["data"], DATA)
    np.testing.assert_allclose(scan["dx"], 0.5 * np.arange(8))
    assert {d: scan[d].attrs["units"] for d in ("y", "dx")} == {"y": "nm", "dx": "1/nm"}


def test_tvips(tmp_path, signal):
    from rsciio.tvips import file_writer

    path = tmp_path / "scan_000.tvips"
    file_writer(str(path), signal | {"data": DATA.astype("u2")}, show_progressbar=False)
    scan = sf.open_scan(path, scan_shape=(3, 4))
    assert scan["data"].shape == DATA.shape
    np.testing.assert_array_equal(scan["data"], DATA)


def test_damaged_file_is_named(tmp_path):
    path = tmp_path / "bad.dm4"
    path.write_bytes(b"\0\0\0\4" + bytes(100))
    with pytest.raises(InputError, match=r"bad.dm4.*DigitalMicrograph"):
        sf.open_scan(path)


def test_reader_that_lacks_a_package_says_so(tmp_path, monkeypatch):
    path = tmp_path / "scan.blo"
    path.write_bytes(bytes(1000))
    monkeypatch.setitem(sys.modules, "rsciio.blockfile", None)
    with pytest.raises(InputError, match=r"Blockfile needs the package .*pip install"):
        sf.open_scan(path)


def test_missing_package_names_the_extra(tmp_path, monkeypatch):
    path = tmp_path / "scan.mib"
    path.write_bytes(b"HDR" + bytes(100))
    monkeypatch.setitem(sys.modules, "rsciio", None)
    with pytest.raises(InputError, match=r'pip install "scanfold\[vendor\]"'):
        sf.open_scan(path)
