"""What nobody expects, as Hypothesis strategies: values of every kind, and texts, trees and options with a change."""

from __future__ import annotations

import copy
import json
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from .damage import VALUES, WORDS

Drawn = st.SearchStrategy[Any]

#: Python objects that nobody expects, beside those of JSON.
OBJECTS: tuple[Any, ...] = (
    np.float32(2), np.int64(-3), np.nan, (1, 2), (1, 2, 3), {1, 2}, np.arange(3), np.zeros((2, 0)), np.array("x"),
    object(), len, Path("x"), range(3), slice(2), {"value": 1}, {"min": 2, "max": 1}, {"expr": "1/0"},
    {"value": "nan"}, {"vary": "no"}, {"value": np.inf}, {1: 2}, xr.DataArray([1.0, 2.0], dims="y"), Ellipsis,
    NotImplemented, "\ud800",
)  # fmt: skip
WORD = st.sampled_from(WORDS) | st.text(max_size=20)
#: What may stand in JSON.
JSON = st.sampled_from(VALUES) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
ARRAY = hnp.arrays(
    hnp.scalar_dtypes() | st.just(np.dtype("U3")), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
)
ANYTHING = st.one_of(JSON, st.sampled_from(OBJECTS), st.binary(max_size=8), st.complex_numbers(), ARRAY)
NUMBER = st.floats() | st.integers(-(2**70), 2**70) | st.sampled_from((0, 1, -1, 0.5, 1e-300, 1e300))


def either(right: Drawn, odd: Drawn = ANYTHING, of: int = 4) -> Drawn:
    """Draw what is right, and one in `of` times what is odd."""
    return st.integers(0, of - 1).flatmap(lambda turn: odd if turn == of - 1 else right)


def one(*right: Any) -> Drawn:
    """Draw one of these, or anything."""
    return either(st.sampled_from(right))


@st.composite
def options(draw: Callable[[Drawn], Any], known: Mapping[str, Drawn], most: int = 4) -> dict[Any, Any]:
    """Draw some options."""
    names = draw(st.lists(st.sampled_from(list(known)), unique=True, min_size=1, max_size=most))
    return {name: draw(known[name]) for name in names}


def mapping(names: Sequence[str], values: Drawn, most: int = 3) -> Drawn:
    """Draw a mapping of such names, sometimes of another one."""
    name = either(st.sampled_from(names), WORD | st.sampled_from((1, None, ("a",))), of=8)
    return st.dictionaries(name, values, min_size=1, max_size=most)


def sentence(words: Sequence[str], most: int) -> Drawn:
    """Draw words in a row, or one thousands of times."""
    word = either(st.sampled_from(words), WORD, of=20)
    said = st.tuples(st.sampled_from((" ", "")), st.lists(word, max_size=most)).map(lambda s: s[0].join(s[1]))
    opening = st.sampled_from(("(", "-", "[", "a.", "not ", f"{words[0]}+"))
    often = st.builds(operator.mul, opening, st.integers(1, 3000))
    return either(said, often, of=50)


@st.composite
def edited(draw: Callable[[Drawn], Any], text: str, words: Sequence[str] = ()) -> bytes:
    """Draw a text file with words put, fields and lines dropped, repeated, moved, and the rest cut off."""
    lines = text.splitlines()
    word = st.sampled_from((*words, *WORDS)) | st.text(max_size=20)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(len(lines) - 1, 0)))
        line = lines[at] if lines else ""
        match draw(st.sampled_from(("put", "put", "put", "line", "repeat", "drop", "field", "move", "cut"))):
            case "put" | "field" as how:
                pieces = re.split(r"(: |, |,| +)", line)  # every second one separates
                place = 2 * draw(st.integers(0, len(pieces) // 2))
                pieces[place : place + 2] = [] if how == "field" else [draw(word), *pieces[place + 1 : place + 2]]
                lines[at : at + 1] = ["".join(pieces)]
            case "line":
                lines[at : at + 1] = [draw(word)]
            case "repeat":
                lines.insert(at, line)
            case "drop":
                del lines[at : at + 1]
            case "move":
                lines[at : at + 1] = []
                lines.insert(draw(st.integers(0, len(lines))), line)
            case "cut":
                lines = lines[:at]
    end = draw(either(st.just("\n"), st.sampled_from(("\r\n", "\r", "\n\n")), of=8))
    encoding = draw(either(st.just("utf-8"), st.sampled_from(("utf-16", "latin-1", "utf-8-sig")), of=12))
    return end.join([*lines, ""]).encode(encoding, errors="replace")


@st.composite
def changed(draw: Callable[[Drawn], Any], root: Any, values: Drawn) -> Any:
    """Draw a tree of mappings and lists with a value or two replaced, dropped or renamed."""
    root = copy.deepcopy(root)
    for _ in range(draw(st.integers(1, 2))):
        node, key = root, None
        while _keys(node) and (key is None or draw(st.integers(0, 5))):
            key, parent = draw(st.sampled_from(_keys(node))), node
            node = parent[key]
        if key is None:
            return copy.deepcopy(draw(values))
        match draw(st.sampled_from(("put", "put", "put", "put", "drop", "rename"))):
            case "put":
                parent[key] = copy.deepcopy(draw(values))
            case "drop":
                del parent[key]
            case "rename" if isinstance(parent, dict):
                parent[draw(WORD)] = parent.pop(key)
    return root


def _keys(node: Any) -> list[Any]:
    return list(node) if isinstance(node, dict) else list(range(len(node))) if isinstance(node, list) else []


def as_json(tree: Any) -> bytes:
    """Return what a file of it holds."""
    return json.dumps(tree).encode(errors="replace")
