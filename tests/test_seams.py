"""What any job makes is drawn, asked, saved, opened, reported, explored and exported in the same way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import lmfit
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.figure import Figure

import scanfold as sf
from scanfold import bragg, detectors, grouping, ptycho, traces
from scanfold.cli import main
from scanfold.io.tables import exactly


@dataclass(frozen=True)
class Result:
    """What a job made, as it is and from its store; a map of it and a query on it, where it has maps."""

    made: xr.Dataset
    store: Path
    name: str = ""
    query: str = ""

    @property
    def opened(self) -> xr.Dataset:
        return sf.open_scan(self.store)


def _fit(folder: Path) -> tuple[xr.Dataset, str, str]:
    scan, _ = sf.testing.peak_scan({"y": 3, "x": 4})
    model = lmfit.models.GaussianModel() + lmfit.models.LinearModel()
    return sf.fit(scan.chunk(y=2), model, dim="energy", weights="counts"), "center", "center_err < 1 and y > 0"


def _bragg(folder: Path) -> tuple[xr.Dataset, str, str]:
    counts = np.arange(100, 130)
    tables = {name: pd.DataFrame({"counts": t * counts}) for name, t in (("thin", 8), ("thick", 5))}
    data = bragg.Data.from_grouped(tables, pd.DataFrame({"counts": 10 * counts}), tstep=1e-4)
    model = bragg.TransmissionModel(bragg.CrossSection(iron="Fe_sg229_Iron-alpha"), vary_basic=True)
    return model.fit(data, wlmin=0.0, wlmax=9.0).fits, "thickness", "group == 'thin'"


def _traces(folder: Path) -> tuple[xr.Dataset, str, str]:
    time, noise = np.linspace(0, 10, 40), np.random.default_rng(0).normal(0, 1, (2, 40))
    for name, rate in (("a", 0.3), ("b", 0.5)):
        cells = {str(i): 90 * np.exp(-rate * time) + 10 + noise[i] for i in range(2)}
        pd.DataFrame({"time": time, **cells}).to_csv(folder / f"{name}.csv", index=False)
    request = traces.FittingRequest("exponential_decay", fixed=["t0"])
    return traces.fit_folder(folder, request, progress=False).dataset, "rate", "r_squared > 0.9 and rate > 0.4"


def _maps(folder: Path) -> tuple[xr.Dataset, str, str]:
    frames = np.random.default_rng(0).poisson(9, (4, 5, 16, 16)).astype("uint16")
    scan = xr.DataArray(frames, dims=("y", "x", "ky", "kx"), name="counts").chunk(y=2)
    return detectors.center_of_mass(scan), "com_x", "com_x_err > 0 and total > 2300"


def _simulated() -> xr.Dataset:
    return ptycho.generate_simulated_data(
        ptycho.lines(64, seed=1), ptycho.default_probe(16), n_images=40, nphotons=1e5, seed=2
    )


def _scan(folder: Path) -> tuple[xr.Dataset, str, str]:
    return _simulated(), "", ""


def _plan(folder: Path) -> tuple[xr.Dataset, str, str]:
    return grouping.plan_groups(_simulated(), nsamples=10, gridsize=2, K=6), "", ""


def _groups(folder: Path) -> tuple[xr.Dataset, str, str]:
    scan = _simulated()
    return grouping.gather(scan, grouping.plan_groups(scan, nsamples=10, gridsize=2, K=6)), "", ""


JOBS = {job.__name__[1:]: job for job in (_fit, _bragg, _traces, _maps, _scan, _plan, _groups)}


@pytest.fixture(scope="module", params=JOBS)
def result(request, tmp_path_factory) -> Result:
    folder = tmp_path_factory.mktemp(request.param)
    made, name, query = JOBS[request.param](folder)
    sf.save(made, folder / "out.zarr", progress=False)
    return Result(made.compute(), folder / "out.zarr", name, query)


def test_a_store_holds_what_was_made(result):
    xr.testing.assert_equal(result.opened.compute(), result.made)
    assert result.opened.attrs["provenance"] == result.made.attrs["provenance"]
    assert result.opened.attrs.get("primary") == result.made.attrs.get("primary")


def test_maps_are_drawn_and_asked_alike(result):
    if not result.name:
        pytest.skip("frames and indices, no maps")
    drawn = []
    for ds in (result.made, result.opened):
        ax = ds.scanfold.plot.parameter_map(result.name, query=result.query, ax=Figure().add_subplot())
        drawn.append([ax.get_title(), *(text.get_text() for text in ax.texts)])
        assert ax.get_title() == result.name
    assert drawn[0] == drawn[1]
    assert "left out by the query" in drawn[0][1]


def test_the_commands_take_the_store(result, capsys):
    page = result.store.with_suffix(".html")
    assert main(["report", str(result.store), "--out", str(page)]) == 0
    assert 5_000 < page.stat().st_size < 5_000_000
    assert main(["info", str(result.store)]) == 0
    assert next(iter(result.made.data_vars)) in capsys.readouterr().out


def test_it_is_explored_by_clicks(result):
    pytest.importorskip("panel", reason="the extra explore is not installed")
    for shown in (result.made, result.store):
        explorer = sf.explore(shown)
        place = dict.fromkeys(explorer.position, 1)
        assert explorer.select(**place) == place


def test_tables_and_nexus_files_are_those_of_the_store(result, tmp_path):
    numbers = result.made.drop_vars([n for n, v in result.made.variables.items() if v.dtype.kind == "c"])
    opened = result.opened[list(numbers.data_vars)]
    tables = []
    for i, ds in enumerate((numbers, opened)):
        sf.export_csv(ds, tmp_path / f"{i}.csv")
        sf.export_nexus(ds, tmp_path / f"{i}.nxs")
        tables.append(pd.read_csv(tmp_path / f"{i}.csv", **exactly()))
        with xr.open_dataset(tmp_path / f"{i}.nxs", group="entry/data", engine="h5netcdf") as back:
            name = str(next(iter(back.data_vars)))
            np.testing.assert_array_equal(back[name], numbers[name])
    pd.testing.assert_frame_equal(tables[0], tables[1][tables[0].columns])
