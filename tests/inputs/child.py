"""A process of its own in which inputs are tried: limited, watched, and left when one of them does not come back.

Run as ``python child.py FOLDER``; it takes lines ``TABLE NAME CASE``, where the case is a pickle in Base64, and answers
each with a line of JSON.
"""

from __future__ import annotations

import base64
import importlib
import json
import os
import pickle
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

#: Bytes of addresses that this process may have beyond those that it starts with.
ADDRESSES = 3 * 2**30
#: What an input must not make a process do.
WATCHED = {"pickle.find_class", "os.system", "subprocess.Popen", "os.exec", "os.fork", "socket.connect", "os.remove"}
#: Whose classes dask itself pickles, to name the arrays of a graph, and runs, to send what lmfit fits; and numba, whose
#: cache of compiled code is read when a kernel is first used.
OWN = {"dask", "numpy", "xarray", "scanfold", "_operator", "functools", "pandas", "inputs", "rsciio", "lmfit",
       "cloudpickle", "numba", "copyreg"}  # fmt: skip
TOKENS = {
    ("builtins", name) for name in ("len", "NotImplemented", "Ellipsis", "object", "slice", "range", "complex", "set")
}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
seen: list[str] = []
watching = False


def _watch(event: str, details: tuple[Any, ...]) -> None:
    if not watching:
        return
    if event in WATCHED and not (event == "pickle.find_class" and str(details[0]).split(".")[0] in OWN):
        if details not in TOKENS:
            seen.append(f"{event} {details!r}"[:200])
    elif event == "open" and isinstance(details[2], int) and details[2] & WRITING and not _cache(str(details[0])):
        seen.append(f"wrote {details[0]!r}"[:200])


def _cache(path: str) -> bool:
    """Tell whether a file is of the caches of compiled code."""
    return path == os.devnull or "__pycache__" in path or "/numba" in path or "scanfold-jit" in path


def _snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for path in folder.rglob("*"):
        stat = path.lstat()
        found[str(path)] = (0 if path.is_dir() else stat.st_size, stat.st_mtime_ns)
    return found


def _peak() -> float:
    """Return the most memory that this process has held since its mark was reset, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def judge(folder: Path, trial: Any, case: Any) -> dict[str, Any]:
    """Make one input, try it, and say what became of it."""
    global watching
    prepared = trial.prepare(folder, case)
    before = _snapshot(folder)
    # ru_maxrss would not do: it begins with what the parent held when it forked
    Path("/proc/self/clear_refs").write_text("5")
    peak, start = _peak(), time.monotonic()
    seen.clear()
    watching = True
    try:
        outcome, detail = _outcome(trial, prepared)
    finally:
        watching = False
    seconds = time.monotonic() - start
    grown = _peak() - peak
    after = _snapshot(folder)
    writes = outcome in getattr(trial, "writes", ())
    if after != before and not writes:
        outcome, detail = "touched", str(sorted(set(after.items()) ^ set(before.items())))[:300]
    elif seen and not writes:
        outcome, detail = "ran", "; ".join(seen)[:300]
    elif grown > trial.most:
        outcome, detail = "memory", f"{grown:.0f} MiB; {detail}"
    return {"outcome": outcome, "detail": detail[:400], "seconds": seconds, "grown": grown}


def _outcome(trial: Any, prepared: Any) -> tuple[str, str]:
    from scanfold.conventions import ScanError

    try:
        outcome: tuple[str, str] = trial.attempt(prepared)
        return outcome
    except ScanError as error:
        message = str(error)
        named = trial.names is None or any(n in message for n in trial.names)
        return ("refused" if named else "unnamed"), message
    except SystemExit as error:
        return ("refused" if error.code == 2 else "right"), str(error)
    except BaseException as error:
        import traceback

        last = traceback.extract_tb(error.__traceback__)[-1]
        ours = [f for f in traceback.extract_tb(error.__traceback__) if "/scanfold/" in f.filename]
        where = f"{ours[-1].filename.rsplit('/scanfold/')[-1]}:{ours[-1].lineno}" if ours else "?"
        return "library", f"{type(error).__name__}: {str(error)[:200]} ({where}; {last.filename}:{last.lineno})"


def main() -> None:
    """Answer until there are no more questions."""
    folder = Path(sys.argv[1])
    os.chdir(folder)
    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(1), "w")
    errors = os.dup(2)
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.dup2(devnull, 2)
    import dask

    tempfile.gettempdir()  # it writes, to see where it may
    dask.config.set(scheduler="synchronous")
    sys.addaudithook(_watch)
    most = resource.getrlimit(resource.RLIMIT_AS)[1]
    limited: set[tuple[str, str]] = set()
    for line in sys.stdin:
        table, name, case = line.split("\t")
        trial = importlib.import_module(table).TRIALS[name]
        if (table, name) not in limited:
            limited.add((table, name))
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
            try:
                trial.begin(folder)  # what a first use loads and compiles is not the input's doing
            except BaseException:
                os.dup2(errors, 2)
                raise
            with open("/proc/self/statm") as file:
                pages = int(file.read().split()[0])
            resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ADDRESSES, most))
            answers.write("begun\n")
            answers.flush()
        answers.write(json.dumps(judge(folder, trial, pickle.loads(base64.b64decode(case)))) + "\n")
        answers.flush()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main()
