"""The transmission of a sample as a function of wavelength, which lmfit evaluates and the compiled engine runs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from scanfold.bragg.constants import head
from scanfold.bragg.materials import Material
from scanfold.bragg.parameters import numbered
from scanfold.fitting.components import Component, Unsupported

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Transmission:
    """T(λ) of a sample, called with wavelengths (Å) and its parameters by name.

    It is plain names and numbers: each process builds the tables that it needs from them, once.

    Attributes
    ----------
    phases : tuple of (str, Material)
    response, background : str
    names : tuple of str
        Its parameters, in order.
    values : tuple of float
        Their defaults.
    active : tuple of str
        By which of them derivatives are wanted; the others count as constant.
    temperatures : tuple of float
        Of the tables (K): one, or at least four to interpolate between.
    flight_path : float
        In m; times of the response are wavelengths through it.
    bin_width : float, optional
        Of the bins, in Å; None takes the midpoints between wavelengths.
    measured : tuple of tuple of float, optional
        A measured response: delays (µs) and weights.
    compat : str, optional
        ``"nbragg"`` for that package's form.
    """

    phases: tuple[tuple[str, Material], ...]
    response: str
    background: str
    names: tuple[str, ...]
    values: tuple[float, ...]
    active: tuple[str, ...]
    temperatures: tuple[float, ...]
    flight_path: float
    bin_width: float | None = None
    measured: tuple[tuple[float, ...], ...] | None = None
    compat: str | None = None
    __name__ = "transmission"

    @property
    def __signature__(self) -> inspect.Signature:
        """The parameters by name, for lmfit."""
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        given = zip(self.names, self.values, strict=True)
        parts = [inspect.Parameter("wavelength", kind), *(inspect.Parameter(n, kind, default=v) for n, v in given)]
        return inspect.Signature(parts)

    def __call__(self, wavelength: Any, **values: Any) -> Array:
        """Return the transmission at wavelengths (n), averaged over their bins."""
        from scanfold.fitting._fit_kernels import leaf_rows
        from scanfold.fitting.compiled import own_leaf_address

        x = np.ascontiguousarray(np.atleast_1d(wavelength), np.float64)
        settings = {**dict(zip(self.names, self.values, strict=True)), **values}
        function = self.baked(settings)
        p = np.array([[float(settings[n]) for n in self.names]])
        y, jac = np.empty((1, x.size)), np.empty((1, len(self.names), x.size))
        leaf_rows(own_leaf_address(function.leaf), x, p, function.constants(x, derivatives=False), y, jac)
        return np.asarray(y[0])

    def baked(self, values: Mapping[str, float]) -> Transmission:
        """Return it with what is no number of the kernel set: oriented crystals, a temperature outside its tables."""
        found = numbered(dict(self.phases))
        phases = tuple((name, _oriented(number, name, material, values)) for number, name, material in found)
        temperatures, temperature = self.temperatures, float(values.get("temp", self.temperatures[0]))
        if not min(temperatures) <= temperature <= max(temperatures):
            temperatures = (temperature,)
        widths = [n for n in ("σ0", "σ1", "σ2") if values.get(n)]
        return replace(self, phases=phases, temperatures=temperatures, active=(*self.active, *widths))

    @property
    def leaf(self) -> str:
        """Where the compiled leaf is."""
        form = "_compat_kernels:compat" if self.compat else "_transmission_kernels:physical"
        return f"scanfold.bragg.{form}"

    def component(self, prefix: str, x: Array) -> Component:
        """Return it as one leaf of a compiled model; scanfold.fitting asks for it."""
        numbers = [number for number, _, material in numbered(dict(self.phases)) if material.oriented]
        lattice = {letter + number for letter in "abc" for number in numbers}
        asked = [n for n in self.active if n[:2] in ("θ_", "ϕ_", "η_") or n in lattice]
        if asked:
            raise Unsupported(f"NCrystal itself is asked for each oriented crystal ({', '.join(asked)}), in Python")
        return Component(self.leaf, tuple(prefix + n for n in self.names), function=self)

    def constants(self, x: Array, *, derivatives: bool = True) -> Array:
        """Return the constants of the leaf on an axis; kept per process."""
        return _constants(self, np.ascontiguousarray(x, np.float64).tobytes(), derivatives)


@lru_cache(maxsize=16)
def _constants(function: Transmission, axis: bytes, derivatives: bool) -> Array:
    return head(function, np.frombuffer(axis, np.float64), derivatives)


def _oriented(number: str, name: str, material: Material, values: Mapping[str, float]) -> Material:
    """Return the material turned and stretched as its parameters say."""
    if not material.oriented:
        return material
    names = {"theta": f"θ_{name}", "phi": f"ϕ_{name}", "mos": f"η_{name}", **{c: c + number for c in "abc"}}
    given: dict[str, Any] = {k: float(values[v]) for k, v in names.items() if v in values}
    return replace(material, **given) if given else material
