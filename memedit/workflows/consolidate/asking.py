"""Putting prompts to a bare model in batches, for checks and gates."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from memedit.evaluation.answering import Answerer, Generation, Scoring
from memedit.evaluation.requests import GenerateRequest, ScoreRequest
from memedit.evaluation.runner import batches_of

Tick = Callable[[int], None]
"""Called with the number of requests just done."""
Request = TypeVar("Request", GenerateRequest, ScoreRequest)
Result = TypeVar("Result", Generation, Scoring)


def generate_all(
    answerer: Answerer, requests: Sequence[GenerateRequest], *, batch_size: int, tick: Tick | None = None
) -> list[Generation]:
    """Answer requests greedily, in order; each distinct one is asked once, in batches of like length."""

    def ask(batch: Sequence[GenerateRequest]) -> Sequence[Generation]:
        first, prompts = batch[0], [request.prompt for request in batch]
        return answerer.generate(prompts, max_new_tokens=first.max_new_tokens, stop_at_newline=first.stop_at_newline)

    texts = [request.prompt for request in dict.fromkeys(requests)]
    return _in_batches(requests, answerer.count_tokens(texts), ask, batch_size, tick)


def score_all(
    answerer: Answerer, requests: Sequence[ScoreRequest], *, batch_size: int, tick: Tick | None = None
) -> list[Scoring]:
    """Score targets behind prompts, in order; each distinct pair once, in batches of like length."""

    def ask(batch: Sequence[ScoreRequest]) -> Sequence[Scoring]:
        return answerer.score([request.prompt for request in batch], [request.target for request in batch])

    texts = [request.prompt + request.target for request in dict.fromkeys(requests)]
    return _in_batches(requests, answerer.count_tokens(texts), ask, batch_size, tick)


def _in_batches(
    requests: Sequence[Request],
    lengths: Sequence[int],
    ask: Callable[[Sequence[Request]], Sequence[Result]],
    batch_size: int,
    tick: Tick | None,
) -> list[Result]:
    distinct = list(dict.fromkeys(requests))
    found: dict[Request, Result] = {}
    for places in batches_of(distinct, lengths, batch_size):
        batch = [distinct[i] for i in places]
        found.update(zip(batch, ask(batch), strict=True))
        if tick is not None:
            tick(len(batch))
    return [found[request] for request in requests]
