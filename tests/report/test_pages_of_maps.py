"""Pages of what is no fit: maps, simulated patterns, groups, scans; every number on them is checked."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from test_report import EVIL, Page, check_harmless

import scanfold as sf
from scanfold import detectors, grouping, ptycho
from scanfold.cli import main
from scanfold.conventions import InputError
from scanfold.report import maps as sections


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> xr.Dataset:
    sim = ptycho.generate_simulated_data(
        ptycho.lines(96, seed=2), ptycho.default_probe(32), n_images=120, nphotons=1e5, buffer=4, gridsize=2, seed=3
    )
    return sf.save(sim, tmp_path_factory.mktemp("sim") / "sim.zarr", progress=False)


def rows(page: Page, first: str) -> dict[str, list[str]]:
    """Return the table whose first row below its head has this name, by the names of its rows."""
    return next({row[0]: row[1:] for row in t[1:]} for t in page.tables if len(t) > 1 and t[1][0] == first)


def test_a_simulation_shows_positions_frames_and_waves(simulated, tmp_path):
    page = Page(sf.report(simulated, tmp_path / "sim.html"))
    check_harmless(page)
    assert page.size < 5e6
    assert len(page.images()) == 5  # positions, mean frame, frames, object, probe
    step = -(-120 // sections._FRAMES)
    frames = simulated["diffraction"].values[::step].astype(float)
    photons = (frames**2).sum((1, 2)).mean() * float(simulated["intensity_scale"]) ** 2
    (said,) = rows(page, "photons in a frame, mean of these")["photons in a frame, mean of these"]
    assert float(said.replace(",", "")) == pytest.approx(photons, rel=1e-5)
    options = rows(page, "operation")
    assert options["operation"] == ["ptycho.generate_simulated_data"]
    assert options["seed"] == ["3"]


def test_groups_are_counted_and_drawn(simulated, tmp_path):
    plan = grouping.plan_groups(simulated, nsamples=40, gridsize=2, K=6, seed=1)
    groups = sf.save(grouping.gather(simulated, plan), tmp_path / "groups.zarr", progress=False)
    count = np.bincount(plan["nn_indices"].values.ravel(), minlength=120)
    for ds, data, pictures in ((plan, simulated, 2), (plan, None, 1), (groups, None, 5)):
        page = Page(sf.report(ds, tmp_path / "groups.html", data))
        check_harmless(page)
        found = rows(page, "groups")
        assert found["groups that a position is in, on average"] == [f"{count.mean():.6g}"]
        assert found["most"] == [str(count.max())]
        assert found["positions in a group"] == [f"{np.mean(count > 0):.1%}"]
        assert len(page.images()) == pictures


def test_maps_have_statistics_and_pictures_from_the_command_line(tmp_path, capsys):
    frames = np.random.default_rng(0).poisson(4, (9, 11, 12, 12)).astype("u2")
    frames[2, 3] = 0  # no counts: no centre of mass
    scan = xr.DataArray(frames, dims=("y", "x", "ky", "kx"), name="counts").chunk(y=3)
    com = sf.save(detectors.center_of_mass(scan), tmp_path / "com.zarr", progress=False)
    assert main(["report", str(tmp_path / "com.zarr"), "--out", str(tmp_path / "com.html")]) == 0
    page = Page(tmp_path / "com.html")
    check_harmless(page)
    found = {row[0]: row[1:] for row in page.table("map")[1:]}
    values = com["com_x"].values[np.isfinite(com["com_x"].values)]
    expected = [98 / 99, *np.percentile(values, (2, 50, 98))]
    np.testing.assert_allclose([float(v) for v in found["com_x"]], expected, rtol=1e-5)
    assert set(found) == {"com_x", "com_y", "com_x_stderr", "com_y_stderr", "frame_valid", "total"}
    assert len(page.images()) == 4  # com_x, com_y, total, frame_valid; no errors


def test_a_scan_is_read_in_part_only(tmp_path):
    read = []

    def load(block: np.ndarray) -> np.ndarray:
        read.append(block.size)
        return block

    frames = xr.DataArray(np.ones((100, 100, 8, 8), "u2"), dims=("y", "x", "ky", "kx"), name="counts").chunk(y=1, x=1)
    lazy = frames.copy(data=frames.data.map_blocks(load, dtype="u2", meta=np.empty((0,) * 4, "u2")))
    page = Page(sf.report(lazy.to_dataset(), tmp_path / "scan.html"))
    check_harmless(page)
    assert len(page.images()) == 2
    assert sum(n > 0 for n in read) <= sections._FRAMES + 8 * 2


def test_hostile_names_stay_text(tmp_path):
    maps = xr.Dataset({EVIL: (("y", "x"), np.arange(12.0).reshape(3, 4), {"long_name": EVIL, "units": EVIL})})
    maps.attrs["provenance"] = '{"operation": "<script>", "options": {"<b>": "<img src=x onerror=alert(1)>"}}'
    maps.attrs["title"] = EVIL
    page = Page(sf.report(maps, tmp_path / "evil.html"))
    check_harmless(page)
    assert "<img src=x onerror=alert(1)>" in page.text


def test_positions_of_nothing_make_a_page(tmp_path):
    page = Page(sf.report(xr.Dataset({"a": ("energy", [1.0, np.nan])}), tmp_path / "a.html"))
    check_harmless(page)
    assert page.images() == []
    with pytest.raises(InputError, match="holds no maps"):
        sf.report(xr.Dataset(), tmp_path / "b.html")


@pytest.mark.parametrize("kind", ["simulated", "maps"])
def test_a_browser_shows_the_pictures(browser, kind, simulated, tmp_path):
    ds = simulated if kind == "simulated" else xr.Dataset({"a": (("y", "x"), np.arange(12.0).reshape(3, 4))})
    path = sf.report(ds, tmp_path / "page.html")
    browser.open(path.as_uri())
    assert {url for url in browser.asked() if not url.startswith("data:")} == {path.as_uri()}
    assert browser.complaints() == []
    pictures = browser.driver.find_elements("tag name", "img")
    assert pictures
    assert all(browser.driver.execute_script("return arguments[0].naturalWidth", p) > 100 for p in pictures)
