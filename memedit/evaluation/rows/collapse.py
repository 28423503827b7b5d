"""Collapse, by perplexity sentence by sentence (HardEdit, arXiv 2402.09656; ME-PPL).

The mean over sentences of ``exp(mean -log p of a token)``, not pooled over tokens, so that one broken sentence shows.
Sentences are those of a text that people wrote, where one is given, and the base's own, half of each.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence

from memedit.consolidation.verdicts import GateLimits, Harm, judge_harm
from memedit.evaluation.answering import Generation, Scoring
from memedit.evaluation.metrics.statistics import PairedTest, mean, paired_ratio, rate
from memedit.evaluation.requests import SampleRequest, ScoreRequest
from memedit.evaluation.rows.base import Asking, Finding, RowData, Table

SENTENCES = 50
"""So many for a single edit or a row; a job that is to be sure takes 1,000, as published."""
BROKEN = 10.0
"""A sentence is broken whose perplexity is so many times the base's."""
_FEWEST, _MOST = 6, 40
_SAMPLED_TOKENS = 32
_CAP = 50.0
"""Nats a token beyond which a sentence is as broken as can be; keeps the mean finite."""
_END = re.compile(r"(?<=[.!?])\s+|\n+")
_OPENINGS = (
    "The", "In the", "When", "She", "He was", "It is", "They", "After the", "A new", "There are", "Many people",
    "One of the", "During", "This", "We", "The first", "As a", "If you", "For", "At the end of", "Most", "Water",
    "The city", "My", "Last year", "Although",
)  # fmt: skip


def sentences_of(text: str, count: int) -> list[str]:
    """Return ``count`` sentences of 6 to 40 words (all, where there are fewer), evenly from the whole text."""
    found = [" ".join(part.split()) for part in _END.split(text)]
    found = [part for part in found if _FEWEST <= len(part.split()) <= _MOST]
    return found if len(found) <= count else [found[i * len(found) // count] for i in range(count)]


def sentence_requests(
    text: str | None, count: int, sample: Callable[[Sequence[SampleRequest]], Sequence[Generation]]
) -> list[ScoreRequest]:
    """Return ``count`` sentences to score (fewer where the base says nothing), each behind its own first words.

    Half are ``text``'s, the rest is sampled from the base by ``sample``: openings that are gone on with, up to the
    first end of a sentence.
    """
    written = [] if text is None else sentences_of(text, count // 2)
    wanted = [
        SampleRequest(_OPENINGS[i % len(_OPENINGS)], _SAMPLED_TOKENS, i // len(_OPENINGS))
        for i in range(count - len(written))
    ]
    parts = [sentence.partition(" ") for sentence in written]
    found = [ScoreRequest(head, f" {tail}") for head, _, tail in parts]
    for request, said in zip(wanted, sample(wanted), strict=True):
        tail = _END.split(said.text.rstrip())[0]
        if tail.strip():
            found.append(ScoreRequest(request.prompt, tail))
    return found


def sentence_perplexities(scorings: Sequence[Scoring]) -> list[float]:
    """Return the perplexity of each sentence."""
    losses = [-sum(s.logprobs) / max(1, len(s.logprobs)) for s in scorings]
    return [math.exp(min(loss, _CAP)) if math.isfinite(loss) else math.exp(_CAP) for loss in losses]


def rise(before: Sequence[float], after: Sequence[float], *, seed: int = 0) -> PairedTest:
    """Compare the mean perplexity of a sentence; the difference is in percent."""
    return paired_ratio(before, after, seed=seed)


def broken(before: Sequence[float], after: Sequence[float]) -> list[bool]:
    """Say which sentences are broken."""
    return [b > BROKEN * a for a, b in zip(before, after, strict=True)]


def as_harm(test: PairedTest) -> Harm:
    """Return the rise as a gate judges it."""
    return Harm(test.difference, test.ci_low, test.ci_high, test.p_value, test.n, test.test)


class Collapse:
    """Mean perplexity of a sentence beside the base's, sentences that broke, and the verdict of the gate."""

    name = "collapse"
    needs = ()

    def measure(self, method: Asking, others: Mapping[str, Asking], data: RowData) -> Finding:
        """See :class:`~memedit.evaluation.rows.base.Row`."""
        base = others["base"]
        requests = sentence_requests(data.text, SENTENCES, lambda wanted: base.sample("collapse openings", wanted))
        before = sentence_perplexities(base.score("collapse sentences", requests))
        after = sentence_perplexities(method.score("collapse sentences", requests))
        test, limits = rise(before, after, seed=data.seed), GateLimits()
        gate = judge_harm(
            self.name, as_harm(test), limits.collapse, significance=limits.significance,
            candidate=sum(after) / len(after), base=sum(before) / len(before), unit="%", what="a sentence's perplexity",
        )  # fmt: skip
        metrics = {
            f"{self.name}.sentence_perplexity": mean(after, seed=data.seed),
            f"{self.name}.broken": rate(broken(before, after)),
        }
        line = (
            mean(before, seed=data.seed),
            metrics[f"{self.name}.sentence_perplexity"],
            gate.verdict.value,
            gate.reason,
        )
        table = Table("per sentence", ("base", "method", "verdict", "why"), (line,))
        facts = {"rise_percent": test.difference, "p_value": test.p_value, "verdict": gate.verdict.value}
        return Finding(self.name, method.name, metrics, (table,), facts=facts)
