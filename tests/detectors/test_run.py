"""A whole run: its files against its arrays, its resumption, its refusals, its clicks."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
import xarray as xr
import yaml

import scanfold as sf
from scanfold import detectors as det
from scanfold.conventions import InputError, InputTypeError
from scanfold.detectors import derive, interactive, outputs
from scanfold.detectors.config import KEYS, as_yaml, check, resolve

from .scans import CENTER, SHAPE, disc_scan

#: Rings that suit a detector of 33 × 48.
SMALL = {"templates": {"roi_r": [2, 14]}, "preprocess": {"central_mask_px": 2}, "dpc": {"roi": [2, 14]}}


def changed(**sections):
    return {name: {**SMALL.get(name, {}), **sections.get(name, {})} for name in {*SMALL, *sections}}


def made(out: Path, config=SMALL, given=None, **options):
    scan, labels, _ = disc_scan()
    labels = labels if given is None else given
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return det.polarisation_map(scan.chunk(y=3), labels, config, out, progress=False, **options)


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    """Draw in `whole` alone, which is made before this: figures take longer than all else."""
    monkeypatch.setattr(outputs.Folder, "draw", lambda *given: None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "out"
    more = {"enable_split_half": True, "planted_shifts": True}
    return made(out, changed(validation=more)).compute(), out


def image(out: Path, name: str) -> np.ndarray:
    return tifffile.imread(out / f"realspace/{name}.tif")


def test_the_tree_is_the_promised_one(whole):
    _, out = whole
    clusters = range(3)
    expected = {f"kspace/{n}_{c}.npy" for n in ("template_T", "gate_G", "mu_cluster") for c in clusters}
    expected |= {f"kspace/mu_cluster_{c}.png" for c in clusters} | {"kspace/mu_global.npy", "kspace/sigma_global.npy"}
    expected |= {f"realspace/S_cluster_{c}.tif" for c in clusters}
    names = ("S_argmax", "S_confidence", "Ex", "Ey", "E_mag", "E_angle", "com_x", "com_y")
    expected |= {f"realspace/{n}.tif" for n in names}
    expected |= {f"figures/{n}.png" for n in ("montage_templates", "hsv_polarisation", "DPC_quiver")}
    expected |= {"logs/run.json", "logs/config.yaml", "logs/timings.txt"}
    found = {str(p.relative_to(out)) for p in out.glob("[a-z]*/*") if "polar_map.zarr" not in str(p)}
    assert expected <= found


def test_files_hold_what_the_store_holds(whole):
    maps, out = whole
    mean, std = np.load(out / "kspace/mu_global.npy"), np.load(out / "kspace/sigma_global.npy")
    for number in range(3):
        template = np.load(out / f"kspace/template_T_{number}.npy")
        difference = (np.load(out / f"kspace/mu_cluster_{number}.npy") - mean) / (std + 1e-6 * np.median(std))
        difference[~maps["used"].values] = 0  # the formula, from the files alone
        np.testing.assert_allclose(template, difference / np.sqrt((difference**2).sum()), atol=1e-9)
        np.testing.assert_array_equal(np.load(out / f"kspace/gate_G_{number}.npy"), maps["gate"][number])
        np.testing.assert_array_equal(image(out, f"S_cluster_{number}"), maps["score"][..., number])
    assert image(out, "S_argmax").dtype == np.int16
    np.testing.assert_array_equal(image(out, "S_argmax"), maps["assignment"])
    own = maps.sel(detector="adaptive")
    for name, variable in {
        "Ex": "Ex",
        "Ey": "Ey",
        "E_mag": "E_mag",
        "com_x": "com_x_raw",
        "com_y": "com_y_raw",
    }.items():
        np.testing.assert_allclose(image(out, name), own[variable], rtol=1e-6)
    np.testing.assert_allclose(image(out, "Ex_disc"), maps["Ex"].sel(detector="disc"), rtol=1e-6)
    assert np.abs(own["com_x_raw"] - own["com_x"]).max() > 1e-3  # raw is before the baseline


def test_it_is_the_library_step_by_step(whole):
    maps, _ = whole
    scan, labels, _ = disc_scan()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        stats = det.cluster_statistics(scan, labels, log=True, background="mean")
        tmpl = det.templates(stats, central_mask_px=2)
        gates = det.gates(tmpl, roi_r=(2, 14))
        found = det.virtual_maps(scan, tmpl, gates, labels=labels, roi=(2, 14))
        field = det.electric_field(det.subtract_baseline(found, "rowcol"), field_scale=1.0)
    np.testing.assert_allclose(maps["score"], found["score"], atol=2e-5 * float(found["score"].std()))
    np.testing.assert_allclose(maps["Ey"], field["Ey"], atol=1e-4)


def test_the_store_serves_another_scan(whole):
    maps, _ = whole
    other, _, _ = disc_scan(seed=5)
    expected = det.virtual_maps(other, maps, maps, roi=(2, 14))
    assert expected["score"].shape == (*SHAPE, 3)
    assert np.isfinite(expected["score"]).all()


def test_units_and_validation_are_in_the_store(whole):
    maps, _ = whole
    assert maps["com_x"].attrs["units"] == "pixel"
    assert (maps["correlation"] > maps["correlation_shuffled"]).all()
    assert (abs(maps["correlation_shuffled"]) < 0.2).all()
    # No true shift: what the adaptive detector finds is the labels, and the disc finds nothing.
    share = maps["label_share"]
    assert float(share.sel(detector="adaptive")) > 3 * float(share.sel(detector="disc"))
    null = maps["null_label_spread"]
    assert float(null.sel(detector="adaptive")) > 3 * float(null.sel(detector="disc"))


def test_weights_of_one_or_nothing_are_labels(tmp_path):
    labels = np.maximum(disc_scan()[1], 0)
    hard, soft = (made(tmp_path / str(given.ndim), given=given) for given in (labels, np.eye(3)[labels]))
    for name in ("template", "gate", "assignment", "com_y", "com_x", "Ex", "Ey", "label_share"):
        np.testing.assert_allclose(soft[name], hard[name], atol=1e-6, err_msg=name)
    # A third of every weight goes to all clusters alike: the sums are mixed so. Halves go by the largest weight.
    mixed = made(tmp_path / "mixed", given=np.eye(3)[labels] * 2 / 3 + 1 / 9)
    np.testing.assert_allclose(mixed["frames"].sum("cluster"), hard["frames"].sum("cluster"), rtol=1e-12)
    everything = hard["signal_sum"].sum("cluster")
    np.testing.assert_allclose(mixed["signal_sum"], hard["signal_sum"] * 2 / 3 + everything / 9, rtol=1e-6)


def test_a_page_is_written_about_it(whole, tmp_path, capsys):
    from scanfold.cli import main
    from scanfold.report.polarisation import polarisation_report

    _, out = whole
    text = polarisation_report(out).read_text()
    for words in ("shuffled", "Polarisation map", "gate covers", "share of the labels", "null label spread"):
        assert words in text
    assert text.count("data:image/png") >= 6
    assert main(["report", str(out), "--out", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").read_text() == text
    assert "page.html" in capsys.readouterr().out


def test_logs_say_what_was_done(whole):
    maps, out = whole
    log = json.loads((out / "logs/run.json").read_text())
    assert {"timestamp", "command_line", "config", "timings", "system_info", "versions", "notes"} <= set(log)
    assert log["state"] == "complete"
    assert log["center"] == maps["center"].values.tolist()
    assert {"pass_a", "pass_b", "figures", "total"} <= set(log["timings"])
    assert resolve(out / "logs/config.yaml") == log["config"]
    assert "pass_b" in (out / "logs/timings.txt").read_text()


def test_an_interrupted_run_goes_on_and_reads_nothing_twice(tmp_path, monkeypatch):
    scan, labels, _ = disc_scan()
    source = sf.testing.CountingArray(scan.values)
    lazy = source.lazy(scan.dims, y=2)

    def stop(*args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("scanfold.detectors.run.assign", stop)
        with pytest.raises(KeyboardInterrupt):
            det.polarisation_map(lazy, labels, SMALL, tmp_path / "out", progress=False)
    read = source.elements
    assert read >= 2 * scan.size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        maps = det.polarisation_map(lazy, labels, SMALL, tmp_path / "out", progress=False)
    assert source.elements == read
    expected = made(tmp_path / "other")
    np.testing.assert_allclose(maps["score"], expected["score"], atol=1e-4)


def test_another_run_in_the_folder_is_refused_and_replaced_when_asked(tmp_path):
    out = tmp_path / "out"
    made(out)
    before = (out / "realspace/Ex.tif").read_bytes()
    with pytest.raises(InputError, match=r"templates.top_percent: 10.0 there, 20.0 now"):
        made(out, changed(templates={"top_percent": 20}))
    assert (out / "realspace/Ex.tif").read_bytes() == before
    (out / "kspace/template_T_9.npy").touch()
    made(out, changed(templates={"top_percent": 20}), resume=False)
    assert (out / "realspace/Ex.tif").read_bytes() != before
    assert not (out / "kspace/template_T_9.npy").exists()


@pytest.mark.parametrize(
    "key", [k for k in KEYS if k.default is None or k.name in ("roi_r", "roi")], ids=lambda k: k.name
)
def test_every_key_that_may_be_null_takes_null_or_says_not(key):
    if key.default is None:
        assert resolve({key.section: {key.name: None}})[key.section][key.name] is None
    else:
        with pytest.raises(InputTypeError, match=key.name):
            resolve({key.section: {key.name: None}})


def test_defaults_are_those_that_were_promised():
    found = resolve(None)
    assert found["templates"] == {"top_percent": 10, "smooth_sigma": 1.5, "roi_r": [8, 80], "gate_type": "hard"}
    promised = {"log_transform": True, "background_subtract": True, "central_mask_px": 8, "whiten": "diag"}
    assert promised.items() <= found["preprocess"].items()
    assert found["matched_filter"]["softmax_temp"] == 2.0
    dpc = {"gate_mode": "adaptive", "baseline": "rowcol", "baseline_region": None, "roi": [8, 80], "field_scale": 1.0}
    assert dpc.items() <= found["dpc"].items()
    calibration = {"center_y": None, "center_x": None, "pixel_size": None, "pixel_size_units": "nm", "pixel_size_k": 1,
                   "pixel_size_ky": None, "pixel_size_kx": None, "convergence_angle": None}  # fmt: skip
    assert calibration.items() <= found["calibration"].items()
    assert found["validation"]["enable_split_half"] is False
    assert resolve(yaml.safe_load(as_yaml(found, explained=True))) == found


WRONG = {
    "unknown section": ({"template": {}}, "did you mean 'templates'"),
    "unknown key": ({"dpc": {"gatemode": "union"}}, "did you mean 'gate_mode'"),
    "key without section": ({"softmax_temp": 1}, "write it under matched_filter"),
    "key in another section": ({"dpc": {"top_percent": 5}}, "write it under templates"),
    "text for a number": ({"templates": {"top_percent": "ten"}}, r"templates.top_percent is 'ten'; expected a number"),
    "number for a switch": ({"preprocess": {"log_transform": 1}}, "expected true or false"),
    "close word": ({"dpc": {"gate_mode": "adaptiv"}}, "did you mean 'adaptive'"),
    "section of another kind": ({"dpc": 3}, "expected keys such as gate_mode"),
    "ring inside out": ({"templates": {"roi_r": [80, 8]}}, "inner radius first"),
    "ring beyond the detector": ({"dpc": {"roi": [90, 200]}}, "ends before"),
    "half a centre": ({"calibration": {"center_y": 3}}, "belong together"),
    "centre off the detector": ({"calibration": {"center_y": 3, "center_x": 99}}, "off the detector"),
    "size without a unit": ({"calibration": {"pixel_size_k": 0.02}}, "pixel_size_k_units"),
    "half a pair of sizes": ({"calibration": {"pixel_size_ky": 0.1, "pixel_size_k_units": "1/nm"}}, "belong together"),
    "field of pixels": ({"dpc": {"beam_energy": 3e5}}, "reciprocal lengths"),
    "thickness alone": ({"dpc": {"thickness": 20}}, "beam_energy"),
    "two scales": ({"dpc": {"beam_energy": 3e5, "field_scale": 2}}, "both given"),
    "sizes that contradict": ({"dpc": {"beam_energy": 3e5}, "calibration": {"pixel_size": 0.1, "mrad_per_pixel": 9}},
                              "pass one of them"),
    "roi without region": ({"dpc": {"baseline": "roi"}}, "baseline_region"),
    "annulus without centre": ({"preprocess": {"background_annulus": [9, 12]}}, "center_y"),
    "no such dose": ({"preprocess": {"dose": "nowhere.npy"}}, "cannot read 'nowhere.npy'"),
}  # fmt: skip


@pytest.mark.parametrize(("config", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_configurations_are_refused_before_anything_is_read_or_written(config, message, tmp_path):
    scan, labels, _ = disc_scan()
    source = sf.testing.CountingArray(scan.values)
    lazy = source.lazy(scan.dims, y=2)
    with pytest.raises((InputError, InputTypeError), match=message):
        det.polarisation_map(lazy, labels, config, tmp_path / "out", progress=False)
    assert source.reads == 0
    assert not (tmp_path / "out").exists()


def test_other_wrong_input_is_refused_before_the_first_pass(tmp_path):
    scan, labels, _ = disc_scan()
    lazy = (source := sf.testing.CountingArray(scan.values)).lazy(scan.dims, y=2)
    one, gap = np.zeros_like(labels), np.where(labels == 1, 5, labels)
    file = tmp_path / "file"
    file.touch()
    cases = [
        (labels[:3], tmp_path / "out", {}, "labels have the shape"),
        (one, tmp_path / "out", {}, "at least two"),
        (gap, tmp_path / "out", {}, "empty"),
        (1, tmp_path / "out", {}, "clusters"),
        (labels, file, {}, "cannot write"),
        (labels, tmp_path / "out", {"device": "cuda:0"}, "CuPy|CUDA"),
        (labels, tmp_path / "out", {"device": "gpu"}, "expected cpu"),
        (labels, tmp_path / "out", {"known_spacing": 2.0}, "interactive"),
        (labels, tmp_path / "out", {"interactive_center": True}, "no display"),
    ]
    for given, out, options, message in cases:
        with pytest.raises(InputError, match=message):
            det.polarisation_map(lazy, given, SMALL, out, progress=False, **options)
    assert source.reads == 0


def test_clicks_are_used_at_once_and_kept_in_the_configuration(tmp_path, monkeypatch):
    scan, labels, _ = disc_scan()
    source = sf.testing.CountingArray(scan.values)
    seen = []

    class Clicked:
        center = (14.0, 25.0)
        calibration = dict.fromkeys(("pixel_size_ky", "pixel_size_kx"), 0.02)

    def click(stats, **options):
        seen.append((float(stats["center"][0]), options))
        return Clicked

    monkeypatch.setattr(interactive, "require_display", lambda waiting: None)
    monkeypatch.setattr(interactive, "interactive_center", click)
    monkeypatch.setattr(interactive, "interactive_kspace", click)
    options = {"interactive_center": True, "interactive_kspace": True, "known_spacing": 1.92}
    lazy = source.lazy(scan.dims, y=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        maps = det.polarisation_map(lazy, labels, SMALL, tmp_path / "out", progress=False, **options)
    # Two reads, and the positions that a run tries first: nothing was read again for the clicks.
    assert source.elements <= 2 * scan.size + 2 * 2 * SHAPE[1] * scan[0, 0].size
    assert abs(seen[0][0] - CENTER[0]) < 0.5  # the automatic centre is what is shown first
    assert seen[1] == (14.0, {"known_spacing": 1.92})
    assert maps["center"].values.tolist() == [14.0, 25.0]
    assert maps["com_x"].attrs["units"] == "1/angstrom"
    kept = resolve(tmp_path / "out/logs/config.yaml")
    assert (kept["calibration"]["center_y"], kept["calibration"]["pixel_size_k_units"]) == (14.0, "1/angstrom")
    again = made(tmp_path / "again", kept)
    com = [ds["com_y"].sel(detector="disc") for ds in (again, maps)]
    np.testing.assert_allclose(*com, atol=1e-7)  # exact sums of counts: other chunks, the same numbers


def test_a_given_centre_goes_before_clicks(tmp_path, monkeypatch):
    monkeypatch.setattr(interactive, "require_display", lambda waiting: None)
    given = changed(calibration={"center_y": 14.2, "center_x": 25.5})
    maps = made(tmp_path / "out", given, interactive_center=True)
    assert maps["center"].values.tolist() == [14.2, 25.5]


def test_volts_rotation_and_what_derives_from_the_field(tmp_path):
    plain = changed(dpc={"baseline": "median", "gate_mode": "disc"})
    sizes = {"pixel_size_k": 0.02, "pixel_size_k_units": "1/angstrom", "scan_step": 0.5}
    physical = changed(dpc={"baseline": "median", "gate_mode": "disc", "beam_energy": "300e3", "rotation": 90},
                       calibration=sizes)  # fmt: skip
    pixels, volts = made(tmp_path / "pixels", plain).compute(), made(tmp_path / "volts", physical).compute()
    assert volts["Ex"].attrs["units"] == "V"
    disc = {"detector": "disc"}
    # Turned by 90°: x of the detector is y of the scan; 9628 V for each 1/angstrom, against the shift.
    np.testing.assert_allclose(volts["Ey"].sel(disc), -9628.4 * 0.02 * pixels["com_x"].sel(disc), rtol=1e-4, atol=1e-6)
    assert {"divergence", "curl", "charge", "phase"} <= set(volts)
    assert image(tmp_path / "volts", "phase").shape == SHAPE
    assert volts["x"].values[1] == 0.5


def test_descan_dose_annulus_and_bad_pixels(tmp_path):
    np.save(tmp_path / "dose.npy", np.full(SHAPE, 2.0))
    config = changed(
        preprocess={"dose": str(tmp_path / "dose.npy"), "background_annulus": [12, 16], "bad_pixels": "auto",
                    "count_noise": False},
        calibration={"center_y": CENTER[0], "center_x": CENTER[1]},
        dpc={"descan": "plane", "disc_radius": 8},
        matched_filter={"residual": True, "softmax_units": "lda", "prior": [1, 1, 2]},
    )  # fmt: skip
    maps = made(tmp_path / "out", config)
    assert (tmp_path / "out/.scanfold/descan.zarr").exists()
    assert np.isfinite(maps["residual"]).all()
    options = json.loads(maps.attrs["preprocess"])
    assert options["dose"] is True
    assert options["annulus"] == [*CENTER, 12.0, 16.0]


def test_labels_are_made_where_only_their_number_is_given(tmp_path):
    scan, _, _ = disc_scan()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        maps = det.polarisation_map(scan.chunk(y=3), 3, SMALL, tmp_path / "out", progress=False)
    assert maps.sizes["cluster"] == 3


def test_the_disc_follows_the_convergence_angle():
    scan, _, _ = disc_scan()
    sizes = {"pixel_size_k": 0.05, "pixel_size_k_units": "1/angstrom"}
    options = resolve({"calibration": {**sizes, "convergence_angle": 10}, "dpc": {"beam_energy": 300e3}})
    radius = derive.disc_radius(options, derive.calibrated(scan, options, CENTER))
    assert radius == pytest.approx(1.25 * 10e-3 / 0.0196875 / 0.05, rel=1e-4)


def test_labels_explain_all_or_nothing():
    com = np.zeros((1, 6, 2))
    com[0, 3:, 0] = 1.0  # the first detector is the labels; the second does not know of them
    com[0, :, 1] = [1, -1, 0, 1, -1, 0]
    flat = xr.Dataset({n: (("y", "x", "detector"), com) for n in ("com_y", "com_x")}, coords={"detector": ["a", "b"]})
    scan = xr.DataArray(np.zeros((1, 6, 2, 2)), dims=("y", "x", "ky", "kx"))
    share = derive.label_share(flat, np.array([0, 0, 0, 1, 1, 1]), scan, ("y", "x"))
    np.testing.assert_allclose(share, [1, 0], atol=1e-12)


def test_rowcol_of_free_positions_is_the_median_and_says_so(tmp_path):
    scan, labels, _ = disc_scan()
    line = scan.stack(position=("y", "x"), create_index=False).transpose("position", "ky", "kx")
    with pytest.warns(UserWarning, match="the median is used"):
        maps = det.polarisation_map(line, labels.ravel(), SMALL, tmp_path / "out", progress=False)
    np.testing.assert_allclose(np.nanmedian(maps["com_x"].sel(detector="disc")), 0, atol=1e-12)


def test_check_takes_what_is_right():
    check(resolve(SMALL), (33, 48), SHAPE)
