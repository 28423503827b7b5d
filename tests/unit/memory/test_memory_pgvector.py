"""What a memory says to pgvector where there is no PostgreSQL; with one: tests/postgres."""

from pathlib import Path

import pytest
from hashing_encoder import HashingEncoder

from memedit.errors import InputError
from memedit.index import create_index
from memedit.memory import EditMemory

KINDS = ("pgvector", "pgvector-hnsw")


@pytest.mark.parametrize("kind", KINDS)
def test_a_sqlite_store_is_refused_and_left_usable(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "edits.db"
    with pytest.raises(InputError, match="is SQLite; use flat, hnsw or ivf, or give a postgresql:// URL"):
        EditMemory(path, encoder=HashingEncoder(), index=kind)
    with EditMemory(path, encoder=HashingEncoder()) as memory:
        assert memory.add("Who leads Norvik?", "Ole").version == 1


@pytest.mark.parametrize("kind", KINDS)
def test_it_cannot_stand_alone(kind: str) -> None:
    with pytest.raises(InputError, match=r"open one with EditMemory\('postgresql://"):
        create_index(kind, 8)
