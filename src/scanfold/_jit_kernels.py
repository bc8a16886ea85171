"""How kernels are compiled: without the GIL, and kept on disk until a kernel that they may call changes.

Numba keeps compiled code until the file of the function changes, and does not look at the files of the
functions it calls: an updated package would run old code. The stamp below is of the content of the kernels
of a function's own folder and of `fitting`, which are all that it may call.
"""

import functools
import hashlib
import signal
import threading
from pathlib import Path

from numba import njit
from numba.core.ccallback import CFunc
from numba.core.codegen import JitEngine

_HERE = Path(__file__)


def _with_interrupts_after(finalize):
    """Hold Ctrl-C back while LLVM writes or takes a compiled object, and let it through when that is done.

    LLVM gives the object to numba, and asks it for a kept one, in callbacks of ctypes, which drops what is raised
    there. The interrupt would be lost, and the object with it: "no compiled object yet", or a crash at the first call.
    Signals are handled in the main thread only, and not while it is in LLVM: nobody waits longer.
    """

    @functools.wraps(finalize)
    def finalize_object(engine):
        before = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread() or before is None:
            return finalize(engine)
        held = []
        signal.signal(signal.SIGINT, lambda *_: held.append(True))
        try:
            return finalize(engine)
        finally:
            signal.signal(signal.SIGINT, before)
            if held:
                signal.raise_signal(signal.SIGINT)

    return finalize_object


JitEngine.finalize_object = _with_interrupts_after(JitEngine.finalize_object)


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
