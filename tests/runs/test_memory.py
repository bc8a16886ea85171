"""What a run holds: what its trial said, and nothing twice."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from scanfold import _apply
from scanfold.runs import plan, trial, worker


def lazy(kernel, cells: int, points: int) -> xr.Dataset:
    """Return a map by a kernel over cells of 100 positions."""
    values = np.arange(100.0 * cells)[:, None] * np.ones(points)
    data = xr.DataArray(da.from_array(values, chunks=(100, -1)), dims=("position", "energy"))
    out = _apply.apply_kernel(kernel, data, core_dims=[["energy"]], output={"value": 1}, token="sum")
    return out.isel(value=0).to_dataset(name="sum")


def test_what_is_placed_in_a_block_is_let_go():
    ds = lazy(lambda block: block.sum(-1)[:, None], 16, 8)
    ds["same"] = ds["sum"]
    (cells,) = plan.cells(ds)
    scan = plan.Scan(ds, [plan.Group(cells.dims, cells.names, (1600,), (1600,))], "", "")
    block = scan.block("0.0")
    values = dict(zip(block.keys, worker.execute(block.graph, block.keys), strict=True))
    arrays = worker._placed(block, values)
    assert not values
    for name in ("sum", "same"):
        np.testing.assert_array_equal(arrays[name], 8.0 * np.arange(1600))


@pytest.mark.parametrize(("together", "cells"), [(100, 10), (50, 5), (10, 2)])
def test_a_trial_weighs_the_kernel(together, cells):
    """It takes ten times what it is given at a time; twice a cell is the least that is taken for granted."""

    def kernel(block: np.ndarray) -> np.ndarray:
        parts = [block[n : n + together] for n in range(0, len(block), together)]
        return np.concatenate([np.repeat(p[None], 10, 0).sum((0, 2))[:, None] for p in parts])

    kernel.together = together
    ds = lazy(kernel, 2, 1000)
    scan = plan.Scan(ds, plan.cells(ds), "", "")
    peak = trial._time_rows(scan.block("0.0"), 50)["peak"]
    assert peak / (100 * 1000 * 8) == pytest.approx(cells, abs=1.1)
