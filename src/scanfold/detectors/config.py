"""The configuration of a polarisation map: its sections and keys, their defaults, and what each may be."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from scanfold.conventions import InputError, InputTypeError, one_of, read_yaml, unknown

Config = dict[str, dict[str, Any]]
#: Units of sizes in reciprocal space, as they are written, and as they are kept.
K_UNITS = {"1/angstrom": "1/angstrom", "1/nm": "1/nm", "relative": "dimensionless"}


def _number(value: object) -> float:
    """Take a number; YAML reads 1e-6 as a text."""
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        found = float(value)
    except (ValueError, OverflowError):
        raise InputTypeError("a number") from None
    if not np.isfinite(found):
        raise InputError("a finite number")
    return found


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise InputTypeError("true or false")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str | os.PathLike) or not str(value):
        raise InputTypeError("a text")
    return str(value)


def _positive(value: object) -> float:
    found = _number(value)
    if not found > 0:
        raise InputError("a number above 0")
    return found


def _not_negative(value: object) -> float:
    found = _number(value)
    if found < 0:
        raise InputError("a number, 0 or more")
    return found


def _percent(value: object) -> float:
    found = _number(value)
    if not 0 < found <= 100:
        raise InputError("a share in percent, above 0 and at most 100")
    return found


def _ring(value: object) -> list[float | None]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise InputTypeError("two radii in pixels, such as [8, 80]")
    inner, outer = (None if v is None else _number(v) for v in value)
    if not 0 <= (inner or 0.0) < (np.inf if outer is None else outer):
        raise InputError("the inner radius first, then a larger outer one, such as [8, 80]")
    return [inner, outer]


def _box(value: object) -> list[int]:
    if not isinstance(value, list | tuple) or len(value) != 4 or not all(type(v) is int for v in value):
        raise InputTypeError("[x0, y0, width, height] in scan pixels")
    return list(value)


def _numbers(value: object) -> list[float]:
    if not isinstance(value, list | tuple) or not value:
        raise InputTypeError("a list of numbers")
    return [_positive(v) for v in value]


def _rotation(value: object) -> float | str:
    return "auto" if isinstance(value, str) and value == "auto" else _number(value)


@dataclass(frozen=True)
class Key:
    """One key: where it is, what it takes, its default, and what it means."""

    section: str
    name: str
    take: Callable[[object], Any]
    default: Any
    meaning: str


GATE_MODES = ("adaptive", "union", "disc", "ungated", "union_response", "adaptive_response")
KEYS = (
    Key("templates", "top_percent", _percent, 10.0, "share of the usable pixels in a gate, exactly"),
    Key("templates", "smooth_sigma", _not_negative, 1.5, "Gaussian over gates, in pixels; the ring is cut after it"),
    Key("templates", "roi_r", _ring, [8.0, 80.0], "ring of gates about the beam, in pixels; clipped to the detector"),
    Key("templates", "gate_type", one_of("hard", "soft", "smooth_first"), "hard", "hard, soft or smooth_first"),
    Key("preprocess", "log_transform", _switch, True, "log1p for templates and scores; never for centres of mass"),
    Key("preprocess", "background_subtract", _switch, True,
        "subtract the mean pattern: it cancels in templates and scores, and changes nothing"),
    Key("preprocess", "background_annulus", _ring, None,
        "[inner, outer]: subtract from each frame its mean there; needs center_y, center_x"),
    Key("preprocess", "central_mask_px", _not_negative, 8.0, "radius left out of templates, in pixels; 0 for none"),
    Key("preprocess", "whiten", one_of("none", "diag"), "diag", "diag: scores in units of the deviation; or none"),
    Key("preprocess", "bad_pixels", _text, None, "auto finds dead and hot ones; or a .npy of bool (ky, kx)"),
    Key("preprocess", "dose", _text, None, "a .npy with the relative beam current of each frame"),
    Key("preprocess", "count_noise", _switch, True, "frames of label -1 count in the mean and deviation of all"),
    Key("matched_filter", "softmax_temp", _positive, 2.0, "temperature of the confidence"),
    Key("matched_filter", "softmax_units", one_of("std", "literal", "lda"), "std",
        "std: temperature in deviations of the scores; literal saturates confidence at 1; or lda"),
    Key("matched_filter", "prior", _numbers, None, "probability of each cluster beforehand"),
    Key("matched_filter", "residual", _switch, False, "also map what no template explains"),
    Key("dpc", "gate_mode", one_of(*GATE_MODES), "adaptive",
        "Ex, Ey, com of: " + ", ".join(GATE_MODES) + "; adaptive shows labels as a field, compare with disc"),
    Key("dpc", "baseline", one_of("median", "rowcol", "roi", "plane", "robust", "none"), "rowcol",
        "median, rowcol, roi, plane, robust or none; both axes alike; com_*.tif keep it"),
    Key("dpc", "baseline_region", _box, None, "[x0, y0, width, height] without field, in scan pixels; roi needs it"),
    Key("dpc", "roi", _ring, [8.0, 80.0], "ring that cuts gates in centres of mass, in pixels; not the disc"),
    Key("dpc", "field_scale", _number, 1.0, "E = field_scale * com, without the sign of the electron's charge"),
    Key("dpc", "beam_energy", _positive, None, "in eV: E in V instead, with its sign; needs a calibration in 1/length"),
    Key("dpc", "thickness", _positive, None, "of the sample in nm: E in V/m"),
    Key("dpc", "rotation", _rotation, 0.0, "degrees from the x axis of the scan to the detector's; auto: least curl"),
    Key("dpc", "flip", _switch, False, "the y axis of the detector points up; auto rotation finds it too"),
    Key("dpc", "disc_radius", _positive, None, "of the disc detector, in pixels; else 1.25 times that of the beam"),
    Key("dpc", "descan", one_of("plane", "measured"), None, "plane or measured: follow the beam; reads once more"),
    Key("calibration", "center_y", _number, None, "of the beam, in pixels; else clicked; else found in the mean"),
    Key("calibration", "center_x", _number, None, "both or none"),
    Key("calibration", "pixel_size", _positive, None,
        "real-space pixel dx that belongs to the detector: dk = 1/(N dx); goes before k-space sizes"),
    Key("calibration", "pixel_size_units", one_of("nm", "angstrom"), "nm", "nm or angstrom"),
    Key("calibration", "pixel_size_k", _positive, 1.0, "size of a detector pixel; 1.0 without a unit: pixels"),
    Key("calibration", "pixel_size_ky", _positive, None, "along each axis; both or none"),
    Key("calibration", "pixel_size_kx", _positive, None, ""),
    Key("calibration", "pixel_size_k_units", one_of(*K_UNITS), None, "of the three: 1/angstrom, 1/nm or relative"),
    Key("calibration", "mrad_per_pixel", _positive, None, "angle of a detector pixel; needs dpc.beam_energy"),
    Key("calibration", "convergence_angle", _positive, None,
        "semi-angle in mrad: with a beam energy and k sizes, gives the radius of the disc detector"),
    Key("calibration", "scan_step", _positive, None, "distance of scan positions in nm: scale bars, charge, phase"),
    Key("validation", "enable_split_half", _switch, False, "templates of two disjoint halves, against shuffled labels"),
    Key("validation", "planted_shifts", _switch, False, "find known shifts, and none where there are none"),
)  # fmt: skip
SECTIONS = tuple(dict.fromkeys(k.section for k in KEYS))


def resolve(config: Mapping[str, Any] | str | os.PathLike[str] | None) -> Config:
    """Return all keys: the defaults, and what a configuration or YAML file says.

    Parameters
    ----------
    config : mapping, path or None
        Sections of keys.

    Raises
    ------
    InputError
        If a section or key is unknown, with the nearest right name, or a value cannot be used.

    Examples
    --------
    >>> resolve({"templates": {"top_percent": 5}})["templates"]["top_percent"]
    5.0
    >>> resolve({"templates": {"top_precent": 5}})
    Traceback (most recent call last):
    scanfold.conventions.InputError: unknown key of templates 'top_precent'; did you mean 'top_percent'? Valid: ...
    """
    content, name = (config, "config") if config is None or isinstance(config, Mapping) else (read_yaml(config), config)
    given = {} if content is None else content
    if not isinstance(given, Mapping):
        raise InputTypeError(f"{name} holds a {type(given).__name__}; expected sections such as templates:")
    out: Config = {section: {} for section in SECTIONS}
    for section, keys in given.items():
        if section not in SECTIONS:
            raise _misplaced(str(section)) or unknown("section", section, SECTIONS)
        if keys is not None and not isinstance(keys, Mapping):
            raise InputTypeError(f"{name}: {section} is {keys!r}; expected keys such as {_names(section)[0]}:")
        for key in keys or {}:
            if key not in _names(section):
                raise _misplaced(str(key)) or unknown(f"key of {section}", key, _names(section))
    for key in KEYS:
        out[key.section][key.name] = _taken(key, (given.get(key.section) or {}).get(key.name, key.default))
    return out


def _taken(key: Key, value: object) -> Any:
    if value is None and key.default is None:
        return None
    try:
        return key.take(value)
    except (InputError, InputTypeError) as error:
        text = str(error)
        expected = text if text.startswith("unknown") else f"expected {text}"
        raise type(error)(f"{key.section}.{key.name} is {value!r}; {expected}") from None


def _names(section: object) -> list[str]:
    return [k.name for k in KEYS if k.section == section]


def _misplaced(name: str) -> InputError | None:
    """Return the error for a key that belongs to another section."""
    homes = [k.section for k in KEYS if k.name == name]
    return InputError(f"{name} stands in the wrong place; write it under {homes[0]}:") if homes else None


def as_yaml(config: Config, *, explained: bool = False) -> str:
    """Return a configuration as YAML, each key with what it means if `explained`.

    Examples
    --------
    >>> print(as_yaml(resolve(None))[:31])
    templates:
      top_percent: 10.0
    """
    import yaml

    lines = []
    for section in SECTIONS:
        lines.append(f"{section}:")
        for key in (k for k in KEYS if k.section == section):
            value = yaml.safe_dump(config[section][key.name], default_flow_style=True, width=1000)
            line = f"  {key.name}: {value.removesuffix('...' + chr(10)).strip()}"
            lines.append(f"{line:<36}  # {key.meaning}" if explained and key.meaning else line)
    return "\n".join(lines) + "\n"


def check(config: Config, shape: tuple[int, int], scan_shape: tuple[int, ...]) -> None:
    """Raise where keys contradict each other or the scan (ky, kx pixels; scan positions).

    Raises
    ------
    InputError
        Naming the keys.
    """
    calibration, dpc = config["calibration"], config["dpc"]
    for first, second in (("center_y", "center_x"), ("pixel_size_ky", "pixel_size_kx")):
        if (calibration[first] is None) != (calibration[second] is None):
            raise InputError(f"calibration.{first} and calibration.{second} belong together; give both or none")
    if calibration["pixel_size_k_units"] is None and calibration["pixel_size"] is None:
        if calibration["pixel_size_ky"] is not None or calibration["pixel_size_k"] != 1.0:
            raise InputError(
                "calibration has sizes in k without a unit; add pixel_size_k_units: 1/angstrom (or 1/nm, or relative)"
            )
    if dpc["beam_energy"] is None:
        for name, value in (("dpc.thickness", dpc["thickness"]), ("mrad_per_pixel", calibration["mrad_per_pixel"])):
            if value is not None:
                raise InputError(f"{name} needs dpc.beam_energy, in eV")
    elif dpc["field_scale"] != 1.0:
        raise InputError("dpc.field_scale and dpc.beam_energy are both given; leave one of them out")
    if dpc["baseline"] == "roi" and dpc["baseline_region"] is None:
        raise InputError("dpc.baseline: roi needs dpc.baseline_region: [x0, y0, width, height]")
    if config["preprocess"]["background_annulus"] is not None and calibration["center_y"] is None:
        raise InputError("preprocess.background_annulus needs calibration.center_y and center_x")
    farthest = float(np.hypot(shape[0] - 1, shape[1] - 1))
    for name, ring in (("templates.roi_r", config["templates"]["roi_r"]), ("dpc.roi", dpc["roi"])):
        if (ring[0] or 0.0) > farthest:
            raise InputError(f"{name} begins at {ring[0]:g} pixels, and the detector of {shape} ends before")
    if len(scan_shape) != 2 and (dpc["rotation"] == "auto" or dpc["baseline_region"] is not None):
        raise InputError(f"dpc.rotation: auto and dpc.baseline_region need rows and columns, found {scan_shape}; "
                         "fold the scan with scan_shape")  # fmt: skip
