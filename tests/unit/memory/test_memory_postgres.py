"""The same store on PostgreSQL; runs where ``MEMEDIT_TEST_POSTGRES`` is the URL of an empty database."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hashing_encoder import HashingEncoder
from sqlalchemy import create_engine, text

from memedit.errors import ConflictError
from memedit.memory import EditMemory

URL = os.environ.get("MEMEDIT_TEST_POSTGRES", "")
ENCODER = HashingEncoder(16)

pytestmark = pytest.mark.skipif(
    not URL, reason="set MEMEDIT_TEST_POSTGRES to postgresql+psycopg://... of an empty database"
)


@pytest.fixture
def server() -> Iterator[str]:
    """An empty schema."""
    engine = create_engine(URL)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    yield URL
    engine.dispose()


def test_an_edit_lives_its_life_and_others_see_it(server: str) -> None:
    with EditMemory(server, encoder=ENCODER) as memory, EditMemory(server, encoder=ENCODER) as other:
        edit = memory.add("Who leads Norvik?", "Ole", metadata={"a": 1, "b": "x"}, paraphrases=("y z",))
        with pytest.raises(ConflictError):
            other.add("who leads Norvik", "Ida")
        new = memory.supersede(edit.id, target="Ada")
        query = ENCODER.encode_tokens(["who leads Norvik"])
        assert other.candidates(query)[0][0].edit == new
        memory.add_many([{"prompt": f"p {i} q", "target": "t"} for i in range(500)])
        assert [e.id for e in memory.list(metadata={"a": 1, "b": "x"})] == [new.id]
        assert [e.id for e, _ in other.search("NORVIK ada")] == [new.id]
        memory.delete(new.id)
        memory.restore(new.id)
        assert [change.action for change in other.history(new.id)] == ["supersede", "delete", "restore"]
        memory.put_artefacts("recipe", "model", {new.id: b"\0x"})
        assert other.get_artefacts("recipe", "model", [new.id]) == {new.id: b"\0x"}
        memory.set_setting("threshold", "0.5")
        assert other.get_setting("threshold") == "0.5"
        assert memory.rebuild() == 502
        memory.vacuum(forget_before=datetime.now(UTC))
        assert memory.count(state="all") == 501
        assert other.verify().problems == ()
        assert "postgres" in memory.url
