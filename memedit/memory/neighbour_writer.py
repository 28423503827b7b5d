"""Keeps pgvector's tables in step with what a writer's transaction changes."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, select

from memedit.index.pgvector import PgvectorIndex, PgvectorTable
from memedit.memory.encoding import join_vectors
from memedit.memory.reading import chunks
from memedit.memory.rows import IN_FORCE, EditRow
from memedit.memory.schema import ORDINAL_BITS, vectors
from memedit.types import FloatArray


class NeighbourWriter:
    """Gathers what changes; :meth:`flush` brings the tables to it.

    Args:
        connection: a connection that holds the write lock.
        tables: the store's tables by encoder number.
    """

    def __init__(self, connection: Connection, tables: Mapping[int, PgvectorTable]) -> None:
        self._connection, self._tables = connection, tables
        self._before: dict[int, bool] = {}
        self._rows: dict[int, EditRow] = {}
        self._fresh: dict[int, tuple[int, FloatArray]] = {}

    def put(self, row: EditRow, matrix: FloatArray, encoder: int) -> None:
        """Take the vectors ``[texts, d]`` of an edit, which has none in the tables at this moment."""
        self._fresh[row["seq"]] = encoder, matrix
        self._rows.setdefault(row["seq"], row)

    def move(self, old: EditRow, new: EditRow) -> None:
        """Take note that ``new`` follows ``old``."""
        self._before.setdefault(old["seq"], _in_force(old))
        self._rows[new["seq"]] = new

    def drop(self, seqs: Sequence[int]) -> None:
        """Take the vectors of these edits out, now."""
        ends = [(seq << ORDINAL_BITS, (seq + 1) << ORDINAL_BITS) for seq in seqs]
        for table in self._tables.values() if ends else ():
            self._connection.exec_driver_sql(f"DELETE FROM {table.full_name} WHERE key >= %s AND key < %s", ends)
        for seq in seqs:
            self._fresh.pop(seq, None)

    def flush(self) -> None:
        """Write what was gathered."""
        fresh = self._fresh
        moved = [seq for seq in self._before if seq not in fresh]
        self.drop([seq for seq in moved if self._before[seq] and not _in_force(self._rows[seq])])
        back = [self._rows[seq] for seq in moved if not self._before[seq] and _in_force(self._rows[seq])]
        self._add([(self._rows[seq], *found) for seq, found in fresh.items() if _in_force(self._rows[seq])])
        for part in chunks(back):
            self._add(self._stored(part))
        self._before, self._rows, self._fresh = {}, {}, {}

    def _stored(self, rows: Sequence[EditRow]) -> list[tuple[EditRow, int, FloatArray]]:
        """The vectors that the store has of these edits, with their encoder's number."""
        keys = [row["seq"] << ORDINAL_BITS | ordinal for row in rows for ordinal in range(row["texts"])]
        found: dict[tuple[int, int], dict[int, bytes]] = defaultdict(dict)
        for part in chunks(keys):
            query = select(vectors.c.key, vectors.c.encoder, vectors.c.vector).where(vectors.c.key.in_(part))
            for key, encoder, blob in self._connection.execute(query):
                found[key >> ORDINAL_BITS, encoder][key] = blob
        by_seq = {row["seq"]: row for row in rows}
        return [
            (by_seq[seq], encoder, join_vectors(blob for _, blob in sorted(blobs.items())))
            for (seq, encoder), blobs in found.items()
            if len(blobs) == by_seq[seq]["texts"]  # else no index takes it; verify() tells
        ]

    def _add(self, found: Sequence[tuple[EditRow, int, FloatArray]]) -> None:
        groups: dict[tuple[int, str], list[tuple[EditRow, FloatArray]]] = defaultdict(list)
        for row, encoder, matrix in found:
            if encoder in self._tables:
                groups[encoder, row["namespace"]].append((row, matrix))
        for (encoder, namespace), rows in groups.items():
            table = self._tables[encoder]
            keys = [row["seq"] << ORDINAL_BITS | i for row, matrix in rows for i in range(len(matrix))]
            index = PgvectorIndex(table.dimension, connection=self._connection, table=table, namespace=namespace)
            index.add(np.array(keys, dtype=np.int64), np.concatenate([matrix for _, matrix in rows]))


def neighbour_writer(connection: Connection) -> NeighbourWriter | None:
    """The writer of the store's tables; None when it has none, as any store in SQLite."""
    if connection.dialect.name != "postgresql":
        return None
    tables = all_tables(connection)
    return NeighbourWriter(connection, tables) if tables else None


def all_tables(connection: Connection) -> dict[int, PgvectorTable]:
    """The tables of a store in PostgreSQL by encoder number, as this transaction sees them."""
    # an ordinary query, and not to_regclass(): that would show a table whose rows this transaction does not see
    query = (
        "SELECT d.id, d.dimension, c.relname, n.nspname, h.nspname FROM encoders AS d "
        "JOIN pg_class AS c ON c.relname = 'neighbours_' || d.id JOIN pg_namespace AS n ON n.oid = c.relnamespace "
        "CROSS JOIN pg_extension AS e JOIN pg_namespace AS h ON h.oid = e.extnamespace "
        "WHERE n.nspname = current_schema() AND e.extname = 'vector'"
    )
    return {
        int(number): PgvectorTable(schema, name, home, int(dimension))
        for number, dimension, name, schema, home in connection.exec_driver_sql(query)
    }


def _in_force(row: Mapping[str, Any]) -> bool:
    return row["state"] in IN_FORCE


__all__ = ["NeighbourWriter", "all_tables", "neighbour_writer"]
