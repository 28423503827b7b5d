"""Knowing the newest revision of a PostgreSQL store without asking at every look-up.

One connection listens for the notifications that every commit sends, and asks for the revision several times within
the allowed lag besides, so that a lost notification (a pooler that drops them, a broken connection) costs nothing but
the advantage. What it knows counts only for so long as the lag allows, measured from before it was asked; after that
look-ups ask the database themselves. Staleness is therefore bounded, not hoped for.
"""

import threading
import time
from typing import Any

from sqlalchemy import Engine

from memedit.memory.postgres import CHANNEL

_BEATS, _LONGEST_BEAT = 4, 1.0
_LONGEST_PAUSE = 1.0


class RevisionWatcher:
    """Follows the change counter of one store in a thread of its own.

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
