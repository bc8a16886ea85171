"""NaN, infinite, negative, dead, saturated, empty, single: what docs/odd_data.rst says that each job makes of it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import lmfit
import numpy as np
import pytest
import xarray as xr
from traces import cases as trace_cases

import scanfold as sf
from scanfold import detectors, grouping, ptycho, traces
from scanfold.conventions import InputError, flags
from scanfold.detectors import outputs

#: What is wrong with the data: everywhere at the position (0, 1), or with the whole scan.
HOWS = (
    "right",
    "NaN",
    "inf",
    "one NaN",
    "one inf",
    "negative",
    "dead row",
    "saturated",
    "one position",
    "empty",
    "one pixel",
    "no pixel",
)


def spoiled(values: np.ndarray, how: str) -> np.ndarray:
    """Return data (y, x, …) with something wrong."""
    out = values.astype(float)
    match how:
        case "NaN" | "inf":
            out[0, 1] = float(how)
        case "one NaN" | "one inf":
            out[0, 1, ..., 3] = float(how[4:])
        case "negative":
            out[0, 1] *= -1
        case "dead row":
            out[0] = 0
        case "dead row of the detector":
            out[..., 5, :] = 0
        case "dead pixel":
            out[..., 5, 5] = np.nan
        case "saturated":
            out[0, 1] = np.minimum(out[0, 1], np.median(out[0, 1]))
        case "one position":
            out = out[:1, :1]
        case "empty":
            out = out[:0]
        case "one pixel":
            out = out[..., :1]
        case "no pixel":
            out = out[..., :0]
    return out


def words(fits: xr.Dataset) -> list[str]:
    names = {value: name for name, value in flags(fits["status"]).items()}
    return [names[int(v)] for v in fits["status"].values.ravel()]


RIGHT = ["converged"] * 6
#: The status of the position (0, 1), of the first row, of the only position, of all; or words of the refusal.
FITS: dict[str, dict[str, Any]] = {
    "fit": {
        "NaN": "too_few_points", "inf": "too_few_points", "negative": "too_few_points",
        "dead row": "no_signal", "saturated": "no_signal", "one pixel": "too_few_points", "no pixel": "no points along",
    },
    "bragg": {
        "NaN": "too_few_points", "inf": "too_few_points", "negative": "negative counts",
        "dead row": "too_few_points", "saturated": "poor_fit", "one pixel": "too_few_points", "no pixel": "no bins",
    },
    "traces": {
        "NaN": "too_few_points", "inf": "too_few_points", "negative": "no_signal",
        "dead row": "no_signal", "saturated": "", "one pixel": "too_few_points", "no pixel": "no points along",
    },
}  # fmt: skip


def _fit(how: str) -> xr.Dataset:
    x = np.linspace(-5, 5, 30)
    values = spoiled(np.random.default_rng(0).poisson(np.tile(5 + 40 * np.exp(-(x**2) / 2), (2, 3, 1))), how)
    data = xr.DataArray(values, dims=("y", "x", "e"), coords={"e": x[: values.shape[-1]]})
    model = lmfit.models.GaussianModel() + lmfit.models.ConstantModel()
    return sf.fit(data, model, dim="e", likelihood="poisson")


def _bragg(how: str) -> xr.Dataset:
    pytest.importorskip("NCrystal", reason='the extra is not installed: pip install "scanfold[bragg]"')
    from scanfold import bragg

    x, rng = np.linspace(1.5, 5, 150), np.random.default_rng(0)
    model = bragg.TransmissionModel(bragg.CrossSection(iron="Fe_sg229_Iron-alpha"), vary_basic=True)
    truth = model.evaluate({}, x, flight_path=9.0, bin_width=x[1] - x[0])
    beam = rng.poisson(np.full((2, 3, 150), 1000.0)).astype(float)
    values = spoiled(rng.poisson(1000 * np.tile(truth, (2, 3, 1))), how)
    beam = beam[tuple(slice(n) for n in values.shape)]
    given = (
        xr.DataArray(v, dims=("y", "x", "wavelength"), coords={"wavelength": x[: v.shape[-1]]}) for v in (values, beam)
    )
    fits: Any = model.fit(bragg.Data.from_grouped(*given, L=9.0, tstep=1e-5), wlmin=1.0, wlmax=6.0)
    return getattr(fits, "dataset", fits)


def _traces(how: str) -> xr.Dataset:
    clean, _ = trace_cases.traces("maturation", 6, seed=5)
    values = spoiled(clean.reshape(2, 3, -1), how)
    flat = values.reshape(values.shape[0] * values.shape[1], values.shape[2])
    data = xr.DataArray(flat, dims=("cell", "time"), coords={"time": trace_cases.TIMES[: values.shape[-1]]})
    return traces.fit_trace_data(data, traces.FittingRequest("maturation"))


JOBS = {"fit": _fit, "bragg": _bragg, "traces": _traces}


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("job", JOBS)
def test_fits_of_every_room(job: str, how: str):
    expected = FITS[job].get(how, "converged")
    if how in ("no pixel", "negative") and " " in expected:
        with pytest.raises(InputError, match=expected):
            JOBS[job](how).compute()
        return
    clean = words(JOBS[job]("right").compute()) if how not in ("right", "one pixel") else RIGHT
    found = words(JOBS[job](how).compute())
    if how == "one position":
        assert found == clean[:1]
    elif how == "empty":
        assert found == []
    elif how == "one pixel":
        assert found == [expected] * 6
    elif how == "dead row":
        assert found == [expected] * 3 + clean[3:]
    else:
        assert found[:1] + found[2:] == clean[:1] + clean[2:]
        assert not expected or found[1] == expected


def test_negative_values_are_fitted_where_no_counts_are_claimed():
    x = np.linspace(-5, 5, 30)
    data = xr.DataArray(-40 * np.exp(-(x**2) / 2)[None] + 0.1 * np.cos(9 * x), dims=("x", "e"), coords={"e": x})
    fits = sf.fit(data, lmfit.models.GaussianModel() + lmfit.models.ConstantModel(), dim="e").compute()
    assert words(fits) == ["converged"]
    np.testing.assert_allclose(fits["height"], -40, rtol=0.01)


def test_an_empty_scan_is_not_saved(tmp_path: Path):
    with pytest.raises(InputError, match="nothing to compute"):
        sf.save(_fit("empty"), tmp_path / "fits.zarr", progress=False)
    assert not list(tmp_path.iterdir())


def _groups(count: int = 20, side: int = 6, change: Any = None, frames: Any = None, **options: Any) -> xr.Dataset:
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 9, (count, side, side)).astype("u2") if frames is None else frames
    y, x = rng.uniform(0, 50, (2, count))
    scan = xr.Dataset(
        {"diffraction": (("position", "ky", "kx"), frames)},
        {"position_y": ("position", y if change is None else change(y)), "position_x": ("position", x)},
        {"primary": "diffraction"},
    )
    plan = grouping.plan_groups(scan, **({"nsamples": 4, "gridsize": 2, "K": 7, "seed": 0} | options))
    return grouping.gather(scan, plan)


def _one(value: float) -> Any:
    def change(y: np.ndarray) -> np.ndarray:
        return np.where(np.arange(y.size) == 3, value, y)

    return change


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "from 0 positions"),
        ({"count": 1}, "from 1 positions"),
        ({"side": 0}, "nothing to gather"),
        ({"change": _one(np.nan)}, r"1 of 20 positions are NaN or infinite \(at 3\)"),
        ({"change": _one(np.inf)}, "NaN or infinite"),
        ({"change": _one(1e300)}, "are no numbers"),
        ({"change": lambda y: y.astype(str)}, "expected numbers"),
    ],
)
def test_gather_refuses(options: dict[str, Any], message: str):
    with pytest.raises(InputError if "expected" not in message else TypeError, match=message):
        _groups(**options)


def test_gather_takes_frames_as_they_are():
    assert _groups(1, gridsize=1, nsamples=1)["diffraction"].shape == (1, 1, 6, 6)
    assert _groups(side=1)["diffraction"].shape == (4, 4, 1, 1)
    frames = np.random.default_rng(2).normal(size=(20, 6, 6))
    frames[3], frames[4], frames[5] = np.nan, np.inf, -1e300
    frames[:, 2], frames[6] = 0, np.finfo(float).max  # a dead row of the detector, a saturated frame
    made = _groups(frames=frames, nsamples=20)
    np.testing.assert_array_equal(made["diffraction"], frames[made["nn_indices"].values])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"object": np.nan}, "NaN or infinite"),
        ({"object": np.inf}, "NaN or infinite"),
        ({"object": 0.0}, "no light"),
        ({"probe": np.nan}, "NaN"),
        ({"probe": np.inf}, "NaN"),
        ({"nphotons": 1e300}, "finite"),
        ({"nphotons": -1e4}, "nphotons"),
        ({"nphotons": np.nan}, "nphotons"),
        ({"background": -1.0}, "background"),
        ({"saturation": 0.0}, "saturation"),
        ({"n_images": 0}, "n_images"),
        ({"n_images": 10**12}, "too many"),
    ],
)
def test_simulate_refuses(options: dict[str, Any], message: str):
    given = {"object": ptycho.lines(60, seed=4, phase=True).copy(), "probe": ptycho.default_probe(16).copy()}
    for name in given:
        if name in options:
            given[name][...] = options[name]
    more = {"n_images": 4, "nphotons": 1e4} | {k: v for k, v in options.items() if k not in given}
    with pytest.raises(InputError, match=message):
        ptycho.generate_simulated_data(given["object"], given["probe"], **more).compute()


def test_simulate_takes_one_position_and_one_pixel():
    made = ptycho.generate_simulated_data(ptycho.lines(60, seed=4), ptycho.default_probe(16), n_images=1, nphotons=1e4)
    assert np.isfinite(made["diffraction"]).all()
    made = ptycho.generate_simulated_data(ptycho.lines(60, seed=4), np.ones((1, 1)), n_images=3, nphotons=1e4)
    assert made["diffraction"].shape == (3, 1, 1)


def test_simulate_has_dead_rows_and_saturated_pixels():
    alive = np.ones((16, 16), bool)
    alive[5] = False
    made = ptycho.generate_simulated_data(
        ptycho.lines(60, seed=4), ptycho.default_probe(16), n_images=3, nphotons=1e6, counts=True, beam_stop=alive,
        saturation=700,
    )  # fmt: skip
    frames = made["diffraction"].values
    assert not frames[:, 5].any()
    assert frames.max() == 700


SMALL = {"templates": {"roi_r": [2, 14]}, "preprocess": {"central_mask_px": 2}, "dpc": {"roi": [2, 14]}}


def _polarised(how: str, out: Path) -> xr.Dataset:
    rng = np.random.default_rng(0)
    ky, kx = np.arange(20)[:, None], np.arange(20)
    labels = np.arange(20).reshape(4, 5) % 2
    mean = 60 / (1 + np.exp(2 * (np.hypot(ky - 9.5, kx - 9.5) - 4))) + 1
    spot = 20 * np.exp(-((ky - 9.5) ** 2 + (kx - 16) ** 2) / 4)
    frames = spoiled(rng.poisson(mean + labels[..., None, None] * spot), how)
    if how in ("one pixel", "no pixel"):
        frames = frames[:, :, : frames.shape[-1]]
    scan = xr.DataArray(frames, dims=("y", "x", "ky", "kx"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return detectors.polarisation_map(
            scan.chunk(y=2) if scan.size else scan,
            labels[: frames.shape[0], : frames.shape[1]],
            SMALL,
            out,
            progress=False,
        )


@pytest.mark.parametrize("how", [*HOWS, "dead row of the detector"])
def test_polar_map(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(outputs.Folder, "draw", lambda *given: None)
    refused = {
        "negative": "negative counts have no logarithm", "one position": "at least two", "empty": "at least two",
        "one pixel": "the detector of", "no pixel": "the detector of",
    }  # fmt: skip
    if how in refused:
        with pytest.raises(InputError, match=refused[how]):
            _polarised(how, tmp_path / "out")
        return
    made = _polarised(how, tmp_path / "out").compute()
    bad = np.zeros((4, 5), bool)
    bad[0, 1 if how != "dead row" else slice(None)] = how not in ("right", "saturated", "dead row of the detector")
    np.testing.assert_array_equal(np.isnan(made["com_x"]).any([d for d in made["com_x"].dims if d not in "yx"]), bad)
    assert np.isfinite(made["template"]).all()


@pytest.mark.parametrize("bad_pixels", [None, "auto"])
def test_a_pixel_that_is_nan_in_every_frame(bad_pixels: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It spoils every frame, unless it is looked for."""
    monkeypatch.setattr(outputs.Folder, "draw", lambda *given: None)
    monkeypatch.setitem(SMALL, "preprocess", {"central_mask_px": 2, "bad_pixels": bad_pixels})
    made = _polarised("dead pixel", tmp_path / "out").compute()
    assert bool(np.isfinite(made["com_x"]).all()) == (bad_pixels == "auto")
    assert bool(np.isnan(made["com_x"]).all()) == (bad_pixels is None)
