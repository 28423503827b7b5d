"""How direct a question is: a logistic regression that tells rewordings of an edit from questions one step further.

"Who is the sister of X's mayor?" falls under the edit that names the mayor, but is not answered by it. Both are in
scope, so the score does not tell them apart; the features behind it do.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from memedit.scope.classifier.head import Weights, head_logits
from memedit.scope.text import normalise
from memedit.types import FloatArray
from memedit.workflows.scope_training.examples import SimulatedMemory
from memedit.workflows.scope_training.judging import auc
from memedit.workflows.scope_training.rows import EditRow

HOP = "hop"
DIRECT_SHARE = 0.75
"""Share of direct questions that probabilities are stated for: people reword more than they reason."""
_PENALTY = 2e-3


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


def fit_directness(head: Weights, asked: Sequence[AskedQuestion]) -> FloatArray | None:
    """Return weights on the features and an offset ``[f + 1]``; None when there are not both kinds of question.

    A group (file and kind) of n questions weighs sqrt(n); direct ones have ``DIRECT_SHARE`` of all weight.
    """
    labels = np.array([question.direct for question in asked], np.float64)
    if len(set(labels.tolist())) < 2:
        return None
    sizes = Counter((question.source, question.kind) for question in asked)
    weights = np.array([sizes[question.source, question.kind] ** -0.5 for question in asked])
    for label, share in ((1.0, DIRECT_SHARE), (0.0, 1 - DIRECT_SHARE)):
        weights[labels == label] *= share / weights[labels == label].sum()
    features = np.stack([question.features for question in asked])
    return _logistic((features - head["feature_mean"]) / head["feature_scale"], labels, weights)


def directness_auc(direct: FloatArray, head: Weights, asked: Sequence[AskedQuestion]) -> float:
    """Return the probability that a direct question comes out as more direct than another; NaN without both kinds."""
    scores = [
        float((question.features - head["feature_mean"]) / head["feature_scale"] @ direct[:-1]) for question in asked
    ]
    sides: dict[bool, list[float]] = {True: [], False: []}
    for question, score in zip(asked, scores, strict=True):
        sides[question.direct].append(score)
    return auc(sides[True], sides[False])


def _logistic(design: FloatArray, labels: np.ndarray, weights: np.ndarray) -> FloatArray:
    """Fit a weighted logistic regression with a quadratic penalty, by L-BFGS in float64."""
    inputs, wanted, share = (torch.from_numpy(np.asarray(a, np.float64)) for a in (design, labels, weights))
    found = torch.zeros(inputs.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([found], max_iter=500, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        logits = inputs @ found[:-1] + found[-1]
        each = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        total = (share * each).sum() + _PENALTY * found[:-1].square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return found.detach().numpy().astype(np.float32)
