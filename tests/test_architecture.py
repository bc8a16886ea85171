"""The import rules of the design, read from the source: imports point down, and only one bridge leads to Dask."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import scanfold

SOURCE = Path(scanfold.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))

ROOMS = {"fitting", "bragg", "traces", "grouping", "ptycho", "detectors"}
FOUNDATION = {"conventions", "_jit_kernels", "_markup", "_paths"}
BRIDGE = FOUNDATION | {"_apply", "_folds", "_columns"}
RUNS = BRIDGE | {"runs"}
SERVICES = RUNS | {"plot", "io", "export"}
TOP = SERVICES | ROOMS | {"report", "testing", "viewer"}

#: What each part of the package may import; every part may import itself.
MAY_IMPORT: dict[str, set[str]] = {
    "": set(),  # scanfold/__init__.py, whose names load lazily
    "conventions": set(),
    "_jit_kernels": set(),
    "_markup": set(),
    "_paths": {"conventions"},
    "_apply": FOUNDATION,
    "_folds": FOUNDATION | {"_apply"},
    "_columns": FOUNDATION | {"_apply"},
    "runs": BRIDGE,
    "io": RUNS,
    "export": RUNS,
    "plot": RUNS | {"fitting"},  # plot.fit draws what fitting.result_at rebuilds
    "testing": BRIDGE | {"ptycho"},  # synthetic_raw_data is a RawData
    **{room: SERVICES for room in ROOMS},
    "bragg": SERVICES | {"fitting"},
    "traces": SERVICES | {"fitting"},
    "ptycho": SERVICES | {"grouping"},
    "report": SERVICES | ROOMS,
    "viewer": SERVICES | ROOMS,
    "accessor": TOP,
    "cli": TOP,
    "__main__": {"cli"},
}

#: Parts that talk to Dask: the bridge, the runs, the readers that make lazy arrays, the tests' proofs of laziness.
#: `conventions` and `fitting` name arrays (`dask.base.tokenize`) and make no graph but through the bridge, except for
#: the sample of positions that the prologue of a fit reads.
DASK = {"_apply", "_folds", "_columns", "runs", "io", "testing"}
DASK_NAMES_ONLY = {"conventions", "fitting", "bragg"}
SAMPLES = {"scanfold.fitting.start": {"dask.array"}}

#: How kernels are compiled minds Ctrl-C, which is a matter of the main thread; no kernel itself does.
COMPILING = {"scanfold._jit_kernels": {"signal", "threading"}}

#: Numbers, and the standard library's types; llvmlite is numba's own lower half.
KERNELS_MAY_IMPORT = {
    "numpy",
    "scipy",
    "functools",
    "numba",
    "llvmlite",
    "math",
    "cmath",
    "collections",
    "typing",
    "__future__",
    "hashlib",
    "pathlib",
}
#: Loaded inside functions only, or by modules that `import scanfold` does not load.
HEAVY = {"dask", "distributed", "lmfit", "matplotlib", "numba", "pandas", "scipy", "h5py", "zarr", "xarray"}


def module_name(path: Path) -> str:
    """Return the dotted name of a source file."""
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module: str) -> str:
    """Return the part of the package that a module belongs to: ``scanfold.io.hdf5`` is of ``io``."""
    return module.partition(".")[2].partition(".")[0]


def imports(path: Path, tree: ast.AST | None = None) -> Iterator[tuple[str, int]]:
    """Yield every module that a file imports, those inside functions too, with the line."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(tree or ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[: len(package) - node.level + 1], node.module or ""]).rstrip(".")
            origin = base if node.level else str(node.module)
            for alias in node.names:
                yield _target(origin, alias.name), node.lineno
        elif isinstance(node, ast.Call) and _callee(node) in ("import_module", "__import__") and node.args:
            if isinstance(node.args[0], ast.Constant):
                yield str(node.args[0].value), node.lineno


def _target(origin: str, name: str) -> str:
    """Return what ``from origin import name`` loads: a module of ours where there is one of that name."""
    if origin == "scanfold" and name in scanfold._PUBLIC:
        return scanfold._PUBLIC[name]
    inside = SOURCE.parent.joinpath(*origin.split("."))
    if origin.split(".")[0] == "scanfold" and ((inside / f"{name}.py").exists() or (inside / name).is_dir()):
        return f"{origin}.{name}"
    return origin


def _callee(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def is_kernel(module: str) -> bool:
    return module.rpartition(".")[2].endswith("_kernels")


def test_the_reader_of_imports_sees_all_kinds(tmp_path: Path):
    text = (
        "import numpy.linalg\n"
        "from scanfold import fit, conventions\n"
        "from scanfold.io import hdf5\n"
        "def f():\n    from dask import array\n    import_module('scanfold.plot')\n"
    )
    found = [name for name, _ in imports(SOURCE / "runs" / "plan.py", ast.parse(text))]
    assert found == [
        "numpy.linalg",
        "scanfold.fitting",
        "scanfold.conventions",
        "scanfold.io.hdf5",
        "dask",
        "scanfold.plot",
    ]
    relative = [
        n for n, _ in imports(SOURCE / "io" / "hdf5.py", ast.parse("from . import chunks\nfrom ..runs import a"))
    ]
    assert relative == ["scanfold.io.chunks", "scanfold.runs"]


def test_every_part_has_a_rule():
    parts = {part_of(module_name(path)) for path in FILES}
    assert parts <= set(MAY_IMPORT), f"no rule for {parts - set(MAY_IMPORT)}"


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_point_down(path: Path):
    part = part_of(module_name(path))
    allowed = MAY_IMPORT[part] | {part}
    wrong = [
        f"line {line}: {name}"
        for name, line in imports(path)
        if name.split(".")[0] == "scanfold" and name != "scanfold" and part_of(name) not in allowed
    ]
    assert not wrong, f"{part or 'scanfold'} may import {sorted(allowed)}, found {wrong}"
    if part not in ("accessor", "cli", "report"):
        roots = [line for name, line in imports(path) if name == "scanfold"]
        assert not roots, f"lines {roots} import the package itself; import the module that holds the name"


@pytest.mark.parametrize("path", [p for p in FILES if is_kernel(module_name(p))], ids=module_name)
def test_kernels_import_numbers_only(path: Path):
    allowed = KERNELS_MAY_IMPORT | COMPILING.get(module_name(path), set())
    wrong = [
        f"line {line}: {name}"
        for name, line in imports(path)
        if name.split(".")[0] not in allowed and not is_kernel(name)
    ]
    assert not wrong, f"a kernel may import {sorted(allowed)} and other kernels, found {wrong}"


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_only_the_bridge_and_the_runs_talk_to_dask(path: Path):
    part = part_of(module_name(path))
    used = [(name, line) for name, line in imports(path) if name.split(".")[0] in ("dask", "distributed")]
    if part in DASK:
        used = [(name, line) for name, line in used if name.split(".")[0] == "distributed" and part != "runs"]
    elif part in DASK_NAMES_ONLY:
        allowed = {"dask.base", *SAMPLES.get(module_name(path), ())}
        used = [(name, line) for name, line in used if name not in allowed]
    assert not used, f"{module_name(path)} imports {used}; graphs are made by scanfold._apply, and run by scanfold.runs"


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_matplotlib_and_distributed_load_late(path: Path):
    tree = ast.parse(path.read_text())
    top = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
    late = [name for name, _ in imports(path, top) if name.split(".")[0] in ("matplotlib", "distributed")]
    assert not late, f"{late} at module level; import inside the function that needs it"


def test_import_of_the_package_loads_nothing_heavy():
    code = f"import sys, scanfold; print(sorted(set(sys.modules) & {HEAVY!r}))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_public_names():
    assert len(scanfold._PUBLIC) <= 25
    assert (SOURCE / "py.typed").exists()
    missing = [m for m in set(scanfold._PUBLIC.values()) if not _exists(m)]
    assert not missing, f"public names point to {missing}, which are not there"


def _exists(module: str) -> bool:
    path = SOURCE.parent.joinpath(*module.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()
