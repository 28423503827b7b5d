"""Changes that wait hold up nobody but one another, and one key's many no other key's few."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from memedit.memory import EditMemory
from memedit.server.engines.base import Provenance
from memedit.server.settings import ServerSettings
from support.hashing_encoder import HashingEncoder
from support.running_server import RunningServer, local_engine, serve

pytestmark = pytest.mark.slow


@pytest.fixture
def busy(tiny_llama: Any, tiny_chat_tokenizer: Any, tmp_path: Path) -> Iterator[RunningServer]:
    with EditMemory(tmp_path / "edits.db", encoder=HashingEncoder(64), timeout=300) as memory:
        engine, lookups = local_engine(tiny_llama, tiny_chat_tokenizer, memory)
        settings = ServerSettings(requests_per_minute=0, max_waiting_changes=60)
        with serve(engine, lookups, settings) as server:
            yield server


def client_of(server: RunningServer, name: str, *roles: str) -> httpx.Client:
    _, secret = server.lookups.memory.keys.create(name, roles=list(roles), namespaces=[name])
    limits = httpx.Limits(max_connections=200)
    return server.client(headers={"Authorization": f"Bearer {secret}"}, limits=limits)


def write(client: httpx.Client, number: int) -> tuple[int, float, str]:
    body = {"prompt": f"The size of thing {number} is", "target": "x"}
    response = client.post("/v1/edits", json=body)
    return response.status_code, time.monotonic(), response.headers.get("retry-after", "")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the store's write lock, as a long import of another process does."""
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def await_waiting(server: RunningServer, count: int) -> None:
    """Wait until so many changes wait beside those under way."""
    changes = server.app.state.memedit.changes
    deadline = time.monotonic() + 60
    while changes.waiting < count and time.monotonic() < deadline:
        time.sleep(0.05)
    assert changes.waiting == count


def test_waiting_changes_hold_up_no_reader(busy: RunningServer, tmp_path: Path) -> None:
    with client_of(busy, "loud", "edit") as loud, client_of(busy, "quiet", "generate", "read", "edit") as quiet:
        chat = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
        quiet.post("/v1/chat/completions", json=chat)
        with ThreadPoolExecutor(70) as pool:
            with locked(tmp_path / "edits.db"):
                writes = [pool.submit(write, loud, number) for number in range(70)]
                await_waiting(busy, 60)
                for path in ("/ready", "/v1/edits", "/metrics", "/v1/chat/completions"):
                    response = quiet.post(path, json=chat) if "chat" in path else quiet.get(path)
                    assert response.status_code in (200, 403), response.text
                assert not any(one.done() and one.result()[0] == 201 for one in writes), "the lock was not held"
            statuses = [one.result()[0] for one in writes]
        assert statuses.count(429) == 70 - 60 - 1, "a bounded number may wait beside the one under way"
        assert set(statuses) == {201, 429}
        assert "" not in {wait for status, _, wait in (one.result() for one in writes) if status == 429}


def test_a_key_with_few_changes_does_not_wait_for_one_with_many(busy: RunningServer, tmp_path: Path) -> None:
    with client_of(busy, "loud", "edit") as loud, client_of(busy, "quiet", "edit") as quiet:
        with ThreadPoolExecutor(60) as pool:
            with locked(tmp_path / "edits.db"):
                many = [pool.submit(write, loud, number) for number in range(55)]
                await_waiting(busy, 54)
                few = [pool.submit(write, quiet, number) for number in range(3)]
                await_waiting(busy, 56)
            ended = {name: sorted(one.result()[1] for one in ones) for name, ones in (("many", many), ("few", few))}
        assert [one.result()[0] for one in [*many, *few]] == [201] * 58
        before = sum(moment < ended["few"][-1] for moment in ended["many"])
        assert before <= 3 + 8, f"{before} of the other key's changes came first"


def test_changes_that_have_waited_are_all_made(busy: RunningServer, tmp_path: Path) -> None:
    with client_of(busy, "loud", "edit") as loud:
        with ThreadPoolExecutor(8) as pool:
            with locked(tmp_path / "edits.db"):
                writes = [pool.submit(write, loud, number) for number in range(8)]
                await_waiting(busy, 7)
            assert [one.result()[0] for one in writes] == [201] * 8
        assert busy.app.state.memedit.changes.waiting == 0


def test_a_full_queue_of_one_key_has_room_for_another(tiny_llama: Any, tiny_chat_tokenizer: Any) -> None:
    """The newest of the key that has most waiting is told to come back."""
    ask = {"prompt": "Once upon a time", "max_tokens": 2, "ignore_eos": True}
    gate = threading.Event()
    with EditMemory(encoder=HashingEncoder(64)) as memory:
        engine, lookups = local_engine(tiny_llama, tiny_chat_tokenizer, memory, max_rows=1, max_waiting=3)
        with serve(engine, lookups, ServerSettings(requests_per_minute=0)) as server, ThreadPoolExecutor(8) as pool:
            loud, quiet = client_of(server, "loud", "generate"), client_of(server, "quiet", "generate")
            handle = tiny_llama.get_input_embeddings().register_forward_hook(lambda *_: gate.wait(300) and None)
            try:
                many = []
                for number in range(4):
                    many.append(pool.submit(loud.post, "/v1/completions", json=ask))
                    deadline = time.monotonic() + 60
                    while engine.load().running + engine.load().waiting <= number and time.monotonic() < deadline:
                        time.sleep(0.01)
                assert loud.post("/v1/completions", json=ask).status_code == 429
                other = pool.submit(quiet.post, "/v1/completions", json=ask)
                refused = many[-1].result(100)
            finally:
                gate.set()
                handle.remove()
            assert (refused.status_code, int(refused.headers["Retry-After"]) >= 1) == (429, True)
            assert [one.result().status_code for one in (*many[:-1], other)] == [200] * 4


def test_names_of_namespaces_that_somebody_makes_up_fill_nothing(busy: RunningServer) -> None:
    lookups, metrics = busy.lookups, busy.app.state.memedit.metrics
    for number in range(2_300):
        lookups._router(f"made up {number}", lookups.memory.revision, lookups.weights.of(f"made up {number}"))
        metrics.started(Provenance(f"made up {number}", 1, None, None))
    assert len(lookups._routers) <= 1_000
    assert metrics.text().count(b'namespace="made up') <= 4 * 1_000
