"""How many edits a namespace, or a key, has, against what it may have; checked in the transaction that adds some."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from memedit.errors import QuotaError
from memedit.memory.rows import LIVE
from memedit.memory.schema import actors, api_keys, changes, edits, quotas

_GROWS, _SHRINKS = frozenset({"add", "supersede", "restore"}), frozenset({"superseded", "delete"})


@dataclass(frozen=True, slots=True)
class Quota:
    """Limits; None is no limit. ``edits`` counts those that are not withdrawn; the others are rates of one server.

    Those of a key's ``edits`` are the ones that it added itself.
    """

    edits: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None

    def __bool__(self) -> bool:
        return self != Quota()


NO_QUOTA = Quota()


def check_growth(connection: Connection, log: Iterable[tuple[Any, ...]], actor: str | None) -> None:
    """Refuse a transaction whose changes have been written when they grow a namespace, or a key, past its quota.

    Args:
        connection: of the transaction; what raises here is rolled back.
        log: entries of the change log (namespace, seq, version, action, other).
        actor: who makes the changes.

    Raises:
        QuotaError: says whose quota it is, and how much is used.
    """
    grown: dict[str, int] = {}
    for namespace, _, _, action, _ in log:
        step = (action in _GROWS) - (action in _SHRINKS)
        grown[namespace] = grown.get(namespace, 0) + step
    for namespace, count in grown.items():
        limit = quota_of(connection, namespace).edits if count > 0 else None
        if limit is not None and (used := _in_namespace(connection, namespace)) > limit:
            raise QuotaError("namespace", namespace, limit, used - count, count)
    total = sum(grown.values())
    if actor is not None and total > 0:
        limit = _of_key(connection, actor)
        if limit is not None and (used := added_by(connection, actor)) > limit:
            raise QuotaError("key", actor, limit, used - total, total)


def quota_of(connection: Connection, namespace: str) -> Quota:
    """The quota of a namespace."""
    row = connection.execute(select(quotas).where(quotas.c.namespace == namespace)).mappings().first()
    return NO_QUOTA if row is None else quota_row(row)


def quota_row(row: Mapping[Any, Any]) -> Quota:
    """A quota as it is kept."""
    return Quota(row["edits"], row["requests_per_minute"], row["tokens_per_minute"])


def _of_key(connection: Connection, actor: str) -> int | None:
    """The most edits of the key that acts under this name (``name/id``)."""
    key_id = actor.rpartition("/")[2]
    found: int | None = connection.execute(select(api_keys.c.edits).where(api_keys.c.id == key_id)).scalar()
    return found


def _in_namespace(connection: Connection, namespace: str) -> int:
    mine = (edits.c.namespace == namespace, edits.c.expired_at.is_(None), edits.c.state.in_(LIVE))
    return int(connection.execute(select(func.count()).select_from(edits).where(*mine)).scalar_one())


def added_by(connection: Connection, actor: str) -> int:
    """How many edits that are not withdrawn this one added."""
    own = (
        select(changes.c.seq)
        .join(actors, changes.c.revision.between(actors.c.first_revision, actors.c.last_revision))
        .where(actors.c.actor == actor, changes.c.action.in_(("add", "supersede")))
        .distinct()
        .subquery()
    )
    alive = (edits.c.expired_at.is_(None), edits.c.state.in_(LIVE))
    query = select(func.count()).select_from(own.join(edits, edits.c.seq == own.c.seq)).where(*alive)
    return int(connection.execute(query).scalar_one())
