"""Making a memory of a backup, as it was then or at an earlier revision."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from memedit.consolidation.ledger import Action, Ledger, fold
from memedit.consolidation.versions import VersionStore
from memedit.encoders.base import Encoder, Progress
from memedit.errors import InputError, StoreError
from memedit.memory import EditMemory
from memedit.memory.backup import Rewound, check_empty, facts_of, load_snapshot, revision_at, rewind
from memedit.memory.store.database import Database, url_text
from memedit.workflows.backups.archive import MEMORY, VERSIONS, ArchiveReader
from memedit.workflows.backups.making import LEDGER, default_root
from memedit.workflows.consolidate.states import sync_states


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What was restored, or would be.

    ``edits`` counts by namespace. ``encoded`` are edits whose texts had to be encoded anew; ``settings`` were set after
    the revision gone back to, and have no past to go back to (namespace, name). ``problems`` are those of versions.
    """

    memory: str | None
    made_at: str
    revision: int
    oldest_revision: int
    newest_revision: int
    edits: dict[str, int]
    versions: tuple[str, ...]
    encoded: int = 0
    settings: tuple[tuple[str, str], ...] = ()
    problems: tuple[str, ...] = ()


def restore(
    backup: str | Path,
    url: str,
    *,
    versions: str | Path | None = None,
    with_versions: bool = True,
    revision: int | None = None,
    at: datetime | None = None,
    encoder: Encoder | str = "minilm",
    progress: Progress | None = None,
) -> RestoreReport:
    """Make a memory at ``url`` of a backup of any memory, be either in SQLite or PostgreSQL.

    Everything is read and compared with its checksum before anything is put in its place; what fails leaves nothing.

    Args:
        backup: the file.
        url: where the memory is to be: a file that does not exist, or a PostgreSQL schema without a memory.
        versions: folder for the consolidated versions; None is beside the memory's file.
        with_versions: restore the consolidated versions.
        revision: restore the memory as it was right after this change.
        at: restore it as it was at this time (timezone-aware), in place of ``revision``.
        encoder: encodes texts of edits that changed after ``revision``.
        progress: called with (texts encoded, texts to encode).

    Raises:
        InputError: there is no such backup, revision or folder.
        StoreCorruptError: the backup is damaged.
        StoreVersionError: a newer memedit made it.
        StoreError: there is something at ``url`` or in the folder of versions, or it cannot be written.
    """
    path = check_empty(url)
    with ArchiveReader(Path(backup)) as archive, _working(path) as folder:
        root = _versions_root(archive, url, versions) if with_versions else None
        rewound = _prepared(archive, folder / MEMORY, revision, at)
        report = _report(archive, folder / MEMORY, rewound)
        with _versions_in_place(archive, root, rewound) as names:
            load_snapshot(folder / MEMORY, url)
    folders = set() if root is None else {root / Path(name).parent for name in names}
    stores = [VersionStore(folder) for folder in sorted(folders)]
    problems = [problem for store in stores for problem in store.problems()]
    _sync(url, stores)
    encoded = 0
    for namespace in () if rewound is None else rewound.to_encode:
        encoded += _encode(url, namespace, encoder, problems, progress)
    return replace(report, memory=url_text(url), versions=tuple(names), encoded=encoded, problems=tuple(problems))


def inspect_backup(backup: str | Path, *, revision: int | None = None, at: datetime | None = None) -> RestoreReport:
    """Read a whole backup, compare it with its checksums, and say what restoring it would come to; nothing is written.

    Raises:
        InputError: there is no such backup or revision.
        StoreCorruptError: the backup is damaged.
        StoreVersionError: a newer memedit made it.
    """
    with ArchiveReader(Path(backup)) as archive, _working(None) as folder:
        for name in archive.under(VERSIONS):
            archive.check(name)
        rewound = _prepared(archive, folder / MEMORY, revision, at)
        return _report(archive, folder / MEMORY, rewound)


@contextmanager
def _working(path: Path | None) -> Iterator[Path]:
    """A folder for what is being put together: where the memory will be, since files are moved from it."""
    parent = None if path is None else path.parent
    if parent is not None and not parent.is_dir():
        raise InputError(f"there is no folder {parent} for the memory; make it first")
    with tempfile.TemporaryDirectory(prefix=".memedit-restore-", dir=parent, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _prepared(archive: ArchiveReader, copy: Path, revision: int | None, at: datetime | None) -> Rewound | None:
    """Take the memory out, bring it to this memedit's schema, and back to a revision or time if one is asked for."""
    if revision is not None and at is not None:
        raise InputError("give a revision or a time to go back to, not both")
    archive.extract(MEMORY, copy)
    database = Database(copy)
    try:
        if revision is None and at is None:
            return None
        with database.write() as connection:
            wanted = revision if at is None else revision_at(connection, _micros(at))
            assert wanted is not None
            rewound = rewind(connection, wanted)
        database.compact()  # what was after it is not to be found in unused pages either
        return rewound
    finally:
        database.close()


def _micros(at: datetime) -> int:
    if at.tzinfo is None:
        raise InputError(f"{at} has no time zone; give one, as in 2026-01-31T12:00:00+01:00")
    return round(at.timestamp() * 1_000_000)


def _report(archive: ArchiveReader, copy: Path, rewound: Rewound | None) -> RestoreReport:
    database = Database(copy, read_only=True)
    try:
        with database.read() as connection:
            facts = facts_of(connection)
    finally:
        database.close()
    about = archive.manifest
    return RestoreReport(
        memory=None,
        made_at=about["made_at"],
        revision=facts.revision,
        oldest_revision=about["oldest_revision"],
        newest_revision=about["revision"],
        edits=dict(facts.edits),
        versions=tuple(about["versions"]),
        settings=() if rewound is None else rewound.settings,
    )


def _versions_root(archive: ArchiveReader, url: str, folder: str | Path | None) -> Path | None:
    """Return where the versions go; None when the backup has none.

    Raises:
        InputError: they have no place.
        StoreError: something is there.
    """
    if not archive.under(VERSIONS):
        return None
    root = default_root(url) if folder is None else Path(folder)
    if root is None:
        raise InputError(
            "the backup holds consolidated versions, and a database server has no folder for them; name one with "
            "--versions, or leave them out with --no-versions"
        )
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise StoreError(f"{root} is there and not empty, and a restore overwrites nothing; move it away")
    return root


@contextmanager
def _versions_in_place(archive: ArchiveReader, root: Path | None, rewound: Rewound | None) -> Iterator[list[str]]:
    """Put the versions into their folder; when what is done meanwhile fails, take them away again."""
    if root is None:
        yield []
        return
    partial = root.with_name(f".{root.name}.{os.getpid()}.restoring")
    made = not root.exists()
    try:
        names = _extract_versions(archive, partial, rewound)
        root.mkdir(parents=True, exist_ok=True)
        for child in partial.iterdir():
            os.rename(child, root / child.name)
        partial.rmdir()
        yield names
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        for name in archive.under(VERSIONS):
            _remove(root / PurePosixPath(name).parts[1])
        if made:
            with contextlib.suppress(OSError):
                root.rmdir()
        raise


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _extract_versions(archive: ArchiveReader, partial: Path, rewound: Rewound | None) -> list[str]:
    """Write ledgers and version folders, as they were at the time gone back to; return the versions."""
    partial.mkdir(parents=True)
    names: list[str] = []
    files = archive.under(VERSIONS)
    for ledger in (name for name in files if PurePosixPath(name).name == LEDGER):
        place = PurePosixPath(ledger).parent
        inside = place.relative_to(VERSIONS)
        archive.extract(ledger, partial / inside / LEDGER)
        kept = _cut_ledger(partial / inside / LEDGER, rewound)
        there = {
            PurePosixPath(name).relative_to(place).parts[0] for name in files if place in PurePosixPath(name).parents
        }
        _check_champions(kept, there, partial / inside / LEDGER)
        for version in sorted(kept & there):
            for name in archive.under(f"{place}/{version}"):
                archive.extract(name, partial / PurePosixPath(name).relative_to(VERSIONS))
            names.append(str(inside / version))
    return names


def _cut_ledger(path: Path, rewound: Rewound | None) -> set[str]:
    """End a ledger at the time gone back to; return the versions made until then."""
    entries = Ledger(path).entries()
    if rewound is not None:
        until = datetime.fromtimestamp(rewound.at / 1_000_000, UTC)
        entries = [entry for entry in entries if entry.at <= until]
        lines = path.read_bytes().splitlines(keepends=True)[: len(entries)]
        path.write_bytes(b"".join(lines))
    return {entry.version for entry in entries if entry.action is Action.MADE and entry.version is not None}


def _check_champions(kept: set[str], there: set[str], ledger: Path) -> None:
    aliases = fold(Ledger(ledger).entries())
    for alias, version in aliases.named().items():
        if version is not None and version in kept and version not in there and alias == "champion":
            raise StoreError(
                f"version {version}, the champion then, had been removed when the backup was made; restore without "
                "versions (--no-versions), or take an older backup"
            )


def _sync(url: str, stores: Sequence[VersionStore]) -> None:
    """Bring links and the edits' states in step with the ledgers."""
    for store in stores:
        store.settle()
        for namespace in {store.record(name).namespace for name in store.names()}:
            with EditMemory(url, namespace=namespace) as memory:
                sync_states(memory, store)


def _encode(url: str, namespace: str, encoder: Encoder | str, problems: list[str], progress: Progress | None) -> int:
    """Encode what lacks vectors of the encoder that the memory's others were made with; return how many edits."""
    with EditMemory(url, encoder=encoder, namespace=namespace) as memory:
        used = memory.stats().encoder
        if used is None or used == memory.encoder.name:
            return memory.encode_missing(progress=progress)
        problems.append(
            f"namespace {namespace!r} was encoded with {used!r}, not {memory.encoder.name!r}: edits that changed after "
            "the revision have no vectors yet; run `memedit index rebuild` with --encoder"
        )
        return 0
