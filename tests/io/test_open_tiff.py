"""TIFF stacks and folders of frames, written with tifffile, are read back equal."""

import numpy as np
import pytest
import tifffile

import scanfold as sf
from scanfold.conventions import InputError


@pytest.fixture
def data():
    return np.random.default_rng(1).integers(0, 1000, (12, 16, 17), dtype=np.uint16)


@pytest.mark.parametrize(
    "options", [{}, {"compression": "zlib"}, {"byteorder": ">"}, {"bigtiff": True}, {"tile": (16, 16)}]
)
def test_stack(tmp_path, data, options):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, data, photometric="minisblack", **options)
    scan = sf.open_scan(path)
    assert scan["data"].dims == ("position", "ky", "kx")
    np.testing.assert_array_equal(scan["data"], data)
    folded = sf.open_scan(path, scan_shape=(3, 4), chunks={"y": 1, "x": 3})
    np.testing.assert_array_equal(folded["data"][1:, 1:3, 4], data.reshape(3, 4, 16, 17)[1:, 1:3, 4])


def test_pages_written_one_by_one(tmp_path, data):
    path = tmp_path / "pages.tiff"
    with tifffile.TiffWriter(path) as writer:
        for page in data:
            writer.write(page, contiguous=False, compression="zlib", metadata=None, photometric="minisblack")
    np.testing.assert_array_equal(sf.open_scan(path)["data"], data)


def test_only_the_pages_asked_for_are_decoded(tmp_path, data, monkeypatch):
    path = tmp_path / "lazy.tif"
    tifffile.imwrite(path, data, compression="zlib", photometric="minisblack")
    scan = sf.open_scan(path, chunks={"position": 6})
    decoded = []
    original = tifffile.TiffPage.asarray
    frame = tifffile.TiffFrame.asarray
    monkeypatch.setattr(
        tifffile.TiffPage, "asarray", lambda p, *a, **o: (decoded.append(p.index), original(p, *a, **o))[1]
    )
    monkeypatch.setattr(
        tifffile.TiffFrame, "asarray", lambda p, *a, **o: (decoded.append(p.index), frame(p, *a, **o))[1]
    )
    np.testing.assert_array_equal(scan["data"][2:4].compute(), data[2:4])
    assert set(decoded) == {2, 3}


def test_declared_axes(tmp_path, data):
    path = tmp_path / "hyperstack.tif"
    tifffile.imwrite(path, data.reshape(3, 4, 16, 17), imagej=True, metadata={"axes": "TZYX"})
    scan = sf.open_scan(path)
    assert scan["data"].dims == ("time", "z", "y", "x")
    np.testing.assert_array_equal(scan["data"], data.reshape(3, 4, 16, 17))
    path = tmp_path / "ome.ome.tif"
    tifffile.imwrite(path, data, metadata={"axes": "CYX"})
    assert sf.open_scan(path)["data"].dims == ("channel", "y", "x")


def test_several_series_are_listed(tmp_path, data):
    path = tmp_path / "series.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(data, photometric="minisblack")
        writer.write(data[:5, :8], photometric="minisblack")
    with pytest.raises(InputError, match=r"dataset=: 0 \(12, 16, 17\) uint16, 1 \(5, 8, 17\)"):
        sf.open_scan(path)
    np.testing.assert_array_equal(sf.open_scan(path, dataset="1")["data"], data[:5, :8])


def test_folder_of_frames_in_natural_order(tmp_path, data):
    for i, frame in enumerate(data):
        tifffile.imwrite(tmp_path / f"frame_{i + 1}.tif", frame)
    scan = sf.open_scan(tmp_path, scan_shape=(3, 4))
    np.testing.assert_array_equal(scan["data"], data.reshape(3, 4, 16, 17))
    name = scan["data"].data.name
    tifffile.imwrite(tmp_path / "frame_3.tif", data[2, :-1])
    with pytest.raises(InputError, match=r"frame_3.tif.*\(15, 17\)"):
        scan["data"].compute()
    assert sf.open_scan(tmp_path, scan_shape=(3, 4))["data"].data.name != name


def test_truncated_stack_is_named(tmp_path, data):
    path = tmp_path / "cut.tif"
    tifffile.imwrite(path, data, photometric="minisblack")
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(InputError, match=r"cut.tif.*(truncated|damaged)"):
        sf.open_scan(path).compute()
