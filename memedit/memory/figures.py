"""A server's figures by the minute, kept for a day."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, insert, select

from memedit.memory.database import Database
from memedit.memory.schema import figures
from memedit.memory.times import from_micros, to_micros


@dataclass(frozen=True, slots=True)
class Figures:
    """What one server did in the minute up to ``at``."""

    at: datetime
    server: str
    values: Mapping[str, float]


class FigureRing:
    """The figures of one store's servers. They are no change of the memory: its revision stays."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, row: Figures, *, forget_before: datetime) -> None:
        """Add a minute, in place of one with the same time and server, and forget what is older than a time."""
        c, at = figures.c, to_micros(row.at)
        with self._database.write() as connection:
            connection.execute(delete(figures).where(c.at < to_micros(forget_before)))
            connection.execute(delete(figures).where(c.at == at, c.server == row.server))
            connection.execute(
                insert(figures), [{"at": at, "server": row.server, "body": json.dumps(dict(row.values))}]
            )

    def since(self, when: datetime) -> list[Figures]:
        """Return the minutes from a time on, oldest first."""
        query = select(figures).where(figures.c.at >= to_micros(when)).order_by(figures.c.at, figures.c.server)
        with self._database.read() as connection:
            return [Figures(from_micros(row.at), row.server, json.loads(row.body)) for row in connection.execute(query)]
