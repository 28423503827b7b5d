"""Times as the store keeps them: whole microseconds since the epoch, UTC, in a plain integer column."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

FIRST = datetime(1, 1, 2, tzinfo=UTC)
LAST = datetime(9999, 12, 30, 23, 59, 59, 999_999, tzinfo=UTC)
"""First and last time that every time zone can write."""


def to_micros(when: datetime) -> int:
    """Microseconds since the epoch of a timezone-aware time."""
    return (when - _EPOCH) // _MICROSECOND


def from_micros(value: int) -> datetime:
    """The UTC time of ``value`` microseconds since the epoch; what is beyond them is :data:`FIRST` or :data:`LAST`."""
    return _EPOCH + timedelta(microseconds=min(max(value, _FIRST), _LAST))


_FIRST, _LAST = to_micros(FIRST), to_micros(LAST)


def now_micros() -> int:
    """The present, in microseconds since the epoch."""
    return to_micros(datetime.now(UTC))
