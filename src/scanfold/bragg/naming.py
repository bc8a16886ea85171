"""The index of a group from the name of its file: a place in a grid, a number along a line, or a name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from os.path import basename, splitext

from scanfold.conventions import InputError

#: What indexes a group: (y, x) of a grid, a number, a name.
Key = tuple[int, int] | int | str

#: Rules for grids: pattern, whether x (the column) comes first in it, and whether indices are written "(x,y)".
_GRIDS = (
    (re.compile(r"(?<![a-z])x(\d+).*?(?<![a-z])y(\d+)", re.I), True, True),
    (re.compile(r"(?<![a-z])y(\d+).*?(?<![a-z])x(\d+)", re.I), False, True),
    (re.compile(r"(?<![a-z])row[ _-]*(\d+).*?col(?:umn)?[ _-]*(\d+)", re.I), False, False),
    (re.compile(r"(?<![a-z])col(?:umn)?[ _-]*(\d+).*?row[ _-]*(\d+)", re.I), True, False),
)
_LINES = tuple(
    re.compile(p, re.I) for p in (r"(?<![a-z])(?:idx|pixel|det)[ _-]*(\d+)", r"(?:_|^)(\d+)$")
)  # fmt: skip
#: Words that say which measurement a file is of.
_KINDS = r"(?:empty[ _-]?)?(?:signals?|sig|open[ _-]?beams?|ob|flat)|empty"
_KIND = re.compile(rf"(?:^|(?<=[ _.-]))(?:{_KINDS})(?=$|[ _.-])", re.I)
_PLACEHOLDERS = {"x": r"\d+", "y": r"\d+", "row": r"\d+", "col": r"\d+", "i": r"\d+", "name": r".+"}


@dataclass(frozen=True)
class Named:
    """Keys of some files, in their order, and how they are written.

    Attributes
    ----------
    keys : list
        All (y, x), all int, or all str.
    x_first : bool
        Indices of the grid are written "(x,y)", after the names of the files, rather than "(row,column)".
    """

    keys: list[Key]
    x_first: bool = False

    @property
    def kind(self) -> str:
        """``"grid"``, ``"line"`` or ``"names"``."""
        return "grid" if isinstance(self.keys[0], tuple) else "line" if isinstance(self.keys[0], int) else "names"


def keys_of(paths: Sequence[str], pattern: str = "auto") -> Named:
    """Return the keys of files.

    Parameters
    ----------
    paths : sequence of str
        Their folders and suffixes do not count.
    pattern : str
        ``"auto"``, or a part of the names with ``{x}`` and ``{y}``, ``{row}`` and ``{col}``, ``{i}`` or ``{name}``.

    Raises
    ------
    InputError
        If some files fit a grid and others do not, two have the same key, or none fits the pattern.

    Examples
    --------
    >>> keys_of(["signal_x1_y0.csv", "signal_x0_y2.csv"]).keys
    [(0, 1), (2, 0)]
    >>> keys_of(["signal_center.csv", "signal_edge.csv"]).keys
    ['center', 'edge']
    >>> keys_of(["sample_A_signal.csv", "sample_B_signal.csv"]).keys
    ['sample_A', 'sample_B']
    """
    stems = [splitext(basename(p))[0] for p in paths]
    named = _automatic(stems) if pattern == "auto" else _patterned(stems, pattern)
    seen: dict[Key, str] = {}
    for key, path in zip(named.keys, paths, strict=True):
        if key in seen:
            raise InputError(
                f"{seen[key]!r} and {path!r} both have the index {key}; give indices=, or a pattern= that tells them "
                "apart"
            )
        seen[key] = path
    return named


def _automatic(stems: Sequence[str]) -> Named:
    for rule, x_first, written in _GRIDS:
        found = [rule.search(s) for s in stems]
        if not any(found):
            continue
        missing = [s for s, m in zip(stems, found, strict=True) if m is None]
        if missing:
            raise InputError(
                f"{len(stems) - len(missing)} of {len(stems)} files have a place in a grid in their names, and "
                f"{missing[0]!r} has none; leave it out, or pass pattern='{{name}}' to take all as names"
            )
        pairs = [(int(m[1]), int(m[2])) for m in found if m is not None]
        return Named([(b, a) if x_first else (a, b) for a, b in pairs], x_first=written)
    for rule in _LINES:
        hits = [rule.search(s) for s in stems]
        if all(hits):
            return Named([int(m[1]) for m in hits if m is not None])
    return Named(list(names_of(stems)))


def _patterned(stems: Sequence[str], pattern: str) -> Named:
    parts = re.split(r"\{(\w*)\}", pattern)
    fields = parts[1::2]
    kinds: dict[tuple[str, ...], tuple[str, ...]] = {("x", "y"): ("y", "x"), ("col", "row"): ("row", "col")}
    order = kinds.get(tuple(sorted(fields)), tuple(fields))
    if tuple(sorted(fields)) not in (*kinds, ("i",), ("name",)):
        raise InputError(
            f"pattern={pattern!r}; expected 'auto', or one with {{x}} and {{y}}, {{row}} and {{col}}, {{i}} or "
            "{name}, such as '_x{x}_y{y}'"
        )
    if pattern == "{name}":
        return Named(list(names_of(stems)))
    rule = re.compile("".join(
        f"(?P<{p}>{_PLACEHOLDERS[p]})" if i % 2 else re.escape(p) for i, p in enumerate(parts)
    ))  # fmt: skip
    keys: list[Key] = []
    for stem in stems:
        found = rule.search(stem)
        if found is None:
            raise InputError(f"{stem!r} does not fit pattern={pattern!r}")
        values = [found[name] for name in order]
        keys.append(values[0] if order == ("name",) else int(values[0]) if len(order) == 1
                    else (int(values[0]), int(values[1])))  # fmt: skip
    return Named(keys, x_first="x" in fields)


def names_of(stems: Sequence[str]) -> list[str]:
    """Return the names of groups: without the word of the measurement, and without what all have in common.

    What is common stays where a name would be left with a single letter or a number: the noun before it is its own.

    Examples
    --------
    >>> names_of(["run12_center_ob", "run12_edge_ob"]), names_of(["roi_a", "roi_b"]), names_of(["signal"])
    (['center', 'edge'], ['roi_a', 'roi_b'], ['signal'])
    """
    bare = [_trim(_KIND.sub("", s, count=1)) or s for s in stems]
    if len(bare) < 2:
        return bare
    words = [re.split(r"([ _.-]+)", s) for s in bare]
    lead = _shared(words)
    trail = _shared([w[lead:][::-1] for w in words])
    short = [_trim("".join(w[lead : len(w) - trail])) for w in words]
    return bare if any(len(s) < 2 or s.isdigit() for s in short) else short


def _shared(words: Sequence[Sequence[str]]) -> int:
    """Return how many of their first words all have in common."""
    return next((i for i, each in enumerate(zip(*words, strict=False)) if len(set(each)) > 1), min(map(len, words)))


def _trim(text: str) -> str:
    return re.sub(r"([ _.-])[ _.-]+", r"\1", text).strip(" _.-")
