"""Figures of each minute, kept in the store for a day, so that a reload or a restart loses none that were complete."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from memedit.memory import EditMemory, Figures
from memedit.server.engines.base import Engine
from memedit.server.metrics import Metrics

KEPT = timedelta(hours=24)
STEP = 60
"""Seconds that a row stands for."""


class FigureKeeper:
    """Writes what happened in each minute: the growth of counters, and how busy the engine is at its end.

    Args:
        memory: whose store keeps the rows.
        metrics: has the counters.
        engine: is asked how busy it is.
    """

    def __init__(self, memory: EditMemory, metrics: Metrics, engine: Engine) -> None:
        self._memory, self._metrics, self._engine = memory, metrics, engine
        self._server = uuid.uuid4().hex[:12]
        self._last: Mapping[str, float] = metrics.totals()

    def minute(self, at: datetime) -> None:
        """Write the minute that ends at a time.

        Raises:
            StoreError: it could not be written; it is part of the next one then.
        """
        now, load = self._metrics.totals(), self._engine.load()
        values = {name: round(value - self._last[name], 6) for name, value in now.items()}
        values |= {"running": load.running, "waiting": load.waiting}
        at = at.replace(second=0, microsecond=0)
        self._memory.figures.write(Figures(at, self._server, values), forget_before=at - KEPT)
        self._last = now

    def day(self) -> list[dict[str, Any]]:
        """Return the minutes of the last day, those of all servers of the memory together, oldest first.

        Raises:
            StoreError: the store cannot be read.
        """
        found: dict[datetime, dict[str, float]] = {}
        for row in self._memory.figures.since(datetime.now(UTC) - KEPT):
            mine = found.setdefault(row.at, {"servers": 0})
            mine["servers"] += 1
            for name, value in row.values.items():
                mine[name] = mine.get(name, 0) + value
        return [{"at": at, **values} for at, values in found.items()]
