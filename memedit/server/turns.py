"""Turns: what several keys have waiting, handed out so that a key with little never waits behind one with much."""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """What waits, by key. The key with the least under way is next, and of several the one that waits longest.

    Not safe to use from several threads at once.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[T]] = OrderedDict()
        self._running: dict[str, int] = {}
        self._count = 0
        self.running = 0
        """How much is under way."""

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[T]:
        return (item for items in self._waiting.values() for item in items)

    def of(self, who: str) -> int:
        """Return how much of a key waits."""
        return len(self._waiting.get(who, ()))

    def under_way(self, who: str) -> int:
        """Return how much of a key is under way."""
        return self._running.get(who, 0)

    def others(self, who: str) -> bool:
        """Whether another key has something waiting or under way."""
        return any(name != who for waiting in (self._waiting, self._running) for name in waiting)

    def put(self, who: str, item: T) -> None:
        """Have something of a key wait."""
        self._waiting.setdefault(who, deque()).append(item)
        self._count += 1

    def take(self, may: Callable[[str], bool] | None = None) -> tuple[str, T] | None:
        """Return the next key of those that ``may`` and what it is given, which is under way from now on."""
        names = [name for name in self._waiting if may is None or may(name)]
        if not names:
            return None
        who = min(names, key=self.under_way)
        items = self._waiting[who]
        item = items.popleft()
        self._waiting.move_to_end(who)
        self._forget_empty(who)
        self._count -= 1
        self._running[who] = self.under_way(who) + 1
        self.running += 1
        return who, item

    def more(self, who: str, most: int) -> list[T]:
        """Return what else of a key waits, at most so much; it is of one piece with what was taken."""
        items = self._waiting.get(who, deque())
        found = [items.popleft() for _ in range(min(most, len(items)))]
        self._count -= len(found)
        if who in self._waiting:
            self._forget_empty(who)
        return found

    def done(self, who: str) -> None:
        """Note that something of a key has ended."""
        self.running -= 1
        self._running[who] -= 1
        if not self._running[who]:
            del self._running[who]

    def remove(self, unwanted: Callable[[T], bool]) -> list[T]:
        """Take out what is not wanted any more, and return it."""
        gone: list[T] = []
        for who, items in list(self._waiting.items()):
            out = [item for item in items if unwanted(item)]
            if out:
                self._waiting[who] = deque(item for item in items if not unwanted(item))
                self._forget_empty(who)
                gone += out
        self._count -= len(gone)
        return gone

    def gives_way(self, who: str) -> bool:
        """Whether another key has so much waiting that it can give a place to this one."""
        return self.of(self._most(who)) > self.of(who) + 1

    def newest_of_most(self, who: str) -> T | None:
        """Take out the newest of the key that has most waiting; None where that does not give way to this one."""
        if not self.gives_way(who):
            return None
        self._count -= 1
        return self._waiting[self._most(who)].pop()

    def _most(self, who: str) -> str:
        return max(self._waiting, key=self.of, default=who)

    def _forget_empty(self, who: str) -> None:
        if not self._waiting[who]:
            del self._waiting[who]
