"""Cross sections against NCrystal itself, and against formulae written out here."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

from scanfold import ScanError
from scanfold.bragg import CrossSection, materials, register_material

NC = pytest.importorskip("NCrystal", reason="NCrystal (extra bragg) is not installed")

# No wavelength coincides with an edge, where below and above are equally right.
WAVELENGTHS = np.linspace(0.5, 10.0, 20_011) + 1.2345e-7
IRON = "Fe_sg229_Iron-alpha"


def ncrystal(config: str, wavelengths: np.ndarray = WAVELENGTHS) -> np.ndarray:
    loaded = NC.load(config)
    return np.asarray(loaded.scatter.xsect(wl=wavelengths) + loaded.absorption.xsect(wl=wavelengths))


def rewritten(name: str, lengths: tuple[float, float, float], key: str) -> str:
    """Return a material of NCrystal's library with other lattice parameters, as NCrystal finds it."""
    text = NC.createTextData(f"stdlib::{name}.ncmat").rawData
    cell = f"  lengths {lengths[0]!r} {lengths[1]!r} {lengths[2]!r}\n"
    text = re.sub(r"@CELL.*?(?=@)", lambda m: _cell(m.group(0), cell), text, count=1, flags=re.S)
    NC.registerInMemoryFileData(f"{key}.ncmat", text)
    return f"{key}.ncmat"


def _cell(section: str, lengths: str) -> str:
    angles = re.search(r"^\s*angles.*$", section, re.M)
    return "@CELL\n" + lengths + (angles.group(0) if angles else "  angles 90 90 90") + "\n"


@pytest.mark.parametrize("name", [IRON, "Al_sg225", "Cu_sg225", "Be_sg194", "Al2O3_sg167_Corundum", "Polyethylene_CH2"])
def test_powders_are_those_of_ncrystal(name: str):
    expected = ncrystal(f"stdlib::{name}.ncmat;temp=293.15K")
    found = CrossSection(sample=name).total(WAVELENGTHS).to_numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("temperature", [77.0, 600.0])
def test_temperature(temperature: float):
    expected = ncrystal(f"stdlib::{IRON}.ncmat;temp={temperature}K")
    found = CrossSection(iron=IRON).total(WAVELENGTHS, temperature=temperature).to_numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("weights", [(0.7, 0.3), (0.1, 0.9)])
def test_mixture_and_its_density_follow_the_weights(weights: tuple[float, float]):
    config = f"phases<{weights[0]}*stdlib::{IRON}.ncmat&{weights[1]}*stdlib::Al_sg225.ncmat>;temp=293.15K"
    mixture = weights[0] * CrossSection(iron=IRON) + weights[1] * CrossSection(aluminium="Al_sg225")
    np.testing.assert_allclose(mixture.total(WAVELENGTHS).to_numpy(), ncrystal(config), rtol=1e-6)
    assert mixture.number_density() == pytest.approx(NC.load(config).info.factor_macroscopic_xs, rel=1e-12)
    table = mixture.total(WAVELENGTHS[:5], split=True)
    assert list(table.columns) == ["iron", "aluminium", "total"]


@pytest.mark.parametrize(
    ("name", "lengths"),
    [(IRON, (2.871234567, 2.871234567, 2.871234567)), ("Be_sg194", (2.29, 2.29, 3.591))],
)
def test_lattice_parameters_rescale_exactly(name: str, lengths: tuple[float, float, float]):
    # Edges, structure factors with their Debye–Waller factors and the cell's volume, as NCrystal makes them anew.
    expected = ncrystal(rewritten(name, lengths, f"{name}_strained") + ";temp=293.15K")
    found = CrossSection(sample=name, a=lengths[0], b=lengths[1], c=lengths[2]).total(WAVELENGTHS).to_numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_oriented_crystals_are_ncrystals():
    wavelengths = np.linspace(1.0, 5.0, 57) + 1e-5
    config = (
        f"stdlib::{IRON}.ncmat;temp=293.15K;mos=8.0deg;dirtol=1.0deg;"
        "dir1=@crys_hkl:1,1,0@lab:0,0,1;dir2=@crys_hkl:0,0,1@lab:0,1,0"
    )
    loaded = NC.load(config)
    expected = [loaded.scatter.xsect(wl=w, direction=(0, 0, 1)) for w in wavelengths]
    expected += loaded.absorption.xsect(wl=wavelengths)
    grain = CrossSection(grain=IRON, mos=8.0, dir1=(1, 1, 0), dir2=(0, 0, 1))
    np.testing.assert_allclose(grain.total(wavelengths).to_numpy(), expected, rtol=1e-4)
    # Turned by 90° about y and back it is the same.
    turned = CrossSection(grain=IRON, mos=8.0, dir1=(0, 0, 1), dir2=(1, -1, 0), theta=90.0)
    again = CrossSection(grain=IRON, mos=8.0, dir1=(1, 0, 0), dir2=(0, -1, 0))
    assert turned.total([2.0]).to_numpy() != pytest.approx(grain.total([2.0]).to_numpy(), rel=1e-3)
    assert CrossSection(grain=IRON, mos=8.0, dir1=(0, 0, 1), dir2=(0, -1, 0), theta=90.0).total(
        wavelengths
    ).to_numpy() == pytest.approx(again.total(wavelengths).to_numpy(), rel=1e-6)


def test_small_angle_scattering_is_ncrystals():
    text = NC.createTextData(f"stdlib::{IRON}.ncmat").rawData.replace("NCMAT v4", "NCMAT v7")
    voids = "\n@OTHERPHASES\n  0.01 void.ncmat\n@CUSTOM_HARDSPHERESANS\n  50\n"
    NC.registerInMemoryFileData("voids.ncmat", text + voids)
    wavelengths = np.array([0.7, 1.5, 4.0, 9.0])
    loaded = NC.load("voids.ncmat;temp=293.15K;comp=sans")
    expected = loaded.scatter.xsect(wl=wavelengths) * loaded.info.factor_macroscopic_xs
    solid, porous = CrossSection(iron=IRON), CrossSection(iron=IRON, sans=50.0)
    found = (porous.total(wavelengths) - solid.total(wavelengths)) * solid.number_density()
    np.testing.assert_allclose(found, expected, rtol=2e-4)


def sabine(wavelength: float, d: float, f_over_v: float, block: float) -> float:
    """Return Sabine's primary extinction, as it is printed."""
    x = (wavelength * f_over_v * block) ** 2
    theta = math.asin(wavelength / (2 * d))
    bragg = 1 / math.sqrt(1 + x)
    if x <= 1:
        laue = 1 - x / 2 + x**2 / 4 - 5 * x**3 / 48
    else:
        laue = math.sqrt(2 / (math.pi * x)) * (1 - 1 / (8 * x) - 3 / (128 * x**2) - 15 / (1024 * x**3))
    return bragg * math.sin(theta) ** 2 + laue * math.cos(theta) ** 2


def coppens(wavelength: float, d: float, f_over_v: float, block: float, g: float, grain: float, lorentz: bool) -> float:
    """Return Becker and Coppens' primary times secondary extinction."""
    theta = math.asin(wavelength / (2 * d))
    cos2 = math.cos(2 * theta)
    q = wavelength**3 * f_over_v**2 / math.sin(2 * theta)
    alpha = block * math.sin(2 * theta) / wavelength

    def y(x: float, c: float, a: float, b: float) -> float:
        return (1 + c * x + a * x**2 / (1 + b * x)) ** -0.5

    first = y(2 / 3 * q * alpha * block, 2.0, 0.20 + 0.45 * cos2, 0.22 - 0.12 * (0.5 - cos2) ** 2)
    if lorentz:
        x = 2 / 3 * q * alpha / (1 + alpha / g) * grain * first
        b = 0.15 - 0.2 * (0.75 - cos2) ** 2 if cos2 > 0 else -0.45 * cos2
        return first * y(x, 2.0, 0.025 + 0.285 * cos2, b)
    x = 2 / 3 * q * alpha / math.sqrt(1 + alpha**2 / (2 * g**2)) * grain * first
    return first * y(x, 2.12, 0.58 + 0.48 * cos2 + 0.24 * cos2**2, 0.02 - 0.025 * cos2)


@pytest.mark.parametrize("method", ["sabine", "bc_gauss", "bc_lorentz"])
def test_extinction_weakens_reflections_as_printed(method: str):
    # Between its last two edges α-Fe has one family of planes: 110, twelve of them.
    d = 2.8676 / math.sqrt(2)
    wavelengths = np.linspace(2.9, 4.05, 24)
    info = NC.load(f"stdlib::{IRON}.ncmat;temp=293.15K").info
    f_over_v = math.sqrt(next(info.hklObjects()).f2 * 1e-8) / info.structure_info["volume"]
    ideal = CrossSection(iron=IRON)
    rest = ncrystal(f"stdlib::{IRON}.ncmat;temp=293.15K;comp=inelas,incoh_elas", wavelengths)
    settings = {"ext_l": 2.0, "ext_g": 30.0, "ext_L": 0.0 if method == "sabine" else 40.0}
    weak = CrossSection(iron=IRON, ext_method=method, **settings)
    found = (weak.total(wavelengths).to_numpy() - rest) / (ideal.total(wavelengths).to_numpy() - rest)
    block, grain, g = 2.0e4, settings["ext_L"] * 1e4, 8090.0 / 30.0
    expected = [
        sabine(w, d, f_over_v, block)
        if method == "sabine"
        else coppens(w, d, f_over_v, block, g, grain, method == "bc_lorentz")
        for w in wavelengths
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert found.max() < 0.95


def test_each_phase_has_its_own_formula_and_any_order_of_wavelengths():
    alone = CrossSection(iron=IRON, ext_method="sabine", ext_l=2.0, ext_g=30.0, ext_L=0.0)
    mixed = 0.5 * alone + 0.5 * CrossSection(aluminium="Al_sg225")
    falling = WAVELENGTHS[::-400]
    found = mixed.total(falling, split=True)["iron"].to_numpy()
    np.testing.assert_allclose(found, alone.total(falling[::-1]).to_numpy()[::-1], rtol=1e-12)


def test_extinction_vanishes_with_the_blocks():
    none = CrossSection(iron=IRON, ext_l=1e-7, ext_g=50.0, ext_L=1e-3).total(WAVELENGTHS[::50])
    np.testing.assert_allclose(none, CrossSection(iron=IRON).total(WAVELENGTHS[::50]), rtol=1e-6)


def test_texture_components_of_mtex(tmp_path: Path):
    table = tmp_path / "texture.csv"
    table.write_text(
        "alpha_mtex,beta_mtex,gamma_mtex,volume_mtex,fwhm,xh,xk,xl,yh,yk,yl\n"
        "0,0,0,0.3,9,0,0,1,1,0,0\n10,20,30,0.2,12,1,1,0,0,0,1\n"
    )
    mixed = CrossSection.from_mtex(table, materials["Fe_sg225_Iron-gamma"], short_name="gamma")
    assert mixed.weights == pytest.approx({"gamma0": 0.3, "gamma1": 0.2, "gamma_powder": 0.5})
    assert mixed.phases["gamma1"].mos == 12.0
    assert mixed.phases["gamma1"].dir1 == (1.0, 1.0, 0.0)
    assert not mixed.phases["gamma_powder"].oriented
    table.write_text("volume,fwhm\n0.3,9\n")
    with pytest.raises(ScanError, match="no column 'xh'"):
        CrossSection.from_mtex(table, "Fe_sg225_Iron-gamma")


def test_materials_by_name(tmp_path: Path):
    assert len(materials) > 100
    assert materials.search("IRON-ALPHA") == [IRON]
    assert materials[f"{IRON}.ncmat"] == materials[IRON]
    assert materials.get("nothing") is None
    with pytest.raises(ScanError, match=f"did you mean '{IRON}'"):
        materials["Fe_sg229_Iron-alfa"]
    with pytest.raises(KeyError):
        materials["nothing"]
    path = tmp_path / "mine.ncmat"
    path.write_text(NC.createTextData(f"stdlib::{IRON}.ncmat").rawData)
    mine = register_material(path)
    assert materials["mine"] is mine
    np.testing.assert_allclose(CrossSection(iron=mine).total([2.0]), CrossSection(iron=IRON).total([2.0]), rtol=1e-12)
    with pytest.raises(ScanError, match="NCrystal cannot read"):
        register_material("NCMAT v7\nnonsense", name="broken")
    with pytest.raises(ScanError, match="no file"):
        register_material(tmp_path / "none.ncmat")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "needs a phase"),
        ({"iron": "Fe_sg22_Iron"}, "unknown material"),
        ({"thickness": IRON}, "cannot name a phase"),
        ({"iron": {"weight": 1}}, "lacks 'mat'"),
        ({"iron": {"mat": IRON, "mosaic": 1}}, "did you mean 'mos'"),
        ({"iron": IRON, "mos": 100.0}, "mos 100"),
        ({"iron": IRON, "ext_method": "sabin"}, "did you mean 'sabine'"),
        ({"iron": IRON, "weight": 0.0}, "all phases have weight 0"),
    ],
)
def test_wrong_cross_sections(arguments: dict, words: str):
    with pytest.raises(ScanError, match=words):
        CrossSection(**arguments)
