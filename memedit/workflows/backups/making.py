"""Making a backup while the memory is in use."""

import importlib.metadata
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from memedit.consolidation.ledger import Action, Ledger
from memedit.consolidation.versions import FILES, VersionStore
from memedit.errors import InputError, MemoryNotFoundError, StoreError
from memedit.memory.backup import SnapshotFacts, facts_of, write_snapshot
from memedit.memory.store.database import Database, exists
from memedit.workflows.backups.archive import MEMORY, VERSIONS, ArchiveWriter

LEDGER = "ledger.jsonl"


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What was backed up, and where to.

    ``edits`` counts by namespace. ``versions`` are the folders of consolidated versions in it, ``problems`` what was
    wrong with them before.
    """

    path: str
    bytes: int
    made_at: datetime
    revision: int
    oldest_revision: int
    edits: dict[str, int]
    versions: tuple[str, ...]
    problems: tuple[str, ...]


def back_up(
    url: str, path: str | Path, *, versions: str | Path | None = None, with_versions: bool = True
) -> BackupReport:
    """Write everything of a memory at one moment to one file; servers go on reading and writing meanwhile.

    In it are edits with all past versions, vectors, artefacts of adapters, settings, keys (their digests), the change
    log, and the consolidated versions with their ledger.

    Args:
        url: the memory.
        path: the new file; in a folder it is named after memory, time and revision.
        versions: the folder of versions, or of one such folder a namespace; None is beside the memory's file.
        with_versions: take the consolidated versions in.

    Raises:
        MemoryNotFoundError: there is no memory.
        InputError: the folder of versions does not exist.
        StoreError: the memory or a version cannot be read, or the backup not be written; an existing file is never
            overwritten.
    """
    if not exists(url):
        raise MemoryNotFoundError(url)
    roots = _version_roots(url, versions) if with_versions else {}
    made_at = datetime.now(UTC)
    with tempfile.TemporaryDirectory(prefix="memedit-backup-", dir=_beside(Path(path))) as folder:
        copy = Path(folder) / MEMORY
        write_snapshot(url, copy)
        facts = _facts(copy)
        target = _named(Path(path), url, made_at, facts.revision)
        with ArchiveWriter(target) as archive:
            archive.add(MEMORY, copy)
            names: list[str] = []
            problems: list[str] = []
            for name, root in roots.items():
                names += _add_versions(archive, name, root, problems)
            size = archive.finish(_about(url, made_at, facts, names))
    oldest, edits = facts.oldest, dict(facts.edits)
    return BackupReport(str(target), size, made_at, facts.revision, oldest, edits, tuple(names), tuple(problems))


def default_root(url: str) -> Path | None:
    """Return the folder beside a memory's file in which each namespace has one for its versions; None for a server."""
    path = Database.path_of(url)
    return None if path is None else path.with_name(f"{path.name}.versions")


def _version_roots(url: str, folder: str | Path | None) -> dict[str, Path]:
    """Return every folder with a ledger by its place in the backup; the empty name is the folder itself."""
    root = default_root(url) if folder is None else Path(folder)
    if folder is not None and not Path(folder).is_dir():
        raise InputError(f"there is no folder {folder} of versions; leave --versions out to back up the edits alone")
    if root is None or not root.is_dir():
        return {}
    if (root / LEDGER).exists():
        return {"": root}
    return {sub.name: sub for sub in sorted(root.iterdir()) if (sub / LEDGER).is_file()}


def _add_versions(archive: ArchiveWriter, name: str, root: Path, problems: list[str]) -> Iterator[str]:
    """Take in a ledger as it is now and the folders it names; what is made meanwhile is for the next backup."""
    place = f"{VERSIONS}/{name}" if name else VERSIONS
    data = (root / LEDGER).read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    archive.add_bytes(f"{place}/{LEDGER}", whole)
    count = whole.count(b"\n")
    entries = Ledger(root / LEDGER).entries()[:count]
    removed = {entry.version for entry in entries if entry.action is Action.REMOVED}
    made = [entry.version for entry in entries if entry.action is Action.MADE and entry.version not in removed]
    for version in made:
        assert version is not None
        try:
            _add_folder(archive, f"{place}/{version}", root / version)
        except FileNotFoundError as error:
            raise StoreError(
                f"version {version} in {root} is missing or was removed while it was copied ({error}); make the backup "
                "again, or leave the versions out (--no-versions)"
            ) from error
        yield f"{name}/{version}" if name else version
    problems += [f"{root}: {problem}" for problem in VersionStore(root).problems()]


def _add_folder(archive: ArchiveWriter, place: str, folder: Path) -> None:
    if not (folder / FILES).is_file():
        raise FileNotFoundError(folder / FILES)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            archive.add(f"{place}/{path.relative_to(folder).as_posix()}", path)


def _facts(copy: Path) -> SnapshotFacts:
    database = Database(copy, read_only=True, as_is=True)
    try:
        with database.read() as connection:
            facts = facts_of(connection)
    finally:
        database.close()
    with closing(sqlite3.connect(copy)) as checked:
        found = checked.execute("PRAGMA quick_check").fetchone()[0]
    if found != "ok":
        raise StoreError(f"the memory is damaged, so no backup was made: {found}; `memedit index verify` says more")
    return facts


def _about(url: str, made_at: datetime, facts: SnapshotFacts, versions: list[str]) -> dict[str, Any]:
    return {
        "memedit": importlib.metadata.version("memedit"),
        "made_at": made_at.isoformat(),
        "database": "sqlite" if Database.path_of(url) is not None else "postgresql",
        "schema_version": facts.schema_version,
        "revision": facts.revision,
        "oldest_revision": facts.oldest,
        "edits": dict(facts.edits),
        "versions": versions,
    }


def _beside(path: Path) -> Path:
    """Return the folder that the copy is made in: where the backup goes there is room for it."""
    folder = path if path.is_dir() else path.parent
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder} for the backup; make it first")
    return folder


def _named(path: Path, url: str, made_at: datetime, revision: int) -> Path:
    if not path.is_dir():
        return path
    file = Database.path_of(url)
    name = "memory" if file is None else file.stem
    return path / f"{name}-{made_at:%Y%m%dT%H%M%SZ}-r{revision}.backup"
