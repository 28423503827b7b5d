"""Requests that were answered already, by idempotency key, so that a repeated one gets the same answer."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, insert, select, update

from memedit.memory.database import Database
from memedit.memory.schema import idempotency
from memedit.memory.times import now_micros, to_micros


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
    """What was answered under which key. A change and its mark are one transaction (:mod:`~memedit.memory.actor`)."""

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
