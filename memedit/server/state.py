"""What the routes of one server work with."""

import threading
from dataclasses import dataclass, field

from fastapi import Request

from memedit.memory import EditMemory
from memedit.server.auth import Authenticator
from memedit.server.consolidations import Consolidator
from memedit.server.embedding import Embedder
from memedit.server.engines.base import Engine
from memedit.server.keeping import FigureKeeper, KeptGauges, Observer, QuotaKeeper, RequestRecorder, Upkeep
from memedit.server.lookups import Lookups
from memedit.server.metrics import Metrics
from memedit.server.queues import FairThreads, QuickThreads
from memedit.server.settings import ServerSettings
from memedit.server.streams import Deadlines
from memedit.server.tradeoff import Tradeoffs
from memedit.server.version_watcher import VersionWatcher

_CHANGES, _READS, _WAITING_READS = 4, 16, 256
"""Threads for changes and for reads, and reads of one key that may wait."""


@dataclass(slots=True)
class ServerState:
    """One server's parts; ``app.state.memedit``."""

    engine: Engine
    lookups: Lookups
    settings: ServerSettings
    authenticator: Authenticator
    metrics: Metrics
    consolidator: Consolidator | None = None
    watcher: VersionWatcher | None = None
    under_way: set[tuple[str, str]] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    deadlines: Deadlines = field(default_factory=Deadlines)
    quick: QuickThreads = field(default_factory=QuickThreads)
    changes: FairThreads = field(init=False)
    reads: FairThreads = field(init=False)
    quotas: QuotaKeeper = field(init=False)
    log: RequestRecorder = field(init=False)
    observer: Observer = field(init=False)
    figures: FigureKeeper = field(init=False)
    upkeep: Upkeep = field(init=False)
    embedder: Embedder = field(init=False)
    tradeoffs: Tradeoffs = field(init=False)

    def __post_init__(self) -> None:
        waiting = self.settings.max_waiting_changes
        self.changes = FairThreads("change", _CHANGES, at_once=1, per_key=waiting, busy=self._answering)
        self.reads = FairThreads("read", _READS, at_once=_READS // 4, per_key=_WAITING_READS, busy=self._answering)
        self.embedder = Embedder(self.memory, self._answering)
        self.tradeoffs = Tradeoffs(self.lookups)
        self.quotas = QuotaKeeper(self.memory, self.authenticator.limiter)
        self.log = RequestRecorder(self.memory, self.settings.log_limits)
        self.observer = Observer(self.engine, self.metrics, self.quotas, self.log)
        self.figures = FigureKeeper(self.memory, self.metrics, self.engine)
        self.upkeep = Upkeep(self.memory, self.figures, self.log, self.quotas, self.authenticator)
        self.metrics.registry.register(KeptGauges(self.memory, self.quotas, self.log))

    def close(self) -> None:
        """Stop all threads of its own."""
        for threads in (self.changes, self.reads, self.embedder, self.quick):
            threads.close()

    def _answering(self) -> bool:
        load = self.engine.load()
        return load.running + load.waiting > 0

    @property
    def memory(self) -> EditMemory:
        """The edit memory."""
        return self.lookups.memory


def server_state(request: Request) -> ServerState:
    """Return the server that a request is made to."""
    found: ServerState = request.app.state.memedit
    return found
