"""Paths of files and URLs of objects: one way to look at, read and write both. URLs are opened by fsspec."""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from scanfold.conventions import ZARR_FILES, InputError, is_url

#: Nothing is remembered of what a folder holds: other processes write there too.
FRESH = {"use_listings_cache": False}
#: How a URL begins after `pathlib.Path` has been at it.
_COLLAPSED = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/(?!/)")
#: A file behind a URL is fetched in blocks of this size, of which a few are kept.
BLOCK, BLOCKS = 2**21, 16
#: Trouble with a disc or a network that may be over in a moment; of a damaged file libraries give no number.
PASSING = {
    errno.EIO, errno.EAGAIN, errno.EINTR, errno.EBUSY, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNRESET,
}  # fmt: skip
#: Seconds to wait before each further try.
WAITS = (0.05, 0.2, 0.8)

Found = TypeVar("Found")


def absolute(path: str | os.PathLike[str]) -> str:
    """Return an absolute path, since workers may run in another folder, or a URL as it is.

    Raises
    ------
    InputError
        For a URL that was made a Path, which collapses its slashes, or whose protocol is unknown or not installed.

    Examples
    --------
    >>> absolute("https://example.org/scan.h5"), absolute("/data/../data/scan.h5")
    ('https://example.org/scan.h5', '/data/../data/scan.h5')
    """
    text = str(path)
    if is_url(text):
        file_system(text)
        return text.rstrip("/")
    if _COLLAPSED.match(text) and not os.path.exists(text):
        scheme, _, rest = text.partition(":/")
        raise InputError(
            f"{text!r} looks like a URL without one of its slashes, as Path makes them; pass a string: "
            f"'{scheme}://{rest}'"
        )
    return str(Path(text).expanduser().absolute())


def file_system(url: str) -> Any:
    """Return the fsspec file system of a URL; it takes whole URLs.

    Credentials and addresses are those of the environment, for workers as for this process: ``AWS_…``, ``FSSPEC_…``.

    Raises
    ------
    InputError
        If the protocol is unknown, or its library is not installed.
    """
    import fsspec

    protocol = url.partition("://")[0]
    try:
        return fsspec.core.url_to_fs(url, **FRESH)[0]
    except ImportError as error:
        raise InputError(
            f'{protocol}:// needs another library ({error}); type: pip install "scanfold[remote]"'
        ) from None
    except Exception as error:  # of any of fsspec's libraries: an unknown protocol, a host that is not there
        known = "s3://, https:// and others of fsspec"
        raise InputError(f"cannot open {url!r}: {type(error).__name__}: {error}; URLs are {known}") from None


def location(path: str | os.PathLike[str]) -> Path:
    """Return a path whose methods are those of `pathlib`, of a URL too.

    Raises
    ------
    InputError
        As `absolute`.
    """
    text = absolute(path)
    if not is_url(text):
        return Path(os.path.abspath(text))
    try:
        from upath import UPath
    except ImportError:
        raise InputError('stores at URLs need another library; type: pip install "scanfold[remote]"') from None
    found: Path = UPath(text, **FRESH)
    return found


def local(path: str | os.PathLike[str], what: str) -> Path:
    """Return the path of what is on a file system only.

    Raises
    ------
    InputError
        For a URL; it says what has to be here.

    Examples
    --------
    >>> local("results", "folders of results").name
    'results'
    """
    if is_url(path):
        raise InputError(f"{what} are on a file system, found the URL {str(path)!r}; pass a path, and copy after")
    return Path(path).expanduser()


def file_target(path: str | os.PathLike[str]) -> Path:
    """Return where a file is to be written.

    Raises
    ------
    InputError
        If its folder is missing, a folder has its name, or it is a URL.
    """
    found = local(path, "tables, pictures and pages")
    if found.is_dir():
        raise InputError(f"{found} is a folder; name a file in it")
    if not (folder := found.absolute().parent).is_dir():
        raise InputError(f"cannot write {found.name!r}: there is no folder {folder}; make it first")
    return found


def exists(path: str) -> bool:
    """Tell whether there is a file, a folder or an object; for a zarr store on a web server, its metadata."""
    if not is_url(path):
        return os.path.exists(path)
    return _responds(path) or is_zarr(path)


def _responds(url: str) -> bool:
    """Tell whether there is an object; a server's `exists` may send it whole, `info` asks for its size only."""
    try:
        return bool(file_system(url).info(url))
    except FileNotFoundError:
        return False


def is_zarr(path: str) -> bool:
    """Tell whether a folder, or what is behind a URL, is a zarr store of either version."""
    found = _responds if is_url(path) else os.path.exists
    return any(found(f"{path}/{name}") for name in ZARR_FILES)


def read(path: str, name: str) -> bytes:
    """Return the content of a file in a folder.

    Raises
    ------
    OSError
        If there is none.
    """
    if is_url(path):
        return bytes(file_system(path).cat_file(f"{path}/{name}"))
    return (Path(path) / name).read_bytes()


@contextmanager
def opened(url: str, block: int = BLOCK) -> Iterator[Any]:
    """Open what is behind a URL as a file, fetched block by block as it is read."""
    how = {"cache_type": "blockcache", "cache_options": {"maxblocks": BLOCKS}}
    with file_system(url).open(url, "rb", block_size=block, **how) as stream:
        yield stream


def zarr_options(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what zarr and xarray need beside a path to open a store there."""
    return {"storage_options": FRESH} if is_url(path) else {}


def persist(step: Callable[..., Found], *arguments: Any) -> Found:
    """Read or write one thing, and again after trouble that may pass; a block of many such steps seldom gets through.

    Raises
    ------
    OSError
        At once what will not pass, such as a missing file or a full disk; what does not pass after the last try.

    Examples
    --------
    >>> persist(len, "abc")
    3
    """
    for seconds in WAITS:
        try:
            return step(*arguments)
        except OSError as error:
            if error.errno not in PASSING:
                raise
        time.sleep(seconds)
    return step(*arguments)


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Give a temporary path that takes the place of `path` at the end, at one stroke."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file at one stroke; an object at a URL is there whole or not at all in any case."""
    if is_url(path):
        path.write_bytes(content)
        return
    persist(_replace, path, content)


def _replace(path: Path, content: bytes) -> None:
    with replace_file(path) as temporary:
        temporary.write_bytes(content)


def content_of(path: Path) -> bytes | None:
    """Return what is in a file, None if there is none."""
    try:
        # Not by `open`, which asks for an object's size first.
        return bytes(path.fs.cat_file(path.path)) if is_url(path) else path.read_bytes()  # type: ignore[attr-defined]
    except FileNotFoundError:
        return None
    except OSError:
        raise
    except Exception as error:  # of the library that speaks to the server
        raise OSError(f"{type(error).__name__}: {error}") from error


def make(folder: Path) -> None:
    """Make a folder; at a URL names need none."""
    if not is_url(folder):
        folder.mkdir(parents=True, exist_ok=True)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it."""
    if is_url(path):
        path.fs.rm(path.path, recursive=True)  # type: ignore[attr-defined]
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
