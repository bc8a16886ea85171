"""What decides a plan besides the positions, checked before anything is searched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scanfold.conventions import InputError, InputTypeError, require_bool, require_number, require_word
from scanfold.grouping.seeds import SAMPLINGS

Array = npt.NDArray[Any]

POLICIES = ("random", "nearest", "min_dist", "4_quadrant")


@dataclass(frozen=True)
class Options:
    """What decides a plan; the same names as in `plan_groups`."""

    nsamples: int
    group_size: int
    K: int
    seed: int
    sampling: str
    include_seed: bool
    policy: str
    disjoint: bool
    max_radius: float | None
    enable_oversampling: bool
    n_subsample: int | None
    subsample_seed: int

    @property
    def drawn(self) -> int:
        """How many members are chosen among the neighbours; a group of one is the seed itself."""
        return self.group_size - (self.include_seed or self.group_size == 1)


def make_options(
    count: int, *, gridsize: int, group_size: int | None, K: int | None, subsample_seed: int | None, **given: Any
) -> Options:
    """Check the options of a plan over `count` positions, and fill in the defaults.

    Raises
    ------
    InputError, InputTypeError
        Saying what was found, what was expected, and what to type.
    """
    for name, least in (("nsamples", 1), ("seed", 0)):
        given[name] = whole(name, given[name], least)
    for name, valid in (("sampling", SAMPLINGS), ("policy", POLICIES)):
        require_word(name, given[name], valid)
    require_bool(**{name: given[name] for name in ("include_seed", "disjoint", "enable_oversampling")})
    subsample_seed = given["seed"] if subsample_seed is None else whole("subsample_seed", subsample_seed, 0)
    if given["n_subsample"] is not None:
        given["n_subsample"] = whole("n_subsample", given["n_subsample"], 1)
        if given["n_subsample"] > count:
            raise InputError(f"n_subsample={given['n_subsample']} of {count} positions; at most {count} can be taken")
        count = given["n_subsample"]
    radius = given["max_radius"]
    if radius is not None and not require_number("max_radius", radius) > 0:
        raise InputError(f"max_radius={radius!r}; expected a length greater than 0, in the units of the positions")
    size = _group_size(gridsize, group_size)
    options = Options(group_size=size, K=0, subsample_seed=subsample_seed, **given)
    _check_policy(options)
    _check_count(options, count)
    default = 16 if options.policy == "4_quadrant" else max(7, 2 * size - 1)
    found = min(default, count - 1) if K is None else whole("K", K, 1)
    if options.drawn and found < options.drawn:
        raise InputError(
            f"K={found} is less than the {options.drawn} neighbours that a group of {size} takes; pass K={default}"
        )
    if options.drawn and found >= count:
        raise InputError(
            f"K={found} neighbours, and each of the {count} positions has {count - 1} others; "
            f"pass K={min(default, count - 1)}"
        )
    return Options(**{**vars(options), "K": found})


def whole(name: str, value: object, least: int = 1, most: int | None = None) -> int:
    """Return a whole number from `least` on, to `most` where there is one.

    Examples
    --------
    >>> whole("gridsize", 0)
    Traceback (most recent call last):
    scanfold.conventions.InputError: gridsize=0; expected a whole number, at least 1
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise InputTypeError(f"{name}={value!r} is a {type(value).__name__}; expected a whole number, at least {least}")
    if value < least:
        raise InputError(f"{name}={value}; expected a whole number, at least {least}")
    if most is not None and value > most:
        raise InputError(f"{name}={value}; expected a whole number, at most {most:,}")
    return int(value)


def _group_size(gridsize: int, group_size: int | None) -> int:
    side = whole("gridsize", gridsize, 1)
    if group_size is None:
        return side**2
    size = whole("group_size", group_size, 1)
    if side != 1 and size != side**2:
        raise InputError(f"gridsize={side} makes groups of {side**2}, and group_size={size}; pass one of them")
    return size


def _check_policy(options: Options) -> None:
    if options.policy == "4_quadrant" and (options.group_size != 4 or options.include_seed):
        raise InputError(
            f"policy='4_quadrant' makes groups of 4 neighbours without the seed; found groups of {options.group_size}"
            f"{' with the seed' if options.include_seed else ''}. Pass gridsize=2, include_seed=False"
        )
    if options.disjoint and options.policy not in ("random", "nearest"):
        raise InputError(f"disjoint=True goes with policy='random' or 'nearest', found {options.policy!r}")
    if options.disjoint and options.enable_oversampling:
        raise InputError("disjoint groups use each position once, oversampled ones several times; pass one of the two")


def _check_count(options: Options, count: int) -> None:
    """Refuse what so few positions cannot give."""
    size, nsamples = options.group_size, options.nsamples
    if count < size:
        raise InputError(f"groups of {size} from {count} positions: pass a smaller group, or more positions")
    if count <= options.drawn:
        raise InputError(
            f"groups of {size} neighbours of a seed from {count} positions: the seed is not a member, so {size + 1} "
            "are needed. Pass include_seed=True to make it one"
        )
    if nsamples > count and not options.enable_oversampling:
        raise InputError(
            f"nsamples={nsamples} groups from {count} positions; at most {count} without making positions seeds twice. "
            f"Pass nsamples={count}, or enable_oversampling=True"
        )
    if options.disjoint and nsamples * size > count:
        raise InputError(
            f"nsamples={nsamples} disjoint groups of {size} need {nsamples * size} positions, there are {count}; "
            f"at most {count // size} are possible"
        )


def check_partitions(sizes: Array, options: Options) -> None:
    """Refuse partitions, of so many positions each, that are too small to make a group."""
    small = np.flatnonzero((sizes > 0) & (sizes <= options.drawn))
    if small.size and options.drawn:
        shown = ", ".join(f"{sizes[s]} positions" for s in small[:5])
        raise InputError(
            f"{small.size} of {np.count_nonzero(sizes)} partitions are too small for groups of {options.group_size}, "
            f"which need {options.drawn + 1} positions: found {shown}. Leave them out of the scan, or pass a smaller "
            "group_size"
        )
