"""What SQLite's tests hold of an edit memory holds in PostgreSQL."""

import inspect
from datetime import UTC, datetime

import pytest

from memedit.errors import ConflictError, InputError, StoreError, StoreReadOnlyError
from memedit.memory import EditMemory
from support.hashing_encoder import HashingEncoder
from support.postgres_server import PostgresServer
from unit.memory import (
    test_edit_memory,
    test_memory_bad_input,
    test_memory_formats,
    test_memory_service,
    test_memory_upkeep,
)

ENCODER = HashingEncoder(16)

for _module in (test_edit_memory, test_memory_bad_input, test_memory_formats, test_memory_service, test_memory_upkeep):
    for _name, _test in list(vars(_module).items()):
        if _name.startswith("test_") and "memory" in inspect.signature(_test).parameters:
            globals()[_name] = _test  # runs with the fixture ``memory`` of this folder


def test_an_edit_lives_its_life_and_others_see_it(url: str) -> None:
    with EditMemory(url, encoder=ENCODER) as memory, EditMemory(url, encoder=ENCODER) as other:
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


@pytest.mark.parametrize("scheme", ["postgres://", "postgresql://", "postgresql+psycopg://"])
def test_the_usual_forms_of_a_url_are_understood(url: str, scheme: str) -> None:
    with EditMemory(url.replace("postgresql://", scheme), encoder=ENCODER) as memory:
        assert memory.count() == 0


def test_a_password_is_never_shown(shared_server: PostgresServer) -> None:
    url = shared_server.url("nowhere").replace("memedit@", "memedit:hunter2@")
    with pytest.raises(StoreError, match="does not exist") as caught:
        EditMemory(url, encoder=ENCODER)
    assert "hunter2" not in str(caught.value)


def test_a_role_that_may_only_read_is_told_so(url: str, shared_server: PostgresServer) -> None:
    with EditMemory(url, encoder=ENCODER) as memory:
        memory.add("Who leads Norvik?", "Ole")
    schema = url.rpartition("%3D")[2]
    shared_server.run_sql(
        f"CREATE ROLE reader LOGIN; GRANT USAGE ON SCHEMA {schema} TO reader; "
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO reader"
    )
    with EditMemory(url.replace("memedit@", "reader@"), encoder=ENCODER) as memory:
        assert memory.candidates(ENCODER.encode_tokens(["Who leads Norvik?"]))[0][0].edit.target == "Ole"
        with pytest.raises(StoreReadOnlyError, match="grant this role"):
            memory.add("Who leads Sudvik?", "Ida")


def test_a_look_up_sees_one_moment_of_the_store(url: str) -> None:
    with EditMemory(url, encoder=ENCODER) as memory, EditMemory(url, encoder=ENCODER) as other:
        with memory._database.read() as connection:
            first = connection.exec_driver_sql("SELECT count(*) FROM edits").scalar()
            other.add("Who leads Norvik?", "Ole")
            assert connection.exec_driver_sql("SELECT count(*) FROM edits").scalar() == first
        with memory._database.read() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM edits").scalar() == first + 1


def test_a_commit_reaches_the_disk_whatever_the_database_is_set_to(url: str, shared_server: PostgresServer) -> None:
    shared_server.run_sql(["CREATE DATABASE hasty", " ALTER DATABASE hasty SET synchronous_commit = off"][0])
    shared_server.run_sql("ALTER DATABASE hasty SET synchronous_commit = off")
    with EditMemory(shared_server.url("hasty"), encoder=ENCODER) as memory:
        with memory._database.read() as connection:
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "off"
        with memory._database.write() as connection:
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"


def test_a_lag_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(InputError, match="max_lag=-1"):
        EditMemory(":memory:", encoder=ENCODER, max_lag=-1)
