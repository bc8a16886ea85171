"""Ctrl-C while a kernel is compiled or taken from the disk stops the call, loses nothing and breaks nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

KERNELS = """
from scanfold._jit_kernels import callback, jit
from numba import types

@jit()
def twice(x):
    return 2.0 * x

@jit()
def twice_and_one(x):
    return twice(x) + 1.0

def leaf(x):
    return twice(x) + 3.0

def call():
    compiled = callback(((types.float64,), types.float64), leaf, cache=True)
    return twice_and_one(3.0), compiled.ctypes(3.0), twice(3.0)
"""

#: Interrupts as LLVM gives numba the object of one function, or asks numba for the kept one.
CALLER = """
import signal, sys
from numba.core.registry import cpu_target
import some_kernels

hook, name = sys.argv[1:]
engine = cpu_target.target_context.codegen()._engine._ee
usual, interrupted = getattr(engine, hook), []

def interrupting(module, *rest):
    if module.name == name and not interrupted:
        interrupted.append(name)
        signal.raise_signal(signal.SIGINT)
    return usual(module, *rest)

setattr(engine, hook, interrupting)
try:
    print(*some_kernels.call())
except KeyboardInterrupt:
    print("interrupted")
print(*some_kernels.call(), len(interrupted))
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
"""


def _call(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder / "kept"), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "caller.py", *args]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("name", ["twice", "twice_and_one", "leaf"])
def test_ctrl_c_as_an_object_is_handed_over(tmp_path: Path, name: str):
    (tmp_path / "some_kernels.py").write_text(KERNELS)
    (tmp_path / "caller.py").write_text(CALLER)
    # Nothing is kept at first; everything is the second time.
    for hook in ("_object_cache_notify", "_object_cache_getbuffer"):
        done = _call(tmp_path, hook, name)
        assert (done.returncode, done.stdout) == (0, "interrupted\n7.0 9.0 6.0 1\n"), done.stderr
        assert not done.stderr
    again = _call(tmp_path, "_object_cache_getbuffer", "none")
    assert (again.returncode, again.stdout) == (0, "7.0 9.0 6.0\n7.0 9.0 6.0 0\n"), again.stderr
