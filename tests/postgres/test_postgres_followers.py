"""Memories of several processes on one PostgreSQL: who sees what, when, and without asking how often."""

import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from sqlalchemy import event

from memedit.errors import InputError
from memedit.memory import EditMemory
from support import environment
from support.hashing_encoder import HashingEncoder
from support.postgres_server import PostgresServer

ENCODER = HashingEncoder(16)
LAG = 1.0


def _targets(memory: EditMemory, question: str) -> list[str]:
    found = memory.candidates(ENCODER.encode_tokens([question]))[0]
    return [candidate.edit.target for candidate in found]


def _until(condition: Callable[[], bool], seconds: float) -> float:
    """Seconds until the condition holds; at most so many."""
    began = time.perf_counter()
    while not condition():
        assert time.perf_counter() - began < seconds, "did not come true in time"
        time.sleep(0.002)
    return time.perf_counter() - began


def _statements(memory: EditMemory) -> list[str]:
    """Every statement that the memory's pool runs from now on."""
    seen: list[str] = []
    event.listen(memory._database.engine, "before_cursor_execute", lambda *args: seen.append(args[2]))
    return seen


def test_look_ups_between_changes_ask_the_database_nothing(url: str) -> None:
    with EditMemory(url, encoder=ENCODER, max_lag=LAG) as memory, EditMemory(url, encoder=ENCODER) as writer:
        writer.add("Who leads Norvik?", "Ole")
        assert _targets(memory, "Who leads Norvik?") == ["Ole"]
        _until(lambda: memory._database.watcher.newest() == 1, 5.0)
        statements = _statements(memory)
        for _ in range(20):
            assert _targets(memory, "Who leads Norvik?") == ["Ole"]
            assert memory.revision == 1
        assert statements == []


def test_changes_of_another_process_are_in_force_within_the_lag(url: str) -> None:
    with EditMemory(url, encoder=ENCODER, max_lag=LAG) as memory, EditMemory(url, encoder=ENCODER) as writer:
        edit = writer.add("Who leads Norvik?", "number 0")
        _until(lambda: _targets(memory, "Who leads Norvik?") == ["number 0"], LAG)
        waits = []
        for number in range(1, 30):
            edit = writer.supersede(edit.id, target=f"number {number}")
            waits.append(
                _until(lambda wanted=f"number {number}": _targets(memory, "Who leads Norvik?") == [wanted], LAG)
            )
        assert sorted(waits)[len(waits) // 2] < 0.2, "notifications arrive at once, not with the next heartbeat"
        writer.delete(edit.id)
        _until(lambda: _targets(memory, "Who leads Norvik?") == [], LAG)


def test_its_own_changes_are_in_force_at_once(url: str) -> None:
    with EditMemory(url, encoder=ENCODER, max_lag=60.0) as memory:
        assert _targets(memory, "Who leads Norvik?") == []
        _until(lambda: memory._database.watcher.newest() == 0, 5.0)
        edit = memory.add("Who leads Norvik?", "Ole")
        assert _targets(memory, "Who leads Norvik?") == ["Ole"]
        memory.delete(edit.id)
        assert _targets(memory, "Who leads Norvik?") == []
        assert memory.revision == 2


def test_a_revision_that_was_handed_over_is_seen_at_once(url: str) -> None:
    with EditMemory(url, encoder=ENCODER, max_lag=60.0) as memory, EditMemory(url, encoder=ENCODER) as writer:
        _until(lambda: memory._database.watcher is not None and memory._database.watcher.newest() == 0, 5.0)
        memory._database.watcher.note = lambda revision, note=memory._database.watcher.note: (
            note(revision) if sys._getframe(1).f_code.co_name == "require_revision" else None
        )  # deaf to notifications
        writer.add("Who leads Norvik?", "Ole")
        memory.require_revision(writer.revision)
        assert _targets(memory, "Who leads Norvik?") == ["Ole"]
        with pytest.raises(InputError, match="revision 99 does not exist yet; the store is at 1"):
            memory.require_revision(99)


def test_a_lost_notification_delays_no_longer_than_the_lag(url: str) -> None:
    with EditMemory(url, encoder=ENCODER, max_lag=0.4) as memory, EditMemory(url, encoder=ENCODER) as writer:
        _until(lambda: memory._database.watcher.newest() is not None or bool(_targets(memory, "x")), 5.0)
        with writer._database.engine.begin() as connection:  # as a pooler that drops notifications
            connection.exec_driver_sql("CREATE FUNCTION pg_notify(text, text) RETURNS void LANGUAGE sql AS ''")
            schema = connection.exec_driver_sql("SELECT current_schema()").scalar()
        silent = url + ",pg_catalog"
        with EditMemory(silent, encoder=ENCODER) as mute:
            assert schema in silent
            mute.add("Who leads Norvik?", "Ole")
        _until(lambda: _targets(memory, "Who leads Norvik?") == ["Ole"], 0.6)


def test_a_broken_listening_connection_is_made_again(url: str, shared_server: PostgresServer) -> None:
    with EditMemory(url, encoder=ENCODER, max_lag=LAG) as memory, EditMemory(url, encoder=ENCODER) as writer:
        _until(lambda: memory._database.watcher.newest() is not None, 5.0)
        shared_server.run_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND state = 'idle'"
        )
        writer.add("Who leads Norvik?", "Ole")
        _until(lambda: _targets(memory, "Who leads Norvik?") == ["Ole"], LAG + 0.2)
        _until(lambda: memory._database.watcher.newest() == 1, 5.0)


def test_schemas_of_one_database_do_not_hear_each_other(url: str, shared_server: PostgresServer) -> None:
    shared_server.run_sql("CREATE SCHEMA IF NOT EXISTS elsewhere")
    other = f"{shared_server.url()}?options=-csearch_path%3Delsewhere"
    with EditMemory(url, encoder=ENCODER, max_lag=LAG) as memory, EditMemory(other, encoder=ENCODER) as writer:
        _until(lambda: memory._database.watcher.newest() == 0, 5.0)
        writer.add_many([{"prompt": f"p {i} q", "target": "t"} for i in range(5)])
        time.sleep(0.3)
        assert memory._database.watcher.newest() == 0


_WRITER = """
from support.hashing_encoder import HashingEncoder
from memedit.memory import EditMemory
with EditMemory({url!r}, encoder=HashingEncoder(16)) as memory:
    for number in range({count}):
        memory.add(f"Who leads place {{number}} of {name}?", "x")
"""


def test_writers_in_several_processes_lose_nothing_and_skip_no_revision(url: str) -> None:
    with EditMemory(url, encoder=ENCODER, max_lag=LAG) as memory:
        writers = [
            subprocess.Popen([sys.executable, "-c", _WRITER.format(url=url, count=15, name=name)], env=environment())
            for name in ("Norvik", "Sudvik")
        ]
        assert [writer.wait() for writer in writers] == [0, 0]
        assert memory.count() == 30
        _until(lambda: memory.revision == 30, LAG)
        assert memory.verify().problems == ()


def test_closing_ends_the_listener(url: str, shared_server: PostgresServer) -> None:
    memory = EditMemory(url, encoder=ENCODER, max_lag=LAG)
    _until(lambda: memory._database.watcher.newest() is not None, 5.0)
    thread = memory._database.watcher._thread
    memory.close()
    assert thread is not None
    assert not thread.is_alive()
