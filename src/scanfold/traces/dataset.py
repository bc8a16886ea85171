"""Tables of results as labelled Datasets, which maps, pictures and reports take."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from scanfold.conventions import InputError, provenance
from scanfold.fitting import STATISTICS, STATUS
from scanfold.traces.block import CHECKS
from scanfold.traces.discovery import cell_name
from scanfold.traces.fit import probe
from scanfold.traces.request import FittingRequest
from scanfold.traces.results import MORE, NUMBERS
from scanfold.traces.tables import KEPT

if TYPE_CHECKING:
    import pandas as pd


def to_dataset(
    frame: pd.DataFrame, request: FittingRequest, sources: Mapping[str, Path] | None = None, feature: str | None = None
) -> xr.Dataset:
    """Return results as the Dataset that `fit_trace_data` would give, over all files.

    Parameters
    ----------
    frame : DataFrame
        Of `load_fitted`, with the results of one request.
    request : FittingRequest
        Theirs: it has the units, and what varied.
    sources : mapping of str to Path, optional
        The file that each file of results is of.
    feature : str, optional
        What was taken of it.

    Returns
    -------
    Dataset
        Over ``cell``, with coordinates ``file``, ``fov``, ``cell_id``, and what the files say of where cells are.

    Raises
    ------
    InputError
        If the results are of another model, or of the older layout without errors.
    """
    kinds = sorted(set(frame["model_type"])) if len(frame) else []
    if kinds and kinds != [request.model_type]:
        raise InputError(f"the results are of {', '.join(kinds)}, the request of {request.model_type}")
    missing = [n for n in ("status", *(f"{p}_stderr" for p in request.model.names)) if n not in frame]
    if missing:
        raise InputError(f"the results have no {missing[0]}: they are of an older layout; fit the files again")
    like = probe(request)
    columns = {v: k for k, v in (NUMBERS | MORE).items()}
    out = xr.Dataset(coords=_coords(frame))
    if sources is not None:
        out = out.assign_coords(
            source=("cell", frame["file"].map({k: str(v) for k, v in sources.items()}).to_numpy(object))
        )
    names = [n for p in request.model.names for n in (p, f"{p}_stderr")]
    for name in (*names, *(v.name for v in (*STATISTICS, *CHECKS))):
        values = frame[columns.get(name, name)]
        if name == "status":
            values = values.map(STATUS)
        out[name] = ("cell", values.to_numpy(like[name].dtype), like[name].attrs)
    pairs = {f"{a}~{b}": i + 1 for i, (a, b) in enumerate(combinations(request.varying, 2))}
    codes = frame["correlated"].map(lambda word: pairs.get(word, 0)).to_numpy(np.int16)
    out["correlated"] = ("cell", codes, like["correlated"].attrs)
    recorded = provenance(like)
    recorded["inputs"], recorded["options"]["axis"] = {}, {}
    title = f"{request.model_type} fits of {frame['file'].nunique()} files"
    out.attrs = {
        "title": title,
        "request": json.dumps(request.describe()),
        "provenance": json.dumps(recorded, sort_keys=True),
    }
    if feature is not None:
        out.attrs["feature"] = feature
    return out


def _coords(frame: pd.DataFrame) -> dict[str, object]:
    """Return labels of the cells, which are unique within a file, and what else is known of them."""
    ids = frame["cell_id"].astype(object) if "cell_id" in frame else frame["cell"].astype(object)
    labels = [str(i) for i in ids]
    if "fov" in frame:
        there = frame["fov"].notna().to_numpy()
        pairs = zip(frame["fov"].tolist(), frame["cell"].tolist(), strict=True)
        labels = [cell_name(f, c) if h else n for (f, c), h, n in zip(pairs, there, labels, strict=True)]
        ids = frame["cell"].astype(object).where(there, ids)
    coords: dict[str, object] = {
        "label": ("cell", np.array(labels, object)),
        "file": ("cell", frame["file"].to_numpy(object)),
        "cell_id": ("cell", np.array([str(i) for i in ids], object), {"long_name": "cell"}),
    }
    for name in ("fov", *KEPT):
        if name in frame:
            whole = frame[name].notna().all()
            coords[name] = ("cell", frame[name].to_numpy() if whole else frame[name].to_numpy(float, na_value=np.nan))
    return coords
