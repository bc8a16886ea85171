"""How kernels are compiled: without the GIL, and kept on disk until any kernel changes.

Numba keeps compiled code until the file of the function changes, and does not look at the files of the
functions it calls: an updated package would run old code. The stamp below is of the content of all kernels.
"""

import hashlib
from pathlib import Path

from numba import njit
from numba.core.ccallback import CFunc

_SOURCES = sorted(Path(__file__).parent.glob("*_kernels.py"))
STAMP = hashlib.sha256(b"".join(path.read_bytes() for path in _SOURCES)).hexdigest()


def _stamp(function):
    function._cache._cache_file._source_stamp = STAMP
    return function


def jit(*, cache=True, **options):
    """Compile a kernel when it is first called, for the types it is called with.

    A kernel that takes functions is not to be kept: each would be new to numba in each process.
    """

    def decorate(function):
        compiled = njit(nogil=True, cache=cache, error_model="numpy", **options)(function)
        return _stamp(compiled) if cache else compiled

    return decorate


def callback(signature, function, *, cache):
    """Compile a C callback now, and return it; a closure cannot be kept on disk."""
    compiled = CFunc(function, signature, locals={}, options={"error_model": "numpy"})
    if cache:
        compiled.enable_caching()
        _stamp(compiled)
    compiled.compile()
    return compiled
