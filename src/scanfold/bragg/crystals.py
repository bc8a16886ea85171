"""What NCrystal says of a material, as numbers: planes, displacements, and the smooth rest on a fine grid.

Everything is kept per process, so that each worker asks NCrystal once per material; NCrystal's own objects stay here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from scanfold.bragg.materials import Material, require_ncrystal, source_of
from scanfold.conventions import InputError

Array = npt.NDArray[np.float64]

#: Step (Å) of the tables of the smooth part: NCrystal's kinks between its own points count to 10⁻⁶ then.
TABLE_STEP = 5.0e-5
#: NCrystal's wavelength of a neutron of 1 eV, squared, and h/m of the neutron (Å m/s): λ = HM·t/L.
HM = 3956.0340062
#: Steps of the table for each degree of a mosaic's width, of which NCrystal is asked for one.
_FINER = 3
#: Along the beam, as NCrystal's laboratory frame has it.
_BEAM = (0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Crystal:
    """The unit cell of a material, without its lengths.

    Attributes
    ----------
    lengths : (a, b, c) in Å
        As in the data; 1 for a material without a cell.
    shape : float
        Volume of a cell of unit lengths.
    atoms : float
        Atoms in the cell; without one, atoms per Å³.
    displacements : array of shape (species,)
        Mean squared displacement (Å²) along one direction.
    planes : array of shape (families, 7 + pairs)
        As `_sigma_kernels` describes; sorted by falling d.
    tied : (int, int, int)
        Which length each of a, b, c follows: (0, 0, 0) for cubic, (0, 0, 2) for hexagonal and tetragonal.
    contrast : float
        Scattering length density (Å⁻²).
    """

    lengths: tuple[float, float, float]
    shape: float
    atoms: float
    displacements: Array
    planes: Array
    tied: tuple[int, int, int]
    contrast: float

    @property
    def has_cell(self) -> bool:
        """Whether the material has lattice parameters."""
        return len(self.planes) > 0


@lru_cache(maxsize=64)
def _cell(source: str, temperature: float, shortest: float) -> Crystal:
    nc = require_ncrystal()
    info = nc.load(f"{source};temp={temperature!r}K").info
    contrast = float(info.sld) * 1.0e-6
    if not (info.isSinglePhase() and info.hasStructureInfo() and info.hasAtomInfo() and info.hasHKLInfo()):
        empty = np.zeros((0, 8))
        return Crystal((1.0, 1.0, 1.0), 1.0, float(info.numberdensity), np.zeros(1), empty, (0, 1, 2), contrast)
    cell = info.structure_info
    cosines = [math.cos(math.radians(cell[n])) for n in ("alpha", "beta", "gamma")]
    metric = np.array([[1.0, cosines[2], cosines[1]], [cosines[2], 1.0, cosines[0]], [cosines[1], cosines[0], 1.0]])
    lengths = (float(cell["a"]), float(cell["b"]), float(cell["c"]))
    same = [abs(lengths[0] - lengths[1]) < 1e-4, abs(lengths[0] - lengths[2]) < 1e-4]
    tied = (0, 0 if same[0] else 1, (0 if all(same) else 2))
    return Crystal(
        lengths, float(np.sqrt(np.linalg.det(metric))), float(cell["n_atoms"]),
        np.array([a.meanSquaredDisplacement for a in info.atominfos]),
        _planes(info, np.linalg.inv(metric), shortest), tied, contrast,
    )  # fmt: skip


def _planes(info: Any, inverse: Array, shortest: float) -> Array:
    """Return the families of planes with 2d above `shortest`, checked against NCrystal's structure factors."""
    atoms = [(a.atomData.coherentScatLen(), a.meanSquaredDisplacement, np.array(a.positions)) for a in info.atominfos]
    pairs = [(s, t) for s in range(len(atoms)) for t in range(s, len(atoms))]
    rows = []
    for family in info.hklObjects():
        if 2.0 * family.d < shortest:
            break
        h = np.array([int(np.atleast_1d(i)[0]) for i in (family.h, family.k, family.l)])
        waves = [b * np.exp(2j * np.pi * (where @ h)).sum() for b, _, where in atoms]
        amplitudes = [(1.0 if s == t else 2.0) * float((waves[s] * waves[t].conj()).real) for s, t in pairs]
        m = [*(inverse[i, i] * h[i] ** 2 for i in range(3)), 2 * inverse[0, 1] * h[0] * h[1],
             2 * inverse[0, 2] * h[0] * h[2], 2 * inverse[1, 2] * h[1] * h[2]]  # fmt: skip
        damped = [a * math.exp(-2.0 * math.pi**2 * (atoms[s][1] + atoms[t][1]) / family.d**2)
                  for a, (s, t) in zip(amplitudes, pairs, strict=True)]  # fmt: skip
        if abs(sum(damped) - family.f2) > 1e-6 * max(family.f2, 1e-3):
            raise InputError(
                f"the structure factor of ({h[0]} {h[1]} {h[2]}) is {sum(damped):.6g} barn from the atoms' positions "
                f"and {family.f2:.6g} barn in NCrystal; the material cannot be used"
            )
        rows.append([*m, 0.5 * family.mult, *amplitudes])
    return np.array(rows, np.float64).reshape(len(rows), 7 + len(pairs))


def crystal(material: Material, temperature: float, shortest: float = 0.0) -> Crystal:
    """Return the cell of a material at a temperature (K), with planes whose edges are beyond `shortest` (Å)."""
    found = cell_of(material, temperature, shortest)
    if material.oriented:
        # What an oriented crystal reflects is in its table.
        return Crystal(**{**vars(found), "planes": found.planes[:0]})
    return found


def cell_of(material: Material, temperature: float, shortest: float = 0.0) -> Crystal:
    """Return the cell of a material whether it is a powder or oriented."""
    return _cell(source_of(material), float(temperature), float(shortest))


@lru_cache(maxsize=64)
def _smooth(
    source: str, orientation: str, mos: float, lengths: tuple[float, ...], temperature: float, first: int, count: int
) -> Array:
    nc = require_ncrystal()
    wavelengths = (first + np.arange(count)) * TABLE_STEP
    config = f"{source};temp={temperature!r}K"
    if orientation:
        loaded = nc.load(config + ";" + orientation)
        if lengths:
            text = with_lengths(nc.createTextData(source).rawData, lengths)
            loaded = nc.directLoad(text, f"temp={temperature!r}K;{orientation}")
        # One call per wavelength: a broad mosaic has no structure as fine as the table.
        every = int(np.clip(_FINER * mos, 1, 20))
        places = np.arange(first // every, (first + count) // every + 2) * (every * TABLE_STEP)
        scattering = [loaded.scatter.xsect(wl=float(w), direction=_BEAM) for w in places]
        total = np.interp(wavelengths, places, scattering) + loaded.absorption.xsect(wl=wavelengths)
    else:
        loaded = nc.load(config)
        bragg = nc.load(config + ";comp=coh_elas").scatter.xsect(wl=wavelengths) if _is_powder(loaded) else 0.0
        total = loaded.scatter.xsect(wl=wavelengths) + loaded.absorption.xsect(wl=wavelengths) - bragg
    table = np.nan_to_num(np.asarray(total, np.float64))
    table.flags.writeable = False
    return table


def _is_powder(loaded: Any) -> bool:
    info = loaded.info
    return bool(info.isSinglePhase() and info.hasStructureInfo() and info.hasAtomInfo() and info.hasHKLInfo())


def smooth_table(material: Material, temperature: float, first: int, count: int) -> Array:
    """Return the cross section (barn per atom) without Bragg edges at (first + i)·TABLE_STEP Å; all, if oriented."""
    own = (material.a, material.b, material.c)
    lengths: tuple[float, ...] = ()
    if material.oriented and any(own):
        cell = cell_of(material, temperature, 2.0)
        lengths = tuple(float(own[tie] or cell.lengths[tie]) for tie in cell.tied)
    return _smooth(
        source_of(material), _orientation(material), material.mos or 0.001, lengths, float(temperature), first, count
    )


def with_lengths(text: str, lengths: tuple[float, ...]) -> str:
    r"""Return NCMAT text with other lengths of the cell (Å), all their digits kept.

    Examples
    --------
    >>> with_lengths("NCMAT v4\n@CELL\n  cubic 4.05\n@SPACEGROUP\n  225\n", (4.0501, 4.0501, 4.0501)).splitlines()[1:4]
    ['@CELL', '  lengths 4.0501 4.0501 4.0501', '  angles 90 90 90']
    """
    before, mark, after = text.partition("@CELL")
    cell, at, rest = after.partition("\n@")
    angles = next((line for line in cell.splitlines() if line.strip().startswith("angles")), "  angles 90 90 90")
    return f"{before}{mark}\n  lengths {' '.join(map(repr, lengths))}\n{angles}{at}{rest}"


def _orientation(material: Material) -> str:
    """Return NCrystal's words for an oriented crystal; empty for a powder."""
    if not material.oriented:
        return ""
    beam = _rotated(material.dir1 or (0.0, 0.0, 1.0), material)
    side = _rotated(material.dir2 or (1.0, 0.0, 0.0), material)
    return (
        f"mos={material.mos or 0.001!r}deg;dirtol={material.dirtol!r}deg;"
        f"dir1=@crys_hkl:{beam}@lab:0,0,1;dir2=@crys_hkl:{side}@lab:0,1,0"
    )


def _rotated(direction: tuple[float, float, float], material: Material) -> str:
    """Rotate a direction by phi about z, then by theta about y."""
    x, y, z = np.asarray(direction, float) / np.linalg.norm(direction)
    phi, theta = math.radians(material.phi), math.radians(material.theta)
    x, y = x * math.cos(phi) - y * math.sin(phi), x * math.sin(phi) + y * math.cos(phi)
    x, z = x * math.cos(theta) + z * math.sin(theta), z * math.cos(theta) - x * math.sin(theta)
    return f"{x:.8f},{y:.8f},{z:.8f}"
