"""Writing the request log: behind the answers, never in their way."""

import logging
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from memedit.memory import EditMemory, LoggedRequest
from memedit.server.keeping.notes import Note
from memedit.server.keeping.redaction import Redaction

_log = logging.getLogger("memedit.server")

_BATCH, _PAUSE, _FLUSH_SECONDS, _COMPLAIN_EVERY = 256, 0.25, 5.0, 60.0


@dataclass(frozen=True, slots=True)
class LogLimits:
    """How much is kept: so many rows, for so many days; ``answers`` too; ``redact`` is taken out of texts."""

    rows: int = 100_000
    days: float = 30.0
    answers: bool = False
    redact: tuple[str, ...] = ()


class RequestRecorder:
    """Takes notes of requests and writes them to the store in a thread of its own.

    Notes wait in a bounded queue. What finds it full, and what the store does not take, is dropped and counted: an
    answer never waits for the log, and never fails by it.

    Args:
        memory: whose store has the log.
        limits: what is kept; None keeps no log at all.
        room: notes that may wait.

    Raises:
        InputError: a pattern to redact is no regular expression.
    """

    def __init__(self, memory: EditMemory, limits: LogLimits | None, *, room: int = 2_000) -> None:
        self._memory, self._limits = memory, limits
        self._redaction = Redaction(limits.redact if limits is not None else ())
        self._queue: queue.Queue[LoggedRequest | None] = queue.Queue(room)
        self._thread: threading.Thread | None = None
        self._complained = float("-inf")
        self.written = self._failed = self._refused = 0

    @property
    def on(self) -> bool:
        """Whether a log is kept."""
        return self._limits is not None

    @property
    def dropped(self) -> int:
        """Notes that were not kept: those that found the queue full, and those that the store did not take."""
        return self._refused + self._failed  # each is counted by one thread alone

    @property
    def waiting(self) -> int:
        """Notes that are not written yet."""
        return self._queue.qsize()

    def start(self) -> None:
        """Begin to write."""
        if self.on:
            self._thread = threading.Thread(target=self._run, name="memedit-request-log", daemon=True)
            self._thread.start()

    def take(self, note: Note) -> None:
        """Keep a note for writing, or drop it where too many wait. To be called by one thread, the event loop's."""
        if self._limits is None or not note.asker.logged:
            return
        if self._queue.full():
            self._refused += 1
            return
        try:
            self._queue.put_nowait(note.row(answer=self._limits.answers))
        except Exception:
            self._refused += 1
            _log.exception("a request could not be noted")

    def close(self) -> None:
        """Write what waits, as far as it can be written within some seconds, and end the thread."""
        if self._thread is None:
            return
        try:
            self._queue.put(None, timeout=_FLUSH_SECONDS)
        except queue.Full:
            return
        self._thread.join(_FLUSH_SECONDS)

    def trim(self) -> None:
        """Forget what is too old, and what is too much.

        Raises:
            StoreError: it could not be done.
        """
        if self._limits is not None:
            before = datetime.now(UTC) - timedelta(days=self._limits.days)
            self._memory.request_log.trim(keep=self._limits.rows, before=before)

    def _run(self) -> None:
        ended = False
        while not ended:
            first = self._queue.get()
            rows = [] if first is None else [first]
            ended = first is None
            deadline = time.monotonic() + _PAUSE  # a moment, so that several share one commit
            while not ended and len(rows) < _BATCH:
                try:
                    row = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
                except queue.Empty:
                    break
                ended = row is None
                rows += [] if row is None else [row]
            self._write(rows)

    def _write(self, rows: Sequence[LoggedRequest]) -> None:
        try:
            self._memory.request_log.write([self._redaction.row(row) for row in rows])
            self.written += len(rows)
        except Exception as error:  # whatever it is, the next ones may be written
            self._failed += len(rows)
            if time.monotonic() - self._complained > _COMPLAIN_EVERY:
                self._complained = time.monotonic()
                _log.warning("%d requests could not be written to the request log: %s", len(rows), error)
