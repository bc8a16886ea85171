"""Stages of a fit in the words of Bragg-edge fitting: groups, names, wildcards, one by one, and windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import lmfit
import numpy as np
import xarray as xr

from scanfold.conventions import InputError, InputTypeError, unknown

#: Words that stand for parameters, and the patterns of their names: "#" is any number of digits.
GROUPS = {
    "basic": ("thickness", "norm"), "background": ("bg#", "k"), "tof": ("L0", "t0"),
    "response": ("α#", "β#", "σ#", "width"), "weights": ("p#",), "lattice": ("a#", "b#", "c#"),
    "extinction": ("ext_*",), "sans": ("sans#",), "orientation": ("θ_*", "ϕ_*", "η_*"), "mosaicity": ("η_*",),
    "thetas": ("θ_*",), "phis": ("ϕ_*",), "angles": ("θ_*", "ϕ_*"), "temperature": ("temp",),
}  # fmt: skip


class Stage(NamedTuple):
    """One stage: its name, the parameters that it adds, and its own window of wavelengths (Å), where it has one."""

    name: str
    vary: tuple[str, ...]
    wlmin: float | None = None
    wlmax: float | None = None

    @property
    def window(self) -> tuple[float | None, float | None]:
        """Shortest and longest wavelength (Å), None for no limit; both are outside."""
        return self.wlmin, self.wlmax


def within(values: xr.DataArray, dim: str, window: Sequence[float | None] | None) -> xr.DataArray:
    """Return values along `dim` with NaN outside of the window of a stage, None for no limit."""
    low, high = (None, None) if window is None else window
    if low is None and high is None:
        return values
    inside = (values[dim] > (-np.inf if low is None else low)) & (values[dim] < (np.inf if high is None else high))
    return values.where(inside)


def members(group: str, names: Sequence[str]) -> list[str]:
    """Return the parameters of a group, in order."""

    def fits(name: str, pattern: str) -> bool:
        if pattern.endswith("#"):
            stem, rest = pattern[:-1], name[len(pattern) - 1 :]
            return name.startswith(stem) and (rest == "" or rest.isdigit())
        return fnmatchcase(name, pattern)

    return [n for n in names if any(fits(n, p) for p in GROUPS[group])]


def check_stages(stages: Any, params: lmfit.Parameters) -> dict[str, str | list[str]]:
    """Return stages as a mapping; raise if a word in them means nothing."""
    if isinstance(stages, str):
        if stages != "all":
            raise InputError(f"stages is {stages!r}; a word alone can only be 'all': else a mapping of names to words")
        return {"all": "all"}
    if not isinstance(stages, Mapping) or not stages:
        raise InputTypeError("stages must be a mapping of stage names to words, or 'all'")
    for name, words in stages.items():
        if not isinstance(words, str | Sequence):
            raise InputTypeError(f"stage {name!r} is {words!r}; expected words, or a list of them")
    made = {str(n): v if isinstance(v, str) else [str(w) for w in v] for n, v in stages.items()}
    expand_stages(made, params)
    return made


def expand_stages(stages: Mapping[str, str | Sequence[str]], params: lmfit.Parameters) -> list[Stage]:
    """Return the stages, each with the varying parameters that it adds; those that add none are left out.

    Raises
    ------
    InputError
        For a word that is no group, parameter, wildcard or window.
    """
    found: list[Stage] = []
    for name, given in stages.items():
        words = given.split() if isinstance(given, str) else list(given)
        names: list[str] = []
        window: dict[str, float] = {}
        for word in words:
            key, equals, value = word.partition("=")
            if equals:
                window[_window_key(name, key)] = _number(name, word, value)
            elif word != "one-by-one":
                names += _meant(name, word, params)
        names = [n for n in dict.fromkeys(names) if params[n].vary and not params[n].expr]
        if "one-by-one" in words:
            short = name if len(names) == 1 else None
            found += [Stage(short or f"{name}_{n.split('_')[-1]}", (n,), **window) for n in names]
        elif names:
            found.append(Stage(name, tuple(names), **window))
    if not found:
        raise InputError(f"no stage of {', '.join(stages)} has a parameter that varies")
    return found


def _meant(stage: str, word: str, params: lmfit.Parameters) -> list[str]:
    names = list(params)
    if word == "all":
        return [n for n in names if params[n].vary]
    if word in GROUPS:
        return members(word, names)
    hits = [n for n in names if n == word or fnmatchcase(n, word)]
    if not hits:
        raise unknown(f"word in stage {stage!r}:", word, [*GROUPS, "all", "one-by-one", *names])
    return hits


def _window_key(stage: str, key: str) -> str:
    if key not in ("wlmin", "wlmax"):
        raise unknown(f"setting of stage {stage!r}", key, ("wlmin", "wlmax"))
    return key


def _number(stage: str, word: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise InputError(f"stage {stage!r} has {word!r}; expected a wavelength in Å, such as wlmin=2.5") from None
