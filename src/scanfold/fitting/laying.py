"""From a fit that is planned to a lazy Dataset: its block of work laid over the scan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from dask.base import tokenize

from scanfold import _apply
from scanfold.conventions import Var, versions
from scanfold.fitting import results
from scanfold.fitting.block import FitBlock, columns, engine_of
from scanfold.fitting.components import model_token
from scanfold.fitting.parameters import ParameterTable
from scanfold.fitting.problem import Array
from scanfold.fitting.start import MeanStart, sample

#: About one second of work on one core, in positions.
_BLOCK = {"compiled": 65536, "array": 16384, "lmfit": 256}


@dataclass(frozen=True)
class Prepared:
    """A fit that is checked and planned, and not yet laid over its scan."""

    block: FitBlock
    array: xr.DataArray
    dim: str
    table: ParameterTable
    weights: Any
    provenance: str

    def lay(
        self,
        kernel: Callable[..., Array] | None = None,
        token: str = "",
        more: Sequence[Var] = (),
        *,
        lazy: bool = True,
    ) -> xr.Dataset:
        """Lay the block over the scan, or a kernel around it, known by its token, that packs more columns behind.

        A small scan in memory is fitted faster at once, `lazy` False, than through a graph.
        """
        place = columns(self.block.problem, self.block.covariance)
        array = _split(self.array, self.dim, _BLOCK[self.block.problem.engine]) if lazy else self.array
        packed = _lay(self, array, kernel or self.block, token, place["width"].stop + len(more))
        return results.unpack(packed, self.block, array, self.dim, self.table, self.provenance, more)


def _split(array: xr.DataArray, dim: str, target: int) -> xr.DataArray:
    """Cut the scan into blocks of work: never along `dim`, never merging what the file keeps apart."""
    scan = [d for d in array.dims if d != dim]
    if array.chunks is None:
        array = array.chunk({dim: -1, **{d: 64 if len(scan) > 1 else 4096 for d in scan}})
    sizes = {d: max(c) for d, c in zip(array.dims, array.chunks or (), strict=True) if d != dim}
    count = int(np.prod(list(sizes.values()), initial=1))
    wanted = dict(sizes)
    for d in scan:
        if count <= 2 * target:
            break
        wanted[d] = max(1, sizes[d] * target // count)
        count = count // sizes[d] * wanted[d]
    return array.chunk({d: s for d, s in wanted.items() if s != sizes[d]}) if wanted != sizes else array


def _lay(fit: Prepared, array: xr.DataArray, kernel: Callable[..., Array], around: str, width: int) -> xr.DataArray:
    """Lay a kernel over the scan; `around` is the token of what it does around the block."""
    block, dim, weights = fit.block, fit.dim, fit.weights
    arrays, core = [array], [[dim]]
    if isinstance(weights, xr.DataArray):
        arrays.append(weights)
        core.append([str(weights.dims[-1])])
    token = tokenize(
        block.order,
        block.weights if isinstance(block.weights, str) else "",
        block.covariance,
        block.poor_tail,
        block.margin,
        block.errors,
        versions(),
        around,
        _content(block),
    )
    if block.mean:
        average: Array | str | None = weights if isinstance(weights, str) else None
        if isinstance(weights, xr.DataArray) and weights.dims == (dim,):
            average = np.asarray(weights.values, np.float64)
        step = MeanStart(block.problem, block.plan, average, engine_of(block.problem))
        runs = sample(array.data)
        start = _apply.prologue(step, *runs, shape=(len(fit.table.names),), token="mean-" + tokenize(token, average))
        arrays.append(xr.DataArray(start, dims="param"))
        core.append(["param"])
    for own in fit.table.own.values():
        arrays.append(own.drop_vars([c for c in own.coords if c not in own.dims]))
        core.append([])
    for name in block.scan:
        arrays.append(_apply.count_along(name, array.sizes[name], None))
        core.append([])
    # In the chunks of the data: a block's graph then holds its own part of them, and no other chunks arise.
    chunks = array.chunksizes
    bare = [a.drop_vars(list(a.coords)) for a in arrays]
    if array.chunks is not None:
        bare = [a.chunk({d: chunks[d] for d in a.dims if d in chunks}) for a in bare]
    return _apply.apply_kernel(kernel, *bare, core_dims=core, output={"result": width}, token=token)


def _content(block: FitBlock) -> Any:
    """Return what a problem computes, in a form that hashes the same in every process."""
    p = block.problem
    model = model_token(p.model) if p.model is not None else ""
    table = (p.x, p.names, p.components, p.ops, p.value, p.low, p.high, p.free, p.expressions, p.feeding)
    return (*table, p.poisson, p.max_nfev, p.keep_stages, p.engine, p.method, p.own, model)
