"""What serving costs: tokens a second under load, beside the bare model's ``generate`` at the same batch sizes."""

import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memedit.bench.common import TRAFFIC, made_up_facts, percentiles
from memedit.bench.load import Asked, run_round
from memedit.bench.server_process import ServerProcess
from memedit.errors import InputError
from memedit.memory import EditMemory
from memedit.models import load_model
from memedit.types import EditDraft

Progress = Callable[[int, int], None]
_PROCESSOR = "tokens_per_processor_second"
_RELATIONS = ("The capital of {} is",)


def run(
    *,
    model: str = "smollm2",
    encoder: str = "minilm",
    scope: str = "default",
    adapter: str = "default",
    clients: Sequence[int] = (1, 8, 32),
    edits: int = 1_000,
    new_tokens: int = 64,
    requests: int = 1,
    rounds: int = 3,
    edited: float = 0.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Load a server with closed-loop clients, alternately with ``generate`` on the same prompts at the same batch size.

    The server is ``memedit serve`` in a process of its own; the clients stream. Reported for each number of clients:
    the median over rounds of tokens a second of both, of their ratio (also by processor time, which other work on the
    machine disturbs less), and percentiles of the time to the first token.
    ``batching`` is throughput at 8 clients (or the number nearest) over that of one request at a time.

    Args:
        model: alias, path or hub id; so ``encoder``; ``scope`` and ``adapter`` are registered names.
        clients: numbers of clients at once.
        edits: made-up facts in the memory.
        new_tokens: tokens of each answer, neither fewer nor more.
        requests: requests of each client in a round, one after another.
        rounds: timed rounds for each number, after one that is not counted.
        edited: share of requests about one of the facts, on which it fires.
        seed: of the facts.
        progress: called with (rounds done, rounds in all).

    Raises:
        InputError: a number is out of range.
        MemeditError: the server did not start, or refused a request.
    """
    if min(edits, new_tokens, requests, rounds, *clients) < 1 or not 0.0 <= edited <= 1.0:
        raise InputError("clients, edits, new_tokens, requests and rounds are at least 1, edited lies in 0..1")
    facts = made_up_facts(edits, seed, relations=_RELATIONS)
    prompts = _prompts(facts, max(clients), edited, seed)
    with tempfile.TemporaryDirectory(prefix="memedit-bench-") as folder:
        path = Path(folder) / "edits.db"
        with EditMemory(path, encoder=encoder) as memory:
            memory.add_many(facts, on_conflict="supersede")
            memory.save_index()
        options = ["--memory", str(path), "--model", model, "--encoder", encoder, "--scope", scope]
        options += ["--adapter", adapter, "--no-auth", "--max-batch", str(max(clients)), "--log-level", "warning"]
        reference = _Reference(model, new_tokens)
        with ServerProcess(options) as server:
            results = []
            for i, count in enumerate(clients):
                told = _part(progress, i * (rounds + 1), len(clients) * (rounds + 1))
                results.append(
                    _measure(server, reference, prompts, clients=count, requests=requests, rounds=rounds, progress=told)
                )
    return _report(results, model=model, edits=edits, new_tokens=new_tokens, requests=requests, edited=edited)


class _Reference:
    """The bare model's ``generate``."""

    def __init__(self, model: str, new_tokens: int) -> None:
        loaded = load_model(model)
        self._model, self._tokenizer, self.new_tokens = loaded.model, loaded.tokenizer, new_tokens

    def timed(self, prompts: Sequence[str], calls: int) -> "_Timed":
        """Generate one batch so many times."""
        batch = self._tokenizer(list(prompts), return_tensors="pt", padding=True, padding_side="left")
        started, processor = time.perf_counter(), time.process_time()
        for _ in range(calls):
            self._model.generate(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                min_new_tokens=self.new_tokens,
                max_new_tokens=self.new_tokens,
                do_sample=False,
            )
        tokens = calls * len(prompts) * self.new_tokens
        return _Timed(tokens, time.perf_counter() - started, time.process_time() - processor)


@dataclass(frozen=True, slots=True)
class _Timed:
    """Tokens generated, and the seconds by the clock and by the processors that they took."""

    tokens: int
    seconds: float
    processor: float

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds

    @property
    def processor_rate(self) -> float:
        return self.tokens / self.processor if self.processor > 0 else float("nan")


def _measure(
    server: ServerProcess,
    reference: _Reference,
    prompts: Sequence[str],
    *,
    clients: int,
    requests: int,
    rounds: int,
    progress: Callable[[int], None],
) -> dict[str, Any]:
    """Time rounds of the server and of the reference alternately, in changing order; the first is not counted."""
    bare: list[_Timed] = []
    served: list[_Timed] = []
    asked: list[Asked] = []
    for turn in range(rounds + 1):
        for which in (0, 1) if turn % 2 == 0 else (1, 0):
            if which == 0:
                bare.append(reference.timed(prompts[:clients], requests))
                continue
            processor = server.processor_seconds()
            found = run_round(server.url, prompts, clients=clients, requests=requests, new_tokens=reference.new_tokens)
            tokens = sum(one.tokens for one in found.asked)
            served.append(_Timed(tokens, found.seconds, server.processor_seconds() - processor))
            asked += found.asked if turn else ()
        progress(turn + 1)
    return _figures(clients, bare[1:], served[1:], asked)


def _figures(clients: int, bare: Sequence[_Timed], served: Sequence[_Timed], asked: Sequence[Asked]) -> dict[str, Any]:
    ratios = [mine.rate / theirs.rate for mine, theirs in zip(served, bare, strict=True)]
    by_processor = [mine.processor_rate / theirs.processor_rate for mine, theirs in zip(served, bare, strict=True)]
    return {
        "clients": clients,
        "tokens_per_second": statistics.median(one.rate for one in served),
        "bare_tokens_per_second": statistics.median(one.rate for one in bare),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "ratio_by_processor_time": statistics.median(by_processor),
        "tokens_per_processor_second": statistics.median(one.processor_rate for one in served),
        "first_token_seconds": percentiles([one.first for one in asked], scale=1.0),
        "request_seconds_p50": statistics.median(one.total for one in asked),
        "requests": len(asked),
        "edited_requests": sum(one.edits > 0 for one in asked),
    }


def _report(results: list[dict[str, Any]], **setting: Any) -> dict[str, Any]:
    by_clients = {result["clients"]: result for result in results}
    document: dict[str, Any] = {"benchmark": "serve", "cores": os.cpu_count(), **setting, "results": results}
    document["ratio"] = min(result["ratio"] for result in results)
    document["ratio_by_processor_time"] = min(result["ratio_by_processor_time"] for result in results)
    if 1 in by_clients and len(by_clients) > 1:
        eight = min((n for n in by_clients if n > 1), key=lambda n: abs(n - 8))
        for name, figure in (("batching", "tokens_per_second"), ("batching_by_processor_time", _PROCESSOR)):
            document[name] = by_clients[eight][figure] / by_clients[1][figure]
        document["batching_clients"] = eight
    return document


def _part(progress: Progress | None, done: int, total: int) -> Callable[[int], None]:
    return lambda rounds: progress(done + rounds, total) if progress is not None else None


def _prompts(facts: Sequence[EditDraft], count: int, edited: float, seed: int) -> list[str]:
    """Mix prompts that no fact concerns with prompts of facts."""
    generator = random.Random(seed + 1)
    about = [generator.random() < edited for _ in range(max(count, len(TRAFFIC)))]
    return [facts[i % len(facts)].prompt if own else TRAFFIC[i % len(TRAFFIC)] for i, own in enumerate(about)]
