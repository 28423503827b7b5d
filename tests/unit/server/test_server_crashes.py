"""A server that is killed while clients write: what it had acknowledged is there, once."""

import multiprocessing
import os
import random
import socket
import threading
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import httpx
import pytest

from memedit.memory import EditMemory
from memedit.types import EditState
from support.hashing_encoder import HashingEncoder

ENCODER = HashingEncoder(dimension=8)
WRITERS = 3


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Makes processes in which everything is imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["support.killed_server", "memedit.server", "faiss", "sqlalchemy.dialects.sqlite"])
    return context


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Writer(threading.Thread):
    """Changes edits over HTTP until told to stop; keeps what was acknowledged, and repeats what was not answered."""

    def __init__(self, url: str, seed: int) -> None:
        super().__init__(daemon=True)
        self.url, self.rng, self.name = url, random.Random(seed), f"w{seed}"
        self.made: dict[str, str] = {}
        self.withdrawn: set[str] = set()
        self.unanswered: list[tuple[str, str, dict[str, Any], str]] = []
        self.stop = threading.Event()
        self._count = 0

    def run(self) -> None:
        with httpx.Client(base_url=self.url, timeout=10) as client:
            while not self.stop.is_set():
                request = self._request()
                try:
                    self.heard(request, self.send(client, request))
                except httpx.TransportError:
                    self.unanswered.append(request)
                    return

    def _request(self) -> tuple[str, str, dict[str, Any], str]:
        self._count += 1
        key = f"{self.name}-{self._count}"
        live = sorted(set(self.made) - self.withdrawn)
        if len(live) > 2 and self.rng.random() < 0.4:
            return ("POST", f"/v1/edits/{self.rng.choice(live)}/supersede", {"target": f"shade {key}"}, key)
        thing = {"prompt": f"The colour of thing {key} is", "target": f"shade {key}", "subject": key}
        return ("POST", "/v1/edits", thing, key)

    @staticmethod
    def send(client: httpx.Client, request: tuple[str, str, dict[str, Any], str]) -> Any:
        method, path, body, key = request
        response = client.request(method, path, json=body, headers={"Idempotency-Key": key})
        assert response.status_code == 201, response.text
        return response.json()

    def heard(self, request: tuple[str, str, dict[str, Any], str], edit: Any) -> None:
        self.made[edit["id"]] = edit["target"]
        if request[1].endswith("/supersede"):
            self.withdrawn.add(request[1].split("/")[3])


def killed_once(processes: ForkServerContext, path: Path, seed: int, writers: list[Writer]) -> None:
    """Serve, write, kill with SIGKILL; then serve again and repeat what had no answer."""
    from support.killed_server import serve_until_killed

    port, rng = free_port(), random.Random(seed)
    url = f"http://127.0.0.1:{port}"
    for life in (1, 2):
        process = processes.Process(target=serve_until_killed, args=(str(path), port), daemon=True)
        process.start()
        await_ready(url)
        if life == 1:
            for number in range(WRITERS):
                writers.append(Writer(url, seed * 100 + number))
                writers[-1].start()
            time.sleep(rng.uniform(0.05, 0.4))
            process.kill()
            for writer in writers[-WRITERS:]:
                writer.stop.set()
                writer.join(20)
        else:
            with httpx.Client(base_url=url, timeout=10) as client:
                for writer in writers[-WRITERS:]:
                    for request in writer.unanswered:
                        writer.heard(request, Writer.send(client, request))
            process.kill()
        process.join()


def await_ready(url: str) -> None:
    for _ in range(600):
        try:
            if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError("the server did not start")


def check(path: Path, writers: list[Writer]) -> None:
    """Every acknowledged change is there, and each that was repeated was made once."""
    with EditMemory(path, encoder=ENCODER) as memory:
        assert memory.verify().problems == ()
        edits = {edit.id: edit for edit in memory.list(state="all")}
    made = {edit_id: target for writer in writers for edit_id, target in writer.made.items()}
    withdrawn = {edit_id for writer in writers for edit_id in writer.withdrawn}
    assert {edit_id: edit.target for edit_id, edit in edits.items()} == made, "no more and no less"
    assert {edit_id for edit_id, edit in edits.items() if edit.state is EditState.RETIRED} == withdrawn


def killed_many_times(processes: ForkServerContext, tmp_path: Path, times: int) -> int:
    writers: list[Writer] = []
    for number in range(times):
        killed_once(processes, tmp_path / "edits.db", number, writers)
        check(tmp_path / "edits.db", writers)
    return sum(len(writer.made) for writer in writers)


def test_no_acknowledged_edit_is_lost_when_the_server_is_killed(processes: ForkServerContext, tmp_path: Path) -> None:
    assert killed_many_times(processes, tmp_path, times=3) > 3


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.skipif(os.environ.get("MEMEDIT_SLOW") != "1", reason="takes minutes; set MEMEDIT_SLOW=1")
def test_no_acknowledged_edit_is_lost_in_fifty_kills(processes: ForkServerContext, tmp_path: Path) -> None:
    assert killed_many_times(processes, tmp_path, times=50) > 50
