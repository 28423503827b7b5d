"""A copy of a memory as it is at one moment, made while others write, and what such a copy holds."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, func, select

from memedit.errors import InputError, MemoryNotFoundError
from memedit.memory.backup.tables import NOT_COPIED, copy_tables
from memedit.memory.migrations import MIGRATIONS, check_version, migrate, recorded_version
from memedit.memory.reading import CURRENT, store_revision
from memedit.memory.rows import LIVE
from memedit.memory.schema import changes, edits
from memedit.memory.search.namespace_index import FORGOTTEN
from memedit.memory.store.database import APPLICATION_ID, PAGE_BYTES, Database
from memedit.memory.store.failures import translated


@dataclass(frozen=True, slots=True)
class SnapshotFacts:
    """What a copy holds. ``edits`` counts those not withdrawn, by namespace.

    ``oldest`` is the lowest revision that it can be taken back to: past versions before it were forgotten.
    """

    revision: int
    oldest: int
    schema_version: int
    edits: Mapping[str, int]


def write_snapshot(url: str, path: Path) -> None:
    """Copy the memory at ``url``, as it is at one moment, to a SQLite file at ``path``, which must not exist.

    Others go on reading and writing. The schema's version is the memory's own: an older one is not brought up to date.

    Raises:
        InputError: the memory is in this process only.
        MemoryNotFoundError: there is no memory.
        StoreError: the memory cannot be read, or the file not be written.
    """
    if url == ":memory:":
        raise InputError("a memory in :memory: ends with its process; export its edits instead")
    database = Database(url, read_only=True, as_is=True)
    try:
        with database.read() as connection:
            version = recorded_version(connection)
            if version == 0:
                raise MemoryNotFoundError(database.url)
            check_version(version, database.url)
            with translated(str(path), path):
                if database.sqlite:
                    _copy_pages(connection, path)
                else:
                    _copy_rows(connection, path, version)
    finally:
        database.close()


def facts_of(connection: Connection) -> SnapshotFacts:
    """Say what a copy, or any store, holds."""
    counted = (
        select(edits.c.namespace, func.count()).where(CURRENT, edits.c.state.in_(LIVE)).group_by(edits.c.namespace)
    )
    forgotten = select(func.max(changes.c.revision)).where(changes.c.action == FORGOTTEN)
    return SnapshotFacts(
        revision=store_revision(connection),
        oldest=connection.execute(forgotten).scalar() or 0,
        schema_version=recorded_version(connection),
        edits={row[0]: row[1] for row in connection.execute(counted.order_by(edits.c.namespace))},
    )


def _copy_pages(source: Connection, path: Path) -> None:
    """Let SQLite copy the file's pages in one step, which sees one moment of it."""
    driver: Any = source.connection.driver_connection
    target = sqlite3.connect(path, isolation_level=None)
    try:
        driver.backup(target)
        target.execute("PRAGMA journal_mode=DELETE")  # one file, nothing beside it
        there = {row[0] for row in target.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for name in NOT_COPIED & there:
            target.execute(f"DELETE FROM {name}")
    finally:
        target.close()


def _copy_rows(source: Connection, path: Path, version: int) -> None:
    """Make a file of the same schema and copy all rows into it."""
    with sqlite3.connect(path, isolation_level=None) as empty:
        empty.execute(f"PRAGMA page_size={PAGE_BYTES}")
        empty.execute(f"PRAGMA application_id={APPLICATION_ID}")
        empty.execute("PRAGMA synchronous=OFF")  # it is flushed when it is whole
    engine = create_engine(f"sqlite:///{path}")
    try:
        with engine.begin() as target:
            migrate(target, migrations=MIGRATIONS[:version])
            copy_tables(source, target)
    finally:
        engine.dispose()
