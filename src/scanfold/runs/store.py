"""One run: check what is there, plan, prologue, blocks, and the mark of a finished store."""

from __future__ import annotations

import os
import sys
import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from scanfold import conventions
from scanfold._paths import zarr_options
from scanfold.conventions import InputError, InputTypeError, RunError
from scanfold.runs import graph as graphs
from scanfold.runs import ledger as ledgers
from scanfold.runs import plan
from scanfold.runs.layout import create
from scanfold.runs.ledger import Ledger, writing
from scanfold.runs.opening import open_zarr
from scanfold.runs.progress import Progress
from scanfold.runs.scheduler import Run
from scanfold.runs.trial import try_rows
from scanfold.runs.worker import writing_chunks
from scanfold.runs.workers import Workers, find_workers

#: Seconds from which a run says beforehand how long it will take.
LONG = 10.0
#: Bytes of a prologue's value that every block carries; a larger one is read by each worker from the store.
CARRIED = 2**18
#: Bytes of a lazy coordinate along one dimension that is loaded before the run; larger ones are written in blocks.
LOADED = 2**27


#: What rooms have to say of a finished store: operation of the provenance → function of the opened Dataset.
on_finish: dict[str, Callable[[xr.Dataset], None]] = {}


def save(
    ds: xr.Dataset | xr.DataArray, store: str | os.PathLike[str], *, resume: bool = True, progress: bool = True
) -> xr.Dataset:
    """Compute a lazy Dataset block by block into a zarr store, out of core.

    Run again on the same store with the same work, it computes only what is
    missing, with bit-identical results. Workers are those of the current
    ``distributed.Client``; without one, threads, or a local cluster for
    kernels that hold the GIL.

    Parameters
    ----------
    ds : Dataset or DataArray
        Fits, a scan, or anything lazy; what is in memory is written as it is.
    store : path or URL
        A folder, or a URL such as ``s3://bucket/fits.zarr`` (extra ``remote``); new, empty, or written by `save`
        before. A folder has one writer, by a lock. A URL has one by a lease: making it is atomic where the object
        store has conditional writes; taking over that of a run which was silent for a minute is not, and of two that
        do so at once one learns of it a second later. Nothing is lost by that: objects are replaced whole, and a
        block has one value.
    resume : bool
        False starts over, replacing what an earlier run left in `store`.
    progress : bool
        Show a bar on a terminal, a line every 10 s elsewhere.

    Returns
    -------
    Dataset
        The store, opened lazily in its own chunks.

    Raises
    ------
    InputError
        Before any computing: the store is not ours or holds other work, a block does not fit in
        memory, a lazy variable is not of numbers.
    RunError
        Blocks that failed, listed, after all others are finished; or no worker left, no room on the disk.

    Examples
    --------
    >>> import tempfile
    >>> scan = xr.DataArray(np.arange(6.0).reshape(2, 3), dims=("y", "x"), name="counts").chunk(y=1)
    >>> path = tempfile.mkdtemp() + "/doubled.zarr"
    >>> saved = save(2 * scan, path, progress=False)
    >>> float(saved["counts"].sum())
    30.0
    """
    saved = compute_to(_as_dataset(ds), ledgers.store_path(store), resume=resume, progress=progress)
    finish = on_finish.get(conventions.provenance(saved).get("operation", ""))
    if finish is not None:
        finish(saved)
    return saved


def open_store(store: str | os.PathLike[str]) -> xr.Dataset:
    """Open a store that `save` wrote, lazily, in its own chunks.

    Parameters
    ----------
    store : path or URL
        The store.

    Returns
    -------
    Dataset
        With the provenance of the run in its attributes.

    Raises
    ------
    InputError
        If it is not a store of ours, or is damaged; a damaged chunk raises it when it is computed.

    Warns
    -----
    UserWarning
        If the run that wrote it has not finished: missing positions read as NaN.
    """
    path = ledgers.store_path(store)
    found = ledgers.state(path)
    if found == "new":
        raise conventions.InputError(f"no store at {path}; pass the path that was given to save")
    if found == "begun":
        warnings.warn(
            f"{path} is not finished: missing positions read as NaN. Run the same lines again to finish it",
            stacklevel=2,
        )
    return open_zarr(path)


def compute_to(
    ds: xr.Dataset,
    path: Path,
    *,
    resume: bool = True,
    progress: bool = True,
    groups: Sequence[plan.Group] | None = None,
    compress: bool = True,
    label: str = "save",
) -> xr.Dataset:
    """Do what `save` does, with blocks that are given or planned."""
    plan.require_storable(ds)
    ds = _with_small_coordinates(ds)
    work = ledgers.identity(ds)
    ledger = Ledger(path)
    if is_finished(ledger, work, resume):
        return open_store(path)
    made = not conventions.is_url(path) and not path.exists()
    with ledger.locked():
        if is_finished(ledger, work, resume):  # another run ended between the look and the lock
            return open_store(path)
        try:
            _compute(ds, ledger, work, resume, progress, groups, compress, label)
        except InputError:
            if made:
                ledger.withdraw()
            raise
    return open_store(path)


def is_finished(ledger: Ledger, work: Mapping[str, Any], resume: bool) -> bool:
    """Check what is in the store, and tell whether there is nothing left to do."""
    found = ledgers.state(ledger.store)
    kept = ledger.read() if found != "new" and resume else {}
    if kept:
        ledgers.require_same(ledger.store, kept["identity"], work)
    return found == "complete" and bool(kept)


def _compute(
    ds: xr.Dataset,
    ledger: Ledger,
    work: Mapping[str, Any],
    resume: bool,
    show: bool,
    groups: Sequence[plan.Group] | None,
    compress: bool,
    label: str,
) -> None:
    kept = ledger.read() if resume else {}
    if not kept.get("ready"):
        ledger.clear()
        kept = {}
    ledger.prepare()
    scan = plan.Scan(ds, plan.cells(ds), str(ledger.store), kept.get("run") or uuid.uuid4().hex)
    total = scan.positions
    releases_gil = bool(conventions.provenance(ds).get("releases_gil", True))
    with find_workers(total, releases_gil) as workers:
        try:
            workers.require({str(ledger.store), *_sources(scan)})
            _prologue(scan, ledger, workers)
            if kept:
                scan.groups = plan.from_json(kept["plan"])
            else:
                scan.groups = list(groups) if groups is not None else _fit(scan, workers, label if show else None)
            plan.require_whole_chunks(scan.groups, ds.sizes)
            if not kept:
                with writing(ledger.folder):
                    create(ds, scan.groups, ledger.store, compress=compress)
                content = {"run": scan.run, "identity": work, "plan": plan.to_json(scan.groups), "ready": True}
                ledger.write(content)
            _blocks(scan, ledger, workers, total, show, label)
            _whole(scan, ledger, workers)
        except KeyboardInterrupt:
            workers.stop()
            finished = len(ledger.finished())
            kept_text = f"\nstopped; {finished} blocks are finished and kept. Run the same lines again to go on"
            print(kept_text, file=sys.stderr)
            raise
        except BaseException:
            workers.stop()
            raise
    ledger.complete()


def _prologue(scan: plan.Scan, ledger: Ledger, workers: Workers) -> None:
    """Put the values of whole-scan steps into the graph: kept ones, or computed now, once."""
    outputs = [key for name, v in scan.ds.variables.items() if v.chunks is not None for key in scan.keys(str(name))]
    for key in graphs.prologues(scan.graph, outputs):
        value = ledger.value(key)
        if value is None:
            (value,) = workers.compute(graphs.cut(scan.graph, [key]), [key])
            ledger.keep(key, np.asarray(value))
        if np.asarray(value).nbytes > CARRIED:
            graphs.substitute_file(scan.graph, key, ledger.value_path(key))
        else:
            graphs.substitute(scan.graph, key, value)


def _sources(scan: plan.Scan) -> set[str]:
    """Return the files that a block in the middle of each group reads."""
    return {path for n in range(len(scan.groups)) for path in graphs.paths(scan.graph, scan.middle(n).keys)}


def _fit(scan: plan.Scan, workers: Workers, label: str | None) -> list[plan.Group]:
    """Try a few positions of each group, choose its blocks, and say what a long run will take."""
    plan.fit_blocks(scan, {}, workers.threads, workers.memory)  # refuses what cannot fit, before anything is read
    costs = {}
    for number in range(len(scan.groups)):
        block = scan.middle(number)
        workers.submit(number, try_rows, block, plan.TRIAL, 1 if workers.mortal else None)
        while (event := workers.next(timeout=1.0)) is None:
            workers.check()
        try:
            cost = event[1]()
        except Exception:
            continue  # it will fail again as a block, and be recorded there
        if cost:
            costs[number] = {**cost, "independent": len(block.pieces) == 1}
        elif label is not None:
            text = f"{label}: a trial of {plan.TRIAL} positions killed its worker; if all die, give them more memory"
            print(text, file=sys.stderr, flush=True)
    fitted = plan.fit_blocks(scan, costs, workers.threads, workers.memory)
    for number, cost in costs.items():
        seconds, text = plan.predict(scan, number, fitted[number], cost, workers.threads)
        if label is not None and seconds > LONG:
            print(f"{label}: {text}", file=sys.stderr, flush=True)
    return fitted


def _blocks(scan: plan.Scan, ledger: Ledger, workers: Workers, total: int, show: bool, label: str) -> None:
    finished = ledger.finished()
    with Progress(show, total, scan.flags, label) as progress:
        for entry in finished.values():
            progress.resume(entry)
        run = Run(scan, ledger, workers, progress)
        run.blocks((name, positions) for name, positions in scan.names() if name not in finished)
    progress.say(progress.summary())
    if run.failures:
        lines = [f"  block {name}: {reason}" for name, reason in list(run.failures.items())[:20]]
        raise RunError(
            f"{len(run.failures)} blocks failed, all others are finished and kept:\n"
            + "\n".join(lines)
            + f"\nTracebacks are in {ledger.failed}; run the same lines again to try these blocks again"
        )


def _whole(scan: plan.Scan, ledger: Ledger, workers: Workers) -> None:
    """Compute the lazy variables that have no scan dimension: they fold the scan, in parallel."""
    import zarr

    for name in plan.block_dims(scan.ds).get((), []):
        if ledger.entry(f"whole.{name}") is None:
            keys = scan.keys(name)
            (value,) = workers.compute(graphs.cut(scan.graph, keys), keys)
            with writing_chunks(ledger, [name]):
                zarr.open_array(f"{ledger.store}/{name}", mode="r+", **zarr_options(ledger.store))[...] = value
            ledger.finish(f"whole.{name}", {"positions": 0})


def _with_small_coordinates(ds: xr.Dataset) -> xr.Dataset:
    """Load lazy coordinates along one dimension, and words: ``.chunk()`` makes coordinates lazy too."""
    lazy = {n: c for n, c in ds.coords.items() if c.chunks is not None}
    small = {n: c for n, c in lazy.items() if (c.ndim < 2 and c.nbytes <= LOADED) or c.dtype.kind not in "biufc"}
    return ds.assign_coords({n: c.compute() for n, c in small.items()}) if small else ds


def _as_dataset(ds: xr.Dataset | xr.DataArray) -> xr.Dataset:
    if isinstance(ds, xr.DataArray):
        named = ds.to_dataset(name=ds.name or "data")
        if "provenance" in ds.attrs:
            named.attrs["provenance"] = ds.attrs["provenance"]
        return named
    if isinstance(ds, xr.Dataset):
        return ds
    raise InputTypeError(f"expected an xarray Dataset or DataArray, found {type(ds).__name__}")
