"""Writing a file whole: readers and a kill see the old one or the new one."""

import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Have ``write`` write a file beside ``path``, flush it to the disk, and move it into place.

    The folder is made when it is absent. What went wrong is raised as it is, and leaves nothing behind. A device or a
    pipe (``/dev/null``, ``/dev/stdout``) is written to, and never replaced by a file.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        write(path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def place_new(temporary: Path, path: Path) -> None:
    """Flush a file to the disk and move it to ``path``, where nothing may be.

    Raises:
        FileExistsError: something is there.
    """
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if path.exists():
            raise FileExistsError(path) from None
        os.rename(temporary, path)
    else:
        temporary.unlink()
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, whole."""
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write ``value`` as JSON with sorted keys, whole."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, default=str) + "\n")
