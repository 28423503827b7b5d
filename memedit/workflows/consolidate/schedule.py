"""When to consolidate by itself: after so many new edits, at times of a cron line, or when edits have waited long."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from memedit.consolidation.records import VersionRecord
from memedit.consolidation.versions import VersionStore
from memedit.errors import ConfigError, MissingExtraError, StoreBusyError
from memedit.memory import EditMemory
from memedit.types import Edit
from memedit.workflows.consolidate.selecting import Selection, select_edits
from memedit.workflows.consolidate.states import ATTEMPT, stale_edits

_LAST = "consolidation.last_run"


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a job is due; any one of the conditions is enough.

    Args:
        every_edits: so many edits wait that no job has tried yet, or have been withdrawn from under the champion.
        max_age: an edit has waited so long.
        cron: five fields, in UTC ("0 3 * * *"); a job is due when a time has passed since the last one. Needs the
            extra ``server``.
        poll_seconds: how often to look.
    """

    every_edits: int | None = None
    max_age: timedelta | None = None
    cron: str | None = None
    poll_seconds: float = 60.0

    def __post_init__(self) -> None:
        problems = []
        if self.every_edits is None and self.max_age is None and self.cron is None:
            problems.append("give at least one of every_edits, max_age, cron")
        if self.every_edits is not None and self.every_edits < 1:
            problems.append(f"every_edits must be at least 1, got {self.every_edits}")
        if self.max_age is not None and self.max_age <= timedelta(0):
            problems.append(f"max_age must be above 0, got {self.max_age}")
        if self.poll_seconds <= 0:
            problems.append(f"poll_seconds must be above 0, got {self.poll_seconds}")
        if problems:
            raise ConfigError(problems, "consolidation schedule")
        if self.cron is not None:
            _cron_trigger(self.cron)


def due(
    memory: EditMemory,
    store: VersionStore,
    schedule: Schedule,
    *,
    metadata: Mapping[str, Any] | None = None,
    now: datetime | None = None,
) -> str | None:
    """Say why a job is due now, None when it is not.

    The very edits that the last job was about are not tried again: they would fail again.

    Args:
        memory: the edits.
        store: the versions.
        schedule: the conditions.
        metadata: only new edits whose metadata has these values.
        now: the time; absent, the present.
    """
    now = now or datetime.now(UTC)
    champion = store.champion()
    selection = select_edits(memory, champion, metadata=metadata)
    new, stale = waiting(selection), stale_edits(memory, champion)
    if not new and not stale:
        return None
    if memory.get_setting(ATTEMPT) == selection.identity:
        return None
    if schedule.every_edits is not None and len(new) + len(stale) >= schedule.every_edits:
        return f"{len(new)} edits wait and {len(stale)} were withdrawn or changed (every {schedule.every_edits})"
    if schedule.max_age is not None:
        oldest = min((edit.created_at for edit in new), default=None)
        if oldest is not None and now - oldest >= schedule.max_age:
            return f"an edit has waited since {oldest:%Y-%m-%d %H:%M} UTC"
    if schedule.cron is not None and _cron_passed(schedule.cron, _last_run(memory, champion), now):
        return f"it is time by {schedule.cron!r}"
    return None


def waiting(selection: Selection) -> list[Edit]:
    """Return the edits that no job of the champion's has tried."""
    new = set(selection.new)
    return [edit for edit in selection.edits if edit.id in new]


def run_schedule(
    memory: EditMemory,
    store: VersionStore,
    schedule: Schedule,
    job: Callable[[str], Any],
    *,
    metadata: Mapping[str, Any] | None = None,
    stop: threading.Event | None = None,
    report: Callable[[str], None] | None = None,
) -> None:
    """Look again and again whether a job is due, and do it; returns when ``stop`` is set.

    Any number of processes may run this on one memory: the lease lets one of them work, the others go on looking.

    Args:
        memory: the edits.
        store: the versions.
        schedule: when.
        job: does one job; is told why.
        metadata: only new edits whose metadata has these values.
        stop: ends the loop.
        report: told what happens, in words.
    """
    stop = stop or threading.Event()
    tell = report or (lambda text: None)
    if schedule.cron is not None and memory.get_setting(_LAST) is None:
        memory.set_setting(_LAST, datetime.now(UTC).isoformat())  # times before the schedule was begun do not count
    while not stop.is_set():
        reason = due(memory, store, schedule, metadata=metadata)
        if reason is not None:
            tell(f"consolidating: {reason}")
            try:
                job(reason)
                memory.set_setting(_LAST, datetime.now(UTC).isoformat())
            except StoreBusyError as error:
                tell(str(error))
        stop.wait(schedule.poll_seconds)


def _last_run(memory: EditMemory, champion: VersionRecord | None) -> datetime:
    kept = memory.get_setting(_LAST)
    if kept is not None:
        return datetime.fromisoformat(kept)
    return datetime.fromtimestamp(0, UTC) if champion is None else datetime.fromisoformat(champion.created_at)


def _cron_passed(cron: str, since: datetime, now: datetime) -> bool:
    following = _cron_trigger(cron).get_next_fire_time(None, since + timedelta(seconds=1))
    return following is not None and following <= now


def _cron_trigger(cron: str) -> Any:
    """Return apscheduler's reading of a cron line.

    Raises:
        MissingExtraError: apscheduler is not installed.
        ConfigError: the line cannot be read.
    """
    try:
        from apscheduler.triggers.cron import CronTrigger
    except ImportError as error:
        raise MissingExtraError("apscheduler", "server") from error
    try:
        return CronTrigger.from_crontab(cron, timezone=UTC)
    except ValueError as error:
        raise ConfigError([f"cron: {cron!r} cannot be read: {error}"], "consolidation schedule") from error
