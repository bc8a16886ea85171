"""The same bits whatever the chunks and the scheduler; and a graph that reads nothing until it is computed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from lmfit import models

import scanfold as sf
from scanfold.testing import CountingArray, peak_scan, raise_if_computes

ROWS, COLUMNS, POINTS = 7, 9, 40
START = {"amplitude": 900, "center": 5, "sigma": 0.6, "slope": 0, "intercept": 30}


def scan() -> xr.DataArray:
    """Return a scan of peaks with every kind of trouble in it: gaps, zeros, noise without a peak, an outlier."""
    data, _ = peak_scan({"y": ROWS, "x": COLUMNS}, points=POINTS, seed=5)
    data.values[1, 2, 7] = np.nan
    data.values[2, 3] = 0
    data.values[3, 4] = np.nan
    data.values[4, 5] = np.random.default_rng(6).poisson(40, POINTS)
    data.values[5, 6, 20] = 1e6
    return data


SCAN = scan()


def graph(data: xr.DataArray, **options: Any) -> xr.Dataset:
    model = models.GaussianModel() + models.LinearModel()
    options = {"engine": "batch", "weights": "counts", "covariance": True, **options}
    return sf.fit(data, model, options.pop("params", None), dim="energy", **options)


@pytest.fixture(scope="module", params=["auto", "params", "mean"])
def reference(request: pytest.FixtureRequest) -> tuple[dict[str, Any], xr.Dataset]:
    """Return options, and what they give for the scan held in memory."""
    options = {"guess": request.param, "params": START if request.param != "auto" else None}
    return options, graph(SCAN, **options).compute()


def assert_same_bits(result: xr.Dataset, expected: xr.Dataset) -> None:
    assert set(result.variables) == set(expected.variables)
    for name in expected.variables:
        np.testing.assert_array_equal(result[name].values, expected[name].values, err_msg=str(name))


def pieces(size: int) -> st.SearchStrategy[tuple[int, ...]]:
    """Draw the sizes of the chunks that `size` is cut into."""
    cuts = st.sets(st.integers(1, size - 1)).map(sorted)
    return cuts.map(lambda at: tuple(int(n) for n in np.diff([0, *at, size])))


@given(rows=pieces(ROWS), columns=pieces(COLUMNS))
@settings(max_examples=12)
def test_any_chunks_on_threads(reference: tuple[dict[str, Any], xr.Dataset], rows: Any, columns: Any):
    options, expected = reference
    lazy = graph(SCAN.chunk(y=rows, x=columns), **options)
    assert_same_bits(lazy.compute(scheduler="threads", num_workers=2), expected)


@given(rows=pieces(3), columns=pieces(2))
@settings(max_examples=4)
def test_any_chunks_for_the_lmfit_engine(rows: Any, columns: Any):
    part = SCAN[1:4, 2:4]
    options: dict[str, Any] = {"engine": "lmfit", "guess": "params", "params": START, "retry": False}
    lazy = graph(part.chunk(y=rows, x=columns), **options)
    assert_same_bits(lazy.compute(scheduler="synchronous"), graph(part, **options).compute())


def test_processes(reference: tuple[dict[str, Any], xr.Dataset]):
    options, expected = reference
    with dask.config.set(scheduler="processes", num_workers=2):
        assert_same_bits(graph(SCAN.chunk(y=4, x=5), **options).compute(), expected)


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.mark.parametrize("chunks", [{"y": 4, "x": 5}, {"y": (1, 5, 1), "x": 9}])
def test_distributed(reference: tuple[dict[str, Any], xr.Dataset], client: Any, chunks: dict[str, Any]):
    options, expected = reference
    # computed by the client: its scheduler is the default while it is open
    assert_same_bits(graph(SCAN.chunk(chunks), **options).compute(), expected)


@pytest.mark.parametrize("chunks", [{"y": 11, "x": 80}, {"y": 64, "x": (3, 50, 27)}])
def test_scan_larger_than_the_sample_of_its_prologue(chunks: dict[str, Any]):
    data, _ = peak_scan({"y": 64, "x": 80}, points=24, seed=9)
    options: dict[str, Any] = {"guess": "mean", "params": START, "covariance": False}
    assert_same_bits(graph(data.chunk(chunks), **options).compute(), graph(data, **options).compute())


def test_weights_and_starts_with_chunks_and_orders_of_their_own():
    weights = 1 / np.sqrt(SCAN.clip(min=1).fillna(1))
    center = xr.DataArray(np.linspace(4.5, 5.5, ROWS * COLUMNS).reshape(ROWS, COLUMNS), dims=("y", "x"))
    width = xr.DataArray(np.linspace(0.5, 0.9, COLUMNS), dims="x")

    def run(data: xr.DataArray, *extra: xr.DataArray) -> xr.Dataset:
        weights, center, width = extra
        params = {**START, "center": {"value": center, "max": center + 3}, "sigma": {"value": width, "min": width / 9}}
        return graph(data, guess="params", params=params, weights=weights, retry=False).compute()

    expected = run(SCAN, weights, center, width)
    assert_same_bits(run(SCAN.chunk(y=2), weights.chunk(y=3, x=4), center.T.chunk(x=5), width.chunk(x=2)), expected)
    assert_same_bits(run(SCAN.chunk(y=2), weights.transpose("energy", "x", "y"), center.T, width), expected)


def test_order_of_dimensions_changes_nothing(reference: tuple[dict[str, Any], xr.Dataset]):
    options, expected = reference
    turned = graph(SCAN.transpose("energy", "y", "x"), **options).compute()
    assert_same_bits(turned.transpose(*expected.dims), expected)


def test_one_position_alone_has_the_same_bits():
    # a retry starts from the mean of the scan, which one position alone does not have
    options: dict[str, Any] = {"guess": "params", "params": START, "covariance": False, "retry": False}
    whole = graph(SCAN, **options).compute()
    for y, x in [(0, 0), (1, 2), (5, 6), (4, 5)]:
        alone = graph(SCAN[y : y + 1, x : x + 1], **options).compute()
        assert_same_bits(alone.drop_vars(set(alone.coords)), whole[{"y": [y], "x": [x]}].drop_vars(set(whole.coords)))


@pytest.mark.parametrize("engine", ["batch", "lmfit", "auto"])
@pytest.mark.parametrize("guess", ["auto", "params", "mean"])
def test_graph_reads_nothing(engine: str, guess: str):
    source = CountingArray(SCAN.values)
    data = source.lazy(SCAN.dims, y=3, x=4).assign_coords(energy=SCAN.energy)
    with raise_if_computes():
        fits = graph(data, engine=engine, guess=guess, params=START)
    assert source.reads == 0
    assert all(variable.chunks is not None for variable in fits.data_vars.values())


def test_run_reads_each_chunk_once_and_a_block_only_its_own():
    source = CountingArray(SCAN.values)
    data = source.lazy(SCAN.dims, y=3, x=9).assign_coords(energy=SCAN.energy)
    fits = graph(data, guess="params", params=START, retry=False)
    fits.isel(y=slice(0, 3)).compute(scheduler="synchronous")
    assert source.elements == 3 * COLUMNS * POINTS
    source.reads = source.elements = 0
    fits.compute(scheduler="synchronous")
    assert source.elements == SCAN.size


def test_graph_of_a_large_scan_holds_no_array():
    shape = (1000, 1000, 50)
    source = CountingArray(np.broadcast_to(np.float32(1), shape))
    data = source.lazy(("y", "x", "energy"), y=100, x=100).assign_coords(energy=np.arange(50.0))
    fits = graph(data, guess="auto", params=START)
    assert source.reads == 0
    assert fits["center"].shape == shape[:2]
    # a few tasks per chunk (there are 100), none per position
    assert len(fits.__dask_graph__()) < 100 * 60
