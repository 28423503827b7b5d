"""The part of the client that is about writing edits into weights."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from memedit.client.events import chunks
from memedit.client.transport import Transport

_BASE = "/v1/consolidations"


@dataclass(frozen=True, slots=True)
class ConsolidationJob:
    """How a job stands: ``state`` is running, done, failed or cancelled; ``share`` of the work is done.

    ``version`` is the version it made, ``published`` whether it is champion; ``message`` what it says of itself.
    """

    id: str
    kind: str
    state: str
    stage: str
    share: float
    eta_seconds: float | None
    message: str | None
    version: str | None
    published: bool


@dataclass(frozen=True, slots=True)
class ConsolidatedVersion:
    """A version of the weights: the edits it answers (``served``) and leaves to the memory, and how its gates came out.

    ``gates`` are mappings with name, verdict, reason, n, candidate, base, unit, p_value and test.
    """

    name: str
    created_at: str
    method: str
    verdict: str
    reasons: tuple[str, ...]
    aliases: tuple[str, ...]
    served: tuple[str, ...]
    left_over: tuple[str, ...]
    gates: tuple[Mapping[str, Any], ...]


class Consolidations:
    """Starts, watches, publishes, rolls back and withdraws; ``client.consolidations``. Changes need the role admin."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def start(
        self,
        *,
        method: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        publish: bool = True,
        again: bool = False,
        **settings: Any,
    ) -> ConsolidationJob:
        """Start a job over the namespace's edits in force; return it as it stands.

        Args:
            method: alphaedit, memit, rome, rect, prune, ultraedit or kne; the server's default when None.
            metadata: take only new edits with this metadata.
            publish: make the candidate champion when its gates allow.
            again: solve even when there is nothing new.
            settings: further fields of the request (check, chat, rounds).

        Raises:
            ServiceError: a job is running already, or the server does not consolidate.
        """
        body = {"metadata": dict(metadata or {}), "publish": publish, "again": again, **settings}
        body |= {"method": method} if method is not None else {}
        return _job(self._transport.send("POST", _BASE, json=body).json())

    def job(self, id: str) -> ConsolidationJob:
        """Return how a job stands."""
        return _job(self._transport.get(f"{_BASE}/jobs/{quote(id, safe='')}"))

    def jobs(self) -> tuple[ConsolidationJob, ...]:
        """Return the namespace's jobs since the server's start, newest first."""
        return tuple(map(_job, self._transport.get(_BASE)["jobs"]))

    def watch(self, id: str) -> Iterator[ConsolidationJob]:
        """Yield a job's state whenever it changes, until it has ended."""
        with self._transport.opened("GET", f"{_BASE}/jobs/{quote(id, safe='')}/events") as response:
            for state in chunks(response):
                yield _job(state)

    def cancel(self, id: str) -> ConsolidationJob:
        """End a job; nothing that anyone is answered from has changed."""
        return _job(self._transport.send("DELETE", f"{_BASE}/jobs/{quote(id, safe='')}").json())

    def versions(self) -> tuple[ConsolidatedVersion, ...]:
        """Return the namespace's versions with their gates, newest first."""
        return tuple(map(_version, self._transport.get(_BASE)["versions"]))

    def version(self, name: str) -> ConsolidatedVersion:
        """Return a version by its name, or the one under an alias: candidate, champion, previous."""
        return _version(self._transport.get(f"{_BASE}/versions/{quote(name, safe='')}"))

    def aliases(self) -> dict[str, str | None]:
        """Return which version is candidate, champion and previous; None for the latter two is the plain base."""
        return dict(self._transport.get(_BASE)["aliases"])

    def serving(self) -> dict[str, Any]:
        """Return what the server answers the namespace with: ``version`` (None is the plain base), whether it
        ``follows`` the champion, and the ``problem`` that keeps the champion from answering, if any.
        """
        return dict(self._transport.get(_BASE)["serving"])

    def publish(self, name: str) -> dict[str, str | None]:
        """Make a version the champion, whatever its verdict; return the aliases."""
        return dict(self._transport.send("POST", f"{_BASE}/versions/{quote(name, safe='')}/publish").json())

    def rollback(self) -> dict[str, str | None]:
        """Make the previous version, or the plain base, the champion again; return the aliases.

        Raises:
            ServiceError: no version was ever published.
        """
        return dict(self._transport.send("POST", f"{_BASE}/rollback").json())

    def withdraw(self, ids: Sequence[str]) -> ConsolidationJob:
        """Withdraw edits from the memory at once and, by a job that solves without them, from the weights.

        Raises:
            EditNotFoundError: an id is not in the namespace.
        """
        return _job(self._transport.send("POST", f"{_BASE}/withdraw", json={"ids": list(ids)}).json())


def _job(body: Mapping[str, Any]) -> ConsolidationJob:
    return ConsolidationJob(**{name: body[name] for name in ConsolidationJob.__slots__})


def _version(body: Mapping[str, Any]) -> ConsolidatedVersion:
    lists: dict[str, Any] = {name: tuple(body[name]) for name in ("reasons", "aliases", "served", "left_over", "gates")}
    plain: dict[str, Any] = {name: body[name] for name in ("name", "created_at", "method", "verdict")}
    return ConsolidatedVersion(**plain, **lists)
