"""How kernels are compiled: without the GIL, and kept on disk until a kernel that they may call changes.

Numba keeps compiled code until the file of the function changes, and does not look at the files of the
functions it calls: an updated package would run old code. The stamp below is of the content of the kernels
of a function's own folder and of `fitting`, which are all that it may call.
"""

import functools
import hashlib
from pathlib import Path

from numba import njit
from numba.core.ccallback import CFunc

_HERE = Path(__file__)


@functools.cache
def stamp(folder):
    """Return a hash of the content of the kernels that those of a folder may call."""
    sources = sorted({_HERE, *folder.glob("*_kernels.py"), *(_HERE.parent / "fitting").glob("*_kernels.py")})
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


def _keep(compiled, function):
    """Keep compiled code until the stamp of its folder changes."""
    compiled._cache._cache_file._source_stamp = stamp(Path(function.__code__.co_filename).parent)
    return compiled


def jit(*, cache=True, **options):
    """Compile a kernel when it is first called, for the types it is called with.

    A kernel that takes functions is not to be kept: each would be new to numba in each process.
    """

    def decorate(function):
        compiled = njit(nogil=True, cache=cache, error_model="numpy", **options)(function)
        return _keep(compiled, function) if cache else compiled

    return decorate


def callback(signature, function, *, cache):
    """Compile a C callback now, and return it; a closure cannot be kept on disk."""
    compiled = CFunc(function, signature, locals={}, options={"error_model": "numpy"})
    if cache:
        compiled.enable_caching()
        _keep(compiled, function)
    compiled.compile()
    return compiled
