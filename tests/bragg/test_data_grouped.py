"""Opening many spectra: what is paired with what, what is read when, what is refused."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import tifffile
import xarray as xr
import zarr

from scanfold import bragg
from scanfold.bragg import files
from scanfold.conventions import InputError, InputTypeError
from scanfold.io.tables import read_table
from scanfold.testing import raise_if_computes

from .spectra import BINS, level, write, write_all


def transmission(data: bragg.Data, index: object) -> np.ndarray:
    return data.groups[index]["trans"].to_numpy()


@pytest.fixture
def counting(monkeypatch) -> list[str]:
    """Return the paths that are read from now on."""
    read: list[str] = []

    def counted(path, *more):
        read.append(Path(path).name)
        return read_table(path, *more)

    monkeypatch.setattr(files, "read_table", counted)
    return read


@pytest.fixture
def grid(tmp_path) -> Path:
    """A tutorial's grid: 18 columns and 72 rows, each with its own level."""
    for x in range(18):
        for y in range(72):
            write(tmp_path / f"signal_x{x}_y{y}.csv", level(100 * x + y + 1))
            write(tmp_path / f"ob_x{x}_y{y}.csv", level(5000))
    return tmp_path


def test_the_grid_of_the_tutorial(grid, counting):
    with raise_if_computes():
        data = bragg.Data.from_grouped(f"{grid}/signal_*.csv", f"{grid}/ob_*.csv", L=9, tstep=10e-6)
        assert data.group_shape == (72, 18)
        assert len(data.indices) == 18 * 72
        assert data.indices[:2] == ["(0,0)", "(1,0)"]
        assert dict(data.dataset.sizes) == {"y": 72, "x": 18, "tof": BINS}
        assert "72" in repr(data)
    # one file of each kind for its axis, and no other
    assert sorted(set(counting)) == ["ob_x0_y0.csv", "signal_x0_y0.csv"]
    counting.clear()
    for index in ((3, 71), "(3,71)", "( 3, 71 )", (np.int64(3), np.int32(71)), [3, 71], np.array([3, 71])):
        np.testing.assert_allclose(transmission(data, index), level(300 + 71 + 1) / level(5000), rtol=1e-15)
    counting.clear()
    values = data.dataset.compute()
    # errors, counts and transmission together: each file once
    assert len(counting) == len(set(counting)) == 2 * 18 * 72
    x, y = np.meshgrid(np.arange(18), np.arange(72))
    expected = (100 * x + y + 1)[..., None] + np.arange(BINS)
    np.testing.assert_array_equal(values["signal"], expected)
    np.testing.assert_array_equal(values["signal_err"], np.sqrt(expected))


def test_files_pair_by_index_not_by_sort_order(tmp_path):
    numbers = (1, 2, 10)
    write_all(tmp_path, [f"signal_{n}.csv" for n in numbers], lambda i: 100 * numbers[i])
    write_all(tmp_path, [f"ob_{n:03d}.csv" for n in numbers], lambda i: 1000 * numbers[i])
    data = bragg.Data.from_grouped(str(tmp_path / "signal_*.csv"), str(tmp_path / "ob_*.csv"))
    assert data.indices == ["1", "2", "10"]
    for n in numbers:
        np.testing.assert_allclose(transmission(data, n), level(100 * n) / level(1000 * n))
    assert data.group_shape == (3,)
    assert data.dataset["position"].values.tolist() == [1, 2, 10]


def test_lists_are_paired_by_index_too(tmp_path):
    write_all(tmp_path, ["signal_a.csv", "signal_bb.csv"], lambda i: 100 * (i + 1))
    write_all(tmp_path, ["ob_bb.csv", "ob_a.csv"], lambda i: 4000 / (i + 1))
    signal, openbeam = ([tmp_path / n for n in names] for names in (["signal_bb.csv", "signal_a.csv"],
                                                                    ["ob_a.csv", "ob_bb.csv"]))  # fmt: skip
    data = bragg.Data.from_grouped(signal, openbeam)
    assert data.indices == ["bb", "a"]
    np.testing.assert_allclose(transmission(data, "bb"), level(200) / level(4000))


def test_a_missing_partner_is_named(tmp_path):
    write_all(tmp_path, ["signal_1.csv", "signal_2.csv", "ob_1.csv", "ob_3.csv"], lambda i: 10)
    with pytest.raises(InputError, match=r"openbeam: no partner for the signal 'signal_2.csv' \(index 2\).*1, 3"):
        bragg.Data.from_grouped(str(tmp_path / "signal_*"), str(tmp_path / "ob_*"))


@pytest.mark.parametrize("form", ["file", "glob", "frame", "array", "list"])
def test_one_open_beam_serves_all(tmp_path, form):
    write_all(tmp_path / "s", ["center.csv", "edge.csv"], lambda i: 100 * (i + 1))
    write(tmp_path / "open.csv", level(1000))
    openbeam = {
        "file": tmp_path / "open.csv",
        "glob": str(tmp_path / "op*.csv"),
        "frame": pd.DataFrame({"counts": level(1000)}),
        "array": level(1000),
        "list": [tmp_path / "open.csv"],
    }[form]
    if form == "list":  # a list says that there is one for each
        with pytest.raises(InputError, match="no partner"):
            bragg.Data.from_grouped(tmp_path / "s", openbeam)
        return
    data = bragg.Data.from_grouped(tmp_path / "s", openbeam)
    assert data.dataset["openbeam"].dims == ("tof",)
    for i, name in enumerate(("center", "edge")):
        np.testing.assert_allclose(transmission(data, name), level(100 * (i + 1)) / level(1000))


def test_sparse_grids_are_nan_where_absent(tmp_path):
    for x, y in ((2, 0), (4, 0), (4, 10)):
        write(tmp_path / f"signal_x{x}_y{y}.csv", level(100 * x + y))
    data = bragg.Data.from_grouped(str(tmp_path / "signal*"), level(1000))
    # steps of the grid are those of the names, rows before columns
    assert data.group_shape == (2, 2)
    assert data.indices == ["(2,0)", "(4,0)", "(4,10)"]
    assert data.dataset["y"].values.tolist() == [0, 10]
    values = data.dataset.compute()
    assert bool(values["transmission"].sel(y=10, x=2).isnull().all())
    np.testing.assert_array_equal(values["signal"].sel(y=10, x=4), level(410))
    with pytest.raises(KeyError, match="no group"):
        data.groups[(2, 10)]
    assert "(2,10)" not in data.groups
    assert len(data.groups) == 3


def test_dicts_of_frames_and_of_files(tmp_path):
    write(tmp_path / "anything.csv", level(200))
    frames = {
        (0, 1): pd.DataFrame({"tof": np.arange(1, BINS + 1), "counts": level(100)}),
        "(2, 0)": tmp_path / "anything.csv",
    }
    data = bragg.Data.from_grouped(frames, level(1000))
    assert data.indices == ["(0,1)", "(2,0)"]
    # pairs are (row, column)
    assert data.group_shape == (2, 2)
    np.testing.assert_allclose(transmission(data, "(2,0)"), level(200) / level(1000))
    single = bragg.Data.from_grouped({"5": level(10), 7: level(20)}, {7: level(200), 5: level(100)})
    assert single.indices == ["5", "7"]
    np.testing.assert_allclose(transmission(single, 7), level(20) / level(200))


def test_indices_name_select_and_order(tmp_path):
    write_all(tmp_path, ["s_1.csv", "s_2.csv", "s_3.csv"], lambda i: 100 * (i + 1))
    files_ = [tmp_path / f"s_{n}.csv" for n in (1, 2, 3)]
    renamed = bragg.Data.from_grouped(files_, level(1000), indices=["center", "edge", "corner"])
    assert renamed.indices == ["center", "edge", "corner"]
    np.testing.assert_allclose(transmission(renamed, "corner"), level(300) / level(1000))
    chosen = bragg.Data.from_grouped(files_, level(1000), indices=[3, 1])
    assert chosen.indices == ["3", "1"]
    np.testing.assert_allclose(transmission(chosen, 3), level(300) / level(1000))
    frames = [pd.DataFrame({"counts": level(n)}) for n in (10, 20)]
    assert bragg.Data.from_grouped(frames, level(100), indices=["a", "b"]).indices == ["a", "b"]
    assert bragg.Data.from_grouped(frames, level(100)).indices == ["0", "1"]
    with pytest.raises(InputError, match="indices: 9 is not there"):
        bragg.Data.from_grouped(files_, level(1000), indices=[3, 9])


def test_query_selects_before_anything_is_opened(grid, counting):
    data = bragg.Data.from_grouped(f"{grid}/signal_*.csv", f"{grid}/ob_*.csv", query="x == 17 and y >= 70")
    assert data.indices == ["(17,70)", "(17,71)"]
    data.dataset.compute()
    assert set(counting) == {f"{k}_x17_y{y}.csv" for k in ("signal", "ob") for y in (70, 71)}
    with pytest.raises(InputError, match="it may use y, x"):
        bragg.Data.from_grouped(f"{grid}/signal_*.csv", f"{grid}/ob_*.csv", query="z > 3")
    with pytest.raises(InputError, match="leaves no group"):
        bragg.Data.from_grouped(f"{grid}/signal_*.csv", f"{grid}/ob_*.csv", query="x > 100")


def stack(bins: int = BINS) -> np.ndarray:
    rng = np.random.default_rng(3)
    return rng.poisson(500, (bins, 4, 5)).astype("uint16")


@pytest.mark.parametrize("form", ["tiff", "folder", "hdf5", "zarr", "array", "nexus"])
def test_stacks(tmp_path, form):
    signal, openbeam = stack(), 2 * stack() + 1
    given = []
    for name, frames in (("signal", signal), ("open", openbeam)):
        path = tmp_path / f"{name}.{ {'tiff': 'tif', 'hdf5': 'h5', 'nexus': 'nxs'}.get(form, form) }"
        if form == "tiff":
            tifffile.imwrite(path, frames)
        elif form == "folder":
            path.mkdir()
            for i, frame in enumerate(frames):
                tifffile.imwrite(path / f"frame_{i}.tif", frame)
        elif form == "hdf5":
            with h5py.File(path, "w") as file:
                file.create_dataset("counts", data=frames, chunks=(1, 4, 5))
        elif form == "zarr":
            zarr.create_array(str(path), data=frames, chunks=(3, 4, 5))
        elif form == "nexus":
            with h5py.File(path, "w") as file:
                data = file.create_group("data")
                file.attrs["default"], data.attrs["NX_class"] = "data", "NXdata"
                data.attrs["signal"], data.attrs["axes"] = "counts", ["y", "x", "tof"]
                data["counts"] = np.moveaxis(frames, 0, -1)
                data["tof"] = 10.0 * np.arange(1, BINS + 1)
                data["tof"].attrs["units"] = "us"
        given.append(path if form != "array" else xr.DataArray(frames, dims=("tof", "y", "x")))
    with raise_if_computes():
        data = bragg.Data.from_grouped(*given)
    assert data.group_shape == (4, 5)
    assert data.indices[:2] == ["(0,0)", "(0,1)"]
    assert len(data.dataset.chunksizes.get("tof", (BINS,))) == 1
    np.testing.assert_allclose(data.dataset["tof"], 10e-6 * np.arange(1, BINS + 1), rtol=1e-12)
    np.testing.assert_allclose(transmission(data, (3, 2)), signal[:, 3, 2] / openbeam[:, 3, 2])
    np.testing.assert_allclose(data.groups[(3, 2)]["signal_err"], np.sqrt(signal[:, 3, 2].astype(float)))


def test_a_stack_with_one_open_beam_indices_and_a_query():
    frames = xr.DataArray(stack(), dims=("tof", "y", "x"))
    data = bragg.Data.from_grouped(frames, level(1000), query="x > 2 and y == 1")
    assert data.indices == ["(1,3)", "(1,4)"]
    two = bragg.Data.from_grouped(frames, level(1000), indices=["(0,0)", (3, 4)])
    assert two.indices == ["(0,0)", "(3,4)"]
    np.testing.assert_allclose(transmission(two, (3, 4)), stack()[:, 3, 4] / level(1000))
    wavelength = np.linspace(1, 5, len(level(1000)))
    beam = xr.DataArray(level(1000), dims="wavelength", coords={"wavelength": wavelength})
    labelled = frames.rename(tof="wavelength").assign_coords(wavelength=wavelength)
    same = bragg.Data.from_grouped(labelled, beam, indices=[(3, 4)])
    np.testing.assert_allclose(transmission(same, (3, 4)), stack()[:, 3, 4] / level(1000))


def test_stacks_that_do_not_fit_are_refused():
    frames = xr.DataArray(stack(), dims=("tof", "y", "x"))
    with pytest.raises(InputError, match="openbeam has 11 bins and signal has 12"):
        bragg.Data.from_grouped(frames, frames.isel(tof=slice(11)))
    with pytest.raises(InputError, match="openbeam has the shape"):
        bragg.Data.from_grouped(frames, frames.isel(x=slice(3)))
    with pytest.raises(InputError, match="expected positions"):
        bragg.Data.from_grouped(frames.rename(y="a", x="b"), frames)
    with pytest.raises(InputTypeError, match=r"dims=\('y', 'x', 'tof'\)"):
        bragg.Data.from_grouped(frames.values, frames)
    with pytest.raises(InputError, match="negative counts"):
        bragg.Data.from_grouped(frames.astype(float) - 1e4, frames)


def test_files_that_do_not_belong_together(tmp_path, grid):
    write(tmp_path / "short.csv", level(10)[:-1])
    with pytest.raises(InputError, match=r"short\.csv' has 11 bins and .* has 12"):
        bragg.Data.from_grouped(f"{grid}/signal_*.csv", tmp_path / "short.csv")
    write(tmp_path / "shifted.csv", level(10), first=2)
    with pytest.raises(InputError, match=r"shifted.csv' has another time-of-flight column \(2 … 13\)"):
        bragg.Data.from_grouped(f"{grid}/signal_*.csv", tmp_path / "shifted.csv")
    # in the middle of many, it is found when it is read, and named
    write(tmp_path / "signal_x3_y7.csv", level(10)[:-1])
    data = bragg.Data.from_grouped(f"{grid}/signal_*.csv", f"{grid}/ob_*.csv")
    with pytest.raises(InputError, match=r"signal_x3_y7\.csv' has 11 bins"):
        data.dataset["transmission"].compute()
    assert np.isfinite(transmission(data, (17, 71))).all()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"signal": "{}/nothing_*.csv"}, InputError, "signal: no file matches"),
        ({"signal": "{}/no_such.csv"}, InputError, "no_such.csv"),
        ({"openbeam": "{}/no/ob_*.csv"}, InputError, "there is no folder"),
        ({"openbeam": None}, InputError, "openbeam is missing"),
        ({"empty_signal": "{}/signal_1.csv"}, InputError, "empty_openbeam is missing"),
        ({"signal": []}, InputError, "empty list"),
        ({"signal": 5}, InputTypeError, "signal is a int"),
        ({"signal": {"a": 5.0}}, InputTypeError, "signal has a float"),
        ({"signal": {"a": [1], 2: [1]}}, InputError, "mix pairs, numbers and names"),
        ({"L": 0}, InputError, "L=0; expected a number above 0"),
        ({"t0": 1.4}, InputError, "offset in seconds"),
        ({"n_jobs": "all"}, InputTypeError, "n_jobs"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_read(tmp_path, arguments, error, message):
    write_all(tmp_path, ["signal_1.csv", "signal_2.csv"], lambda i: 10)
    filled = {k: v.format(tmp_path) if isinstance(v, str) else v for k, v in arguments.items()}
    with pytest.raises(error, match=message):
        bragg.Data.from_grouped(**{"signal": f"{tmp_path}/signal_*.csv", "openbeam": level(10), **filled})


def test_names_that_are_not_there_suggest_close_ones():
    data = bragg.Data.from_grouped({"center": level(1), "edge": level(2)}, level(10))
    with pytest.raises(InputError, match="did you mean 'center'"):
        data.groups["centre"]
    assert data.group_shape is None
    assert data.is_grouped


def test_one_spectrum_of_each_kind(tmp_path):
    one = bragg.Data.from_counts(write(tmp_path / "s.csv", level(100)), write(tmp_path / "o.csv", level(1000)))
    assert not one.is_grouped
    assert one.indices is None
    assert one.group_shape is None
    np.testing.assert_allclose(one.table["trans"], level(100) / level(1000))
    for text, index in (
        ("wl trans err\n1 0.5 0.1\n2 0.6 0.1\n", "wavelength"),
        ("wavelength,trans,err\n1,0.5,0.1\n2,0.6,0.1\n", "wavelength"),
        ("1,0.5\n2,0.6\n", "wavelength"),
        ("energy,trans,err\n0.02045105,0.6,0.1\n0.0818042,0.5,0.1\n", "energy"),
    ):
        (tmp_path / "t.txt").write_text(text)
        read = bragg.Data.from_transmission(tmp_path / "t.txt", index)
        np.testing.assert_allclose(read.dataset["wavelength"], [1, 2], rtol=1e-12)
        np.testing.assert_allclose(read.table["trans"], [0.5, 0.6])
    with pytest.raises(InputError, match="expected 'wavelength'"):
        bragg.Data.from_transmission(tmp_path / "t.txt", "energie")
    with pytest.raises(InputError, match="no file"):
        bragg.Data.from_counts(tmp_path / "gone.csv", level(3))
    with pytest.raises(InputError, match="needs counts"):
        read + read


def test_tables_leave_out_rows_if_asked():
    signal = level(0)  # the first bin has no counts, and so no error
    assert len(bragg.Data.from_counts(signal, level(10)).table) == BINS
    kept = bragg.Data.from_counts(signal, level(10), dropna=True).table
    assert len(kept) == BINS - 1


def test_datasets_of_ones_own():
    signal = xr.DataArray(stack(), dims=("wavelength", "y", "x"), coords={"wavelength": np.linspace(1, 5, BINS)})
    data = bragg.Data.from_dataset(xr.Dataset({"signal": signal, "openbeam": 2 * signal}, attrs={"L": 12.0}))
    np.testing.assert_allclose(data.dataset["wavelength"], np.linspace(1, 5, BINS))
    assert data.L == 12.0
    again = bragg.Data.from_dataset(data.dataset)
    xr.testing.assert_allclose(again.dataset, data.dataset, rtol=1e-12)
    with pytest.raises(InputError, match="expected signal and openbeam, or transmission"):
        bragg.Data.from_dataset(xr.Dataset({"counts": signal}))


def test_every_file_is_its_own_identity(tmp_path):
    write_all(tmp_path, ["signal_1.csv", "signal_2.csv"], lambda i: 10)
    names = [bragg.Data.from_grouped(f"{tmp_path}/signal_*.csv", level(10)).dataset["signal"].data.name]
    names.append(bragg.Data.from_grouped(f"{tmp_path}/signal_*.csv", level(10)).dataset["signal"].data.name)
    write(tmp_path / "signal_2.csv", level(11))
    names.append(bragg.Data.from_grouped(f"{tmp_path}/signal_*.csv", level(10)).dataset["signal"].data.name)
    assert names[0] == names[1] != names[2]
