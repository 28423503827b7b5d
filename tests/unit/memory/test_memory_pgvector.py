"""What a memory says to pgvector where there is no PostgreSQL; with one: tests/postgres."""

from pathlib import Path

import pytest

from memedit.errors import InputError
from memedit.index import create_index
from memedit.memory import EditMemory
from support.hashing_encoder import HashingEncoder

KINDS = ("pgvector", "pgvector-hnsw")


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_outside_postgresql_is_refused_before_it_is_made(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "edits.db"
    for url in (path, str(path), ":memory:", f"sqlite:///{path}"):
        with pytest.raises(InputError, match="use flat, hnsw or ivf, or give a postgresql:// URL"):
            EditMemory(url, encoder=HashingEncoder(), index=kind)
    assert not path.exists()


@pytest.mark.parametrize("kind", KINDS)
def test_it_cannot_stand_alone(kind: str) -> None:
    with pytest.raises(InputError, match=r"open one with EditMemory\('postgresql://"):
        create_index(kind, 8)
