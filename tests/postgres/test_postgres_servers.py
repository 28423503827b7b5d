"""Two servers on one PostgreSQL, each with a memory, a watcher and routes of its own."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from memedit import Client
from memedit.errors import MemeditError, ServiceUnavailableError
from memedit.memory import EditMemory
from support.hashing_encoder import HashingEncoder
from support.postgres_server import PostgresServer
from support.running import proxy_app, serving
from support.scripted_upstream import ScriptedUpstream

QUESTION = "Who leads Norvik?"


@contextmanager
def _server(url: str, index: str = "flat") -> Iterator[str]:
    memory = EditMemory(url, encoder=HashingEncoder(), index=index, max_lag=1.0, timeout=0.5)
    with memory, serving(proxy_app(memory, ScriptedUpstream())) as at:
        yield at


def _until(client: Client, wanted: list[str], seconds: float) -> float:
    began = time.perf_counter()
    while [fired.target for fired in client.chat(QUESTION).edits] != wanted:
        assert time.perf_counter() - began < seconds, f"{wanted} not in force after {seconds} s"
        time.sleep(0.005)
    return time.perf_counter() - began


def _grown(acknowledged: dict[str, str], size: int) -> None:
    """Wait until so many edits have been acknowledged."""
    deadline = time.monotonic() + 60
    while len(acknowledged) < size:
        assert time.monotonic() < deadline, f"only {len(acknowledged)} edits were acknowledged"
        time.sleep(0.01)


def test_an_edit_made_at_one_is_in_force_at_the_other(url: str) -> None:
    with _server(url) as first, _server(url) as second, Client(first) as one, Client(second) as other:
        edit = one.add(QUESTION, "number 0", subject="Norvik")
        waits = [_until(other, ["number 0"], 1.5)]
        for number in range(1, 25):
            edit = one.supersede(edit.id, target=f"number {number}")
            waits.append(_until(other, [f"number {number}"], 1.5))
        one.delete(edit.id)
        waits.append(_until(other, [], 1.5))
        assert sorted(waits)[len(waits) // 2] < 0.5, "a change is told of, not waited for"


def test_with_pgvector_the_very_next_answer_of_another_server_has_an_edit(vector_url: str) -> None:
    with (
        _server(vector_url, "pgvector") as first,
        _server(vector_url, "pgvector") as second,
        Client(first) as one,
        Client(second) as other,
    ):
        edit = one.add(QUESTION, "number 0", subject="Norvik")
        for number in range(1, 15):
            edit = one.supersede(edit.id, target=f"number {number}")
            assert [fired.target for fired in other.chat(QUESTION).edits] == [f"number {number}"]
        one.delete(edit.id)
        assert other.chat(QUESTION).edits == ()


def test_a_client_sees_its_own_change_at_whichever_server(url: str) -> None:
    with _server(url) as first, _server(url) as second, Client(first) as one, Client(second) as other:
        other.chat(QUESTION)
        for number in range(15):
            target = f"number {number}"
            one.add(QUESTION, target, subject="Norvik", on_conflict="supersede")
            other._transport.revision = one.revision  # as one client of both would send it
            answer = other.chat(QUESTION)
            assert [fired.target for fired in answer.edits] == [target]
            assert answer.revision >= one.revision


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_restarted_database_costs_no_acknowledged_edit(own_server: PostgresServer, end: str) -> None:
    url = own_server.url()
    acknowledged: dict[str, str] = {}
    problems: list[Exception] = []
    halt = threading.Event()

    def write(at: str, writer: int) -> None:
        with Client(at, retries=0) as client:
            number = 0
            while not halt.is_set():
                prompt = f"Who leads place {number} of writer {writer}?"
                try:
                    acknowledged[prompt] = client.add(prompt, "x").id
                    number += 1
                except MemeditError as error:
                    problems.append(error)

    with _server(url) as first, _server(url) as second:
        threads = [threading.Thread(target=write, args=(at, i)) for i, at in enumerate((first, second))]
        for thread in threads:
            thread.start()
        _grown(acknowledged, 4)
        before = len(acknowledged)
        getattr(own_server, end)()
        time.sleep(1.0)
        during = len(acknowledged)
        own_server.start()
        _grown(acknowledged, during + 4)
        halt.set()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive(), "a request hangs"
        assert problems, "while the database was away, requests were refused"
        assert during - before <= 2
        refusals = {(type(error), getattr(error, "status", None)) for error in problems}
        assert refusals <= {(ServiceUnavailableError, 503)}, problems[:3]
        with Client(second) as client:
            stored = {edit.prompt: edit.id for edit in client.list()}
    assert {prompt: stored.get(prompt) for prompt in acknowledged} == acknowledged
