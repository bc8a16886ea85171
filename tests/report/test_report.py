"""The page is whole, small, harmless whatever the metadata holds, and its numbers are those of the fits."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import h5py
import lmfit
import numpy as np
import pytest
import xarray as xr

import scanfold as sf
from scanfold.conventions import InputError, InputTypeError, flags
from scanfold.fitting import STATUS
from scanfold.report import figures, statistics
from scanfold.report import page as page_module
from scanfold.report.polarisation import polarisation_report

VOID = {"meta", "img"}
EVIL = "<script>alert('x')</script><img src=http://evil.example/x onerror=alert(1)>\"'&$\\frac"


class Page(HTMLParser):
    """A parsed page: its tags in order, its text, its tables as rows of cells."""

    def __init__(self, path: Path):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.text = self.style = ""
        self.size = path.stat().st_size
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["style"]:
            self.style += data
            return
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data

    def table(self, first: str) -> list[list[str]]:
        """Return the table whose first heading is this."""
        return next(t for t in self.tables if t[0][0] == first)

    def images(self) -> list[bytes]:
        sources = [str(a["src"]) for t, a in self.tags if t == "img"]
        assert all(s.startswith("data:image/png;base64,") for s in sources)
        return [base64.b64decode(s.partition(",")[2], validate=True) for s in sources]


def check_harmless(page: Page) -> None:
    """Assert that the page runs nothing and asks nobody for anything."""
    assert page.open == []
    assert page.size < 5_000_000
    assert {t for t, _ in page.tags} <= {
        "html", "head", "meta", "title", "style", "body", "header", "section", "h1", "h2", "h3", "p", "div", "table",
        "thead", "tbody", "tr", "th", "td", "pre", "details", "summary", "img",
    }  # fmt: skip
    for _, attributes in page.tags:
        assert set(attributes) <= {"lang", "charset", "http-equiv", "content", "name", "class", "src", "alt"}
    assert "url(" not in page.style
    assert "@import" not in page.style
    for png in page.images():
        assert png.startswith(b"\x89PNG\r\n\x1a\n")


def peak_model() -> lmfit.Model:
    return lmfit.models.GaussianModel() + lmfit.models.LinearModel()


@pytest.fixture(scope="module")
def grid(tmp_path_factory) -> tuple[xr.DataArray, xr.Dataset, Page]:
    scan, _ = sf.testing.peak_scan({"y": 6, "x": 7}, seed=5)
    scan[2, 3] = np.nan
    scan[4, 1, 40:60] += 900.0
    fits = sf.fit(scan, peak_model(), dim="energy", weights="counts").compute()
    path = tmp_path_factory.mktemp("report") / "report.html"
    assert sf.report(fits, path, scan) == path
    return scan, fits, Page(path)


def test_a_page_of_a_grid_is_whole_and_harmless(grid):
    _, fits, page = grid
    check_harmless(page)
    assert sum(t == "h2" for t, _ in page.tags) == 6
    assert "42 positions (6 y × 7 x)" in page.text
    assert f"numpy {np.__version__}" in page.text
    assert len(page.images()) == 1 + 5 + 6  # quality; amplitude, center, sigma, slope, intercept; worst
    assert "Not drawn" not in page.text
    assert str(fits.attrs["title"]) in page.text


def test_statuses_are_counted_and_explained(grid):
    _, fits, page = grid
    rows = page.table("status")[1:]
    codes, counts = np.unique(fits["status"], return_counts=True)
    words = {v: k.replace("_", " ") for k, v in flags(fits["status"]).items()}
    assert {r[0]: r[1] for r in rows} == {words[c]: str(n) for c, n in zip(codes, counts, strict=True)}
    assert all(len(r[3]) > 20 for r in rows)
    assert set(statistics.MEANINGS) == set(STATUS)


def test_statistics_are_those_of_the_positions_that_converged(grid):
    _, fits, page = grid
    good = fits["status"].values == STATUS["converged"]
    rows = {r[0]: r[1:] for r in next(t for t in page.tables if t[0][:3] == ["parameter", "positions", "median"])[1:]}
    assert {"amplitude", "center", "sigma", "slope", "intercept", "fwhm", "height"} == set(rows)
    for name, cells in rows.items():
        values = fits[name].values[good]
        expected = [np.median(values), *np.percentile(values, (16, 84)), np.median(fits[f"{name}_stderr"].values[good])]
        assert int(cells[0]) == good.sum()
        np.testing.assert_allclose([float(c) for c in cells[1:]], expected, rtol=1e-5)


def test_the_worst_fits_come_worst_first(grid):
    _, fits, page = grid
    rows = page.table("y")[1:]
    redchi = fits["redchi"].values
    order = np.argsort(-np.where(np.isfinite(redchi), redchi, -1), axis=None)[:6]
    assert [(int(r[0]), int(r[1])) for r in rows] == [tuple(np.unravel_index(i, redchi.shape)) for i in order]
    assert rows[0][:3] == ["4", "1", "poor_fit"]
    np.testing.assert_allclose([float(r[3]) for r in rows], redchi.ravel()[order], rtol=1e-5)


def test_the_options_and_parameters_are_told(grid):
    _, _, page = grid
    rows = {r[0]: r[1:] for r in page.tables[0]}
    assert rows["model"] == ["GaussianModel() + LinearModel()"]
    assert rows["fitted along"] == ["energy"]
    assert rows["weights"] == ["counts"]
    parameters = {r[0]: r[1:] for r in page.table("parameter")[1:]}
    assert parameters["sigma"][1] == "0"
    assert parameters["fwhm"][3:] == ["no", "2.3548200*sigma"]


def hostile() -> tuple[xr.DataArray, xr.Dataset]:
    """Return fits whose every piece of metadata tries to break out of the page."""
    scan, _ = sf.testing.peak_scan({"group": 4}, seed=1)
    scan = scan.rename(energy="energy", group=EVIL).assign_coords({EVIL: np.array([EVIL, "b", "</td>", "c"], object)})
    scan.attrs = {"units": EVIL, "long_name": EVIL, "source": f'{{"path": "{EVIL_PATH}", "dataset": "/{EVIL_PATH}"}}'}
    scan["energy"].attrs = {"units": EVIL, "long_name": EVIL}
    scan.name = EVIL
    fits = sf.fit(scan, peak_model(), dim="energy", weights="counts").compute()
    for variable in fits.variables.values():
        variable.attrs |= {"long_name": EVIL, "units": EVIL}
    fits.attrs["title"] = EVIL
    return scan, fits


EVIL_PATH = "</pre><script>alert(1)</script>.h5"


def test_hostile_metadata_stays_text(tmp_path):
    scan, fits = hostile()
    page = Page(sf.report(fits, tmp_path / "report.html", scan))
    check_harmless(page)
    assert EVIL in page.text
    assert EVIL_PATH in page.text
    check_harmless(Page(sf.report(fits, tmp_path / "report.html")))


def test_a_line_and_a_lazy_scan(tmp_path):
    scan, _ = sf.testing.peak_scan({"position": 80})
    fits = sf.fit(scan.chunk(position=20), peak_model(), dim="energy")
    page = Page(sf.report(fits, tmp_path / "line.html", scan))
    check_harmless(page)
    assert "80 positions (80 position)" in page.text
    assert "All positions" not in page.text


def test_named_groups_have_a_table_of_their_own(tmp_path):
    scan, _ = sf.testing.peak_scan({"group": 3})
    scan = scan.assign_coords(group=np.array(["Fe", "Cu", "Ni"], object))
    fits = sf.fit(scan, peak_model(), dim="energy", weights="counts").compute()
    page = Page(sf.report(fits, tmp_path / "groups.html", scan))
    rows = next(t for t in page.tables if t[0][:2] == ["group", "success"])
    assert [r[0] for r in rows[1:]] == ["Fe", "Cu", "Ni"]
    column = rows[0].index("center")
    np.testing.assert_allclose([float(r[column]) for r in rows[1:]], fits["center"], rtol=1e-5)


def test_a_saved_run_draws_its_worst_fits_from_the_recorded_file(tmp_path):
    scan, _ = sf.testing.peak_scan({"y": 3, "x": 3})
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        file["counts"] = scan.values.reshape(9, 100)
    whole = sf.open_scan(path)["counts"]
    fits = sf.fit(whole, peak_model(), dim="index", weights="counts")
    page = Page(sf.report(fits, tmp_path / "whole.html"))
    assert "Not drawn" not in page.text
    assert len(page.images()) == 12
    part = sf.fit(whole.isel(index=slice(10, 90)), peak_model(), dim="index", weights="counts")
    page = Page(sf.report(part, tmp_path / "part.html"))
    assert f"Not drawn: a part of {path} was used" in page.text
    path.unlink()
    assert "Not drawn" in Page(sf.report(part_of(fits), tmp_path / "gone.html")).text


def part_of(fits: xr.Dataset) -> xr.Dataset:
    """Return maps of the right kind that need no file."""
    return fits.copy(data={n: np.ones(v.shape, v.dtype) for n, v in fits.data_vars.items()})


def test_a_function_of_the_user_needs_passing_to_be_drawn(tmp_path):
    scan, _ = sf.testing.peak_scan({"position": 3}, counts=False)

    def bump(energy, a, c, w, b):
        return a * np.exp(-(((energy - c) / w) ** 2)) + b

    model = lmfit.Model(bump, independent_vars=["energy"])
    fits = sf.fit(scan, model, {"a": 500, "c": 5.0, "w": 1, "b": 40}, dim="energy").compute()
    assert "Not drawn: the model is a function of yours" in Page(sf.report(fits, tmp_path / "a.html", scan)).text
    page = Page(sf.report(fits, tmp_path / "b.html", scan, model=model))
    assert "Not drawn" not in page.text
    assert len(page.images()) == 1 + 4 + 3


def test_fits_that_all_failed_still_make_a_page(tmp_path):
    scan, _ = sf.testing.peak_scan({"y": 2, "x": 2})
    fits = sf.fit(scan * np.nan, peak_model(), dim="energy", weights="counts")
    page = Page(sf.report(fits, tmp_path / "none.html", scan))
    check_harmless(page)
    assert "No position has a fit." in page.text
    assert "none converged" in page.text


def test_maps_without_a_record_make_a_page(tmp_path, grid):
    _, fits, _ = grid
    page = Page(sf.report(fits.assign_attrs(provenance="{}"), tmp_path / "bare.html"))
    check_harmless(page)
    assert "holds no record of how it was made" in page.text


def noisy(count: int, shape: tuple[int, int]) -> xr.Dataset:
    """Return maps of pure noise, which compress least."""
    rng = np.random.default_rng(0)
    maps = {f"p{i}{s}": (("y", "x"), rng.random(shape)) for i in range(count) for s in ("", "_stderr")}
    more = {"redchi": rng.random(shape), "nfev": np.ones(shape, int), "n_used": np.full(shape, 9)}
    fits = xr.Dataset(maps | {n: (("y", "x"), v) for n, v in more.items()})
    flag = {"flag_values": [1], "flag_meanings": "converged"}
    return fits.assign(status=(("y", "x"), np.ones(shape, np.int8), flag))


def test_the_page_keeps_its_images_within_their_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "ROOM", 600_000)
    monkeypatch.setattr(page_module, "_MAPS", 2)
    page = Page(sf.report(noisy(4, (300, 300)), tmp_path / "many.html"))
    check_harmless(page)
    assert sum(map(len, page.images())) <= 600_000
    assert "No maps here of p2, p3." in page.text


def test_the_most_figures_of_pure_noise_fit_into_five_megabytes():
    limit = figures.ROOM // (page_module._MAPS + page_module._WORST + 1)
    fits = noisy(1, (page_module._PIXELS,) * 2)
    png = figures.draw(lambda figure: figures.draw_parameter(figure, fits, "p0", None), (12, 3.4), limit)
    assert len(png) <= limit
    assert figures.ROOM * 4 / 3 < 4_500_000


def test_the_resolution_falls_until_a_figure_is_small_enough():
    from PIL import Image

    noise = np.random.default_rng(0).random((300, 300))
    sizes = []
    for limit in (10**7, 40_000):
        png = figures.draw(lambda figure: figure.add_subplot().imshow(noise), (4, 3), limit)
        sizes.append(Image.open(io.BytesIO(png)).size[0])
        assert len(png) <= limit
    assert sizes[1] < sizes[0] == 440


def test_large_lazy_maps_are_read_variable_by_variable(tmp_path, grid, monkeypatch):
    _, fits, _ = grid
    monkeypatch.setattr(page_module, "_AT_ONCE", 0)
    monkeypatch.setattr(page_module, "_PIXELS", 3)
    page = Page(sf.report(fits.chunk(y=2), tmp_path / "large.html"))
    check_harmless(page)
    assert "The maps are thinned" in page.text
    whole = next(t for t in grid[2].tables if t[0][:3] == ["parameter", "positions", "median"])
    assert next(t for t in page.tables if t[0][:3] == ["parameter", "positions", "median"]) == whole


def test_a_failing_write_keeps_the_page_that_was_there(tmp_path, grid, monkeypatch):
    _, fits, _ = grid
    path = tmp_path / "report.html"
    path.write_text("the old page")
    monkeypatch.setattr(Path, "replace", lambda *a: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        sf.report(fits, path)
    assert path.read_text() == "the old page"
    assert list(tmp_path.iterdir()) == [path]


def test_wrong_input_is_refused_before_computing(tmp_path):
    scan, _ = sf.testing.peak_scan({"y": 2, "x": 2})
    fits = sf.fit(scan.chunk(), peak_model(), dim="energy")
    with sf.testing.raise_if_computes():
        with pytest.raises(InputError, match=r"is a folder; name a file"):
            sf.report(fits, tmp_path)
        with pytest.raises(InputError, match="there is no folder"):
            sf.report(fits, tmp_path / "no" / "report.html")
        with pytest.raises(InputTypeError, match="expected the Dataset"):
            sf.report(scan, tmp_path / "report.html")
        with pytest.raises(InputError, match="select until one or two dims"):
            sf.report(fits.isel(y=0, x=0), tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "first", ["sf.report", "import scanfold.report", "from scanfold.report import page", "from scanfold import report"]
)
def test_the_package_can_be_called_whatever_was_loaded_first(first: str):
    code = (
        f"import scanfold as sf\n{first}\nimport inspect\n"
        "from scanfold import report\nfrom scanfold.report import report as function\n"
        "import scanfold.report as module\n"
        "assert list(inspect.signature(sf.report).parameters) == list(inspect.signature(function).parameters)\n"
        "for call in (sf.report, report, function, module):\n"
        "    try:\n        call(3, 'x.html')\n"
        "    except sf.ScanError as error:\n        print(error)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines() == ["fits is a int; expected the Dataset that sf.fit returns"] * 4


@pytest.mark.parametrize("make", [hostile, lambda: None], ids=["hostile", "plain"])
def test_a_browser_shows_the_page_and_asks_for_nothing_else(browser, grid, make, tmp_path: Path):
    scan, fits = make() or grid[:2]
    path = sf.report(fits, tmp_path / "report.html", scan)
    browser.open(path.as_uri())
    driver = browser.driver
    assert {url for url in browser.asked() if not url.startswith("data:")} == {path.as_uri()}
    assert browser.complaints() == []
    assert driver.find_element("tag name", "h1").is_displayed()
    pictures = driver.find_elements("tag name", "img")
    assert pictures
    # a picture that cannot be decoded has no width of its own
    assert all(driver.execute_script("return arguments[0].naturalWidth", picture) > 100 for picture in pictures)
    # nothing is wider than the window, on a screen or a telephone
    for width in (1300, 500):
        driver.set_window_size(width, 900)
        assert driver.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")


def test_a_page_about_a_polarisation_map_is_refused_where_there_is_no_folder(tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/run.json").write_text('{"state": "complete"}')
    with pytest.raises(InputError, match="there is no folder"):
        polarisation_report(tmp_path, tmp_path / "no/report.html")
