"""One namespace whose neighbours the database itself finds; only its subjects are held in this process."""

from collections.abc import Callable, Iterator, Sequence

from sqlalchemy import ColumnElement, Connection

from memedit.index import VectorIndex, create_index
from memedit.index.base import IdArray
from memedit.index.common import BaseIndex
from memedit.index.pgvector import PgvectorTable
from memedit.memory.encoding import EncoderSource
from memedit.memory.neighbour_writer import all_tables
from memedit.memory.schema import ORDINAL_BITS
from memedit.memory.search.namespace_index import NamespaceIndex
from memedit.memory.search.pgvector_tables import NeighboursMissingError, altered, has_index, left_over, refill
from memedit.memory.writer import known_encoder
from memedit.types import FloatArray

_MOST = 20
_SEARCHED = 20


class DatabaseSpace(NamespaceIndex):
    """Searches the table of the memory's encoder in the transaction that a look-up reads in.

    The table is changed by whoever changes the store, in the same transaction, so there is nothing to catch up with:
    what a look-up finds is of one moment, and never behind.

    Args:
        namespace: whose edits.
        encoder: gives the vectors' fingerprint and width.
        kind: pgvector or pgvector-hnsw.
    """

    def __init__(self, namespace: str, encoder: EncoderSource, kind: str) -> None:
        super().__init__(namespace, encoder, kind, {}, None)
        self._table: PgvectorTable | None = None
        self._filled = False

    @property
    def loaded(self) -> bool:
        """Whether the subjects are in memory, and the table was found complete."""
        return self._filled

    @property
    def outdated(self) -> bool:
        """Never: there is no cached file."""
        return False

    def searcher(self, connection: Callable[[], Connection]) -> VectorIndex:
        """The vectors at the moment that ``connection`` sees."""
        return self._bound(connection())

    def count_rows(self, connection: Connection) -> int | None:
        """Rows of the namespace in the table, None while there is no table."""
        tables = all_tables(connection).values()  # of any encoder: to know which is the memory's it had to be loaded
        count = "SELECT count(*) FROM {} WHERE namespace = %s"
        found = [connection.exec_driver_sql(count.format(t.full_name), (self.namespace,)).scalar_one() for t in tables]
        return sum(found) if found else None

    def problems(self, connection: Connection) -> list[str]:
        """Rows of the table that belong to no text in force, and vectors that are not there or not the edit's."""
        table = self.located(connection)
        number = known_encoder(connection, self._encoder.get().fingerprint)
        if table is None or number is None:
            return []
        extra = left_over(connection, table, self.namespace)
        other = altered(connection, table, number, self.namespace)
        return [
            *([f"pgvector's table has {extra} vectors of no text in force"] if extra else []),
            *(f"pgvector's table lacks vector {key} or has another than the edit" for key in other[:_MOST]),
        ]

    def sample(self, connection: Connection, count: int) -> Iterator[tuple[IdArray, FloatArray]]:
        """A few: every search looks at every vector, and :meth:`problems` has compared them all."""
        return super().sample(connection, min(count, _SEARCHED))

    def rebuild(self, connection: Connection) -> None:
        """Fill the namespace's part of the table anew; ``connection`` must hold the write lock."""
        table = self.located(connection)
        number = known_encoder(connection, self._encoder.get().fingerprint)
        if table is not None and number is not None:
            refill(connection, table, number, self.namespace)
        super().rebuild(connection)
        self._filled = True

    def _fill(self, connection: Connection) -> None:
        self._rebuild_vectors(connection)
        self._rebuild_subjects(connection)
        self._filled = True

    def _rebuild_vectors(self, connection: Connection) -> None:
        self._check_complete(len(self._bound(connection)), self.expected_rows(connection))

    def _apply_vectors(self, connection: Connection, seqs: Sequence[int], live: tuple[ColumnElement[bool], ...]) -> int:
        """Count the vectors of edits in the table: whoever changed the edits has brought them there."""
        table = self.located(connection)
        if table is None:
            return 0
        count = (
            f"SELECT count(*) FROM {table.full_name} AS t JOIN unnest(%s::bigint[], %s::bigint[]) AS r(low, high) "
            "ON t.key >= r.low AND t.key < r.high WHERE t.namespace = %s"
        )
        lows, highs = [seq << ORDINAL_BITS for seq in seqs], [(seq + 1) << ORDINAL_BITS for seq in seqs]
        return int(connection.exec_driver_sql(count, (lows, highs, self.namespace)).scalar_one())

    def _size(self) -> int:
        return 0

    def _bound(self, connection: Connection) -> BaseIndex:
        dimension = self._encoder.get().dimension
        table = self.located(connection)
        if table is None:
            return create_index("exact", dimension)
        return create_index(self._kind, dimension, connection=connection, table=table, namespace=self.namespace)

    def located(self, connection: Connection) -> PgvectorTable | None:
        """The table of the memory's encoder; None when the store has no vector of that encoder.

        Raises:
            NeighboursMissingError: it has some, and no table of them or not the index that is wanted.
        """
        if self._table is None:
            number = known_encoder(connection, self._encoder.get().fingerprint)
            if number is None:
                return None
            table = all_tables(connection).get(number)
            if table is None or not has_index(connection, table, self._kind):
                raise NeighboursMissingError(self._kind)
            self._table = table
        return self._table
