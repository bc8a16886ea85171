"""Graphs of single blocks, cut out of the graph of the whole scan."""

from __future__ import annotations

import gc
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask._task_spec import (
    Alias,
    DataNode,
    GraphNode,
    Task,
    TaskRef,
    _execute_subgraph,
    convert_legacy_graph,
    cull,
)
from dask.array import chunk as chunk_functions
from dask.array.optimization import GETTERS
from dask.utils import ensure_dict

from scanfold import _apply
from scanfold._columns import cut_column
from scanfold._paths import opened
from scanfold.conventions import is_url

Graph = dict[Any, GraphNode]

_OPERATORS = "add sub mul truediv floordiv mod pow neg pos abs invert and_ or_ xor lt le eq ne ge gt".split()
#: Functions that treat each position on its own, so that a kernel before them may skip positions.
_ELEMENTWISE = {getattr(operator, name) for name in _OPERATORS} | {np.where, chunk_functions.astype}


def materialise(ds: xr.Dataset, names: Iterable[str]) -> Graph:
    """Return the graph of some variables as one dictionary, made once per run and culled per block."""
    with _without_collection():
        whole: Any = ensure_dict(ds[list(names)].__dask_graph__(), copy=True)  # type: ignore[no-untyped-call]
        made = all(isinstance(task, GraphNode) for task in whole.values())
        return whole if made else convert_legacy_graph(whole)  # type: ignore[no-any-return]


@contextmanager
def _without_collection() -> Iterator[None]:
    """Keep Python from searching the tasks for garbage while they are made: 40 % of the time, and there is none."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def prologues(graph: Mapping[Any, GraphNode], keys: Iterable[Any]) -> list[str]:
    """Return the prologue keys that some keys need, each after those it depends on itself."""
    ordered: list[str] = []
    if not any(isinstance(key, str) and key.startswith(_apply.PROLOGUE) for key in graph):
        return ordered
    seen: set[Any] = set()
    # Depth first without recursion: a key is listed when it is left, after everything below it.
    stack = [(key, False) for key in keys]
    while stack:
        key, leaving = stack.pop()
        if leaving:
            ordered.append(key)
        elif key not in seen and key in graph:
            seen.add(key)
            if isinstance(key, str) and key.startswith(_apply.PROLOGUE):
                stack.append((key, True))
            stack.extend((d, False) for d in graph[key].dependencies)
    return ordered


def substitute(graph: Graph, key: Any, value: Any) -> None:
    """Put a value in place of a task, so that culling stops there."""
    graph[key] = DataNode(key, value)


def substitute_file(graph: Graph, key: Any, path: Path) -> None:
    """Put a value that is kept in a file in place of a task: every block would carry it otherwise."""
    graph[key] = Task(key, _mapped, str(path))


@lru_cache(maxsize=16)
def _mapped(path: str) -> np.ndarray:
    """Return a kept value; a process opens it once, and all its blocks see the same memory."""
    if is_url(path):
        with opened(path) as stream:
            return np.asarray(np.load(stream, allow_pickle=False))
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def cut(graph: Graph, keys: Sequence[Any]) -> Graph:
    """Return only what some keys need."""
    return dict(cull(graph, set(keys)))


def optimise(graph: Graph, keys: Sequence[Any]) -> Graph:
    """Fuse slices down into the readers, so that a block reads only what it needs."""
    return dict(da.optimize(graph, list(keys)))


def read_bytes(graph: Graph, keys: Sequence[Any]) -> int:
    """Return how many bytes the readers of a graph fetch, after slices are fused into them."""
    optimised = optimise(cut(graph, keys), keys)
    total = 0
    for node in optimised.values():
        inner: dict[Any, GraphNode] = {}
        if isinstance(node, Task) and node.func is _execute_subgraph:
            inner = _value(node.args[0])
        for task in inner.values() or [node]:
            if isinstance(task, Task) and task.func in GETTERS:
                total += _fetched(task, {**optimised, **inner})
    return total


def paths(graph: Graph, keys: Sequence[Any]) -> set[str]:
    """Return the files that the readers of some keys open."""
    found = set()
    for node in cut(graph, keys).values():
        if isinstance(node, Task) and node.func in GETTERS and node.args:
            found.add(str(getattr(_value(node.args[0]), "path", "")))
    return found - {""}


def _fetched(task: Task, graph: Mapping[Any, Any]) -> int:
    array, index = _value(task.args[0]), _value(task.args[1])
    while isinstance(array, (Alias, TaskRef)):
        array = _value(graph.get(array.target if isinstance(array, Alias) else array.key))
    if isinstance(array, np.ndarray) or not hasattr(array, "dtype") or not isinstance(index, tuple):
        return 0  # in memory already, or made by another task
    lengths = [len(range(*s.indices(n))) for s, n in zip(index, array.shape, strict=False) if isinstance(s, slice)]
    return math.prod(lengths) * int(array.dtype.itemsize)


def kernels(graph: Mapping[Any, GraphNode], keys: Iterable[Any], ndim: int) -> set[Any] | None:
    """Find the kernels that make some keys position by position.

    Parameters
    ----------
    graph, keys
        Of one dask chunk of every variable.
    ndim : int
        How many leading axes of the results are scan dimensions.

    Returns
    -------
    set of keys, or None
        The kernels nearest to the results; None if there is none, or if something after one mixes
        positions (or cannot be known not to), so that it must not skip any.
    """
    found: set[Any] = set()
    seen: set[Any] = set()
    stack = list(keys)
    while stack:
        key = stack.pop()
        if key in seen or key not in graph:
            continue
        seen.add(key)
        node = graph[key]
        if _is_kernel(node):
            found.add(key)
        elif _elementwise(node, ndim):
            stack.extend(node.dependencies)
        elif any(_is_kernel(n) for n in cull(dict(graph), {key}).values()):
            return None
    return found or None


def _is_kernel(node: GraphNode) -> bool:
    return isinstance(node, Task) and isinstance(node.func, _apply._Block)


def _elementwise(node: GraphNode, ndim: int) -> bool:
    if isinstance(node, (Alias, DataNode)):
        return True
    if not isinstance(node, Task):
        return False
    if isinstance(node.func, np.ufunc):
        return node.func.signature is None
    if node.func in (chunk_functions.getitem, operator.getitem, cut_column):
        index = _value(node.args[1])
        return isinstance(index, tuple) and all(i == slice(None) for i in index[:ndim])
    if node.func is np.transpose:
        axes = _value(node.kwargs.get("axes", node.args[1] if len(node.args) > 1 else None))
        return axes is not None and list(axes) == sorted(axes)
    try:
        return node.func in _ELEMENTWISE
    except TypeError:  # an unhashable callable
        return False


def _value(argument: Any) -> Any:
    return argument.value if isinstance(argument, DataNode) else argument


def replace_kernels(graph: Graph, keys: Iterable[Any], wrap: Callable[[_apply._Block], Callable[..., Any]]) -> Graph:
    """Return the graph with these kernels wrapped."""
    changed = dict(graph)
    for key in keys:
        task = graph[key]
        changed[key] = Task(key, wrap(task.func), *task.args, **task.kwargs)
    return changed
