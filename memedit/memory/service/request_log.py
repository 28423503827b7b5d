"""What a server keeps of its work: the requests that it answered, and its figures by the minute."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, delete, func, insert, select

from memedit.memory.schema import figures, request_log
from memedit.memory.stamps import IdFactory, from_micros, to_micros
from memedit.memory.store.database import Database
from memedit.memory.store.dialect import fold, folded

_ids = IdFactory()


@dataclass(frozen=True, slots=True)
class JudgedEdit:
    """An edit that was looked at for a request. ``in_weights``: it applied, and the model's own weights answered it."""

    id: str
    score: float
    fired: bool = False
    in_weights: bool = False


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """A prompt that a server answered, or failed to.

    ``query`` is the text that was looked up, ``earlier`` the turns of the talk before it; ``answer`` is kept only where
    the server was told to. ``actor`` is the name of the key; ``status`` is "ok", or the code of what went wrong;
    ``seconds`` the time to the end, ``first_token`` to the first token of a stream. ``considered`` are best first, and
    empty where nothing was looked up; ``threshold`` is None then.
    """

    id: str
    at: datetime
    namespace: str
    actor: str
    request: str
    route: str
    query: str
    earlier: tuple[str, ...] = ()
    answer: str | None = None
    model: str = ""
    status: str = "ok"
    seconds: float = 0.0
    first_token: float | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    revision: int | None = None
    adapter: str | None = None
    version: str | None = None
    scope: str | None = None
    threshold: float | None = None
    abstained: bool = False
    considered: tuple[JudgedEdit, ...] = ()

    @property
    def fired(self) -> tuple[str, ...]:
        """The ids of the edits that fired, best first."""
        return tuple(edit.id for edit in self.considered if edit.fired)


_COLUMNS = ("id", "namespace", "actor", "request", "route", "query", "answer")
_APART = {*_COLUMNS, "at", "earlier"}


def request_id() -> str:
    """Return the id of a new row; ids sort by the time they were made."""
    return _ids.take(1)[0]


class RequestLog:
    """The log of one store. Rows are no change of the memory: its revision stays."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, rows: Sequence[LoggedRequest]) -> None:
        """Add rows in one transaction.

        Raises:
            StoreError: they could not be written; none was.
        """
        if rows:
            with self._database.write() as connection:
                connection.execute(insert(request_log), [_values(row) for row in rows])

    def get(self, row_id: str) -> LoggedRequest | None:
        """Return a row; None when there is none with this id."""
        with self._database.read() as connection:
            query = select(request_log).where(request_log.c.id == row_id)
            row = connection.execute(query).mappings().first()
        return None if row is None else _logged(row)

    def list(
        self,
        *,
        namespaces: Sequence[str] | None = None,
        actor: str | None = None,
        edit: str | None = None,
        fired: bool | None = None,
        text: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        before: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[LoggedRequest]:
        """Return rows, newest first.

        Args:
            namespaces: only of these; None is everywhere.
            actor: only of this key.
            edit: only those on which the edit with this id fired.
            fired: only those on which an edit did, or none did.
            text: only those whose query, or answer where it is kept, has every word of this, ignoring case.
            since: only from then on, ``until`` only before then.
            before: only rows older than the one with this id: the last one seen gives the next page.
            after: only rows newer than the one with this id: of these the oldest.
            limit: at most so many.
        """
        c = request_log.c
        wanted: list[ColumnElement[bool]] = []
        if namespaces is not None:
            wanted.append(c.namespace.in_(namespaces))
        if actor is not None:
            wanted.append(c.actor == actor)
        if edit is not None:
            wanted.append(c.fired.contains(f" {edit} ", autoescape=True))
        if fired is not None:
            wanted.append(c.fired != " " if fired else c.fired == " ")
        if since is not None:
            wanted.append(c.at >= to_micros(since))
        if until is not None:
            wanted.append(c.at < to_micros(until))
        if before is not None:
            wanted.append(c.id < before)
        if after is not None:
            wanted.append(c.id > after)
        order = c.id.asc() if after is not None else c.id.desc()
        with self._database.read() as connection:
            whole = folded(connection.dialect.name, c.query + "\n" + func.coalesce(c.answer, ""))
            words = [fold(word) or "" for word in (text or "").split()]
            wanted += [whole.contains(word, autoescape=True) for word in words]
            rows = connection.execute(select(request_log).where(*wanted).order_by(order).limit(limit)).mappings().all()
        found = [_logged(row) for row in rows]
        return found[::-1] if after is not None else found

    def trim(self, *, keep: int, before: datetime) -> int:
        """Forget rows from before a time, and of the others all but the newest ``keep``; return how many."""
        c = request_log.c
        with self._database.write() as connection:
            old = connection.execute(delete(request_log).where(c.at < to_micros(before))).rowcount
            newest = select(c.id).order_by(c.id.desc()).offset(keep).limit(1)
            last = connection.execute(newest).scalar()
            more = 0 if last is None else connection.execute(delete(request_log).where(c.id <= last)).rowcount
        return int(old + more)


def _values(row: LoggedRequest) -> dict[str, Any]:
    body = {name: value for name, value in asdict(row).items() if name not in _APART}
    return {name: getattr(row, name) for name in _COLUMNS} | {
        "at": to_micros(row.at),
        "earlier": json.dumps(row.earlier, ensure_ascii=False),
        "fired": "".join(f" {edit}" for edit in row.fired) + " ",
        "body": json.dumps(body, ensure_ascii=False),
    }


def _logged(row: Mapping[Any, Any]) -> LoggedRequest:
    body = json.loads(row["body"])
    body["considered"] = tuple(JudgedEdit(**edit) for edit in body["considered"])
    columns = {name: row[name] for name in _COLUMNS}
    return LoggedRequest(**columns, at=from_micros(row["at"]), earlier=tuple(json.loads(row["earlier"])), **body)


@dataclass(frozen=True, slots=True)
class Figures:
    """What one server did in the minute up to ``at``."""

    at: datetime
    server: str
    values: Mapping[str, float]


class FigureRing:
    """The figures of one store's servers. They are no change of the memory: its revision stays."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, row: Figures, *, forget_before: datetime) -> None:
        """Add a minute, in place of one with the same time and server, and forget what is older than a time."""
        c, at = figures.c, to_micros(row.at)
        with self._database.write() as connection:
            connection.execute(delete(figures).where(c.at < to_micros(forget_before)))
            connection.execute(delete(figures).where(c.at == at, c.server == row.server))
            connection.execute(
                insert(figures), [{"at": at, "server": row.server, "body": json.dumps(dict(row.values))}]
            )

    def since(self, when: datetime) -> list[Figures]:
        """Return the minutes from a time on, oldest first."""
        query = select(figures).where(figures.c.at >= to_micros(when)).order_by(figures.c.at, figures.c.server)
        with self._database.read() as connection:
            return [Figures(from_micros(row.at), row.server, json.loads(row.body)) for row in connection.execute(query)]
