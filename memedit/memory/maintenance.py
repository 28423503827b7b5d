"""Encoding anew what lacks a vector, and forgetting for good."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, select

from memedit.encoders.base import Encoder, Progress
from memedit.memory.database import Database
from memedit.memory.doubts import forget_doubts
from memedit.memory.encoding import EncoderSource
from memedit.memory.namespace_index import FORGOTTEN
from memedit.memory.reading import CURRENT, chunks, rows_by_seq
from memedit.memory.rows import EditRow, row_texts
from memedit.memory.schema import ORDINAL_BITS, artefacts, changes, edits, vectors
from memedit.memory.times import to_micros
from memedit.memory.writer import Writer, encoder_row, known_encoder
from memedit.types import EditState

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
