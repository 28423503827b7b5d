"""Migrations: what they make, what they accept, and files of the past."""

import sqlite3
import time
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect

from memedit.errors import StoreError, StoreReadOnlyError, StoreVersionError
from memedit.memory import EditMemory
from memedit.memory.migrations import LATEST, MIGRATIONS
from memedit.memory.schema import tables
from support.hashing_encoder import HashingEncoder

OLD_FILE = Path(__file__).parent / "data" / "version1.sql"


@pytest.fixture
def old_file(tmp_path: Path) -> Path:
    """A database as the first version wrote it."""
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(OLD_FILE.read_text(encoding="utf-8"))
    connection.close()
    return path


def shape(path: Path) -> dict[str, object]:
    """Columns and indexes of a SQLite file, in words."""
    found = inspect(create_engine(f"sqlite:///{path}"))
    return {
        table: (
            [(c["name"], str(c["type"]), c["nullable"], c["primary_key"]) for c in found.get_columns(table)],
            sorted((str(i["name"]), i["column_names"], i["unique"]) for i in found.get_indexes(table)),
            found.get_unique_constraints(table) and [u["column_names"] for u in found.get_unique_constraints(table)],
        )
        for table in sorted(found.get_table_names())
    }


def test_migrations_make_the_tables_that_queries_are_written_against(tmp_path: Path) -> None:
    EditMemory(tmp_path / "a.db", encoder=HashingEncoder()).close()
    engine = create_engine(f"sqlite:///{tmp_path / 'b.db'}")
    tables.create_all(engine)
    assert shape(tmp_path / "a.db") == shape(tmp_path / "b.db")
    with sqlite3.connect(tmp_path / "a.db") as one, sqlite3.connect(tmp_path / "b.db") as other:
        partial = "SELECT name FROM sqlite_master WHERE type='index' AND sql LIKE '%expired_at IS NULL' ORDER BY 1"
        assert one.execute(partial).fetchall() == other.execute(partial).fetchall() != []


def test_numbers_are_consecutive_and_recorded(tmp_path: Path) -> None:
    assert [m.number for m in MIGRATIONS] == list(range(1, LATEST + 1))
    EditMemory(tmp_path / "a.db", encoder=HashingEncoder()).close()
    with sqlite3.connect(tmp_path / "a.db") as connection:
        rows = connection.execute("SELECT number, name FROM memedit_migrations ORDER BY number").fetchall()
    assert rows == [(m.number, m.name) for m in MIGRATIONS]


def test_a_file_of_the_first_version_opens_with_everything_in_it(old_file: Path) -> None:
    with EditMemory(old_file, encoder=HashingEncoder()) as memory:
        (atlantis, norvik) = memory.list()
        assert (atlantis.target, atlantis.paraphrases) == ("Poseidonis", ("Atlantis has its capital at",))
        assert (atlantis.kind.value, atlantis.metadata) == ("correction", {"ticket": 12, "tag": "ü"})
        assert norvik.target == "Ada Holm"
        (before,) = (c.other for c in memory.history(norvik.id))
        assert [c.action for c in memory.history(str(before))] == ["add", "superseded"]
        assert [e.target for e in memory.list(namespace="towns")] == ["Ida Lund"]
        assert [e.target for e in memory.list(state="retired")] == ["Ole Berg", "1870"]
        query = memory.encoder.encode_tokens(["Who leads Norvik Shipping?"])
        assert memory.candidates(query)[0][0].edit == norvik
        assert memory.verify().ok
        assert memory.add(atlantis.prompt, atlantis.target, subject="Atlantis", paraphrases=atlantis.paraphrases) == (
            atlantis
        )
        memory.set_setting("threshold", "0.5")
        assert memory.stats().schema_version == LATEST
    assert shape(old_file).keys() == tables.tables.keys()


def test_an_old_file_is_not_migrated_when_opened_read_only(old_file: Path) -> None:
    before = old_file.read_bytes()
    with pytest.raises(StoreReadOnlyError, match="schema version 1"):
        EditMemory(old_file, read_only=True)
    assert old_file.read_bytes() == before


def test_a_file_of_a_newer_version_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    EditMemory(path, encoder=HashingEncoder()).close()
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO memedit_migrations VALUES (99, 'from the future', 0)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreVersionError, match=r"version 99.*upgrade"):
        EditMemory(path)
    assert path.read_bytes() == before


def test_a_failed_migration_leaves_the_old_version(old_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from memedit.memory.migrations import Migration, migrate
    from memedit.memory.store import database

    broken = (*MIGRATIONS[:1], Migration(2, "broken", ("CREATE TABLE half (a INTEGER)", "NOT SQL")))
    monkeypatch.setattr(database, "migrate", lambda connection: migrate(connection, migrations=broken))
    with pytest.raises(StoreError, match="syntax error"):
        EditMemory(old_file)
    monkeypatch.undo()
    assert "half" not in shape(old_file)
    with EditMemory(old_file, encoder=HashingEncoder()) as memory:
        assert memory.count() == 2


def test_opening_is_quick(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with EditMemory(path, encoder=HashingEncoder()) as memory:
        memory.add_many([{"prompt": f"prompt {i}", "target": "x"} for i in range(500)])
    seconds = []
    for _ in range(5):
        started = time.process_time()
        EditMemory(path, encoder=HashingEncoder()).close()
        seconds.append(time.process_time() - started)
    assert min(seconds) < 0.05
