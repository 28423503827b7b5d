"""Copying all rows of all tables from one store to another, of either kind."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Select, column, inspect, select, table

from memedit.memory.schema import tables

_ROWS = 2_000
NOT_COPIED = frozenset({"leases"})
"""Who holds a lease is a process that runs now; in a copy it would hold up others."""


def copy_tables(source: Connection, target: Connection) -> int:
    """Copy every table that both have, in place of what the target's migrations put there; return how many rows.

    Both are inside a transaction. The columns are the target's, whose schema has the source's version.
    """
    here = set(inspect(source).get_table_names())
    copied = 0
    for name in (known.name for known in tables.sorted_tables):
        if name not in here or not inspect(target).has_table(name):
            continue
        target.exec_driver_sql(f"DELETE FROM {name}")
        if name not in NOT_COPIED:
            copied += _copy_table(source, target, name)
    return copied


def _copy_table(source: Connection, target: Connection, name: str) -> int:
    columns = [found["name"] for found in inspect(target).get_columns(name)]
    put = _put_sqlite if target.dialect.name == "sqlite" else _put_postgres
    return put(target, name, columns, _batches(source, name, columns))


def _batches(source: Connection, name: str, columns: Sequence[str]) -> Iterator[list[tuple[Any, ...]]]:
    query: Select[*tuple[Any, ...]] = select(*(column(each) for each in columns)).select_from(table(name))
    with source.execute(query, execution_options={"stream_results": True, "yield_per": _ROWS}) as result:
        for rows in result.partitions(_ROWS):
            yield [tuple(row) for row in rows]


def _put_sqlite(target: Connection, name: str, columns: Sequence[str], batches: Iterator[list[tuple[Any, ...]]]) -> int:
    statement = f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
    count = 0
    for rows in batches:
        target.exec_driver_sql(statement, rows)
        count += len(rows)
    return count


def _put_postgres(
    target: Connection, name: str, columns: Sequence[str], batches: Iterator[list[tuple[Any, ...]]]
) -> int:
    """By COPY: ten times as fast as inserts, in the transaction that the connection is in."""
    driver: Any = target.connection.driver_connection
    count = 0
    with driver.cursor() as cursor, cursor.copy(f"COPY {name} ({', '.join(columns)}) FROM STDIN") as copy:
        for rows in batches:
            for row in rows:
                copy.write_row(row)
            count += len(rows)
    return count
