"""Who waits for what: work that costs waits in turns of its own, key checks and readiness wait for nobody."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import Any, TypeVar

from memedit.server.problems import overloaded
from memedit.server.turns import Turns

T = TypeVar("T")
processor_time = time.thread_time

_QUICK = 4
_LOOK = 0.05
_REST = 3.0
"""Processor seconds that a key leaves to the others for each one that it used."""
_BURST, _LONGEST_REST = 1.0, 5.0
"""Seconds of rest that a key may owe and still go on, so that those who ask for little never rest; and the most."""


@dataclass(slots=True, eq=False)
class _Work:
    """Something to be done, and who waits for it."""

    make: Callable[[], Any]
    future: asyncio.Future[Any] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class FairThreads:
    """Threads that the keys share: a bounded number of each key waits, and the keys have their turns.

    What can wait long, for the store's write lock or a pass of the encoder, is here, so that no thread that answers
    others waits with it. A key is given a thread when it has fewer than ``at_once`` of them, those that have the fewest
    first. While ``busy`` says that others are being served, or other keys wait too, a key that asks for much rests for
    three times the processor time that its work took: one key's flood then costs the others a quarter of a core at
    most. What has the server to itself never rests, and nobody does for the first third of a second. For one event
    loop.

    Args:
        name: of the threads, which there are ``threads`` of.
        at_once: of one key.
        per_key: work of one key that may wait; more is refused.
        busy: whether somebody is being served from elsewhere; None where nobody is.
    """

    def __init__(
        self, name: str, threads: int, *, at_once: int, per_key: int, busy: Callable[[], bool] | None = None
    ) -> None:
        self._size, self._at_once, self._per_key, self._busy = threads, at_once, per_key, busy
        self._turns: Turns[_Work] = Turns()
        self._rests: dict[str, float] = {}
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=f"memedit-{name}")
        self._tasks: set[asyncio.Task[None]] = set()
        self._alarm: asyncio.TimerHandle | None = None
        self._pace = 0.05

    async def run(self, who: str, make: Callable[..., T], *args: Any) -> T:
        """Call ``make`` with ``args`` for a key when its turn has come.

        Raises:
            ApiError: 429, too much of the key waits already.
        """
        if self._turns.of(who) >= self._per_key:
            raise overloaded(f"{self._per_key} requests of this key are waiting already", self._expected_wait(who))
        work = _Work(partial(make, *args))
        self._turns.put(who, work)
        self._start()
        found: T = await work.future
        return found

    @property
    def waiting(self) -> int:
        """What waits."""
        return len(self._turns)

    def close(self) -> None:
        """Start nothing more; what is under way ends by itself."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _expected_wait(self, who: str) -> float:
        resting = 1 + _REST if self._contended(who) else 1
        return self._pace * resting * self._turns.of(who) / self._at_once

    def _contended(self, who: str) -> bool:
        """Whether anybody else wants the processor."""
        return self._turns.others(who) or (self._busy is not None and self._busy())

    def _start(self) -> None:
        """Give free threads to those whose turn it is."""
        while self._turns.running < self._size:
            found = self._turns.take(self._may_start)
            if found is None:
                break
            who, work = found
            if work.future.done():  # nobody waits for it any more
                self._turns.done(who)
                continue
            task = asyncio.ensure_future(self._make(who, work))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._set_alarm()

    def _may_start(self, who: str) -> bool:
        if self._turns.under_way(who) >= self._at_once:
            return False
        rested = self._rests.get(who, 0.0) <= time.monotonic() + _BURST
        return rested or not self._contended(who)

    def _set_alarm(self) -> None:
        """Look again soon, where something waits: some will have rested, or others gone."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if len(self._turns) and self._turns.running < self._size:
            self._alarm = asyncio.get_running_loop().call_later(_LOOK, self._start)

    async def _make(self, who: str, work: _Work) -> None:
        took = 0.0
        try:
            result, took = await asyncio.get_running_loop().run_in_executor(self._threads, _timed, work.make)
            if not work.future.done():
                if isinstance(result, Exception):
                    work.future.set_exception(result)
                else:
                    work.future.set_result(result)
        except BaseException as error:  # the threads are closed, or this task is cancelled
            if not work.future.done():
                work.future.set_exception(error)
        finally:
            self._pace += 0.1 * (took - self._pace)
            now = time.monotonic()
            self._rests = {name: until for name, until in self._rests.items() if until > now}
            self._rests[who] = min(now + _LONGEST_REST, self._rests.get(who, now) + _REST * took)
            self._turns.done(who)
            self._start()


def _timed(make: Callable[[], T]) -> tuple[T | Exception, float]:
    """Call ``make``; return what it returned or raised, and the processor seconds of this thread that it took."""
    began = processor_time()
    found: T | Exception
    try:
        found = make()
    except Exception as error:
        found = error
    return found, processor_time() - began


class QuickThreads:
    """Threads for what is asked on every request and never waits: key checks, the revision, readiness."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_QUICK, thread_name_prefix="memedit-quick")

    async def run(self, work: Callable[..., T], *args: Any) -> T:
        """Call ``work`` in one of them."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *args))

    def close(self) -> None:
        """Stop them."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def queued(route: Callable[..., T]) -> Callable[..., Awaitable[T]]:
    """Have a route that changes the store wait for its turn among the changes."""
    return _waiting("changes", route)


def fairly(route: Callable[..., T]) -> Callable[..., Awaitable[T]]:
    """Have a route that reads the store, or judges texts, wait for its turn among the reads."""
    return _waiting("reads", route)


def _waiting(where: str, route: Callable[..., T]) -> Callable[..., Awaitable[T]]:
    @wraps(route)
    async def run(**values: Any) -> T:
        request = values["request"]
        threads: FairThreads = getattr(request.app.state.memedit, where)
        return await threads.run(request.state.principal.name, partial(route, **values))

    return run
