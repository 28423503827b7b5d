"""How an index lies on disk: a JSON manifest at ``path``, and beside it the payload file that it names.

The payload is written first, under a name made of its checksum; renaming the manifest into place is the one moment at
which the new index takes over. A crash leaves the old or the new index whole, and at worst a payload nobody names,
which the next save removes.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from memedit.errors import IndexCorruptError, VectorIndexError

FORMAT = 1


@dataclass(frozen=True, slots=True)
class IndexManifest:
    """What an index file holds: ``options`` recreate the index, ``metadata`` is the caller's own."""

    kind: str
    dimension: int
    count: int
    options: Mapping[str, Any]
    payload: str
    size: int
    sha256: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    format: int = FORMAT


def read_manifest(path: str | Path) -> IndexManifest:
    """Read the manifest at ``path`` without reading the vectors.

    Raises:
        FileNotFoundError: there is none.
        IndexCorruptError: it is not one that this version can read.
    """
    try:
        raw = json.loads(Path(path).read_text(encoding="utf-8"))
        manifest = IndexManifest(**raw)
    except (ValueError, TypeError) as error:
        raise IndexCorruptError(
            f"{path} is not an index manifest ({error}); rebuild the index from the store"
        ) from error
    if manifest.format != FORMAT:
        raise IndexCorruptError(f"{path} has index format {manifest.format}, this version reads {FORMAT}; rebuild it")
    if Path(manifest.payload).name != manifest.payload or not isinstance(manifest.dimension, int):
        raise IndexCorruptError(f"{path}: payload {manifest.payload!r} is not a plain file name; rebuild the index")
    return manifest


@contextlib.contextmanager
def open_payload(path: Path) -> Iterator[tuple[IndexManifest, Path]]:
    """Give the manifest and its checked payload file.

    Raises:
        FileNotFoundError: no manifest.
        IndexCorruptError: the payload is missing, truncated or altered.
    """
    manifest = read_manifest(path)
    payload = path.parent / manifest.payload
    if not payload.is_file():
        raise IndexCorruptError(f"{path} names {manifest.payload}, which is missing; rebuild the index from the store")
    size = payload.stat().st_size
    if size != manifest.size:
        raise IndexCorruptError(
            f"{payload} has {size} bytes instead of {manifest.size}: it is truncated or altered; "
            "rebuild the index from the store"
        )
    if _sha256(payload) != manifest.sha256:
        raise IndexCorruptError(f"{payload} does not match its checksum; rebuild the index from the store")
    yield manifest, payload


def save_payload(
    path: Path,
    write: Callable[[Path], None],
    *,
    kind: str,
    dimension: int,
    count: int,
    options: Mapping[str, Any],
    metadata: Mapping[str, Any] | None,
) -> IndexManifest:
    """Write payload and manifest atomically and durably.

    Raises:
        VectorIndexError: the folder cannot be written or the device is full; the previous index is untouched.
    """
    path = Path(path)
    staged: list[Path] = []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        staged.append(_stage(path))
        write(staged[0])
        _fsync(staged[0])
        digest = _sha256(staged[0])
        manifest = IndexManifest(
            kind=kind,
            dimension=dimension,
            count=count,
            options=dict(options),
            payload=f"{path.name}.{digest[:16]}.bin",
            size=staged[0].stat().st_size,
            sha256=digest,
            metadata=dict(metadata or {}),
        )
        os.replace(staged[0], path.parent / manifest.payload)
        staged.append(_stage(path))
        staged[1].write_text(json.dumps(asdict(manifest), indent=1, sort_keys=True), encoding="utf-8")
        _fsync(staged[1])
        os.replace(staged[1], path)
        _fsync(path.parent)
    except (OSError, RuntimeError) as error:  # FAISS reports a full disk as RuntimeError
        raise VectorIndexError(f"index {path} could not be saved: {error}; the previous file is untouched") from error
    finally:
        for temporary in staged:
            temporary.unlink(missing_ok=True)
    _remove_orphans(path, manifest.payload)
    return manifest


def _stage(path: Path) -> Path:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    return Path(name)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove_orphans(path: Path, keep: str) -> None:
    """Remove payloads of earlier saves; a reader that has one open keeps its contents."""
    for old in path.parent.glob(f"{_glob_escape(path.name)}.????????????????.bin"):
        if old.name != keep:
            with contextlib.suppress(OSError):
                old.unlink()


def _glob_escape(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
