"""A server that is killed at random moments while clients write: what it had acknowledged must be there, once."""

import contextlib
import os
import random
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from memedit.bench.kill_writers import PLAIN, Expected, Writer
from memedit.bench.nursery import Nursery
from memedit.encoders import load_encoder
from memedit.encoders.base import Encoder
from memedit.errors import InputError, MemeditError
from memedit.memory import EditMemory
from memedit.memory.store.database import exists

Progress = Callable[[int, int], None]
_LONGEST_START = 0.5
_CHANGES_A_LIFE = 5
_BEFORE_READY = 0.1
"""Share of the kills that come while the server is still starting."""


def run(
    *,
    kills: int = 500,
    minutes: float | None = None,
    writers: int = 4,
    memory: str | None = None,
    encoder: str = "minilm",
    checks: int = 20,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Kill a server (SIGKILL) at random moments under writers, start it again, repeat what had no answer, and so on.

    Writers add edits, one or several in a transaction, supersede, change, withdraw and restore them over HTTP, each
    change under an idempotency key. Counted are acknowledged changes, and at each check the edits that are not as
    their last acknowledged change left them (``lost``), edits that nobody was told of (``doubled``: repeating what had
    no answer must not make it twice), and what ``verify`` finds wrong.

    Args:
        kills: how many, or as many as ``minutes`` allow.
        minutes: see ``kills``; None is without end.
        writers: clients that write at once.
        memory: where; an empty one. None is a SQLite file in a temporary folder.
        encoder: name or path of the sentence encoder.
        checks: how often everything is compared, the last time included.
        seed: of the changes and the moments.
        progress: called with (kills done, kills).

    Raises:
        InputError: a number is below 1, or the memory holds something.
        MemeditError: a server did not start, or refused a change.
    """
    if min(kills, writers, checks) < 1:
        raise InputError(f"kills={kills}, writers={writers}, checks={checks}: at least 1 each")
    started = time.perf_counter()
    with _place(memory, encoder) as (url, loaded), Nursery(url, encoder) as nursery:
        rng = random.Random(seed)
        crew = [Writer(f"w{number}", seed * 1000 + number) for number in range(writers)]
        found = _Found()
        done = 0
        while done < kills:
            _one_life(nursery, crew, rng)
            done += 1
            over = minutes is not None and time.perf_counter() - started > 60 * minutes
            if done % max(1, kills // checks) == 0 or done == kills or over:
                _last_words(nursery, crew)
                found.compare(url, loaded, crew)
            if progress is not None:
                progress(done, kills)
            if over:
                break
    acknowledged = sum(writer.acknowledged for writer in crew)
    return {
        "benchmark": "kills",
        "database": "postgresql" if url.startswith("postgres") else "sqlite",
        "kills": done,
        "writers": writers,
        "acknowledged": acknowledged,
        "repeated": sum(writer.repeated for writer in crew),
        "edits": found.edits,
        "lost": len(found.lost),
        "doubled": len(found.doubled),
        "problems": found.problems,
        "examples": [*found.lost, *found.doubled][:10],
        "lost_share_below_95": 3 / acknowledged if acknowledged and not found.lost else None,
        "seconds": time.perf_counter() - started,
    }


class _Found:
    """What the comparisons came to so far."""

    def __init__(self) -> None:
        self.lost: list[str] = []
        self.doubled: list[str] = []
        self.problems: list[str] = []
        self.edits = 0

    def compare(self, url: str, encoder: Encoder, crew: Sequence[Writer]) -> None:
        """Compare the store with what the writers were told."""
        with EditMemory(url, encoder=encoder) as memory:
            stored = {edit.id: Expected(edit.target, edit.state.value) for edit in memory.list(state="all")}
            self.problems += memory.verify().problems
        expected = {edit_id: state for writer in crew for edit_id, state in writer.expected.items()}
        self.lost += [f"{i}: {stored.get(i)}, not {state}" for i, state in expected.items() if stored.get(i) != state]
        self.doubled += [f"{edit_id}: {state}" for edit_id, state in stored.items() if edit_id not in expected]
        self.edits = len(stored)


@contextmanager
def _place(memory: str | None, encoder: str) -> Iterator[tuple[str, Encoder]]:
    """An empty memory of this encoder."""
    with contextlib.ExitStack() as stack:
        if memory is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="memedit-bench-"))
            memory = str(Path(folder) / "edits.db")
        elif "://" not in memory and exists(memory):
            raise InputError(f"{memory} exists; this benchmark kills the server of its memory: name a new one")
        loaded = load_encoder(encoder)
        with EditMemory(memory, encoder=loaded) as empty:
            if empty.revision:
                raise InputError(f"{empty.url} holds something; this benchmark wants an empty memory")
        yield memory, loaded


def _one_life(nursery: Nursery, crew: Sequence[Writer], rng: random.Random) -> None:
    """Start a server, repeat what had no answer, write, and kill it."""
    port = _free_port()
    process = nursery.start(port)
    if rng.random() < _BEFORE_READY:
        time.sleep(rng.uniform(0.0, _LONGEST_START))
        _kill(process)
        return
    url = _await(port)
    stop = threading.Event()
    threads = [threading.Thread(target=writer.work, args=(url, stop), daemon=True) for writer in crew]
    for thread in threads:
        thread.start()
    _await_moment(crew, threads, rng)
    _kill(process)
    stop.set()
    for thread in threads:
        thread.join(60)
        if thread.is_alive():
            raise MemeditError("a client of a killed server waits for ever")
    _check_refusals(crew)


def _check_refusals(crew: Sequence[Writer]) -> None:
    for writer in crew:
        if writer.refusal is not None:
            raise MemeditError(f"a change was refused: {writer.refusal}")


def _await_moment(crew: Sequence[Writer], threads: Sequence[threading.Thread], rng: random.Random) -> None:
    """Wait for a moment by changes, not by the clock, so that slow machines are killed in the midst of work as well."""

    def done() -> int:
        return sum(writer.acknowledged for writer in crew)

    began, before = time.monotonic(), done()
    wanted = rng.randrange(_CHANGES_A_LIFE * len(crew))
    while done() - before < wanted and any(thread.is_alive() for thread in threads):
        time.sleep(0.002)
    time.sleep(rng.uniform(0.0, (time.monotonic() - began) / max(1, wanted)))  # anywhere within the next change


def _last_words(nursery: Nursery, crew: Sequence[Writer]) -> None:
    """Serve once more, so that what had no answer is repeated, and write nothing new."""
    port = _free_port()
    process = nursery.start(port)
    stop = threading.Event()
    stop.set()
    try:
        for writer in crew:
            writer.work(_await(port), stop)
    finally:
        _kill(process)
    _check_refusals(crew)


def _kill(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:  # it is not our child: wait until it is gone
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return
        time.sleep(0.002)
    raise MemeditError(f"process {process} does not end")


def _await(port: int, seconds: float = 120.0) -> str:
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
            if httpx.get(f"{url}/health", timeout=60, verify=PLAIN).status_code == 200:
                return url
        time.sleep(0.01)
    raise MemeditError("the server did not start again")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
