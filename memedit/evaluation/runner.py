"""Serving requests in length-sorted batches, each written down before the next begins."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from memedit.errors import InputError
from memedit.evaluation.answering import Answerer, Samples, StartsLate
from memedit.evaluation.cache import OutputCache, Request
from memedit.evaluation.journal import DoneBatch, Journal
from memedit.evaluation.records import Result
from memedit.evaluation.requests import GenerateRequest, SampleRequest, ScoreRequest


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is. ``eta_seconds`` is None until enough has been done to tell.

    It is of the whole run, or with ``whole`` false of ``unit`` alone.
    """

    unit: str
    done: int
    total: int
    eta_seconds: float | None
    whole: bool = True


ProgressCallback = Callable[[Progress], None]


class Clock:
    """Estimates the time a whole run still needs from the cost of what has been done.

    The cost of a request is its tokens, read and written; one written alone costs about as much as four read.

    Args:
        total: cost of the whole run, an estimate.
        callback: called after every batch.
    """

    def __init__(self, total: float, callback: ProgressCallback | None = None) -> None:
        self._total, self._callback = max(total, 1.0), callback
        self._done = self._measured = self._seconds = 0.0

    def tick(self, unit: str, done: int, total: int, *, cost: float, seconds: float | None) -> None:
        """Note a finished batch; ``seconds`` is None when nothing was computed for it."""
        self._done += cost
        if seconds is not None:
            self._measured, self._seconds = self._measured + cost, self._seconds + seconds
        if self._callback is not None:
            left = max(0.0, self._total - self._done)
            eta = left * self._seconds / self._measured if self._measured else None
            self._callback(Progress(unit, done, total, eta))


@dataclass(frozen=True, slots=True)
class Served:
    """Results in request order; for each batch its requests' number, new or scored tokens, and seconds."""

    results: tuple[Result, ...]
    batches: tuple[tuple[int, int, float], ...]


def request_cost(request: Request) -> float:
    """Return the cost of a request in the units of :class:`Clock`; four characters count as a token."""
    if isinstance(request, GenerateRequest | SampleRequest):
        return len(request.prompt) / 4 + 4 * request.max_new_tokens
    return (len(request.prompt) + len(request.target)) / 4


def batches_of(requests: Sequence[Request], lengths: Sequence[int], size: int) -> list[list[int]]:
    """Split requests into batches of at most ``size``: one kind, limit and stop rule each, sorted by length.

    The longest come first, so that a batch too large for the memory shows at once. The order depends on the requests
    alone.
    """
    order = sorted(range(len(requests)), key=lambda i: (_group(requests[i]), -lengths[i], requests[i].prompt, i))
    batches = []
    for _, places in groupby(order, key=lambda i: _group(requests[i])):
        group = list(places)
        batches += [group[start : start + size] for start in range(0, len(group), size)]
    return batches


def _group(request: Request) -> tuple[int, int]:
    if isinstance(request, GenerateRequest):
        return -request.max_new_tokens, int(request.stop_at_newline)
    if isinstance(request, SampleRequest):
        return -request.max_new_tokens, 2
    return 0, 0


def serve(
    unit: str,
    requests: Sequence[Request],
    answerer: Answerer,
    *,
    batch_size: int,
    journal: Journal,
    clock: Clock,
    cache: OutputCache | None = None,
) -> Served:
    """Serve every request, taking finished batches from the journal and known outputs from the cache.

    Args:
        unit: name of this piece of work in the journal.
        requests: distinct requests, all of one form.
        answerer: the model under its method.
        batch_size: rows in one batch.
        journal: where finished batches stand.
        clock: is told of every batch.
        cache: known outputs of this answerer. A batch is taken from it as a whole or not at all, so that the
            composition of batches, and with it the last bit of their floats, does not depend on what was known.
    """
    texts = [r.prompt + r.target if isinstance(r, ScoreRequest) else r.prompt for r in requests]
    batches = batches_of(requests, answerer.count_tokens(texts), batch_size)
    results: dict[int, Result] = {}
    numbers = []
    for index, places in enumerate(batches):
        batch = [requests[i] for i in places]
        known = journal.batch(unit, index)
        done = known or _cached_batch(batch, cache)
        computed = done is None
        done = done or _computed_batch(batch, answerer, cache)
        if known is None:
            journal.add_batch(unit, index, done.results, done.seconds)
        results.update(zip(places, done.results, strict=True))
        numbers.append((len(batch), sum(_tokens(r) for r in done.results), done.seconds))
        cost = sum(map(request_cost, batch))
        clock.tick(unit, len(results), len(requests), cost=cost, seconds=done.seconds if computed else None)
    return Served(tuple(results[i] for i in range(len(requests))), tuple(numbers))


def _cached_batch(batch: Sequence[Request], cache: OutputCache | None) -> DoneBatch | None:
    known = [row for row in cache.get(batch) if row is not None] if cache is not None else []
    if not known or len(known) < len(batch):
        return None
    return DoneBatch(tuple(result for result, _ in known), sum(seconds for _, seconds in known))


def _computed_batch(batch: Sequence[Request], answerer: Answerer, cache: OutputCache | None) -> DoneBatch:
    if isinstance(answerer, StartsLate):
        answerer.prepare()
    started = time.perf_counter()
    results = _ask(batch, answerer)
    seconds = time.perf_counter() - started
    if cache is not None:
        cache.put(batch, results, seconds)
    return DoneBatch(tuple(results), seconds)


def _ask(batch: Sequence[Request], answerer: Answerer) -> Sequence[Result]:
    prompts = [request.prompt for request in batch]
    first = batch[0]
    if isinstance(first, ScoreRequest):
        return answerer.score(prompts, [request.target for request in batch if isinstance(request, ScoreRequest)])
    if isinstance(first, SampleRequest):
        if not isinstance(answerer, Samples):
            raise InputError("this model cannot be sampled from, which the row that was asked for needs")
        return answerer.sample(prompts, max_new_tokens=first.max_new_tokens, seed=_seed_of(batch))
    return answerer.generate(prompts, max_new_tokens=first.max_new_tokens, stop_at_newline=first.stop_at_newline)


def _seed_of(batch: Sequence[Request]) -> int:
    """Return a seed that depends on what is sampled, so that no two batches draw the same numbers."""
    return int.from_bytes(hashlib.sha256(repr(batch).encode("utf-8", "surrogatepass")).digest()[:4])


def _tokens(result: Result) -> int:
    return len(result.logprobs) if hasattr(result, "logprobs") else len(result.token_ids)
