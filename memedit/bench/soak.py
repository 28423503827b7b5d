"""A server under load for a long time, with a hostile tenant: what the others notice, and whether memory grows."""

import asyncio
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from memedit.bench.common import made_up_facts, percentiles
from memedit.bench.server_process import ServerProcess
from memedit.bench.soak_clients import HostileTenant, QuietClient, Seen
from memedit.errors import InputError
from memedit.memory import EditMemory

Progress = Callable[[int, int], None]
_ALONE = 0.25
"""Share of the time in which the quiet tenants are by themselves."""

_WARM_MINUTES = 3.0
_FACTS_A_MINUTE = 12


@dataclass(frozen=True, slots=True)
class Plan:
    """A run: ``clients`` in ``tenants`` namespaces, ``think`` seconds on average between two requests of one.

    ``options`` are those of ``memedit serve`` beside the memory: model, scope, adapter, encoder, an upstream.
    """

    minutes: float = 20.0
    clients: int = 16
    tenants: int = 4
    think: float = 6.0
    seed: int = 0
    encoder: str = "minilm"
    options: Sequence[str] = ()


def run(plan: Plan, progress: Progress | None = None) -> dict[str, Any]:
    """Load ``memedit serve`` with quiet tenants, and after a quarter of the time with one more that is hostile.

    The server is a process of its own and asks for keys. The quiet clients ask, write, replace and withdraw edits
    throughout. The hostile tenant sends dates from the edge of the calendar, sixty writes at once every two seconds, a
    hundred connections whose requests never end, and requests made to break something. Reported: percentiles of the
    quiet clients' times in milliseconds without and with it, by kind of request, and the ratio of the two p99; their
    errors; edits of other tenants that fired for them (``leaks``); the server's resident memory from minute 3 on (from
    15% of the time on in runs under 20 minutes), and by how much its highest value lies above its value then.

    Args:
        plan: what is run.
        progress: called with (seconds, seconds in all).

    Raises:
        InputError: a number is out of range.
        MemeditError: the server did not start.
    """
    if plan.minutes <= 0 or plan.think <= 0 or min(plan.clients, plan.tenants) < 1:
        raise InputError(f"minutes={plan.minutes}, think={plan.think}: above 0; clients and tenants: at least 1")
    with tempfile.TemporaryDirectory(prefix="memedit-bench-") as folder:
        path = Path(folder) / "edits.db"
        keys = _keys(path, plan)
        options = ["--memory", str(path), "--encoder", plan.encoder, "--log-level", "error", *plan.options]
        with ServerProcess(options) as server, _sampled(server) as samples:
            phases, hostile = asyncio.run(_phases(server.url, keys, plan, progress))
    return _report(plan, phases, hostile, samples)


def _keys(path: Path, plan: Plan) -> list[str]:
    """Make a key for each tenant, the hostile one last."""
    with EditMemory(path, encoder=plan.encoder) as memory:
        names = [*(f"tenant {number}" for number in range(plan.tenants)), "hostile"]
        return [memory.keys.create(name, roles=["generate", "edit"], namespaces=[name])[1] for name in names]


@contextmanager
def _sampled(server: ServerProcess) -> Iterator[list[tuple[float, int]]]:
    """Take the server's resident memory once a second: (seconds since the start, bytes)."""
    samples: list[tuple[float, int]] = []
    stop, began = threading.Event(), time.monotonic()

    def watch() -> None:
        while not stop.wait(1.0):
            samples.append((time.monotonic() - began, server.resident_bytes()))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield samples
    finally:
        stop.set()
        watcher.join()


async def _phases(
    url: str, keys: Sequence[str], plan: Plan, progress: Progress | None
) -> tuple[dict[str, Seen], HostileTenant]:
    seconds = 60 * plan.minutes
    hostile = HostileTenant(url, keys[-1])
    phases = {"alone": Seen(), "together": Seen()}
    async with AsyncExitStack() as stack:
        clients = await _quiet_clients(stack, url, keys[:-1], plan)
        began = time.monotonic()
        teller = asyncio.create_task(_tell(progress, began, seconds))

        def before(share: float) -> Callable[[], bool]:
            return lambda: time.monotonic() < began + share * seconds

        await asyncio.gather(*(client.work(before(_ALONE), phases["alone"]) for client in clients))
        work = [client.work(before(1.0), phases["together"]) for client in clients]
        await asyncio.gather(hostile.work(before(1.0)), *work)
        teller.cancel()
    return phases, hostile


async def _quiet_clients(stack: AsyncExitStack, url: str, keys: Sequence[str], plan: Plan) -> list[QuietClient]:
    """Make the clients; each tenant's share its key and the set of its edits."""
    share = max(5, round(_FACTS_A_MINUTE * plan.minutes))
    facts = made_up_facts(share * plan.clients, plan.seed)
    owned: list[set[str]] = [set() for _ in keys]
    clients = []
    for number in range(plan.clients):
        tenant = number % len(keys)
        headers = {"Authorization": f"Bearer {keys[tenant]}"}
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=url, headers=headers, timeout=300))
        mine = facts[number * share : (number + 1) * share]
        clients.append(QuietClient(http, mine, owned[tenant], plan.seed * 1000 + number, plan.think))
    return clients


async def _tell(progress: Progress | None, began: float, seconds: float) -> None:
    while progress is not None:
        progress(min(round(time.monotonic() - began), round(seconds)), round(seconds))
        await asyncio.sleep(1.0)


def _report(
    plan: Plan, phases: dict[str, Seen], hostile: HostileTenant, samples: Sequence[tuple[float, int]]
) -> dict[str, Any]:
    times = {name: _times(seen) for name, seen in phases.items()}
    common = times["alone"].keys() & times["together"].keys()
    errors = [error for seen in phases.values() for error in seen.errors]
    leaks = [leak for seen in phases.values() for leak in seen.leaks]
    return {
        "benchmark": "soak",
        "minutes": plan.minutes,
        "clients": plan.clients,
        "tenants": plan.tenants,
        "think_seconds": plan.think,
        "cores": os.cpu_count(),
        **{f"{name}_ms": found for name, found in times.items()},
        "p99_ratio": {kind: times["together"][kind]["p99"] / times["alone"][kind]["p99"] for kind in sorted(common)},
        "errors": len(errors),
        "leaks": len(leaks),
        "examples": [*leaks, *errors, *hostile.failures][:10],
        "asked_about_own": sum(seen.asked for seen in phases.values()),
        "not_fired": sum(seen.missed for seen in phases.values()),
        "edits_written": sum(seen.written for seen in phases.values()),
        "edits_retired": sum(seen.retired for seen in phases.values()),
        "hostile": dict(sorted(hostile.statuses.items())),
        "hostile_failures": len(hostile.failures),
        "resident": resident(samples, plan.minutes),
    }


def _times(seen: Seen) -> dict[str, dict[str, float]]:
    """Percentiles in milliseconds by kind of request, and of all."""
    kinds = {kind: values for kind, values in seen.seconds.items() if values}
    everything = [value for values in kinds.values() for value in values]
    named = {**kinds, "all": everything} if everything else {}
    return {kind: {**percentiles(values), "n": len(values)} for kind, values in named.items()}


def resident(samples: Sequence[tuple[float, int]], minutes: float) -> dict[str, float]:
    """Say how resident memory went after the warming up, in MB; ``growth`` is that of its peak over its value then."""
    warm = 60 * min(_WARM_MINUTES, 0.15 * minutes)
    after = [value / 1e6 for at, value in samples if at >= warm]
    if not after:
        return {}
    window = max(1, len(after) // 20)
    first, last = statistics.median(after[:window]), statistics.median(after[-window:])
    return {
        "warm_seconds": warm,
        "warm_mb": first,
        "last_mb": last,
        "peak_mb": max(after),
        "growth": max(after) / first - 1,
    }
