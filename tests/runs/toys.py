"""Lazy datasets with kernels that count themselves, fail, or kill, for the tests of runs."""

from __future__ import annotations

import json
import os
import signal
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from scanfold import _apply, conventions

FLAGS = {"converged": 0, "poor_fit": 1, "crashed": 9}


class Kernel:
    """Mean and spread of each spectrum; leaves a file per call in `folder`, and misbehaves where told to.

    A position is known by its first channel, which holds its number.
    """

    def __init__(self, folder: str | Path = "", *, delay: float = 0.0, **misbehaviour: Any):
        self.folder, self.delay, self.misbehaviour = str(folder), delay, misbehaviour

    def __call__(self, block: np.ndarray) -> np.ndarray:
        if self.folder and len(block):
            Path(self.folder, f"{int(block[0, 0])}-{len(block)}-{uuid.uuid4().hex}").touch()
        time.sleep(self.delay * len(block))
        for number in block[:, 0]:
            self._misbehave(int(number))
        status = np.where(block[:, 1:].mean(1) > 0.5, 0, 1)
        return np.stack([block[:, 1:].mean(1), block[:, 1:].std(1), status], -1)

    def _misbehave(self, number: int) -> None:
        if number == self.misbehaviour.get("raise_at"):
            raise ArithmeticError(f"position {number} is bad")
        if number == self.misbehaviour.get("exit_at"):
            os._exit(1)
        if number == self.misbehaviour.get("exit_once_at"):
            marker = Path(self.folder, "died")
            if not marker.exists():
                marker.touch()
                os._exit(1)
        if number == self.misbehaviour.get("interrupt_at"):
            os.kill(os.getpid(), signal.SIGINT)
        if number == self.misbehaviour.get("stop_at"):
            raise conventions.RunError(f"asked to stop at position {number}")


def scan(ny: int = 12, nx: int = 10, points: int = 20, **chunks: Any) -> xr.DataArray:
    values = np.random.default_rng(5).random((ny, nx, points))
    values[..., 0] = np.arange(ny * nx).reshape(ny, nx)
    lazy = xr.DataArray(values, dims=("y", "x", "energy"), name="counts").chunk(chunks or {"y": 2, "x": 5})
    return lazy.assign_coords(energy=np.arange(points, dtype=float), row=("y", [f"r{i}" for i in range(ny)]))


def maps(data: xr.DataArray, kernel: Kernel | None = None, *, gil: bool = False, option: int = 1) -> xr.Dataset:
    """Return lazy maps as an operation makes them; with `gil` they ask for processes."""
    out = _apply.apply_kernel(
        kernel or Kernel(), data, core_dims=[["energy"]], output={"value": 3}, token=f"toy-{option}"
    )
    ds = xr.Dataset({"mean": out.isel(value=0), "spread": out.isel(value=1).astype("float32")})
    ds["status"] = out.isel(value=2).astype("int8")
    ds["status"].attrs = conventions.Var("status", ("...",), "int8", "outcome", flags=FLAGS).attrs()
    ds["mean"].attrs = {"units": "count"}
    ds.attrs["provenance"] = conventions.record("toy", {"scan": data}, {"option": option}, releases_gil=not gil)
    return ds


def same(saved: xr.Dataset, expected: xr.Dataset) -> None:
    """Assert bit-identical variables, coordinates and dtypes."""
    reference = expected.compute()
    assert set(saved.variables) == set(reference.variables)
    for name, variable in reference.variables.items():
        assert saved[name].dims == variable.dims
        if variable.dtype.kind != "U":
            assert saved[name].dtype == variable.dtype, name
        np.testing.assert_array_equal(saved[name].values, variable.values, err_msg=str(name))


def files(folder: Path) -> dict[str, bytes]:
    """Return the content of every data file of a store."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("c/**/*") if p.is_file()}


def entries(store: Path) -> list[dict[str, Any]]:
    """Return the ledger entries of a store."""
    return [json.loads(p.read_text()) for p in (store / ".scanfold" / "blocks").glob("*.json")]
