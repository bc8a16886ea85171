"""What is exported is what the programs of each field read back."""

from __future__ import annotations

from pathlib import Path

import h5py
import lmfit
import numpy as np
import pandas as pd
import pytest
import tifffile
import xarray as xr

import scanfold as sf
from scanfold.cli import main
from scanfold.conventions import InputError, InputTypeError
from scanfold.io.tables import exactly
from scanfold.testing import peak_scan, raise_if_computes


@pytest.fixture(scope="module")
def fits() -> xr.Dataset:
    scan, _ = peak_scan({"y": 4, "x": 5})
    scan = scan.assign_coords(
        y=("y", np.arange(4) * 0.5, {"units": "um"}), x=("x", np.arange(5) * 0.5, {"units": "um"})
    )
    model = lmfit.models.GaussianModel() + lmfit.models.LinearModel()
    out = sf.fit(scan, model, dim="energy", weights="counts", covariance=True).compute()
    out["center"][1, 2] = np.nan
    return out


@pytest.fixture
def nexus(fits: xr.Dataset, tmp_path: Path) -> Path:
    sf.export_nexus(fits, tmp_path / "maps.nxs")
    return tmp_path / "maps.nxs"


def theirs(name: object) -> str:
    return str(name).replace("_stderr", "_errors")


def test_xarray_reads_every_variable_back(fits: xr.Dataset, nexus: Path):
    with (
        xr.open_dataset(nexus, group="/entry/data", engine="h5netcdf") as maps,
        xr.open_dataset(nexus, group="/entry/covar", engine="h5netcdf") as covar,
    ):
        for name, variable in fits.variables.items():
            back = (covar if {"param_i", "param_j"} & set(variable.dims) else maps)[theirs(name)]
            assert back.dims == variable.dims
            assert back.attrs.get("units") == variable.attrs.get("units")
            if variable.dtype.kind == "O":
                assert list(back.values) == list(variable.values)
            else:
                assert back.dtype == variable.dtype
                np.testing.assert_array_equal(back.values, variable.values)


def test_silx_finds_the_plot_with_axes_and_errors(fits: xr.Dataset, nexus: Path):
    nxdata = pytest.importorskip("silx.io.nxdata", reason="silx is not installed")
    with h5py.File(nexus) as file:
        found = nxdata.get_default(file)
        assert found.is_valid, found.issues
        assert found.signal_name == "fitted amplitude"
        assert [axis[()].tolist() for axis in found.axes] == [fits["y"].values.tolist(), fits["x"].values.tolist()]
        np.testing.assert_array_equal(found.errors[()], fits["amplitude_stderr"])
        assert len(found.auxiliary_signals) == len([n for n in fits.data_vars if fits[n].dims == ("y", "x")]) - 1 - 7


def test_nexusformat_plots_the_default(fits: xr.Dataset, nexus: Path):
    with np.printoptions():  # it changes how NumPy prints, for everybody
        nx = pytest.importorskip("nexusformat.nexus", reason="nexusformat is not installed")
    data = nx.nxload(nexus).get_default()
    np.testing.assert_array_equal(data.nxsignal.nxvalue, fits["amplitude"])
    np.testing.assert_array_equal(data.nxerrors.nxvalue, fits["amplitude_stderr"])
    assert [axis.nxname for axis in data.nxaxes] == ["y", "x"]


def test_scippnexus_reads_units_and_variances(fits: xr.Dataset, nexus: Path):
    sx = pytest.importorskip("scippnexus", reason="scippnexus is not installed")
    with sx.File(nexus, "r") as file:
        center = file["entry/data"][...]["center"]
    assert str(center.unit) == "keV"
    assert str(center.coords["x"].unit) == "µm"
    np.testing.assert_array_equal(center.values, fits["center"])
    np.testing.assert_allclose(center.variances, fits["center_stderr"] ** 2, rtol=1e-15)


def test_nexus_opens_here_again_and_keeps_the_provenance(fits: xr.Dataset, nexus: Path):
    back = sf.open_scan(nexus)
    np.testing.assert_array_equal(back["center"], fits["center"])
    np.testing.assert_array_equal(back["amplitude_errors"], fits["amplitude_stderr"])
    with h5py.File(nexus) as file:
        assert file["entry/process/provenance/data"].asstr()[()] == fits.attrs["provenance"]


def test_nexus_of_named_groups_on_one_dimension(tmp_path: Path):
    names = np.array(["steel", "iron"], object)
    maps = xr.Dataset({"thickness": ("group", [1.0, 2.0])}, coords={"group": names, "zone": ("group", [3, 4])})
    sf.export_nexus(maps, tmp_path / "named.nxs")
    with xr.open_dataset(tmp_path / "named.nxs", group="/entry/data", engine="h5netcdf") as back:
        assert list(back["group"].values) == ["steel", "iron"]
        assert back["thickness"].coords["zone"].values.tolist() == [3, 4]


def test_a_lazy_scan_is_written_slab_by_slab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from scanfold.export import slabs

    monkeypatch.setattr(slabs, "SLAB", 40 * 8 * 2)
    scan = xr.DataArray(np.arange(400.0).reshape(10, 40), dims=("position", "energy"), name="counts").chunk(position=3)
    sizes = []
    original = xr.Dataset.compute
    monkeypatch.setattr(xr.Dataset, "compute", lambda ds, **kw: sizes.append(dict(ds.sizes)) or original(ds, **kw))
    sf.export_nexus(scan, tmp_path / "scan.nxs")
    assert max(s.get("position", 0) for s in sizes) == 3
    np.testing.assert_array_equal(h5py.File(tmp_path / "scan.nxs")["entry/data/counts"], scan)


@pytest.mark.parametrize("function", [sf.export_nexus, sf.export_csv, sf.export_hspy, sf.export_tiff])
def test_what_is_there_stays_and_nothing_is_computed(function, tmp_path: Path):
    path = tmp_path / "kept.tif"
    path.write_text("mine")
    lazy = xr.DataArray(np.ones((2, 2)), dims=("y", "x"), name="a").chunk()
    with raise_if_computes(), pytest.raises(InputError, match="overwrite=True"):
        function(lazy, path)
    with raise_if_computes(), pytest.raises(InputError, match="no folder"):
        function(lazy, tmp_path / "none" / "a.tif")
    with pytest.raises(InputTypeError, match="ndarray"):
        function(np.ones((2, 2)), tmp_path / "new.tif")
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_export_leaves_no_file(tmp_path: Path):
    def broken(block: np.ndarray) -> np.ndarray:
        raise OSError("gone")

    lazy = xr.apply_ufunc(broken, xr.DataArray(np.ones((2, 2)), dims=("y", "x"), name="a").chunk(), dask="parallelized",
                          output_dtypes=[float])  # fmt: skip
    for function, name in ((sf.export_nexus, "a.nxs"), (sf.export_csv, "a.csv"), (sf.export_tiff, "a.tif")):
        with pytest.raises(OSError, match="gone"):
            function(lazy, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_complex_numbers_are_refused_with_what_to_do(tmp_path: Path):
    probe = xr.DataArray(np.ones((2, 2), complex), dims=("ky", "kx"), name="probe")
    with pytest.raises(InputError, match=r"\.real and \.imag"):
        sf.export_nexus(probe, tmp_path / "probe.nxs")
    assert list(tmp_path.iterdir()) == []


def test_csv_reads_back_exactly_with_flags_in_words(fits: xr.Dataset, tmp_path: Path):
    sf.export_csv(fits.chunk(y=1), tmp_path / "maps.csv")
    back = pd.read_csv(tmp_path / "maps.csv", **exactly())
    assert list(back.columns[:3]) == ["y", "x", "amplitude"]
    assert "covar" not in back
    assert set(back["status"]) <= set(fits["status"].attrs["flag_meanings"].split())
    again = back.set_index(["y", "x"]).to_xarray()
    for name in ("amplitude", "center", "center_stderr", "redchi"):
        column = again[name.replace("_stderr", "_err")]  # errors are called as in the summary
        np.testing.assert_array_equal(column.values, fits[name].values)


def test_csv_numbers_positions_without_coordinates_across_slabs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from scanfold.export import slabs

    monkeypatch.setattr(slabs, "SLAB", 16)
    sf.export_csv(xr.DataArray(np.arange(5.0), dims="position", name="a").chunk(position=2), tmp_path / "a.csv")
    assert pd.read_csv(tmp_path / "a.csv")["position"].tolist() == [0, 1, 2, 3, 4]


def test_imagej_sees_units_pixel_size_and_values(fits: xr.Dataset, tmp_path: Path):
    sf.export_tiff(fits, tmp_path / "maps")
    with tifffile.TiffFile(tmp_path / "maps" / "center.tif") as file:
        assert file.is_imagej
        assert file.imagej_metadata["unit"] == "um"
        across, per = file.pages[0].tags["XResolution"].value
        assert across / per == pytest.approx(2.0)  # pixels per um
        np.testing.assert_array_equal(file.asarray(), fits["center"].values.astype("float32"))
        assert "units: keV" in file.imagej_metadata["Info"]
    status = tifffile.imread(tmp_path / "maps" / "status.tif")
    assert status.dtype == np.int16
    assert status.tolist() == fits["status"].values.tolist()


def test_imagej_stack_has_a_labelled_slice_per_value(tmp_path: Path):
    values = np.arange(24.0).reshape(2, 3, 4)
    maps = xr.DataArray(values, dims=("y", "x", "energy"), coords={"energy": [1.0, 2.0, 3.0, 5.0]}, name="counts")
    sf.export_tiff(maps, tmp_path / "stack.tif")
    with tifffile.TiffFile(tmp_path / "stack.tif") as file:
        assert file.imagej_metadata["slices"] == 4
        assert file.imagej_metadata["Labels"] == ["energy=1.0", "energy=2.0", "energy=3.0", "energy=5.0"]
        np.testing.assert_array_equal(file.asarray(), np.moveaxis(values, -1, 0))


def test_one_file_for_several_images_and_lines_are_refused(fits: xr.Dataset, tmp_path: Path):
    with pytest.raises(InputError, match="pass a folder"):
        sf.export_tiff(fits, tmp_path / "maps.tif")
    with pytest.raises(InputError, match="export_csv"):
        sf.export_tiff(xr.DataArray(np.ones(3), dims="position", name="a"), tmp_path / "line.tif")


def test_hspy_round_trip_lazy_with_axes(tmp_path: Path):
    pytest.importorskip("rsciio", reason="RosettaSciIO is not installed (extra vendor)")
    scan, _ = peak_scan({"y": 4, "x": 5})
    scan = scan.assign_coords(y=("y", np.arange(4) * 0.5, {"units": "um"}))
    sf.export_hspy(scan.chunk(y=2), tmp_path / "scan.hspy")
    back = sf.open_scan(tmp_path / "scan.hspy")["data"]
    assert back.dims == ("y", "x", "energy")
    assert back["y"].attrs["units"] == "um"
    np.testing.assert_array_equal(back, scan)
    np.testing.assert_allclose(back["energy"], scan["energy"])

    from rsciio.hspy import file_reader

    axes = file_reader(str(tmp_path / "scan.hspy"))[0]["axes"]
    assert [(a["name"], a["navigate"]) for a in axes] == [("y", True), ("x", True), ("energy", False)]


def test_hspy_of_maps_is_a_folder_and_uneven_axes_are_kept(fits: xr.Dataset, tmp_path: Path):
    pytest.importorskip("rsciio", reason="RosettaSciIO is not installed (extra vendor)")
    sf.export_hspy(fits[["center", "sigma"]], tmp_path / "maps")
    assert sorted(f.name for f in (tmp_path / "maps").iterdir()) == ["center.hspy", "sigma.hspy"]
    line = xr.DataArray(np.ones((2, 3)), dims=("position", "energy"), coords={"energy": [1.0, 2.0, 4.0]}, name="a")
    sf.export_hspy(line, tmp_path / "line.hspy")
    assert sf.open_scan(tmp_path / "line.hspy")["energy"].values.tolist() == [1.0, 2.0, 4.0]


def test_the_command_exports_a_store_by_suffix(fits: xr.Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    sf.save(fits, tmp_path / "fits.zarr", progress=False)
    source = str(tmp_path / "fits.zarr")
    assert main(["export", source, str(tmp_path / "fits.nxs")]) == 0
    np.testing.assert_array_equal(sf.open_scan(tmp_path / "fits.nxs")["center"], fits["center"])
    assert main(["export", source, str(tmp_path / "tifs"), "--format", "tif", "--variables", "center", "sigma"]) == 0
    assert len(list((tmp_path / "tifs").iterdir())) == 2
    assert main(["export", source, str(tmp_path / "fits.nxs")]) == 2
    assert "overwrite" in capsys.readouterr().err
    assert main(["export", source, str(tmp_path / "fits.xyz")]) == 2
    assert main(["export", source, str(tmp_path / "b.csv"), "--variables", "centre"]) == 2
    assert "did you mean 'center'" in capsys.readouterr().err
