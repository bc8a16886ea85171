"""NPY and NPZ files: mapped or streamed, never unpickled, and headers are not believed."""

import io
import zipfile

import numpy as np
import pytest

import scanfold as sf
from scanfold.conventions import InputError
from scanfold.io import numpy as files


@pytest.fixture
def data():
    return np.random.default_rng(1).integers(0, 1000, (12, 4, 5), dtype=np.uint16)


class Bomb:
    """Writes a marker when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["npy", "npz", "compressed"])
@pytest.mark.filterwarnings("ignore:.*compressed as a whole")
def test_read_back_equal(tmp_path, data, order, kind):
    array = np.asarray(data, order=order)
    path = tmp_path / ("a.npy" if kind == "npy" else "a.npz")
    {"npy": np.save, "npz": lambda p, a: np.savez(p, d=a), "compressed": lambda p, a: np.savez_compressed(p, d=a)}[
        kind
    ](path, array)
    for chunks in ("auto", {"position": 5}, 3):
        scan = sf.open_scan(path, chunks=chunks)
        np.testing.assert_array_equal(scan[scan.attrs["primary"]], data)
    folded = sf.open_scan(path, scan_shape=(3, 4), chunks={"y": 2, "x": 3})
    np.testing.assert_array_equal(folded[folded.attrs["primary"]][1:, 2], data.reshape(3, 4, 4, 5)[1:, 2])


def test_big_endian_and_bool(tmp_path, data):
    np.save(tmp_path / "be.npy", data.astype(">f8"))
    np.testing.assert_array_equal(sf.open_scan(tmp_path / "be.npy")["data"], data)
    np.save(tmp_path / "mask.npy", data > 500)
    np.testing.assert_array_equal(sf.open_scan(tmp_path / "mask.npy")["data"], data > 500)


def test_compression_is_noted_with_its_cost(tmp_path, data, monkeypatch):
    np.savez_compressed(tmp_path / "c.npz", d=data)
    with pytest.warns(UserWarning, match=r"'d' in .*c.npz' is compressed.*one block, decompressed by one task"):
        scan = sf.open_scan(tmp_path / "c.npz")
    assert scan["d"].data.npartitions == 1
    monkeypatch.setattr(files, "WHOLE", 100)
    with pytest.warns(UserWarning, match="decompressed from its start by every block"):
        sf.open_scan(tmp_path / "c.npz")


def test_uncompressed_member_is_not_loaded(tmp_path, data, monkeypatch):
    np.savez(tmp_path / "u.npz", d=data, other=data[0, 0])
    scan = sf.open_scan(tmp_path / "u.npz", chunks={"position": 6})
    seen = []
    original = files.MappedArray.read
    monkeypatch.setattr(files.MappedArray, "read", lambda s, r: (seen.append(r[0]), original(s, r))[1])
    np.testing.assert_array_equal(scan["d"][2:4].compute(), data[2:4])
    assert seen == [slice(2, 4)]


def test_members_are_listed(tmp_path, data):
    np.savez(tmp_path / "two.npz", a=data, b=data, names=np.array(["x", "y"]))
    with pytest.raises(InputError, match=r"dataset=: a \(12, 4, 5\) uint16, b"):
        sf.open_scan(tmp_path / "two.npz")
    np.testing.assert_array_equal(sf.open_scan(tmp_path / "two.npz", dataset="b")["b"], data)
    with pytest.raises(InputError, match="no array 'c'"):
        sf.open_scan(tmp_path / "two.npz", dataset="c")
    with pytest.raises(InputError, match="holds no numbers"):
        sf.open_scan(tmp_path / "two.npz", dataset="names")


def test_pickles_are_refused_and_not_run(tmp_path):
    marker = tmp_path / "ran"
    objects = np.array([[Bomb(marker), 1], [2, 3]], dtype=object)
    np.save(tmp_path / "o.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "o.npz", d=objects)
    for name in ("o.npy", "o.npz"):
        with pytest.raises(InputError, match=r"o\.np. ?|numeric"):
            sf.open_scan(tmp_path / name)
    with pytest.raises(InputError, match="pickled objects, which could run code"):
        sf.open_scan(tmp_path / "o.npz", dataset="d")
    assert not marker.exists()


def _member(shape, payload):
    stream = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + payload


def test_lying_headers_are_refused(tmp_path):
    lie = _member((10**5, 10**6), bytes(80))
    (tmp_path / "lie.npy").write_bytes(lie)
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / f"lie{method}.npz", "w", method) as archive:
            archive.writestr("d.npy", lie)
    for name in ("lie.npy", "lie0.npz", "lie8.npz"):
        with pytest.raises(InputError, match=r"its header claims 800,000,000,000 bytes.* 80"):
            sf.open_scan(tmp_path / name)


def test_a_bomb_is_read_in_parts_only(tmp_path):
    """0.56 GB of zeros in 0.5 MB: opening reads the header, a block reads its rows."""
    rows = 70_000
    head = _member((rows, 1000), b"")
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("d.npy", "w") as m:
        m.write(head)
        for _ in range(rows // 1000):
            m.write(bytes(8 * 1000 * 1000))
    with pytest.warns(UserWarning, match="every block"):
        scan = sf.open_scan(tmp_path / "bomb.npz")
    assert max(scan["d"].data.chunks[0]) * 8000 <= 128 * 2**20
    assert not scan["d"][100:102].compute().any()


def test_truncated_files(tmp_path, data):
    np.save(tmp_path / "t.npy", data)
    np.savez(tmp_path / "t.npz", d=data)
    for name in ("t.npy", "t.npz"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[:-100])
        with pytest.raises(InputError, match=rf"{name}.*truncated"):
            sf.open_scan(tmp_path / name)


def test_empty_arrays_are_refused(tmp_path):
    for shape in ((), (0, 5)):
        np.save(tmp_path / "e.npy", np.zeros(shape))
        with pytest.raises(InputError, match="no scan in it"):
            sf.open_scan(tmp_path / "e.npy")


def test_positions_of_the_siemens_star(real_data):
    path = real_data / "ptycho" / "siemens_star.npz"
    with np.load(path) as expected:
        reference = expected["data"]
    scan = sf.open_scan(path)
    assert scan["data"].dims == ("position", "ky", "kx")
    np.testing.assert_array_equal(scan["data"][100:103].compute(), reference[100:103])
