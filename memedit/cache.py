"""Where converted checkpoints and fingerprints are kept, and how they get there whole."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from memedit.errors import ModelError
from memedit.whole_files import write_text

_BLOCK = 1 << 20


def cache_home() -> Path:
    """Return ``$MEMEDIT_HOME``, or ``~/.cache/memedit``."""
    return Path(os.environ.get("MEMEDIT_HOME") or Path.home() / ".cache" / "memedit").expanduser()


def file_stamp(path: Path) -> str:
    """Return path, size and modification time as one string: what a cached digest of the file is valid for."""
    stat = path.stat()
    return f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, remembered for as long as its size and modification time stay."""
    return remembered("file-sha256", file_stamp(path), lambda: _sha256(path))


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while block := source.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def remembered(kind: str, key: str, compute: Callable[[], str]) -> str:
    """Return ``compute()``, kept on disk under ``(kind, key)``; an unwritable cache only costs the time."""
    name = hashlib.sha256(f"{kind}\0{key}".encode()).hexdigest()[:32]
    path = cache_home() / "digests" / f"{name}.json"
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        if known.get("kind") == kind and known.get("key") == key:
            return str(known["value"])
    except (OSError, ValueError, KeyError, AttributeError):
        pass
    value = compute()
    with contextlib.suppress(OSError):
        write_text(path, json.dumps({"kind": kind, "key": key, "value": value}))
    return value


def cached_folder(name: str, fields: dict[str, Any], build: Callable[[Path], None]) -> Path:
    """Return the folder for ``fields``, made by ``build(folder)`` if no process has made it yet.

    The folder's name is ``name`` plus a hash of ``fields`` (the complete cache key), which are written beside the
    content as ``manifest.json``. One process builds while others wait; the folder appears by one rename. After a
    process was killed, the next one's ``build`` finds in its folder what that one had written.

    Raises:
        ModelError: the cache cannot be written.
    """
    text = json.dumps(fields, sort_keys=True, indent=1)
    root = cache_home() / "models"
    target = root / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    if (target / "manifest.json").is_file():
        return target
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(str(target) + ".lock"):
            if not (target / "manifest.json").is_file():
                _build_whole(target, text, build)
    except OSError as error:
        raise ModelError(
            f"cannot write the converted checkpoint to {target}: {error}; "
            "free space there or point MEMEDIT_HOME at a writable directory"
        ) from error
    return target


def _build_whole(target: Path, manifest: str, build: Callable[[Path], None]) -> None:
    working = target.parent / f".{target.name}.partial"
    working.mkdir(exist_ok=True)
    try:
        build(working)
        (working / "manifest.json").write_text(manifest, encoding="utf-8")
        _sync([path for path in working.rglob("*") if path.is_file()])
        working.chmod(0o755)
        os.rename(working, target)
    except Exception:  # not of being interrupted: the next process goes on from here
        shutil.rmtree(working, ignore_errors=True)
        raise


def _sync(paths: Sequence[Path]) -> None:
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
