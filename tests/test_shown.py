"""What is shown of an object: completion lists public names, a notebook shows what it holds and computes nothing."""

from __future__ import annotations

import importlib
import inspect
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import lmfit
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import scanfold as sf
from scanfold import bragg, grouping, io, ptycho, traces

ROOMS = ("bragg", "detectors", "export", "fitting", "grouping", "io", "plot", "ptycho", "report", "runs", "testing",
         "traces", "viewer")  # fmt: skip
#: Settings that are shown as the line that makes them, what runs under views of other rooms, and a proof for tests.
PLAIN = {"CountingArray", "FileRun", "FileTask", "ModelConfig", "Stages", "TrainingConfig"}
EVIL = "<script>alert(1)</script>"


@pytest.mark.parametrize("name", ROOMS)
def test_completion_of_a_room_shows_its_public_names(name: str):
    room = importlib.import_module(f"scanfold.{name}")
    assert dir(room) == sorted(room.__all__)
    assert all(getattr(room, public) is not None for public in room.__all__)


def test_completion_of_the_package_shows_its_public_names():
    importlib.import_module("scanfold.cli")
    assert dir(sf) == sorted(sf.__all__)


def frames() -> xr.Dataset:
    positions = {f"position_{d}": ("position", np.arange(9.0), {"units": "pixel"}) for d in "yx"}
    data = xr.DataArray(np.ones((9, 8, 8), "float32"), dims=("position", "ky", "kx"), coords=positions)
    scan = data.rename("diffraction").assign_attrs(kind="amplitude", note=EVIL).to_dataset().chunk(position=3)
    scan["probe"] = ("ky", "kx"), np.ones((8, 8), "complex64")
    return scan.assign_attrs(primary="diffraction", note=EVIL)


def counts(name: str = "thin") -> bragg.Data:
    stacks = {n: xr.DataArray(v * np.arange(100.0, 130.0), dims="tof") for n, v in (("signal", 5), ("openbeam", 10))}
    axis = {"wavelength": ("tof", np.linspace(1, 4, 30), {"units": "angstrom"}), "group": np.array([name], object)}
    made = {n: v.expand_dims(group=1).chunk(group=1) for n, v in stacks.items()}
    return bragg.Data.from_dataset(xr.Dataset(made, coords=axis, attrs={"note": EVIL}), L=9)


def of_a_folder(folder: Path) -> traces.FolderRun:
    for name in ("good", "bad"):
        table = pd.DataFrame({"time": np.arange(20.0), "0": np.arange(20.0) if name == "good" else ["<b>"] * 20})
        (folder / f"{name}<i>.csv").write_text("# Time units: min\n" + table.to_csv(index=False))
    return traces.fit_folder(folder, traces.FittingRequest("trivial"), progress=False)


def made(name: str, folder: Path) -> Any:
    """Return a view of each public class, on lazy data and with hostile names where they may be given."""
    if name == "GroupedFitResult":
        data = counts(EVIL)
        model = lmfit.models.ConstantModel()
        fits = sf.fit(data.dataset["transmission"], model, dim="tof", weights=1 / data.dataset["transmission_err"])
        return bragg.GroupedFitResult(fits, model, data)
    if name in ("CrossSection", "TransmissionModel", "materials"):
        pytest.importorskip("NCrystal", reason="cross sections need NCrystal")
        sample = bragg.CrossSection({"iron": bragg.materials["Fe_sg229_Iron-alpha"]})
        return {"CrossSection": sample, "TransmissionModel": bragg.TransmissionModel(sample)}.get(name, bragg.materials)
    if name == "Description":
        np.savez(folder / "a.npz", **{EVIL.replace("/", ""): np.zeros((3, 4, 5))})
        return io.describe(folder / "a.npz")
    if name in ("FolderRun", "Quality"):
        run = of_a_folder(folder)
        return run if name == "FolderRun" else run.quality()
    if name == "PtychoDataContainer":
        groups = ptycho.RawData.from_dataset(frames()).generate_grouped_data(N=8, K=4, nsamples=3, gridsize=2)
        return ptycho.PtychoDataContainer.from_groups(groups)
    if name == "PositionIndex":
        return grouping.PositionIndex(f"/{EVIL}", 5, "float64", EVIL, {})
    return {
        "Data": lambda: counts(EVIL),
        "RawData": lambda: ptycho.RawData.from_dataset(frames()),
        "FittingRequest": lambda: traces.FittingRequest("maturation", {"km": 1.5}),
        "TraceModel": lambda: traces.get_model("maturation"),
    }[name]()


def public_views() -> list[str]:
    rooms = (importlib.import_module(f"scanfold.{name}") for name in ROOMS)
    found = {name for room in rooms for name in room.__all__ if inspect.isclass(getattr(room, name))}
    return sorted(found - PLAIN | {"materials"})


class Tags(HTMLParser):
    """The tags and words of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.mark.parametrize("name", public_views())
def test_a_notebook_shows_it_without_computing_it(name: str, tmp_path: Path):
    view = made(name, tmp_path)
    with sf.testing.raise_if_computes():
        text, page = repr(view), Tags(view._repr_html_())
    assert " object at 0x" not in text
    assert type(view).__name__.lower() in page.words.lower() or name == "Quality"
    assert not {"script", "i", "b"} & set(page.tags)
    if name in ("Data", "Description", "PositionIndex", "RawData"):
        assert "<script>" in page.words


def test_a_result_that_is_computed_shows_its_table(tmp_path: Path):
    result = made("GroupedFitResult", tmp_path)
    result.compute()
    page = Tags(result._repr_html_())
    assert "converged" in page.words
    assert {"table", "td"} <= set(page.tags)
    assert "script" not in page.tags
    assert EVIL in page.words


def test_the_states_of_the_files_of_a_run(tmp_path: Path):
    page = Tags(made("FolderRun", tmp_path)._repr_html_())
    assert "good<i>.csv" in page.words
    assert "bad<i>.csv" in page.words
    assert "not yet fitted" not in page.words


def test_a_notebook_shows_the_explorer(tmp_path: Path):
    pytest.importorskip("panel", reason="exploring needs panel")
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    code = "import xarray as xr, scanfold as sf\nsf.explore(xr.Dataset({'center': (('y', 'x'), [[1.0, 2.0]] * 3)}))"
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbclient.NotebookClient(book, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    (shown,) = [o.data for o in book.cells[0].outputs if o.output_type == "execute_result"]
    assert "data-root-id" in shown["text/html"]
    pages = " ".join(o.get("data", {}).get("text/html", "") for o in book.cells[0].outputs)
    assert not re.search(r"(src|href)=.?http", pages)  # what it needs is in the notebook
