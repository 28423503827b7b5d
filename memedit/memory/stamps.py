"""What every version is stamped with: times as the store keeps them, and ids that sort by the time they were made."""

import os
import re
import threading
import time
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


RESERVED = frozenset({"as-of", "batch", "conflicts", "explain", "export", "import", "search", "withdraw"})
"""Names that stand in the place of an id in the server's paths."""

_USABLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


def usable_id(text: str) -> bool:
    """Whether an id from elsewhere can name an edit here: it must stand in a path as it is, and mean nothing else."""
    return _USABLE.fullmatch(text) is not None and text not in RESERVED


class IdFactory:
    """Makes UUIDv7 strings that rise strictly within a process; safe to use from several threads.

    The 12 bits after the millisecond hold its fraction (RFC 9562, section 6.2, method 3); when ids are asked for
    faster than that clock ticks, the counter runs ahead of the clock instead of repeating.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def take(self, count: int) -> list[str]:
        """Return ``count`` new ids in rising order."""
        with self._lock:
            start = max(self._last + 1, (time.time_ns() << 12) // 1_000_000)
            self._last = start + count - 1
        random = os.urandom(8 * count)
        return [
            _format(start + i, int.from_bytes(random[8 * i : 8 * i + 8], "big") & 0x3FFF_FFFF_FFFF_FFFF)
            for i in range(count)
        ]


def _format(ticks: int, random: int) -> str:
    """Lay out 60 bits of time (1/4096 ms) and 62 random bits with the version and variant bits."""
    value = (ticks >> 12) << 80 | 0x7 << 76 | (ticks & 0xFFF) << 64 | 0b10 << 62 | random
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
