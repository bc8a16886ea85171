"""A GroupedFitResult as one file: a zarr store, or JSON. Both hold fits, model and data, as names and numbers only."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from scanfold._paths import replace_file
from scanfold.bragg.data import Data
from scanfold.bragg.variables import ATTRS, SPEC, counted_and_errors, with_transmission
from scanfold.conventions import InputError, InputTypeError, is_url, provenance
from scanfold.fitting import parameter_names
from scanfold.fitting.expressions import translate
from scanfold.runs import open_store
from scanfold.runs import save as save_store

if TYPE_CHECKING:
    from scanfold.bragg.result import GroupedFitResult

#: What a file says it is, and the version of its layout.
KIND, VERSION = "scanfold.bragg.GroupedFitResult", 1
_DTYPES = (
    "float64",
    "float32",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
    "str",
)
#: What JSON has no numbers for.
_SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def save(
    result: GroupedFitResult, file: Path, compact: bool, model_filename: str | PathLike[str] | None, progress: bool
) -> GroupedFitResult:
    """Write a result; see `GroupedFitResult.save`."""
    if file.suffix not in (".zarr", ".json"):
        raise InputError(f"{file.name!r}: the suffix says how it is written; expected .zarr or .json")
    if is_url(file) and file.suffix == ".json":
        raise InputError(f"{str(file)!r}: JSON files are written here, stores (.zarr) at URLs too")
    if not is_url(file) and not file.absolute().parent.is_dir():
        raise InputError(f"there is no folder {str(file.absolute().parent)!r}")
    model = described(result.model)
    if model_filename is not None:
        if model is None:
            raise InputError("this model is none of bragg.TransmissionModel, and has no file of its own")
        _write_json(Path(model_filename), model)
    parts = {"kind": KIND, "version": VERSION, "model": model}
    if file.suffix == ".json":
        if file.exists():
            _read_json(file)  # replaces only what it could have written
        content = {**parts, "fits": to_plain(result.compute())}
        if result.data is not None and not compact:
            content["data"] = to_plain(counts_of(result.data).compute())
        _write_json(file, content)
        return type(result).load(file, model=result.model)
    save_store(whole(result, compact, parts), file, progress=progress)
    return type(result).load(file, model=result.model)


def whole(result: GroupedFitResult, compact: bool, parts: Mapping[str, Any]) -> xr.Dataset:
    """Return fits and data as one Dataset, the model in its attributes."""
    fits = result.fits
    content = {**parts, "order": [str(n) for n in fits.data_vars]}  # a store sorts them
    if result.data is not None and not compact:
        data = counts_of(result.data)
        clash = [n for n in data.data_vars if n in fits]
        if clash:
            raise InputError(f"the fits have a variable {clash[0]!r}, as the data; save to .json")
        content["data"] = {k: float(data.attrs[k]) for k in ATTRS if k in data.attrs}
        missing = {n: c for n, c in data.coords.items() if n not in fits.coords}
        fits = fits.assign({n: data[n].variable for n in data.data_vars}).assign_coords(missing)
    text = json.dumps(content, sort_keys=True)
    return fits.assign_attrs(bragg=text)


def counts_of(data: Data) -> xr.Dataset:
    """Return what a file keeps of data: counts, errors and exposures, or all where the transmission is not of them."""
    names = counted_and_errors(data.dataset)
    return data.dataset[names if "signal_err" in names else [n for n in data.dataset.data_vars if n in SPEC]]


def described(model: Any) -> Any:
    """Return a model as plain names and numbers; None where the record of the fits has it."""
    return model.to_dict() if hasattr(model, "to_dict") else None


def load(
    cls: type[GroupedFitResult], file: Path, model_filename: str | PathLike[str] | None, model: Any, data: Data | None
) -> GroupedFitResult:
    """Open a result; see `GroupedFitResult.load`."""
    if not file.exists():
        raise InputError(f"no file {str(file)!r}")
    fits, kept, content = _from_store(file) if file.is_dir() else _from_json(file)
    check_record(fits)
    if model is None:
        source = content.get("model") if model_filename is None else _read_json(Path(model_filename), kind=False)
        model = rebuilt(source)
    return cls(fits, model, kept if data is None else data)


def rebuilt(source: Any) -> Any:
    """Return the model that plain names and numbers describe; None for none."""
    if source is None:
        return None
    from scanfold import bragg

    return bragg.TransmissionModel.from_dict(source)


def check_record(fits: xr.Dataset) -> None:
    """Raise unless the record of some fits is plain: its expressions are arithmetic on its parameters.

    A file may have been edited, and lmfit would evaluate more.
    """
    names = parameter_names(fits)
    try:
        parameters = provenance(fits).get("options", {}).get("parameters", {})
        expressions = [str(p["expr"]) for p in parameters.values() if "expr" in p]
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"the record of the fits is damaged: {error}") from None
    for text in expressions:
        translate(text, {n: i for i, n in enumerate([*names, *parameters])})


def _from_store(file: Path) -> tuple[xr.Dataset, Data | None, dict[str, Any]]:
    stored = open_store(file)
    try:
        content = json.loads(stored.attrs["bragg"])
        _check_kind(content, file)
        stored = stored[list(dict.fromkeys([n for n in content["order"] if n in stored] + list(stored.data_vars)))]
    except (KeyError, ValueError, TypeError):
        raise InputError(f"{str(file)!r} is a store, and no GroupedFitResult that was saved") from None
    if "data" not in content:
        return stored, None, content
    names = [n for n in stored.data_vars if n in SPEC]
    attrs = {k: float(v) for k, v in dict(content["data"]).items() if k in ATTRS}
    ds = stored[names].drop_attrs(deep=False).assign_attrs(attrs)
    inner = {"stage", "param", "param_i", "param_j"}
    ds = ds.drop_vars([c for c in ds.coords if set(ds[c].dims) & inner])
    fits = stored.drop_vars([*names, *(c for c in stored.coords if "tof" in stored[c].dims)])
    return fits, Data(with_transmission(ds)), content


def _from_json(file: Path) -> tuple[xr.Dataset, Data | None, dict[str, Any]]:
    content = _read_json(file)
    try:
        fits = from_plain(content["fits"])
        kept = Data(with_transmission(from_plain(content["data"]))) if "data" in content else None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise InputError(f"{str(file)!r} is damaged: {type(error).__name__}: {error}") from None
    return fits, kept, content


def _read_json(file: Path, *, kind: bool = True) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {str(file)!r}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{str(file)!r} is no JSON: {error}") from None
    if kind:
        _check_kind(content, file)
    return dict(content)


def _check_kind(content: Any, file: Path) -> None:
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise InputError(f"{str(file)!r} is no GroupedFitResult that was saved; it is left as it is")
    if content.get("version") != VERSION:
        raise InputError(f"{str(file)!r} has layout {content.get('version')!r}; this version reads {VERSION}")


def _write_json(file: Path, content: Any) -> None:
    with replace_file(file.absolute()) as temporary:
        temporary.write_text(json.dumps(content, allow_nan=False), encoding="utf-8")


def to_plain(ds: xr.Dataset) -> dict[str, Any]:
    """Return a Dataset in memory as names, lists and numbers that JSON takes; numbers come back bit for bit."""
    return {
        "attrs": _attrs(ds.attrs),
        "coords": {str(n): _variable(v.variable) for n, v in ds.coords.items()},
        "variables": {str(n): _variable(v.variable) for n, v in ds.data_vars.items()},
    }


def _variable(variable: xr.Variable) -> dict[str, Any]:
    values = variable.values
    words = values.dtype.kind in "OUST"
    dtype = "str" if words else str(values.dtype)
    if dtype not in _DTYPES:
        raise InputTypeError(f"a variable of dtype {values.dtype} does not go into JSON; save to .zarr")
    flat: list[Any] = [str(v) for v in values.ravel()] if words else values.ravel().tolist()
    if dtype.startswith("float"):
        flat = [v if math.isfinite(v) else _named(v) for v in flat]
    dims = list(map(str, variable.dims))
    return {"dims": dims, "shape": list(values.shape), "dtype": dtype, "attrs": _attrs(variable.attrs), "data": flat}


def _named(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _attrs(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    plain = {str(k): v.tolist() if isinstance(v, np.ndarray | np.generic) else v for k, v in attrs.items()}
    return {k: v for k, v in plain.items() if isinstance(v, str | int | float | list) and k != "bragg"}


def from_plain(content: Mapping[str, Any]) -> xr.Dataset:
    """Return the Dataset of `to_plain`."""
    variables = {n: _unvariable(v) for n, v in content["variables"].items()}
    coords = {n: _unvariable(v) for n, v in content["coords"].items()}
    return xr.Dataset(variables, coords=coords, attrs=_attrs(content["attrs"]))


def _unvariable(content: Mapping[str, Any]) -> xr.Variable:
    if content["dtype"] not in _DTYPES:
        raise ValueError(f"unknown dtype {content['dtype']!r}")
    if content["dtype"] == "str":
        values: np.ndarray = np.array([str(v) for v in content["data"]], object)
    else:
        numbers = [_SPECIAL[v] if isinstance(v, str) else v for v in content["data"]]
        values = np.array(numbers, content["dtype"])
    return xr.Variable(content["dims"], values.reshape(content["shape"]), _attrs(content["attrs"]))
