"""Which edits a prompt falls under, in any namespace of one memory."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from memedit.memory import EditMemory
from memedit.runtime import Router
from memedit.runtime.asked import Asked
from memedit.runtime.calibrated import kept_threshold
from memedit.runtime.chains import BaseSays
from memedit.runtime.lazy import LazyScope
from memedit.runtime.rows import check_characters
from memedit.scope import Scope, load_scope
from memedit.server.active_weights import ActiveVersion, ActiveWeights
from memedit.types import ChainPolicy, ScopeDecision

_ROUTERS = 1_000


@dataclass(frozen=True, slots=True)
class LookupResult:
    """Decisions in the order of the queries.

    ``revision`` is the newest change that they are sure to know of; ``served`` the weights that they are right for,
    since what fires are the edits that these do not answer.
    """

    decisions: tuple[ScopeDecision, ...]
    revision: int
    served: ActiveVersion


class Lookups:
    """One scope over all namespaces, each with the threshold that was calibrated in it.

    Every call works in the one namespace it names: candidates come from that namespace's own index, so an edit of
    another one is never even considered. Safe to use from several threads.

    Args:
        memory: the edit memory.
        scope: registered name; ``options`` are its own.
        threshold: replaces calibrated ones.
        k: vector neighbours looked at for each query.
        chains: the policy of look-up along chains of edits; a chain never leaves its namespace.
        weights: what answers each namespace; None is a plain model for all.
    """

    def __init__(
        self,
        memory: EditMemory,
        *,
        scope: str = "default",
        options: dict[str, object] | None = None,
        threshold: float | None = None,
        k: int = 8,
        chains: ChainPolicy = "off",
        weights: ActiveWeights | None = None,
    ) -> None:
        self._memory, self._threshold, self._k, self._chains = memory, threshold, k, chains
        self._scope = LazyScope(lambda: load_scope(scope, memory.encoder, **(options or {})))
        self.weights = weights or ActiveWeights()
        self._routers: dict[str, tuple[int, ActiveVersion, Router]] = {}
        self.observe: Callable[[int, float], None] | None = None
        """Told of each look-up: how many queries, how many seconds."""

    @property
    def memory(self) -> EditMemory:
        """The edit memory."""
        return self._memory

    @property
    def scope(self) -> Scope:
        """The scope, loaded now (with the memory's encoder) if it was not yet."""
        return self._scope.get()

    def decide(
        self,
        namespace: str,
        queries: Sequence[str | Asked],
        *,
        threshold: float | None = None,
        chats: Sequence[bool] | None = None,
        base: BaseSays | None = None,
    ) -> LookupResult:
        """Judge queries, all in one pass of the encoder; ``threshold`` is tried instead of the one in force.

        ``chats`` says which are asked as chat turns, ``base`` asks the bare model for a first hop that no edit holds,
        see :meth:`~memedit.runtime.routing.Router.decide`.

        Raises:
            InputError: a query is no Unicode text.
            StoreError: the memory cannot be read.
            ApiError: 403, this server does not answer the namespace.
        """
        for query in queries:
            check_characters(query if isinstance(query, str) else query.talk)
        started = time.perf_counter()
        served = self.weights.of(namespace)
        revision = self._memory.revision
        if threshold is None:
            router = self._router(namespace, revision, served)
        else:
            router = self._new_router(namespace, threshold, served)
        decisions = router.decide(queries, chats=chats, base=base)
        if self.observe is not None:
            self.observe(len(queries), time.perf_counter() - started)
        return LookupResult(tuple(decisions), revision, served)

    def decide_spoken(self, namespace: str, texts: Sequence[str]) -> list[ScopeDecision]:
        """Judge what an answer that is being written says, by single edits alone."""
        served, revision = self.weights.of(namespace), self._memory.revision
        return self._router(namespace, revision, served).decide_spoken(texts, chat=True)

    @property
    def pinned(self) -> bool:
        """Whether the threshold was given to this server, so that none kept in the memory counts."""
        return self._threshold is not None

    def threshold(self, namespace: str) -> float:
        """Return the threshold in force: the one given, else the namespace's calibrated one, else the scope's own."""
        if self._threshold is not None:
            return self._threshold
        kept = kept_threshold(self._memory, self.scope, namespace=namespace)
        return self.scope.threshold if kept is None else kept

    def _router(self, namespace: str, revision: int, served: ActiveVersion) -> Router:
        """The namespace's router; its threshold is read again when the memory has changed."""
        known = self._routers.get(namespace)
        if known is not None and known[:2] == (revision, served):
            return known[2]
        threshold = self._threshold
        if threshold is None:
            threshold = kept_threshold(self._memory, self.scope, namespace=namespace)
        router = self._new_router(namespace, threshold, served)
        if len(self._routers) >= _ROUTERS:
            self._routers.clear()  # cheap to make again, and whoever asks may make names of namespaces up
        self._routers[namespace] = (revision, served, router)
        return router

    def _new_router(self, namespace: str, threshold: float | None, served: ActiveVersion) -> Router:
        return Router(
            self._memory,
            self._scope,
            namespace=namespace,
            k=self._k,
            threshold=threshold,
            in_weights=served.edits,
            chains=self._chains,
        )
