"""The crystals that NCrystal knows by name, and those that a user registers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from scanfold._markup import overview, table
from scanfold.conventions import InputError, InputTypeError, unknown
from scanfold.io.arrays import reading


@dataclass(frozen=True)
class Material:
    """One material: what its NCMAT data are, and how a sample holds it.

    Attributes
    ----------
    name : str
        Its key in `materials`.
    text : str, optional
        NCMAT text; None for a file of NCrystal's own library, which is found by name.
    weight : float
        Volume fraction before all are scaled to a sum of 1.
    mos : float, optional
        Full width at half maximum of an oriented crystal's mosaic (degrees); None for a powder.
    dir1, dir2 : tuple of float, optional
        Crystal directions (hkl) along the beam, z, and along y.
    theta, phi : float
        Rotation (degrees) of both: by phi about z, then by theta about y.
    dirtol : float
        By how much (degrees) the angle between both may differ from that of the axes.
    ext_l, ext_g, ext_L : float, optional
        Extinction: size of the blocks (µm), mosaic spread (minutes of arc), size of the grains (µm).
    ext_method : {"sabine", "bc_gauss", "bc_lorentz"}
        Formula of extinction.
    sans : float, optional
        Radius (Å) of spherical voids, 1 % of the volume.
    a, b, c : float, optional
        Lattice parameters (Å) in place of those of the NCMAT data.

    Examples
    --------
    >>> 0.3 * materials["Fe_sg229_Iron-alpha"]
    Material('Fe_sg229_Iron-alpha', weight=0.3)
    """

    name: str
    text: str | None = None
    weight: float = 1.0
    mos: float | None = None
    dir1: tuple[float, float, float] | None = None
    dir2: tuple[float, float, float] | None = None
    theta: float = 0.0
    phi: float = 0.0
    dirtol: float = 1.0
    ext_l: float | None = None
    ext_g: float | None = None
    ext_L: float | None = None
    ext_method: str = "bc_gauss"
    sans: float | None = None
    a: float | None = None
    b: float | None = None
    c: float | None = None

    @property
    def oriented(self) -> bool:
        """Whether it is a crystal with an orientation, not a powder."""
        return self.mos is not None or self.dir1 is not None or self.dir2 is not None

    def __mul__(self, factor: float) -> Material:
        """Return it with its volume fraction scaled."""
        if not isinstance(factor, int | float) or not factor >= 0.0:
            raise InputTypeError(f"a material is multiplied by a volume fraction, a number ≥ 0; found {factor!r}")
        return replace(self, weight=self.weight * float(factor))

    __rmul__ = __mul__

    def __repr__(self) -> str:
        """Show what differs from the default."""
        shown = {n: getattr(self, n) for n, f in self.__dataclass_fields__.items() if n not in ("name", "text")}
        changed = [f"{n}={v}" for n, v in shown.items() if v != self.__dataclass_fields__[n].default]
        return f"Material({', '.join([repr(self.name), *changed])})"


def require_ncrystal() -> Any:
    """Return NCrystal, or say how to install it."""
    try:
        import NCrystal
    except ImportError:
        raise InputError(
            "cross sections come from NCrystal, which is not installed: type pip install 'scanfold[bragg]'"
        ) from None
    return NCrystal


@cache
def _library() -> tuple[str, ...]:
    """Return the names of NCrystal's own files: not those of the working folder, which may differ tomorrow."""
    nc = require_ncrystal()
    return tuple(sorted(f.name.removesuffix(".ncmat") for f in nc.browseFiles(factory="stdlib")))


_registered: dict[str, Material] = {}


class Materials(Mapping[str, Material]):
    """Materials by name: NCrystal's library, and what `register_material` added.

    Examples
    --------
    >>> len(materials) > 100, materials.search("iron")[:2]
    (True, ['Fe_sg225_Iron-gamma', 'Fe_sg229_Iron-alpha'])
    """

    def __getitem__(self, name: str) -> Material:
        """Return a material; a trailing ``.ncmat`` is left out, and close names are suggested."""
        key = str(name).removesuffix(".ncmat")
        if key in _registered:
            return _registered[key]
        if key in _library():
            return Material(key)
        raise UnknownMaterial(str(unknown("material", name, self)))

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter([*_registered, *(n for n in _library() if n not in _registered)])

    def __len__(self) -> int:
        """Return how many there are."""
        return len(list(iter(self)))

    def search(self, text: str) -> list[str]:
        """Return the names that contain a text, in any case."""
        return [name for name in self if text.lower() in name.lower()]

    def __repr__(self) -> str:
        """Say how many there are."""
        return f"<{len(self)} materials: {', '.join(list(self)[:4])}, …>"

    def _repr_html_(self) -> str:
        return overview(f"{len(self)} materials", table(["name"], [[name] for name in self]))


class UnknownMaterial(InputError, KeyError):
    """A material that is not there; a KeyError too, so that ``get`` and ``in`` work."""

    __str__ = InputError.__str__


materials = Materials()


def register_material(source: str | Path, name: str | None = None) -> Material:
    """Add a material of your own.

    Parameters
    ----------
    source : str or path
        A ``.ncmat`` file, or NCMAT text (which begins with ``NCMAT``).
    name : str, optional
        Its key in `materials`; by default the name of the file.

    Returns
    -------
    Material
        It carries its text, so that a saved model needs no file.

    Raises
    ------
    InputError
        If there is no such file, no name, or NCrystal cannot read it.
    """
    text = str(source)
    if not text.lstrip().startswith("NCMAT"):
        path = Path(source)
        if not path.is_file():
            raise InputError(f"no file {text!r}; expected a .ncmat file, or NCMAT text, which begins with 'NCMAT'")
        with reading(path):
            text, name = path.read_text(encoding="utf-8"), name or path.name.removesuffix(".ncmat")
    if not name:
        raise InputError("NCMAT text has no name; give one: register_material(text, name='my_alloy')")
    material = Material(name.removesuffix(".ncmat"), text)
    nc = require_ncrystal()
    try:
        nc.load(source_of(material))
    except nc.NCException as error:
        raise InputError(f"NCrystal cannot read material {name!r}: {error}") from None
    _registered[material.name] = material
    return material


def source_of(material: Material) -> str:
    """Return the name under which NCrystal finds a material's data in this process."""
    nc = require_ncrystal()
    if material.text is None:
        if material.name not in _library():
            raise UnknownMaterial(str(unknown("material", material.name, materials)))
        return f"stdlib::{material.name}.ncmat"
    # By content: NCrystal caches by name, and a name may be registered again with another text.
    name = f"scanfold_{hashlib.sha256(material.text.encode()).hexdigest()[:16]}.ncmat"
    _publish(nc, name, material.text)
    return name


_published: set[str] = set()


def _publish(nc: Any, name: str, text: str) -> None:
    if name not in _published:
        nc.registerInMemoryFileData(name, text)
        _published.add(name)
