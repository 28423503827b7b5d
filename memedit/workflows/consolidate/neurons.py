"""Knowledge neurons by name of a model: of one fact in one's own words, or of many."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from memedit.consolidation.base import EditRequest

_SHOWN = 10
_RESAMPLES = 2000


def trace_neurons(
    model: str,
    prompts: Sequence[str],
    answer: str | None = None,
    *,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the neurons that carry an answer, as a JSON-able mapping.

    Args:
        model: alias, path or hub id.
        prompts: the fact in one or more wordings.
        answer: what follows them; None: the model's own next token.
        seed: of the random neurons they are compared with.

    Raises:
        InputError: a prompt or the answer has no tokens.
        UnsupportedModelError: the model's layers have no single MLP down-projection.
    """
    from memedit.consolidation.locate import knowledge_neurons
    from memedit.models import load_model

    return asdict(knowledge_neurons(load_model(model), prompts, answer, seed=seed))


def trace_many_neurons(
    model: str,
    *,
    prompts: Path | None = None,
    facts: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Return how much of their answers' probability located and random neurons take away, over many facts.

    Args:
        model: alias, path or hub id.
        prompts: file of edits whose prompts are traced; facts that most models know when absent.
        facts: most prompts traced.
        seed: of the random neurons and of the resampling.
        progress: called with (prompts done, prompts).

    Returns:
        means over facts, the two drops with a 95% bootstrap interval each, and the neurons that most
        facts share.
    """
    from memedit.consolidation.locate import knowledge_neurons
    from memedit.models import load_model
    from memedit.workflows.consolidate.trace import requests_of

    loaded = load_model(model)
    requests: list[EditRequest] = requests_of(prompts)[:facts]
    found = []
    for number, request in enumerate(requests):
        found.append(knowledge_neurons(loaded, [request.prompt], seed=seed + number))
        if progress is not None:
            progress(number + 1, len(requests))
    located = np.array([fact.before - fact.suppressed for fact in found])
    drawn = np.array([fact.before - fact.random_suppressed for fact in found])
    counts: dict[tuple[int, int], int] = {}
    for fact in found:
        for neuron in fact.neurons:
            counts[neuron.layer, neuron.index] = counts.get((neuron.layer, neuron.index), 0) + 1
    common = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_SHOWN]
    return {
        "facts": len(found),
        "neurons_a_fact": float(np.mean([len(fact.neurons) for fact in found])),
        "before": float(np.mean([fact.before for fact in found])),
        "suppressed": float(np.mean([fact.suppressed for fact in found])),
        "enhanced": float(np.mean([fact.enhanced for fact in found])),
        "random_suppressed": float(np.mean([fact.random_suppressed for fact in found])),
        "drop_located": _with_interval(located, seed),
        "drop_random": _with_interval(drawn, seed),
        "shared": [{"layer": layer, "index": index, "facts": count} for (layer, index), count in common],
    }


def _with_interval(values: np.ndarray, seed: int) -> list[float]:
    """Return the mean and its 95% bootstrap interval over facts."""
    rng = np.random.default_rng(seed)
    means = values[rng.integers(0, len(values), (_RESAMPLES, len(values)))].mean(1)
    return [float(values.mean()), *(float(bound) for bound in np.quantile(means, (0.025, 0.975)))]
