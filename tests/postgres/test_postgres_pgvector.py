"""Neighbours found by pgvector: as FAISS finds them, of one moment with the rest, and without anything to catch up."""

import inspect
import random
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Connection

from memedit.errors import (
    FingerprintMismatchError,
    InputError,
    StoreReadOnlyError,
    VectorIndexError,
)
from memedit.index import create_index
from memedit.index.pgvector import PgvectorIndex, PgvectorTable
from memedit.memory import EditMemory, reading
from support import environment
from support.hashing_encoder import HashingEncoder
from support.postgres_server import PostgresServer
from unit.memory import test_edit_memory, test_memory_upkeep

ENCODER = HashingEncoder(16)
KINDS = ("pgvector", "pgvector-hnsw")

for _module in (test_edit_memory, test_memory_upkeep):
    for _name, _test in list(vars(_module).items()):
        if _name.startswith("test_") and "memory" in inspect.signature(_test).parameters:
            globals()[_name] = _test  # runs with the fixture ``memory`` below


@pytest.fixture
def memory(vector_url: str, encoder: HashingEncoder) -> Iterator[EditMemory]:
    """An empty memory whose neighbours pgvector finds."""
    with EditMemory(vector_url, encoder=encoder, index="pgvector") as found:
        yield found


@pytest.fixture
def table(vector_url: str) -> Iterator[tuple[Connection, PgvectorTable]]:
    """An empty table of width 8, in a transaction."""
    with EditMemory(vector_url, encoder=ENCODER, index="pgvector") as memory, memory._database.write() as connection:
        schema = connection.exec_driver_sql("SELECT current_schema()").scalar_one()
        found = PgvectorTable(schema, 'odd "name" of 100%', "public", 8)
        found.create(connection)
        found.finish(connection)
        yield connection, found


def _candidates(memory: EditMemory, questions: list[str], **options: object) -> list[list[tuple[str, float]]]:
    found = memory.candidates(ENCODER.encode_tokens(questions), **options)
    return [[(c.edit.id, round(c.similarity, 4)) for c in row] for row in found]


def _everything(memory: EditMemory, questions: list[str], space: str) -> list[dict[str, float]]:
    return [dict(row) for row in _candidates(memory, questions, k=1_000, namespace=space)]


def _scores(memory: EditMemory, questions: list[str], space: str, k: int) -> list[list[float]]:
    """Without the ids: which of several equal ones come first is each index's own affair."""
    return [[score for _, score in row] for row in _candidates(memory, questions, k=k, namespace=space)]


def _targets(memory: EditMemory, question: str) -> list[str]:
    return [c.edit.target for c in memory.candidates(ENCODER.encode_tokens([question]))[0]]


def _drafts(count: int, word: str = "thing") -> list[dict[str, str]]:
    return [{"prompt": f"{word} {i} is", "target": "t", "subject": f"{word} {i}"} for i in range(count)]


# --- the index by itself


def test_it_finds_what_the_exact_index_finds(table: tuple[Connection, PgvectorTable]) -> None:
    connection, where = table
    rng = np.random.default_rng(0)
    index = PgvectorIndex(8, connection=connection, table=where, namespace="a")
    other = PgvectorIndex(8, connection=connection, table=where, namespace="b")
    reference = create_index("exact", 8)
    queries = rng.standard_normal((70, 8)).astype(np.float32)  # more than one statement takes
    other.add(np.arange(10_000, 10_050), rng.standard_normal((50, 8)).astype(np.float32))
    for step in range(6):
        ids = rng.integers(0, 200, 60)
        vectors = rng.standard_normal((60, 8)).astype(np.float32)
        index.add(ids, vectors), reference.add(ids, vectors)
        gone = rng.integers(0, 200, 20 * step)
        assert index.remove(gone) == reference.remove(gone)
        assert len(index) == len(reference)
        for k in (1, 7, 500):
            scores, found = index.search(queries, k)
            expected, keys = reference.search(queries, k)
            np.testing.assert_array_equal(found, keys)
            np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert len(other) == 50


def test_equal_scores_come_in_the_order_of_their_ids(table: tuple[Connection, PgvectorTable]) -> None:
    connection, where = table
    index = PgvectorIndex(8, connection=connection, table=where)
    index.add(np.array([9, 3, 5]), np.ones((3, 8), dtype=np.float32))
    scores, ids = index.search(np.ones((1, 8), dtype=np.float32), 4)
    assert ids.tolist() == [[3, 5, 9, -1]]
    assert scores.tolist() == [[8.0, 8.0, 8.0, -np.inf]]


def test_numbers_arrive_as_they_are(table: tuple[Connection, PgvectorTable]) -> None:
    connection, where = table
    index = PgvectorIndex(8, connection=connection, table=where)
    vector = np.array([[1e-38, -1e-45, 0.1, 1 / 3, -0.0, 65504.5, 1.1754944e-38, 3e20]], dtype=np.float32)
    index.add(np.array([1]), vector)
    sent = connection.exec_driver_sql(f"SELECT vector_send FROM {where.full_name}, public.vector_send(vector)").scalar()
    np.testing.assert_array_equal(np.frombuffer(sent, dtype=">f4", offset=4), vector[0])


@pytest.mark.parametrize("queries", [np.ones((1, 7)), np.ones(8), np.full((1, 8), np.nan)])
def test_bad_queries_are_refused(table: tuple[Connection, PgvectorTable], queries: np.ndarray) -> None:
    connection, where = table
    index = PgvectorIndex(8, connection=connection, table=where)
    with pytest.raises(InputError):
        index.search(queries, 1)
    with pytest.raises(InputError, match="k=0"):
        index.search(np.ones((1, 8)), 0)
    with pytest.raises(InputError, match="width 8, not 7"):
        PgvectorIndex(7, connection=connection, table=where)
    with pytest.raises(VectorIndexError, match="lies in the database"):
        index.save(Path("nowhere") / "index.json")


# --- in a memory


def _change(chance: random.Random, memory: EditMemory, space: str, step: int) -> str:
    """Change something of the namespace; return the prompt of an edit that was there before."""
    edits = memory.list(state="all", namespace=space)
    edit = chance.choice(edits)
    if edit.state == "retired":
        memory.restore(edit.id, namespace=space, on_conflict="keep")
        return edit.prompt
    some = [found.id for found in chance.sample(edits, 9) if found.state != "retired"]
    more = [f"more {step} {i} of {chance.random()}" for i in range(3)]
    soon = datetime.now(UTC) + timedelta(days=1)
    changes = [
        lambda: memory.add(more[0], "t", paraphrases=more[1:], namespace=space),
        lambda: memory.update(edit.id, prompt=f"changed {step} is", paraphrases=("p q", "r s"), namespace=space),
        lambda: memory.supersede(edit.id, target=f"new {step}", namespace=space),
        lambda: memory.delete(edit.id, namespace=space),
        lambda: memory.set_states(some, chance.choice(["pending", "active", "consolidated"]), namespace=space),
        lambda: memory.update(edit.id, metadata={"step": step}, valid_at=soon, namespace=space),
        lambda: memory.update(edit.id, valid_at=None, state="pending", namespace=space),
    ]
    chance.choice(changes)()
    return edit.prompt


@pytest.mark.parametrize("kind", KINDS)
def test_it_agrees_with_faiss_through_a_life(vector_url: str, kind: str) -> None:
    chance = random.Random(7)
    with (
        EditMemory(vector_url, encoder=ENCODER) as faiss,
        EditMemory(vector_url, encoder=ENCODER, index=kind) as memory,
    ):
        for space in ("default", "other"):
            faiss.add_many(_drafts(30, space), namespace=space)
        for step in range(40):
            space = chance.choice(["default", "other"])
            prompt = _change(chance, chance.choice([faiss, memory]), space, step)
            questions = [prompt, "more of it", "default 3 is"]
            assert _everything(memory, questions, space) == _everything(faiss, questions, space)
            for k in (1, 5):
                assert _scores(memory, questions, space, k) == _scores(faiss, questions, space, k)
        for space in ("default", "other"):
            assert memory.verify(namespace=space).problems == ()
            assert memory.stats(namespace=space).index_rows == memory.verify(namespace=space).index_rows > 0
        faiss.vacuum(forget_before=datetime.now(UTC))
        assert _everything(memory, ["default 3 is"], "default") == _everything(faiss, ["default 3 is"], "default")
        assert memory.verify().problems == ()


def test_there_is_no_lag_however_much_is_allowed(vector_url: str) -> None:
    with (
        EditMemory(vector_url, encoder=ENCODER, index="pgvector", max_lag=3600.0) as memory,
        EditMemory(vector_url, encoder=ENCODER) as writer,
    ):
        edit = writer.add("Who leads Norvik?", "number 0")
        for number in range(1, 20):
            assert _targets(memory, "Who leads Norvik?") == [f"number {number - 1}"]
            edit = writer.supersede(edit.id, target=f"number {number}")
        writer.delete(edit.id)
        assert _targets(memory, "Who leads Norvik?") == []


def test_a_change_that_is_rolled_back_leaves_no_neighbour(vector_url: str) -> None:
    with EditMemory(vector_url, encoder=ENCODER, index="pgvector") as memory:
        memory.add("Who leads Norvik?", "Ole")
        assert _targets(memory, "Who leads Norvik?") == ["Ole"]
        with memory._database.engine.begin() as connection:  # the last statement of a change fails
            connection.exec_driver_sql("ALTER TABLE changes ADD CONSTRAINT few CHECK (revision < 2)")
        with pytest.raises(Exception, match="few"):
            memory.add("Who leads Sudvik?", "Ida")
        with memory._database.read() as connection:
            count = connection.exec_driver_sql("SELECT count(*) FROM neighbours_1").scalar()
        assert count == 1
        assert _targets(memory, "Who leads Norvik?") == ["Ole"]


def test_what_was_there_before_is_found_too(vector_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_KEYS_PER_READ", 64)
    with EditMemory(vector_url, encoder=ENCODER) as memory:
        memory.add_many(_drafts(300), on_conflict="keep")
        memory.add_many(_drafts(20, "word"), namespace="small")
        expected = _everything(memory, ["thing 17 is", "thing 299 is"], "default")
    with EditMemory(vector_url, encoder=ENCODER, index="pgvector") as memory:
        assert memory.stats().index_rows is None
        assert _everything(memory, ["thing 17 is", "thing 299 is"], "default") == expected
        assert memory.stats().index_rows == 300
        assert memory.verify().problems == ()


def test_hnsw_finds_the_nearest_and_all_of_a_small_namespace(vector_url: str) -> None:
    with EditMemory(vector_url, encoder=ENCODER) as memory:
        memory.add_many(_drafts(1_500), on_conflict="keep")
        memory.add_many(_drafts(30, "word"), namespace="small")
        questions = [f"thing {i} is" for i in range(0, 1_500, 50)]
        expected = memory.candidates(ENCODER.encode_tokens(questions), k=10)
    with EditMemory(vector_url, encoder=ENCODER, index="pgvector-hnsw") as memory:
        found = memory.candidates(ENCODER.encode_tokens(questions), k=10)
        shared = [
            len({c.edit.id for c in a} & {c.edit.id for c in b}) / len(a) for a, b in zip(expected, found, strict=True)
        ]
        assert np.mean(shared) >= 0.95
        rows = memory.candidates(ENCODER.encode_tokens(["word 3 is", "thing 3 is"]), k=30, namespace="small")
        assert [len(row) for row in rows] == [30, 30]
        with memory._database.read() as connection:
            names = connection.exec_driver_sql("SELECT indexname FROM pg_indexes WHERE tablename = 'neighbours_1'")
            assert "neighbours_1_hnsw" in names.scalars().all()
    with EditMemory(vector_url, encoder=ENCODER, index="pgvector") as memory:  # the same table, searched exactly
        assert _scores(memory, questions, "default", 10) == [[round(c.similarity, 4) for c in row] for row in expected]


def test_vectors_too_wide_for_a_page_are_found(vector_url: str) -> None:
    wide = HashingEncoder(2_500)
    with EditMemory(vector_url, encoder=wide, index="pgvector") as memory:
        memory.add_many(_drafts(20))
        found = memory.candidates(wide.encode_tokens(["thing 7 is"]), k=1)[0]
        assert found[0].edit.prompt == "thing 7 is"


def test_verify_sees_a_table_out_of_step_and_rebuild_mends_it(vector_url: str) -> None:
    with EditMemory(vector_url, encoder=ENCODER, index="pgvector") as memory:
        memory.add_many(_drafts(20))
        assert memory.verify().problems == ()
        with memory._database.engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM neighbours_1 WHERE key >> 12 = 3")
            connection.exec_driver_sql(
                "INSERT INTO neighbours_1 SELECT 900 << 12, namespace, vector FROM neighbours_1 WHERE key >> 12 = 4"
            )
            connection.exec_driver_sql(
                "UPDATE neighbours_1 SET vector = (SELECT vector FROM neighbours_1 WHERE key >> 12 = 6) "
                "WHERE key >> 12 = 5"
            )
        problems = memory.verify().problems
        assert any("1 vectors of no text in force" in problem for problem in problems)
        for key in (3 << 12, 5 << 12):
            assert f"pgvector's table lacks vector {key} or has another than the edit" in problems
        assert memory.rebuild() == 20
        assert memory.verify().problems == ()
        assert _targets(memory, "thing 3 is") != []


def test_another_encoder_has_a_table_of_its_own(vector_url: str) -> None:
    other = HashingEncoder(24)
    with EditMemory(vector_url, encoder=ENCODER, index="pgvector") as memory:
        memory.add("Who leads Norvik?", "Ole")
        assert _targets(memory, "Who leads Norvik?") == ["Ole"]
    with EditMemory(vector_url, encoder=other, index="pgvector") as memory:
        with pytest.raises(FingerprintMismatchError):
            memory.candidates(other.encode_tokens(["Who leads Norvik?"]))
        memory.rebuild()
        memory.add("Who leads Sudvik?", "Ida")
        assert memory.candidates(other.encode_tokens(["Who leads Sudvik?"]), k=1)[0][0].edit.target == "Ida"
        assert memory.verify().problems == ()


def test_a_look_up_survives_the_loss_of_its_connections(vector_url: str, vector_server: PostgresServer) -> None:
    with EditMemory(vector_url, encoder=ENCODER, index="pgvector", max_lag=1.0) as memory:
        memory.add("Who leads Norvik?", "Ole")
        for _ in range(3):
            assert _targets(memory, "Who leads Norvik?") == ["Ole"]
            vector_server.run_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )


_WRITER = """
from support.hashing_encoder import HashingEncoder
from memedit.memory import EditMemory
encoder = HashingEncoder(16)
with EditMemory({url!r}, encoder=encoder, index={kind!r}) as memory:
    for number in range(12):
        memory.add(f"Who leads place {{number}} of {name}?", "x")
        assert memory.candidates(encoder.encode_tokens([f"Who leads place {{number}} of {name}?"]))[0]
"""


def test_processes_that_make_the_table_at_once_and_write_lose_nothing(vector_url: str) -> None:
    with EditMemory(vector_url, encoder=ENCODER) as memory:
        memory.add("Who leads Norvik?", "Ole")
        code = [
            _WRITER.format(url=vector_url, name=name, kind=kind)
            for name, kind in (("Norvik", "pgvector"), ("Sudvik", "pgvector"), ("Oslo", "flat"))
        ]
        writers = [subprocess.Popen([sys.executable, "-c", text], env=environment()) for text in code]
        assert [writer.wait() for writer in writers] == [0, 0, 0]
    with EditMemory(vector_url, encoder=ENCODER, index="pgvector") as memory:
        report = memory.verify()
        assert (report.index_rows, report.problems) == (37, ())


# --- when it cannot be had


def test_a_server_without_the_extension_is_told_what_to_install(url: str, shared_server: PostgresServer) -> None:
    if shared_server.offers_pgvector():
        pytest.skip("the server of this machine has the extension")
    with pytest.raises(VectorIndexError, match=r"package postgresql-\d+-pgvector .*leave the index at flat"):
        EditMemory(url, encoder=ENCODER, index="pgvector")


def test_a_role_that_may_not_create_it_is_told_who_may(vector_server: PostgresServer) -> None:
    vector_server.run_sql("CREATE ROLE humble LOGIN")
    vector_server.run_sql("CREATE DATABASE modest OWNER humble")
    url = vector_server.url("modest").replace("memedit@", "humble@")
    with pytest.raises(VectorIndexError, match=r"administrator run CREATE EXTENSION vector .*flat"):
        EditMemory(url, encoder=ENCODER, index="pgvector")
    vector_server.run_sql("CREATE EXTENSION vector", "modest")
    with EditMemory(url, encoder=ENCODER, index="pgvector") as memory:
        memory.add("Who leads Norvik?", "Ole")
        assert _targets(memory, "Who leads Norvik?") == ["Ole"]


def test_a_store_open_read_only_uses_the_table_but_makes_none(vector_url: str) -> None:
    with EditMemory(vector_url, encoder=ENCODER) as memory:
        memory.add("Who leads Norvik?", "Ole")
    with EditMemory(vector_url, encoder=ENCODER, index="pgvector") as memory:
        memory.stats()  # the extension is there from now on
    with (
        EditMemory(vector_url, encoder=ENCODER, index="pgvector", read_only=True) as memory,
        pytest.raises(StoreReadOnlyError, match="look something up in it once with write permission"),
    ):
        _targets(memory, "Who leads Norvik?")
    with EditMemory(vector_url, encoder=ENCODER, index="pgvector") as memory:
        _targets(memory, "Who leads Norvik?")
    with EditMemory(vector_url, encoder=ENCODER, index="pgvector", read_only=True) as memory:
        assert _targets(memory, "Who leads Norvik?") == ["Ole"]


def test_hnsw_refuses_an_extension_that_is_too_old(vector_server: PostgresServer) -> None:
    vector_server.run_sql("CREATE DATABASE aged")
    vector_server.run_sql("CREATE EXTENSION vector", "aged")
    vector_server.run_sql("UPDATE pg_extension SET extversion = '0.7.4' WHERE extname = 'vector'", "aged")
    with pytest.raises(VectorIndexError, match=r"needs pgvector 0\.8 or newer, .* has 0\.7\.4"):
        EditMemory(vector_server.url("aged"), encoder=ENCODER, index="pgvector-hnsw")
    with EditMemory(vector_server.url("aged"), encoder=ENCODER, index="pgvector") as memory:
        assert memory.count() == 0


def test_options_of_the_index_are_refused(vector_url: str) -> None:
    with pytest.raises(InputError, match="takes no index_options"):
        EditMemory(vector_url, encoder=ENCODER, index="pgvector", index_options={"probes": 3})
