"""Fits of synthetic counts: recovery, stages, backends, forms of the model, and what is refused."""

from __future__ import annotations

import json
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from scanfold import ScanError
from scanfold.testing import assert_chunk_invariant, raise_if_computes

pytest.importorskip("NCrystal", reason="NCrystal (extra bragg) is not installed")

from scanfold.bragg import CrossSection, Data, TransmissionModel

IRON = CrossSection(iron="Fe_sg229_Iron-alpha")
X = np.linspace(1.5, 5.0, 500)
WIDTH = X[1] - X[0]


def counted(curve: np.ndarray, level: float, positions: int, seed: int = 3, x: np.ndarray = X) -> xr.Dataset:
    """Return Poisson counts of signal and open beam, and their ratio."""
    rng = np.random.default_rng(seed)
    shape = (positions, x.size)
    signal = rng.poisson(level * np.broadcast_to(curve, shape)).astype(float)
    openbeam = rng.poisson(level, shape).astype(float)
    with np.errstate(all="ignore"):
        ratio = signal / openbeam
        error = ratio * np.sqrt(1 / signal + 1 / openbeam)
    dims = ("position", "tof")
    return xr.Dataset(
        {"signal": (dims, signal), "openbeam": (dims, openbeam), "transmission": (dims, ratio),
         "transmission_err": (dims, error)},
        coords={"wavelength": ("tof", x)}, attrs={"L": 9.0},
    )  # fmt: skip


def in_memory_axis(data: xr.Dataset) -> xr.Dataset:
    """Return chunked data with their axis in memory, as `Data` has it: ``chunk`` makes coordinates lazy too."""
    return data.assign_coords(wavelength=("tof", X))


def true(model: TransmissionModel, x: np.ndarray = X, **values: float) -> np.ndarray:
    return model.evaluate(values, x, flight_path=9.0, bin_width=x[1] - x[0])


@pytest.mark.parametrize("level", [30.0, 300.0, 10_000.0])
def test_thickness_from_few_counts(level: float):
    model = TransmissionModel(IRON, vary_basic=True)
    data = counted(true(model), level, 1500)
    fits = model.fit(data, wlmin=1.0, wlmax=6.0, likelihood="poisson").compute()
    pulls = ((fits["thickness"] - 1.0) / fits["thickness_stderr"]).values
    assert abs(pulls.mean()) < 0.2
    assert pulls.std() == pytest.approx(1.0, abs=0.1)
    if level == 30.0:
        # Least squares of the ratios takes 14 % too much.
        biased = model.fit(data.isel(position=slice(200)), wlmin=1.0, wlmax=6.0, retry=False).compute()
        assert float(biased["thickness"].mean()) > 1.1


def test_empty_holder_is_an_exposure():
    model = TransmissionModel(IRON, vary_basic=True)
    data = counted(true(model), 500.0, 40)
    holder = np.linspace(1.1, 1.4, X.size)
    rng = np.random.default_rng(8)
    held = data.assign(
        signal=(data["signal"].dims, rng.poisson(500.0 * true(model) / holder, data["signal"].shape)),
        empty_ratio=("tof", holder),
    )
    fits = model.fit(held, likelihood="poisson").compute()
    pulls = ((fits["thickness"] - 1.0) / fits["thickness_stderr"]).values
    assert abs(pulls.mean()) < 0.5
    assert float(fits["norm"].mean()) == pytest.approx(1.0, abs=0.005)


def test_all_groups_of_parameters_are_recovered():
    mix = 0.5 * IRON + 0.5 * CrossSection(aluminium="Al_sg225")
    model = TransmissionModel(
        mix, vary_basic=True, vary_background=True, vary_response=True, vary_weights=True, vary_lattice=True
    )
    truth = {
        "thickness": 2.1, "norm": 0.9, "p1": np.log(0.7 / 0.3), "a1": 2.8702, "a2": 4.0478, "α0": 0.08, "β0": 0.04,
        "bg0": 0.02, "bg1": 0.01, "bg2": 0.01,
    }  # fmt: skip
    data = counted(true(model, **truth), 1e6, 12)
    fits = model.fit(data, wlmin=1.0, wlmax=6.0).compute()
    for name, value in truth.items():
        pulls = ((fits[name] - value) / fits[f"{name}_stderr"]).values
        assert abs(np.median(pulls)) < 1.5, name
    assert float(fits["iron"].mean()) == pytest.approx(0.7, abs=0.02)
    np.testing.assert_allclose(fits["iron"] + fits["aluminium"], 1.0, atol=1e-12)
    np.testing.assert_array_equal(fits["b1"], fits["a1"])
    assert fits["a1"].attrs["units"] == "angstrom"
    assert float(fits["a1_stderr"].max()) < 1e-3


def test_time_calibration_extinction_and_temperature_are_recovered():
    model = TransmissionModel(
        CrossSection(iron="Fe_sg229_Iron-alpha", ext_l=1.0, ext_g=50.0, ext_L=0.0),
        vary_basic=True, vary_tof=True, vary_extinction=True,
    )  # fmt: skip
    for name in ("ext_g", "ext_L"):
        model.params[name].vary = False
    truth = {"thickness": 1.4, "norm": 0.95, "L0": 1.0003, "t0": 2e-6, "ext_l": 1.8}
    fits = model.fit(counted(true(model, **truth), 1e6, 8)).compute()
    for name, value in truth.items():
        assert abs(float(((fits[name] - value) / fits[f"{name}_stderr"]).median())) < 1.5, name
    warm = TransmissionModel(IRON, vary_basic=True)
    warm.params["temp"].set(value=320.0, vary=True)
    fits = warm.fit(counted(true(warm, temp=380.0), 1e6, 8)).compute()
    assert abs(float(((fits["temp"] - 380.0) / fits["temp_stderr"]).median())) < 1.5
    assert float(fits["temp_stderr"].mean()) < 5.0


def test_reported_errors_reach_the_cramer_rao_bound_for_strain():
    model = TransmissionModel(IRON, vary_basic=False, vary_lattice=True, vary_response=False)
    model.params["norm"].vary = model.params["thickness"].vary = True
    rng = np.random.default_rng(12)
    strains = rng.uniform(-1e-3, 1e-3, 60)
    curves = np.array([true(model, a=2.8676 * (1 + e)) for e in strains])
    fits = model.fit(counted(curves, 1e4, 60)).compute()
    error = fits["a"].values / 2.8676 - 1 - strains
    assert np.sqrt((error**2).mean()) < 1.3 * float(fits["a_stderr"].mean()) / 2.8676


def test_oriented_grain_is_fitted_through_ncrystal():
    grain = CrossSection(grain="Fe_sg229_Iron-alpha", mos=6.0, dir1=(0, 0, 1), dir2=(1, 0, 0))
    x = np.linspace(1.5, 4.5, 60)
    fixed = TransmissionModel(grain, vary_basic=True, vary_orientation=False)
    data = counted(true(fixed, x, thickness=0.5), 1e6, 2, x=x)
    fits = fixed.fit(data).compute()
    np.testing.assert_allclose(fits["thickness"], 0.5, atol=6 * float(fits["thickness_stderr"].max()))
    assert "η_grain" in fits
    turning = TransmissionModel(grain, vary_basic=True, vary_orientation=True)
    for name in ("θ_grain", "ϕ_grain"):
        turning.params[name].vary = False
    data = counted(true(turning, x, thickness=0.5, η_grain=9.0), 1e6, 1, x=x)
    fits = turning.fit(data, guess="params", retry=False).compute()
    np.testing.assert_allclose(fits["η_grain"], 9.0, atol=5 * float(fits["η_grain_stderr"][0]))
    assert fits["η_grain"].attrs["units"] == "degree"


def test_lattice_of_an_oriented_grain():
    grain = CrossSection(grain="Fe_sg229_Iron-alpha", mos=6.0, dir1=(0, 0, 1), dir2=(1, 0, 0))
    model = TransmissionModel(grain, vary_basic=True, vary_lattice=True)
    x = np.linspace(1.5, 4.5, 60)
    # All peaks move with the lattice, those of a cubic crystal by the same factor.
    peaks = [np.argmin(true(model, np.linspace(2.6, 3.0, 401), thickness=0.5, a=a)) for a in (2.8676, 2.8676 * 1.01)]
    assert (2.6 + 1e-3 * peaks[1]) / (2.6 + 1e-3 * peaks[0]) == pytest.approx(1.01, abs=8e-4)
    truth = 2.8676 * 1.002
    data = counted(true(model, x, thickness=0.5, a=truth), 1e6, 1, x=x)
    fits = model.fit(data, guess="params", retry=False).compute()
    np.testing.assert_allclose(fits["a"], truth, atol=5 * float(fits["a_stderr"][0]))
    assert float(fits["a_stderr"][0]) < 1e-3
    np.testing.assert_array_equal(fits["c"], fits["a"])


def test_sections_that_nothing_moves_are_taken_once():
    # Other values of what they depend on must not get those that were prepared.
    model = TransmissionModel(IRON, vary_basic=True, vary_lattice=False, vary_background=True)
    data = counted(true(model, a=2.871, thickness=1.2), 1e5, 3)
    stretched = model.fit(data, {"a": 2.871}).compute()
    model.params["a"].value = 2.871
    again = model.fit(data).compute()
    np.testing.assert_allclose(again["thickness"], stretched["thickness"], rtol=1e-9)
    np.testing.assert_allclose(again["chisqr"], stretched["chisqr"], rtol=1e-9)
    assert float(stretched["redchi"].max()) < 1.3


def test_a_bar_shows_how_far_it_is(capsys):
    model = TransmissionModel(IRON, vary_basic=True)
    data = counted(true(model), 1000.0, 4).chunk(position=2)
    model.fit(in_memory_axis(data), progress_bar=True, backend="sequential").compute()
    assert re.search(r"compute: (\d+) tasks in", capsys.readouterr().err)


def test_nothing_is_computed_before_it_is_looked_at():
    model = TransmissionModel(IRON, vary_basic=True)
    data = in_memory_axis(counted(true(model), 1000.0, 8).chunk(position=2))
    with raise_if_computes():
        result = model.fit(data)
    assert float(result.compute()["thickness"].mean()) == pytest.approx(1.0, abs=0.01)


def test_same_numbers_for_any_backend_and_chunks():
    model = TransmissionModel(IRON, vary_basic=True, vary_background=True, vary_response=True)
    data = counted(true(model, α0=0.05, β0=0.03, bg0=0.02), 4000.0, 16).chunk(position=4)
    first = model.fit(data, backend="sequential").compute()
    for options in ({"n_jobs": 2, "backend": "threading"}, {"n_jobs": 2, "backend": "loky"}):
        again = model.fit(data, **options).compute()
        for name in first.data_vars:
            np.testing.assert_array_equal(first[name], again[name], err_msg=str(name))
    assert_chunk_invariant(
        lambda ds: model.fit(in_memory_axis(ds)).fits.drop_attrs(), data, [{"position": 16}, {"position": 5}]
    )


def test_stages_and_their_words():
    model = TransmissionModel(IRON, vary_basic=True, vary_background=True, vary_response=True)
    assert model.stages == {"basic": "basic", "background": "background", "response": "response"}
    data = counted(true(model, α0=0.05, β0=0.03, bg0=0.02), 1e5, 3)
    at_once = model.fit(data).compute()
    for stages in (
        {"first": ["thickness", "norm"], "second": ["bg*", "α0"], "third": "all"},
        {"each": "basic one-by-one", "rest": "all"},
        {"middle": "basic wlmin=2.2 wlmax=4.5", "all": "all"},
    ):
        fits = model.fit(data, stages=stages).compute()
        np.testing.assert_allclose(fits["thickness"], at_once["thickness"], rtol=1e-6)
    model.stages = {"basic": "basic", "all": "all"}
    staged = model.fit(data, method="staged", stages={"a": "basic", "b": "background"}).compute()
    assert np.isnan(staged["thickness_stderr"]).all()
    assert np.isfinite(staged["bg0_stderr"]).all()
    with pytest.raises(ScanError, match="did you mean 'background'"):
        model.stages = {"first": "backgroud"}
    with pytest.raises(ScanError, match="only be 'all'"):
        model.stages = "everything"
    with pytest.raises(ScanError, match="expected a wavelength"):
        model.stages = {"first": "basic wlmin=low"}
    with pytest.raises(ScanError, match="setting of stage"):
        model.stages = {"first": "basic wlmi=2"}


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson"])
def test_stages_in_windows_keep_their_record(tmp_path, likelihood: str):
    model = TransmissionModel(IRON, vary_basic=True, vary_background=True)
    data = counted(true(model, thickness=1.3, bg0=0.02), 1e5, 2)
    result = model.fit(
        data, stages={"middle": "basic wlmin=2.2 wlmax=4.5", "all": "all wlmax=4.8"}, likelihood=likelihood
    )
    table = result.stages_summary(1)
    fixed = {name: {"value": 0.0, "vary": False} for name in ("bg0", "bg1", "bg2")}
    inside = data.isel(tof=np.flatnonzero((X > 2.2) & (X < 4.5)))
    alone = model.fit(inside, fixed, guess="params", retry=False, likelihood=likelihood).compute().isel(position=1)
    assert table.loc["thickness", ("middle", "value")] == pytest.approx(float(alone["thickness"]), rel=1e-7)
    assert table.loc["thickness", ("middle", "stderr")] == pytest.approx(float(alone["thickness_stderr"]), rel=1e-5)
    assert table.loc["redchi", ("middle", "value")] == pytest.approx(float(alone["redchi"]), rel=1e-7)
    assert table.loc["bg0", ("middle", "value")] == table.loc["bg0", ("Initial", "value")] == 0.0
    assert int(result.fits["nfev"][1]) > int(alone["nfev"])
    # What lmfit is given back is what the last stage saw.
    assert result[1].ndata == np.count_nonzero(X < 4.8) == int(result.fits["n_used"][1])
    result.save(tmp_path / "fits.zarr")
    pd.testing.assert_frame_equal(type(result).load(tmp_path / "fits.zarr").stages_summary(1), table)


@pytest.mark.parametrize("response", ["jorgensen", "full_jorgensen", "square", "measured", "none"])
@pytest.mark.parametrize("background", ["polynomial3", "polynomial5", "constant", "sample_dependent", "none"])
def test_models_survive_as_plain_json(response: str, background: str):
    measured = ([-10.0, 0.0, 30.0], [0.0, 1.0, 0.0]) if response == "measured" else None
    model = TransmissionModel(
        IRON, response=response, background=background, vary_basic=True, vary_background=True, vary_response=True,
        vary_lattice=True, measured=measured,
    )  # fmt: skip
    model.params["thickness"].set(value=1.7, max=4.0)
    model.stages = {"basic": "basic", "rest": ["lattice", "all"]}
    again = TransmissionModel.from_dict(json.loads(json.dumps(model.to_dict())))
    assert again.stages == model.stages
    assert again.params == model.params
    np.testing.assert_array_equal(again.evaluate(None, X[:60]), model.evaluate(None, X[:60]))


def test_lmfit_itself_finds_the_same():
    model = TransmissionModel(IRON, vary_basic=True)
    data = counted(true(model), 4000.0, 2)
    ours = model.fit(data).compute()
    theirs = model.fit(data, engine="lmfit").compute()
    np.testing.assert_allclose(ours["thickness"], theirs["thickness"], rtol=1e-7)
    np.testing.assert_allclose(ours["thickness_stderr"], theirs["thickness_stderr"], rtol=1e-5)
    simplex = model.fit(data, method="nelder").compute()
    np.testing.assert_allclose(simplex["thickness"], ours["thickness"], rtol=1e-4)


def test_corrected_counts_are_no_poisson_counts():
    model = TransmissionModel(IRON, vary_basic=True)
    data = Data.from_dataset(counted(true(model), 1000.0, 2)[["signal", "openbeam"]])
    live = data.correct_dead_time(1e-7, 1000).rebin(tof=2)
    with pytest.warns(UserWarning, match="corrected for dead time: their noise"):
        model.fit(live, likelihood="poisson")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(live)
        model.fit(data.rebin(tof=2), likelihood="poisson")


def test_what_is_refused():
    model = TransmissionModel(IRON, vary_basic=True)
    data = counted(true(model), 100.0, 2)
    with pytest.raises(ScanError, match=r"no data between wlmin=6\.5"):
        model.fit(data, wlmin=6.5, wlmax=9.0)
    with pytest.raises(ScanError, match="unknown parameter 'thicknes'"):
        model.fit(data, {"thicknes": 1})
    with pytest.raises(ScanError, match="unknown backend"):
        model.fit(data, backend="lokky")
    with pytest.raises(ScanError, match="n_jobs is 0"):
        model.fit(data, n_jobs=0)
    with pytest.raises(ScanError, match="unknown likelihood"):
        model.fit(data, likelihood="poison")
    with pytest.raises(ScanError, match="no 'signal'"):
        model.fit(data.drop_vars("signal"), likelihood="poisson")
    with pytest.raises(ScanError, match="unknown method"):
        model.fit(data, method="least-squares")
    with pytest.raises(ScanError, match="unknown response"):
        TransmissionModel(IRON, response="gaussian", vary_response=True)
    with pytest.raises(ScanError, match="do not move"):
        TransmissionModel(IRON, compat="nbragg", vary_lattice=True)
    with pytest.raises(ScanError, match="radius of voids"):
        TransmissionModel(IRON, vary_sans=True)
    with pytest.raises(ScanError, match="no phase is oriented"):
        TransmissionModel(IRON, vary_orientation=True)
    with pytest.raises(ScanError, match="needs measured"):
        TransmissionModel(IRON, response="measured", vary_response=True)


def test_dead_pixels_keep_their_place():
    model = TransmissionModel(IRON, vary_basic=True)
    data = counted(true(model), 1000.0, 4)
    for name in data.data_vars:
        data[name][1] = np.nan if name.startswith("transmission") else 0.0
    for likelihood in ("gaussian", "poisson"):
        fits = model.fit(data, likelihood=likelihood).compute()
        assert not bool(fits["success"][1])
        assert np.isnan(float(fits["thickness"][1]))
        assert bool(fits["success"][[0, 2, 3]].all())
