"""What people said of answers: this edit should have fired on that text, or should not have."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, insert, select, update

from memedit.memory.reading import current_rows
from memedit.memory.schema import feedback
from memedit.memory.stamps import IdFactory, from_micros, now_micros
from memedit.memory.store.database import Database
from memedit.memory.validation import check_text

_ids = IdFactory()


@dataclass(frozen=True, slots=True)
class Feedback:
    """A verdict on an edit and a text.

    ``query`` is the text, ``earlier`` the turns before it; ``request`` names the row of the request log it was given
    on.
    ``settled_at`` is when it was acted upon, ``outcome`` how.
    """

    id: str
    at: datetime
    namespace: str
    actor: str
    edit_id: str
    should_fire: bool
    query: str
    earlier: tuple[str, ...]
    request: str | None
    settled_at: datetime | None = None
    outcome: str | None = None


class FeedbackBook:
    """The verdicts of one store. They are no change of the memory: its revision stays."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        edit_id: str,
        query: str,
        *,
        should_fire: bool,
        namespace: str,
        actor: str = "",
        earlier: Sequence[str] = (),
        request: str | None = None,
    ) -> Feedback:
        """Keep a verdict, in place of an open one on the same edit and text.

        Raises:
            EditNotFoundError: no edit with this id in the namespace.
            FieldError: the text cannot be stored.
            StoreError: it could not be written.
        """
        check_text(query, "query")
        c = feedback.c
        row = {
            "id": _ids.take(1)[0],
            "at": now_micros(),
            "namespace": namespace,
            "actor": actor,
            "request": request,
            "edit": edit_id,
            "should_fire": int(should_fire),
            "query": query,
            "earlier": json.dumps(list(earlier), ensure_ascii=False),
        }
        same = (c.namespace == namespace, c.edit == edit_id, c.query == query, c.earlier == row["earlier"])
        with self._database.write() as connection:
            current_rows(connection, namespace, [edit_id])
            connection.execute(delete(feedback).where(*same, c.settled_at.is_(None)))
            connection.execute(insert(feedback), [row])
        return _feedback({**row, "settled_at": None, "outcome": None})

    def list(
        self,
        *,
        namespaces: Sequence[str] | None = None,
        actor: str | None = None,
        settled: bool | None = None,
        limit: int | None = None,
    ) -> list[Feedback]:
        """Return verdicts, newest first; ``settled`` only those that were acted upon, or only those that were not."""
        c = feedback.c
        query = select(feedback).order_by(c.id.desc()).limit(limit)
        if namespaces is not None:
            query = query.where(c.namespace.in_(namespaces))
        if actor is not None:
            query = query.where(c.actor == actor)
        if settled is not None:
            query = query.where(c.settled_at.is_not(None) if settled else c.settled_at.is_(None))
        with self._database.read() as connection:
            return [_feedback(row) for row in connection.execute(query).mappings()]

    def get(self, feedback_id: str) -> Feedback | None:
        """Return a verdict; None when there is none with this id."""
        with self._database.read() as connection:
            row = connection.execute(select(feedback).where(feedback.c.id == feedback_id)).mappings().first()
        return None if row is None else _feedback(row)

    def settle(self, outcomes: Mapping[str, str]) -> None:
        """Mark verdicts, by id, as acted upon; the values say how."""
        with self._database.write() as connection:
            for feedback_id, outcome in outcomes.items():
                values = {"settled_at": now_micros(), "outcome": outcome}
                connection.execute(update(feedback).where(feedback.c.id == feedback_id).values(**values))

    def remove(self, feedback_id: str) -> None:
        """Forget a verdict; one that is not there is no error."""
        with self._database.write() as connection:
            connection.execute(delete(feedback).where(feedback.c.id == feedback_id))


def _feedback(row: Mapping[Any, Any]) -> Feedback:
    return Feedback(
        id=row["id"],
        at=from_micros(row["at"]),
        namespace=row["namespace"],
        actor=row["actor"],
        edit_id=row["edit"],
        should_fire=bool(row["should_fire"]),
        query=row["query"],
        earlier=tuple(json.loads(row["earlier"])),
        request=row["request"],
        settled_at=None if row["settled_at"] is None else from_micros(row["settled_at"]),
        outcome=row["outcome"],
    )
