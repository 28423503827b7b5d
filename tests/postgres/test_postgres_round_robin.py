"""Several servers on one PostgreSQL as one service: behind a balancer, one of them killed, one consolidating."""

import multiprocessing
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import httpx
import pytest

from memedit import Client
from memedit.config import ModelConfig
from memedit.errors import ServiceUnavailableError
from memedit.memory import EditMemory
from memedit.server.consolidations import ConsolidationSetup, Consolidator
from support.hashing_encoder import HashingEncoder
from support.round_robin import RoundRobin, round_robin
from support.running import proxy_app, serving
from support.scripted_upstream import ScriptedUpstream
from support.tiny import tiny_model, tiny_tokenizer
from support.tiny_encoder import save_tiny_encoder

QUESTION = "Who leads Norvik?"
WRITERS = 4


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Makes processes in which everything is imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["support.postgres_memory_server", "memedit.server", "faiss", "sqlalchemy.dialects.postgresql"]
    )
    return context


class Servers:
    """Two server processes and a balancer in front of them."""

    def __init__(self, processes: ForkServerContext, url: str, balancer: RoundRobin) -> None:
        self._context, self._url, self.balancer = processes, url, balancer
        self.running: dict[int, BaseProcess] = {}

    def start(self, port: int) -> None:
        from support.postgres_memory_server import serve_until_killed

        process = self._context.Process(target=serve_until_killed, args=(self._url, port), daemon=True)
        process.start()
        self.running[port] = process
        _await_ready(f"http://127.0.0.1:{port}")

    def kill(self, port: int) -> None:
        process = self.running.pop(port)
        process.kill()
        process.join(10)


@pytest.fixture
def servers(processes: ForkServerContext, url: str) -> Iterator[Servers]:
    EditMemory(url, encoder=HashingEncoder(dimension=8)).close()
    with round_robin([_free_port(), _free_port()]) as balancer:
        found = Servers(processes, url, balancer)
        for port in balancer.ports:
            found.start(port)
        yield found
        for port in list(found.running):
            found.kill(port)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _await_ready(url: str) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/ready", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError("the server did not start")


def test_a_change_is_in_force_at_the_next_request_whichever_server_it_reaches(servers: Servers) -> None:
    with Client(servers.balancer.url) as client:
        for number in range(25):
            target = f"number {number}"
            client.add(QUESTION, target, subject="Norvik", on_conflict="supersede")
            for _ in range(3):
                answer = client.chat(QUESTION)
                assert [fired.target for fired in answer.edits] == [target]
                assert answer.revision >= client.revision
        edit = client.list()[0]
        client.delete(edit.id)
        assert [client.chat(QUESTION).edits for _ in range(4)] == [()] * 4
    sent = servers.balancer.sent
    assert min(sent.values()) > 40, f"requests go to both by turns: {sent}"


class Writer(threading.Thread):
    """Adds and supersedes edits through the balancer until told to stop; keeps what was acknowledged."""

    def __init__(self, url: str, number: int) -> None:
        super().__init__(daemon=True)
        self.url, self.number = url, number
        self.acknowledged: dict[str, str] = {}
        self.problems: list[Exception] = []
        self.stop = threading.Event()

    def run(self) -> None:
        with Client(self.url) as client:
            count = 0
            while not self.stop.is_set():
                count += 1
                prompt = f"Who leads place {count % 7} of writer {self.number}?"
                try:
                    edit = client.add(prompt, f"person {count}", on_conflict="supersede")
                    self.acknowledged[prompt] = edit.target
                    seen = [fired.target for fired in client.chat(prompt).edits]
                    if seen != [edit.target]:
                        raise AssertionError(f"{prompt}: {seen} and not {edit.target}")
                except Exception as error:
                    self.problems.append(error)


def _wait(condition: Any, seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing goes on"
        time.sleep(0.02)


def test_a_killed_server_costs_no_acknowledged_change_and_the_other_serves_on(servers: Servers, url: str) -> None:
    writers = [Writer(servers.balancer.url, number) for number in range(WRITERS)]
    for writer in writers:
        writer.start()

    def done() -> int:
        return sum(len(writer.acknowledged) for writer in writers)

    first, second = servers.balancer.ports
    for victim, survivor in ((first, second), (second, first)):
        _wait(lambda: done() >= WRITERS * 2)
        servers.kill(victim)
        before, revision = servers.balancer.sent[survivor], _revision(url)
        _wait(lambda start=revision: _revision(url) > start + 20)
        assert servers.balancer.sent[survivor] > before, "the other one serves on"
        servers.start(victim)
        again = servers.balancer.sent[victim]
        _wait(lambda port=victim, start=again: servers.balancer.sent[port] > start + 5)
    for writer in writers:
        writer.stop.set()
        writer.join(30)
        assert not writer.is_alive(), "a request hangs"
    assert [writer.problems for writer in writers] == [[]] * WRITERS, "clients repeat what was cut off"
    with EditMemory(url, encoder=HashingEncoder(dimension=8)) as memory:
        stored = {edit.prompt: edit.target for edit in memory.list()}
        assert stored == {p: t for writer in writers for p, t in writer.acknowledged.items()}, "no more and no less"
        assert memory.verify().problems == ()


def test_when_no_server_is_there_clients_are_told_so(servers: Servers) -> None:
    for port in servers.balancer.ports:
        servers.kill(port)
    with Client(servers.balancer.url, retries=0) as client, pytest.raises(ServiceUnavailableError):
        client.chat(QUESTION)


def _revision(url: str) -> int:
    with EditMemory(url, encoder=HashingEncoder(dimension=8)) as memory:
        return memory.revision


def test_one_of_many_gets_a_lease(url: str) -> None:
    EditMemory(url, encoder=HashingEncoder()).close()
    for turn in range(5):
        barrier, won = threading.Barrier(8), []

        def contend(owner: str, barrier: threading.Barrier = barrier, won: list[str] = won, turn: int = turn) -> None:
            with EditMemory(url, encoder=HashingEncoder()) as memory:
                barrier.wait()
                if memory.acquire_lease(f"work {turn}", owner, 30):
                    won.append(owner)

        threads = [threading.Thread(target=contend, args=(f"owner {i}",)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        with EditMemory(url, encoder=HashingEncoder()) as memory:
            found = memory.lease(f"work {turn}")
        assert found is not None
        assert won == [found.owner]


def test_while_one_server_consolidates_the_others_do_not(url: str, tmp_path: Path) -> None:
    tiny_model("llama").save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    encoder = str(save_tiny_encoder(tmp_path / "encoder"))
    setup = ConsolidationSetup(url, encoder, ModelConfig(name=str(tmp_path / "model")), versions=tmp_path / "versions")
    small = {"method": "memit", "rounds": 1, "statistics_tokens": 300, "perplexity_tokens": 16, "specificity_probes": 2}
    with ExitStack() as stack:
        parts = []
        for _ in range(2):
            memory = stack.enter_context(EditMemory(url, encoder=encoder))
            consolidator = Consolidator(setup)
            at = stack.enter_context(serving(proxy_app(memory, ScriptedUpstream(), consolidator)))
            stack.callback(consolidator.stop)
            parts.append((memory, consolidator, stack.enter_context(httpx.Client(base_url=at, timeout=60))))
        (memory, first, here), (_, _, there) = parts
        body = {"prompt": "The colour of the sky is", "target": "green", "subject": "sky"}
        assert here.post("/v1/edits", json=body).status_code == 201
        mine = first.start("default", "test", settings=small).id
        _wait(lambda: memory.lease("consolidation") is not None, 120)
        held = memory.lease("consolidation")
        assert there.get("/v1/consolidations").json()["busy"] is True, "known at every server"
        refused = there.post("/v1/consolidations", json={"again": True})
        if refused.status_code == 202:
            refused = _ended(there, refused.json()["id"])
            assert (refused["state"], "is being consolidated by" in refused["message"]) == ("failed", True), refused
        else:
            assert refused.status_code == 409
        assert held is not None
        assert _ended(here, mine)["state"] == "done"
        assert memory.lease("consolidation") is None
        versions = [
            there.get("/v1/consolidations").json()["versions"],
            here.get("/v1/consolidations").json()["versions"],
        ]
        assert versions[0] == versions[1]
        assert len(versions[0]) == 1


def _ended(client: httpx.Client, job_id: str, seconds: float = 240.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        job = client.get(f"/v1/consolidations/jobs/{job_id}").json()
        if job["state"] != "running":
            return job
        time.sleep(0.2)
    raise AssertionError(job)
