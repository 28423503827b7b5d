"""The change log as people ask about it: who changed what, when, from what to what."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, or_, select

from memedit.memory.rows import row_edit
from memedit.memory.schema import actors, changes, edits
from memedit.memory.stamps import from_micros
from memedit.types import Edit


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change. ``actor`` is None when it was made without a server (the command line, a script).

    ``before`` and ``after`` are the edit's versions around it; None where there was none, where the change is not of
    an edit, and where past versions have been forgotten for good. ``other`` names what else it concerns (the edit that
    superseded it, the key that was made).
    """

    revision: int
    at: datetime
    actor: str | None
    request: str | None
    namespace: str
    action: str
    edit_id: str | None
    before: Edit | None
    after: Edit | None
    other: str | None


def audit_entries(
    connection: Connection,
    *,
    namespaces: Sequence[str] | None,
    actor: str | None,
    before: int | None,
    limit: int,
) -> list[AuditEntry]:
    """Changes below revision ``before`` (None: from the newest on), newest first, at most ``limit``."""
    query = select(changes).order_by(changes.c.revision.desc()).limit(limit)
    if namespaces is not None:
        query = query.where(changes.c.namespace.in_(namespaces))
    if before is not None:
        query = query.where(changes.c.revision < before)
    if actor is not None:
        within = changes.c.revision.between(actors.c.first_revision, actors.c.last_revision)
        query = query.join(actors, within).where(actors.c.actor == actor)
    found = connection.execute(query).all()
    who = _actors(connection, [row.revision for row in found])
    versions = _versions(connection, [(row.seq, row.version) for row in found if row.seq is not None])
    entries = []
    for row in found:
        name, request = who.get(row.revision, (None, None))
        after = versions.get((row.seq, row.version))
        former = versions.get((row.seq, row.version - 1)) if row.seq is not None else None
        entries.append(
            AuditEntry(
                revision=row.revision,
                at=from_micros(row.at),
                actor=name,
                request=request,
                namespace=row.namespace,
                action=row.action,
                edit_id=after.id if after is not None else None,
                before=former,
                after=after,
                other=row.other,
            )
        )
    return entries


def _actors(connection: Connection, revisions: Sequence[int]) -> dict[int, tuple[str, str | None]]:
    """Actor and request of each of these revisions that has one."""
    if not revisions:
        return {}
    c = actors.c
    query = select(actors).where(c.last_revision >= min(revisions), c.first_revision <= max(revisions))
    ranges = connection.execute(query).all()
    return {
        revision: (row.actor, row.request)
        for row in ranges
        for revision in revisions
        if row.first_revision <= revision <= row.last_revision
    }


def _versions(connection: Connection, wanted: Sequence[tuple[int, int]]) -> dict[tuple[Any, Any], Edit]:
    """These versions of edits and the ones before them, by (seq, version)."""
    if not wanted:
        return {}
    c = edits.c
    near = or_(*(and_(c.seq == seq, c.version.between(version - 1, version)) for seq, version in set(wanted)))
    rows = connection.execute(select(edits).where(near)).mappings()
    return {(row["seq"], row["version"]): row_edit(row) for row in rows}
