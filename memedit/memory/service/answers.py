"""Answers given again: to a request that is repeated, and to an asker who goes on from one."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, insert, select, update

from memedit.memory.schema import idempotency, responses
from memedit.memory.stamps import from_micros, now_micros, to_micros
from memedit.memory.store.database import Database


@dataclass(frozen=True, slots=True)
class AnsweredRequest:
    """A request that came before. ``revision`` is its first change, None when it made none.

    ``status`` and ``body`` are its answer; None when the process died between the change and the answer.
    """

    fingerprint: str
    revision: int | None
    status: int | None
    body: str | None


class AnsweredRequests:
    """What was answered under which key. A change and its mark are one transaction (:class:`~memedit.memory.Actor`)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, actor: str, key: str) -> AnsweredRequest | None:
        """Return the request of this actor under this key, None when there was none."""
        c = idempotency.c
        with self._database.read() as connection:
            row = connection.execute(select(idempotency).where(c.actor == actor, c.key == key)).first()
        return None if row is None else AnsweredRequest(row.fingerprint, row.revision, row.status, row.body)

    def answered(self, actor: str, key: str, fingerprint: str, status: int, body: str) -> None:
        """Keep the answer given under a key."""
        c = idempotency.c
        with self._database.write() as connection:
            mine = (c.actor == actor) & (c.key == key)
            if connection.execute(select(c.at).where(mine)).first() is None:
                row = {"actor": actor, "key": key, "fingerprint": fingerprint, "at": now_micros()}
                connection.execute(insert(idempotency), [{**row, "status": status, "body": body}])
            else:
                connection.execute(update(idempotency).where(mine).values(status=status, body=body))

    def forget(self, before: datetime) -> int:
        """Forget requests from before this time; return how many."""
        with self._database.write() as connection:
            found = connection.execute(delete(idempotency).where(idempotency.c.at < to_micros(before)))
            return int(found.rowcount)


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
