"""Which MLP neurons carry an answer: Knowledge Neurons (arXiv 2104.08696), for explaining; edits go other ways.

The answer's probability is attributed to neurons by integrated gradients, on every prompt of a fact. Kept are the
neurons above ``threshold`` times the largest attribution that enough of the prompts share. An answer of several tokens
is attributed token by token, under teacher forcing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memedit.consolidation.contexts import opening_ids
from memedit.errors import InputError
from memedit.models import LoadedModel, encode_as_data
from memedit.models.neurons import NeuronScan, TokenAsked
from memedit.models.segments import Segments

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Neuron:
    """Neuron ``index`` of ``layer``: its mean attribution, and on what share of the prompts it was found."""

    layer: int
    index: int
    attribution: float
    share: float


@dataclass(frozen=True, slots=True)
class KnowledgeNeurons:
    """The neurons of one fact, the highest attribution first, and the answer's mean probability a token.

    ``before`` is that of the untouched model; ``suppressed`` with the neurons at 0, ``enhanced`` with them doubled;
    ``random_suppressed`` with as many others of the same layers at 0.
    """

    answer: str
    neurons: tuple[Neuron, ...]
    before: float
    suppressed: float
    enhanced: float
    random_suppressed: float


@torch.no_grad()
def knowledge_neurons(
    loaded: LoadedModel,
    prompts: Sequence[str],
    answer: str | None = None,
    *,
    threshold: float = 0.2,
    share: float = 0.7,
    steps: int = 20,
    seed: int = 0,
) -> KnowledgeNeurons:
    """Locate the neurons of a fact.

    Args:
        loaded: the model; nothing of it is changed.
        prompts: the fact in one or more wordings.
        answer: what follows them; None: the token that the model itself holds most likely behind the first.
        threshold: neurons above this share of the largest attribution count.
        share: neurons that count on at least this share of the prompts are kept.
        steps: of the integral.
        seed: of the random neurons.

    Raises:
        InputError: there is no prompt, one holds no text, the answer no tokens, or an option is out of its range.
        UnsupportedModelError: a layer has no single MLP down-projection.
    """
    if not prompts or not (0 < threshold < 1 and 0 < share <= 1 and steps >= 1):
        raise InputError("give at least one prompt, threshold in (0, 1), share in (0, 1], and at least one step")
    blank = [prompt for prompt in prompts if not prompt.strip()]
    if blank:
        raise InputError(f"the prompt {blank[0]!r} holds no text: there is nothing to trace")
    segments = Segments(loaded.model)
    rows = [[*opening_ids(loaded.tokenizer), *encode_as_data(loaded.tokenizer, prompt)] for prompt in prompts]
    target = _answer(loaded, segments, prompts[0], rows[0], answer)
    scans = [
        [NeuronScan(segments, TokenAsked((*row, *target[:i]), token)) for i, token in enumerate(target)] for row in rows
    ]
    attributed = torch.stack([torch.stack([scan.attributions(steps) for scan in own]).mean(0) for own in scans])
    kept, counted = _kept(attributed, threshold, share)
    generator = torch.Generator().manual_seed(seed)
    return KnowledgeNeurons(
        loaded.tokenizer.decode(target).strip(),
        _neurons(attributed.mean(0), kept, counted),
        before=_mean_probability(scans, torch.ones_like(kept, dtype=torch.float32)),
        suppressed=_mean_probability(scans, 1.0 - kept.float()),
        enhanced=_mean_probability(scans, 1.0 + kept.float()),
        random_suppressed=_mean_probability(scans, 1.0 - _random_like(kept, generator).float()),
    )


def _answer(
    loaded: LoadedModel, segments: Segments, prompt: str, row: Sequence[int], answer: str | None
) -> tuple[int, ...]:
    if answer is None:
        logits = loaded.model(input_ids=torch.tensor([row], device=loaded.model.device), use_cache=False).logits
        return (int(logits[0, -1].argmax()),)
    text = answer.strip()
    found = tuple(encode_as_data(loaded.tokenizer, text if prompt[-1:].isspace() else f" {text}")) if text else ()
    if not found:
        raise InputError("an answer without tokens cannot be traced")
    return found


def _kept(attributed: Tensor, threshold: float, share: float) -> tuple[Tensor, Tensor]:
    """Return which neurons are kept, and the share of prompts on which each counts, of ``[prompts, layers, d_in]``."""
    largest = attributed.amax((1, 2), keepdim=True)
    counted = (attributed > threshold * largest).float().mean(0)
    return counted >= share - 1e-6, counted


def _neurons(attribution: Tensor, kept: Tensor, counted: Tensor) -> tuple[Neuron, ...]:
    found = [
        Neuron(layer, index, float(attribution[layer, index]), float(counted[layer, index]))
        for layer, index in kept.nonzero().tolist()
    ]
    return tuple(sorted(found, key=lambda neuron: -neuron.attribution))


def _random_like(kept: Tensor, generator: torch.Generator) -> Tensor:
    """Return as many neurons of each layer as are kept, none of them kept."""
    drawn = torch.rand(kept.shape, generator=generator).masked_fill(kept.cpu(), -1.0)
    chosen = torch.zeros(kept.shape, dtype=torch.bool)
    for layer, count in enumerate(kept.sum(1).tolist()):
        chosen[layer, drawn[layer].topk(count).indices] = True
    return chosen.to(kept.device)


def _mean_probability(scans: Sequence[Sequence[NeuronScan]], factors: Tensor) -> float:
    means = [sum(scan.probability_with(factors) for scan in own) / len(own) for own in scans]
    return sum(means) / len(means)
