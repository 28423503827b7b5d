"""Times as the store keeps them: whole microseconds since the epoch, UTC, in a plain integer column."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_micros(when: datetime) -> int:
    """Microseconds since the epoch of a timezone-aware time."""
    return (when - _EPOCH) // _MICROSECOND


def from_micros(value: int) -> datetime:
    """The UTC time of ``value`` microseconds since the epoch."""
    return _EPOCH + timedelta(microseconds=value)


def now_micros() -> int:
    """The present, in microseconds since the epoch."""
    return to_micros(datetime.now(UTC))
