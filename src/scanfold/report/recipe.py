"""What was fitted, from the record of a run: in words, and as the lines that do it again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from scanfold._markup import Markup, element

_DEFAULTS = {"likelihood": "gaussian", "method": "leastsq", "covariance": False, "errors": "flag",
             "poor_fit": 1e-6, "no_signal": 10.0}  # fmt: skip
_OPERATORS = ("+", "-", "*", "/")
_ENGINES = {"compiled": "batch", "array": "batch", "lmfit": "lmfit"}


def model_code(model: Any) -> str:
    """Return the Python that makes a model from its names.

    Examples
    --------
    >>> model_code({"op": "+", "left": {"model": "GaussianModel", "prefix": "g_"}, "right": {"model": "LinearModel"}})
    "GaussianModel(prefix='g_') + LinearModel()"
    """
    if not isinstance(model, Mapping):
        return repr(model)
    if "op" in model:
        left, right = model_code(model["left"]), model_code(model["right"])
        loose = ("+", "-")
        if model["op"] not in loose and model["left"].get("op") in loose:
            left = f"({left})"
        if "op" in model["right"] and (model["op"] != "+" or model["right"]["op"] not in loose):
            right = f"({right})"
        return f"{left} {model['op'] if model['op'] in _OPERATORS else '…'} {right}"
    if "function" in model:
        prefix = f", prefix={model['prefix']!r}" if "prefix" in model else ""
        return f"lmfit.Model({_name(str(model['function']).rpartition('.')[2])}{prefix})"
    first = [repr(model["expr"])] if "expr" in model else []
    named = [f"{_name(k)}={v!r}" for k, v in model.items() if k not in ("model", "expr")]
    return f"{_name(model['model'])}({', '.join(first + named)})"


def _name(text: object) -> str:
    """Return a name; a store may have been edited, so that nothing else gets into lines to run."""
    return str(text) if str(text).isidentifier() else "…"


def model_names(model: Any) -> set[str]:
    """Return the names of lmfit's models that a model is made of."""
    if not isinstance(model, Mapping) or "function" in model:
        return set()
    if "op" in model:
        return model_names(model["left"]) | model_names(model["right"])
    return {_name(model["model"])}


def parameter_rows(options: Mapping[str, Any]) -> list[list[object]]:
    """Return a row for each parameter: start, bounds, whether it varies, expression."""
    own, rows = options.get("own", {}), []
    for name, p in options.get("parameters", {}).items():
        cells: list[object] = [
            "per position" if f"{name}.{key}" in own else _plain(p.get(key)) for key in ("value", "min", "max")
        ]
        rows.append([name, *cells, "yes" if p.get("vary") else "no", p.get("expr", "")])
    return rows


def _plain(value: Any) -> object:
    """Return a start or a bound as it is read: empty where there is none."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else ""


def option_rows(options: Mapping[str, Any]) -> list[list[object]]:
    """Return the options of a fit that a reader needs, in words."""
    stages = options.get("stages", [])
    words = {
        "fitted along": options.get("dim"),
        "engine": options.get("engine"),
        "method": options.get("method"),
        "likelihood": options.get("likelihood"),
        "weights": options.get("weights") or "none",
        "starts, in order": ", ".join(options.get("starts", [])),
        "stages": "; ".join(", ".join(s) for s in stages) if len(stages) > 1 else None,
        "most evaluations": options.get("max_nfev"),
        "poor_fit below a probability of": options.get("poor_fit"),
        "no_signal below a gain in AIC of": options.get("no_signal"),
    }
    return [[name, str(value)] for name, value in words.items() if value not in (None, "")]


def record(recorded: Mapping[str, Any]) -> Markup:
    """Return the whole record, folded away."""
    text = json.dumps(recorded, indent=1, ensure_ascii=False)
    return element("details", element("summary", "The full record"), element("pre", text))


def lines(recorded: Mapping[str, Any]) -> str:
    """Return the Python lines that make the fits again; comments say what the record does not hold."""
    options, data = recorded["options"], recorded.get("inputs", {}).get("data", {})
    model, source = options["model"], data.get("source", {})
    imports = sorted(model_names(model))
    text = ["import lmfit", *([f"from lmfit.models import {', '.join(imports)}"] if imports else [])]
    text += ["import scanfold as sf", ""]
    dataset = f", dataset={source['dataset']!r}" if "dataset" in source else ""
    opened = f"sf.open_scan({source['path']!r}{dataset})" if "path" in source else "…"
    text += [f"scan = {opened}", 'data = scan[scan.attrs["primary"]]']
    sizes = ", ".join(f"{d!r}: {n!r}" for d, n in zip(data.get("dims", []), data.get("shape", []), strict=True))
    text += [f"# what was fitted had {sizes}: select the same part of the file"] if sizes else []
    text += [f"model = {model_code(model)}", "params = {", *_parameter_lines(options), "}"]
    text += [f"fits = sf.fit(data, model, params, {', '.join(_arguments(options))})"]
    return "\n".join([*text, 'fits = sf.save(fits, "fits.zarr")', 'sf.report(fits, "report.html", data)'])


def _parameter_lines(options: Mapping[str, Any]) -> list[str]:
    text = []
    for name, p in options["parameters"].items():
        own = [k for k in ("value", "min", "max") if f"{name}.{k}" in options.get("own", {})]
        settings: dict[str, Any] = {}
        if "expr" in p:
            settings["expr"] = p["expr"]
        else:
            settings = {
                k: p[k] for k in ("value", "min", "max") if isinstance(_plain(p.get(k)), float) and k not in own
            }
            settings |= {} if p["vary"] else {"vary": False}
        note = f"  # {', '.join(own)}: a DataArray, one per position" if own else ""
        text.append(f"    {name!r}: {settings!r},{note}")
    return text


def _arguments(options: Mapping[str, Any]) -> list[str]:
    """Return the arguments of the fit that differ from the defaults."""
    arguments = [f"dim={options['dim']!r}"]
    if options.get("weights") is not None:
        arguments.append("weights=…" if options["weights"] == "array" else f"weights={options['weights']!r}")
    arguments += [f"{k}={options[k]!r}" for k, v in _DEFAULTS.items() if k in options and options[k] != v]
    stages = options.get("stages", [])
    if len(stages) > 1:
        arguments.append(f"stages={ {str(i): s for i, s in enumerate(stages)}!r}")
    starts = options.get("starts", [])
    arguments += [f"guess={starts[0]!r}"] if starts else []
    arguments += ["retry=False"] if len(starts) == 1 else []
    engine = _ENGINES.get(str(options.get("engine")), "auto")
    return [*arguments, f"engine={engine!r}", f"max_nfev={options.get('max_nfev')!r}"]
