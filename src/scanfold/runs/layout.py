"""The store on disk: zarr v3, checksummed, in chunks that are the blocks of the run."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from scanfold._paths import content_of, zarr_options
from scanfold.conventions import STORE_FORMAT
from scanfold.runs.ledger import write_json
from scanfold.runs.plan import Group


def create(ds: xr.Dataset, groups: Sequence[Group], store: Path, *, compress: bool = True) -> None:
    """Make the arrays of a store, and write what is in memory already.

    Parameters
    ----------
    ds : Dataset
        To be saved.
    groups : sequence of Group
        The blocks of its lazy variables.
    store : Path
        Where; holds nothing but the ledger.
    compress : bool
        Zstandard; False for tiles that are read once. Checksummed either way.
    """
    import zarr
    from zarr.codecs import Crc32cCodec, ZstdCodec

    codecs = [ZstdCodec(checksum=True)] if compress else [Crc32cCodec()]
    lazy = [name for name, v in ds.variables.items() if v.chunks is not None]
    chunks = {name: dict(zip(g.dims, g.chunks, strict=True)) for g in groups for name in g.names}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Object at .scanfold")
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        # First, and at one stroke: from here on the store is known as ours, whatever happens.
        ours = {"zarr_format": 3, "node_type": "group", "attributes": {"scanfold_format": STORE_FORMAT}}
        write_json(store / "zarr.json", ours)
        root = zarr.open_group(str(store), mode="a", zarr_format=3, **zarr_options(store))
        _write_eager(ds.drop_vars(lazy), store, codecs)
        for name in lazy:
            _create_array(root, str(name), ds.variables[name], chunks.get(str(name), {}), codecs)
        _write_root(ds, store, [str(n) for n in lazy if n in ds.coords])
        zarr.consolidate_metadata(root.store, zarr_format=3)


def _create_array(root: Any, name: str, variable: xr.Variable, cut: Mapping[str, int], codecs: Sequence[Any]) -> None:
    root.create_array(
        name,
        shape=variable.shape,
        chunks=tuple(max(1, cut.get(str(d), n)) for d, n in zip(variable.dims, variable.shape, strict=True)),
        dtype=variable.dtype,
        fill_value=_fill(name, variable),
        compressors=codecs,
        dimension_names=tuple(map(str, variable.dims)),
        attributes=_plain(variable.attrs),
    )


def _write_eager(ds: xr.Dataset, store: Path, codecs: Sequence[Any]) -> None:
    # xarray replaces the attributes of the root: what tells that the store is ours must be among the new ones.
    eager = ds.drop_encoding().drop_attrs(deep=False).assign_attrs(scanfold_format=STORE_FORMAT)
    # Strings of fixed length have no stable form in zarr v3.
    strings = {n: v.astype(object) for n, v in eager.variables.items() if v.dtype.kind == "U"}
    eager = eager.assign_coords({n: v for n, v in strings.items() if n in eager.coords})
    eager = eager.assign({n: v for n, v in strings.items() if n in eager.data_vars})
    encoding = {n: {"compressors": list(codecs)} for n, v in eager.variables.items() if v.dtype.kind in "biufc"}
    eager.to_zarr(str(store), mode="a", zarr_format=3, consolidated=False, encoding=encoding, **zarr_options(store))


def _write_root(ds: xr.Dataset, store: Path, lazy_coords: Sequence[str]) -> None:
    """Write the root attributes; coordinates without a variable that names them are listed there."""
    path = store / "zarr.json"
    root = json.loads(content_of(path) or b"")
    written = str(root["attributes"].get("coordinates", "")).split()
    attributes = {**_plain(ds.attrs), "scanfold_format": STORE_FORMAT, "scanfold_complete": False}
    if written or lazy_coords:
        attributes["coordinates"] = " ".join([*written, *lazy_coords])
    root["attributes"] = attributes
    write_json(path, root)


def _fill(name: str, variable: xr.Variable) -> Any:
    """Return what a missing position reads as: NaN, and a status that is none of the flags."""
    kind = variable.dtype.kind
    if kind in "fc":
        return np.nan
    if name == "status" and kind in "iu":
        used = {int(v) for v in np.atleast_1d(variable.attrs.get("flag_values", []))}
        limits = np.iinfo(variable.dtype)
        return next(v for v in (-1, limits.max, limits.max - 1) if v >= limits.min and v not in used)
    return variable.dtype.type(0)


def _plain(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    """Return attributes as JSON knows them."""

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return value.tolist()
        return value.item() if isinstance(value, np.generic) else value

    return {str(name): plain(value) for name, value in attributes.items()}
