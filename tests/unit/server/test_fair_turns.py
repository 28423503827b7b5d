"""Whose turn it is: a key with little never waits behind one with much, and a flood rests while others are served."""

import asyncio
import itertools
import time
from typing import Any

import pytest

from memedit.server import queues
from memedit.server.problems import ApiError
from memedit.server.queues import FairThreads
from memedit.server.turns import Turns


def burn(seconds: float) -> None:
    """Use so much processor time."""
    began = time.thread_time()
    while time.thread_time() - began < seconds:
        pass


def test_the_key_with_the_least_under_way_is_next_and_then_the_one_that_waits_longest() -> None:
    turns: Turns[int] = Turns()
    for number in range(4):
        turns.put("loud", number)
    turns.put("quiet", 10)
    taken = [turns.take() for _ in range(3)]
    assert taken == [("loud", 0), ("quiet", 10), ("loud", 1)]
    turns.put("quiet", 11)
    turns.done("loud")
    turns.done("quiet")
    assert [turns.take(), turns.take(lambda who: who == "loud")] == [("quiet", 11), ("loud", 2)]
    assert (len(turns), turns.running) == (1, 3)


def test_whoever_has_most_waiting_gives_way_and_nobody_to_one_who_has_as_much() -> None:
    turns: Turns[int] = Turns()
    for number in range(3):
        turns.put("loud", number)
    turns.put("quiet", 10)
    assert turns.newest_of_most("quiet") == 2
    assert turns.newest_of_most("quiet") is None
    assert turns.newest_of_most("loud") is None
    assert list(turns) == [0, 1, 10]
    assert turns.remove(lambda number: number < 1) == [0]
    assert (len(turns), turns.of("loud")) == (2, 1)


def run(work: Any, **limits: Any) -> Any:
    async def inside() -> Any:
        threads = FairThreads("test", 4, **{"at_once": 1, "per_key": 64} | limits)
        try:
            return await work(threads)
        finally:
            threads.close()

    return asyncio.run(inside())


def test_one_key_has_one_thread_and_a_full_queue_says_when_to_come_back() -> None:
    running, most = 0, 0

    def count() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.02)
        running -= 1

    async def work(threads: FairThreads) -> Any:
        return await asyncio.gather(*(threads.run("loud", count) for _ in range(7)), return_exceptions=True)

    found = run(work, per_key=5)
    refused = [one for one in found if isinstance(one, ApiError)]
    assert (most, len(refused), found.count(None)) == (1, 1, 6)
    assert refused[0].status == 429
    assert int(refused[0].headers["Retry-After"]) >= 1


@pytest.mark.parametrize("busy", [True, False])
def test_a_flood_rests_while_others_are_served_and_not_on_an_idle_server(
    busy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count()
    monkeypatch.setattr(queues, "processor_time", lambda: 0.2 * next(clock))  # each piece takes a fifth of a second
    began: list[float] = []

    async def work(threads: FairThreads) -> None:
        await asyncio.gather(*(threads.run("loud", lambda: began.append(time.monotonic())) for _ in range(5)))

    run(work, busy=lambda: busy)
    gaps = [later - earlier for earlier, later in itertools.pairwise(began)]
    assert gaps[0] < 0.5, "a key that has asked for little so far need not rest"
    assert all(gap > 0.5 for gap in gaps[2:]) if busy else max(gaps) < 0.5, gaps


def test_a_key_that_asks_for_little_never_rests() -> None:
    async def work(threads: FairThreads) -> float:
        longest = 0.0
        flood = [asyncio.ensure_future(threads.run("loud", burn, 0.05)) for _ in range(30)]
        for _ in range(3):
            began = time.monotonic()
            await threads.run("quiet", burn, 0.05)
            longest = max(longest, time.monotonic() - began)
        waiting = threads.waiting
        for one in flood:
            one.cancel()
        return longest if waiting > 10 else float("inf")

    assert run(work, busy=lambda: True) < 10.0


def test_what_nobody_waits_for_any_more_is_not_made() -> None:
    made: list[int] = []

    async def work(threads: FairThreads) -> None:
        first = asyncio.ensure_future(threads.run("me", time.sleep, 0.2))
        await asyncio.sleep(0.05)
        gone = asyncio.ensure_future(threads.run("me", made.append, 1))
        await asyncio.sleep(0.02)
        gone.cancel()
        await asyncio.gather(first, threads.run("me", made.append, 2))

    run(work)
    assert made == [2]


def test_an_error_reaches_the_one_who_waits() -> None:
    async def work(threads: FairThreads) -> None:
        with pytest.raises(ZeroDivisionError):
            await threads.run("me", lambda: 1 // 0)
        assert await threads.run("me", lambda: 1) == 1

    run(work)
