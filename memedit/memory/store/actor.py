"""On whose behalf changes are made: recorded with them, in the same transaction."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from memedit.errors import RepeatedRequestError
from memedit.memory.schema import actors, idempotency
from memedit.memory.stamps import now_micros


@dataclass(frozen=True, slots=True)
class Actor:
    """Who makes a change. ``request`` names the request it came by.

    With an ``idempotency_key``, the first change of the request also leaves a mark under that key; ``fingerprint``
    is a digest of the request, so that the same key on another request can be told.
    """

    name: str
    request: str | None = None
    idempotency_key: str | None = None
    fingerprint: str = ""


class Acting:
    """The actor of the current thread or task; None outside of :meth:`as_actor`."""

    def __init__(self) -> None:
        self._current: ContextVar[Actor | None] = ContextVar("memedit_actor", default=None)

    @contextmanager
    def as_actor(self, actor: Actor) -> Iterator[None]:
        """Make the changes inside on behalf of ``actor``."""
        token = self._current.set(actor)
        try:
            yield
        finally:
            self._current.reset(token)

    @property
    def name(self) -> str | None:
        """The actor's name, None when nobody is named."""
        actor = self._current.get()
        return None if actor is None else actor.name

    def record(self, connection: Connection, first: int, last: int) -> None:
        """Write who makes the changes ``first`` to ``last``; the write lock must be held.

        Raises:
            RepeatedRequestError: another request has left its mark under the same idempotency key meanwhile.
        """
        actor = self._current.get()
        if actor is None:
            return
        values = {"first_revision": first, "last_revision": last, "actor": actor.name, "request": actor.request}
        connection.execute(insert(actors), [values])
        if actor.idempotency_key is not None:
            mark = {"actor": actor.name, "key": actor.idempotency_key}
            c = idempotency.c
            if connection.execute(select(c.at).where(c.actor == actor.name, c.key == mark["key"])).first() is not None:
                raise RepeatedRequestError(actor.idempotency_key)
            values = {**mark, "fingerprint": actor.fingerprint, "revision": first, "at": now_micros()}
            connection.execute(insert(idempotency), [values])
