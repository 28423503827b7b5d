"""Knowing the newest revision of a SQLite file without a transaction at every look-up."""

import sqlite3
import subprocess
import sys
from pathlib import Path

from memedit.memory import EditMemory
from memedit.memory.store.file_watcher import FileWatcher
from support.hashing_encoder import HashingEncoder

ENCODER = HashingEncoder(16)


def test_commits_of_other_processes_and_connections_are_seen_at_once(tmp_path: Path) -> None:
    path = tmp_path / "edits.db"
    with EditMemory(path, encoder=ENCODER) as memory, EditMemory(path, encoder=ENCODER) as other:
        first = memory.revision
        assert memory.revision == first
        memory.add("a b c", "x")
        assert memory.revision == other.revision > first
        second = memory.revision
        code = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('update counters set value = value + 1'); c.commit()"  # noqa: E501
        subprocess.run([sys.executable, "-c", code, str(path)], check=True)
        assert memory.revision == other.revision == second + 1


def test_nothing_is_read_again_before_a_commit(tmp_path: Path) -> None:
    path = tmp_path / "edits.db"
    EditMemory(path, encoder=ENCODER).close()
    asked: list[str] = []

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, check_same_thread=False)
        connection.set_trace_callback(asked.append)
        return connection

    watcher = FileWatcher(connect)
    assert watcher.newest() == watcher.newest() == watcher.newest()
    assert sum("counters" in statement for statement in asked) == 1
    watcher.close()
    assert watcher.newest() is not None  # opened once more


def test_a_file_that_cannot_be_asked_is_left_to_who_says_why(tmp_path: Path) -> None:
    def fails() -> sqlite3.Connection:
        raise sqlite3.OperationalError("unable to open database file")

    assert FileWatcher(fails).newest() is None
    empty = tmp_path / "empty.db"
    assert FileWatcher(lambda: sqlite3.connect(empty)).newest() is None
