"""One rule for times without a zone, at every door: they are UTC, and whoever gives one is told."""

import warnings
from datetime import UTC, datetime


def in_utc(when: datetime) -> datetime:
    """Return a time with its zone; one without is UTC."""
    return when.replace(tzinfo=UTC) if when.utcoffset() is None else when


def notice(when: datetime) -> str | None:
    """Return what to tell whoever gave a time; None where it has a zone."""
    if when.utcoffset() is not None:
        return None
    return f"{when.isoformat()} has no time zone and is taken as UTC; {when.isoformat()}+00:00 says so"


def noticed(when: datetime, name: str) -> datetime:
    """Return a time with its zone; for one without, which is UTC, a warning is issued."""
    told = notice(when)
    if told is not None:
        warnings.warn(f"{name}: {told}", UserWarning, stacklevel=2)
    return in_utc(when)
