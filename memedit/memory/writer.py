"""One write transaction's worth of changes, gathered, written in a few large statements, and held to the quotas."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
from sqlalchemy import Connection, Table, delete, func, insert, select, update
from sqlalchemy import bindparam as bind

from memedit.encoders.base import Encoder
from memedit.errors import FingerprintMismatchError, QuotaError
from memedit.memory.neighbour_writer import neighbour_writer
from memedit.memory.rows import LIVE, EditRow
from memedit.memory.schema import ORDINAL_BITS, actors, api_keys, changes, edits, encoders, quotas, vectors
from memedit.memory.stamps import now_micros
from memedit.memory.store.database import Database
from memedit.types import FloatArray

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


LogEntry = tuple[str, int | None, int | None, str, str | None]
"""namespace, seq, version, action, other"""

_edit_values = itemgetter(*edits.c.keys())


class Writer:
    """Gathers new versions, vectors and log entries; :meth:`flush` writes them in the order they were given.

    Args:
        database: the store.
        connection: a connection that holds the write lock.

    ``now`` is later than every change before it, whatever the clock does.
    """

    def __init__(self, database: Database, connection: Connection) -> None:
        self._database = database
        self._connection = connection
        newest = select(changes.c.at).order_by(changes.c.revision.desc()).limit(1)
        self.now = max(now_micros(), (connection.execute(newest).scalar() or 0) + 1)
        self._inserts: list[EditRow] = []
        self._expired: list[dict[str, Any]] = []
        self._log: list[LogEntry] = []
        self._vectors: list[tuple[int, int, memoryview]] = []
        self._neighbours = neighbour_writer(connection)

    def add(self, rows: Sequence[EditRow]) -> None:
        """Take new edits: gives each its ``seq``."""
        if not rows:
            return
        first = self._database.advance(self._connection, "seq", len(rows))
        for seq, row in enumerate(rows, start=first):
            row["seq"] = seq
            row["created_at"] = self.now
        self._inserts.extend(rows)

    def log(self, row: Mapping[str, Any], action: str, other: str | None = None) -> None:
        """Record that ``action`` made the version ``row``."""
        self._log.append((row["namespace"], row["seq"], row["version"], action, other))

    def replace(self, old: EditRow, new: EditRow) -> None:
        """Close version ``old`` (stored, or given to :meth:`add` just now) and put ``new`` after it."""
        old["expired_at"] = self.now
        new["created_at"] = self.now
        if self._neighbours is not None:
            self._neighbours.move(old, new)
        if old["created_at"] != self.now:  # else it waits among the inserts and carries its end itself
            self._expired.append({"s": old["seq"], "v": old["version"]})
        self._inserts.append(new)

    def put_vectors(self, rows: Sequence[EditRow], matrix: FloatArray, encoder_id: int) -> None:
        """Take the vectors ``[t, d]`` of the rows' texts: each row's prompt, then its paraphrases."""
        little = np.ascontiguousarray(matrix, dtype="<f4")
        if not little.size:
            return
        view, width = little.data.cast("B"), little.shape[1] * 4
        start = 0
        if self._neighbours is not None:
            for row, part in zip(rows, np.split(little, np.cumsum([row["texts"] for row in rows])[:-1]), strict=True):
                self._neighbours.put(row, part, encoder_id)
        for row in rows:
            key = row["seq"] << ORDINAL_BITS
            for ordinal in range(row["texts"]):
                blob = view[start : start + width]
                self._vectors.append((key | ordinal, encoder_id, blob))
                start += width

    def drop_vectors(self, seqs: Sequence[int]) -> None:
        """Delete the vectors of these edits; new ones may be put in the same transaction."""
        ends = [{"low": seq << ORDINAL_BITS, "high": (seq + 1) << ORDINAL_BITS} for seq in seqs]
        if ends:
            between = (vectors.c.key >= bind("low")) & (vectors.c.key < bind("high"))
            self._connection.execute(delete(vectors).where(between), ends)
        if self._neighbours is not None:
            self._neighbours.drop(seqs)

    def note(self, namespace: str, action: str, other: str | None = None) -> None:
        """Record a change that is not one of an edit."""
        self._log.append((namespace, None, None, action, other))

    def flush(self) -> None:
        """Write everything gathered."""
        if self._expired:
            row = (edits.c.seq == bind("s")) & (edits.c.version == bind("v"))
            self._connection.execute(update(edits).where(row).values(expired_at=self.now), self._expired)
        if self._inserts:
            _insert_many(self._connection, edits, list(map(_edit_values, self._inserts)))
        if self._vectors:
            _insert_many(self._connection, vectors, self._vectors)
        if self._neighbours is not None:
            self._neighbours.flush()
        if self._log:
            first = self._database.advance(self._connection, "revision", len(self._log))
            log = [(first + i, *entry, self.now) for i, entry in enumerate(self._log)]
            _insert_many(self._connection, changes, log)
            self._database.acting.record(self._connection, first, first + len(log) - 1)
            check_growth(self._connection, self._log, self._database.acting.name)
        self._inserts, self._expired, self._log, self._vectors = [], [], [], []


def _insert_many(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows of all columns in the table's order.

    The statement is compiled by SQLAlchemy, but the rows go to the driver as they are: its own handling of every
    parameter of every row would cost more than the database does.
    """
    compiled = insert(table).compile(dialect=connection.dialect)
    if compiled.positional:
        connection.exec_driver_sql(str(compiled), list(rows))
    else:
        names = table.c.keys()
        connection.exec_driver_sql(str(compiled), [dict(zip(names, row, strict=True)) for row in rows])


def encoder_row(connection: Connection, encoder: Encoder) -> int:
    """Id of this encoder in the store; it is entered when it is new. The write lock must be held."""
    found = known_encoder(connection, encoder.fingerprint)
    if found is not None:
        return found
    number = int(connection.execute(select(func.coalesce(func.max(encoders.c.id), 0))).scalar_one()) + 1
    values = {"id": number, "fingerprint": encoder.fingerprint, "name": encoder.name, "dimension": encoder.dimension}
    connection.execute(insert(encoders), [values])
    return number


def check_encoder(connection: Connection, namespace: str, encoder: Encoder) -> None:
    """Refuse to mix the vectors of two encoders in one namespace: neither could look anything up after that.

    Raises:
        FingerprintMismatchError: the namespace's newest edit has a vector of another encoder.
    """
    newest = (
        select(edits.c.seq)
        .where(edits.c.namespace == namespace, edits.c.expired_at.is_(None))
        .order_by(edits.c.seq.desc())
        .limit(1)
    )
    seq = connection.execute(newest).scalar()
    if seq is None:
        return
    used = (
        select(encoders).join(vectors, vectors.c.encoder == encoders.c.id).where(vectors.c.key == seq << ORDINAL_BITS)
    )
    found = connection.execute(used).first()
    if found is not None and found.fingerprint != encoder.fingerprint:
        raise FingerprintMismatchError(
            f"namespace {namespace!r} was encoded with {found.name!r} (width {found.dimension}), this memory has "
            f"{encoder.name!r} (width {encoder.dimension}); open it with the former, or encode everything anew with "
            "rebuild() (`memedit index rebuild`)"
        )


def known_encoder(connection: Connection, fingerprint: str) -> int | None:
    """Id of the encoder with this fingerprint, None when no vector was ever made with it."""
    found = connection.execute(select(encoders.c.id).where(encoders.c.fingerprint == fingerprint)).scalar()
    return None if found is None else int(found)
