"""One writer at a time: a lock of the system beside a folder, a lease beside a store at a URL."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scanfold.conventions import InputError, RunError, is_url

#: Seconds between two signs of life of a writer to a URL, and of silence after which it is taken for dead.
BEAT, SILENCE = 15.0, 60.0
#: Seconds after which one that took over a lease looks whether it still has it.
SETTLED = 1.0


@contextmanager
def only_writer(store: Path, lock: Path) -> Iterator[None]:
    """Hold a store; a second writer is refused at once.

    Raises
    ------
    RunError
        If another run is writing to the store.
    InputError
        If the store cannot be written to.
    """
    hold = _lease if is_url(store) else _file_lock
    with hold(store, lock):
        yield


@contextmanager
def _file_lock(store: Path, lock: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(lock)
        held.acquire(timeout=0)
    except Timeout:
        raise RunError(f"another run is writing to {store}; wait for it, or save to another store") from None
    except OSError as error:
        raise InputError(
            f"cannot write to {store}: {error.strerror}; pass a path in a folder that you may write to"
        ) from error
    try:
        yield
    finally:
        held.release()


@contextmanager
def _lease(store: Path, lock: Path) -> Iterator[None]:
    lease = _Lease(store, lock)
    try:
        lease.acquire()
    except RunError:
        raise
    except Exception as error:  # of the library that speaks to the server
        raise InputError(f"cannot write to {store}: {type(error).__name__}: {error}") from error
    try:
        yield
        if lease.lost:
            raise RunError(f"another run took {store} over while this one did not answer; run the same lines again")
    finally:
        lease.release()


class _Lease:
    """An object that its owner writes again now and then; one that has grown old may be taken over.

    Making the object is atomic where the store has conditional writes (S3, Google, Azure). Taking an old one over is
    not: of two that do so at the same moment the later one has it, and the other learns of it a second later, or at
    the next sign of life. What both may have written by then is equal: a block has one value, and an object is
    replaced whole.
    """

    def __init__(self, store: Path, lock: Path):
        self.store, self.lock, self.lost = store, lock, False
        self._system: Any = lock.fs  # type: ignore[attr-defined]
        self._key: str = lock.path  # type: ignore[attr-defined]
        self._token = json.dumps({"run": uuid.uuid4().hex, "host": socket.gethostname(), "pid": os.getpid()}).encode()
        self._ended = threading.Event()
        self._beating = threading.Thread(target=self._beat, daemon=True)

    def acquire(self) -> None:
        """Take the lease, or raise `RunError`."""
        try:
            self._system.pipe_file(self._key, self._token, mode="create")
        except FileExistsError:
            self._take_over()
        self._beating.start()

    def _take_over(self) -> None:
        age = self._age()
        if age < SILENCE and not self._is_ours_and_dead():
            raise RunError(
                f"another run is writing to {self.store}, its last sign of life was {age:.0f} s ago; wait for it, or "
                f"save to another store. If it was killed, run the same lines again {SILENCE:.0f} s after that"
            )
        self._system.pipe_file(self._key, self._token)
        time.sleep(SETTLED)
        if self._system.cat_file(self._key) != self._token:
            raise RunError(f"another run is writing to {self.store}; wait for it, or save to another store")

    def _age(self) -> float:
        """Return the seconds since the last sign of life, by the clock of the store."""
        probe = f"{self._key}.{uuid.uuid4().hex}"
        self._system.pipe_file(probe, b"")
        try:
            return float((self._system.modified(probe) - self._system.modified(self._key)).total_seconds())
        finally:
            self._system.rm_file(probe)

    def _is_ours_and_dead(self) -> bool:
        """Tell whether the owner was a process of this machine, and has ended."""
        import psutil

        try:
            owner = json.loads(self._system.cat_file(self._key))
            return owner["host"] == socket.gethostname() and not psutil.pid_exists(owner["pid"])
        except (ValueError, KeyError, TypeError, FileNotFoundError):
            return False

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            try:
                if self._system.cat_file(self._key) != self._token:
                    self.lost = True
                    return
                self._system.pipe_file(self._key, self._token)
            except OSError:
                continue  # the store does not answer now; the next beat tries again

    def release(self) -> None:
        """Give the lease back, if it is still held."""
        self._ended.set()
        self._beating.join()
        try:
            if self._system.cat_file(self._key) == self._token:
                self._system.rm_file(self._key)
        except OSError:
            return  # it grows old by itself
