"""Holding keys and namespaces to what they may ask for."""

import threading
from collections.abc import Iterator

from memedit.memory import EditMemory, Quota
from memedit.server.auth import Principal
from memedit.server.engines.base import Usage
from memedit.server.rates import RateLimiter, rate_name, rate_refusal

_REQUESTS, _TOKENS = "requests_per_minute", "tokens_per_minute"


class QuotaKeeper:
    """Refuses requests of keys and namespaces that have had their requests or tokens of the minute.

    Rates are those of this server. Tokens are counted when an answer ends, so a long one can overdraw; what follows
    then waits until that is made good. What another process sets holds here about a second later.

    Args:
        memory: has the quotas.
        limiter: counts.
    """

    def __init__(self, memory: EditMemory, limiter: RateLimiter) -> None:
        self._memory, self._limiter = memory, limiter
        self._lock = threading.Lock()
        self._known: dict[str, Quota] = {}
        self.refusals: dict[tuple[str, str], int] = {}

    def refresh(self) -> None:
        """Read the quotas of namespaces; no request waits for that.

        Raises:
            StoreError: they cannot be read; those known go on holding.
        """
        self._known = self._memory.quotas.all()

    def of(self, namespace: str) -> Quota | None:
        """Return the quota of a namespace; None where it has none."""
        return self._known.get(namespace)

    def admit(self, who: Principal, namespace: str, *, tokens: bool = False) -> None:
        """Let a request into a namespace; ``tokens`` where it will cost some.

        Raises:
            ApiError: 429, it or its key has had what it may have.
        """
        for of, name, limit in self._token_limits(who.name, who.tokens_per_minute, namespace) if tokens else ():
            wait = self._limiter.overdrawn(rate_name(of, name, _TOKENS), limit)
            self._refuse(of, name, _TOKENS, limit, wait)
        quota = self.of(namespace)
        if quota is not None and quota.requests_per_minute is not None:
            most = quota.requests_per_minute
            wait = self._limiter.take(rate_name("namespace", namespace, _REQUESTS), most)
            self._refuse("namespace", namespace, _REQUESTS, most, wait)

    def charge(self, who: Principal, namespace: str, usage: Usage) -> None:
        """Count the tokens of an answer."""
        spent = usage.prompt_tokens + usage.completion_tokens
        for of, name, limit in self._token_limits(who.name, who.tokens_per_minute, namespace):
            self._limiter.spend(rate_name(of, name, _TOKENS), limit, spent)

    def used(self, of: str, name: str, kind: str) -> int:
        """Return about how much of a rate was used within the last minute."""
        return self._limiter.used(rate_name(of, name, kind))

    def refused(self, of: str, kind: str) -> None:
        """Count a refusal."""
        with self._lock:
            self.refusals[of, kind] = self.refusals.get((of, kind), 0) + 1

    def _token_limits(self, key: str, of_key: int | None, namespace: str) -> Iterator[tuple[str, str, int]]:
        if of_key is not None:
            yield "key", key, of_key
        quota = self.of(namespace)
        if quota is not None and quota.tokens_per_minute is not None:
            yield "namespace", namespace, quota.tokens_per_minute

    def _refuse(self, of: str, name: str, kind: str, limit: int, wait: float) -> None:
        if wait <= 0:
            return
        self.refused(of, kind)
        raise rate_refusal(of, name, kind, limit, wait)
