"""What a hypernetwork is asked about an edit: other wordings, and what follows from it with what a base knows."""

import random
from collections.abc import Sequence
from typing import Any

import torch

from memedit.models.gradients import ScoredRows
from memedit.models.segments import Segments
from memedit.models.token_rows import answer_ids, query_ids
from memedit.training.facts import Fact, Pair
from memedit.training.hypernet.lessons import Example
from memedit.training.hypernet.settings import HypernetSettings
from memedit.training.reader.world import countries, fact_of_a_country, plain_hops

_ROWS = 32


def example_of(fact: Fact, *, hops: bool) -> Example:
    """Return a fact as an example; with ``hops`` the questions that need it as one step are asked too."""
    asks = tuple((ask, fact.target) for ask in fact.asks)
    off_topic = fact.off_topic[0] if fact.off_topic else None
    return Example(fact.prompt, fact.target, (*asks, *(fact.hops if hops else ())), off_topic)


def world_examples(segments: Segments, tokenizer: Any, settings: HypernetSettings) -> list[Example]:
    """Return ``settings.world`` made-up facts with the questions whose further step the base knows.

    Questions with the word ``settings.unseen`` are left out, so that they can be asked as ones never trained on.
    """
    if not settings.world:
        return []
    facts = made_up(settings.world, segments, tokenizer, seed=settings.seed)
    examples = [example_of(fact, hops=True) for fact in facts]
    return [_without(example, settings.unseen) for example in examples]


def made_up(count: int, segments: Segments, tokenizer: Any, *, seed: int) -> list[Fact]:
    """Return facts that tie made-up names to countries, with hops that the base answers when the country is named."""
    made = drawn(count, seed=seed)
    rows = sorted({row for row, _ in made})
    known = dict(zip(rows, _known(segments, tokenizer, [plain_hops(row) for row in rows]), strict=True))
    return [_followed(fact, known[row]) for row, fact in made]


def drawn(count: int, *, seed: int) -> list[tuple[tuple[str, ...], Fact]]:
    """Return countries and facts that tie made-up names to them, with all hops, whether a base knows them or not."""
    rows, rng = countries(), random.Random(f"propagation:{seed}")
    return [(row, fact_of_a_country(rng, row)) for row in (rng.choice(rows) for _ in range(count))]


def _followed(fact: Fact, known: tuple[bool, ...]) -> Fact:
    hops = tuple(hop for hop, right in zip(fact.hops, known, strict=True) if right)
    return Fact(fact.prompt, fact.target, fact.asks, hops, fact.off_topic, source=fact.source)


def _without(example: Example, word: str) -> Example:
    asks = tuple(pair for pair in example.asks if not word or word not in pair[0].lower())
    return Example(example.prompt, example.target, asks, example.off_topic)


@torch.no_grad()
def _known(segments: Segments, tokenizer: Any, groups: Sequence[Sequence[Pair]]) -> list[tuple[bool, ...]]:
    """Say of each question whether every token of its answer is the likeliest behind those before it."""
    flat = [pair for group in groups for pair in group]
    right: list[bool] = []
    device = next(segments.model.parameters()).device
    for start in range(0, len(flat), _ROWS):
        part = flat[start : start + _ROWS]
        pairs = [
            (query_ids(tokenizer, q, chat=False), answer_ids(tokenizer, q, a, chat=False, ends=False)) for q, a in part
        ]
        rows = ScoredRows.of(pairs, device)
        hidden, _ = segments.hidden(rows.inputs, last=0)
        logits = segments.logits(rows.inputs, (rows.rows, rows.positions), first=1, start=hidden)
        wrong = set(rows.rows[logits.argmax(-1) != rows.wanted].tolist())
        right += [row not in wrong for row in range(len(part))]
    ends = iter(right)
    return [tuple(next(ends) for _ in group) for group in groups]
