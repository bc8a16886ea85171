"""Plans over an index of positions: in memory while they are small, else all groups, block by block."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from scanfold._apply import apply_kernel, count_along
from scanfold.conventions import InputError, Var, record
from scanfold.grouping._random_kernels import key, unpermuted
from scanfold.grouping.groups import VARIABLES, choose, dataset, make
from scanfold.grouping.index import PositionIndex
from scanfold.grouping.options import Options, check_partitions
from scanfold.grouping.positions import MOST as POSITIONS
from scanfold.grouping.positions import index_dtype
from scanfold.grouping.seeds import CANDIDATES, SEEDS

Array = npt.NDArray[Any]

#: Groups that are made at once and held; more are made block by block, all of them.
MOST = 2**22
#: Groups in a block.
BLOCK = 2**17

#: Groups whose seeds keep apart, which looks at CANDIDATES positions for each.
DISCS = POSITIONS // CANDIDATES

NUMBER = Var("number", ("group",), "int32", "number of the group in the order of sampling; int64 like the others")


def plan_index(index: PositionIndex, options: Options) -> xr.Dataset:
    """Plan groups over an index.

    Raises
    ------
    InputError
        If its partitions are too small, or there are too many groups to hold but not all.
    """
    check_partitions(index.sizes, options)
    if options.sampling == "poisson_disk" and options.nsamples > DISCS:
        raise InputError(
            f"sampling='poisson_disk' over an index makes up to {DISCS:,} groups; found nsamples={options.nsamples:,}"
        )
    provenance = record("plan_groups", {}, asdict(options), index=index.identity)
    if options.nsamples <= MOST:
        return dataset(make(index, options), len(index), index.units, provenance)
    if options.nsamples != len(index):
        raise InputError(
            f"nsamples={options.nsamples:,} of {len(index):,} positions; an index makes up to {MOST:,} groups at "
            f"once, or one for each position block by block: nsamples={len(index)}, of which those with "
            f"number < {options.nsamples} are the ones asked for"
        )
    if options.sampling not in ("random", "sequential"):
        raise InputError(f"every position is a seed, whatever sampling={options.sampling!r} says; pass 'random'")
    limits = [n for n in ("disjoint", "max_radius") if getattr(options, n)]
    limits += ["policy='4_quadrant'"] if options.policy == "4_quadrant" else []
    if limits:
        raise InputError(f"{' and '.join(limits)} may pass over seeds, and a group for each of them is asked for")
    return _streamed(index, options, provenance)


@dataclass(frozen=True)
class _Block:
    """Makes the groups of consecutive rows of the index."""

    index: PositionIndex
    options: Options

    def __call__(self, rows: Array) -> Array:
        size = self.options.group_size
        out = np.empty((rows.size, 2 * size + 2))
        at = 0
        for points, seeds, label in self.index.tiles_of(int(rows[0]), int(rows[-1]) + 1):
            some = slice(at, at + seeds.size)
            at = some.stop
            numbers = seeds
            if self.options.sampling == "random":
                numbers = unpermuted(seeds, len(self.index), key(self.options.seed, SEEDS, 0))
            if self.options.drawn:
                near, apart = self.index.near(points, seeds, label, self.options.K)
                members, distances, _ = choose(self.index, near, apart, seeds, numbers, self.options)
            else:
                members, distances = seeds, np.zeros(seeds.size)
            out[some] = np.column_stack([members, distances, seeds, numbers])
        return out


def _streamed(index: PositionIndex, options: Options, provenance: str) -> xr.Dataset:
    size, dtype = options.group_size, index_dtype(len(index))
    token = f"plan-{json.dumps(asdict(options))}-{json.dumps(index.identity, sort_keys=True)}"
    rows = count_along("group", len(index), BLOCK)
    packed = apply_kernel(_Block(index, options), rows, core_dims=[[]], output={"column": 2 * size + 2}, token=token)
    parts = {
        "nn_indices": packed[:, :size].rename(column="channel"),
        "seed_index": packed[:, 2 * size],
        "distance": packed[:, size : 2 * size].rename(column="channel"),
        "number": packed[:, 2 * size + 1],
    }
    plan = xr.Dataset()
    for spec in (*VARIABLES, NUMBER):
        if spec.name in parts:
            made = parts[spec.name].astype(spec.dtype if spec.name == "distance" else dtype)
            made.attrs = spec.attrs()
            plan[spec.name] = made
    if index.units:
        plan["distance"].attrs["units"] = index.units
    plan.attrs = {"primary": "nn_indices", "n_positions": len(index), "provenance": provenance}
    return plan
