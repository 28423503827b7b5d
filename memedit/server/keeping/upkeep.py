"""What has to be done now and then, in a thread of its own so that nobody waits for it."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from memedit.errors import MemeditError
from memedit.memory import EditMemory
from memedit.server.allocation import give_back
from memedit.server.auth import Authenticator
from memedit.server.keeping.figures import STEP, FigureKeeper
from memedit.server.keeping.quotas import QuotaKeeper
from memedit.server.keeping.request_log import RequestRecorder

_log = logging.getLogger("memedit.server")
_TRIM_EVERY, _USES_EVERY = 300.0, 20.0


class Upkeep:
    """Keeps the figures of each minute, learns of quotas, notes when keys were used, trims log and memory.

    Args:
        memory: whose store it is.
        figures: are written at the end of each minute.
        log: is trimmed.
        quotas: learn what other processes set.
        authenticator: knows which keys were used.
    """

    def __init__(
        self,
        memory: EditMemory,
        figures: FigureKeeper,
        log: RequestRecorder,
        quotas: QuotaKeeper,
        authenticator: Authenticator,
    ) -> None:
        self._memory, self._figures, self._log = memory, figures, log
        self._quotas, self._authenticator = quotas, authenticator
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memedit-upkeep", daemon=True)

    def start(self) -> None:
        """Begin, with quotas that are known already."""
        _tried(self._quotas.refresh)
        self._thread.start()

    def close(self) -> None:
        """Do for the last time what must not be lost, and end."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(5.0)
        _tried(self.note_uses)

    def note_uses(self) -> None:
        """Write when keys were last used.

        Raises:
            StoreError: it could not be written; it is tried again the next time.
        """
        uses = self._authenticator.take_uses()
        try:
            self._memory.keys.used(uses)
        except MemeditError:
            self._authenticator.give_back(uses)
            raise

    def _run(self) -> None:
        minute, trimmed, noted = int(time.time() // STEP), float("-inf"), time.monotonic()
        while not self._ended.wait(1.0):
            _tried(self._quotas.refresh)
            if int(time.time() // STEP) != minute:
                minute = int(time.time() // STEP)
                _tried(lambda: self._figures.minute(datetime.now(UTC)))
                _tried(give_back)
            if time.monotonic() - noted > _USES_EVERY:
                noted = time.monotonic()
                _tried(self.note_uses)
            if time.monotonic() - trimmed > _TRIM_EVERY:
                trimmed = time.monotonic()
                _tried(self._log.trim)


def _tried(work: Callable[[], None]) -> None:
    try:
        work()
    except MemeditError as error:  # read-only, full or away just now: the next time will do
        _log.debug("upkeep: %s", error)
    except Exception:
        _log.exception("upkeep failed")
