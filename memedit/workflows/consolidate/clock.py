"""How far a job is, and how long it will take: stages of known weight, measured as they go."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_TELLING = 0.02
"""Share of the work after which it can be told how long the rest takes."""


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a job is. ``share`` is of the whole job, in [0, 1]; ``eta_seconds`` None until it can be told."""

    stage: str
    done: int
    total: int
    share: float
    eta_seconds: float | None


Callback = Callable[[JobProgress], None]


class JobClock:
    """Turns progress within stages into progress of the whole.

    Args:
        seconds: expected seconds of every stage, in order; what is left is scaled by how the expectation has done.
        callback: told of every step.
    """

    def __init__(self, seconds: Mapping[str, float], callback: Callback | None = None) -> None:
        self._expected = {stage: max(value, 1e-3) for stage, value in seconds.items()}
        self._callback = callback
        self._started = time.perf_counter()
        self._spent: dict[str, float] = {}
        self._finished = 0.0
        self._stage, self._stage_started = "", self._started

    def begin(self, stage: str) -> Callable[[int, int], None]:
        """Begin a stage, ending the one before; return its ``(done, total)`` callback."""
        self.end()
        self._stage, self._stage_started = stage, time.perf_counter()
        self._tell(stage, 0, 1)
        return lambda done, total: self._tell(stage, done, total)

    def end(self) -> None:
        """End the stage under way."""
        if self._stage:
            spent = time.perf_counter() - self._stage_started
            self._spent[self._stage] = self._spent.get(self._stage, 0.0) + spent
            self._finished += self._expected.get(self._stage, 0.0)
        self._stage = ""

    def seconds(self) -> dict[str, float]:
        """Return the seconds that finished stages took, and ``total``."""
        total = time.perf_counter() - self._started
        return {**{stage: round(s, 3) for stage, s in self._spent.items()}, "total": round(total, 3)}

    def _tell(self, stage: str, done: int, total: int) -> None:
        if self._callback is None:
            return
        whole = sum(self._expected.values())
        now = min(whole, self._finished + self._expected.get(stage, 0.0) * done / max(1, total))
        elapsed = time.perf_counter() - self._started
        eta = None if now < _TELLING * whole else (whole - now) * elapsed / now
        self._callback(JobProgress(stage, done, total, now / whole, eta))
