"""Token buckets: who may ask for more now, and who must wait."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from memedit.server.problems import ApiError


@dataclass(slots=True)
class _Bucket:
    level: float
    since: float
    minute: int = 0
    this_minute: float = 0.0
    last_minute: float = 0.0


class RateLimiter:
    """Token buckets by name, each for so much a minute.

    A bucket refills steadily. One of requests holds a tenth of a minute's, so that they come spread out; one of what is
    only known afterwards (the tokens of an answer) holds a minute's, and can be overdrawn.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}
        self._lock = threading.Lock()

    def take(self, name: str, per_minute: int) -> float:
        """Take one request from the bucket; return 0, or the seconds until there is one when it is empty."""
        with self._lock:
            bucket = self._refilled(name, per_minute, max(1.0, per_minute / 10))
            if bucket.level < 1:
                return (1 - bucket.level) * 60 / per_minute
            self._spend(bucket, 1)
            return 0.0

    def spend(self, name: str, per_minute: int, amount: int) -> None:
        """Take so much from the bucket, whatever is in it."""
        with self._lock:
            self._spend(self._refilled(name, per_minute, per_minute), amount)

    def overdrawn(self, name: str, per_minute: int) -> float:
        """Return the seconds until something is in a bucket that is spent from; 0 when there is."""
        with self._lock:
            bucket = self._refilled(name, per_minute, per_minute)
            return 0.0 if bucket.level > 0 else (1 - bucket.level) * 60 / per_minute

    def used(self, name: str) -> int:
        """Return about how much was taken within the last minute."""
        with self._lock:
            bucket = self._buckets.get(name)
            if bucket is None:
                return 0
            self._turn(bucket)
            return round(bucket.this_minute + bucket.last_minute * (1 - self._clock() / 60 % 1))

    def _refilled(self, name: str, per_minute: int, size: float) -> _Bucket:
        now = self._clock()
        bucket = self._buckets.setdefault(name, _Bucket(size, now))
        bucket.level = min(size, bucket.level + (now - bucket.since) * per_minute / 60)
        bucket.since = now
        return bucket

    def _spend(self, bucket: _Bucket, amount: float) -> None:
        self._turn(bucket)
        bucket.level -= amount
        bucket.this_minute += amount

    def _turn(self, bucket: _Bucket) -> None:
        minute = int(self._clock() // 60)
        if minute != bucket.minute:
            bucket.last_minute = bucket.this_minute if minute == bucket.minute + 1 else 0.0
            bucket.minute, bucket.this_minute = minute, 0.0


def rate_name(of: str, name: str, kind: str) -> str:
    """Return the name of the bucket of a key or a namespace."""
    return f"{of}/{name}/{kind}"


def rate_refusal(of: str, name: str, kind: str, limit: int, wait: float) -> ApiError:
    """Return what a client is told that may come back after ``wait`` seconds."""
    seconds = max(1, round(wait + 0.499))
    what = kind.removesuffix("_per_minute")
    return ApiError(
        429,
        f"{of} {name!r} may have {limit:,} {what} a minute, and has had them; ask again in {seconds} s",
        code="rate_limited",
        headers={"Retry-After": str(seconds)},
        details={"quota": {"of": of, "name": name, "kind": kind, "limit": limit}},
    )
