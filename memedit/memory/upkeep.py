"""Looking for what should not be, encoding anew what lacks a vector, and forgetting for good."""

from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import Connection, and_, delete, func, select

from memedit.encoders.base import Encoder, Progress
from memedit.memory.doubts import forget_doubts
from memedit.memory.encoding import EncoderSource, join_vectors
from memedit.memory.normal import content_hash, lookup_hash
from memedit.memory.reading import CURRENT, chunks, rows_by_seq, store_revision
from memedit.memory.rows import EditRow, row_edit, row_texts
from memedit.memory.schema import ORDINAL_BITS, artefacts, changes, edits, encoders, vectors
from memedit.memory.search.namespace_index import FORGOTTEN, NamespaceIndex
from memedit.memory.stamps import to_micros
from memedit.memory.store.database import Database
from memedit.memory.writer import Writer, encoder_row, known_encoder
from memedit.types import EditState

_MOST = 20
_SAMPLE = 500


def store_problems(connection: Connection) -> list[str]:
    """Problems of the whole database."""
    problems: list[str] = []
    if connection.dialect.name == "sqlite":
        found = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
        problems += [f"database: {text}" for text in found if text != "ok"]
    newest = connection.execute(select(func.max(changes.c.revision))).scalar() or 0
    if newest != store_revision(connection):
        problems.append(f"the change log ends at {newest}, the revision counter says {store_revision(connection)}")
    current = func.sum(func.coalesce(edits.c.expired_at * 0, 1))
    many = select(edits.c.id).group_by(edits.c.seq, edits.c.id).having(current != 1)
    problems += [
        f"edit {i} has not exactly one current version" for i in connection.execute(many.limit(_MOST)).scalars()
    ]
    logged = select(changes.c.revision).where(changes.c.seq == edits.c.seq, changes.c.version == edits.c.version)
    silent = select(edits.c.id, edits.c.version).where(~logged.exists(), CURRENT).limit(_MOST)
    problems += [f"edit {row[0]} version {row[1]} is not in the change log" for row in connection.execute(silent)]
    return problems


def edit_problems(connection: Connection, namespace: str) -> tuple[int, list[str]]:
    """Count a namespace's edits and find those whose hashes do not fit their texts."""
    problems: list[str] = []
    count = 0
    query = select(edits).where(edits.c.namespace == namespace, CURRENT)
    for row in connection.execution_options(yield_per=1_000).execute(query).mappings():
        count += 1
        try:
            edit = row_edit(row)
        except ValueError as error:
            problems.append(f"edit {row['id']} cannot be read: {error}")
            continue
        if edit.content_hash != content_hash(namespace, edit.prompt, edit.target, edit.subject, edit.paraphrases):
            problems.append(f"edit {edit.id}: its content hash does not fit its texts")
        if row["prompt_hash"] != lookup_hash(namespace, edit.prompt):
            problems.append(f"edit {edit.id}: its prompt hash does not fit its prompt")
    return count, problems


def vector_problems(connection: Connection, namespace: str) -> tuple[int, list[str]]:
    """Count a namespace's vectors and find those that are missing, left over, misshapen or not unit."""
    problems: list[str] = []
    widths = {row[0]: row[1] for row in connection.execute(select(encoders.c.id, encoders.c.dimension))}
    first = edits.c.seq * (1 << ORDINAL_BITS)
    # the range alone says it, but PostgreSQL joins by ranges pair by pair; SQLite would look at all vectors for this
    same = (vectors.c.key // (1 << ORDINAL_BITS) == edits.c.seq,) if connection.dialect.name != "sqlite" else ()
    mine = (edits.c.namespace == namespace, CURRENT)
    has = (
        select(func.count()).select_from(vectors).where(vectors.c.key >= first, vectors.c.key < first + edits.c.texts)
    ).scalar_subquery()
    short = select(edits.c.id).where(*mine, has != edits.c.texts).limit(_MOST)
    problems += [f"edit {i} lacks a vector of one of its texts" for i in connection.execute(short).scalars()]
    after = (vectors.c.key >= first + edits.c.texts) & (vectors.c.key < first + (1 << ORDINAL_BITS))
    extra = select(edits.c.id).join_from(edits, vectors, and_(after, *same)).where(*mine).limit(_MOST)
    problems += [f"edit {i} has a vector of no text" for i in connection.execute(extra).scalars()]
    every = (
        select(edits.c.id, vectors.c.encoder, vectors.c.vector)
        .join_from(edits, vectors, and_(vectors.c.key >= first, vectors.c.key < first + edits.c.texts, *same))
        .where(*mine)
    )
    count = 0
    for rows in connection.execution_options(yield_per=5_000).execute(every).partitions():
        count += len(rows)
        bad = [row[0] for row in rows if len(row[2]) != 4 * widths.get(row[1], -1)]
        problems += [f"edit {i} has a vector of the wrong width or of no known encoder" for i in bad[:_MOST]]
        if not bad and len({row[1] for row in rows}) == 1:
            norms = np.linalg.norm(join_vectors(row[2] for row in rows), axis=1)
            off = np.flatnonzero(~(np.abs(norms - 1) < 1e-3))[:_MOST]
            problems += [f"edit {rows[i][0]} has a vector of length {norms[i]:.3g}, not 1" for i in off]
    return count, problems


def index_problems(connection: Connection, space: NamespaceIndex) -> tuple[int, list[str]]:
    """Count the rows of a namespace's vector index and find where it disagrees with the store."""
    problems: list[str] = []
    try:
        problems += space.problems(connection)
        space.refresh(connection)
    except Exception as error:  # whatever stops the index from being made is what was asked for
        return 0, [*problems, f"index: {error}"]
    index = space.searcher(lambda: connection)
    rows = len(index)
    expected = space.expected_rows(connection)
    if rows != expected:
        problems.append(f"the index has {rows} rows, the store has {expected} texts in force")
    for ids, matrix in space.sample(connection, _SAMPLE):
        scores, _ = index.search(matrix, 1)
        problems += [f"the index does not find vector {ids[i]}" for i in np.flatnonzero(scores[:, 0] < 0.999)[:_MOST]]
    return rows, problems


_EDITS_A_STEP = 10_000


def encode_missing(database: Database, source: EncoderSource, namespace: str, progress: Progress | None) -> int:
    """Encode every text without a vector of this encoder; return how many edits had such texts.

    Goes in steps of some thousand edits: a step that is done stays done, and other writers get their turn between.
    """
    with database.read() as connection:
        todo = _lacking(connection, source.get(), namespace)
    for done in range(0, len(todo), _EDITS_A_STEP):
        _encode_step(database, source.get(), todo[done : done + _EDITS_A_STEP])
        if progress is not None:
            progress(min(done + _EDITS_A_STEP, len(todo)), len(todo))
    return len(todo)


def _lacking(connection: Connection, encoder: Encoder, namespace: str) -> list[int]:
    """``seq`` of the edits, withdrawn ones too, that have fewer vectors of this encoder than texts."""
    first = edits.c.seq * (1 << ORDINAL_BITS)
    has = (
        select(func.count())
        .select_from(vectors)
        .where(vectors.c.key >= first, vectors.c.key < first + edits.c.texts)
        .where(vectors.c.encoder == known_encoder(connection, encoder.fingerprint))
        .where(func.length(vectors.c.vector) == 4 * encoder.dimension)
        .scalar_subquery()
    )
    query = select(edits.c.seq).where(edits.c.namespace == namespace, CURRENT, has != edits.c.texts)
    return list(connection.execute(query.order_by(edits.c.seq)).scalars())


def _encode_step(database: Database, encoder: Encoder, seqs: list[int]) -> None:
    with database.read() as connection:
        before = rows_by_seq(connection, seqs)
    rows = list(before.values())
    matrix = encoder.encode([text for row in rows for text in row_texts(row)])
    with database.write() as connection:
        now = rows_by_seq(connection, seqs)
        writer = Writer(database, connection)
        writer.drop_vectors(seqs)
        if _texts(now) != _texts(before):  # changed by another process meanwhile
            rows = list(now.values())
            matrix = encoder.encode([text for row in rows for text in row_texts(row)])
        writer.put_vectors(rows, matrix, encoder_row(connection, encoder))
        for row in rows:
            writer.log(row, "encode")
        writer.flush()


def _texts(rows: dict[int, EditRow]) -> dict[int, Any]:
    return {seq: (row["prompt"], row["paraphrases"]) for seq, row in rows.items()}


def forget(database: Database, before: datetime) -> None:
    """Erase withdrawn edits and past versions that ended before this time, with their vectors and log entries."""
    moment = to_micros(before)
    with database.write() as connection:
        retired = select(edits.c.seq).where(
            CURRENT, edits.c.state == EditState.RETIRED.value, edits.c.created_at < moment
        )
        gone = list(connection.execute(retired).scalars())
        spaces = list(connection.execute(select(edits.c.namespace).distinct()).scalars())
        writer = Writer(database, connection)
        writer.drop_vectors(gone)
        for part in chunks(gone):
            connection.execute(delete(artefacts).where(artefacts.c.seq.in_(part)))
            forget_doubts(connection, part)
            connection.execute(delete(edits).where(edits.c.seq.in_(part)))
        connection.execute(delete(edits).where(edits.c.expired_at < moment))
        kept = select(edits.c.seq).where(edits.c.seq == changes.c.seq, edits.c.version == changes.c.version)
        connection.execute(delete(changes).where(changes.c.seq.is_not(None), ~kept.exists()))
        for namespace in spaces:
            writer.note(namespace, FORGOTTEN)
        writer.flush()
