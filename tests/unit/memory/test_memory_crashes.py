"""Processes that are killed while they write, and processes that write at the same time.

MEMEDIT_KILLS says how many are killed, MEMEDIT_KILL_SEED when.
"""

import multiprocessing
import os
import random
import threading
import time
from collections import Counter
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from memedit.memory import EditMemory
from memedit.types import EditState
from support.hashing_encoder import HashingEncoder
from support.writer_process import BATCH, write_beside_others, write_until_killed

pytestmark = pytest.mark.slow

ENCODER = HashingEncoder(dimension=8)


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Makes processes in which everything is imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["support.writer_process", "faiss", "sqlalchemy.dialects.sqlite"])
    return context


def run_and_kill(processes: ForkServerContext, path: Path, seed: int) -> list[tuple[object, ...]]:
    """Let a writer go for a random while, kill it with SIGKILL; return what it had acknowledged."""
    receive, send = processes.Pipe(duplex=False)
    writer = processes.Process(target=write_until_killed, args=(str(path), seed, send), daemon=True)
    rng = random.Random(seed)
    writer.start()
    send.close()
    heard: list[tuple[object, ...]] = []
    if rng.random() < 0.85:  # the others are killed while they start and open
        heard = [receive.recv() for _ in range(rng.randint(1, 15))]
    time.sleep(rng.uniform(0, 0.03))
    writer.kill()
    writer.join()
    return heard + drained(receive)


def drained(receive: Connection) -> list[tuple[object, ...]]:
    messages = []
    while True:
        try:
            messages.append(receive.recv())
        except (EOFError, OSError):
            return messages


def check(path: Path, acknowledged: list[tuple[object, ...]], kills: int) -> None:
    """Every acknowledged change is there, nothing is half-done, and the index agrees."""
    with EditMemory(path, encoder=ENCODER) as memory:
        assert memory.verify().problems == ()
        edits = {edit.id: edit for edit in memory.list(state="all")}
        withdrawn = {message[1] for message in acknowledged if message[0] in ("supersede", "delete")}
        assert all(edits[str(i)].state is EditState.RETIRED for i in withdrawn)
        made = {str(message[-2]): message[-1] for message in acknowledged if message[0] in ("add", "supersede")}
        assert all(edits[i].target == target for i, target in made.items())
        unasked = [i for i in made if i not in withdrawn and edits[i].state is not EditState.ACTIVE]
        assert len(unasked) <= kills, "at most the change under way when the process died was done unacknowledged"
        assert all(i in edits for message in acknowledged if message[0] == "batch" for i in message[2])
        batches = Counter(edit.metadata["batch"] for edit in edits.values() if "batch" in edit.metadata)
        assert set(batches.values()) <= {BATCH}, "a batch is there whole or not at all"
        retired = [edit.id for edit in edits.values() if edit.state is EditState.RETIRED]
        superseded = [c for i in retired for c in memory.history(i) if c.action == "superseded"]
        assert all(change.other in edits for change in superseded), "what was superseded has its successor"


def killed_many_times(processes: ForkServerContext, path: Path, times: int, base: int) -> int:
    acknowledged: list[tuple[object, ...]] = []
    for i in range(times):
        if i % 20 == 0:  # a fresh file now and then, so that files are also killed while young
            acknowledged = []
            path = path.with_name(f"edits{i}.db")
        acknowledged += run_and_kill(processes, path, base + i)
        check(path, acknowledged, kills=i % 20 + 1)
    return len(acknowledged)


@pytest.mark.timeout(7200)
def test_what_was_acknowledged_survives_many_kills(processes: ForkServerContext, tmp_path: Path) -> None:
    base, times = int(os.environ.get("MEMEDIT_KILL_SEED", "50000")), int(os.environ.get("MEMEDIT_KILLS", "40"))
    assert killed_many_times(processes, tmp_path / "edits.db", times=times, base=base) > 15


def test_processes_writing_at_once_lose_nothing_and_see_each_other(
    processes: ForkServerContext, tmp_path: Path
) -> None:
    path, count = tmp_path / "edits.db", 40
    pipes, writers = [], []
    for name in ("one", "two", "three"):
        receive, send = processes.Pipe(duplex=False)
        writers.append(processes.Process(target=write_beside_others, args=(str(path), name, count, send)))
        pipes.append(receive)
    for writer in writers:
        writer.start()
    results = [receive.recv() for receive in pipes]
    for writer in writers:
        writer.join()
    assert all(isinstance(result, list) for result in results), results
    with EditMemory(path, encoder=ENCODER) as memory:
        assert {edit.id for edit in memory.list()} >= {edit_id for result in results for edit_id in result}
        assert memory.count() == 3 * count + 1, "the edit that all added is there once"
        superseded = 3 * len(range(0, count, 3))
        assert memory.count(state="all") == 3 * count + 1 + superseded
        assert memory.verify().problems == ()
        assert memory.revision == 3 * count + 1 + 2 * superseded


def test_a_change_by_another_process_is_in_force_in_the_next_look_up(tmp_path: Path) -> None:
    path = tmp_path / "edits.db"
    with EditMemory(path, encoder=ENCODER) as one, EditMemory(path, encoder=ENCODER) as other:
        query = ENCODER.encode_tokens(["the tower is in"])
        assert one.candidates(query) == [[]]
        edit = other.add("the tower is in", "Rome")
        assert [c.edit.target for c in one.candidates(query)[0]] == ["Rome"]
        other.update(edit.id, target="Oslo")
        assert [c.edit.target for c in one.candidates(query)[0]] == ["Oslo"]
        assert one.revision == other.revision == 2
        one.delete(edit.id)
        assert other.candidates(query) == [[]]
        other.restore(edit.id)
        other.add_many([{"prompt": f"the size of thing {i} is", "target": "x"} for i in range(1_500)])
        assert len(one.candidates(query, k=2_000)[0]) == 1_501


def test_threads_may_share_a_memory(tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def work(memory: EditMemory, name: str) -> None:
        try:
            for i in range(15):
                edit = memory.add(f"the colour of thing {name}x{i} is", "red")
                found = memory.candidates(ENCODER.encode_tokens([edit.prompt]))[0]
                assert found[0].edit == edit
                assert memory.get(edit.id) == edit
        except BaseException as error:
            errors.append(error)

    for url in (":memory:", tmp_path / "edits.db"):
        with EditMemory(url, encoder=ENCODER) as memory:
            threads = [threading.Thread(target=work, args=(memory, str(i))) for i in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert errors == []
            assert memory.count() == 60
            assert memory.verify().ok
