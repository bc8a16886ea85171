"""Ptychography files: every layout gives frames with zero frequency in the middle, at positions, lazily."""

import json
import zipfile

import h5py
import numpy as np
import pytest

import scanfold as sf
from scanfold.conventions import InputError
from scanfold.io import views
from scanfold.io.arrays import FileArray
from scanfold.io.describe import describe
from scanfold.io.numpy import MappedArray
from scanfold.io.rows import Rows

M, N = 12, 6


@pytest.fixture
def content():
    rng = np.random.default_rng(0)
    return {
        "diff3d": rng.uniform(0, 5, (M, N, N)).astype("f4"),
        "xcoords": rng.uniform(0, 50, M),
        "ycoords": rng.uniform(0, 50, M),
        "probeGuess": (rng.normal(size=(N, N)) + 1j).astype("c8"),
        "objectGuess": (rng.normal(size=(60, 70)) + 1j).astype("c8"),
        "Y": (rng.normal(size=(M, N, N)) + 1j).astype("c8"),
        "xcoords_start": rng.uniform(0, 50, M),
        "ycoords_start": rng.uniform(0, 50, M),
        "object_index": np.arange(M) % 2,
        "_metadata": np.array(json.dumps({"physics_parameters": {"nphotons": 1e9}})),
    }


def saved(path, content, **change):
    arrays = {k: v for k, v in {**content, **change}.items() if v is not None}
    np.savez(path, **arrays)
    return path


def test_the_npz_contract(content, tmp_path):
    scan = sf.open_scan(saved(tmp_path / "a.npz", content), format="ptycho", chunks={"position": 5})
    assert scan.attrs["kind"] == scan.diffraction.attrs["kind"] == "amplitude"
    assert scan.diffraction.data.numblocks == (3, 1, 1)
    for name, key in {
        "diffraction": "diff3d", "position_x": "xcoords", "position_y": "ycoords", "probe": "probeGuess",
        "object": "objectGuess", "Y": "Y", "position_x_nominal": "xcoords_start", "object_index": "object_index",
    }.items():  # fmt: skip
        np.testing.assert_array_equal(scan[name], content[key])
    assert scan.position_y.attrs["units"] == "pixel"
    assert scan.kx.values.tolist() == [-3, -2, -1, 0, 1, 2]
    assert json.loads(scan.attrs["metadata"])["physics_parameters"]["nphotons"] == 1e9
    assert Rows.of(scan.diffraction).take(np.array([7, 2, 7])).shape == (3, N, N)


def test_its_description_says_how_to_open_it(content, tmp_path):
    found = describe(saved(tmp_path / "a.npz", content))
    assert found.command == f"sf.open_scan({found.path!r}, format='ptycho')"


def test_coordinates_alone_do_not_read_the_frames(content, tmp_path, monkeypatch):
    path = saved(tmp_path / "a.npz", content)
    read = []
    monkeypatch.setattr(MappedArray, "read", lambda s, r, f=MappedArray.read: (read.append(s.dataset), f(s, r))[1])
    scan = sf.open_scan(path, format="ptycho")
    assert scan.position_x.size == M
    assert "diff3d" not in read
    scan.diffraction[2:4].compute()
    assert read.count("diff3d") == 1


def test_other_ways_to_write_it(content, tmp_path):
    turned = np.moveaxis(content["diff3d"], 0, -1)
    for change, kind in (
        ({"diff3d": turned}, "amplitude"),
        ({"diff3d": None, "diffraction": content["diff3d"]}, "amplitude"),
        ({"diff3d": (content["diff3d"] * 100).astype("u2")}, "intensity"),
        ({"probeGuess": content["probeGuess"][..., None], "Y": content["Y"][..., None]}, "amplitude"),
        ({"probeGuess": np.stack([content["probeGuess"]] * 3)}, "amplitude"),
        ({"xcoords_start": None, "ycoords_start": None, "Y": None, "objectGuess": None}, "amplitude"),
    ):
        scan = sf.open_scan(saved(tmp_path / "b.npz", content, **change), format="ptycho")
        assert scan.attrs["kind"] == kind
        expected = change.get("diff3d", content["diff3d"]) if kind == "intensity" else content["diff3d"]
        np.testing.assert_array_equal(scan.diffraction, expected)
        assert scan.probe.shape[-2:] == (N, N)
    assert "position_x_nominal" not in scan.coords
    assert sf.open_scan(tmp_path / "b.npz", format="ptycho", kind="intensity").attrs["kind"] == "intensity"


def test_the_layout_of_tike_is_centred(tmp_path):
    rng = np.random.default_rng(1)
    frames, table = rng.uniform(size=(M, N, N)).astype("f4"), rng.uniform(size=(M, 2)).astype("f4")
    np.savez(tmp_path / "t.npz", data=frames, scan=table, probe=np.ones((N, N), "c8"))
    scan = sf.open_scan(tmp_path / "t.npz", format="ptycho", chunks={"position": 5, "ky": 4})
    np.testing.assert_array_equal(scan.diffraction, np.fft.fftshift(frames, axes=(1, 2)))
    np.testing.assert_array_equal(scan.position_y, table[:, 0])  # column 0 is the row
    assert scan.attrs["kind"] == "intensity"


def test_bad_npz_files_say_what_is_wrong(content, tmp_path):
    frames = content["diff3d"]
    for change, message in (
        ({"diff3d": None}, r"no frames: expected diff3d or diffraction \(M, N, N\), found xcoords \(12,\) float64"),
        ({"ycoords": None, "ycoords_start": None}, r"no position_y: expected xcoords and ycoords"),
        ({"ycoords": content["ycoords"][:9]}, r"position_y|12 positions|9 positions"),
        ({"xcoords": content["xcoords"][:9]}, r"position_x has shape \(9,\) and there are 12 frames"),
        ({"diff3d": frames[0]}, r"has shape \(6, 6\); expected frames \(M, N, N\)"),
        ({"diff3d": frames[:, :, :5]}, r"are 6 × 5; expected square ones"),
        ({"diff3d": frames[:7]}, r"12 positions and frames \(7, 6, 6\)"),
        ({"probeGuess": np.ones((5, 5))}, r"probe 'probeGuess' .* \(5, 5\), and the frames are 6 × 6"),
        ({"objectGuess": np.ones(5)}, r"object 'objectGuess' .* \(5,\); expected \(H, W\)"),
        ({"xcoords": content["xcoords"].astype(object)}, "pickled objects, which could run code"),
    ):
        path = saved(tmp_path / "bad.npz", content, **change)
        with pytest.raises(InputError, match=message):
            sf.open_scan(path, format="ptycho")


def test_pickled_metadata_is_left_out(content, tmp_path):
    path = saved(tmp_path / "a.npz", content, _metadata=np.array({"nphotons": 1e9}, dtype=object))
    with pytest.warns(UserWarning, match="pickled object, which could run code: it is left out"):
        scan = sf.open_scan(path, format="ptycho")
    assert "metadata" not in scan.attrs


def test_truncated_and_foreign_files(content, tmp_path):
    path = saved(tmp_path / "a.npz", content)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"a\.npz"):
        sf.open_scan(path, format="ptycho")
    with zipfile.ZipFile(tmp_path / "z.npz", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(InputError, match=r"no frames.*found no arrays"):
        sf.open_scan(tmp_path / "z.npz", format="ptycho")
    with pytest.raises(InputError, match="unknown format 'ptyco'; did you mean 'ptycho'"):
        sf.open_scan(path, format="ptyco")
    with pytest.raises(InputError, match="go with format='ptycho'"):
        sf.open_scan(saved(tmp_path / "b.npz", content), kind="amplitude")
    with pytest.raises(InputError, match="unknown field 'frames'"):
        sf.open_scan(tmp_path / "b.npz", format="ptycho", fields={"frames": "diff3d"})


def write(path, arrays, **attrs):
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values
        for name, units in attrs.items():
            file[name.replace("__", "/")].attrs["units"] = units
    return path


@pytest.fixture
def measured():
    rng = np.random.default_rng(2)
    return rng.integers(0, 999, (M, N, N)).astype("u2"), rng.uniform(0, 1e-5, (M, 2))


def test_cxi(measured, tmp_path):
    frames, yx = measured
    path = write(
        tmp_path / "a.cxi",
        {
            "entry_1/data_1/data": frames,
            "entry_1/data_1/translation": np.c_[yx[:, 1], yx[:, 0], 0 * yx[:, 0]],
            "entry_1/instrument_1/source_1/energy": 1.28e-15,
            "entry_1/instrument_1/source_1/illumination": np.ones((N, N), "c8"),
            "entry_1/instrument_1/detector_1/distance": 2.0,
            "entry_1/instrument_1/detector_1/x_pixel_size": 75e-6,
        },
    )
    scan = sf.open_scan(path, format="ptycho")
    check(scan, frames, yx)
    assert float(scan.energy) == 1.28e-15
    assert scan.energy.attrs["units"] == "J"
    assert scan.probe.shape == (N, N)
    assert sf.grouping.to_pixels(scan).position_y.attrs["units"] == "pixel"


def check(scan, frames, yx, units="m"):
    np.testing.assert_array_equal(scan.diffraction, frames)
    np.testing.assert_array_equal(np.c_[scan.position_y, scan.position_x], yx)
    assert scan.position_y.attrs.get("units", "") == units
    assert scan.attrs["kind"] == "intensity"
    groups = sf.grouping.gather(scan, sf.grouping.plan_groups(scan, nsamples=3, gridsize=2))
    np.testing.assert_array_equal(groups.diffraction, frames[groups.nn_indices.values])


@pytest.mark.parametrize("raster", [False, True])
def test_nxcxi_ptycho(measured, raster, tmp_path):
    frames, yx = measured
    if raster:
        grid = np.stack(np.meshgrid([0.0, 1.0, 2.0], [5.0, 6.0, 7.0, 9.0], indexing="ij"), axis=-1)
        yx, y, x, data = grid.reshape(-1, 2), grid[:, 0, 0], grid[0, :, 1], frames.reshape(3, 4, N, N)
    else:
        y, x, data = yx[:, 0], yx[:, 1], frames
    path = write(
        tmp_path / "n.h5",
        {
            "entry_1/instrument_1/detector_1/data": data,
            "entry_1/sample_1/transformations/x": x,
            "entry_1/sample_1/transformations/y": y,
        },
        entry_1__sample_1__transformations__x="m",
    )
    check(sf.open_scan(path, format="ptycho", chunks={"position": 5}), frames, yx)


def test_ptyd(measured, tmp_path):
    frames, yx = measured
    path = write(
        tmp_path / "a.ptyd",
        {
            "chunks/0/data": frames[:5], "chunks/0/positions": yx[:5], "chunks/1/data": frames[5:],
            "chunks/1/positions": yx[5:], "meta/energy": 7.2, "meta/distance": 7.0, "meta/psize": [1e-8, 1e-8],
        },
    )  # fmt: skip
    scan = sf.open_scan(path, format="ptycho", chunks={"position": 4})
    check(scan, frames, yx)
    assert scan.energy.attrs["units"] == "keV"
    assert float(scan.pixel_size) == 1e-8


def test_named_fields(measured, tmp_path):
    frames, yx = measured
    path = write(tmp_path / "p.h5", {"det/frames": frames, "motors": yx, "first": np.ones((N, N), "c8")}, motors="um")
    fields = {"diffraction": "det/frames", "positions": "motors", "probe": "first"}
    scan = sf.open_scan(path, format="ptycho", fields=fields)
    check(scan, frames, yx, "um")
    assert scan.probe.dims == ("probe_y", "probe_x")
    with pytest.raises(InputError, match=r"follows none of the layouts.*det/frames \(12, 6, 6\)"):
        sf.open_scan(path, format="ptycho")
    with pytest.raises(InputError, match="no dataset 'motor' for 'positions'"):
        sf.open_scan(path, format="ptycho", fields=fields | {"positions": "motor"})


def test_views_read_any_box(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 99, (3, 4, 5, 6))
    np.save(tmp_path / "a.npy", values)
    base = MappedArray(str(tmp_path / "a.npy"), "", values.shape, values.dtype, 128, "C")
    for view, expected in (
        (views.LastFirst.of(base), np.moveaxis(values, -1, 0)),
        (views.Centred.of(base), np.fft.fftshift(values, axes=(-2, -1))),
        (views.Unfolded.of(base), values.reshape(12, 5, 6)),
    ):
        assert isinstance(view, FileArray)
        for _ in range(40):
            key = tuple(slice(*sorted(rng.choice(n + 1, 2, replace=False))) for n in expected.shape)
            np.testing.assert_array_equal(view[key], expected[key])


@pytest.mark.parametrize("chunk", [1, 5, 100])
def test_rows_are_read_once_in_pieces(chunk, tmp_path, monkeypatch):
    values = np.random.default_rng(0).integers(0, 99, (40, 5, 6))
    np.save(tmp_path / "a.npy", values)
    base = MappedArray(str(tmp_path / "a.npy"), "", values.shape, values.dtype, 128, "C")
    read = []
    monkeypatch.setattr(MappedArray, "read", lambda s, r, f=MappedArray.read: (read.append(r[0]), f(s, r))[1])
    wanted = np.array([[30, 2], [2, 31], [39, 30]]).ravel()
    np.testing.assert_array_equal(Rows(base, chunk).take(wanted), values[wanted])
    rows = [i for s in read for i in range(s.start, s.stop)]
    assert len(rows) == len(set(rows))
    assert Rows(base, chunk).take(np.array([], int)).shape == (0, 5, 6)
