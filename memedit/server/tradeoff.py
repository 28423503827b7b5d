"""What a threshold brings and costs, measured once for each state of the memory."""

import threading

from memedit.server.lookups import Lookups
from memedit.workflows.tradeoff import Tradeoff, measure

_KEPT = 32


class Tradeoffs:
    """Measures namespaces, one at a time, and remembers each until the memory changes."""

    def __init__(self, lookups: Lookups) -> None:
        self._lookups = lookups
        self._known: dict[str, tuple[int, Tradeoff]] = {}
        self._lock = threading.Lock()

    def of(self, namespace: str) -> Tradeoff:
        """Return the trade-off of a namespace.

        Raises:
            StoreError: the memory cannot be read.
        """
        memory = self._lookups.memory
        with self._lock:
            revision = memory.revision
            known = self._known.get(namespace)
            if known is None or known[0] != revision:
                if len(self._known) >= _KEPT:
                    self._known.clear()
                known = (revision, measure(memory, self._lookups.scope, namespace))
                self._known[namespace] = known
            return known[1]
