"""What only PostgreSQL needs: the engine, waiting for a server that is away, the write lock, following its changes."""

import contextlib
import threading
import time
from typing import Any

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from memedit.errors import MissingExtraError, StoreBusyError

LOCK = 0x4D454454
"""Key of the advisory lock that every writer holds for its transaction."""

CHANNEL = "memedit_changes"
"""Notifications' channel; the payload is ``schema:revision``."""

_POOL, _OVERFLOW = 8, 24
_LONGEST_CONNECT = 10
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5
_GONE = frozenset({"57P01", "57P02", "57P03", "57P05"})  # shut down by an administrator, crashed, cannot connect now
_PASSING = ("starting up", "shutting down", "recovery", "not yet accepting", "too many", "connection slots")


def make_engine(url: URL, timeout: float) -> Engine:
    """An engine for ``url`` whose connections are checked before use.

    Raises:
        MissingExtraError: the driver is not installed.
    """
    options: dict[str, Any] = {"application_name": "memedit"}
    options["connect_timeout"] = max(2, min(_LONGEST_CONNECT, round(timeout)))  # libpq takes whole seconds
    try:
        return create_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_pre_ping=True,
            pool_size=_POOL,
            max_overflow=_OVERFLOW,
            pool_timeout=timeout,
            connect_args={key: value for key, value in options.items() if key not in url.query},
        )
    except ModuleNotFoundError as error:
        raise MissingExtraError("psycopg", "postgres") from error


def connect(engine: Engine, timeout: float, url: str) -> Connection:
    """A connection; while the server cannot be reached (it is being restarted, say), tries again until the timeout.

    Raises:
        DBAPIError: the timeout is over, or the server refuses for good.
        StoreBusyError: all connections of this process stayed in use.
    """
    deadline = time.monotonic() + timeout
    pause = _FIRST_PAUSE
    while True:
        try:
            return engine.connect()
        except PoolTimeoutError as error:
            raise StoreBusyError(
                f"{url}: all {_POOL + _OVERFLOW} connections of this process stayed in use for {timeout:g} s; try again"
            ) from error
        except DBAPIError as error:
            if not is_away(error.orig) or time.monotonic() + pause > deadline:
                raise
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def is_away(error: BaseException | None) -> bool:
    """Whether a driver's error says that the server cannot be reached or went away, and may come back."""
    state = getattr(error, "sqlstate", None)
    if state is not None:
        return state[:2] == "08" or state in _GONE
    # errors while connecting carry no code: a server that answers at all says FATAL
    text, kind = str(error), type(error)
    if not kind.__module__.startswith("psycopg"):
        return False
    lost = kind.__name__ in ("OperationalError", "ConnectionTimeout") or "connection is closed" in text
    return lost and ("FATAL:" not in text or any(words in text for words in _PASSING))


def begin_read(connection: Connection) -> Connection:
    """Make the connection's next transaction read one moment of the store, and nothing but read."""
    return connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def take_write_lock(connection: Connection, timeout: float) -> None:
    """Wait for the writers' lock within a transaction, whose commit will have reached the disk.

    The transaction reads committed data: what it sees after it has the lock includes what the holder before wrote.
    """
    connection.exec_driver_sql(
        "SELECT set_config('lock_timeout', %s, true), CASE WHEN current_setting('synchronous_commit') = 'off' "
        "THEN set_config('synchronous_commit', 'on', true) END",
        (f"{max(1, round(timeout * 1000))}ms",),
    )
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")


def announce(connection: Connection, revision: int) -> None:
    """Tell all listeners of ``revision`` when the transaction commits."""
    connection.exec_driver_sql("SELECT pg_notify(%s, current_schema() || ':' || %s)", (CHANNEL, str(revision)))


def rolled_back(transaction: Any) -> None:
    """Roll back; a connection that is gone has been rolled back by the server."""
    with contextlib.suppress(DBAPIError):
        transaction.rollback()


_BEATS, _LONGEST_BEAT = 4, 1.0
_LONGEST_PAUSE = 1.0


class RevisionWatcher:
    """Follows the change counter of one store in a thread of its own, so that look-ups need not ask for it.

    One connection listens for the notifications that every commit sends, and asks for the revision several times
    within the allowed lag besides, so that a lost notification (a pooler that drops them, a broken connection) costs
    nothing but the advantage. What it knows counts only for so long as the lag allows, measured from before it was
    asked; after that look-ups ask the database themselves. Staleness is therefore bounded, not hoped for.

    Args:
        engine: the store's engine; the watcher opens a connection of its own.
        max_lag: seconds for which a confirmed revision counts as the newest.
    """

    def __init__(self, engine: Engine, max_lag: float) -> None:
        self._engine, self._max_lag = engine, max_lag
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._revision = -1
        self._confirmed_at = float("-inf")

    def newest(self) -> int | None:
        """The newest revision known; None when nothing was heard for longer than the lag allows."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="memedit-watcher", daemon=True)
                self._thread.start()
            fresh = time.monotonic() - self._confirmed_at <= self._max_lag
            return self._revision if fresh else None

    def note(self, revision: int) -> None:
        """Take note that ``revision`` exists: made by this process, or heard of otherwise."""
        with self._lock:
            self._revision = max(self._revision, revision)

    def close(self) -> None:
        """Stop following."""
        self._stop.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=self._max_lag + 1.0)

    def _run(self) -> None:
        import psycopg

        pause = 0.0
        while not self._stop.wait(pause):
            try:
                with self._connect() as connection:
                    pause = 0.05
                    self._follow(connection)
            except psycopg.Error:  # the server is away; look-ups ask for themselves and say so
                pause = min(max(2 * pause, 0.05), _LONGEST_PAUSE)

    def _connect(self) -> Any:
        import psycopg

        arguments, options = self._engine.dialect.create_connect_args(self._engine.url)
        timeout = max(2, round(self._max_lag))
        return psycopg.connect(*arguments, **{**options, "connect_timeout": timeout, "autocommit": True})

    def _follow(self, connection: Any) -> None:
        schema = connection.execute("SELECT current_schema()").fetchone()[0]
        connection.execute(f"LISTEN {CHANNEL}")
        while not self._stop.is_set():
            self._confirm(connection)
            for notice in connection.notifies(timeout=min(self._max_lag / _BEATS, _LONGEST_BEAT)):
                where, _, revision = notice.payload.rpartition(":")
                if where == schema and revision.isdigit():
                    self.note(int(revision))

    def _confirm(self, connection: Any) -> None:
        asked_at = time.monotonic()
        row = connection.execute("SELECT value FROM counters WHERE name = 'revision'").fetchone()
        self.note(int(row[0]))
        with self._lock:
            self._confirmed_at = asked_at
