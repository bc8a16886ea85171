"""Ways to damage a file: bytes cut, flipped, zeroed; text and JSON with values in it that nobody expects."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np

#: What may stand where a file has something else.
WORDS = (
    "", "nan", "inf", "-inf", "-1", "0", "1e999", "-0.0", "9" * 400, "9" * 5000, "0x10", "1_000", "1e-320", "true",
    "null",
    "None", "é", "\x00", "\ufeff", "'", '"', '""""', ",", ";", "\t", "\n", "\r", "#", "=1+1", "time", "cell",
    "../../etc",
    "__import__('os').system('touch ran')", "<script>alert(1)</script>", "%s%n", "{}", "[", "[" * 300,
    "!!python/name:os.system",
    "\u202e", "１２", "a" * 20_000, "2026-99-99", "18446744073709551616", "-9223372036854775809", "1,2", "1;2", "1 2",
)  # fmt: skip
#: What may stand in JSON.
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**63, 2**64, -(2**63), 10**400, 1.5, 1e308, float("nan"), float("inf"), "",
    "nan",
    "x", "../../x", "/etc/passwd", "x" * 20_000, "<script>", "|O", "|V8", "object", "pickle", "float64", "int8",
    "<U8", "C",
    "F", [], {}, [0], [-1], [2**62, 2**62], [[]], [None], {"id": "pickle"}, {"name": "pickle"}, {"a": {"b": {}}},
)  # fmt: skip


def bytes_of(content: bytes, rng: np.random.Generator) -> bytes:
    """Cut off, flip a few bits, zero a run or empty; half of the damage is in the first bytes, where headers are."""
    changed = bytearray(content)
    reach = max(min(len(changed), 600) if rng.random() < 0.5 else len(changed), 1)
    at = int(rng.integers(reach))
    match rng.integers(9):
        case 0:
            return b"" if rng.random() < 0.3 else bytes(changed[at:])
        case 1 | 2:
            return bytes(changed[:at])
        case 3 | 4:
            changed[at : at + 16] = bytes(len(changed[at : at + 16]))
        case 5:
            changed[at : at + 8] = (b"\xff" * 8)[: len(changed[at : at + 8])]
        case _:
            for i in rng.integers(reach, size=3):
                if changed:
                    changed[i] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def text_of(content: bytes, rng: np.random.Generator) -> bytes:
    """Put words where others were, drop, repeat and shuffle fields and lines."""
    lines = content.decode("utf-8", errors="replace").splitlines()
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(min(len(lines), 3) if rng.random() < 0.4 else len(lines))) if lines else 0
        fields = lines[at].split(",") if lines else [""]
        field = int(rng.integers(len(fields)))
        match rng.integers(8):
            case 0 | 1 | 2:
                fields[field] = str(rng.choice(np.array(WORDS, object)))
            case 3:
                del fields[field]
            case 4:
                fields.insert(field, fields[field])
            case 5:
                lines[at : at + 1] = lines[at : at + 1] * int(rng.integers(0, 3))
                continue
            case 6:
                rng.shuffle(lines)
                continue
            case 7:
                lines = lines[:at]
                continue
        if lines:
            lines[at] = ",".join(fields)
    end = ("\n", "\r\n", "\r", "\n\n")[int(rng.integers(4)) if rng.random() < 0.2 else 0]
    encoding = "utf-8" if rng.random() < 0.9 else str(rng.choice(["utf-16", "latin-1", "utf-8-sig"]))
    return end.join(lines).encode(encoding, errors="replace")


def json_of(content: bytes, rng: np.random.Generator) -> bytes:
    """Put another value, another name or nothing somewhere into JSON."""
    try:
        root = json.loads(content)
    except ValueError:
        return text_of(content, rng)
    for _ in range(int(rng.integers(1, 3))):
        root = _changed(root, rng)
    return json.dumps(root).encode()


def _changed(node: Any, rng: np.random.Generator) -> Any:
    keys = list(node) if isinstance(node, dict) else list(range(len(node))) if isinstance(node, list) else []
    if not keys or rng.random() < 0.1:
        if rng.random() < 0.05:
            deep: Any = node
            for _ in range(400):
                deep = [deep]
            return deep
        return copy.deepcopy(VALUES[int(rng.integers(len(VALUES)))])
    key = keys[int(rng.integers(len(keys)))]
    if isinstance(node, dict) and rng.random() < 0.15:
        value = node.pop(key)
        if rng.random() < 0.5:
            node[str(rng.choice(np.array(WORDS, object)))] = value
        return node
    node[key] = _changed(node[key], rng)
    return node


def damage(target: Path, rng: np.random.Generator) -> None:
    """Damage a file in a way that suits what is in it."""
    content = target.read_bytes()
    kind = "bytes"
    if rng.random() < 0.6:
        if target.suffix in (".csv", ".txt", ".yaml"):
            kind = "text"
        elif target.name in ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata") or target.suffix == ".json":
            kind = "json"
    target.write_bytes({"bytes": bytes_of, "text": text_of, "json": json_of}[kind](content, rng))
