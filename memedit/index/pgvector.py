"""Search inside a PostgreSQL database by its pgvector extension (https://github.com/pgvector/pgvector)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from memedit.errors import InputError, VectorIndexError
from memedit.index.base import IdArray
from memedit.index.common import BaseIndex
from memedit.types import FloatArray

if TYPE_CHECKING:
    from sqlalchemy import Connection

_QUERIES_A_STATEMENT = 64
_ROWS_A_STATEMENT = 5_000
_MOST_EF = 1_000  # the most that pgvector takes for hnsw.ef_search
_INLINE = 2_000  # widest vectors that a row of PostgreSQL's 8 kB pages holds; wider ones are stored out of line


@dataclass(frozen=True, slots=True)
class PgvectorTable:
    """A table ``(key, namespace, vector)`` that pgvector searches.

    Args:
        schema: where the table is; ``name`` is its own name there.
        home: the schema of the extension. Everything of pgvector's is named with it, since it need not be on the
            search path.
        dimension: width d of the vectors.
    """

    schema: str
    name: str
    home: str
    dimension: int

    @property
    def full_name(self) -> str:
        """The quoted name with its schema."""
        return f"{quoted(self.schema)}.{quoted(self.name)}"

    @property
    def hnsw_name(self) -> str:
        """The name of its HNSW index, without the schema."""
        return f"{self.name}_hnsw"

    @property
    def type(self) -> str:
        """The quoted name of the vector type."""
        return f"{quoted(self.home)}.vector"

    @property
    def product(self) -> str:
        """The operator that gives the negative inner product."""
        return f"OPERATOR({quoted(self.home)}.<#>)"

    def create(self, connection: "Connection") -> None:
        """Make the table, empty; :meth:`finish` gives it its indexes once it has been filled."""
        run = connection.exec_driver_sql
        run(
            f"CREATE TABLE {self.full_name} "
            f"(key BIGINT NOT NULL, namespace TEXT NOT NULL, vector {self.type}({self.dimension}) NOT NULL)"
        )
        if self.dimension <= _INLINE:  # reading every vector out of line would double the time of a search
            run(f"ALTER TABLE {self.full_name} ALTER COLUMN vector SET STORAGE PLAIN")

    def finish(self, connection: "Connection") -> None:
        """Give a new table its keys, and the planner its statistics."""
        run = connection.exec_driver_sql
        run(f"ALTER TABLE {self.full_name} ADD PRIMARY KEY (key)")
        run(f"CREATE INDEX {quoted(self.name + '_namespace')} ON {self.full_name} (namespace)")
        run(f"ANALYZE {self.full_name}")

    def add_hnsw(self, connection: "Connection") -> None:
        """Make the HNSW index, over all namespaces (Malkov and Yashunin 2016, arXiv 1603.09320)."""
        connection.exec_driver_sql(
            f"CREATE INDEX {quoted(self.hnsw_name)} ON {self.full_name} "
            f"USING hnsw (vector {quoted(self.home)}.vector_ip_ops)"
        )


class PgvectorIndex(BaseIndex):
    """Exact inner products inside the database, over one namespace of a :class:`PgvectorTable`.

    Works in the transaction of the connection it is made with: what it adds and removes is committed or rolled back
    with the rest, and what it finds is of the same moment as everything else that is read there. Nothing is held in
    this process, so there is no file to save or load. Not to be used from several threads: its connection is not.

    Args:
        dimension: width d of the vectors.
        connection: an open transaction; ``table`` is what is searched in it, ``namespace`` whose vectors.

    Raises:
        InputError: there is no connection or table, or the table's vectors have another width.
    """

    kind: ClassVar[str] = "pgvector"

    def __init__(
        self,
        dimension: int,
        *,
        connection: "Connection | None" = None,
        table: PgvectorTable | None = None,
        namespace: str = "default",
    ) -> None:
        super().__init__(dimension)
        if connection is None or table is None:
            raise InputError(
                f"index {self.kind!r} searches inside a PostgreSQL memory and cannot stand alone; open one with "
                f"EditMemory('postgresql://...', index={self.kind!r})"
            )
        if table.dimension != dimension:
            raise InputError(f"{table.name} holds vectors of width {table.dimension}, not {dimension}")
        self._connection, self._table, self._namespace = connection, table, namespace

    def __len__(self) -> int:
        count = f"SELECT count(*) FROM {self._table.full_name} WHERE namespace = %s"
        return int(self._connection.exec_driver_sql(count, (self._namespace,)).scalar_one())

    def write(self, payload: Path) -> None:
        """Refuse: the vectors lie in the database."""
        raise VectorIndexError(f"index {self.kind!r} lies in the database and has no file {payload}")

    def read(self, payload: Path) -> None:
        """Refuse: the vectors lie in the database."""
        raise VectorIndexError(f"index {self.kind!r} lies in the database and is not read from {payload}")

    def _add(self, ids: IdArray, vectors: FloatArray) -> None:
        self._insert(
            ids,
            vectors,
            "ON CONFLICT (key) DO UPDATE SET namespace = excluded.namespace, vector = excluded.vector",
        )

    def append(self, ids: IdArray, vectors: FloatArray) -> None:
        """Add rows ``[n, d]`` whose ids are known to be new, to a table that need not have its keys yet.

        Raises:
            InputError: shapes disagree, an id is negative, or a value is not finite. Nothing is added then.
        """
        self._insert(*self._checked(ids, vectors))

    def _insert(self, ids: IdArray, vectors: FloatArray, on_conflict: str = "") -> None:
        from memedit.index.pgvector_wire import pack

        self._take_packed()
        statement = (
            f"INSERT INTO {self._table.full_name} (key, namespace, vector) "
            f"VALUES (%s, %s, %s::{self._table.type}) {on_conflict}"
        )
        for start in range(0, len(ids), _ROWS_A_STATEMENT):
            part = slice(start, start + _ROWS_A_STATEMENT)
            packed = map(pack, vectors[part])
            rows = [(key, self._namespace, row) for key, row in zip(ids[part].tolist(), packed, strict=True)]
            self._connection.exec_driver_sql(statement, rows)

    def _remove(self, ids: IdArray) -> int:
        delete = f"DELETE FROM {self._table.full_name} WHERE namespace = %s AND key = ANY(%s)"
        return int(self._connection.exec_driver_sql(delete, (self._namespace, ids.tolist())).rowcount)

    def _reachable(self, k: int) -> int:
        return k  # counting the rows is a query of its own

    def _search(self, queries: FloatArray, k: int) -> tuple[FloatArray, IdArray]:
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        ids = np.full((len(queries), k), -1, dtype=np.int64)
        if not len(queries):
            return scores, ids
        self._take_packed()
        self._set(self._settings(k))
        for start in range(0, len(queries), _QUERIES_A_STATEMENT):
            self._search_some(queries[start : start + _QUERIES_A_STATEMENT], scores[start:], ids[start:])
        return scores, ids

    def _search_some(self, queries: FloatArray, scores: FloatArray, ids: IdArray) -> None:
        """Search a few queries ``[b, d]`` in one statement, into the first rows of ``scores`` and ``ids``."""
        self._run(queries, scores, ids, self._distance())

    def _run(self, queries: FloatArray, scores: FloatArray, ids: IdArray, distance: str) -> None:
        from memedit.index.pgvector_wire import pack

        values = ", ".join(f"({number}, %s::{self._table.type})" for number in range(len(queries)))
        statement = (
            f"SELECT q.number, near.key, near.distance FROM (VALUES {values}) AS q(number, vector) CROSS JOIN LATERAL ("
            f"SELECT t.key, {distance} AS distance FROM {self._table.full_name} AS t WHERE t.namespace = %s "
            f"ORDER BY {self._order(distance)} LIMIT %s) AS near ORDER BY q.number, near.distance, near.key"
        )
        parameters = (*map(pack, queries), self._namespace, scores.shape[1])
        filled = [0] * len(queries)
        for number, key, away in self._connection.exec_driver_sql(statement, parameters):
            scores[number, filled[number]], ids[number, filled[number]] = -away, key
            filled[number] += 1

    def _distance(self) -> str:
        """What is sorted by: with the addition no index can serve the order, so that every vector is looked at."""
        return f"(t.vector {self._table.product} q.vector) + 0"

    def _order(self, distance: str) -> str:
        return "distance, t.key"

    def _settings(self, k: int) -> Mapping[str, str]:
        """Settings for the rest of the transaction: compiling costs more than it saves in a statement this short."""
        return {"jit": "off"}

    def _set(self, settings: Mapping[str, str]) -> None:
        calls = ", ".join("set_config(%s, %s, true)" for _ in settings)
        self._connection.exec_driver_sql(f"SELECT {calls}", tuple(word for pair in settings.items() for word in pair))

    def _take_packed(self) -> None:
        """Teach the connection's driver the extension's binary form."""
        from memedit.index.pgvector_wire import register

        register(self._connection.connection.driver_connection)


class PgvectorHNSWIndex(PgvectorIndex):
    """Approximate search by the table's HNSW index, with exact scores.

    The index knows nothing of namespaces: rows of others are stepped over by an iterative scan (pgvector 0.8). A query
    that still finds fewer than asked for is searched again exactly, so nothing is missed for being rare.
    """

    kind: ClassVar[str] = "pgvector-hnsw"

    def _search_some(self, queries: FloatArray, scores: FloatArray, ids: IdArray) -> None:
        self._run(queries, scores, ids, f"t.vector {self._table.product} q.vector")
        short = [row for row in range(len(queries)) if ids[row, -1] < 0]
        if short:
            found, keys = scores[short], ids[short]
            found[:], keys[:] = -np.inf, -1
            self._run(queries[short], found, keys, self._distance())
            scores[short], ids[short] = found, keys

    def _order(self, distance: str) -> str:
        return distance if "+" not in distance else super()._order(distance)

    def _settings(self, k: int) -> Mapping[str, str]:
        width = str(min(_MOST_EF, max(100, 4 * k)))
        return {**super()._settings(k), "hnsw.ef_search": width, "hnsw.iterative_scan": "strict_order"}


def quoted(name: str) -> str:
    """A name as PostgreSQL takes it in a statement that also has placeholders."""
    return '"' + name.replace('"', '""').replace("%", "%%") + '"'


__all__: Sequence[str] = ["PgvectorHNSWIndex", "PgvectorIndex", "PgvectorTable", "quoted"]
