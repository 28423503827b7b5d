"""How much of each quota is used."""

from collections.abc import Iterator
from dataclasses import dataclass

from memedit.memory import EditMemory, Quota
from memedit.server.keeping.quotas import QuotaKeeper

RATES = ("requests_per_minute", "tokens_per_minute")


@dataclass(frozen=True, slots=True)
class Usage:
    """How much of a limit is used: of edits as they are, of rates in the last minute on this server."""

    of: str
    name: str
    kind: str
    limit: int
    used: int


def usages(memory: EditMemory, quotas: QuotaKeeper) -> list[Usage]:
    """Return the use of every limit that is set, of namespaces and of keys that are not revoked.

    Raises:
        StoreError: the memory cannot be read.
    """
    found: list[Usage] = []
    of_namespaces = memory.quotas.all()
    counts = memory.counts() if any(quota.edits is not None for quota in of_namespaces.values()) else {}
    for namespace, quota in of_namespaces.items():
        there = sum(number for state, number in counts.get(namespace, {}).items() if state != "retired")
        found += _of("namespace", namespace, quota, there, quotas)
    added = memory.quotas.edits_by_key()
    for key in memory.keys.list():
        if key.revoked_at is None and key.quota:
            found += _of("key", f"{key.name}/{key.id}", key.quota, added.get(key.id, 0), quotas)
    return found


def _of(of: str, name: str, quota: Quota, edits: int, quotas: QuotaKeeper) -> Iterator[Usage]:
    if quota.edits is not None:
        yield Usage(of, name, "edits", quota.edits, edits)
    for kind in RATES:
        limit = getattr(quota, kind)
        if limit is not None:
            yield Usage(of, name, kind, limit, quotas.used(of, name, kind))
