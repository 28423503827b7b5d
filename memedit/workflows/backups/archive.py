"""The file of a backup: a ZIP archive with a manifest that has the SHA-256 of everything else in it.

::

    memedit-backup.json     format, when and of what it was made, and {"bytes", "sha256"} of every other file
    memory.db               the whole memory at one moment, as SQLite, wherever it came from
    versions/...            ledgers and folders of consolidated versions, as they lie beside a memory
"""

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, Any, Self

from memedit.errors import InputError, StoreCorruptError, StoreError, StoreVersionError

MANIFEST = "memedit-backup.json"
MEMORY = "memory.db"
VERSIONS = "versions"
FORMAT = 1
_CHUNK = 1 << 20
_PACKED = frozenset({".db", ".json", ".jsonl", ".txt", ".md"})
"""Endings of what shrinks when it is packed; weights do not."""


class ArchiveWriter:
    """Writes a backup's file; it appears under its name when it is whole, readable by its owner only.

    Args:
        path: of the file.

    Raises:
        StoreError: something is there already, or it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists():
            raise StoreError(f"{path} exists, and a backup overwrites nothing; name another file")
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
        self._files: dict[str, dict[str, Any]] = {}
        with self._translated():
            os.close(os.open(self._temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            self._zip = zipfile.ZipFile(self._temporary, "w", allowZip64=True)

    def add(self, name: str, path: Path) -> str:
        """Take a file in under ``name``; return its SHA-256."""
        with self._translated(), path.open("rb") as source:
            return self._write(name, source)

    def add_bytes(self, name: str, data: bytes) -> None:
        """Take these bytes in under ``name``."""
        import io

        with self._translated():
            self._write(name, io.BytesIO(data))

    def finish(self, about: Mapping[str, Any]) -> int:
        """Write the manifest and give the file its name; return its bytes."""
        from memedit.whole_files import place_new

        manifest = {"format": "memedit-backup", "format_version": FORMAT, **about, "files": self._files}
        with self._translated():
            self._zip.writestr(MANIFEST, json.dumps(manifest, indent=1, sort_keys=True), zipfile.ZIP_DEFLATED)
            self._zip.close()
            try:
                place_new(self._temporary, self.path)
            except FileExistsError:
                raise StoreError(f"{self.path} was made by another process meanwhile; name another file") from None
            return self.path.stat().st_size

    def _write(self, name: str, source: IO[bytes]) -> str:
        digest, size = hashlib.sha256(), 0
        entry = zipfile.ZipInfo(name)
        entry.external_attr = 0o600 << 16
        packed = PurePosixPath(name).suffix in _PACKED
        entry.compress_type = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
        with self._zip.open(entry, "w", force_zip64=True) as target:
            while part := source.read(_CHUNK):
                digest.update(part)
                size += len(part)
                target.write(part)
        self._files[name] = {"bytes": size, "sha256": digest.hexdigest()}
        return digest.hexdigest()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(f"the backup {self.path} cannot be written: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._temporary.exists():
            self._zip.close()
            self._temporary.unlink(missing_ok=True)


class ArchiveReader:
    """Reads a backup's file; what is taken out has the size and SHA-256 that the manifest says, or an error says so.

    Args:
        path: of the file.

    Raises:
        InputError: there is no such file.
        StoreCorruptError: it is damaged, or no backup.
        StoreVersionError: a newer memedit wrote it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise InputError(f"there is no backup {path}")
        with self._translated():
            self._zip = zipfile.ZipFile(path)
            self.manifest = self._read_manifest()
        self.files: dict[str, dict[str, Any]] = self.manifest["files"]
        self._check_names()

    def extract(self, name: str, target: Path) -> None:
        """Write one file out, flushed to the disk."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            self._copy(name, file)
            file.flush()
            os.fsync(file.fileno())

    def check(self, name: str) -> None:
        """Read one file and compare it with the manifest."""
        self._copy(name, None)

    def under(self, folder: str) -> list[str]:
        """Return the names of the files in a folder."""
        return [name for name in self.files if name.startswith(f"{folder}/")]

    def _copy(self, name: str, target: IO[bytes] | None) -> None:
        digest, size = hashlib.sha256(), 0
        with self._translated(name), self._zip.open(name) as source:
            while part := source.read(_CHUNK):
                digest.update(part)
                size += len(part)
                if target is not None:
                    target.write(part)
        wanted = self.files[name]
        if size != wanted["bytes"] or digest.hexdigest() != wanted["sha256"]:
            raise self._damaged(f"{name} is not what was backed up")

    def _read_manifest(self) -> dict[str, Any]:
        if MANIFEST not in self._zip.namelist():
            raise self._damaged(f"it has no {MANIFEST}, so it is no backup of memedit's")
        found = json.loads(self._zip.read(MANIFEST))
        if found["format"] != "memedit-backup" or not isinstance(found["files"], dict):
            raise ValueError("the manifest is no manifest")
        if found["format_version"] > FORMAT:
            raise StoreVersionError(
                f"{self.path} has format {found['format_version']}, this memedit reads {FORMAT}; it was made by a "
                "newer memedit: upgrade with `pip install -U memedit`"
            )
        return dict(found)

    def _check_names(self) -> None:
        """See that everything listed is there, and that no name leads out of the folder it is written to."""
        there = set(self._zip.namelist())
        if MEMORY not in self.files:
            raise self._damaged(f"{MEMORY} is missing")
        for name in self.files:
            path = PurePosixPath(name)
            inside = path.parts[0] == VERSIONS and ".." not in path.parts and len(path.parts) > 1
            if name != MEMORY and (not inside or "\\" in name or str(path) != name):
                raise self._damaged(f"it has a file of the name {name!r}")
            if name not in there:
                raise self._damaged(f"{name} is missing")

    def _damaged(self, what: str) -> StoreCorruptError:
        return StoreCorruptError(f"the backup {self.path} is damaged: {what}; take another one. Nothing was restored")

    @contextmanager
    def _translated(self, name: str = "") -> Iterator[None]:
        try:
            yield
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError, TypeError) as error:
            raise self._damaged(f"{name or 'it'} cannot be read ({error})") from error
        except (NotImplementedError, RuntimeError) as error:  # packed or encrypted in a way that ours are not
            raise self._damaged(f"{name or 'it'} cannot be read ({error})") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()
