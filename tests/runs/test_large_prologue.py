"""A whole-scan step whose result is large: blocks name the file that keeps it, and do not carry it."""

from __future__ import annotations

import cloudpickle
import numpy as np
import pytest
import xarray as xr

import scanfold as sf
from scanfold import _apply
from scanfold.runs import plan, store


def fold(values: np.ndarray) -> np.ndarray:
    return np.outer(values, values)


def weighted(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return rows @ weights[0, : rows.shape[1], :1] if len(rows) else np.empty((0, 1))


def lazy(points: int) -> xr.Dataset:
    scan = xr.DataArray(np.random.default_rng(0).random((12, 8)), dims=("y", "energy")).chunk(y=3)
    start = xr.DataArray(np.arange(1.0, points + 1), dims="k").chunk(k=-1)
    matrix = _apply.apply_whole(fold, start, output={"k": points, "n": points}, token="outer")
    made = _apply.apply_kernel(weighted, scan, matrix, core_dims=[["energy"], ["k", "n"]], output={"m": 1}, token="w")
    return xr.Dataset({"made": made})


@pytest.mark.parametrize("points", [20, 400])
def test_blocks_do_not_carry_a_large_value(points, tmp_path, monkeypatch):
    sizes, block = [], plan.Scan.block

    def weigh(self: plan.Scan, name: str) -> plan.Block:
        made = block(self, name)
        sizes.append(len(cloudpickle.dumps(made)))
        return made

    monkeypatch.setattr(plan.Scan, "block", weigh)
    saved = sf.save(lazy(points), tmp_path / "made.zarr", progress=False)
    np.testing.assert_allclose(saved["made"], lazy(points)["made"].compute())
    # The first is weighed before the prologue is done, to plan memory.
    assert max(sizes[1:]) < 50_000
    assert points**2 * 8 > store.CARRIED or points < 100
    again = sf.save(lazy(points), tmp_path / "made.zarr", progress=False)  # the store knows its own work
    assert again.identical(saved)
