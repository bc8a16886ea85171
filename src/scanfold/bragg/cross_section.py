"""What a sample is made of: phases of crystals with volume fractions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from scanfold._markup import overview, table
from scanfold.bragg.constants import EXTINCTIONS
from scanfold.bragg.materials import Material, materials
from scanfold.conventions import InputError, InputTypeError, unknown
from scanfold.io.arrays import reading
from scanfold.io.tables import exactly

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[np.float64]

_SETTINGS = tuple(f.name for f in fields(Material) if f.name not in ("name", "text"))
#: Names that a phase may not have, since they are parameters.
_TAKEN = ("thickness", "norm", "temp", "k", "L0", "t0", "width", "a", "b", "c", "wavelength", "tof")


class CrossSection:
    """Phases and their volume fractions.

    Parameters
    ----------
    phases : mapping or CrossSection, optional
        Names to materials, names of materials, or mappings such as ``{"mat": "Al_sg225", "weight": 0.3}``.
    **more
        Further phases by name; settings of `Material` (``weight``, ``mos``, ``ext_l``, ``sans`` …) belong to the
        phase before them, or to all where no phase is before them.

    Raises
    ------
    InputError
        For unknown materials and settings, names that are parameters, or no phase at all.

    Notes
    -----
    Weights are volume fractions, scaled to a sum of 1. The number density (atoms per barn and cm, which is per Å³)
    is Σ wᵢ nᵢ and the cross section Σ wᵢ nᵢ σᵢ / Σ wᵢ nᵢ, for the weights that a fit arrives at.

    Examples
    --------
    >>> iron = CrossSection(iron="Fe_sg229_Iron-alpha")
    >>> mix = 0.7 * iron + 0.3 * CrossSection(aluminium="Al_sg225")
    >>> mix.weights, round(mix.number_density(), 6)
    ({'iron': 0.7, 'aluminium': 0.3}, 0.07744)
    """

    def __init__(self, phases: Mapping[str, Any] | CrossSection | None = None, **more: Any):
        settings: dict[str, Any] = {}
        found: dict[str, Material] = {}
        if isinstance(phases, CrossSection):
            found |= phases.phases
        elif isinstance(phases, Mapping):
            found |= {str(n): _material(n, v) for n, v in phases.items()}
        elif phases is not None:
            raise InputTypeError(f"phases is a {type(phases).__name__}; expected a mapping of names to materials")
        last = ""
        for name, value in more.items():
            if name not in _SETTINGS:
                last = name
                found[name] = _material(name, value)
            elif last:
                found[last] = _with(last, found[last], {name: value})
            else:
                settings[name] = value
        self.phases: dict[str, Material] = {n: _with(n, m, settings) for n, m in found.items()}
        _check(self.phases)

    @property
    def weights(self) -> dict[str, float]:
        """The volume fractions, whose sum is 1."""
        total = sum(m.weight for m in self.phases.values())
        return {n: m.weight / total for n, m in self.phases.items()}

    def __add__(self, other: CrossSection) -> CrossSection:
        """Return both together, with their weights as they are."""
        if not isinstance(other, CrossSection):
            return NotImplemented
        if both := set(self.phases) & set(other.phases):
            raise InputError(f"both cross sections have a phase {', '.join(sorted(both))}; give it another name in one")
        return CrossSection({**self.phases, **other.phases})

    def __mul__(self, factor: float) -> CrossSection:
        """Return it with all weights scaled."""
        return CrossSection({n: m * factor for n, m in self.phases.items()})

    __rmul__ = __mul__

    def __repr__(self) -> str:
        """Show phases and fractions."""
        return f"CrossSection({', '.join(f'{n}={w:.3g} {self.phases[n].name}' for n, w in self.weights.items())})"

    def _repr_html_(self) -> str:
        rows = [[n, self.phases[n].name, w] for n, w in self.weights.items()]
        return overview("CrossSection", table(["phase", "material", "volume fraction"], rows))

    def number_density(self, temperature: float = 293.15) -> float:
        """Return Σ wᵢ nᵢ in atoms per barn and cm."""
        return float(sum(w * n for w, n in zip(self.weights.values(), self._densities(temperature), strict=True)))

    def _densities(self, temperature: float) -> list[float]:
        from scanfold.bragg.crystals import crystal

        found = []
        for material in self.phases.values():
            cell = crystal(material, temperature, 100.0)
            own = (material.a, material.b, material.c)
            lengths = [own[j] or cell.lengths[j] for j in range(3)]
            volume = cell.shape * float(np.prod([lengths[cell.tied[j]] for j in range(3)]))
            found.append(cell.atoms / volume)
        return found

    def total(self, wavelength: Any, *, temperature: float = 293.15, split: bool = False) -> pd.Series | pd.DataFrame:
        """Return the cross section in barn per atom at wavelengths.

        Parameters
        ----------
        wavelength : array of shape (n,)
            In Å.
        temperature : float
            In K.
        split : bool
            Return a table with a column for each phase (barn per atom of that phase) and ``total``.

        Returns
        -------
        Series or DataFrame
            Over ``wavelength``.

        Examples
        --------
        >>> iron = CrossSection(iron="Fe_sg229_Iron-alpha")
        >>> iron.total([1.8, 4.2]).round(3).tolist()
        [14.087, 6.829]
        """
        import pandas as pd

        from scanfold.bragg.sections import phase_sections

        x = np.ascontiguousarray(np.atleast_1d(wavelength), np.float64)
        sections = phase_sections(self.phases, x, temperature)
        densities = self._densities(temperature)
        weights = list(self.weights.values())
        macroscopic = sum(w * s for w, s in zip(weights, sections, strict=True))
        columns: dict[str, Any] = {n: s / d for n, s, d in zip(self.phases, sections, densities, strict=True)}
        columns["total"] = macroscopic / sum(w * d for w, d in zip(weights, densities, strict=True))
        table = pd.DataFrame(columns, index=pd.Index(x, name="wavelength"))
        return table if split else table["total"]

    @classmethod
    def from_mtex(
        cls, csv_file: str | Path, material: str | Material, powder_phase: bool = True, short_name: str | None = None
    ) -> CrossSection:
        """Make oriented phases of a table of texture components from MTEX.

        Parameters
        ----------
        csv_file : path
            Columns ``volume_mtex`` (or ``volume``), ``fwhm`` (degrees; or ``fwhm_mtex``), and the crystal directions
            along the beam, ``xh, xk, xl``, and across it, ``yh, yk, yl``.
        material : str or Material
        powder_phase : bool
            Add a powder for what the volumes leave of 1.
        short_name : str, optional
            Phases are called this and a number; by default the end of the material's name.

        Raises
        ------
        InputError
            If there is no such file or a column is missing.
        """
        import pandas as pd

        path = Path(csv_file)
        if not path.is_file():
            raise InputError(f"no file {str(csv_file)!r}; expected a table of texture components from MTEX")
        with reading(path):
            table = pd.read_csv(path, **exactly())
            columns = {str(c): pd.to_numeric(table[c], errors="coerce") for c in table.columns}
            table = pd.DataFrame(columns, dtype=float)
        base = _material("material", material)
        name = short_name or base.name.split("_")[-1].replace("-", "_")
        volume = _column(table, "volume_mtex", "volume")
        width = _column(table, "fwhm", "fwhm_mtex")
        beam, side = ([_column(table, axis + i) for i in "hkl"] for axis in "xy")
        scale = max(float(volume.sum()), 1.0)
        phases = {
            f"{name}{i}": replace(
                base, weight=float(volume[i]) / scale, mos=float(width[i]),
                dir1=_direction(beam, i), dir2=_direction(side, i),
            )
            for i in range(len(table))
        }  # fmt: skip
        rest = 1.0 - float(volume.sum()) / scale
        if powder_phase and rest > 1e-12:
            phases[f"{name}_powder"] = replace(base, weight=rest)
        return cls(phases)


def _direction(columns: list[Array], i: int) -> tuple[float, float, float]:
    h, k, l_ = (float(column[i]) for column in columns)
    return h, k, l_


def _column(table: pd.DataFrame, *names: str) -> Array:
    for name in names:
        if name in table.columns:
            values = table[name].to_numpy(np.float64)
            if not np.isfinite(values).all():
                row = int(np.flatnonzero(~np.isfinite(values))[0])
                raise InputError(f"the table has no number in column {name!r}, row {row + 1}")
            return values
    raise InputError(f"the table has no column {names[0]!r}; it has {', '.join(map(str, table.columns))}")


def _material(name: Any, value: Any) -> Material:
    """Return the material that a phase was given as."""
    if isinstance(value, Material):
        return value
    if isinstance(value, str):
        return materials[value]
    if isinstance(value, CrossSection) and len(value.phases) == 1:
        return next(iter(value.phases.values()))
    if isinstance(value, Mapping):
        rest = dict(value)
        if "mat" not in rest:
            raise InputError(f"phase {name!r} lacks 'mat', the name of its material")
        return _with(str(name), _material(name, rest.pop("mat")), rest)
    raise InputTypeError(f"phase {name!r} is a {type(value).__name__}; expected a material, its name, or a mapping")


def _with(name: str, material: Material, settings: Mapping[str, Any]) -> Material:
    for key in settings:
        if key not in _SETTINGS:
            raise unknown(f"setting of phase {name!r}", key, _SETTINGS)
    directions: dict[str, Any] = {
        k: tuple(map(float, v)) for k, v in settings.items() if k in ("dir1", "dir2") and v is not None
    }
    return replace(material, **{**settings, **directions})


def _check(phases: Mapping[str, Material]) -> None:
    """Raise unless there are phases of usable names, weights and settings."""
    if not phases:
        raise InputError("a cross section needs a phase: CrossSection(iron='Fe_sg229_Iron-alpha')")
    for name, material in phases.items():
        if not name.isidentifier() or name in _TAKEN:
            raise InputError(f"{name!r} cannot name a phase: it must be a word (letters, digits, _) and no parameter")
        if material.ext_method not in EXTINCTIONS:
            raise unknown(f"ext_method of phase {name!r}", material.ext_method, EXTINCTIONS)
        if material.mos is not None and not 0.0 < material.mos <= 90.0:
            raise InputError(f"phase {name!r} has mos {material.mos}; expected degrees above 0 and up to 90")
    if len({m.ext_method for m in phases.values() if m.ext_l}) > 1:
        raise InputError("phases have different ext_method; one formula of extinction serves all")
    if not sum(m.weight for m in phases.values()) > 0.0:
        raise InputError("all phases have weight 0")
