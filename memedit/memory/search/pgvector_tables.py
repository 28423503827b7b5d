"""Tables in which pgvector finds neighbours: whether a server can have them, making them, filling them.

Each encoder whose vectors are searched so has a table ``neighbours_N`` (N is the encoder's number in the store), with a
row for every text in force, of all namespaces. That the table is there is all that has to be known: whoever writes to
the store, with whatever index of its own, writes to it too, in the same transaction
(:mod:`memedit.memory.neighbour_writer`). It is made, and filled from the vectors that lie beside the edits, when a
memory with such an index first looks something up.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection

from memedit.encoders.base import Encoder
from memedit.errors import InputError, StoreCorruptError, StoreReadOnlyError, VectorIndexError
from memedit.index.pgvector import PgvectorIndex, PgvectorTable, quoted
from memedit.memory.encoding import join_vectors
from memedit.memory.neighbour_writer import all_tables
from memedit.memory.reading import CURRENT, namespace_names, vector_rows
from memedit.memory.rows import IN_FORCE
from memedit.memory.schema import ORDINAL_BITS, edits
from memedit.memory.store.database import Database
from memedit.memory.writer import known_encoder

KINDS = ("pgvector", "pgvector-hnsw")
"""The kinds of index that search inside the database."""

_HNSW = "pgvector-hnsw"
_ITERATIVE_SCANS = (0, 8)  # the version that brought them; without, a search among namespaces finds too few
_OTHERWISE = (
    "Or leave the index at flat, the default: each process then finds neighbours with FAISS in its own memory, which "
    "works with any server"
)


class NeighboursMissingError(VectorIndexError):
    """The table of the memory's encoder is not there yet; a look-up makes it and begins again."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"the store has no table yet for index {kind!r}; the first look-up makes it")


def check_request(url: str | Path, kind: str, options: Mapping[str, Any] | None) -> None:
    """Refuse to search inside what is no PostgreSQL database, before anything is opened or made.

    Raises:
        InputError: the store is not in PostgreSQL, or there are options.
    """
    if not str(url).startswith(("postgresql", "postgres:")):
        raise InputError(
            f"index {kind!r} searches inside a PostgreSQL database, which this memory's address does not name; "
            "use flat, hnsw or ivf, or give a postgresql:// URL"
        )
    if options:
        raise InputError(f"index {kind!r} takes no index_options, got {sorted(options)}")


def check_server(database: Database, kind: str) -> None:
    """Make sure that the extension is there, creating it in the database where the server has it.

    Raises:
        StoreReadOnlyError: it is not there, and the store is open read-only.
        VectorIndexError: the server lacks the extension, has too old a version, or does not let this role create it.
    """
    with database.read() as connection:
        version = _installed_version(connection)
        offered = None if version else _offered_version(connection)
        server = str(connection.exec_driver_sql("SHOW server_version").scalar_one())
    if version is None:
        version = _create_extension(database, kind, offered, server.split(" ", maxsplit=1)[0])
    if kind == _HNSW and _numbers(version) < _ITERATIVE_SCANS:
        raise VectorIndexError(
            f"index {kind!r} needs pgvector 0.8 or newer, {database.url} has {version}; install it on the server and "
            "run ALTER EXTENSION vector UPDATE, or use pgvector, which searches exactly with any version"
        )


def _create_extension(database: Database, kind: str, offered: str | None, server: str) -> str:
    """Create the extension in the database; return its version."""
    if offered is None:
        major = server.split(".", maxsplit=1)[0]
        raise VectorIndexError(
            f"index {kind!r} needs the extension pgvector, which the server of {database.url} (PostgreSQL {server}) "
            f"does not have. Install it there: package postgresql-{major}-pgvector (of apt.postgresql.org; Debian 13 "
            f"has its own for version 17), pgvector_{major} (of yum.postgresql.org), or from source. {_OTHERWISE}"
        )
    needed = f"{database.url} does not have the extension pgvector yet, though its server could"
    if database.read_only:
        raise StoreReadOnlyError(f"{needed}: open it once with write permission, or run CREATE EXTENSION vector there")
    try:
        with database.write() as connection:
            # not in the schema of one memory among several, with which it would be dropped
            public = connection.exec_driver_sql(
                "SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = 'public' "
                "AND has_schema_privilege(oid, 'CREATE'))"
            ).scalar_one()
            where = " WITH SCHEMA public" if public else ""
            connection.exec_driver_sql(f"CREATE EXTENSION IF NOT EXISTS vector{where}")
    except StoreReadOnlyError as error:
        raise VectorIndexError(
            f"{needed}, and this role may not create it. Have an administrator run CREATE EXTENSION vector in this "
            f"database. {_OTHERWISE}"
        ) from error
    return offered


def make_table(database: Database, encoder: Encoder, kind: str) -> None:
    """Make and fill the table of an encoder, with an HNSW index where ``kind`` wants one; what is there is left alone.

    Writers wait meanwhile: some seconds for 100,000 texts, with an HNSW index some minutes.

    Raises:
        StoreReadOnlyError: the store is open read-only, or the role may not make tables.
    """
    if database.read_only:
        raise StoreReadOnlyError(
            f"{database.url} has no table yet for index {kind!r} and encoder {encoder.name!r}, and is open read-only; "
            "look something up in it once with write permission, or use flat"
        )
    with database.write() as connection:
        number = known_encoder(connection, encoder.fingerprint)
        if number is None:
            return
        table = all_tables(connection).get(number)
        if table is None:
            table = _new_table(connection, number, encoder.dimension)
        if not has_index(connection, table, kind):
            table.add_hnsw(connection)


def _new_table(connection: Connection, number: int, dimension: int) -> PgvectorTable:
    """Make, fill and index the table of an encoder."""
    where = connection.exec_driver_sql(
        "SELECT current_schema(), n.nspname FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace "
        "WHERE e.extname = 'vector'"
    ).one()
    table = PgvectorTable(where[0], f"neighbours_{number}", where[1], dimension)
    table.create(connection)
    _fill(connection, table, number, None)
    table.finish(connection)
    return table


def has_index(connection: Connection, table: PgvectorTable, kind: str) -> bool:
    """Whether the table has what ``kind`` searches with, as this transaction sees it."""
    if kind != _HNSW:
        return True
    query = (
        "SELECT EXISTS (SELECT 1 FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
        "WHERE c.relname = %s AND n.nspname = %s)"
    )
    return bool(connection.exec_driver_sql(query, (table.hnsw_name, table.schema)).scalar_one())


def refill(connection: Connection, table: PgvectorTable, encoder: int, namespace: str) -> None:
    """Fill a namespace's part of the table anew from the store. The write lock must be held."""
    connection.exec_driver_sql(f"DELETE FROM {table.full_name} WHERE namespace = %s", (namespace,))
    _fill(connection, table, encoder, namespace)


def left_over(connection: Connection, table: PgvectorTable, namespace: str) -> int:
    """Count the rows of a namespace that belong to no text in force."""
    query = (
        f"SELECT count(*) FROM {table.full_name} AS t WHERE t.namespace = %s AND NOT EXISTS (SELECT 1 FROM edits AS e "
        f"WHERE e.seq = t.key >> {ORDINAL_BITS} AND e.texts > t.key & {(1 << ORDINAL_BITS) - 1} "
        "AND e.namespace = t.namespace AND e.expired_at IS NULL AND e.state = ANY(%s))"
    )
    return int(connection.exec_driver_sql(query, (namespace, list(IN_FORCE))).scalar_one())


def altered(connection: Connection, table: PgvectorTable, encoder: int, namespace: str) -> list[int]:
    """Keys of a namespace whose vector the table lacks, or has another of than lies beside the edit."""
    query = f"SELECT key, {quoted(table.home)}.vector_send(vector) FROM {table.full_name} WHERE key = ANY(%s)"
    found: list[int] = []
    for rows in vector_rows(connection, encoder, *_in_force(namespace)):
        stored = {row[0]: np.frombuffer(row[1], dtype="<f4") for row in rows}
        sent = connection.exec_driver_sql(query, (list(stored),))
        # on the wire: the width and a zero, 16 bits each, then the numbers
        here = {row[0]: np.frombuffer(row[1], dtype=">f4", offset=4) for row in sent}
        found += [key for key, vector in stored.items() if key not in here or not np.array_equal(here[key], vector)]
    return found


def _fill(connection: Connection, table: PgvectorTable, encoder: int, namespace: str | None) -> None:
    """Add the vectors of all texts in force, of one namespace or of all."""
    for space in namespace_names(connection) if namespace is None else (namespace,):
        index = PgvectorIndex(table.dimension, connection=connection, table=table, namespace=space)
        for rows in vector_rows(connection, encoder, *_in_force(space)):
            if any(len(row[1]) != 4 * table.dimension for row in rows):
                raise StoreCorruptError(
                    f"namespace {space!r}: a stored vector has not {4 * table.dimension} bytes; see which edits with "
                    "verify() and encode them anew with rebuild() (`memedit index rebuild`)"
                )
            index.append(np.array([row[0] for row in rows], dtype=np.int64), join_vectors(row[1] for row in rows))


def _in_force(namespace: str) -> tuple[ColumnElement[bool], ...]:
    return (edits.c.namespace == namespace, CURRENT, edits.c.state.in_(IN_FORCE))


def _installed_version(connection: Connection) -> str | None:
    found = connection.exec_driver_sql("SELECT extversion FROM pg_extension WHERE extname = 'vector'").scalar()
    return None if found is None else str(found)


def _offered_version(connection: Connection) -> str | None:
    query = "SELECT default_version FROM pg_available_extensions WHERE name = 'vector'"
    found = connection.exec_driver_sql(query).scalar()
    return None if found is None else str(found)


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, to compare."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
