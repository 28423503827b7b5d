"""Taking a copy of a memory back to an earlier revision: possible since every version of an edit is kept."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, case, delete, func, or_, select, update

from memedit.errors import InputError
from memedit.memory.backup.snapshot import facts_of
from memedit.memory.reading import chunks
from memedit.memory.schema import (
    ORDINAL_BITS,
    actors,
    artefacts,
    changes,
    counters,
    edits,
    idempotency,
    possible_conflicts,
    vectors,
)

_TEXTS = ("prompt", "paraphrases")
_CONTENT = ("content_hash", "blocks")


@dataclass(frozen=True, slots=True)
class Rewound:
    """What going back came to.

    ``at`` is the time of the revision in microseconds since 1970, 0 for an empty store; ``settings`` are those that
    were set later (namespace, key): of them no past is kept, so they stay. In ``to_encode`` are the namespaces with
    edits whose texts are other ones again, and must be encoded anew.
    """

    revision: int
    at: int
    settings: tuple[tuple[str, str], ...]
    to_encode: tuple[str, ...]


def revision_at(connection: Connection, micros: int) -> int:
    """Return the last revision made at or before a time, given in microseconds since 1970."""
    query = select(func.max(changes.c.revision)).where(changes.c.at <= micros)
    return int(connection.execute(query).scalar() or 0)


def rewind(connection: Connection, revision: int) -> Rewound:
    """Make a copy what the store was right after ``revision``; the write lock must be held.

    Keys of clients stay as they are, so that none that was revoked opens anything again.

    Raises:
        InputError: the copy does not reach to this revision, or past versions were forgotten after it.
    """
    facts = facts_of(connection)
    if not facts.oldest <= revision <= facts.revision:
        raise InputError(
            f"revision {revision} cannot be restored from this backup, which holds {facts.oldest} to {facts.revision}"
            + (": past versions before that were forgotten for good" if facts.oldest and revision >= 0 else "")
        )
    at = connection.execute(select(func.max(changes.c.at)).where(changes.c.revision <= revision)).scalar() or 0
    kept = _last_versions(connection, revision)
    gone = [seq for seq, version in kept.items() if version is None]
    back = {seq: version for seq, version in kept.items() if version is not None}
    texts, content, spaces = _differing(connection, back)
    _drop_edits(connection, gone)
    _drop_later(connection, back)
    _drop_vectors(connection, [*gone, *texts])
    for part in chunks([*gone, *content]):
        connection.execute(delete(artefacts).where(artefacts.c.seq.in_(part)))
    settings = _later_settings(connection, revision)
    _cut_log(connection, revision, at)
    return Rewound(revision, at, settings, tuple(sorted(spaces)))


def _last_versions(connection: Connection, revision: int) -> dict[int, int | None]:
    """Of each edit that changed later, the version it was at; None when there was none."""
    then = func.max(case((changes.c.revision <= revision, changes.c.version)))
    query = (
        select(changes.c.seq, then)
        .where(changes.c.seq.is_not(None))
        .group_by(changes.c.seq)
        .having(func.max(changes.c.revision) > revision)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def _differing(connection: Connection, back: dict[int, int]) -> tuple[list[int], list[int], set[str]]:
    """Return whose texts and whose content is another than now, and the namespaces of the former."""
    texts, content, spaces = [], [], set()
    columns = [edits.c[name] for name in ("seq", "version", "namespace", *_TEXTS, *_CONTENT)]
    for part in chunks(list(back)):
        rows = connection.execute(select(*columns).where(edits.c.seq.in_(part)).order_by(edits.c.version)).all()
        then = {row.seq: row for row in rows if row.version == back[row.seq]}
        now = {row.seq: row for row in rows}
        for seq, old in then.items():
            if any(getattr(old, name) != getattr(now[seq], name) for name in _TEXTS):
                texts.append(seq)
                spaces.add(old.namespace)
            if any(getattr(old, name) != getattr(now[seq], name) for name in _CONTENT):
                content.append(seq)
    return texts, content, spaces


def _drop_edits(connection: Connection, seqs: Sequence[int]) -> None:
    for part in chunks(seqs):
        connection.execute(delete(edits).where(edits.c.seq.in_(part)))
        pairs = possible_conflicts.c
        connection.execute(delete(possible_conflicts).where(or_(pairs.newer.in_(part), pairs.older.in_(part))))


def _drop_later(connection: Connection, back: dict[int, int]) -> None:
    rows = [{"s": seq, "v": version} for seq, version in back.items()]
    if rows:
        mine = edits.c.seq == bindparam("s")
        connection.execute(delete(edits).where(mine, edits.c.version > bindparam("v")), rows)
        connection.execute(update(edits).where(mine, edits.c.version == bindparam("v")).values(expired_at=None), rows)


def _drop_vectors(connection: Connection, seqs: Iterable[int]) -> None:
    ends = [{"low": seq << ORDINAL_BITS, "high": (seq + 1) << ORDINAL_BITS} for seq in seqs]
    if ends:
        between = (vectors.c.key >= bindparam("low")) & (vectors.c.key < bindparam("high"))
        connection.execute(delete(vectors).where(between), ends)


def _later_settings(connection: Connection, revision: int) -> tuple[tuple[str, str], ...]:
    query = select(changes.c.namespace, changes.c.other).distinct()
    later = query.where(changes.c.action == "setting", changes.c.revision > revision)
    return tuple(sorted((row[0], row[1]) for row in connection.execute(later)))


def _cut_log(connection: Connection, revision: int, at: int) -> None:
    """End the log at a revision, and with it what is told by revision or time."""
    connection.execute(delete(changes).where(changes.c.revision > revision))
    connection.execute(delete(actors).where(actors.c.first_revision > revision))
    connection.execute(update(actors).where(actors.c.last_revision > revision).values(last_revision=revision))
    unmarked = idempotency.c.revision.is_(None) & (idempotency.c.at > at)
    connection.execute(delete(idempotency).where(or_(idempotency.c.revision > revision, unmarked)))
    connection.execute(delete(possible_conflicts).where(possible_conflicts.c.at > at))
    connection.execute(update(counters).where(counters.c.name == "revision").values(value=revision))
