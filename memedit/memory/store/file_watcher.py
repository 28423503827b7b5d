"""Knowing the newest revision of a SQLite file without a transaction at every look-up."""

import sqlite3
import threading
from collections.abc import Callable

_NEWEST = "SELECT value FROM counters WHERE name = 'revision'"


class FileWatcher:
    """Asks for the revision again only after a commit, of any process: SQLite counts these for each connection.

    ``PRAGMA data_version`` of a connection that writes nothing itself changes with every commit of all others, and
    takes a hundredth of the time of a query in a transaction of its own.

    Args:
        connect: opens a connection to the file.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._seen: int | None = None
        self._revision = -1

    def newest(self) -> int | None:
        """The newest revision; None when the file cannot be asked, so that who asks it otherwise says why."""
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = self._connect()
                version = self._connection.execute("PRAGMA data_version").fetchone()[0]
                if version != self._seen:  # a commit between both questions is seen at the next
                    self._revision = int(self._connection.execute(_NEWEST).fetchone()[0])
                    self._seen = version
            except (sqlite3.Error, TypeError):  # TypeError: there is no such row
                self._seen = None
                return None
            return self._revision

    def note(self, revision: int) -> None:
        """Nothing is to be noted: the file is asked."""

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection, self._seen = None, None
