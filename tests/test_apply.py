"""The bridge from kernels to Dask."""

from __future__ import annotations

import subprocess
import sys

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from scanfold import _apply, _columns, _folds

_NAME = """
import numpy as np, xarray as xr
from scanfold import _apply
a = xr.DataArray(np.ones((4, 3)), dims=("y", "energy")).chunk(y=2)
b = _apply.apply_kernel(np.copy, a, core_dims=[["energy"]], output={"out": 3}, token="copy")
p = _apply.prologue(np.sum, a.data, shape=(), token="sum")
print(b.data.name, p.name)
"""


def test_names_are_the_same_in_every_process():
    names = {
        subprocess.run([sys.executable, "-c", _NAME], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(names) == 1
    assert "0x" not in names.pop()


def test_scan_dims_broadcast_by_name():
    a = xr.DataArray(np.arange(24.0).reshape(2, 3, 4), dims=("y", "x", "energy")).chunk(y=1)
    per_row = xr.DataArray([10.0, 20.0], dims="y")
    shared = xr.DataArray(np.arange(4.0), dims="energy")
    out = _apply.apply_kernel(
        lambda a, row, w: (a * w).sum(axis=1, keepdims=True) + row[:, None],
        a,
        per_row,
        shared,
        core_dims=[["energy"], [], ["energy"]],
        output={"out": 1},
        token="t",
    )
    expected = (a.values * shared.values).sum(axis=-1) + per_row.values[:, None]
    np.testing.assert_array_equal(out.isel(out=0).transpose("y", "x").values, expected)


def test_only_rows_leaves_the_others_empty():
    a = xr.DataArray(np.ones((6, 2)), dims=("position", "energy")).chunk(position=6)
    out = _apply.apply_kernel(lambda b: 2 * b, a, core_dims=[["energy"]], output={"out": 2}, token="t")
    with _apply.only_rows(slice(1, 3)):
        values = out.compute(scheduler="sync").values
    np.testing.assert_array_equal(np.isfinite(values[:, 0]), [False, True, True, False, False, False])


@pytest.mark.parametrize("chunk", [None, 3])
def test_columns_of_one_kernel(chunk):
    values = np.random.default_rng(0).normal(size=(6, 4))
    a = xr.DataArray(values, dims=("position", "energy"), coords={"position": np.arange(6)}, attrs={"units": "eV"})
    calls = []

    def kernel(block):
        calls.append(len(block))
        return np.concatenate([block, block[:, :1] > 0], axis=1)

    picked = [(1, "float32"), (slice(2, 4), "float64"), (4, "bool")]
    made = _columns.apply_columns(
        kernel, a if chunk is None else a.chunk(position=chunk), core_dims=[["energy"]], width=5, picked=picked,
        token="t",
    )  # fmt: skip
    maps = xr.Dataset({f"v{i}": m for i, m in enumerate(made)})
    assert [(m.dims, m.dtype.name, m.attrs) for m in made] == [
        (("position",), "float32", {}), (("position", "column"), "float64", {}), (("position",), "bool", {})
    ]  # fmt: skip
    calls.clear() if chunk else None
    maps = maps.compute(scheduler="sync")
    assert calls == ([6] if chunk is None else [3, 3])
    np.testing.assert_array_equal(maps["v0"], values[:, 1].astype("float32"))
    np.testing.assert_array_equal(maps["v1"], values[:, 2:])
    np.testing.assert_array_equal(maps["v2"], values[:, 0] > 0)


def test_a_column_that_is_missing_is_not_true():
    a = xr.DataArray(np.ones((4, 1)), dims=("position", "energy")).chunk(position=4)
    (made,) = _columns.apply_columns(np.copy, a, core_dims=[["energy"]], width=1, picked=[(0, "bool")], token="copy")
    with _apply.only_rows(slice(1, 3)):
        assert made.compute(scheduler="sync").values.tolist() == [False, True, True, False]


@pytest.mark.parametrize("fan_in", [2, 3, 16])
def test_reduce_blocks_is_the_whole(fan_in: int):
    values = np.random.default_rng(0).integers(0, 9, (7, 11))
    a = xr.DataArray(values, dims=("y", "x")).chunk(y=2, x=3)
    counted = _folds.reduce_blocks(
        a, lambda b: np.bincount(b.ravel(), minlength=9), sum, lambda c: c.tolist(), fan_in=fan_in
    )
    assert counted.compute() == np.bincount(values.ravel(), minlength=9).tolist()


def test_prologues_are_computed_once_for_all_parts():
    ran = []

    def mean(values):
        ran.append(1)
        return values.mean()

    value = _apply.prologue(mean, da.arange(6, chunks=3), shape=(), token="mean")
    ds = xr.Dataset({"a": ("x", da.arange(6.0, chunks=2) + value)}, {"b": ("x", da.arange(6, chunks=2))}, {"c": 1})
    ds["a"].attrs["units"] = "m"
    known = _apply.with_prologues(ds)
    assert known.chunks == ds.chunks
    for i in range(6):
        assert known["a"][i] == i + 2.5
    assert len(ran) == 1
    xr.testing.assert_identical(known.compute(), ds.compute())
    assert _apply.with_prologues(ds[["b"]]).chunks is not None
