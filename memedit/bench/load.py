"""Clients that ask a server one request after another, and what they saw."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from memedit.errors import MemeditError


@dataclass(frozen=True, slots=True)
class Asked:
    """One streamed request: seconds to its first token and to its end, tokens, and the edits that fired."""

    first: float
    total: float
    tokens: int
    edits: int


@dataclass(frozen=True, slots=True)
class Round:
    """What all clients of one round saw; ``seconds`` from the first request to the last answer."""

    seconds: float
    asked: tuple[Asked, ...]

    @property
    def tokens_per_second(self) -> float:
        """Throughput of all clients together."""
        return sum(one.tokens for one in self.asked) / self.seconds


def run_round(url: str, prompts: Sequence[str], *, clients: int, requests: int, new_tokens: int) -> Round:
    """Have ``clients`` clients ask ``requests`` times each, all starting at once; prompts are taken in turn.

    Raises:
        MemeditError: an answer was not 200.
    """
    return asyncio.run(_round(url, prompts, clients, requests, new_tokens))


async def _round(url: str, prompts: Sequence[str], clients: int, requests: int, new_tokens: int) -> Round:
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(base_url=url, timeout=600.0, limits=limits) as http:
        await asyncio.gather(*(http.get("/health") for _ in range(clients)))  # connections are open beforehand

        async def one(number: int) -> list[Asked]:
            asked = []
            for turn in range(requests):
                prompt = prompts[(number + turn * clients) % len(prompts)]
                asked.append(await _ask(http, prompt, new_tokens))
            return asked

        started = time.perf_counter()
        found = await asyncio.gather(*(one(number) for number in range(clients)))
        return Round(time.perf_counter() - started, tuple(asked for client in found for asked in client))


async def _ask(http: httpx.AsyncClient, prompt: str, new_tokens: int) -> Asked:
    body = {"prompt": prompt, "max_tokens": new_tokens, "temperature": 0, "ignore_eos": True, "stream": True}
    body["stream_options"] = {"include_usage": True}
    started, first, tokens, edits = time.perf_counter(), 0.0, 0, 0
    async with http.stream("POST", "/v1/completions", json=body) as response:
        if response.status_code != 200:
            raise MemeditError(f"the server answered {response.status_code}: {(await response.aread())[:500]!r}")
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk: dict[str, Any] = json.loads(line[6:])
            if "memedit" in chunk:
                edits = len(chunk["memedit"]["edits"])
            elif not first:
                first = time.perf_counter() - started
            tokens = chunk.get("usage", {}).get("completion_tokens", tokens)
    return Asked(first, time.perf_counter() - started, tokens, edits)
