"""Answers of a server that their askers can read again and go on from, until they expire."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, insert, select

from memedit.memory.database import Database
from memedit.memory.schema import responses
from memedit.memory.times import from_micros, to_micros


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """An answer, for its ``actor`` alone. ``body`` is it as JSON, ``items`` the talk before it as a JSON list."""

    id: str
    actor: str
    namespace: str
    created_at: datetime
    expires_at: datetime
    body: str
    items: str


class StoredResponses:
    """What was answered to whom. No actor is told of another's: to each only their own exist."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, response: StoredResponse) -> None:
        """Keep an answer."""
        row = {
            "id": response.id,
            "actor": response.actor,
            "namespace": response.namespace,
            "created_at": to_micros(response.created_at),
            "expires_at": to_micros(response.expires_at),
            "body": response.body,
            "items": response.items,
        }
        with self._database.write() as connection:
            connection.execute(insert(responses), [row])

    def find(self, actor: str, response_id: str, now: datetime) -> StoredResponse | None:
        """Return an answer of this actor's that has not expired; None when there is none."""
        c = responses.c
        query = select(responses).where(c.id == response_id, c.actor == actor, c.expires_at > to_micros(now))
        with self._database.read() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        times = from_micros(row.created_at), from_micros(row.expires_at)
        return StoredResponse(row.id, row.actor, row.namespace, *times, row.body, row.items)

    def delete(self, actor: str, response_id: str) -> bool:
        """Delete an answer of this actor's; return whether there was one."""
        c = responses.c
        with self._database.write() as connection:
            found = connection.execute(delete(responses).where(c.id == response_id, c.actor == actor))
            return bool(found.rowcount)

    def forget(self, now: datetime, *, most: int) -> int:
        """Forget what has expired, and the oldest of actors who have more than ``most``; return how many."""
        c = responses.c
        with self._database.write() as connection:
            gone = connection.execute(delete(responses).where(c.expires_at <= to_micros(now))).rowcount
            for actor in connection.execute(select(c.actor).distinct()).scalars().all():
                mine = select(c.created_at).where(c.actor == actor).order_by(c.created_at.desc())
                newest = connection.execute(mine.offset(most).limit(1)).scalar()
                if newest is not None:
                    gone += connection.execute(
                        delete(responses).where(c.actor == actor, c.created_at <= newest)
                    ).rowcount
        return int(gone)
