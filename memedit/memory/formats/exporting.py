"""Edits to a file, atomically."""

import errno
import json
import os
import tempfile
from pathlib import Path
from typing import IO

from memedit.errors import InputError, StoreError, StoreFullError, StoreReadOnlyError
from memedit.memory.formats.registry import format_named
from memedit.memory.reading import stream_edits
from memedit.memory.store.database import Database


def export_edits(database: Database, namespace: str, path: Path, name: str, state: str | None) -> int:
    """Write a namespace's edits that are not withdrawn, in the order they were added; return how many.

    The rows go to a temporary file beside ``path`` that replaces it when it is complete and on disk.

    Raises:
        UnknownNameError: no such format.
        InputError: withdrawn edits are asked for.
        StoreError: the file cannot be written.
    """
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            count = write_edits(database, namespace, file, name, state)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise _failure(path, error) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
    return count


def write_edits(database: Database, namespace: str, file: IO[str], name: str, state: str | None) -> int:
    """Write the rows of :func:`export_edits` to an open file; return how many.

    Raises:
        UnknownNameError: no such format.
        InputError: withdrawn edits are asked for.
    """
    form = format_named(name)
    if state in ("retired", "all"):
        raise InputError(f"state={state!r}: withdrawn edits are not exported; copy the database to keep them")
    count = 0
    with database.read() as connection:
        for edit in stream_edits(connection, namespace, state):
            file.write(json.dumps(form.render(edit, count), ensure_ascii=False) + "\n")
            count += 1
    return count


def _failure(path: Path, error: OSError) -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoreFullError(f"{path}: no space left to write the export ({error.strerror}); free some and try again")
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return StoreReadOnlyError(f"{path}: no permission to write the export ({error.strerror})")
    return StoreError(f"{path}: the export cannot be written: {error.strerror or error}")
