"""Connections and transactions. With ``dialect.py``, the only module that knows which database lies beneath."""

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event, select, update
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import QueuePool, StaticPool

from memedit.errors import InputError, StoreBusyError, StoreCorruptError, StoreReadOnlyError
from memedit.memory import schema
from memedit.memory.migrations import LATEST, check_version, migrate, recorded_version
from memedit.memory.store import postgres
from memedit.memory.store.actor import Acting
from memedit.memory.store.dialect import fold
from memedit.memory.store.failures import committing, translated
from memedit.memory.store.file_watcher import FileWatcher
from memedit.memory.store.files import OpenFile
from memedit.memory.store.postgres import RevisionWatcher

APPLICATION_ID = 0x4D454454  # "MEDT", in the header of every SQLite file of ours
PAGE_BYTES = 8192  # five 384-wide float32 vectors a page; the default of 4096 holds two and wastes a quarter
_LOG_BYTES = 32 << 20  # the log is folded into the file when it reaches this size, not within every large commit
_WRITE = "memedit_write"


class Database:
    """One SQL database: SQLite (a file or memory) or PostgreSQL.

    SQLite runs in WAL mode with ``synchronous=FULL``: a committed transaction has reached the disk. Every write
    transaction takes the write lock at its start (``BEGIN IMMEDIATE``, or an advisory lock in PostgreSQL), so what it
    reads cannot change under it and two writers queue instead of failing.

    Args:
        url: a path, ``":memory:"``, ``sqlite:///path`` or ``postgresql://...``.
        read_only: refuse writes; a file that does not exist is not created.
        timeout: seconds to wait for another process's write lock, and for a server that is away.
        max_lag: seconds by which what this process knows of a server's changes may lag behind; 0 asks every time.
        as_is: leave a schema of an older version as it is, and an empty store empty.

    Raises:
        StoreError: the store cannot be opened, is damaged, not an edit memory, or written by a newer memedit.
    """

    def __init__(
        self,
        url: str | Path,
        *,
        read_only: bool = False,
        timeout: float = 30.0,
        max_lag: float = 0.0,
        as_is: bool = False,
    ) -> None:
        self.path, self.url, remote = _locate(url)
        self.read_only = read_only
        self._timeout = timeout
        self._immutable = False
        self._lock = threading.RLock()
        self.acting = Acting()
        self._advanced = 0
        self._file = OpenFile(self.path)
        self.engine = postgres.make_engine(remote, timeout) if remote else self._sqlite()
        self.watcher = self._watcher(max_lag)
        with translated(self.url, self.path):
            self._prepare(as_is)
        self._file.opened()

    @staticmethod
    def path_of(url: str | Path) -> Path | None:
        """Return the file that an address names; None where it names a server, or this process's memory.

        Raises:
            InputError: no address that can be used.
        """
        return _locate(url)[0]

    @property
    def sqlite(self) -> bool:
        """Whether this is SQLite."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection inside one read transaction: everything read is of one moment."""
        with translated(self.url, self.path), self._guard(), self._connection() as plain:
            connection = plain if self.sqlite else postgres.begin_read(plain)
            with connection.begin():
                yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A connection that holds the write lock; commits at the end, rolls back on an exception.

        Raises:
            StoreReadOnlyError: the store was opened read-only, or the file is.
            StoreBusyError: the lock was not to be had within the timeout.
            StoreUnavailableError: the server cannot be reached, or went away meanwhile.
            StoreFullError: no space is left; nothing was written.

        A file that is no longer at its path, or is another one, is unavailable: what is written would be lost.
        """
        if self.read_only:
            raise StoreReadOnlyError(f"{self.url} is open read-only; open it without read_only=True to change it")
        with translated(self.url, self.path), self._lock, self._connection() as plain:
            connection = plain.execution_options(**{_WRITE: True})
            transaction = self._begin(connection)
            self._advanced = 0
            try:
                yield connection
                self._file.check()
                with committing(self.url):
                    transaction.commit()
            except BaseException:
                postgres.rolled_back(transaction)
                raise
            self._file.check(written=True)
            if self.watcher is not None:
                self.watcher.note(self._advanced)

    def _watcher(self, max_lag: float) -> RevisionWatcher | FileWatcher | None:
        """What knows the newest revision sooner than a transaction does: nothing, for what is in memory."""
        if self.path is not None:
            return FileWatcher(self._connect)
        return RevisionWatcher(self.engine, max_lag) if not self.sqlite and max_lag > 0 else None

    def check_file(self) -> None:
        """Look whether the file is still the one that was opened.

        Raises:
            StoreUnavailableError: it is not; says what to do.
        """
        self._file.check()

    def close(self) -> None:
        """Close all connections."""
        if self.watcher is not None:
            self.watcher.close()
        self.engine.dispose()

    def _connection(self) -> Connection:
        return self.engine.connect() if self.sqlite else postgres.connect(self.engine, self._timeout, self.url)

    def size(self, connection: Connection) -> int | None:
        """Bytes of the database's pages, None where the server does not tell."""
        if not self.sqlite:
            return None
        pages, width = (
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in ("page_count", "page_size")
        )
        return int(pages) * int(width)

    def compact(self) -> None:
        """Give unused pages back to the system.

        Raises:
            StoreReadOnlyError, StoreBusyError, StoreFullError: nothing was changed.
        """
        if self.read_only:
            raise StoreReadOnlyError(f"{self.url} is open read-only and cannot be compacted")
        with translated(self.url, self.path), self._lock:
            if self.sqlite:
                self._raw("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)")
                return
            with self._connection().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql("VACUUM")

    def _guard(self) -> Any:
        """``:memory:`` is one connection, so its readers take turns; files and servers have one per thread."""
        return self._lock if self.path is None and self.sqlite else _NOTHING

    def _begin(self, connection: Connection) -> Any:
        """Begin a write transaction, trying again until the timeout when the lock is taken."""
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                transaction = connection.begin()
                break
            except DBAPIError as error:
                busy = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        if not self.sqlite:
            try:
                postgres.take_write_lock(connection, self._timeout)
            except BaseException:
                postgres.rolled_back(transaction)
                raise
        return transaction

    def _sqlite(self) -> Engine:
        if self.path is None:
            engine = create_engine("sqlite://", creator=self._connect, poolclass=StaticPool)
        else:
            engine = create_engine(
                "sqlite://", creator=self._connect, poolclass=QueuePool, pool_size=8, max_overflow=-1
            )
        event.listen(engine, "begin", _on_begin)
        return engine

    def _connect(self) -> sqlite3.Connection:
        """Open one SQLite connection with the settings that make a commit durable."""
        if self.path is None:
            name = ":memory:"
        else:
            self._file.check()  # else a new, empty file would be made
            mode = "mode=ro" if self.read_only else "mode=rwc"
            name = f"file:{quote(str(self.path))}?{mode}" + ("&immutable=1" if self._immutable else "")
        connection = sqlite3.connect(
            name, uri=True, timeout=self._timeout, isolation_level=None, check_same_thread=False
        )
        connection.create_function("memedit_fold", 1, fold, deterministic=True)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA cache_size=-65536")
        connection.execute("PRAGMA journal_size_limit=67108864")
        connection.execute(f"PRAGMA wal_autocheckpoint={_LOG_BYTES // PAGE_BYTES}")
        return connection

    def _prepare(self, as_is: bool) -> None:
        """Recognise the database and bring it to the newest schema; an up-to-date one is only read."""
        try:
            version = self._recognise()
        except (DBAPIError, sqlite3.OperationalError) as error:
            if not self._fall_back_to_immutable():
                raise
            del error
            version = self._recognise()
        check_version(version, self.url)
        if version == LATEST or as_is:
            return
        if self.read_only:
            raise StoreReadOnlyError(
                f"{self.url} is open read-only and has schema version {version}; it must be brought to {LATEST} first: "
                "open it once with write permission"
            )
        if self.sqlite and version == 0:
            self._retry_busy(self._set_up_file)
        with self.write() as connection:
            check_version(recorded_version(connection), self.url)
            migrate(connection)

    def _recognise(self) -> int:
        """The schema version; 0 when the database is empty.

        Raises:
            StoreCorruptError: a SQLite file that holds something else.
        """
        with self._connection() as connection, connection.begin():
            version = recorded_version(connection)
            if version == 0 and self.sqlite:
                found = connection.exec_driver_sql("SELECT name FROM sqlite_master LIMIT 1").scalar()
                if found is not None:
                    raise StoreCorruptError(
                        f"{self.url} is a SQLite database but not an edit memory (it has {found!r} and no "
                        f"{schema.migrations.name!r}); choose another file"
                    )
        return version

    def _set_up_file(self) -> None:
        """Give a new file its page size, mark and journal mode; none can be set inside a transaction."""
        self._raw(
            f"PRAGMA page_size={PAGE_BYTES}", f"PRAGMA application_id={APPLICATION_ID}", "PRAGMA journal_mode=WAL"
        )

    def _raw(self, *statements: str) -> None:
        """Run statements outside any transaction."""
        raw = self.engine.raw_connection()
        try:
            cursor = raw.cursor()
            for statement in statements:
                cursor.execute(statement)
            cursor.close()
        finally:
            raw.close()

    def _retry_busy(self, action: Any) -> None:
        """Run ``action`` until it is not refused as busy: SQLite's own waiting does not cover a change of journal."""
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                action()
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                if time.monotonic() > deadline:
                    raise StoreBusyError(f"{self.url}: another process is setting it up and does not end") from error
                time.sleep(0.01)

    def _fall_back_to_immutable(self) -> bool:
        """Open a file on read-only media as immutable; WAL would need to create files beside it."""
        if self.path is None or not self.path.is_file() or _writable(self.path.parent):
            return False
        log = self.path.with_name(self.path.name + "-wal")
        if log.exists() and log.stat().st_size > 0:
            return False
        self.engine.dispose()
        self.read_only = self._immutable = True
        return True

    def advance(self, connection: Connection, name: str, count: int) -> int:
        """Raise counter ``name`` by ``count`` and return its first new value. The write lock must be held."""
        column = schema.counters.c
        value = connection.execute(select(column.value).where(column.name == name)).scalar_one()
        connection.execute(update(schema.counters).where(column.name == name).values(value=value + count))
        if name == "revision" and not self.sqlite:
            self._advanced = int(value) + count
            postgres.announce(connection, self._advanced)
        return int(value) + 1


class _Nothing:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


_NOTHING = _Nothing()


def _on_begin(connection: Connection) -> None:
    """Begin as asked: the driver's own implicit BEGIN is off."""
    write = connection.get_execution_options().get(_WRITE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _writable(folder: Path) -> bool:
    """Whether a file can be made in ``folder`` (asks the system: permission bits do not show read-only mounts)."""
    return os.access(folder, os.W_OK)


def exists(url: str | Path) -> bool:
    """Say whether there is a store to open at an address; of a server, and of ``:memory:``, it is not asked.

    Raises:
        InputError: no address that can be used.
    """
    path = _locate(url)[0]
    return path is None or path.exists()


def url_text(url: str | Path) -> str:
    """Return an address for messages: a password in it is hidden.

    Raises:
        InputError: no address that can be used.
    """
    return _locate(url)[1]


def _locate(url: str | Path) -> tuple[Path | None, str, URL | None]:
    """Split a store's address into (file path or None, text for messages, URL of a server or None).

    Raises:
        InputError: no address that can be used.
    """
    if isinstance(url, str) and not url:
        raise InputError("the address of the edit memory is empty; give a path such as edits.db, or ':memory:'")
    if isinstance(url, Path) or "://" not in url:
        if "\0" in str(url):
            raise InputError(f"the path {str(url)!r} holds a NUL character")
        return (None, ":memory:", None) if str(url) == ":memory:" else (Path(url), str(url), None)
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise InputError(f"{url!r} is not a database URL: {error}") from error
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        database = parsed.database
        return (None, ":memory:", None) if database in (None, "", ":memory:") else (Path(database), url, None)
    if backend not in ("postgresql", "postgres"):
        raise InputError(f"{backend!r} databases are not supported (in {url!r}); use a file path or postgresql://")
    return None, parsed.render_as_string(hide_password=True), parsed
