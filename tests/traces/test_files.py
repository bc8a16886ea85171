"""CSV files of every layout: found, read, refused, written and read again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import scanfold as sf
from scanfold import traces
from scanfold.conventions import InputError
from scanfold.testing import raise_if_computes
from scanfold.traces import discover_csv_files, load_analysis_csv, write_analysis_csv
from scanfold.traces.discovery import UNITS, is_result, per_hour, result_path

from . import cases

NAMES = st.text("abcXYZ019 _-.", min_size=1, max_size=12).filter(lambda n: n.strip(" .") == n)


@given(NAMES, st.sampled_from(["", *traces.list_models()]), st.sampled_from([".csv", ".CSV", ".Csv"]), st.booleans())
def test_results_are_known_by_the_end_of_their_names_only(stem: str, model: str, suffix: str, upper: bool):
    ending = f"_fitted_{model}" if model else "_fitted"
    ending = ending.upper() if upper else ending
    assert is_result(Path(stem + ending + suffix))
    assert not is_result(Path(f"{stem}{ending}_of_lens{suffix}"))
    assert is_result(result_path(Path(stem + suffix), Path(), ending.lower()))


def test_discovery(tmp_path: Path):
    for name in ("b.csv", "a.CSV", "c_fitted.csv", "c_fitted_trivial.csv", "c_FITTED_Maturation.CSV", "x_traces.csv"):
        (tmp_path / name).touch()
    for name in ("not_fitted_yet.csv", "fitted.csv", "notes.txt", "traces_1.csv", "my_fitted_lens.csv"):
        (tmp_path / name).touch()
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "._b.csv").touch()
    expected = ["a.CSV", "b.csv", "fitted.csv", "my_fitted_lens.csv", "not_fitted_yet.csv", "traces_1.csv"]
    assert [p.name for p in discover_csv_files(tmp_path)] == expected
    assert discover_csv_files(tmp_path / "x_traces.csv") == [tmp_path / "x_traces.csv"]
    with pytest.raises(InputError, match="load_fitted"):
        discover_csv_files(tmp_path / "c_fitted.csv")
    with pytest.raises(InputError, match="no file or folder"):
        discover_csv_files(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no CSV files"):
        discover_csv_files(tmp_path / "folder.csv")


@given(st.sampled_from(sorted(UNITS)), st.booleans(), st.sampled_from(["", " ", "\t"]))
def test_units_of_time(word: str, upper: bool, around: str):
    expected = {"s": 3600, "m": 60, "h": 1}[word[0]]
    assert per_hour(around + (word.upper() if upper else word) + around, "f.csv") == expected


@given(st.text(max_size=8).filter(lambda w: w.strip().lower() not in UNITS))
def test_other_units_are_refused_with_the_file_and_the_words(word: str):
    with pytest.raises(InputError, match=r"f\.csv: time units .* s, sec, seconds, m, min, minutes, h, hr, hrs, hour"):
        per_hour(word, "f.csv")


@pytest.mark.parametrize("units", ["h", "min", "s"])
@pytest.mark.parametrize("write", [cases.write_wide, cases.write_tidy])
def test_layouts_and_units_give_the_same_traces(tmp_path: Path, write, units: str):
    values, _ = cases.traces("maturation", 4)
    with raise_if_computes():
        ds = load_analysis_csv(write(tmp_path / "a.csv", values, units=units))
    assert ds["value"].dims == ("cell", "time")
    assert ds["time"].attrs["units"] == "h"
    np.testing.assert_allclose(ds["time"], cases.TIMES, rtol=1e-15)
    np.testing.assert_array_equal(ds["value"], values)


def test_the_table_that_traces_are_made_from(tmp_path: Path):
    values, _ = cases.traces("maturation", 5)
    path = cases.write_upstream(tmp_path / "a_traces.csv", values, fov=2)
    with pytest.raises(InputError, match=r"several features.*intensity_total_ch_1"):
        load_analysis_csv(path)
    with pytest.raises(InputError, match="did you mean 'area_ch_0'"):
        load_analysis_csv(path, feature="area_ch_1")
    ds = load_analysis_csv(path, feature="intensity_total_ch_1")
    np.testing.assert_array_equal(ds["intensity_total_ch_1"], values)
    np.testing.assert_allclose(ds["time"], cases.TIMES)  # in min without a line that says otherwise
    assert ds["good"].values.tolist() == [False, True, True, False, True]
    np.testing.assert_allclose(ds["position_x"], [0, 10, 20, 30, 40], atol=1e-12)
    assert ds["cell"].values.tolist() == [f"fov_002_cell_{i}" for i in range(5)]
    np.testing.assert_array_equal(load_analysis_csv(path, feature="area_ch_0")["area_ch_0"], 2 * values)


def test_cells_with_other_times_are_padded(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text("time,fov,cell,value\n0,1,0,5\n2,1,0,6\n1,1,7,8\n2,1,7,9\n3,0,b,1\n".replace("b", "4"))
    ds = load_analysis_csv(path)
    assert ds["time"].values.tolist() == [0, 1, 2, 3]
    nan = np.nan
    np.testing.assert_array_equal(ds["value"], [[nan, nan, nan, 1], [5, nan, 6, nan], [nan, 8, 9, nan]])
    assert ds["fov"].values.tolist() == [0, 1, 1]
    assert ds["cell_id"].values.tolist() == [4, 0, 7]


def test_merged_columns_name_field_and_cell(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text("time,fov_001_cell_3,fov_012_cell_0\n0,1,2\n1,3,4\n")
    ds = load_analysis_csv(path)
    assert ds["fov"].values.tolist() == [1, 12]
    assert ds["cell_id"].values.tolist() == [3, 0]


def test_marks_blanks_and_gaps_are_read(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_bytes("\ufeff# made by hand\n# time UNITS: Min \nzeit, a,b\n0,1,\n\n30,NaN,inf\n".encode())
    ds = load_analysis_csv(path)
    assert ds["time"].values.tolist() == [0, 0.5]
    np.testing.assert_array_equal(ds["value"], [[1, np.nan], [np.nan, np.inf]])
    assert ds["cell"].values.tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("# Time units: h\n", "is empty"),
        ("time,0\n", "no rows"),
        ("# Time units: days\ntime,0\n0,1\n", "time units 'days'; expected one of s, sec"),
        ("time\n0\n1\n", "one column per cell"),
        ("time,0,1\n0,1,2\n1,x,3\n", "line 3, column '0': 'x' is no number"),
        ("# Time units: h\ntime,0\n0,1\nx,2\n", "line 4, column 'time': 'x' is no number"),
        ("time,0\n0,1\n,2\n", "line 3, column 'time'"),
        ("time,0\n0,1\n1,2\n\n1,3\n", "line 5, column 'time': time 1 is there twice"),
        ("time,0\n0,1\n2,2\n1,3\n", "line 4, column 'time': time 1 after 2"),
        ("time,0,0\n0,1,2\n", "column '0' is there 2 times"),
        ("0,1\n2,3\n", "expected column names"),
        ("time;0;1\n0;1;2\n", "separated by ;"),
        ("time,0\n0,1,2,3\n1,2\n", "line 2: more fields than the 2 column names"),
        ("time,0\n0,1\n1,2,3\n", "line 3"),
        ("time,0,1\n0,1,2\n1,3", "line 3: the file ends after 2 of 3 fields"),
        ("time,fov,cell,frame\n0,1,1,0\n", "lacks any column"),
        ("time,fov,cell\n0,1,1\n", "lacks column 'value'"),
        ("fov,cell,value\n1,1,5\n", "lacks column 'time'"),
        ("time,fov,cell,value\n0,1,1,5\n1,1,1,y\n", "line 3, column 'value': 'y'"),
        ("time,fov,cell,value\n0,1,1,5\n0,1,1,6\n", "line 3, column 'time': time 0 is there twice in fov 1, cell 1"),
        ("time,fov,cell,value\n0,1,1,5\n3,1,2,6\n2,1,2,7\n", "line 4, column 'time': time 2 after 3 in fov 1, cell 2"),
        ("time,fov,cell,value\n0,1,,5\n", "line 2, column 'cell'"),
        ("cell_id,model_type,success,r_squared\n0,trivial,True,0.9\n", "load_fitted"),
    ],
)
def test_what_is_wrong_is_said_with_file_line_and_column(tmp_path: Path, text: str, says: str):
    path = tmp_path / "wrong.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=says) as error:
        load_analysis_csv(path)
    assert "wrong.csv" in str(error.value)


def test_bytes_that_are_no_text(tmp_path: Path):
    path = tmp_path / "wrong.csv"
    path.write_bytes(b"time,0\n0,\xff\xfe\n")
    with pytest.raises(InputError, match=r"wrong\.csv"):
        load_analysis_csv(path)


VALUES = st.one_of(st.floats(allow_infinity=False), st.just(np.nan))


@settings(max_examples=40)
@given(st.data(), st.integers(1, 4), st.integers(1, 5), st.booleans())
def test_what_is_written_is_read_back_to_the_last_bit(tmp_path_factory, data, cells: int, n: int, tidy: bool):
    path = tmp_path_factory.mktemp("round") / "a.csv"
    times = np.cumsum(data.draw(st.lists(st.floats(1e-3, 1e3), min_size=n, max_size=n)))
    values = np.array(data.draw(st.lists(st.lists(VALUES, min_size=n, max_size=n), min_size=cells, max_size=cells)))
    made = xr.DataArray(values, dims=("cell", "time"), coords={"time": times}, name="value")
    if tidy:
        made = made.assign_coords(fov=("cell", np.arange(cells) // 2), cell_id=("cell", np.arange(cells)))
        made = made.assign_coords(position_x=("cell", np.arange(cells) / 7))
    else:
        made = made.assign_coords(cell=[f"c{i}" for i in range(cells)])
    again = load_analysis_csv(write_analysis_csv(made, path))
    np.testing.assert_array_equal(again["value"].values, values)
    np.testing.assert_array_equal(again["time"].values, times)
    twice = load_analysis_csv(write_analysis_csv(again, path.with_name("b.csv")))
    assert twice.compute().drop_attrs().identical(again.compute().drop_attrs())


def test_stores_and_hdf5_are_fitted_the_same_way(tmp_path: Path):
    import h5py

    values, _ = cases.traces("maturation", 3)
    array = xr.DataArray(values, dims=("cell", "time"), coords={"time": cases.TIMES * 60}, name="signal")
    array["time"].attrs["units"] = "min"
    request = traces.FittingRequest("maturation")
    expected = traces.fit_trace_data(array, request).compute()
    array.to_dataset().to_zarr(tmp_path / "a.zarr", consolidated=False)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group("entry/data")
        group.attrs["NX_class"], group.attrs["signal"], group.attrs["axes"] = "NXdata", "signal", ["cell", "time"]
        group["signal"], group["time"] = values, cases.TIMES * 60
        group["time"].attrs["units"] = "min"
    for name in ("a.zarr", "a.h5"):
        with raise_if_computes():
            fits = traces.fit_trace_data(sf.open_scan(tmp_path / name), request)
        for variable in ("delta", "delta_stderr", "redchi", "runs_z"):
            np.testing.assert_array_equal(fits[variable].values, expected[variable].values, name)


def test_times_in_other_units_are_refused():
    array = xr.DataArray(np.ones((1, 9)), dims=("cell", "time"), coords={"time": np.arange(9.0)})
    array["time"].attrs["units"] = "keV"
    with pytest.raises(InputError, match="coordinate 'time': time units 'keV'"):
        traces.fit_trace_data(array, traces.FittingRequest("trivial"))
    with pytest.raises(InputError, match="no coordinate 'time'"):
        traces.fit_trace_data(array.drop_vars("time"), traces.FittingRequest("trivial"))
