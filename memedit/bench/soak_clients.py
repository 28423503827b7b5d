"""Clients of a long run: quiet ones that ask and edit at a walking pace, and a tenant that does all it can to hurt."""

import asyncio
import contextlib
import random
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from memedit.types import EditDraft

GoingOn = Callable[[], bool]

_EDGES = (
    "9999-12-31T23:59:59-14:00",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59.999999Z",
    "0001-01-01T00:00:00Z",
)
_HALF = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\nX-Slow: "
_FLOOD = 60
_SOCKETS = 100


@dataclass
class Seen:
    """What the clients of one phase saw: seconds by kind of request, and what went wrong."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    missed: int = 0
    asked: int = 0
    written: int = 0
    retired: int = 0


class QuietClient:
    """Asks about its own edits and about nothing in particular, writes, replaces and withdraws, and looks around.

    Args:
        http: with the tenant's key.
        facts: what it may write.
        owned: ids of the tenant's edits, shared with the tenant's other clients.
        seed: of what it does; ``think`` is the mean pause in seconds between two requests.
    """

    def __init__(
        self, http: httpx.AsyncClient, facts: Sequence[EditDraft], owned: set[str], seed: int, think: float
    ) -> None:
        self._http, self._facts, self._owned = http, list(facts), owned
        self._rng, self._think = random.Random(seed), think
        self._live: dict[str, str] = {}

    async def work(self, going_on: GoingOn, seen: Seen) -> None:
        """Send one request after another while ``going_on`` says so."""
        actions: list[tuple[Callable[[Seen], Awaitable[None]], int]] = [
            (self._ask, 4), (self._chat, 3), (self._add, 2), (self._supersede, 1), (self._withdraw, 1), (self._look, 2),
        ]  # fmt: skip
        while going_on():
            await asyncio.sleep(self._rng.expovariate(1 / self._think))
            action = self._rng.choices([each for each, _ in actions], [weight for _, weight in actions])[0]
            try:
                await action(seen)
            except httpx.HTTPError as error:
                seen.errors.append(f"{action.__name__}: {type(error).__name__}: {error}")

    async def _send(self, seen: Seen, kind: str, method: str, path: str, **parts: Any) -> Any:
        began = time.perf_counter()
        response = await self._http.request(method, path, **parts)
        seen.seconds[kind].append(time.perf_counter() - began)
        if not response.is_success:
            seen.errors.append(f"{method} {path}: {response.status_code} {response.text[:200]}")
            return None
        return response.json()

    async def _ask(self, seen: Seen) -> None:
        """Ask a stored prompt: its edit must fire, and none of another tenant."""
        if self._live:
            prompt = self._rng.choice(list(self._live))
            seen.asked += 1
            fired = await self._answer(seen, prompt)
            seen.missed += fired is not None and self._live[prompt] not in fired

    async def _chat(self, seen: Seen) -> None:
        await self._answer(seen, f"Tell me something about the number {self._rng.randrange(10_000)}.")

    async def _answer(self, seen: Seen, prompt: str) -> list[str] | None:
        body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": 8, "temperature": 0}
        found = await self._send(seen, "answer", "POST", "/v1/chat/completions", json=body)
        if found is None:
            return None
        fired = [edit["id"] for edit in found["memedit"]["edits"]]
        seen.leaks += [f"{prompt!r} fired {edit_id}" for edit_id in fired if edit_id not in self._owned]
        return fired

    async def _add(self, seen: Seen) -> None:
        if not self._facts:
            return
        fact = self._facts.pop()
        body = {"prompt": fact.prompt, "target": fact.target, "subject": fact.subject}
        made = await self._send(seen, "write", "POST", "/v1/edits?on_conflict=keep", json=body)
        self._took(seen, fact.prompt, made)

    async def _supersede(self, seen: Seen) -> None:
        if self._live:
            prompt = self._rng.choice(list(self._live))
            path = f"/v1/edits/{self._live[prompt]}/supersede?on_conflict=keep"
            target = f"number {self._rng.randrange(10**9)}"
            self._took(seen, prompt, await self._send(seen, "write", "POST", path, json={"target": target}))

    async def _withdraw(self, seen: Seen) -> None:
        if len(self._live) > 3:
            edit_id = self._live.pop(self._rng.choice(list(self._live)))
            if await self._send(seen, "write", "DELETE", f"/v1/edits/{edit_id}") is not None:
                seen.retired += 1

    async def _look(self, seen: Seen) -> None:
        path = self._rng.choice(["/v1/edits?limit=20", "/v1/edits/search?q=capital", "/v1/models"])
        await self._send(seen, "read", "GET", path)

    def _took(self, seen: Seen, prompt: str, made: Mapping[str, Any] | None) -> None:
        if made is not None:
            self._live[prompt] = made["id"]
            self._owned.add(made["id"])
            seen.written += 1


class HostileTenant:
    """Sends dates from the edge of the calendar, floods of writes, half-open connections, and odd requests.

    ``statuses`` counts the answers, ``failures`` shows those that say that the server failed.
    """

    def __init__(self, url: str, key: str) -> None:
        self._url, self._key = url, key
        self.statuses: Counter[str] = Counter()
        self.failures: list[str] = []

    async def work(self, going_on: GoingOn) -> None:
        """Send all kinds of it while ``going_on`` says so."""
        limits = httpx.Limits(max_connections=2 * _FLOOD, max_keepalive_connections=_FLOOD)
        headers = {"Authorization": f"Bearer {self._key}"}
        async with httpx.AsyncClient(base_url=self._url, headers=headers, timeout=60, limits=limits) as http:
            await asyncio.gather(self._edges(http, going_on), self._flood(http, going_on), self._half_open(going_on))

    async def _send(self, http: httpx.AsyncClient, what: str, method: str, path: str, **parts: Any) -> None:
        try:
            response = await http.request(method, path, **parts)
        except httpx.HTTPError as error:
            self.statuses[f"{what} {type(error).__name__}"] += 1
            return
        self.statuses[f"{what} {response.status_code}"] += 1
        if response.status_code >= 500:
            self.failures.append(f"{method} {path[:80]}: {response.status_code} {response.text[:200]}")

    async def _edges(self, http: httpx.AsyncClient, going_on: GoingOn) -> None:
        odd: list[tuple[str, str, dict[str, Any]]] = [
            ("POST", "/v1/edits", {"json": {"prompt": "p", "target": "t", "valid_at": edge}}) for edge in _EDGES
        ]
        odd += [
            ("GET", "/v1/edits/search?q=" + "word+" * 3_000, {}),
            ("POST", "/v1/edits", {"content": b'{"metadata":' + b'{"a":' * 5_000, "headers": _JSON}),
            ("POST", "/v1/edits", {"content": rb'{"prompt": "\ud800", "target": "t"}', "headers": _JSON}),
            ("GET", "/v1/edits/%0d%0aGET%20/forged%1b%5b0m", {}),
            ("POST", "/v1/chat/completions", {"json": {"messages": []}}),
            ("GET", "/v1/edits?limit=1", {}),
        ]
        while going_on():
            for method, path, parts in odd:
                await self._send(http, "odd", method, path, **parts)
            await asyncio.sleep(1.0)

    async def _flood(self, http: httpx.AsyncClient, going_on: GoingOn) -> None:
        number = 0
        while going_on():
            bodies = [{"prompt": f"The size of thing {number + i} is", "target": "x"} for i in range(_FLOOD)]
            number += _FLOOD
            await asyncio.gather(*(self._send(http, "write", "POST", "/v1/edits", json=body) for body in bodies))
            await asyncio.sleep(2.0)

    async def _half_open(self, going_on: GoingOn) -> None:
        """Hold connections whose request never comes to an end, one byte a second each."""
        address = urlsplit(self._url)
        held: list[asyncio.StreamWriter] = []
        while going_on():
            held = [each for each in held if not each.is_closing()]
            while len(held) < _SOCKETS:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection(address.hostname, address.port)
                    writer.write(_HALF)
                    held.append(writer)
                    continue
                break
            for writer in held:
                with contextlib.suppress(OSError):
                    writer.write(b"x")
                    await writer.drain()
            self.statuses["half-open held"] = max(self.statuses["half-open held"], len(held))
            await asyncio.sleep(1.0)
        for writer in held:
            writer.close()


_JSON = {"Content-Type": "application/json"}
