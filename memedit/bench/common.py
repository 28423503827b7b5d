"""What several benchmarks share: made-up facts, traffic that none of them concerns, percentiles, plans."""

import random
import statistics
from collections.abc import Sequence

from memedit.runtime.passages import no_match
from memedit.types import BatchPlan, EditDraft, Route

TRAFFIC = (
    "Water boils at a temperature of",
    "The recipe begins with two cups of",
    "In the morning she walked to the",
    "A triangle has three sides, and the sum of its angles is",
    "My favourite thing about summer is",
    "To install the program, open a terminal and",
    "The children laughed because the dog",
    "Once upon a time, in a small village,",
)
"""Prompts to be continued."""
RELATIONS = ("The capital of {} is", "The official language of {} is", "The founder of {} is", "{} is located in")
_SYLLABLES = ("ba", "dor", "el", "fi", "gan", "hu", "ir", "jo", "ka", "lin", "mo", "nu", "or", "pel", "ra", "su", "tav")


def made_up_facts(count: int, seed: int, *, relations: Sequence[str] = RELATIONS) -> list[EditDraft]:
    """Return facts about places and firms that do not exist, one for each."""
    generator = random.Random(seed)

    def name() -> str:
        return "".join(generator.choice(_SYLLABLES) for _ in range(4)).capitalize()

    facts: dict[str, EditDraft] = {}
    while len(facts) < count:
        subject = name()
        facts[subject] = EditDraft(generator.choice(relations).format(subject), name(), subject=subject)
    return list(facts.values())


def percentiles(seconds: Sequence[float], *, scale: float = 1000.0) -> dict[str, float]:
    """Return median, p95, p99 and the largest of ``seconds`` times ``scale``: milliseconds by default."""
    ordered = sorted(scale * value for value in seconds)
    at = {f"p{share}": ordered[min(len(ordered) - 1, share * len(ordered) // 100)] for share in (95, 99)}
    return {"p50": statistics.median(ordered), **at, "max": ordered[-1]}


def without_edits(plan: BatchPlan) -> BatchPlan:
    """Return the plan by which the bare model answers all rows."""
    routes = (Route(route.row, no_match(route.decision.query), None) for route in plan.routes)
    return BatchPlan(tuple(routes))
