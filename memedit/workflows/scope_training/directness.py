"""How direct a question is: a small network that tells rewordings of an edit from questions one step further.

"Who is the sister of X's mayor?" falls under the edit that names the mayor, but is not answered by it. Both are in
scope, so the score does not tell them apart; the features behind it do.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from memedit.scope.classifier.direct import direct_logits
from memedit.scope.classifier.head import Weights, head_logits, standardised
from memedit.scope.text import normalise
from memedit.types import FloatArray
from memedit.workflows.scope_training.examples import SimulatedMemory
from memedit.workflows.scope_training.judging import auc
from memedit.workflows.scope_training.rows import EditRow

HOP = "hop"
DIRECT_SHARE = 0.75
"""Share of direct questions that probabilities are stated for: people reword more than they reason."""
_HIDDEN, _STEPS = 24, 1500
_RATE, _DECAY, _PENALTY = 1e-2, 1e-2, 1e-4


@dataclass(frozen=True, slots=True)
class AskedQuestion:
    """A question that its own edit is the best candidate for, with the features ``[f]`` of the pair."""

    source: str
    kind: str
    features: FloatArray

    @property
    def direct(self) -> bool:
        """Whether the edit's target is the answer."""
        return self.kind != HOP


def asked_questions(
    head: Weights, memory: SimulatedMemory, rows: Sequence[EditRow], wanted: Callable[[EditRow], bool]
) -> list[AskedQuestion]:
    """Return the questions inside the ``wanted`` rows, with all ``rows`` in memory; verbatim prompts are left out."""
    asked = []
    for row in filter(wanted, rows):
        own = normalise(row.prompt)
        for kind, text in row.inside:
            found = memory.candidates(text)
            query, edits, comparison = memory.compare(text, found)
            best = int(np.argmax(head_logits(head, query, edits, comparison)))
            if normalise(rows[found[best].row].prompt) == own != normalise(text):
                asked.append(AskedQuestion(row.source, kind, comparison.features[best]))
    return asked


def fit_directness(head: Weights, asked: Sequence[AskedQuestion], *, seed: int) -> Weights | None:
    """Return the layers of a small network on the features (:func:`memedit.scope.classifier.direct.direct_logits`).

    None when there are not both kinds of question. A group (file and kind) of n questions weighs sqrt(n); direct ones
    have ``DIRECT_SHARE`` of all weight.
    """
    labels = np.array([question.direct for question in asked], np.float64)
    if len(set(labels.tolist())) < 2:
        return None
    sizes = Counter((question.source, question.kind) for question in asked)
    weights = np.array([sizes[question.source, question.kind] ** -0.5 for question in asked])
    for label, share in ((1.0, DIRECT_SHARE), (0.0, 1 - DIRECT_SHARE)):
        weights[labels == label] *= share / weights[labels == label].sum()
    return _fitted(_standard(head, asked), labels, weights, seed)


def directness_auc(direct: Weights, head: Weights, asked: Sequence[AskedQuestion]) -> float:
    """Return the probability that a direct question comes out as more direct than another; NaN without both kinds."""
    sides: dict[bool, list[float]] = {True: [], False: []}
    if not asked:
        return float("nan")
    for question, logit in zip(asked, direct_logits(direct, _standard(head, asked)), strict=True):
        sides[question.direct].append(float(logit))
    return auc(sides[True], sides[False])


def _standard(head: Weights, asked: Sequence[AskedQuestion]) -> FloatArray:
    return standardised(head, np.stack([question.features for question in asked]))


def _fitted(design: FloatArray, labels: np.ndarray, weights: np.ndarray, seed: int) -> Weights:
    """Fit by AdamW on all questions at once, the step falling to nothing."""
    inputs, wanted, share = (torch.from_numpy(np.asarray(a, np.float32)) for a in (design, labels, weights))
    generator = torch.Generator().manual_seed(seed)
    layers = {
        "hidden.weight": torch.randn(_HIDDEN, inputs.shape[1], generator=generator) / inputs.shape[1] ** 0.5,
        "hidden.bias": torch.zeros(_HIDDEN),
        "out.weight": torch.randn(_HIDDEN, generator=generator) / _HIDDEN**0.5,
        "out.bias": torch.zeros(1),
    }
    parameters = [layer.requires_grad_() for layer in layers.values()]
    optimizer = torch.optim.AdamW(parameters, lr=_RATE, weight_decay=_DECAY)
    for step in range(_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * (1 - step / _STEPS)
        hidden = torch.tanh(inputs @ layers["hidden.weight"].T + layers["hidden.bias"])
        logits = hidden @ layers["out.weight"] + layers["out.bias"]
        each = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        loss = (share * each).sum() + _PENALTY * torch.stack([p.square().sum() for p in parameters]).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return {name: layer.detach().numpy() for name, layer in layers.items()}
