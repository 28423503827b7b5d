"""The soak: what it counts, on a real server for a few seconds, and on figures made by hand."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from memedit.bench import soak
from memedit.bench.common import made_up_facts
from memedit.bench.soak_clients import HostileTenant, QuietClient, Seen
from memedit.errors import InputError
from memedit.memory import EditMemory
from support.hashing_encoder import HashingEncoder
from support.running import proxy_app, serving
from support.scripted_upstream import ScriptedUpstream

pytestmark = pytest.mark.slow


@pytest.fixture
def served() -> Iterator[tuple[str, EditMemory]]:
    with (
        EditMemory(encoder=HashingEncoder(32)) as memory,
        serving(proxy_app(memory, ScriptedUpstream(), auth=True)) as url,
    ):
        yield url, memory


def key_of(memory: EditMemory, name: str) -> dict[str, str]:
    secret = memory.keys.create(name, roles=["generate", "edit"], namespaces=[name])[1]
    return {"Authorization": f"Bearer {secret}"}


async def quiet(url: str, headers: dict[str, str], owned: set[str], requests: int) -> Seen:
    """What a client sees in so many requests."""
    seen, left = Seen(), iter(range(requests))
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as http:
        client = QuietClient(http, made_up_facts(500, 0), owned, seed=1, think=0.001)
        await client.work(lambda: next(left, None) is not None, seen)
    return seen


def test_quiet_clients_do_everything_and_find_no_fault(served: tuple[str, EditMemory]) -> None:
    url, memory = served
    seen = asyncio.run(quiet(url, key_of(memory, "one"), set(), 80))
    assert (seen.errors, seen.leaks, seen.missed) == ([], [], 0)
    assert set(seen.seconds) == {"answer", "write", "read"}
    assert min(seen.written, seen.retired, seen.asked) > 0
    assert len(memory.list(state="all", namespace="one")) == seen.written


class OwnsNothing(set[str]):
    """The edits of a tenant that has none: whatever fires for it is somebody else's."""

    def add(self, element: str) -> None:
        return None


def test_an_edit_of_another_tenant_counts_as_a_leak(served: tuple[str, EditMemory]) -> None:
    url, memory = served
    seen = asyncio.run(quiet(url, key_of(memory, "one"), OwnsNothing(), 60))
    assert seen.leaks
    assert seen.errors == []


def test_what_fails_is_an_error() -> None:
    seen = asyncio.run(quiet("http://127.0.0.1:9", {}, set(), 10))
    assert seen.errors
    assert not seen.asked


def test_the_hostile_tenant_gets_refusals_and_hurts_nothing(served: tuple[str, EditMemory]) -> None:
    url, memory = served
    secret = memory.keys.create("hostile", roles=["generate", "edit"], namespaces=["hostile"])[1]
    hostile = HostileTenant(url, secret)

    def enough() -> bool:
        writes = sum(count for what, count in hostile.statuses.items() if what.startswith("write"))
        return hostile.statuses["odd 400"] >= 6 and hostile.statuses["half-open held"] == 100 and writes >= 60

    async def both() -> Seen:
        end = time.monotonic() + 120
        work = hostile.work(lambda: not enough() and time.monotonic() < end)
        _, seen = await asyncio.gather(work, quiet(url, key_of(memory, "one"), set(), 30))
        return seen

    seen = asyncio.run(both())
    assert (seen.errors, seen.leaks, hostile.failures) == ([], [], [])
    assert enough(), hostile.statuses


def test_memory_is_compared_with_what_it_was_when_warm() -> None:
    samples = [(float(second), 10**6 * (50 if second < 180 else 100)) for second in range(1200)]
    samples[700] = (700.0, 110 * 10**6)
    found = soak.resident(samples, 20)
    assert found == {
        "warm_seconds": 180.0,
        "warm_mb": 100.0,
        "last_mb": 100.0,
        "peak_mb": 110.0,
        "growth": pytest.approx(0.1),
    }


def test_ratios_are_of_the_same_kind_of_request() -> None:
    alone, together = Seen(), Seen()
    alone.seconds["answer"], alone.seconds["write"] = [1.0] * 50, [0.1] * 50
    together.seconds["answer"] = [1.5] * 50
    together.errors.append("x")
    found: Any = soak._report(soak.Plan(minutes=1), {"alone": alone, "together": together}, HostileTenant("", ""), [])
    assert found["p99_ratio"] == {"answer": 1.5, "all": 1.5}
    assert (found["errors"], found["alone_ms"]["write"]["p50"], found["together_ms"]["answer"]["n"]) == (1, 100.0, 50)
    with pytest.raises(InputError):
        soak.run(soak.Plan(minutes=0))
