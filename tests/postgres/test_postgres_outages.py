"""The database server is restarted, crashes or stays away while memories are in use."""

import threading
import time
from collections.abc import Callable

import pytest

from memedit.errors import StoreBusyError, StoreUnavailableError
from memedit.memory import EditMemory
from support.hashing_encoder import HashingEncoder
from support.postgres_server import PostgresServer

ENCODER = HashingEncoder(16)


class Load:
    """Threads that add edits and look them up until told to stop; keeps what was acknowledged and what was refused."""

    def __init__(self, memories: list[EditMemory]) -> None:
        self.acknowledged: dict[str, str] = {}
        self.refused: list[Exception] = []
        self.answered = 0
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=work, args=(memory, number))
            for number, memory in enumerate(memories)
            for work in (self._write, self._look)
        ]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=60)
            assert not thread.is_alive(), "a request hangs"

    def grown(self, beyond: int, *, within: float = 30.0) -> int:
        """Wait until more edits than ``beyond`` are acknowledged, or the time is up; return how many are."""
        deadline = time.monotonic() + within
        while len(self.acknowledged) <= beyond and time.monotonic() < deadline:
            time.sleep(0.01)
        return len(self.acknowledged)

    def _write(self, memory: EditMemory, writer: int) -> None:
        number = 0
        while not self._stop.is_set():
            prompt = f"Who leads place {number} of writer {writer}?"
            try:
                edit = memory.add(prompt, "x")
            except Exception as error:  # every kind is looked at below
                self.refused.append(error)
                continue  # and the same edit again: its outcome may not be known
            with self._lock:
                self.acknowledged[prompt] = edit.id
            number += 1

    def _look(self, memory: EditMemory, _: int) -> None:
        query = ENCODER.encode_tokens(["Who leads place 0 of writer 0?"])
        while not self._stop.is_set():
            try:
                memory.candidates(query)
                self.answered += 1
            except Exception as error:
                self.refused.append(error)
            time.sleep(0.005)


def _stop_fast(server: PostgresServer) -> None:
    server.stop("fast")


def _crash(server: PostgresServer) -> None:
    server.stop("immediate")


def _kill(server: PostgresServer) -> None:
    server.kill()


@pytest.mark.parametrize("end", [_stop_fast, _crash, _kill])
def test_no_acknowledged_edit_is_lost_when_the_server_restarts_under_load(
    own_server: PostgresServer, end: Callable[[PostgresServer], None]
) -> None:
    url = own_server.url()
    with EditMemory(url, encoder=ENCODER, max_lag=0.5) as one, EditMemory(url, encoder=ENCODER, timeout=0.3) as two:
        with Load([one, two]) as load:
            assert load.grown(10) > 10, "writers never began"
            end(own_server)
            time.sleep(0.7)
            before = len(load.acknowledged)
            own_server.start()
            assert load.grown(before) > before, "writers go on after the restart"
        kinds = {type(error) for error in load.refused}
        assert kinds <= {StoreUnavailableError}, f"something else was raised: {load.refused[:3]}"
        stored = {edit.prompt: edit.id for edit in one.list()}
        assert {prompt: stored.get(prompt) for prompt in load.acknowledged} == load.acknowledged
        assert len(stored) - len(load.acknowledged) <= 2, "at most the last edit of each writer was not acknowledged"
        assert one.verify().problems == ()


def test_look_ups_go_on_for_the_lag_and_are_then_refused(own_server: PostgresServer) -> None:
    with EditMemory(own_server.url(), encoder=ENCODER, max_lag=1.0, timeout=0.3) as memory:
        memory.add("Who leads Norvik?", "Ole")
        query = ENCODER.encode_tokens(["Who leads Norvik?"])
        while memory._database.watcher is not None and memory._database.watcher.newest() is None:
            time.sleep(0.01)
        memory.candidates(query)
        own_server.stop("immediate")
        assert memory.candidates(query)[0][0].edit.target == "Ole"
        with pytest.raises(StoreUnavailableError, match="Try again when it is back"):
            memory.add("Who leads Sudvik?", "Ida")
        time.sleep(1.0)
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError):
            memory.candidates(query)
        assert time.monotonic() - began < 3.0
        own_server.start()
        assert memory.candidates(query)[0][0].edit.target == "Ole"


def test_opening_waits_for_a_server_that_is_starting(own_server: PostgresServer) -> None:
    own_server.stop()
    threading.Timer(0.5, own_server.start).start()
    with EditMemory(own_server.url(), encoder=ENCODER, timeout=20.0) as memory:
        assert memory.revision == 0


def test_a_server_that_is_not_there_is_named(own_server: PostgresServer) -> None:
    own_server.stop()
    with pytest.raises(StoreUnavailableError, match=f"127.0.0.1:{own_server.port}") as caught:
        EditMemory(own_server.url(), encoder=ENCODER, timeout=0.1)
    assert not caught.value.uncertain


def test_a_writer_that_keeps_the_lock_too_long_is_reported(own_server: PostgresServer) -> None:
    url = own_server.url()
    with EditMemory(url, encoder=ENCODER) as memory, EditMemory(url, encoder=ENCODER, timeout=0.2) as other:
        with memory._database.write(), pytest.raises(StoreBusyError, match="held the lock"):
            other.add("Who leads Norvik?", "Ole")
        other.add("Who leads Norvik?", "Ole")


def test_a_commit_whose_outcome_is_not_known_says_so(own_server: PostgresServer) -> None:
    with EditMemory(own_server.url(), encoder=ENCODER, timeout=0.2) as memory:
        with pytest.raises(StoreUnavailableError, match="whole or not at all") as caught, memory._database.write():
            own_server.stop("immediate")
        assert caught.value.uncertain
