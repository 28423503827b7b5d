"""Reading the vectors that lie beside the edits, many at a time."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, any_, bindparam, select
from sqlalchemy.dialects.postgresql import ARRAY

from memedit.memory.reading import chunks
from memedit.memory.schema import ORDINAL_BITS, edits, vectors

_ROWS_PER_READ = 20_000
_KEYS_PER_READ = 5_000
_FIRST = edits.c.seq * (1 << ORDINAL_BITS)


def vector_rows(
    connection: Connection, encoder: int | None, *conditions: ColumnElement[bool]
) -> Iterator[Sequence[Any]]:
    """Rows (key, vector) that ``encoder`` made of the edits that meet ``conditions``, a few thousand at a time."""
    if connection.dialect.name == "postgresql":
        yield from _by_keys(connection, encoder, *conditions)
        return
    query = (
        select(vectors.c.key, vectors.c.vector)
        .join_from(edits, vectors, (vectors.c.key >= _FIRST) & (vectors.c.key < _FIRST + edits.c.texts))
        .where(*conditions, vectors.c.encoder == encoder)
    )
    yield from connection.execute(query, execution_options={"yield_per": _ROWS_PER_READ}).partitions()


def _by_keys(connection: Connection, encoder: int | None, *conditions: ColumnElement[bool]) -> Iterator[Sequence[Any]]:
    """Read by key: PostgreSQL cannot tell how few rows a join on a range of keys has, and may try every pair."""
    found = connection.execute(select(edits.c.seq, edits.c.texts).where(*conditions).order_by(edits.c.seq)).all()
    keys = [seq << ORDINAL_BITS | ordinal for seq, texts in found for ordinal in range(texts)]
    wanted = vectors.c.key == any_(bindparam("keys", type_=ARRAY(BigInteger)))
    query = select(vectors.c.key, vectors.c.vector).where(wanted, vectors.c.encoder == encoder)
    for part in chunks(keys, _KEYS_PER_READ):
        rows = connection.execute(query, {"keys": list(part)}).all()
        if rows:
            yield rows


__all__ = ["vector_rows"]
