"""Driver errors turned into memedit's own."""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from memedit.errors import (
    StoreBusyError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
)
from memedit.memory.store.postgres import is_away

_LITTLE_SPACE = 1 << 20
_KINDS: tuple[tuple[tuple[int, ...], type[StoreError], str], ...] = (
    (
        (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED),
        StoreBusyError,
        "Another process held the write lock for longer than the timeout; nothing was written. Try again, or open the "
        "memory with a larger timeout",
    ),
    (
        (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB),
        StoreCorruptError,
        "The file is damaged or is not an edit memory; restore it from a copy, or import an export into a new file",
    ),
    (
        (sqlite3.SQLITE_READONLY,),
        StoreReadOnlyError,
        "Nothing was written; make the file and its directory writable, or change a copy",
    ),
    (
        (sqlite3.SQLITE_FULL,),
        StoreFullError,
        "No space is left; nothing of this change was stored. Free some and try again",
    ),
)
_STATES: dict[str, tuple[type[StoreError], str]] = {
    "55P03": (StoreBusyError, "Another writer held the lock longer than the timeout; nothing was written. Try again"),
    "53300": (StoreBusyError, "The server has no connection left; try again, or raise its max_connections"),
    "53100": (StoreFullError, "No space is left on the server's disk; nothing of this change was stored"),
    "25006": (StoreReadOnlyError, "Nothing was written; connect to the primary server"),
    "42501": (StoreReadOnlyError, "Nothing was written; grant this role the right to change memedit's tables"),
}
"""PostgreSQL's error codes that have a class of ours."""


@contextmanager
def translated(url: str, path: Path | None) -> Iterator[None]:
    """Raise a :class:`StoreError` for whatever the database driver raises inside."""
    try:
        yield
    except DBAPIError as error:
        raise _translate(error.orig or error, url, path) from error
    except sqlite3.Error as error:
        raise _translate(error, url, path) from error


def _translate(error: BaseException, url: str, path: Path | None) -> StoreError:
    """The typed error for a driver's ``error`` on the store at ``url``."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return _of_server(error, url)
    primary = code & 0xFF
    if primary in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM) and path is not None:
        return _cannot_open(path, error)
    if primary == sqlite3.SQLITE_IOERR and _no_space(path):
        primary = sqlite3.SQLITE_FULL
    for codes, kind, advice in _KINDS:
        if primary in codes:
            return kind(f"{url}: {error}. {advice}")
    return StoreError(f"{url}: the database failed: {error} ({getattr(error, 'sqlite_errorname', code)})")


@contextmanager
def committing(url: str) -> Iterator[None]:
    """Say that the outcome is not known when the server goes away during a commit."""
    try:
        yield
    except DBAPIError as error:
        if not is_away(error.orig):
            raise
        raise StoreUnavailableError(
            f"{url}: the server went away while a change was being committed ({_line(error.orig)}); the change is "
            "stored whole or not at all. Make it again: what is there already is not added twice",
            uncertain=True,
        ) from error


def _of_server(error: BaseException, url: str) -> StoreError:
    """The typed error for what PostgreSQL's driver raised."""
    kind, advice = _STATES.get(getattr(error, "sqlstate", None) or "", (StoreError, ""))
    if advice:
        return kind(f"{url}: {_line(error)}. {advice}")
    if is_away(error):
        return StoreUnavailableError(
            f"{url}: the database server cannot be reached or went away ({_line(error)}); nothing was written. Try "
            "again when it is back"
        )
    return StoreError(f"{url}: the database refused the operation: {error}")


def _line(error: BaseException | None) -> str:
    """A driver's message on one line."""
    return " ".join(str(error).split())


def _cannot_open(path: Path, error: BaseException) -> StoreError:
    """Say why a database file cannot be opened."""
    if not path.parent.is_dir():
        return StoreError(f"{path}: the directory {path.parent} does not exist; create it first")
    if path.is_dir():
        return StoreError(f"{path} is a directory; an edit memory is a file, such as {path / 'edits.db'}")
    if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        return StoreReadOnlyError(f"{path}: no permission to write ({error}); make its directory writable")
    return StoreError(f"{path}: cannot be opened: {error}")


def _no_space(path: Path | None) -> bool:
    """Whether the device under ``path`` is full (SQLite reports some full disks as plain I/O errors)."""
    if path is None:
        return False
    try:
        return shutil.disk_usage(path.parent).free < _LITTLE_SPACE
    except OSError:
        return False
