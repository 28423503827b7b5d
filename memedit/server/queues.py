"""Who waits for what: changes wait for one another in threads of their own, key checks and readiness for nobody."""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial, wraps
from typing import Any, TypeVar

from memedit.server.problems import overloaded

T = TypeVar("T")

_WRITERS, _QUICK = 4, 4
_Waiting = tuple[Callable[[], Any], asyncio.Future[Any]]


class ChangeQueue:
    """Changes under way and those that wait, a bounded number of each key, the keys in turn. For one event loop.

    A change can wait long for the store's write lock. What does is here, so that no thread that answers others waits
    with it, and one key's many changes hold up no other key's few.

    Args:
        per_key: changes of one key that may wait.
    """

    def __init__(self, per_key: int) -> None:
        self._per_key = per_key
        self._waiting: OrderedDict[str, deque[_Waiting]] = OrderedDict()
        self._running: dict[str, int] = {}
        self._threads = ThreadPoolExecutor(_WRITERS, thread_name_prefix="memedit-change")
        self._pace = 0.05

    async def run(self, who: str, change: Callable[[], T]) -> T:
        """Make a change of a key when its turn has come.

        Raises:
            ApiError: 429, too many of the key wait already.
        """
        mine = self._waiting.setdefault(who, deque())
        if len(mine) >= self._per_key:
            wait = self._pace * sum(map(len, self._waiting.values())) / _WRITERS
            raise overloaded(f"{self._per_key} changes of this key are waiting already", wait)
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        mine.append((change, future))
        self._start()
        return await future

    @property
    def waiting(self) -> int:
        """Changes that wait."""
        return sum(map(len, self._waiting.values()))

    def close(self) -> None:
        """Start no more changes; those under way end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _start(self) -> None:
        """Give free threads to the keys that have the fewest under way, and of these to the one that waits longest."""
        while sum(self._running.values()) < _WRITERS and self._waiting:
            who = min(self._waiting, key=lambda name: self._running.get(name, 0))
            queue = self._waiting[who]
            change, future = queue.popleft() if queue else (None, None)
            self._waiting.move_to_end(who)
            if not queue:
                del self._waiting[who]
            if change is not None and future is not None and not future.done():  # else nobody waits for it any more
                self._running[who] = self._running.get(who, 0) + 1
                asyncio.ensure_future(self._make(who, change, future))  # noqa: RUF006 - the future keeps it

    async def _make(self, who: str, change: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        started = time.monotonic()
        try:
            result = await asyncio.get_running_loop().run_in_executor(self._threads, change)
            if not future.done():
                future.set_result(result)
        except BaseException as error:
            if not future.done():
                future.set_exception(error)
        finally:
            self._pace += 0.1 * (time.monotonic() - started - self._pace)
            self._running[who] -= 1
            if not self._running[who]:
                del self._running[who]
            self._start()


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
    """Have a route that changes the store, with the parameters ``request`` and ``access``, wait in the queue."""

    @wraps(route)
    async def run(**values: Any) -> T:
        changes: ChangeQueue = values["request"].app.state.memedit.changes
        return await changes.run(values["access"].who.name, partial(route, **values))

    return run


async def in_queue(state: Any, who: Any, change: Callable[[], T]) -> T:
    """Make a change of the store on behalf of ``who`` when its turn has come; for routes without an ``access``."""
    changes: ChangeQueue = state.changes
    return await changes.run(who.name, change)
