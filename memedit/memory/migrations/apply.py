"""Bring a database to the newest schema."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, inspect, select

from memedit.errors import StoreVersionError
from memedit.memory import schema
from memedit.memory.migrations import (
    m0001_edits,
    m0002_artefacts_settings,
    m0003_access,
    m0004_leases,
    m0005_doubt,
    m0006_service,
    m0007_responses,
)
from memedit.memory.stamps import now_micros

_TYPES = {"sqlite": {"big": "INTEGER", "blob": "BLOB"}, "postgresql": {"big": "BIGINT", "blob": "BYTEA"}}


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered step; ``statements`` have ``{big}`` and ``{blob}`` where type names differ by database."""

    number: int
    name: str
    statements: tuple[str, ...]


MIGRATIONS = tuple(
    Migration(number, module.NAME, module.STATEMENTS)
    for number, module in enumerate(
        (
            m0001_edits,
            m0002_artefacts_settings,
            m0003_access,
            m0004_leases,
            m0005_doubt,
            m0006_service,
            m0007_responses,
        ),
        start=1,
    )
)
LATEST = MIGRATIONS[-1].number


def recorded_version(connection: Connection) -> int:
    """Number of the newest migration applied to this database, 0 for an empty one."""
    if not inspect(connection).has_table(schema.migrations.name):
        return 0
    numbers = connection.execute(select(schema.migrations.c.number)).scalars().all()
    return max(numbers, default=0)


def check_version(version: int, url: str) -> None:
    """Refuse a database written by a newer memedit.

    Raises:
        StoreVersionError: ``version`` is above :data:`LATEST`.
    """
    if version > LATEST:
        raise StoreVersionError(
            f"{url} has schema version {version}, this memedit knows versions up to {LATEST}; "
            "it was written by a newer memedit: upgrade with `pip install -U memedit`"
        )


def migrate(connection: Connection, *, migrations: Sequence[Migration] = MIGRATIONS) -> int:
    """Apply every migration above the recorded version, inside the caller's transaction; return how many ran."""
    types = _TYPES[connection.dialect.name]
    version = recorded_version(connection)
    if version == 0:
        connection.exec_driver_sql(
            "CREATE TABLE IF NOT EXISTS memedit_migrations ("
            "number INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL, applied_at {big} NOT NULL)".format(**types)
        )
    todo = [migration for migration in migrations if migration.number > version]
    for migration in todo:
        for statement in migration.statements:
            connection.exec_driver_sql(statement.format(**types))
        connection.execute(
            schema.migrations.insert().values(number=migration.number, name=migration.name, applied_at=now_micros())
        )
    return len(todo)


__all__ = ["LATEST", "MIGRATIONS", "Migration", "check_version", "migrate", "recorded_version"]
