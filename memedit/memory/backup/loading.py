"""Putting a copy of a memory where a memory is to be: a new SQLite file, or an empty PostgreSQL schema."""

import os
import shutil
import sqlite3
from pathlib import Path

from sqlalchemy import Connection, create_engine, select

from memedit.errors import StoreError
from memedit.memory.backup.tables import copy_tables
from memedit.memory.reading import store_revision
from memedit.memory.schema import counters, figures, leases, migrations, tables
from memedit.memory.store import postgres
from memedit.memory.store.database import Database
from memedit.whole_files import place_new

_OF_AN_EMPTY_STORE = (migrations, counters, leases, figures)
"""Tables with rows also where no memory is yet: a server has been started on the store, no more."""


def check_empty(url: str) -> Path | None:
    """Make sure that a memory can be put at ``url``; return its path, None for a server.

    Raises:
        StoreError: there is a memory, or another file, already; or it cannot be reached.
    """
    path = Database.path_of(url)
    if path is not None:
        if path.exists():
            raise StoreError(
                f"{path} exists, and a restore overwrites nothing; name a new file, or move this one away with its "
                f"{path.name}-wal, {path.name}.index and {path.name}.versions"
            )
        return path
    database = Database(url)
    try:
        with database.read() as connection:
            _refuse_full(connection, database.url)
    finally:
        database.close()
    return None


def load_snapshot(snapshot: Path, url: str) -> None:
    """Put a copy of the newest schema at ``url``; the copy's file is used up when the memory is a file.

    A kill leaves nothing there, or all.

    Raises:
        StoreError: something is there already, or it cannot be written.
    """
    path = Database.path_of(url)
    if path is not None:
        _place(snapshot, path)
        return
    database = Database(url)
    source = create_engine(f"sqlite:///{snapshot}")
    try:
        with source.connect() as copied, database.write() as connection:
            _refuse_full(connection, database.url)
            copy_tables(copied, connection)
            postgres.announce(connection, store_revision(connection))
    finally:
        source.dispose()
        database.close()


def _place(snapshot: Path, path: Path) -> None:
    connection = sqlite3.connect(snapshot, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=WAL")  # it is recorded in the file
    finally:
        connection.close()
    # caches of vectors and a log of a memory that was here once would be taken for this one's
    shutil.rmtree(path.with_name(path.name + ".index"), ignore_errors=True)
    for end in ("-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    os.chmod(snapshot, 0o600)
    try:
        place_new(snapshot, path)
    except FileExistsError as error:
        raise StoreError(f"{path} was made by another process meanwhile; nothing was restored") from error


def _refuse_full(connection: Connection, url: str) -> None:
    for table in tables.sorted_tables:
        if table not in _OF_AN_EMPTY_STORE and connection.execute(select(table).limit(1)).first() is not None:
            raise StoreError(
                f"{url} holds a memory already, and a restore overwrites nothing; name another database, or another "
                "schema with ?options=-csearch_path%3DNAME"
            )
